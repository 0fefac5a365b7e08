//! Queues and control path in Redis.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redis::{Script, ScriptInvocation, cmd, pipe};

use qscaler_core::fleet::REPORT_AGE_MAX;
use qscaler_core::infer::{Inference, Look};
use qscaler_core::interrupted::Interruption;
use qscaler_core::signal::Measure;
use qscaler_core::workload;
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::{Offer, Path, Withdrawal};
use qscaler_protocol::redis::{self as texts, PathKeys, QueueKeys};
use qscaler_protocol::report::{Received, Report};
use qscaler_worker::redis::Server;

use super::interruptions::{Interruptions, interruption};
use crate::clock::wall_clock;
use crate::ports::{Adopt, Asked, ControlPath, Counting, PortError, QueueSystem, Source};

pub(super) async fn connect(source: &workload::Source, address: &str) -> Asked<QueueSystem> {
    let server = Server::connect(address).await.map_err(|error| PortError::new(&source.url, error))?;
    let queues = Arc::new(RedisQueues {
        server,
        url: source.url.clone(),
        scripts: Scripts::new(),
        inferences: Mutex::default(),
        interruptions: Interruptions::default(),
    });
    Ok(QueueSystem { source: queues.clone(), control: queues })
}

struct RedisQueues {
    server: Server,
    /// For messages; without any secret.
    url: String,
    scripts: Scripts,
    inferences: Mutex<BTreeMap<String, Inference>>,
    interruptions: Interruptions,
}

/// Length, in flight, delayed, departed; the number of the last interruption, and new ones, the newest first.
type MeasureAnswer = (u64, u64, u64, u64, u64, Vec<String>);

/// The scripts of the control path, each hashed once.
struct Scripts {
    adopt: Script,
    project: Script,
    withdraw: Script,
    floor: Script,
    path: Script,
    release: Script,
    bar: Script,
    forget: Script,
    count: Script,
}

impl Scripts {
    fn new() -> Self {
        Self {
            adopt: Script::new(texts::ADOPT),
            project: Script::new(texts::PROJECT),
            withdraw: Script::new(texts::WITHDRAW),
            floor: Script::new(texts::FLOOR),
            path: Script::new(texts::PATH),
            release: Script::new(texts::RELEASE),
            bar: Script::new(texts::BAR),
            forget: Script::new(texts::FORGET),
            count: Script::new(texts::COUNT),
        }
    }
}

impl RedisQueues {
    fn failed(&self, error: impl ToString) -> PortError {
        PortError::new(&self.url, error)
    }

    async fn run<T: redis::FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Asked<T> {
        self.server.run(script).await.map_err(|error| self.failed(error))
    }

    /// Runs a script whose answer is whether it did something.
    async fn done(&self, script: &ScriptInvocation<'_>) -> Asked<bool> {
        self.run::<i64>(script).await.map(|done| done == 1)
    }
}

#[async_trait]
impl Source for RedisQueues {
    async fn measure(&self, queues: &[String]) -> Asked<BTreeMap<String, Measure>> {
        if queues.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut commands = pipe();
        for queue in queues {
            let keys = QueueKeys::of(queue);
            // The read-only form, so that a user with read rights suffices.
            let mut command = cmd("EVAL_RO");
            command.arg(texts::MEASURE).arg(5);
            command
                .arg(keys.queue)
                .arg(keys.leases)
                .arg(keys.delayed)
                .arg(keys.counters)
                .arg(keys.interrupted)
                .arg(keys.processing)
                .arg(self.interruptions.known(queue));
            commands.add_command(command);
        }
        let answers: Vec<MeasureAnswer> =
            self.server.ask_all(&commands).await.map_err(|error| self.failed(error))?;
        let now = wall_clock();
        let mut inferences = self.inferences.lock().unwrap_or_else(PoisonError::into_inner);
        let measure = |(queue, answer): (&String, MeasureAnswer)| {
            let (length, inflight, delayed, departed, last, fresh) = answer;
            self.interruptions.add(
                queue,
                last,
                fresh.iter().rev().filter_map(|it| parse_entry(it)).collect(),
            );
            let inference = inferences.entry(queue.clone()).or_default();
            (queue.clone(), inference.observe(now, Look { length, inflight, delayed, departed }))
        };
        Ok(queues.iter().zip(answers).map(measure).collect())
    }

    fn interruptions(&self, queue: &str) -> Arc<Vec<Interruption>> {
        self.interruptions.of(queue)
    }
}

/// Epoch, fields of the offers, reports, released workers, the server's milliseconds.
type PathAnswer = (String, Vec<(String, String)>, Vec<(String, String)>, Vec<String>, u64);

#[async_trait]
impl ControlPath for RedisQueues {
    async fn read(&self, uid: &WorkloadUid) -> Asked<(Path, BTreeMap<WorkerId, Received>)> {
        let keys = PathKeys::of(uid);
        let mut script = self.scripts.path.key(&keys.offers);
        script.key(&keys.reports).key(&keys.released);
        let (epoch, fields, reports, released, now): PathAnswer = self.run(&script).await?;
        let mut path = Path::default();
        // Under no epoch nothing that is there counts.
        if !epoch.is_empty() {
            path.epoch = Some(Epoch::new(epoch));
            for (name, value) in fields {
                match name.strip_prefix("o:").and_then(|id| id.parse().ok()) {
                    Some(id) => {
                        path.offers.insert(OfferId(id), parse_offer(&value));
                    }
                    None if name == "floor" => path.floor = OfferId(value.parse().unwrap_or_default()),
                    None => {}
                }
            }
        }
        let received = reports.into_iter().filter_map(|(worker, text)| {
            let mut received = parse_report(&text, now)?;
            received.released = released.contains(&worker);
            Some((WorkerId::new(worker), received))
        });
        Ok((path, received.collect()))
    }

