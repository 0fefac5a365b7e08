//! The engine on the real thing: processes, files, servers; and its loop in a world of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod adopt;
mod control;
mod fixture;
mod local;
mod loops;
mod queues;
mod servers;
mod slots;
mod world;
