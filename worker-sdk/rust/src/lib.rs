//! QScaler's worker SDK: take tasks from a queue, finish what you hold, leave when asked.
//!
//! ```no_run
//! use qscaler_worker::{Settings, Task, Worker};
//!
//! #[derive(serde::Deserialize)]
//! struct Mail {
//!     to: String,
//! }
//!
//! # async fn example() -> Result<(), qscaler_worker::Error> {
//! let settings = Settings::new("redis://127.0.0.1:6379", ["mail"]).slots(8);
//! Worker::connect(settings)
//!     .await?
//!     .run(|task: Task| async move {
//!         let mail: Mail = task.json()?;
//!         println!("to {}", mail.to);
//!         Ok::<_, serde_json::Error>(())
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Producers need no library: `LPUSH mail '{"to": "you"}'`, or an `INSERT` into the table
//! `qscaler_tasks` of a SQLite file. In a worker that the engine started, [`Settings::from_environment`]
//! says where the queues are and who the worker is.
//!
//! Tasks run at least once: one is acknowledged after the function returned, and one whose worker
//! died is given to another when its lease ends, with a higher `attempt`. The worker leaves when it
//! has claimed one of the engine's offers, or after SIGTERM; in both cases it first finishes what it
//! holds. Losing the queue or the engine never makes it leave.
//!
//! | Your program | Use |
//! |---|---|
//! | is asynchronous | [`Worker::run`] |
//! | is asynchronous, its tasks block | [`Worker::run_threads`] |
//! | is not asynchronous | [`Worker::run_blocking`] |
//! | keeps a loop of its own | [`Worker::tasks`] |
//! | has a queue library of its own | [`Lifecycle`] |
//! | is to be tested | [`testing::MemoryQueue`] |
//!
//! TLS (`rediss://`) is rustls with ring, passed in where it is used; no provider is installed for
//! the process.

mod lifecycle;
mod probe;
mod queue;
mod settings;
mod signals;
mod task;
pub mod testing;
mod worker;

pub use lifecycle::{Busy, Fetch, Lifecycle};
#[cfg(feature = "redis")]
pub use queue::redis;
#[cfg(feature = "sqlite")]
pub use queue::sqlite;
pub use queue::{Error, Queue, connect};
pub use settings::Settings;
pub use task::{Lease, Leased, Task};
pub use worker::{Ended, HeldTask, Tasks, Worker};

/// The examples of the page for new users are compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Page;
