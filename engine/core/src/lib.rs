//! QScaler's pure core: texts and observations in, decisions and plans out.
//!
//! A tick of the engine is observe (IO) -> decide -> plan -> apply (IO) -> remember; what is not
//! marked IO happens here, with `now` and randomness as arguments. Nothing in this crate reads a
//! file, a clock, the network or the environment, so the same code runs in the engine, in golden
//! tests, in `explain` and in replay.

pub mod catalog;
pub mod decide;
pub mod document;
pub mod fleet;
pub mod golden;
pub mod hash;
pub mod histogram;
pub mod infer;
pub mod interrupted;
pub mod ledger;
pub mod memory;
pub mod observe;
pub mod plan;
pub mod problem;
pub mod record;
pub mod reference;
pub mod resize;
pub mod rule;
pub mod schema;
pub mod signal;
pub mod time;
pub mod vertical;
pub mod window;
pub mod workload;
pub mod yaml;
