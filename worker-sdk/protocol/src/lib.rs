//! The written contract between the engine and its workers.
//!
//! A worker leaves because it claimed an *offer* (the original's `SIGKILL_QUEUE` message) or was told
//! to end; nothing else makes it go. This crate holds what both sides must agree on and lists no
//! client: names ([`name`]), the offers of one workload as a pure machine ([`path`]), what workers
//! report ([`report`]), the life of a worker ([`lifecycle`]), and for each queue system the texts of
//! its scripts and statements ([`redis`], [`sqlite`]).
//!
//! Adapters run the texts; their conformance test runs the same operations on [`path::Path`] and
//! compares. Model check, simulator and workers use [`lifecycle::Lifecycle`] as it is.

pub mod environment;
pub mod lifecycle;
pub mod name;
pub mod path;
pub mod redis;
pub mod report;
pub mod sqlite;

/// The version that offers, reports and ledgers carry. Whoever meets a higher one keeps what it
/// has, holds, and says so.
pub const PROTOCOL: u32 = 1;
