//! Hashes: of rules, so that a record names the text that decided, and of checkpoints.

use sha2::{Digest, Sha256};

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(bytes);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The first 16 digits: enough to tell texts apart, short enough to read.
pub(crate) fn short(bytes: &[u8]) -> String {
    sha256(bytes)[..16].to_owned()
}
