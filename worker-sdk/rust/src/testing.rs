//! A queue in memory, with which a worker can be tested without a server.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), qscaler_worker::Error> {
//! use qscaler_worker::testing::MemoryQueue;
//! use qscaler_worker::{Settings, Task};
//!
//! let queue = MemoryQueue::new();
//! queue.push("mail", "hello");
//! let worker = queue.worker(Settings::new("memory:", ["mail"]));
//! let working = tokio::spawn(worker.run(|_: Task| async { Ok::<_, String>(()) }));
//! queue.worked_off().await;
//! queue.drain_now();
//! assert_eq!(working.await.unwrap()?.done, 1);
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::{Offer, Path};
use qscaler_protocol::report::{Answer, Report, State};

use crate::queue::{Error, Queue};
use crate::settings::Settings;
use crate::task::{Lease, Leased, Task};
use crate::worker::{Worker, random_name};

/// Queues and a control path in this process. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct MemoryQueue {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    contents: Mutex<Contents>,
    changed: Notify,
}

#[derive(Default)]
struct Contents {
    /// In the order in which they are taken, with the moment from which each may be.
    waiting: VecDeque<(Task, Instant)>,
    /// By token, with the moment at which the lease ends.
    leased: BTreeMap<String, (Task, Instant)>,
    done: Vec<Task>,
    dead: Vec<(Task, String)>,
    pushed: u64,
    path: Path,
    offered: OfferId,
    reports: BTreeMap<WorkerId, Report>,
}

/// One worker's connection.
struct Connection {
    memory: MemoryQueue,
    worker: WorkerId,
    settings: Settings,
}

impl MemoryQueue {
    /// Without tasks.
    pub fn new() -> Self {
        let queue = Self::default();
        queue.change(|it| it.path.adopt(None, epoch(), OfferId(0), &BTreeMap::new()));
        queue
    }

    /// Adds a task.
    pub fn push(&self, queue: &str, payload: impl Into<Vec<u8>>) {
        self.change(|it| {
            it.pushed += 1;
            let task = Task {
                id: it.pushed.to_string(),
                queue: queue.to_owned(),
                payload: payload.into(),
                attempt: 1,
            };
            it.waiting.push_back((task, Instant::now()));
        });
    }

    /// A worker on this queue; the settings' URL is not looked at.
    pub fn worker(&self, settings: Settings) -> Worker {
        // One that nobody named gets a name, so that it takes offers.
        let nobody = || (WorkloadUid::new("memory"), WorkerId::new(random_name()));
        let (workload, worker) = settings.identity.clone().unwrap_or_else(nobody);
        let settings = settings.identity(workload, worker.clone());
        let connection = Connection { memory: self.clone(), worker, settings: settings.clone() };
        Worker::new(Arc::new(connection), settings)
    }

    /// Offers a place to leave: one worker, the first that is idle, claims it and leaves.
    pub fn drain_now(&self) {
        self.change(|it| {
            it.offered = it.offered.next();
            let offer = BTreeMap::from([(it.offered, Offer::Open(None))]);
            it.path.project(&epoch(), &offer)
        });
    }

    /// Waits until no task waits, not even for another attempt, and none is worked on.
    pub async fn worked_off(&self) {
        self.until(|it| it.waiting.is_empty() && it.leased.is_empty()).await;
    }

    /// Tasks that wait.
    pub fn waiting(&self) -> Vec<Task> {
        self.lock().waiting.iter().map(|(task, _)| task.clone()).collect()
    }

    /// Tasks that were done, in order.
    pub fn done(&self) -> Vec<Task> {
        self.lock().done.clone()
    }

    /// Tasks that failed for good, with their last error.
    pub fn dead(&self) -> Vec<(Task, String)> {
        self.lock().dead.clone()
    }

    /// What each worker reported last.
    pub fn reports(&self) -> Vec<Report> {
        self.lock().reports.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.inner.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        let result = change(&mut self.lock());
        self.inner.changed.notify_waiters();
        result
    }

