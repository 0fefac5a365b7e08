//! Identities. Each is a string with its own type, so that a worker's id cannot be passed for an
//! epoch; all of them come from randomness that the caller hands in.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// A name of 16 hexadecimal digits, made from 64 random bits.
            pub fn from_random(bits: u64) -> Self {
                Self(format!("{bits:016x}"))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A workload for as long as it exists: a name that is used again gets another uid.
    WorkloadUid
    /// One incarnation of a worker: the pod's uid, locally an id made before the process is started.
    /// Never a name, which is used again.
    WorkerId
    /// One start of a worker's process. A container that is restarted keeps its [`WorkerId`] and gets
    /// another boot id.
    BootId
    /// A random mark on the control path. Another one than the ledger knows means that the path lost data.
    Epoch
}

/// The number of an offer. Numbers rise and are never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferId(pub u64);

impl OfferId {
    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
