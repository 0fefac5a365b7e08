//! Workers as processes of this machine.
//!
//! Every worker is a row of the state file before it is a process, so that engines that share the
//! file, or follow each other, agree on who there is. A row changes only from the state that was
//! read: of two engines that would start its process, one does. Processes lead sessions of their own
//! and write to files; an engine that ends, even by SIGKILL, leaves them working, and the next one
//! finds them by process id and birth, or by the incarnation in their environment.

mod process;
mod row;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use qscaler_core::fleet::{Inside, Part, Seen, Usage};
use qscaler_core::interrupted::{self, Fate};
use qscaler_core::resize::{Exact, Hindrance, Used};
use qscaler_core::time::Time;
use qscaler_core::vertical::{ContainerKind, Measured, Resources};
use qscaler_core::workload::Workload;
use qscaler_protocol::environment;
use qscaler_protocol::name::{WorkerId, WorkloadUid};

use crate::clock::wall_clock;
use crate::host::{self, End, SessionUse};
use crate::ports::{Asked, Freshness, Platform, PortError, Randomness};
use crate::store::SqliteStore;

use process::{Ending, Recipe};
use row::{Row, Rows, State};

/// What rules call the process of a worker, where pods have containers.
const PROCESS: &str = "worker";
/// Processor time is averaged over at least this long.
const USAGE_EVERY: Duration = Duration::from_secs(2);
/// A process that ran this long before it ended badly is started again at once.
const STABLE: Duration = Duration::from_secs(60);
/// The pause before another start: doubled for each start in a row that ended soon.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// This machine.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    rows: Rows,
    logs: PathBuf,
    random: Arc<dyn Randomness>,
    engine: String,
    /// Processes that somebody here waits for, by incarnation.
    watched: Mutex<BTreeMap<WorkerId, u32>>,
    usage: Mutex<UsageSample>,
}

#[derive(Default)]
struct UsageSample {
    at: Option<Time>,
    sessions: BTreeMap<u32, SessionUse>,
    rates: BTreeMap<u32, Usage>,
}

