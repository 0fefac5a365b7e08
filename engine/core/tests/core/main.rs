//! Behaviour of the core, area by area.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests read sources and start cargo"
)]

mod catalog;
mod decide;
mod diagnostics;
mod interrupted;
mod memory;
mod model;
mod plan;
mod purity;
mod record;
mod reference;
mod resize;
mod schemas;
mod shipped;
mod vectors;
mod vertical;
mod windows;
mod world;
