//! The environment variables by which the engine tells a worker who it is and where it works.

/// The worker's [`WorkerId`](crate::name::WorkerId). Without it a worker makes one and nobody counts it.
pub const WORKER: &str = "QSCALER_WORKER";
/// The worker's name, for people: used again after it is gone.
pub const WORKER_NAME: &str = "QSCALER_WORKER_NAME";
/// The workload's [`WorkloadUid`](crate::name::WorkloadUid), part of every key on the control path.
pub const WORKLOAD: &str = "QSCALER_WORKLOAD";
/// Where the queues are: `redis://…` or `sqlite:PATH`.
pub const QUEUE_URL: &str = "QSCALER_QUEUE_URL";
/// The queues to take tasks from, separated by commas, the most urgent first.
pub const QUEUE: &str = "QSCALER_QUEUE";
/// How long a worker may take to end after SIGTERM, in seconds.
pub const GRACE_SECONDS: &str = "QSCALER_GRACE_SECONDS";
