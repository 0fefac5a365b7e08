//! Tasks in Redis lists, and the control path in Redis.
//!
//! A task is moved, never popped: from the queue to a list of the worker's own, which it keeps by
//! renewing a lease. So a task is on the server in every moment, and when its worker gives no sign of
//! life others put it back.

mod server;
#[cfg(feature = "tls")]
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Script, ScriptInvocation, cmd};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::Opening;
use qscaler_protocol::redis::{self as texts, PathKeys, QueueKeys};
use qscaler_protocol::report::{Answer, Report};

use super::{Error, Queue};
use crate::settings::Settings;
use crate::task::{Lease, Leased, Task};
use crate::worker::random_name;

pub use server::Server;
use server::{ANSWER_MAX, Wake, failed};

/// With several queues the worker waits at the first one this long before it looks at all again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The scripts that a worker runs, each hashed once.
struct Scripts {
    ack: Script,
    give_back: Script,
    bury: Script,
    hold: Script,
    leave: Script,
    reap: Script,
    attempts: Script,
    report: Script,
    claim: Script,
}

impl Scripts {
    fn new() -> Self {
        Self {
            ack: Script::new(texts::ACK),
            give_back: Script::new(texts::RETURN),
            bury: Script::new(texts::BURY),
            hold: Script::new(texts::HOLD),
            leave: Script::new(texts::LEAVE),
            reap: Script::new(texts::REAP),
            attempts: Script::new(texts::ATTEMPTS),
            report: Script::new(texts::REPORT),
            claim: Script::new(texts::CLAIM),
        }
    }
}

pub(crate) struct RedisQueue {
    server: Server,
    scripts: Scripts,
    settings: Settings,
    keys: Vec<QueueKeys>,
    path: PathKeys,
    worker: WorkerId,
    fetching: Mutex<Fetching>,
    /// Payloads that this worker holds, by token.
    held: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    tokens: AtomicU64,
    held_since: Mutex<Option<Instant>>,
    woken: Arc<Notify>,
}

/// The way by which tasks come.
#[derive(Default)]
struct Fetching {
    /// The connection that waits for tasks.
    waiting: Option<(MultiplexedConnection, Client)>,
    /// A connection whose answer was lost. The server may not know yet that it is gone.
    abandoned: Option<Client>,
    /// An answer was lost: there may be a task in this worker's list that it does not know of.
    unsure: bool,
}

/// A connection as the server knows it. Its number alone may be another's after the server started again.
#[derive(Clone)]
struct Client {
    id: String,
    address: String,
}

impl Client {
    async fn of(connection: &mut MultiplexedConnection) -> Result<Self, Error> {
        let mut asking = cmd("CLIENT");
        let answer = timeout(ANSWER_MAX, asking.arg("INFO").query_async::<String>(connection))
            .await
            .map_err(|_| no_answer())?;
        let answer = answer.map_err(|error| failed(&error))?;
        let field = |name| answer.split_whitespace().find_map(|it| it.strip_prefix(name)).unwrap_or_default();
        Ok(Self { id: field("id=").to_owned(), address: field("addr=").to_owned() })
    }
}

impl RedisQueue {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Error> {
        let nobody = || (WorkloadUid::new("none"), WorkerId::new(random_name()));
        let (workload, worker) = settings.identity.clone().unwrap_or_else(nobody);
        let path = PathKeys::of(&workload);
        let woken = Arc::new(Notify::new());
        let wake = Wake { channel: path.offers.clone(), told: Arc::clone(&woken) };
        let wake = settings.identity.is_some().then_some(wake);
        Ok(Self {
            server: Server::connect_with(&settings.url, settings.authorities.as_deref(), wake).await?,
            scripts: Scripts::new(),
            keys: settings.queues.iter().map(|queue| QueueKeys::of(queue)).collect(),
            settings: settings.clone(),
            path,
            worker,
            fetching: Mutex::default(),
            held: Mutex::default(),
            tokens: AtomicU64::new(0),
            held_since: Mutex::default(),
            woken,
        })
    }

