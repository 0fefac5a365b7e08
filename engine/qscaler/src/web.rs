//! What the engine tells over HTTP: /metrics, /healthz, /readyz, and its record.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::metrics::Metrics;
use crate::store::SqliteStore;

#[cfg(feature = "http")]
mod serve;

#[cfg(feature = "http")]
pub use serve::{router, serve};

/// Where the record is asked.
pub const RECORD: &str = "/v1/record";

/// How far the engine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is not ready, and this is why.
    Lacks(&'static str),
    /// It looks after workloads, and nobody else can.
    Runs,
    /// Of several it is the one that acts.
    Leads,
    /// It is ready to lead when the one that does is gone.
    StandsBy,
}

/// What there is to tell.
pub struct Front {
    metrics: Arc<Metrics>,
    stage: Mutex<Stage>,
    record: OnceLock<SqliteStore>,
}

impl Front {
    /// Of an engine that has just begun.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let stage = Mutex::new(Stage::Lacks("it has just begun"));
        Arc::new(Self { metrics, stage, record: OnceLock::new() })
    }

    /// The engine has come this far.
    pub fn is_at(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// How far the engine has come.
    pub fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this record is asked.
    pub fn set_record(&self, store: SqliteStore) {
        // An engine opens one record, once.
        let _ = self.record.set(store);
    }

    /// The record, once it is open.
    pub fn record(&self) -> Option<&SqliteStore> {
        self.record.get()
    }

    /// What is counted and measured.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
