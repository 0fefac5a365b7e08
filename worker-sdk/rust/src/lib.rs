//! QScaler's worker SDK: take tasks from a queue, finish what you hold, leave when asked.
//!
//! ```no_run
//! use qscaler_worker::{Settings, Task, Worker};
//!
//! # async fn example() -> Result<(), qscaler_worker::Error> {
//! let settings = Settings::from_environment()?;
//! Worker::connect(settings).await?.run(|task: Task| async move {
//!     println!("{} bytes of work", task.payload.len());
//!     Ok::<_, std::io::Error>(())
//! }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Tasks run at least once: one is acknowledged after the function returned, and one whose worker
//! died is given to another when its lease ends. The worker leaves when it has claimed one of the
//! engine's offers, or after SIGTERM; in both cases it first finishes what it holds. Losing the
//! queue or the engine never makes it leave.

mod queue;
mod settings;
mod signals;
mod task;
mod worker;

#[cfg(feature = "redis")]
pub use queue::redis;
#[cfg(feature = "sqlite")]
pub use queue::sqlite;
pub use queue::{Error, Queue, connect};
pub use settings::Settings;
pub use task::{Lease, Leased, Task};
pub use worker::{Ended, Worker};