    fn processing(&self, keys: &QueueKeys) -> String {
        format!("{}{}", keys.processing, self.worker)
    }

    /// Renews the hold on one queue. `false`: it had been given up.
    async fn hold(&self, keys: &QueueKeys) -> Result<bool, Error> {
        let mut script = self.scripts.hold.key(&keys.leases);
        script.arg(self.worker.as_str()).arg(milliseconds(self.settings.lease));
        self.server.run::<i64>(&script).await.map(|kept| kept == 1)
    }

    /// A worker holds before it fetches: what comes to its list is never without a holder.
    async fn hold_before_fetch(&self) -> Result<(), Error> {
        let mut since = self.held_since.lock().await;
        if since.is_none_or(|since| since.elapsed() > self.settings.lease / 3) {
            for keys in &self.keys {
                self.hold(keys).await?;
            }
            *since = Some(Instant::now());
        }
        Ok(())
    }

    /// A task that came to this worker's list by an answer that was lost.
    async fn recover(&self, fetching: &mut Fetching) -> Result<Option<Leased>, Error> {
        if let Some(client) = fetching.abandoned.clone() {
            // First the server must not move a task for it any more; what it has moved is in the list.
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(client.id).arg("ADDR").arg(client.address);
            // A user without the right to does without: the list is looked at all the same.
            let _: Result<i64, _> = self.server.ask(&kill).await;
        }
        for keys in &self.keys {
            let list: Vec<Vec<u8>> =
                self.server.ask(cmd("LRANGE").arg(self.processing(keys)).arg(0).arg(-1)).await?;
            let held = self.held.lock().await;
            let mut known: Vec<_> = held
                .values()
                .filter(|(queue, _)| *queue == keys.queue)
                .map(|(_, payload)| payload.clone())
                .collect();
            drop(held);
            for payload in list {
                match known.iter().position(|it| *it == payload) {
                    Some(place) => {
                        known.swap_remove(place);
                    }
                    None => return self.take(keys, payload).await.map(Some),
                }
            }
        }
        fetching.unsure = false;
        fetching.abandoned = None;
        Ok(None)
    }