    async fn adopt(&self, uid: &WorkloadUid, adopt: Adopt<'_>) -> Asked<bool> {
        let mut script = self.scripts.adopt.key(PathKeys::of(uid).offers);
        script.arg(adopt.seen.map_or("", Epoch::as_str)).arg(adopt.epoch.as_str()).arg(adopt.floor.0);
        for (offer, worker) in adopt.claims {
            script.arg(offer.0).arg(worker.as_str());
        }
        self.done(&script).await
    }

    async fn project(
        &self,
        uid: &WorkloadUid,
        epoch: &Epoch,
        offers: &BTreeMap<OfferId, Offer>,
    ) -> Asked<bool> {
        let mut script = self.scripts.project.key(PathKeys::of(uid).offers);
        script.arg(epoch.as_str());
        for (id, offer) in offers {
            script.arg(id.0).arg(match offer {
                Offer::Open(None) => "open".to_owned(),
                Offer::Open(Some(worker)) => format!("open:{worker}"),
                Offer::Claimed(worker) => format!("claimed:{worker}"),
                Offer::Withdrawn => "withdrawn".to_owned(),
            });
        }
        self.done(&script).await
    }

    async fn withdraw(&self, uid: &WorkloadUid, epoch: &Epoch, offer: OfferId) -> Asked<Withdrawal> {
        let mut script = self.scripts.withdraw.key(PathKeys::of(uid).offers);
        let state: String = self.run(script.arg(epoch.as_str()).arg(offer.0)).await?;
        Ok(match parse_offer(&state) {
            _ if state.is_empty() => Withdrawal::Stale,
            Offer::Claimed(worker) => Withdrawal::Claimed(worker),
            Offer::Open(_) | Offer::Withdrawn => Withdrawal::Done,
        })
    }

    async fn raise_floor(&self, uid: &WorkloadUid, epoch: &Epoch, floor: OfferId) -> Asked<bool> {
        let mut script = self.scripts.floor.key(PathKeys::of(uid).offers);
        self.done(script.arg(epoch.as_str()).arg(floor.0)).await
    }

    async fn bar(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<bool> {
        let keys = PathKeys::of(uid);
        let lately = REPORT_AGE_MAX.as_millis() as u64;
        let unborn = serde_json::to_string(&Report::of_unborn(worker))
            .map_err(|error| PortError::new(&self.url, error))?;
        let mut script = self.scripts.bar.key(&keys.reports);
        self.done(script.key(&keys.released).arg(worker.as_str()).arg(lately).arg(unborn)).await
    }

    async fn release(&self, uid: &WorkloadUid, worker: &WorkerId, boot: &BootId) -> Asked<bool> {
        let keys = PathKeys::of(uid);
        let mut script = self.scripts.release.key(&keys.reports);
        self.done(script.key(&keys.released).arg(worker.as_str()).arg(boot.as_str())).await
    }

    async fn forget(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()> {
        let keys = PathKeys::of(uid);
        let mut script = self.scripts.forget.key(&keys.reports);
        self.done(script.key(&keys.released).arg(worker.as_str())).await.map(|_| ())
    }

    async fn count(&self, uid: &WorkloadUid, counting: Counting<'_>) -> Asked<u64> {
        let mut script = self.scripts.count.key(PathKeys::of(uid).counted);
        let known = counting.known.map(|known| known.to_string()).unwrap_or_default();
        script.arg(counting.queue).arg(known).arg(counting.last).arg(counting.by);
        self.run(&script).await
    }
}

/// `NUMBER:WHY:TASKS:HOLDER`.
fn parse_entry(text: &str) -> Option<Interruption> {
    let (number, rest) = text.split_once(':')?;
    let (why, rest) = rest.split_once(':')?;
    let (tasks, holder) = rest.split_once(':')?;
    Some(interruption(number.parse().ok()?, why, tasks.parse().ok()?, holder))
}

fn parse_offer(state: &str) -> Offer {
    match state.split_once(':') {
        None if state == "open" => Offer::Open(None),
        Some(("open", worker)) => Offer::Open(Some(WorkerId::new(worker))),
        Some(("claimed", worker)) => Offer::Claimed(WorkerId::new(worker)),
        _ => Offer::Withdrawn,
    }
}

/// `MILLISECONDS:EPOCH:REPORT`. One that cannot be read is of a worker that cannot be counted on.
fn parse_report(text: &str, now: u64) -> Option<Received> {
    let (at, rest) = text.split_once(':')?;
    let (epoch, report) = rest.split_once(':')?;
    Some(Received {
        report: serde_json::from_str(report).ok()?,
        epoch: (!epoch.is_empty()).then(|| Epoch::new(epoch)),
        age_ms: now.saturating_sub(at.parse().ok()?),
        released: false,
    })
}
