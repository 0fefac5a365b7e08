//! A workload that lives: tasks arrive in waves, workers do them, the rule decides twice a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qscaler_core::catalog::{Catalog, Found};
use qscaler_core::decide::{Question, decide};
use qscaler_core::fleet::{Process, Seen, muster};
use qscaler_core::ledger::Ledger;
use qscaler_core::memory::{Done, Memory};
use qscaler_core::observe::{Reading, signals};
use qscaler_core::record::used_signals;
use qscaler_core::rule::Policy;
use qscaler_core::signal::Measure;
use qscaler_core::time::Time;
use qscaler_core::workload::Queue;
use qscaler_protocol::PROTOCOL;
use qscaler_protocol::name::{BootId, Epoch, WorkerId};
use qscaler_protocol::path::Path;
use qscaler_protocol::report::{Durations, Received, Report, State};

const WORKERS: u64 = 4;

/// The policy of a rule file with its default parameters.
pub(crate) fn policy(text: &str) -> Policy {
    let found = Found { path: "rule.yaml".into(), text: Ok(text.into()) };
    let update = Catalog::default().update(vec![found]);
    let rule = update.catalog.rules().next().cloned().unwrap_or_else(|| panic!("{:?}", update.problems));
    Policy::bind(rule, &BTreeMap::new()).unwrap()
}

/// The workload.
pub(crate) struct Life {
    policy: Arc<Policy>,
    pub(crate) memory: Memory,
    queues: Vec<Queue>,
    fleet: Vec<Seen>,
    reports: BTreeMap<WorkerId, Received>,
    ledger: Ledger,
    now: Time,
    arrived: u64,
}

impl Life {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        let epoch = Epoch::new("epoch");
        let worker = |number: u64| {
            let id = WorkerId::from_random(number);
            Seen::new(id, format!("mail-{number}"), Process::Running, Time(0))
        };
        let fleet: Vec<_> = (1..=WORKERS).map(worker).collect();
        let reports = fleet.iter().map(|seen| (seen.id.clone(), first_report(&seen.id, &epoch))).collect();
        Self {
            policy,
            memory: Memory::default(),
            queues: vec![Queue { name: "mail".into(), share: 1.0 }],
            fleet,
            reports,
            ledger: Ledger { epoch: Some(epoch), ..Ledger::default() },
            now: Time(1_767_571_200_000),
            arrived: 0,
        }
    }

    /// Lives that long.
    pub(crate) fn live(&mut self, seconds: usize) {
        for _ in 0..2 * seconds {
            self.tick();
        }
    }

    /// Half a second: what is measured, what is decided, what is remembered.
    pub(crate) fn tick(&mut self) {
        let question = self.question();
        let decision = decide(&self.policy, &question);
        self.memory.remember(&self.policy, &decision, Done::default(), self.now);
    }

    /// Measures, and asks what should be decided.
    pub(crate) fn question(&mut self) -> Question {
        self.now = self.now + Duration::from_millis(500);
        let wave = self.now.0.rem_euclid(60_000) as u64 / 6_000;
        self.arrived += wave;
        self.work(wave);
        let measures = BTreeMap::from([(
            "mail".to_owned(),
            Measure { length: wave * 3, inflight: 4, arrived: self.arrived, ..Measure::default() },
        )]);
        let members = muster(&self.ledger, &Path::default(), &self.reports, self.fleet.clone(), self.now);
        let reading = Reading {
            measures: Ok(&measures),
            measured_at: self.now,
            queues: &self.queues,
            members: &members,
            reports: &self.reports,
            current: WORKERS as u32,
        };
        let mut samples = signals(&reading, &self.policy, &mut self.memory, self.now);
        self.memory.resume(&self.policy, WORKERS as u32, self.now);
        self.memory.feed(&self.policy, &samples, self.now);
        Question {
            at: self.now,
            wall: self.now,
            current: WORKERS as u32,
            windows: self.memory.read(&self.policy, self.now),
            signals: used_signals(&self.policy.rule).filter_map(|name| samples.remove_entry(name)).collect(),
            history: self.memory.history.clone(),
            ..Question::default()
        }
    }

    /// Every second second one of the workers has done a task, short and long ones by turns.
    fn work(&mut self, wave: u64) {
        if self.now.0 % 2000 != 0 {
            return;
        }
        let worker = self.fleet[(self.arrived % WORKERS) as usize].id.clone();
        let report = &mut self.reports.get_mut(&worker).unwrap().report;
        let ms = 200 + wave * wave * 60;
        report.done += 1;
        report.busy_ms += ms;
        report.durations.add(ms);
    }
}

fn first_report(worker: &WorkerId, epoch: &Epoch) -> Received {
    let report = Report {
        protocol: PROTOCOL,
        worker: worker.clone(),
        boot: BootId::from_random(1),
        state: State::Busy,
        state_ms: 1000,
        slots: 1,
        busy_slots: 1,
        done: 0,
        failed: 0,
        late_acks: 0,
        busy_ms: 0,
        durations: Durations::default(),
        claim: None,
        epoch: Some(epoch.clone()),
        pid: None,
    };
    Received { report, epoch: Some(epoch.clone()), age_ms: 100, released: false }
}
