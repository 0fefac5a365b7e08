//! Checkpoints: a memory as it is stored, with its format, its writer and a checksum.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Memory;
use crate::hash::sha256;

/// The format that this version writes. Every format ever released stays readable; each has a golden
/// file under `testdata/memory`.
const FORMAT: u32 = 1;

/// Why a checkpoint is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A later version wrote it. It is to be put aside untouched.
    #[error("its format is {0}; this version reads up to {FORMAT}")]
    FromTheFuture(u32),
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    #[serde(rename = "writtenBy")]
    by: &'a str,
    checksum: String,
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Found {
    format: u32,
    #[serde(default)]
    checksum: String,
    payload: Box<RawValue>,
}

/// Writes a memory. `written_by` is for people.
pub fn store(memory: &Memory, written_by: &str) -> String {
    let payload =
        serde_json::value::to_raw_value(memory).expect("a memory is plain data with finite numbers");
    let checksum = sha256(payload.get().as_bytes());
    let written = Written { format: FORMAT, by: written_by, checksum, payload: &payload };
    serde_json::to_string(&written).expect("plain data")
}

/// Reads a memory back, bit by bit.
pub fn load(text: &str) -> Result<Memory, Unreadable> {
    let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
    let found: Found = serde_json::from_str(text).map_err(damaged)?;
    if found.format > FORMAT {
        return Err(Unreadable::FromTheFuture(found.format));
    }
    if sha256(found.payload.get().as_bytes()) != found.checksum {
        return Err(Unreadable::Damaged("the checksum differs".into()));
    }
    serde_json::from_str(found.payload.get()).map_err(damaged)
}