    async fn take(&self, keys: &QueueKeys, payload: Vec<u8>) -> Result<Leased, Error> {
        let token = format!("{}#{}", self.worker, self.tokens.fetch_add(1, Ordering::Relaxed));
        self.held.lock().await.insert(token.clone(), (keys.queue.clone(), payload.clone()));
        let mut script = self.scripts.attempts.key(&keys.attempts);
        let asked: Result<(u32, String), Error> = self.server.run(script.arg(&payload)).await;
        let (failed, id) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                self.held.lock().await.remove(&token);
                return Err(error);
            }
        };
        let lease = Lease { queue: keys.queue.clone(), task: id.clone(), token };
        Ok(Leased { task: Task { id, queue: keys.queue.clone(), payload, attempt: failed + 1 }, lease })
    }

    /// Moves the next task, waiting for one at the first queue.
    async fn next(
        &self,
        fetching: &mut Fetching,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Leased>, Error> {
        for keys in self.keys.iter().skip(usize::from(self.keys.len() == 1)) {
            let mut moving = cmd("LMOVE");
            moving.arg(&keys.queue).arg(self.processing(keys)).arg("RIGHT").arg("LEFT");
            let moved: Option<Vec<u8>> = self.server.ask(&moving).await?;
            if let Some(payload) = moved {
                return self.take(keys, payload).await.map(Some);
            }
        }
        let Some(first) = self.keys.first() else { return Ok(None) };
        let (connection, client) = match fetching.waiting.take() {
            Some(connected) => connected,
            None => {
                let mut connection = self.server.waiting_connection().await?;
                let client = Client::of(&mut connection).await?;
                (connection, client)
            }
        };
        let wait = if self.keys.len() == 1 { wait } else { wait.min(LOOK_EVERY) };
        let mut moving = cmd("BLMOVE");
        moving.arg(&first.queue).arg(self.processing(first)).arg("RIGHT").arg("LEFT").arg(wait.as_secs_f64());
        let mut asked = connection.clone();
        let answer = timeout(wait + ANSWER_MAX, moving.query_async::<Option<Vec<u8>>>(&mut asked));
        tokio::pin!(answer);
        let moved = tokio::select! {
            moved = &mut answer => moved,
            () = stop.cancelled() => {
                // The server ends the waiting; should a task have come in the same moment, the answer has it.
                let _: Result<i64, _> = self.server.ask(cmd("CLIENT").arg("UNBLOCK").arg(&client.id)).await;
                answer.await
            }
        };
        let moved = match moved {
            Ok(Ok(moved)) => moved,
            failure => {
                fetching.abandoned = Some(client);
                return Err(if let Ok(Err(error)) = failure { failed(&error) } else { no_answer() });
            }
        };
        fetching.waiting = Some((connection, client));
        match moved {
            Some(payload) => self.take(first, payload).await.map(Some),
            None => Ok(None),
        }
    }

    /// Runs a script on a task that is held; its result is whether it still was.
    async fn on_held(
        &self,
        lease: &Lease,
        script: &mut ScriptInvocation<'_>,
        more: &[&str],
    ) -> Result<bool, Error> {
        let payload = self.held.lock().await.get(&lease.token).map(|(_, payload)| payload.clone());
        let Some(payload) = payload else { return Ok(false) };
        script.arg(payload);
        for argument in more {
            script.arg(*argument);
        }
        let kept: i64 = self.server.run(script).await?;
        self.held.lock().await.remove(&lease.token);
        Ok(kept == 1)
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn fetch(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error> {
        let mut fetching = self.fetching.lock().await;
        if stop.is_cancelled() {
            return Ok(None);
        }
        self.hold_before_fetch().await?;
        if fetching.unsure
            && let Some(leased) = self.recover(&mut fetching).await?
        {
            return Ok(Some(leased));
        }
        let fetched = self.next(&mut fetching, wait, stop).await;
        if fetched.is_err() {
            fetching.unsure = true;
            // A server that has lost its data has lost this worker's hold, too.
            *self.held_since.lock().await = None;
        }
        fetched
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Error> {
        self.hold(&QueueKeys::of(&lease.queue)).await
    }

    async fn ack(&self, lease: &Lease) -> Result<bool, Error> {
        let keys = QueueKeys::of(&lease.queue);
        let mut script = self.scripts.ack.key(self.processing(&keys));
        script.key(&keys.counters).key(&keys.attempts);
        self.on_held(lease, &mut script, &[]).await
    }

    async fn give_back(&self, lease: &Lease, delay: Duration, counts: bool) -> Result<bool, Error> {
        let keys = QueueKeys::of(&lease.queue);
        let mut script = self.scripts.give_back.key(self.processing(&keys));
        script.key(&keys.queue).key(&keys.attempts).key(&keys.delayed).key(&keys.counters);
        let delay = milliseconds(delay).to_string();
        self.on_held(lease, &mut script, &[&delay, if counts { "1" } else { "0" }]).await
    }

    async fn bury(&self, lease: &Lease, error: &str) -> Result<bool, Error> {
        let keys = QueueKeys::of(&lease.queue);
        let mut script = self.scripts.bury.key(self.processing(&keys));
        script.key(&keys.dead).key(&keys.errors).key(&keys.counters).key(&keys.attempts);
        let why = serde_json::json!({ "error": error, "worker": self.worker }).to_string();
        self.on_held(lease, &mut script, &[&why]).await
    }

    async fn reap(&self) -> Result<usize, Error> {
        let mut back = 0;
        for keys in &self.keys {
            let mut script = self.scripts.reap.key(&keys.leases);
            script.key(&keys.queue).key(&keys.attempts).key(&keys.delayed).key(&keys.counters);
            script.key(&keys.dead).key(&keys.errors);
            script.arg(&keys.processing).arg(self.settings.attempts_max);
            back += self.server.run::<usize>(&script).await?;
        }
        Ok(back)
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
        for keys in &self.keys {
            let mut script = self.scripts.leave.key(&keys.leases);
            self.server.run::<i64>(script.key(self.processing(keys)).arg(self.worker.as_str())).await?;
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
