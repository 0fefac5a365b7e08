//! Kubernetes: QWorkers with pods of their own, and Workloads that scale what others have made.

pub mod api;
pub mod controller;
pub mod crd;
mod handover;
mod health;

mod objects;
mod pods;
mod sources;
mod status;
mod store;
mod targets;
mod translate;

use http::header::{HeaderValue, USER_AGENT};
use kube::{Client, Config};

use crate::ports::{Asked, PortError};

pub use controller::{Stores, Watched};
pub use handover::Handover;
pub use health::Health;
pub use objects::{Kind, Object, Objects};
pub use pods::Pods;
pub use sources::InCluster;
pub use status::Reporter;
pub use store::KubernetesStore;
pub use translate::{Unfit, of_target, workload};

/// Under this name the engine writes to the API server.
pub(crate) const MANAGER: &str = "qscaler";

/// The cluster that the environment names. Its API server is told who asks.
pub async fn connect() -> Asked<Client> {
    let missing = |error: String| {
        PortError::new("no cluster", format!("{error}; set KUBECONFIG, or run this in a pod"))
    };
    let mut config = Config::infer().await.map_err(|error| missing(error.to_string()))?;
    let version = HeaderValue::from_static(concat!("qscaler/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, version));
    Client::try_from(config).map_err(|error| missing(error.to_string()))
}

/// An answer of the API server that is no success.
fn failed(what: &str, error: &kube::Error) -> PortError {
    match error {
        kube::Error::Api(status) => PortError::new(what, &status.message),
        other => PortError::new(what, other),
    }
}
