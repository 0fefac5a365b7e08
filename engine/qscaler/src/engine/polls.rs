//! One poll per source, shared by every workload on it: never two at once, each with a time-out.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use qscaler_core::signal::Measure;
use qscaler_core::time::Time;
use qscaler_core::workload::{Password, Source};

use crate::event::Event;
use crate::ports::{Asked, Clock, Listen, PortError, Ports, QueueSystem};

/// From the begin of one poll to the begin of the next, at least.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(500);
/// A source that takes longer has failed this time.
const POLL_MAX: Duration = Duration::from_secs(2);

/// One look at all queues of a source.
#[derive(Debug)]
pub(crate) struct Poll {
    /// When it was asked: everything it says is at least as new.
    pub(crate) began: Time,
    /// The answer.
    pub(crate) answer: Asked<BTreeMap<String, Measure>>,
}

/// All sources in use.
#[derive(Clone)]
pub(crate) struct Polls {
    ports: Ports,
    sources: Arc<Mutex<BTreeMap<Source, Weak<Shared>>>>,
}

/// One source, as long as a workload uses it.
struct Shared {
    source: Source,
    /// How many workloads read each queue.
    queues: Mutex<BTreeMap<String, usize>>,
    system: Mutex<Option<QueueSystem>>,
    latest: watch::Sender<Option<Arc<Poll>>>,
}

/// A workload's share of a source.
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    queues: Vec<String>,
    latest: watch::Receiver<Option<Arc<Poll>>>,
}

impl Polls {
    pub(crate) fn new(ports: Ports) -> Self {
        Self { ports, sources: Arc::default() }
    }

    /// Begins to poll these queues, or joins those who do.
    pub(crate) fn subscribe(&self, source: &Source, queues: &[String]) -> Subscription {
        let mut sources = lock(&self.sources);
        sources.retain(|_, shared| shared.strong_count() > 0);
        let shared = match sources.get(source).and_then(Weak::upgrade) {
            Some(shared) => shared,
            None => {
                let shared = Arc::new(Shared {
                    source: source.clone(),
                    queues: Mutex::default(),
                    system: Mutex::default(),
                    latest: watch::channel(None).0,
                });
                sources.insert(source.clone(), Arc::downgrade(&shared));
                let job = poll_for_ever(self.ports.clone(), Arc::downgrade(&shared));
                self.ports.spawn.spawn(Box::pin(job));
                shared
            }
        };
        for queue in queues {
            *lock(&shared.queues).entry(queue.clone()).or_default() += 1;
        }
        let latest = shared.latest.subscribe();
        Subscription { shared, queues: queues.to_vec(), latest }
    }
}

impl Subscription {
    /// Waits for a poll that began after `moment`.
    pub(crate) async fn after(&mut self, moment: Time) -> Arc<Poll> {
        loop {
            if let Some(poll) = self.latest.borrow_and_update().as_ref().filter(|poll| poll.began > moment) {
                return Arc::clone(poll);
            }
            // The sender lives in `shared`, which this subscription holds.
            let _ = self.latest.changed().await;
        }
    }

    /// Whether no other workload reads this queue here.
    pub(crate) fn is_alone(&self, queue: &str) -> bool {
        lock(&self.shared.queues).get(queue) == Some(&1)
    }

    /// The queue system; while it has never answered, why.
    pub(crate) fn system(&self) -> Asked<QueueSystem> {
        let system = lock(&self.shared.system).clone();
        let why = || self.latest.borrow().as_ref().and_then(|poll| poll.answer.as_ref().err().cloned());
        system.ok_or_else(|| why().unwrap_or_else(|| PortError::new("source", "not connected yet")))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut queues = lock(&self.shared.queues);
        for queue in &self.queues {
            if let Some(users) = queues.get_mut(queue) {
                *users -= 1;
            }
        }
        queues.retain(|_, users| *users > 0);
    }
}

async fn poll_for_ever(ports: Ports, shared: Weak<Shared>) {
    loop {
        let Some(source) = shared.upgrade() else { return };
        let began = ports.clock.now();
        let answer = source.poll(&ports).await;
        let took = ports.clock.now().since(began);
        source.tell(ports.listen.as_ref(), &answer);
        source.latest.send_replace(Some(Arc::new(Poll { began, answer })));
        drop(source);
        ports.clock.sleep(POLL_EVERY.saturating_sub(took)).await;
    }
}

impl Shared {
    /// Tells whether the source answers, when that has changed.
    fn tell(&self, listen: &dyn Listen, answer: &Asked<BTreeMap<String, Measure>>) {
        let failure = answer.as_ref().err().map(|error| error.reason.clone());
        let before = self.latest.borrow().as_ref().map(|poll| poll.answer.is_err());
        if before != Some(failure.is_some()) {
            listen.hear(&Event::Source { source: self.source.clone(), failure });
        }
    }

    async fn poll(&self, ports: &Ports) -> Asked<BTreeMap<String, Measure>> {
        let queues: Vec<_> = lock(&self.queues).keys().cloned().collect();
        let what = || format!("source {}", self.source.url);
        let connected = lock(&self.system).clone();
        let system = match connected {
            Some(system) => system,
            None => {
                let system = within(&*ports.clock, what(), ports.connect.connect(&self.source)).await?;
                lock(&self.system).insert(system).clone()
            }
        };
        let answer = within(&*ports.clock, what(), system.source.measure(&queues)).await;
        if answer.is_err() && matches!(self.source.password, Some(Password::Secret { .. })) {
            // The password may be another one by now: it is read again.
            lock(&self.system).take();
        }
        answer
    }
}

async fn within<T>(clock: &dyn Clock, what: String, asked: impl Future<Output = Asked<T>>) -> Asked<T> {
    tokio::select! {
        biased;
        answer = asked => answer,
        () = clock.sleep(POLL_MAX) => Err(PortError::new(what, format!("no answer within {POLL_MAX:?}"))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
