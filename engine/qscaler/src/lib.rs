//! QScaler's engine: everything that touches the world.

pub mod cli;
pub mod clock;
pub mod demo;
pub mod engine;
pub mod event;
pub mod exit;
pub mod explain;
pub mod folder;
mod host;
pub mod metrics;
pub mod platform;
pub mod ports;
pub mod queue;
pub mod reload;
pub mod store;
pub mod web;
