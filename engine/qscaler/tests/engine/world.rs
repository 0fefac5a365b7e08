//! A world in memory for the engine's loop: a queue, workers with the real lifecycle, a store and a
//! platform, all moved by one seed on a clock that does not wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use qscaler::event::Event;
use qscaler::ports::{
    Adopt, Asked, Clock, Connect, ControlPath, Freshness, Job, Listen, Platform, PortError, Ports,
    QueueSystem, Randomness, Source, Spawn, Store, Version,
};
use qscaler_core::document::rule::RuleDocument;
use qscaler_core::fleet::{Process, Seen};
use qscaler_core::ledger::Ledger;
use qscaler_core::record::Line;
use qscaler_core::resize::{Exact, Hindrance, Used};
use qscaler_core::signal::Measure;
use qscaler_core::time::Time;
use qscaler_core::workload::{self, Workload};
use qscaler_protocol::PROTOCOL;
use qscaler_protocol::lifecycle::{Action, Input, Lifecycle};
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::{Offer, Path, Withdrawal};
use qscaler_protocol::report::{Answer, Durations, Received, Report};

/// Xorshift, the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// The world moves in steps of this length.
const STEP: Duration = Duration::from_millis(100);

struct Worker {
    seen: Seen,
    life: Lifecycle,
    todo: VecDeque<Action>,
    /// When its process runs and, later, when its task ends.
    ready_at: Time,
    task_until: Option<Time>,
    done: u64,
    busy_ms: u64,
    reported_at: Option<Time>,
}

impl Worker {
    fn new(seen: Seen, ready_at: Time) -> Self {
        Self {
            seen,
            life: Lifecycle::new(1),
            todo: VecDeque::new(),
            ready_at,
            task_until: None,
            done: 0,
            busy_ms: 0,
            reported_at: None,
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    ledger: (i64, Ledger),
    path: Path,
    reports: BTreeMap<WorkerId, (Report, Option<Epoch>, Time, bool)>,
    workers: BTreeMap<String, Worker>,
    waiting: VecDeque<Time>,
    arrived: u64,
    departed: u64,
    checkpoint: Option<String>,
    pub(crate) events: Vec<String>,
    pub(crate) lines: Vec<Line>,
    pub(crate) interrupted: usize,
    /// Of workers that have not claimed an offer; those that have are on their way out.
    pub(crate) most_workers: usize,
    /// Workers never report: nobody knows what they do.
    pub(crate) silent: bool,
    /// The source and the control path answer nothing.
    pub(crate) down: bool,
    /// What containers use is asked in vain: there is no answer.
    pub(crate) mute: bool,
    /// Tasks per 1,000 steps.
    pub(crate) arrivals_per_mille: u64,
    /// When each worker was started.
    pub(crate) starts: Vec<Time>,
}

/// The world, as every port.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: Arc<Mutex<State>>,
    random: Arc<Mutex<Random>>,
    began: Instant,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: Arc::default(), random: Arc::new(Mutex::new(Random::new(seed))), began: Instant::now() }
    }

    pub(crate) fn ports(&self) -> Ports {
        let world = Arc::new(self.clone());
        Ports {
            clock: world.clone(),
            random: world.clone(),
            spawn: world.clone(),
            listen: world.clone(),
            store: world.clone(),
            connect: world.clone(),
            platform: world,
        }
    }

    pub(crate) fn at<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub(crate) fn put_task(&self) {
        let now = self.now();
        self.at(|state| {
            state.waiting.push_back(now);
            state.arrived += 1;
        });
    }

    /// Puts a worker there that was made of an older template and never gets a process.
    pub(crate) fn put_unborn(&self, name: &str) {
        let (id, now) = (WorkerId::from_random(self.bits()), self.now());
        let seen = Seen { outdated: true, ..Seen::new(id, name, Process::Waiting, now) };
        let never = now + Duration::from_secs(365 * 24 * 3600);
        self.at(|state| state.workers.insert(name.to_owned(), Worker::new(seen, never)));
    }

    pub(crate) fn workers(&self) -> usize {
        self.at(|state| state.workers.len())
    }

    /// Moves tasks and workers until the test ends.
    pub(crate) fn begin(&self) {
        let world = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                world.step();
            }
        });
    }

    fn draw(&self, limit: u64) -> u64 {
        self.random.lock().unwrap().below(limit)
    }

    fn step(&self) {
        let now = self.now();
        let rate = self.at(|state| state.arrivals_per_mille);
        for _ in 0..=rate / 1000 {
            if self.draw(1000) < rate.min(1000) {
                self.put_task();
            }
        }
        let names: Vec<_> = self.at(|state| state.workers.keys().cloned().collect());
        for name in names {
            let luck = self.draw(1 << 40);
            self.at(|state| state.step_worker(&name, now, luck));
        }
        self.at(|state| {
            let staying = state.workers.values().filter(|worker| worker.life.claim().is_none()).count();
            state.most_workers = state.most_workers.max(staying);
        });
    }

    async fn delay(&self) {
        let ms = self.draw(40);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn reach(&self) -> Asked<()> {
        if self.at(|state| state.down) { Err(PortError::new("world", "down")) } else { Ok(()) }
    }
}

