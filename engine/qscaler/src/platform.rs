//! Where workers live.

pub mod local;
