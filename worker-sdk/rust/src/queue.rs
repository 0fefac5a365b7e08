//! What a worker needs of a queue system. One file per system beside this one.

#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId};
use qscaler_protocol::report::{Answer, Report};

use crate::settings::Settings;
use crate::task::{Lease, Leased};

/// Why a queue system did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot work, whatever is tried.
    #[error("{0}")]
    Settings(String),
    /// The queue system cannot be reached or refused; trying again may help.
    #[error("{system}: {reason}")]
    System {
        /// Which.
        system: &'static str,
        /// In its own words.
        reason: String,
    },
}

/// A connection to a queue system, for one worker. Every operation is atomic there.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Waits up to `wait` for a task and takes a lease on it. Ends early when `stop` is cancelled,
    /// never losing a task by that.
    async fn fetch(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error>;

    /// Keeps a lease for its whole length from now. `false`: it was lost, and the task may run twice.
    async fn renew(&self, lease: &Lease) -> Result<bool, Error>;

    /// The task is done. `false`: the lease was lost before.
    async fn ack(&self, lease: &Lease) -> Result<bool, Error>;

    /// The task is done, as [`Queue::ack`] says, and the next is taken if there is one now. Who cannot do
    /// both in one step takes none.
    async fn ack_and_take(&self, lease: &Lease) -> Result<(bool, Option<Leased>), Error> {
        self.ack(lease).await.map(|kept| (kept, None))
    }

    /// Puts the task back, to be taken after `delay`. `counts`: this attempt counts against the task.
    /// `false`: the lease was lost before.
    async fn give_back(&self, lease: &Lease, delay: Duration, counts: bool) -> Result<bool, Error>;

    /// The task has failed for good. `false`: the lease was lost before.
    async fn bury(&self, lease: &Lease, error: &str) -> Result<bool, Error>;

    /// Takes tasks from workers that stopped renewing. Returns how many went back to their queue.
    async fn reap(&self) -> Result<usize, Error>;

    /// Stores a report and returns what the control path says to this worker.
    async fn report(&self, report: &Report) -> Result<Answer, Error>;

    /// The worker holds nothing and ends: the queue system may forget it.
    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Waits until there may be something new on the control path. One that cannot tell waits for ever.
    async fn woken(&self) {
        std::future::pending::<()>().await;
    }

    /// The longest pause between two reports, which are looks at the control path, too.
    fn look_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Takes an open offer, or returns the claim that this worker has. None: there is none to take.
    async fn claim(&self, epoch: &Epoch) -> Result<Option<OfferId>, Error>;
}

/// Connects by the URL's scheme.
pub async fn connect(settings: &Settings) -> Result<Arc<dyn Queue>, Error> {
    let scheme = settings.url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::SqliteQueue::connect(settings).await?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "unix" | "redis+unix" => {
            Ok(Arc::new(redis::RedisQueue::connect(settings).await?))
        }
        _ => Err(Error::Settings(format!(
            "`{scheme}:` is no queue system of this program; type redis://HOST:PORT or sqlite:PATH"
        ))),
    }
}