impl State {
    fn step_worker(&mut self, name: &str, now: Time, luck: u64) {
        let (silent, down) = (self.silent, self.down);
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.ready_at > now {
            return;
        }
        let id = worker.seen.id.clone();
        let mut inputs = vec![];
        if worker.task_until.is_some_and(|until| until <= now) {
            worker.task_until = None;
            worker.done += 1;
            self.departed += 1;
            inputs.push(Input::TaskEnded);
        }
        let due = worker.reported_at.is_none_or(|at| now.since(at) >= Duration::from_secs(1));
        if silent {
            if worker.reported_at.is_none() {
                worker.reported_at = Some(now);
                inputs.push(Input::Answered(Answer::default()));
            }
        } else if !down && (due || worker.todo.contains(&Action::Report)) {
            worker.todo.retain(|action| *action != Action::Report);
            worker.reported_at = Some(now);
            let drained = worker.life.state() == qscaler_protocol::report::State::Drained;
            let report = report(worker);
            let released = self.reports.get(&id).is_some_and(|it| it.3);
            self.reports.insert(id.clone(), (report, self.path.epoch.clone(), now, released));
            inputs.push(Input::Answered(Answer {
                epoch: self.path.epoch.clone(),
                opening: self.path.opening(&id),
                claim: self.path.claim_of(&id),
                released,
            }));
            if drained {
                inputs.push(Input::Reported);
            }
        }
        match worker.todo.pop_front() {
            Some(Action::Claim) if !down => {
                let epoch = self.path.epoch.clone();
                inputs.push(Input::Claimed(epoch.and_then(|epoch| self.path.claim(&epoch, &id))));
            }
            Some(Action::RunHook) => inputs.push(Input::HookEnded),
            Some(Action::Leave) => {
                if worker.task_until.is_some() {
                    self.interrupted += 1;
                }
                self.workers.remove(name);
                return;
            }
            Some(action) => worker.todo.push_back(action),
            None => {}
        }
        if worker.life.may_fetch() && !down && !self.waiting.is_empty() {
            self.waiting.pop_front();
            let seconds = 1 + luck % 9;
            worker.task_until = Some(now + Duration::from_secs(seconds));
            worker.busy_ms += seconds * 1000;
            inputs.push(Input::FetchStarted);
            inputs.push(Input::FetchEnded { task: true });
        }
        for input in inputs {
            let actions = worker.life.step(input);
            worker.todo.extend(actions);
        }
    }
}

