//! The engine on the real thing: processes, files, servers; and its loop in a world of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod adopt;
mod backtest;
mod badinput;
mod cli;
#[cfg(feature = "kubernetes")]
mod cluster;
mod control;
mod demo;
#[cfg(feature = "kubernetes")]
mod deploy;
#[cfg(all(feature = "http", feature = "kubernetes"))]
mod explain;
mod fixture;
mod interrupted;
mod local;
mod loops;
mod queues;
mod reload;
mod servers;
mod slots;
#[cfg(feature = "opentelemetry")]
mod traces;
mod watch;
mod world;
