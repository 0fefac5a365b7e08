//! The environment variables by which the engine tells a worker who it is and where it works.

/// The worker's [`WorkerId`](crate::name::WorkerId). Without it a worker makes one and nobody counts it.
pub const WORKER: &str = "QSCALER_WORKER";
/// The worker's name, for people: used again after it is gone.
pub const WORKER_NAME: &str = "QSCALER_WORKER_NAME";
/// The workload's [`WorkloadUid`](crate::name::WorkloadUid), part of every key on the control path.
pub const WORKLOAD: &str = "QSCALER_WORKLOAD";
/// Where the queues are: `redis://…`, `rediss://…` or `sqlite:PATH`.
pub const QUEUE_URL: &str = "QSCALER_QUEUE_URL";
/// The user at the queue system, where the URL names none.
pub const QUEUE_USERNAME: &str = "QSCALER_QUEUE_USERNAME";
/// That user's password, where the URL holds none.
pub const QUEUE_PASSWORD: &str = "QSCALER_QUEUE_PASSWORD";
/// A file with the certificate authorities, in PEM, that are trusted instead of the system's.
pub const QUEUE_CA: &str = "QSCALER_QUEUE_CA";
/// The queues to take tasks from, separated by commas, the most urgent first.
pub const QUEUE: &str = "QSCALER_QUEUE";
/// How many tasks a worker works on at a time.
pub const SLOTS: &str = "QSCALER_SLOTS";
/// How long a worker may take to end after SIGTERM, in seconds.
pub const GRACE_SECONDS: &str = "QSCALER_GRACE_SECONDS";
/// `1`: a worker that has drained stays, takes nothing, and ends on SIGTERM only, because something
/// else than the engine would start it again.
pub const PARK: &str = "QSCALER_PARK";
/// A file that is there while the worker is ready.
pub const PROBE_FILE: &str = "QSCALER_PROBE_FILE";
/// The port on which the worker answers HTTP with 200 while it is ready, else with 503.
pub const PROBE_PORT: &str = "QSCALER_PROBE_PORT";