fn report(worker: &Worker) -> Report {
    let mut durations = Durations::default();
    (0..worker.done).for_each(|_| durations.add(5_000));
    Report {
        protocol: PROTOCOL,
        worker: worker.seen.id.clone(),
        boot: BootId::new("boot"),
        state: worker.life.state(),
        state_ms: 0,
        slots: worker.life.slots(),
        busy_slots: worker.life.busy(),
        done: worker.done,
        failed: 0,
        late_acks: 0,
        busy_ms: worker.busy_ms,
        durations,
        claim: worker.life.claim(),
        epoch: worker.life.counts_in().cloned(),
        pid: None,
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> Time {
        Time(1_767_600_000_000) + self.began.elapsed()
    }

    fn wall(&self) -> Time {
        Clock::now(self)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl World {
    pub(crate) fn now(&self) -> Time {
        Clock::now(self)
    }
}

impl Randomness for World {
    fn bits(&self) -> u64 {
        self.draw(1 << 52)
    }
}

impl Spawn for World {
    fn spawn(&self, job: Job) {
        tokio::spawn(job);
    }
}

impl Listen for World {
    fn hear(&self, event: &Event) {
        let at = self.now();
        self.at(|state| state.events.push(format!("{at} {event:?}")));
    }
}

#[async_trait]
impl Store for World {
    async fn uid(&self, workload: &str, _fresh: WorkloadUid) -> Asked<WorkloadUid> {
        Ok(WorkloadUid::new(workload))
    }

    fn lags(&self) -> bool {
        false
    }

    async fn ledger(&self, _uid: &WorkloadUid, _freshness: Freshness) -> Asked<(Version, Ledger)> {
        Ok(self.at(|state| (Version(state.ledger.0.to_string()), state.ledger.1.clone())))
    }

    async fn commit(&self, _uid: &WorkloadUid, read: &Version, ledger: &Ledger) -> Asked<bool> {
        self.delay().await;
        Ok(self.at(|state| {
            let current = state.ledger.0.to_string() == read.0;
            if current {
                state.ledger = (state.ledger.0 + 1, ledger.clone());
            }
            current
        }))
    }

    fn checkpoint_every(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn checkpoint(&self, _uid: &WorkloadUid) -> Asked<Option<String>> {
        Ok(self.at(|state| state.checkpoint.clone()))
    }

    async fn keep_checkpoint(&self, _uid: &WorkloadUid, text: &str) -> Asked<()> {
        self.at(|state| state.checkpoint = Some(text.to_owned()));
        Ok(())
    }

    async fn put_aside(&self, _uid: &WorkloadUid, _text: &str) -> Asked<()> {
        Ok(())
    }

    async fn record(&self, _uid: &WorkloadUid, line: &Line, _rule: &RuleDocument) -> Asked<()> {
        self.at(|state| state.lines.push(line.clone()));
        Ok(())
    }
}

#[async_trait]
impl Connect for World {
    async fn connect(&self, _source: &workload::Source) -> Asked<QueueSystem> {
        self.reach()?;
        let world = Arc::new(self.clone());
        Ok(QueueSystem { source: world.clone(), control: world })
    }
}

#[async_trait]
impl Source for World {
    async fn measure(&self, queues: &[String]) -> Asked<BTreeMap<String, Measure>> {
        self.delay().await;
        self.reach()?;
        let now = self.now();
        let measure = self.at(|state| Measure {
            length: state.waiting.len() as u64,
            inflight: state.workers.values().filter(|worker| worker.task_until.is_some()).count() as u64,
            arrived: state.arrived,
            departed: state.departed,
            oldest: state.waiting.front().map(|since| now.since(*since).as_secs_f64()),
            ..Measure::default()
        });
        Ok(queues.iter().map(|queue| (queue.clone(), measure)).collect())
    }
}

#[async_trait]
impl ControlPath for World {
    async fn read(&self, _uid: &WorkloadUid) -> Asked<(Path, BTreeMap<WorkerId, Received>)> {
        self.delay().await;
        self.reach()?;
        let now = self.now();
        Ok(self.at(|state| {
            let received = |(worker, (report, epoch, at, released)): (
                &WorkerId,
                &(Report, Option<Epoch>, Time, bool),
            )| {
                let age_ms = u64::try_from(now.since(*at).as_millis()).unwrap();
                let received =
                    Received { report: report.clone(), epoch: epoch.clone(), age_ms, released: *released };
                (worker.clone(), received)
            };
            (state.path.clone(), state.reports.iter().map(received).collect())
        }))
    }

    async fn adopt(&self, _uid: &WorkloadUid, adopt: Adopt<'_>) -> Asked<bool> {
        self.delay().await;
        self.reach()?;
        Ok(self.at(|state| state.path.adopt(adopt.seen, adopt.epoch.clone(), adopt.floor, adopt.claims)))
    }

    async fn project(
        &self,
        _uid: &WorkloadUid,
        epoch: &Epoch,
        offers: &BTreeMap<OfferId, Offer>,
    ) -> Asked<bool> {
        self.delay().await;
        self.reach()?;
        Ok(self.at(|state| state.path.project(epoch, offers)))
    }

    async fn withdraw(&self, _uid: &WorkloadUid, epoch: &Epoch, offer: OfferId) -> Asked<Withdrawal> {
        self.delay().await;
        self.reach()?;
        Ok(self.at(|state| state.path.withdraw(epoch, offer)))
    }

    async fn raise_floor(&self, _uid: &WorkloadUid, epoch: &Epoch, floor: OfferId) -> Asked<bool> {
        self.reach()?;
        Ok(self.at(|state| state.path.raise_floor(epoch, floor)))
    }

    async fn release(&self, _uid: &WorkloadUid, worker: &WorkerId, _boot: &BootId) -> Asked<bool> {
        self.reach()?;
        Ok(self.at(|state| state.reports.get_mut(worker).map(|it| it.3 = true).is_some()))
    }

    async fn forget(&self, _uid: &WorkloadUid, worker: &WorkerId) -> Asked<()> {
        self.reach()?;
        self.at(|state| state.reports.remove(worker));
        Ok(())
    }
}

#[async_trait]
impl Platform for World {
    async fn usage(&self, _uid: &WorkloadUid) -> Asked<Used> {
        if self.at(|state| state.mute) {
            std::future::pending::<()>().await;
        }
        Ok(Used::new())
    }

    async fn fleet(
        &self,
        _uid: &WorkloadUid,
        _workload: &Workload,
        _freshness: Freshness,
    ) -> Asked<Vec<Seen>> {
        Ok(self.at(|state| state.workers.values().map(|worker| worker.seen.clone()).collect()))
    }

    async fn start(
        &self,
        _uid: &WorkloadUid,
        _workload: &Workload,
        name: &str,
        _sizes: &BTreeMap<String, Exact>,
    ) -> Asked<Option<Hindrance>> {
        self.delay().await;
        let now = self.now();
        let id = WorkerId::from_random(self.bits());
        let starts_in = Duration::from_millis(200 + self.draw(600));
        self.at(|state| {
            state.starts.push(now);
            let seen = Seen::new(id, name, Process::Running, now);
            let worker = Worker::new(seen, now + starts_in);
            state.workers.entry(name.to_owned()).or_insert(worker);
        });
        Ok(None)
    }

    async fn remove(&self, _uid: &WorkloadUid, _worker: &WorkerId) -> Asked<bool> {
        Ok(false)
    }

    async fn delete(&self, _uid: &WorkloadUid, _worker: &WorkerId) -> Asked<()> {
        Ok(())
    }

    async fn terminate(&self, _uid: &WorkloadUid, worker: &WorkerId, _grace: Duration) -> Asked<()> {
        self.at(|state| {
            if let Some(worker) = state.workers.values_mut().find(|it| it.seen.id == *worker) {
                worker.seen.process = Process::Ending;
                let actions = worker.life.step(Input::Told);
                worker.todo.extend(actions);
            }
        });
        Ok(())
    }
}
