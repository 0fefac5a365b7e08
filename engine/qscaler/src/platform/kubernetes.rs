//! Kubernetes: QWorkers and their pods.

pub mod api;
pub mod controller;
pub mod crd;
mod health;

mod objects;
mod pods;
mod sources;
mod status;
mod store;
mod translate;

use crate::ports::PortError;

pub use controller::Watched;
pub use health::Health;
pub use objects::{Object, Objects};
pub use pods::Pods;
pub use sources::InCluster;
pub use status::Reporter;
pub use store::KubernetesStore;
pub use translate::{Unfit, workload};

/// Under this name the engine writes to the API server.
pub(crate) const MANAGER: &str = "qscaler";

/// An answer of the API server that is no success.
fn failed(what: &str, error: &kube::Error) -> PortError {
    match error {
        kube::Error::Api(status) => PortError::new(what, &status.message),
        other => PortError::new(what, other),
    }
}
