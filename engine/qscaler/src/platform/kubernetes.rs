//! Workers on Kubernetes: pods of a QWorker, or the pods of anything that has a scale.

pub mod api;
pub mod crd;
