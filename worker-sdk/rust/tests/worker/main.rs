//! The worker as its users meet it: in this process over a queue in memory, and as processes that are
//! killed, told to end and let go over real queue systems.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(clippy::print_stdout, reason = "figures and seeds are for the reader of a run")]

mod ends;
mod fixture;
mod kills;
mod memory;
mod nobody;
mod offers;
mod outages;
mod servers;
mod sites;
mod wire;
