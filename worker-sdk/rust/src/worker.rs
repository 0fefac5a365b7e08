//! A worker: connect, run, leave.

mod execute;
pub(crate) mod run;
mod tally;
mod tasks;

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use qscaler_protocol::name::OfferId;

pub use tasks::{HeldTask, Tasks};

use crate::queue::{self, Error, Queue};
use crate::settings::Settings;
use crate::task::Task;
use execute::{Ending, Work, Worked, Working};
use run::{Run, Source};

pub(crate) type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

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
    /// Tasks whose lease was lost before they were acknowledged, or whose acknowledgement was sent
    /// twice because no answer came: they may have run twice.
    pub late_acks: u64,
}

impl Worker {
    /// Connects to the queue system that the settings name. Fails at once when that cannot be
    /// reached; once connected, a worker outlives any loss of it.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        if settings.queues.is_empty() {
            return Err(Error::Settings("no queue to take tasks from: set QSCALER_QUEUE or name one".into()));
        }
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
    /// delay, and aside as dead after [`Settings::attempts_max`] attempts. `work` must not block the
    /// thread, because the leases are renewed on it: [`Worker::run_blocking`] is for work that does.
    pub async fn run<F, W, E>(self, work: F) -> Result<Ended, Error>
    where
        F: Fn(Task) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        self.run_work(Arc::new(move |task: Task| -> Working {
            let doing = work(task);
            Box::pin(async move { Worked { ending: Ending::from(doing.await), settled: None } })
        }))
        .await
    }

    /// Like [`Worker::run`], for work that blocks: each task has a thread of its own. One that must
    /// stop before `work` has returned is given back, and its thread is left behind.
    pub async fn run_threads<F, E>(self, work: F) -> Result<Ended, Error>
    where
        F: Fn(Task) -> Result<(), E> + Send + Sync + 'static,
        E: Display + 'static,
    {
        let work = Arc::new(work);
        self.run_work(Arc::new(move |task: Task| -> Working {
            let work = Arc::clone(&work);
            Box::pin(async move { Worked { ending: on_a_thread(move || work(task)).await, settled: None } })
        }))
        .await
    }

    /// Connects and works, for programs that are not asynchronous: returns when the worker has left.
    /// See [`Worker::run_threads`].
    pub fn run_blocking<F, E>(settings: Settings, work: F) -> Result<Ended, Error>
    where
        F: Fn(Task) -> Result<(), E> + Send + Sync + 'static,
        E: Display + 'static,
    {
        runtime()?.block_on(async { Self::connect(settings).await?.run_threads(work).await })
    }

    /// For programs that keep a loop of their own: see [`Tasks::next_task`].
    pub fn tasks(self) -> Tasks {
        Tasks::start(self)
    }

    async fn run_work(self, work: Work) -> Result<Ended, Error> {
        let source = Source::Tasks { work, wanted: None };
        Run::new(self.queue, self.settings, source).until_gone(self.hook).await
    }
}

async fn on_a_thread<E: Display>(work: impl FnOnce() -> Result<(), E> + Send + 'static) -> Ending {
    let (ended, ending) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("qscaler-task".into()).spawn(move || {
        let _ = ended.send(Ending::from(work()));
    });
    match spawned {
        Ok(_) => ending.await.unwrap_or_else(|_| Ending::Failed("the task panicked".into())),
        Err(error) => {
            tracing::warn!(%error, "no thread for a task; giving it back");
            Ending::GivenBack
        }
    }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Error::Settings(format!("cannot start the runtime: {error}")))
}

/// 16 hexadecimal digits that nobody else has: for boots, leases, and workers that nobody named.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    format!("{:016x}", u64::from_le_bytes(bytes))
}
