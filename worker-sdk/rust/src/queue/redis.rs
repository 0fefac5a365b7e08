//! Tasks in Redis lists, and the control path in Redis.
//!
//! A task is moved, never popped: from the queue to a list of the worker's own, which it keeps by
//! renewing a lease. So a task is on the server in every moment, and when its worker gives no sign of
//! life others put it back.

mod bells;
mod fetching;
mod holding;
mod scripts;
mod server;
#[cfg(feature = "tls")]
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, RwLock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::Opening;
use qscaler_protocol::redis::{PathKeys, QueueKeys};
use qscaler_protocol::report::{Answer, Report};

use super::{Error, Queue};
use crate::settings::Settings;
use crate::task::{Lease, Leased};
use crate::worker::random_name;

use fetching::Fetching;
use holding::Held;
use scripts::Scripts;
pub use server::Server;
use server::Wake;

pub(crate) struct RedisQueue {
    server: Server,
    scripts: Scripts,
    settings: Settings,
    queues: Vec<OwnQueue>,
    path: PathKeys,
    worker: WorkerId,
    /// The key of this process's turns: a worker that starts again counts them from the beginning.
    turns: String,
    fetching: Mutex<Fetching>,
    /// An answer was lost: there may be a task in this worker's list that it does not know of. Who ends a
    /// task, or takes one without waiting, shares this; who looks for such a task has it alone.
    unsure: RwLock<bool>,
    /// The tasks that this worker holds, by token.
    held: Mutex<BTreeMap<String, Held>>,
    /// Counts leases and turns.
    numbers: AtomicU64,
    held_since: Mutex<Option<Instant>>,
    woken: Arc<Notify>,
}

/// A queue that this worker takes tasks from.
struct OwnQueue {
    keys: QueueKeys,
    /// The list of the tasks that this worker holds.
    processing: String,
}

impl OwnQueue {
    fn new(queue: &str, worker: &WorkerId) -> Self {
        let keys = QueueKeys::of(queue);
        let processing = format!("{}{worker}", keys.processing);
        Self { keys, processing }
    }
}

impl RedisQueue {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Error> {
        let nobody = || (WorkloadUid::new("none"), WorkerId::new(random_name()));
        let (workload, worker) = settings.identity.clone().unwrap_or_else(nobody);
        let path = PathKeys::of(&workload);
        let queues: Vec<_> = settings.queues.iter().map(|queue| OwnQueue::new(queue, &worker)).collect();
        let turns = queues.first().map_or("", |of| &of.keys.turns);
        let woken = Arc::new(Notify::new());
        let wake = Wake { channel: path.offers.clone(), told: Arc::clone(&woken) };
        let wake = settings.identity.is_some().then_some(wake);
        Ok(Self {
            server: Server::connect_with(settings, wake).await?,
            scripts: Scripts::new(),
            turns: format!("{turns}{worker}:{}", random_name()),
            queues,
            settings: settings.clone(),
            path,
            worker,
            fetching: Mutex::default(),
            // This worker may have held tasks before it started again.
            unsure: RwLock::new(true),
            held: Mutex::default(),
            numbers: AtomicU64::new(0),
            held_since: Mutex::default(),
            woken,
        })
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn fetch(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error> {
        let mut fetching = self.fetching.lock().await;
        if stop.is_cancelled() {
            return Ok(None);
        }
        self.begin(&mut fetching).await?;
        self.hold_before_fetch().await?;
        if let Some(leased) = self.recover(&mut fetching).await? {
            return Ok(Some(leased));
        }
        let fetched = self.next(&mut fetching, wait, stop).await;
        if fetched.is_err() {
            self.lost_answer().await;
        }
        fetched
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Error> {
        let Some(of) = self.own(lease) else { return Ok(false) };
        self.hold(std::slice::from_ref(of)).await
    }

    async fn ack(&self, lease: &Lease) -> Result<bool, Error> {
        self.end(lease).await
    }

    async fn ack_and_take(&self, lease: &Lease) -> Result<(bool, Option<Leased>), Error> {
        match self.turn(lease).await? {
            Some(turned) => Ok(turned),
            None => self.end(lease).await.map(|kept| (kept, None)),
        }
    }

    async fn give_back(&self, lease: &Lease, delay: Duration, counts: bool) -> Result<bool, Error> {
        let Some(OwnQueue { keys, processing }) = self.own(lease) else { return Ok(false) };
        let mut script = self.scripts.give_back.key(processing);
        script.key(&keys.queue).key(&keys.attempts).key(&keys.delayed).key(&keys.counters);
        script.key(&keys.interrupted);
        let delay = milliseconds(delay).to_string();
        let counts = if counts { "1" } else { "0" };
        self.on_held(lease, &mut script, &[&delay, counts, self.worker.as_str()]).await
    }

    async fn bury(&self, lease: &Lease, error: &str) -> Result<bool, Error> {
        let Some(OwnQueue { keys, processing }) = self.own(lease) else { return Ok(false) };
        let mut script = self.scripts.bury.key(processing);
        script.key(&keys.dead).key(&keys.errors).key(&keys.counters).key(&keys.attempts);
        let why = serde_json::json!({ "error": error, "worker": self.worker }).to_string();
        self.on_held(lease, &mut script, &[&why]).await
    }

    async fn reap(&self) -> Result<usize, Error> {
        self.reap_from(None).await
    }

    async fn report(&self, report: &Report) -> Result<Answer, Error> {
        let text = serde_json::to_string(report)
            .map_err(|error| Error::System { system: "redis", reason: error.to_string() })?;
        let mut script = self.scripts.report.key(&self.path.offers);
        script.key(&self.path.reports).key(&self.path.released).arg(self.worker.as_str()).arg(text);
        let (epoch, named, anybody, claim, released): (String, i64, i64, i64, i64) =
            self.server.run(&script).await?;
        Ok(Answer {
            epoch: (!epoch.is_empty()).then(|| Epoch::new(epoch)),
            opening: match (named, anybody) {
                (1, _) => Opening::Named,
                (_, 1) => Opening::Any,
                _ => Opening::None,
            },
            claim: u64::try_from(claim).ok().map(OfferId),
            released: released == 1,
        })
    }

    async fn claim(&self, epoch: &Epoch) -> Result<Option<OfferId>, Error> {
        let mut script = self.scripts.claim.key(&self.path.offers);
        let offer: i64 = self.server.run(script.arg(epoch.as_str()).arg(self.worker.as_str())).await?;
        Ok(u64::try_from(offer).ok().map(OfferId))
    }

    async fn woken(&self) {
        self.woken.notified().await;
    }

    fn look_every(&self) -> Duration {
        // Offers make themselves heard; this often is enough for one that was not.
        Duration::from_secs(5)
    }

    async fn leave(&self) -> Result<(), Error> {
        // No task may come any more to a list that has no holder. Where one may, the lease ends by itself:
        // until then, and for a while after, others look into the list.
        if !self.give_up(&mut *self.fetching.lock().await).await? {
            return Ok(());
        }
        for OwnQueue { keys, processing } in &self.queues {
            let mut script = self.scripts.leave.key(&keys.leases);
            script.key(processing).key(&self.turns).arg(self.worker.as_str());
            self.server.run::<i64>(&script).await?;
        }
        Ok(())
    }
}

fn no_answer() -> Error {
    Error::System { system: "redis", reason: "no answer in time".into() }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
