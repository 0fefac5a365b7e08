//! One state of the whole: ledger, control path, workers, engines, queue, and what has gone wrong.

use std::collections::BTreeMap;

use qscaler_core::ledger::Ledger;
use qscaler_protocol::PROTOCOL;
use qscaler_protocol::name::{Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Opening, Path};
use qscaler_protocol::report::{Answer, Durations, Received, Report, State};

use super::engine::Engine;
use super::setting::{Detail, Faults, Setting, Weakening};
use super::shared::Shared;
use super::worker::Worker;

pub(super) type Reports = BTreeMap<WorkerId, Received>;

/// What must never happen has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) String);

/// What has been done so far, for the promises that count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tally {
    pub(super) grants: u8,
    pub(super) withdrawals: u8,
    /// Who has ever claimed what. Numbers begin again only in another epoch.
    pub(super) claims: BTreeMap<(Epoch, OfferId), WorkerId>,
    /// Claims, also those of an id that somebody had claimed before.
    pub(super) claim_count: u8,
    /// A worker was evicted, told to end or killed: from then on fewer may run than were ever desired.
    pub(super) harmed: bool,
    /// A plan has granted more than could be spared in the state that it was made of.
    pub(super) overdrawn: bool,
}

/// An older state that may come back.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Older {
    pub(super) ledger: Option<Shared<Ledger>>,
    pub(super) path: Option<(Shared<Path>, Shared<Reports>)>,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct World {
    /// Where the walk of desired numbers stands.
    pub(super) at: usize,
    pub(super) ledger: Shared<Ledger>,
    pub(super) path: Shared<Path>,
    pub(super) reports: Shared<Reports>,
    /// By name.
    pub(super) workers: Vec<Worker>,
    /// How many incarnations each name has had.
    pub(super) born: BTreeMap<String, u8>,
    pub(super) engines: Vec<Engine>,
    /// Tasks that wait.
    pub(super) waiting: u8,
    /// Tasks whose holder's process is dead, until their leases are over.
    pub(super) stray: u8,
    /// Faults that may still strike.
    pub(super) faults: Faults,
    pub(super) older: Older,
    pub(super) tally: Shared<Tally>,
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let mut world = Self {
            at: 0,
            ledger: Shared::new(Ledger::default()),
            path: Shared::new(Path::default()),
            reports: Shared::new(Reports::new()),
            workers: vec![],
            born: BTreeMap::new(),
            engines: vec![Engine::Resting; setting.engines],
            waiting: setting.tasks,
            stray: 0,
            faults: setting.faults,
            older: Older::default(),
            tally: Shared::new(Tally::default()),
        };
        if !setting.has(Detail::Empty) {
            world.settle(setting);
        }
        world
    }

    /// As it is when the first number of workers has been running for a while.
    fn settle(&mut self, setting: &Setting) {
        let epoch = Epoch::new("first");
        self.ledger.change(|ledger| ledger.epoch = Some(epoch.clone()));
        self.path.change(|path| path.adopt(None, epoch, OfferId(0), &BTreeMap::new()));
        for number in 1..=setting.walk[0] {
            self.create(&format!("w-{number}"), setting);
            let place = self.workers.len() - 1;
            self.workers[place].outdated = number <= setting.outdated;
            self.workers[place].boot(setting);
            let answer = self.store_report(self.report(place));
            self.workers[place].answered(answer);
            let answer = self.store_report(self.report(place));
            self.workers[place].answered(answer);
        }
    }

    /// How many workers are desired now.
    pub(super) fn desired(&self, setting: &Setting) -> u32 {
        setting.walk[self.at]
    }

    /// Creates a worker, unless the name is taken or no place is left.
    pub(super) fn create(&mut self, name: &str, setting: &Setting) {
        if self.workers.len() >= setting.places || self.workers.iter().any(|it| it.name == name) {
            return;
        }
        let id = self.incarnation(name, setting);
        let mut worker = Worker::new(name, id, setting.slots);
        if !setting.has(Detail::Pending) {
            worker.boot(setting);
        }
        self.workers.push(worker);
        self.workers.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// The worker as it says itself.
    pub(super) fn report(&self, place: usize) -> Report {
        let worker = &self.workers[place];
        Report {
            protocol: PROTOCOL,
            worker: worker.id.clone(),
            boot: worker.boot_id(),
            state: worker.life.state(),
            state_ms: 0,
            slots: worker.life.slots(),
            busy_slots: worker.life.busy(),
            done: u64::from(worker.proved),
            failed: 0,
            late_acks: 0,
            busy_ms: 0,
            durations: Durations::default(),
            claim: worker.life.claim(),
            epoch: worker.life.counts_in().cloned(),
            pid: None,
        }
    }

    /// What the control path does with a report: stores it and answers, in one step.
    pub(super) fn store_report(&mut self, report: Report) -> Answer {
        let answer = self.answer(&report.worker);
        let received = Received { report, epoch: answer.epoch.clone(), age_ms: 0, released: answer.released };
        self.reports.change(|reports| reports.insert(received.report.worker.clone(), received));
        answer
    }

    /// What the control path answers to a worker's report.
    pub(super) fn answer(&self, worker: &WorkerId) -> Answer {
        let known = self.path.epoch.is_some();
        Answer {
            epoch: self.path.epoch.clone(),
            opening: if known { self.path.opening(worker) } else { Opening::None },
            claim: if known { self.path.claim_of(worker) } else { None },
            released: self.reports.get(worker).is_some_and(|it| it.released),
        }
    }

    pub(super) fn change_report(&mut self, worker: &WorkerId, change: impl FnOnce(&mut Received)) {
        self.reports.change(|reports| {
            if let Some(received) = reports.get_mut(worker) {
                change(received);
            }
        });
    }

    /// An identity for a worker of this name that was never used before.
    pub(super) fn incarnation(&mut self, name: &str, setting: &Setting) -> WorkerId {
        if setting.lacks(Weakening::NamesForIncarnations) {
            return WorkerId::new(name);
        }
        let number = self.born.entry(name.to_owned()).or_default();
        *number += 1;
        WorkerId::new(format!("{name}#{number}"))
    }

    /// Whether anything but the worker itself says that it is on its way out. Without, the platform starts
    /// it again as it does every process that has ended.
    pub(super) fn is_known_to_leave(&self, id: &WorkerId) -> bool {
        let said = |it: &Received| it.report.claim.is_some() || it.report.state == State::Drained;
        self.path.claim_of(id).is_some()
            || self.ledger.claims().values().any(|by| by == id)
            || self.reports.get(id).is_some_and(said)
    }

    /// The place of this incarnation among the workers.
    pub(super) fn place(&self, id: &WorkerId) -> Option<usize> {
        self.workers.iter().position(|worker| worker.id == *id)
    }
}
