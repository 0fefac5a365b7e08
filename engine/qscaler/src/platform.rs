//! Where workers live.

#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod local;
