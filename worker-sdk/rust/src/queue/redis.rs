//! Tasks in Redis lists, and the control path in Redis.
//!
//! A task is moved, never popped: from the queue to a list of the worker's own, which it keeps by
//! renewing a lease. So a task is on the server in every moment, and when its worker gives no sign of
//! life others put it back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Script, ScriptInvocation, cmd};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::Opening;
use qscaler_protocol::redis::{self as texts, PathKeys, QueueKeys};
use qscaler_protocol::report::{Answer, Report};

use super::{Error, Queue};
use crate::settings::Settings;
use crate::task::{Lease, Leased, Task};
use crate::worker::random_name;

/// A server that takes longer to connect or to answer has failed this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// With several queues the worker waits at the first one this long before it looks at all again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A server that runs the protocol's scripts. Cheap to clone; clones share one connection, which
/// comes back by itself.
#[derive(Clone)]
pub struct Server {
    client: Client,
    shared: ConnectionManager,
}

impl Server {
    /// Connects, and refuses a server that may drop keys when its memory is full.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let client = Client::open(url).map_err(|error| Error::Settings(format!("the Redis URL: {error}")))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(ANSWER_MAX))
            .set_response_timeout(Some(ANSWER_MAX))
            .set_number_of_retries(1);
        let shared =
            client.get_connection_manager_with_config(config).await.map_err(|error| failed(&error))?;
        let server = Self { client, shared };
        server.refuse_eviction().await?;
        Ok(server)
    }

    async fn refuse_eviction(&self) -> Result<(), Error> {
        // Who may not ask is trusted: the answer is a help and not a lock.
        let answer: Result<Vec<String>, _> = self.ask(cmd("CONFIG").arg("GET").arg("maxmemory-policy")).await;
        let policy = answer.ok().and_then(|pair| pair.into_iter().nth(1)).unwrap_or_default();
        if policy.starts_with("allkeys") {
            return Err(Error::Settings(format!(
                "this Redis drops keys when its memory is full (maxmemory-policy {policy}), tasks and offers \
                 among them: set maxmemory-policy noeviction"
            )));
        }
        Ok(())
    }

    /// Asks one command.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        command.query_async(&mut self.shared.clone()).await.map_err(|error| failed(&error))
    }

    /// Asks several commands in one go.
    pub async fn ask_all<T: redis::FromRedisValue>(&self, commands: &redis::Pipeline) -> Result<T, Error> {
        commands.query_async(&mut self.shared.clone()).await.map_err(|error| failed(&error))
    }

    /// Runs a script.
    pub async fn run<T: redis::FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        script.invoke_async(&mut self.shared.clone()).await.map_err(|error| failed(&error))
    }

    /// A connection of its own, for commands that wait.
    async fn waiting_connection(&self) -> Result<MultiplexedConnection, Error> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER_MAX)).set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        connecting.await.map_err(|error| failed(&error))
    }
}

fn failed(error: &RedisError) -> Error {
    Error::System { system: "redis", reason: error.to_string() }
}

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
    /// The connection that waits for tasks, with its number on the server.
    waiting: Mutex<Option<(MultiplexedConnection, i64)>>,
    /// Payloads that this worker holds, by token.
    held: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    tokens: AtomicU64,
    held_since: Mutex<Option<Instant>>,
    /// An answer was lost: there may be a task in this worker's list that it does not know of.
    answer_lost: AtomicBool,
}

impl RedisQueue {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Error> {
        let nobody = || (WorkloadUid::new("none"), WorkerId::new(random_name()));
        let (workload, worker) = settings.identity.clone().unwrap_or_else(nobody);
        Ok(Self {
            server: Server::connect(&settings.url).await?,
            scripts: Scripts::new(),
            keys: settings.queues.iter().map(|queue| QueueKeys::of(queue)).collect(),
            settings: settings.clone(),
            path: PathKeys::of(&workload),
            worker,
            waiting: Mutex::default(),
            held: Mutex::default(),
            tokens: AtomicU64::new(0),
            held_since: Mutex::default(),
            answer_lost: AtomicBool::new(false),
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
    async fn recover(&self) -> Result<Option<Leased>, Error> {
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
        self.answer_lost.store(false, Ordering::Relaxed);
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
                self.answer_lost.store(true, Ordering::Relaxed);
                return Err(error);
            }
        };
        let lease = Lease { queue: keys.queue.clone(), task: id.clone(), token };
        Ok(Leased { task: Task { id, queue: keys.queue.clone(), payload, attempt: failed + 1 }, lease })
    }

    /// Moves the next task, waiting for one at the first queue.
    async fn next(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error> {
        let mut waiting = self.waiting.lock().await;
        if stop.is_cancelled() {
            return Ok(None);
        }
        let (mut connection, id) = match waiting.clone() {
            Some(connected) => connected,
            None => {
                let mut connection = self.server.waiting_connection().await?;
                let id = cmd("CLIENT")
                    .arg("ID")
                    .query_async(&mut connection)
                    .await
                    .map_err(|error| failed(&error))?;
                waiting.insert((connection, id)).clone()
            }
        };
        for keys in self.keys.iter().skip(usize::from(self.keys.len() == 1)) {
            let mut moving = cmd("LMOVE");
            moving.arg(&keys.queue).arg(self.processing(keys)).arg("RIGHT").arg("LEFT");
            let moved: Option<Vec<u8>> = self.server.ask(&moving).await?;
            if let Some(payload) = moved {
                return self.take(keys, payload).await.map(Some);
            }
        }
        let first = &self.keys[0];
        let wait = if self.keys.len() == 1 { wait } else { wait.min(LOOK_EVERY) };
        let mut moving = cmd("BLMOVE");
        moving.arg(&first.queue).arg(self.processing(first)).arg("RIGHT").arg("LEFT").arg(wait.as_secs_f64());
        let answer = moving.query_async::<Option<Vec<u8>>>(&mut connection);
        tokio::pin!(answer);
        let moved = tokio::select! {
            moved = &mut answer => moved,
            () = stop.cancelled() => {
                // The server ends the waiting; should a task have come in the same moment, the answer has it.
                let _: Result<i64, _> = self.server.ask(cmd("CLIENT").arg("UNBLOCK").arg(id)).await;
                answer.await
            }
        };
        match moved {
            Ok(Some(payload)) => self.take(first, payload).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) => {
                *waiting = None;
                Err(failed(&error))
            }
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
        if stop.is_cancelled() {
            return Ok(None);
        }
        self.hold_before_fetch().await?;
        if self.answer_lost.load(Ordering::Relaxed)
            && let Some(leased) = self.recover().await?
        {
            return Ok(Some(leased));
        }
        let fetched = self.next(wait, stop).await;
        if fetched.is_err() {
            self.answer_lost.store(true, Ordering::Relaxed);
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

    async fn leave(&self) -> Result<(), Error> {
        for keys in &self.keys {
            let mut script = self.scripts.leave.key(&keys.leases);
            self.server.run::<i64>(script.key(self.processing(keys)).arg(self.worker.as_str())).await?;
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
