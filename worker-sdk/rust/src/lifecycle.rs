//! The worker's life without its tasks, for programs with a queue library of their own.

use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::queue::{self, Error};
use crate::settings::Settings;
use crate::worker::run::{Event, Run, Source};
use crate::worker::{Ended, runtime};

/// Reports, takes offers and listens to signals on a thread of its own, while the program fetches and
/// works. Each fetch asks first, so that none is under way when an offer is claimed:
///
/// ```no_run
/// # fn example(fetch_from_my_queue: impl Fn() -> Option<String>) -> Result<(), qscaler_worker::Error> {
/// use qscaler_worker::{Lifecycle, Settings};
///
/// let lifecycle = Lifecycle::start(Settings::from_environment()?)?;
/// while let Some(fetch) = lifecycle.fetch_blocking() {
///     if let Some(task) = fetch_from_my_queue() {
///         let busy = fetch.busy();
///         println!("{task}");
///         drop(busy); // acknowledged: the task counts as done
///     }
/// }
/// lifecycle.ended()?;
/// # Ok(())
/// # }
/// ```
///
/// The settings' queues are not looked at; the URL says where offers and reports travel. A fetch should
/// wait for a few seconds at most: the worker leaves only between fetches.
pub struct Lifecycle {
    events: UnboundedSender<Event>,
    giving_back: CancellationToken,
    leaving: CancellationToken,
    thread: JoinHandle<Result<Ended, Error>>,
}

/// Leave to fetch once. Dropped, the fetch brought nothing.
#[must_use = "a fetch that is dropped has ended"]
pub struct Fetch {
    events: Option<UnboundedSender<Event>>,
    stop: CancellationToken,
}

/// The program works on a task. Dropped, the task counts as done.
#[must_use = "the worker counts as busy for as long as this lives"]
pub struct Busy {
    events: UnboundedSender<Event>,
    begin: Instant,
    failed: bool,
}

impl Lifecycle {
    /// Connects, which may take a few seconds, and begins to report. Fails when the queue system cannot
    /// be reached; once started it outlives any loss of it.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let (started, starting) = channel();
        let thread = thread::Builder::new()
            .name("qscaler-lifecycle".into())
            .spawn(move || {
                runtime()?.block_on(async move {
                    let queue = queue::connect(&settings).await?;
                    let run = Run::new(queue, settings, Source::Program(std::collections::VecDeque::new()));
                    let _ = started.send((run.events(), run.giving_back(), run.leaving()));
                    run.until_gone(None).await
                })
            })
            .map_err(|error| Error::Settings(format!("cannot start a thread: {error}")))?;
        match starting.recv() {
            Ok((events, giving_back, leaving)) => Ok(Self { events, giving_back, leaving, thread }),
            Err(_) => Err(joined(thread).err().unwrap_or_else(|| Error::Settings("it never began".into()))),
        }
    }

    /// Waits until the program may fetch: while fewer than [`Settings::slots`] tasks are held and
    /// fetched. None: the worker leaves, and nothing may be fetched any more.
    pub async fn fetch(&self) -> Option<Fetch> {
        self.ask()?.await.ok()
    }

    /// The same for programs that are not asynchronous.
    pub fn fetch_blocking(&self) -> Option<Fetch> {
        self.ask()?.blocking_recv().ok()
    }

    fn ask(&self) -> Option<oneshot::Receiver<Fetch>> {
        let (asking, asked) = oneshot::channel();
        self.events.send(Event::FetchWanted(asking)).ok()?;
        Some(asked)
    }

    /// Whether the worker has been let go or told to end: finish what is held and fetch nothing more.
    pub fn should_leave(&self) -> bool {
        self.leaving.is_cancelled() || self.events.is_closed()
    }

    /// Whether what is held must go back at once, by the program's own queue library: a second signal
    /// came, or the grace period is nearly over.
    pub fn should_give_back(&self) -> bool {
        self.giving_back.is_cancelled()
    }

    /// Leaves as on SIGTERM.
    pub fn leave(&self) {
        let _ = self.events.send(Event::Told);
    }

    /// Waits until the worker has left, which it does not do while it is busy.
    pub fn ended(self) -> Result<Ended, Error> {
        joined(self.thread)
    }
}

fn joined(thread: JoinHandle<Result<Ended, Error>>) -> Result<Ended, Error> {
    thread.join().unwrap_or_else(|_| Err(Error::Settings("the worker's thread failed".into())))
}

impl Fetch {
    pub(crate) fn new(events: UnboundedSender<Event>, stop: CancellationToken) -> Self {
        Self { events: Some(events), stop }
    }

    /// Nobody waits for it any more: it never began.
    pub(crate) fn forget(mut self) {
        self.events = None;
    }

    /// The fetch has brought a task.
    pub fn busy(mut self) -> Busy {
        let events = self.events.take().expect("a fetch that somebody holds has not ended");
        let _ = events.send(Event::FetchEnded { task: true });
        Busy { events, begin: Instant::now(), failed: false }
    }

    /// Waits until the fetch should end early because there is an offer, where the program's queue
    /// library can do that without losing a task.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            let _ = events.send(Event::FetchEnded { task: false });
        }
    }
}

impl Busy {
    /// The task has failed.
    pub fn failed(mut self) {
        self.failed = true;
    }

    /// For how long it has been worked on.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Worked { took: self.begin.elapsed(), failed: self.failed });
    }
}