    async fn until(&self, so: impl Fn(&Contents) -> bool) {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}

fn epoch() -> Epoch {
    Epoch::new("memory")
}

impl Contents {
    fn take(&mut self, queues: &[String], lease: Duration) -> Option<Leased> {
        let now = Instant::now();
        let first = |queue: &String| {
            self.waiting.iter().position(|(task, from)| task.queue == *queue && *from <= now)
        };
        let place = queues.iter().find_map(first)?;
        let (task, _) = self.waiting.remove(place)?;
        let lease_of = Lease { queue: task.queue.clone(), task: task.id.clone(), token: random_name() };
        self.leased.insert(lease_of.token.clone(), (task.clone(), now + lease));
        Some(Leased { task, lease: lease_of })
    }

    fn put_back(&mut self, mut task: Task, delay: Duration, counts: bool) {
        task.attempt += u32::from(counts);
        self.waiting.push_front((task, Instant::now() + delay));
    }
}

impl Connection {
    /// Does something to a task whose lease is held; says whether it was.
    fn on_held(&self, lease: &Lease, change: impl FnOnce(&mut Contents, Task)) -> bool {
        self.memory.change(|it| match it.leased.remove(&lease.token) {
            Some((task, _)) => {
                change(it, task);
                true
            }
            None => false,
        })
    }
}

#[async_trait]
impl Queue for Connection {
    async fn fetch(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error> {
        let end = Instant::now() + wait;
        loop {
            let changed = self.memory.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if stop.is_cancelled() {
                return Ok(None);
            }
            let taken = self.memory.lock().take(&self.settings.queues, self.settings.lease);
            if taken.is_some() {
                return Ok(taken);
            }
            let now = Instant::now();
            let due = self.memory.lock().waiting.iter().map(|(_, from)| *from).filter(|it| *it > now).min();
            tokio::select! {
                () = changed => {}
                () = stop.cancelled() => {}
                () = sleep_until(due.unwrap_or(end).min(end)) => if Instant::now() >= end { return Ok(None) },
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Error> {
        let until = Instant::now() + self.settings.lease;
        Ok(self.memory.lock().leased.get_mut(&lease.token).map(|(_, end)| *end = until).is_some())
    }

    async fn ack(&self, lease: &Lease) -> Result<bool, Error> {
        Ok(self.on_held(lease, |it, task| it.done.push(task)))
    }

    async fn give_back(&self, lease: &Lease, delay: Duration, counts: bool) -> Result<bool, Error> {
        Ok(self.on_held(lease, |it, task| it.put_back(task, delay, counts)))
    }

    async fn bury(&self, lease: &Lease, error: &str) -> Result<bool, Error> {
        Ok(self.on_held(lease, |it, task| it.dead.push((task, error.to_owned()))))
    }

    async fn reap(&self) -> Result<usize, Error> {
        let now = Instant::now();
        Ok(self.memory.change(|it| {
            let lost: Vec<_> =
                it.leased.iter().filter(|(_, (_, end))| *end < now).map(|(token, _)| token.clone()).collect();
            for token in &lost {
                if let Some((task, _)) = it.leased.remove(token) {
                    it.put_back(task, Duration::ZERO, true);
                }
            }
            lost.len()
        }))
    }

    async fn report(&self, report: &Report) -> Result<Answer, Error> {
        let mut contents = self.memory.lock();
        let drained = contents.reports.get(&self.worker).is_some_and(|it| it.state == State::Drained);
        if !drained || report.state == State::Drained {
            contents.reports.insert(self.worker.clone(), report.clone());
        }
        Ok(Answer {
            epoch: contents.path.epoch.clone(),
            opening: contents.path.opening(&self.worker),
            claim: contents.path.claim_of(&self.worker),
            released: drained,
        })
    }

    async fn claim(&self, epoch: &Epoch) -> Result<Option<OfferId>, Error> {
        Ok(self.memory.change(|it| it.path.claim(epoch, &self.worker)))
    }

    async fn woken(&self) {
        self.memory.inner.changed.notified().await;
    }
}