impl Local {
    /// The machine, with its rows in `store` and the workers' output under `folder/logs`.
    pub fn new(store: SqliteStore, folder: &Path, random: Arc<dyn Randomness>) -> Self {
        let pid = std::process::id();
        let engine = format!("{pid} {}", host::born(pid).unwrap_or_default());
        let inner = Inner {
            rows: Rows::new(store),
            logs: folder.join("logs"),
            random,
            engine,
            watched: Mutex::default(),
            usage: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    fn fresh_worker(&self) -> WorkerId {
        WorkerId::from_random(self.inner.random.bits())
    }

    /// Brings one row and its process together: starts what is due, notices what has ended.
    async fn tend(&self, row: Row) -> Asked<Option<Row>> {
        let now = wall_clock();
        match row.state {
            State::Waiting | State::BackOff if row.not_before <= now => self.spawn(row).await,
            State::Waiting | State::BackOff => Ok(Some(row)),
            State::Spawning => self.find(row).await,
            State::Running | State::Ending => {
                if let Some(at) = row.kill_at.filter(|at| *at <= now) {
                    tracing::warn!(
                        worker = row.name,
                        late_ms = now.since(at).as_millis(),
                        "kill: its grace period is over"
                    );
                    host::signal_group(row.pid, &row.born, End::Kill);
                }
                if row.is_alive() {
                    self.watch(&row);
                    return Ok(Some(row));
                }
                // The engine that started it knows how it ended and is about to write that down.
                if self.is_watched(&row.worker) || (row.engine != self.inner.engine && is_alive(&row.engine))
                {
                    return Ok(Some(row));
                }
                self.note_end(&row.worker, &Ending::unknown()).await?;
                self.inner.rows.one(&row.worker).await
            }
        }
    }

    async fn spawn(&self, row: Row) -> Asked<Option<Row>> {
        let worker = if row.state == State::BackOff { self.fresh_worker() } else { row.worker.clone() };
        if !self.inner.rows.begin(&row, &worker, &self.inner.engine).await? {
            return self.inner.rows.named(&row.uid, &row.name).await;
        }
        let mut environment = row.recipe.environment.clone();
        let url = match row.recipe.address() {
            Ok(url) => url,
            Err(error) => return self.never_began(&worker, error.to_string()).await,
        };
        environment.insert(environment::QUEUE_URL.into(), url);
        environment.insert(environment::WORKLOAD.into(), row.uid.to_string());
        environment.insert(environment::WORKER.into(), worker.to_string());
        environment.insert(environment::WORKER_NAME.into(), row.name.clone());
        environment.insert(environment::GRACE_SECONDS.into(), row.recipe.grace_seconds.to_string());
        let log = self.inner.logs.join(format!("{}.log", row.name));
        match process::spawn(&row.recipe, &environment, &log) {
            Ok(child) => {
                let pid = child.id().unwrap_or_default();
                let born = host::child_born(pid).unwrap_or_default();
                self.inner.rows.running(&worker, pid, &born).await?;
                self.lock_watched().insert(worker.clone(), pid);
                let local = self.clone();
                let waited = worker.clone();
                tokio::spawn(async move {
                    let ending = process::wait(child, pid).await;
                    local.ended(&waited, &ending).await;
                });
            }
            Err(error) => {
                let command = row.recipe.command.first().cloned().unwrap_or_default();
                return self.never_began(&worker, format!("cannot start `{command}`: {error}")).await;
            }
        }
        self.inner.rows.one(&worker).await
    }

    async fn never_began(&self, worker: &WorkerId, reason: String) -> Asked<Option<Row>> {
        self.note_end(worker, &Ending::never_began(reason)).await?;
        self.inner.rows.one(worker).await
    }

    /// An engine had begun to start this process and may have been killed before it wrote down which.
    async fn find(&self, row: Row) -> Asked<Option<Row>> {
        if row.engine == self.inner.engine || is_alive(&row.engine) {
            return Ok(Some(row));
        }
        match host::find_by_environment(environment::WORKER, row.worker.as_str()) {
            Some(pid) => {
                let born = host::born(pid).unwrap_or_default();
                self.inner.rows.running(&row.worker, pid, &born).await?;
            }
            None => self.inner.rows.wait_again(&row).await?,
        }
        self.inner.rows.one(&row.worker).await
    }

    /// Waits for the end of a process that another engine has started.
    fn watch(&self, row: &Row) {
        let mut watched = self.lock_watched();
        if watched.contains_key(&row.worker) {
            return;
        }
        watched.insert(row.worker.clone(), row.pid);
        drop(watched);
        let (local, worker, pid) = (self.clone(), row.worker.clone(), row.pid);
        tokio::spawn(async move {
            if let Err(error) = host::ended(pid).await {
                tracing::warn!(%error, pid, "cannot wait for a worker; looking at it at every tick instead");
            }
            local.ended(&worker, &Ending::unknown()).await;
        });
    }

    async fn ended(&self, worker: &WorkerId, ending: &Ending) {
        if let Err(error) = self.note_end(worker, ending).await {
            tracing::warn!(%error, "cannot write down that a worker has ended; its row is looked at again");
        }
        self.lock_watched().remove(worker);
    }

    /// A worker that was told to end is gone; any other starts again, later the more often it failed.
    /// Whether one that drained should is the plan's business: it removes that row.
    async fn note_end(&self, worker: &WorkerId, ending: &Ending) -> Asked<()> {
        let Some(row) = self.inner.rows.one(worker).await? else { return Ok(()) };
        if row.pid > 0 {
            // What it left behind in its group would work on unseen.
            host::signal_group(row.pid, &row.born, End::Kill);
        }
        if row.state == State::Ending {
            return self.inner.rows.delete(worker).await;
        }
        let end = Some(interrupted::End { how: ending.how, at: wall_clock() });
        self.inner.rows.ended(&row, &Fate { worker: worker.clone(), end, going: None }).await?;
        let ran = row.started.map_or(Duration::ZERO, |since| wall_clock().since(since));
        let failures = if ran >= STABLE { 0 } else { row.failures + 1 };
        let pause = (BACK_OFF.0 * 2_u32.saturating_pow(failures.saturating_sub(1)).min(512)).min(BACK_OFF.1);
        let pause = if failures == 0 { Duration::ZERO } else { pause };
        tracing::warn!(worker = row.name, how = %ending, "a worker's process has ended; unless it is let go it starts again in {pause:?}");
        self.inner.rows.back_off(worker, &ending.to_string(), failures, wall_clock() + pause).await
    }

    fn is_watched(&self, worker: &WorkerId) -> bool {
        self.lock_watched().contains_key(worker)
    }

    fn lock_watched(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkerId, u32>> {
        self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usage_of_sessions(&self) -> BTreeMap<u32, Usage> {
        let mut sample = self.inner.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let now = wall_clock();
        let passed = sample.at.map(|at| now.since(at));
        if passed.is_some_and(|passed| passed < USAGE_EVERY) {
            return sample.rates.clone();
        }
        let sessions = host::sessions();
        let seconds = passed.unwrap_or_default().as_secs_f64();
        sample.rates = sessions
            .iter()
            .filter_map(|(leader, used)| {
                let before = sample.sessions.get(leader)?;
                let cpu = ((used.cpu_seconds - before.cpu_seconds) / seconds).max(0.0);
                Some((*leader, Usage { cpu, memory: used.memory }))
            })
            .collect();
        sample.sessions = sessions;
        sample.at = Some(now);
        sample.rates.clone()
    }
}

/// Whether the engine of this mark still runs.
fn is_alive(engine: &str) -> bool {
    let Some((pid, born)) = engine.split_once(' ') else { return false };
    pid.parse().ok().and_then(host::born).is_some_and(|now| now == born)
}

#[async_trait]
impl Platform for Local {
    async fn fleet(&self, uid: &WorkloadUid, workload: &Workload, _freshness: Freshness) -> Asked<Vec<Seen>> {
        let mut fleet = vec![];
        let usage = self.usage_of_sessions();
        for row in self.inner.rows.of(uid).await? {
            if let Some(row) = self.tend(row).await? {
                let mut seen = row.seen(usage.get(&row.pid).copied());
                if workload.sized {
                    let since = Some(seen.since);
                    seen.containers = vec![Inside { name: PROCESS.into(), since, ..Inside::default() }];
                }
                fleet.push(seen);
            }
        }
        Ok(fleet)
    }

    async fn start(
        &self,
        uid: &WorkloadUid,
        workload: &Workload,
        name: &str,
        _sizes: &BTreeMap<String, Exact>,
    ) -> Asked<Option<Hindrance>> {
        let recipe = Recipe::of(workload)?;
        self.inner.rows.create(uid, name, &self.fresh_worker(), &recipe).await?;
        if let Some(row) = self.inner.rows.named(uid, name).await? {
            self.tend(row).await?;
        }
        Ok(None)
    }

    fn parts(&self, _workload: &Workload) -> Vec<Part> {
        vec![Part { name: PROCESS.into(), kind: ContainerKind::Main, template: Resources::default() }]
    }

    async fn usage(&self, uid: &WorkloadUid) -> Asked<Used> {
        let (usage, at) = (self.usage_of_sessions(), wall_clock());
        let used = |row: Row| {
            let Usage { cpu, memory } = *usage.get(&row.pid)?;
            let measured = Measured { at, cpu: Some(cpu), memory: Some(memory) };
            Some(((row.worker, PROCESS.to_owned()), measured))
        };
        Ok(self.inner.rows.of(uid).await?.into_iter().filter_map(used).collect())
    }

    async fn remove(&self, _uid: &WorkloadUid, worker: &WorkerId) -> Asked<bool> {
        self.inner.rows.delete_if_no_process(worker).await?;
        Ok(self.inner.rows.one(worker).await?.is_none())
    }

    async fn delete(&self, _uid: &WorkloadUid, _worker: &WorkerId) -> Asked<()> {
        // Its process has ended, or does so by itself; its row goes with it.
        Ok(())
    }

    async fn terminate(&self, _uid: &WorkloadUid, worker: &WorkerId, grace: Duration) -> Asked<()> {
        let Some(row) = self.inner.rows.one(worker).await? else { return Ok(()) };
        if row.state == State::Ending {
            return Ok(());
        }
        if !self.inner.rows.ending(worker, wall_clock() + grace).await? {
            return Err(PortError::new(format!("end {}", row.name), "it has no process by now"));
        }
        host::signal_group(row.pid, &row.born, End::Ask);
        Ok(())
    }
}
