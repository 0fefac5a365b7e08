//! The objects that users write, as the API server holds them.
//!
//! `QWorker` and `ScalerConfig` are those of the first QScaler, to the letter; what is new is optional, so
//! that its objects, its clients and its engine go on. Whatever the API server accepts can be read: numbers
//! are as wide as it takes, texts are not enums, and fields of a later release are passed over.

pub mod qworker;
pub mod scaler_config;
mod schema;
pub mod workload;

pub use qworker::{QWorker, QWorkerSpec, QWorkerStatus};
pub use scaler_config::{ScalerConfig, ScalerConfigSpec, ScalerConfigStatus};
pub use workload::{Workload, WorkloadSpec, WorkloadStatus};
