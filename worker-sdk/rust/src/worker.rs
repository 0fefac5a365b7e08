//! A worker: connect, run, leave.

mod run;
mod tally;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use qscaler_protocol::name::OfferId;

use crate::queue::{self, Error, Queue};
use crate::settings::Settings;
use crate::task::Task;

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A worker that is connected and has not taken a task yet.
pub struct Worker {
    queue: Arc<dyn Queue>,
    settings: Settings,
    hook: Option<Hook>,
}

/// How a worker's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The offer that it claimed.
    pub claim: Option<OfferId>,
    /// Tasks done.
    pub done: u64,
    /// Tasks that raised an error.
    pub failed: u64,
    /// Tasks whose lease was lost before they were acknowledged: they may have run twice.
    pub late_acks: u64,
}

impl Worker {
    /// Connects to the queue system that the settings name.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        let queue = queue::connect(&settings).await?;
        Ok(Self::new(queue, settings))
    }

    /// A worker over a connection of the caller's.
    pub fn new(queue: Arc<dyn Queue>, settings: Settings) -> Self {
        Self { queue, settings, hook: None }
    }

    /// Runs `hook` once, after the last task and before the worker says that it is drained.
    pub fn on_shutdown<F, W>(mut self, hook: F) -> Self
    where
        F: FnOnce() -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.hook = Some(Box::new(|| Box::pin(hook())));
        self
    }

    /// Takes tasks and hands each to `work` until an offer is claimed or SIGTERM or SIGINT arrives;
    /// then finishes what it holds and returns. The first signal gives tasks until shortly before
    /// the grace period ends, the second ends them at once; what is not finished goes back to its queue.
    ///
    /// A task is done when `work` returns `Ok`. An error or a panic puts it back with a growing
    /// delay, and aside as dead after [`Settings::attempts_max`] attempts.
    pub async fn run<F, W, E>(self, work: F) -> Result<Ended, Error>
    where
        F: Fn(Task) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let work = move |task: Task| -> run::Work {
            let doing = work(task);
            Box::pin(async move { doing.await.map_err(|error| error.to_string()) })
        };
        run::Run::new(self.queue, self.settings, Arc::new(work)).until_gone(self.hook).await
    }
}

/// 16 hexadecimal digits that nobody else has: for boots, leases, and workers that nobody named.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    format!("{:016x}", u64::from_le_bytes(bytes))
}
