//! From a decision to ordered steps: who starts, who may leave. No choice is left for apply.
//!
//! Read in this order before planning: the ledger, then the control path, then the fleet; the plan's
//! ledger is committed on the version that was read, and when that fails nothing of the plan is
//! done. A grant counts only workers that have registered in this epoch and can claim, so in the
//! state that was read they never fall below the desired number through it (invariant I3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Offer, Path};
use qscaler_protocol::report::Received;

use crate::fleet::{Member, Process, Seen, muster};
use crate::ledger::{Grant, Ledger};
use crate::time::Time;

/// At most this many offers are open at once, so that a ledger stays small enough for an object's status.
pub const OPEN_OFFERS_MAX: usize = 200;

/// How workers are asked to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Leave {
    /// By offers, which a worker of the SDK claims when it is idle. Interrupts nobody.
    #[default]
    Offer,
    /// By SIGTERM, for programs without the SDK: those that use the least processor time first.
    Signal,
}

/// How a workload's workers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How they are asked.
    pub by: Leave,
    /// At most this many are asked or on their way out at once.
    pub at_once_max: u32,
    /// How long an offer may stay unclaimed before a worker is ended for it; without, for ever.
    pub deadline: Option<Duration>,
}

/// Everything that was read of one workload, in the order ledger, path and reports, fleet.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The control path, read after the ledger.
    pub path: &'a Path,
    /// What workers reported, read with the path.
    pub reports: &'a BTreeMap<WorkerId, Received>,
    /// The fleet, read last.
    pub fleet: &'a [Seen],
    /// The prefix of worker names.
    pub workload: &'a str,
    /// When.
    pub now: Time,
}

/// One thing to do. Each may be done twice without harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Begin an epoch on the path: [`Path::adopt`].
    Adopt {
        /// The epoch that was read.
        seen: Option<Epoch>,
        /// The new one.
        epoch: Epoch,
        /// The floor.
        floor: OfferId,
        /// The claims that are known.
        claims: BTreeMap<OfferId, WorkerId>,
    },
    /// Show offers on the path: [`Path::project`].
    Project {
        /// Under this epoch.
        epoch: Epoch,
        /// These.
        offers: BTreeMap<OfferId, Offer>,
    },
    /// Take offers back: [`Path::withdraw`].
    Withdraw {
        /// Under this epoch.
        epoch: Epoch,
        /// These.
        offers: Vec<OfferId>,
    },
    /// Let the path forget: [`Path::raise_floor`].
    RaiseFloor {
        /// Under this epoch.
        epoch: Epoch,
        /// Up to here.
        floor: OfferId,
    },
    /// Create the worker of this name; that it exists is success.
    Start {
        /// The name.
        name: String,
    },
    /// Remove a worker if still no process of it runs.
    Remove {
        /// Which.
        worker: WorkerId,
    },
    /// Turn a drained worker's report into "released"; it may be deleted.
    Release {
        /// Which.
        worker: WorkerId,
        /// The start of its process that said so.
        boot: BootId,
    },
    /// Ask a worker to end by SIGTERM.
    Terminate {
        /// Which.
        worker: WorkerId,
    },
    /// Delete what workers reported that are gone.
    Forget {
        /// These.
        workers: Vec<WorkerId>,
    },
}

/// What to do, in order. When `ledger` is given and cannot be committed, nothing is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The ledger to commit first.
    pub ledger: Option<Ledger>,
    /// Then these.
    pub steps: Vec<Step>,
}

impl Plan {
    /// How many workers it adds to those that stay.
    pub fn starts(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Start { .. })).count()
    }
}

impl Situation<'_> {
    /// Everything known of each worker.
    pub fn members(&self) -> Vec<Member> {
        muster(self.ledger, self.path, self.reports, self.fleet, self.now)
    }

    /// How many workers there will be when all offers that are open now have been claimed: what a
    /// decision starts from.
    pub fn current(&self) -> u32 {
        let staying = self.members().iter().filter(|member| !member.leaving).count();
        staying.saturating_sub(self.open_offers()) as u32
    }

    fn open_offers(&self) -> usize {
        let over =
            |id: &OfferId| matches!(self.path.offers.get(id), Some(Offer::Claimed(_) | Offer::Withdrawn));
        self.ledger.open().filter(|(id, _)| !over(id)).count()
    }

    /// Makes the plan that brings the workers to `desired`. `fresh` is a new random epoch, used only
    /// when the path has lost its data.
    pub fn plan(&self, desired: u32, drain: Drain, fresh: Epoch) -> Plan {
        let mut draft = Draft::new(self, drain);
        let lost = self.ledger.epoch.is_none() || self.path.epoch != self.ledger.epoch;
        if lost || self.ledger.is_older_than(self.path) {
            draft.begin_epoch(fresh);
            draft.grow(desired);
        } else {
            draft.note();
            draft.name_if_nobody_is_free();
            draft.grow(desired);
            draft.shrink(desired);
            draft.end_overdue();
            draft.project();
        }
        draft.release();
        draft.finish()
    }
}

/// A plan in the making.
struct Draft<'a> {
    at: &'a Situation<'a>,
    drain: Drain,
    members: Vec<Member>,
    ledger: Ledger,
    withdraw: BTreeSet<OfferId>,
    /// Before the ledger's projection: what frees or adds workers.
    steps: Vec<Step>,
    /// After it.
    then: Vec<Step>,
}

impl<'a> Draft<'a> {
    fn new(at: &'a Situation<'a>, drain: Drain) -> Self {
        let ledger = at.ledger.clone();
        Self {
            at,
            drain,
            members: at.members(),
            ledger,
            withdraw: BTreeSet::new(),
            steps: vec![],
            then: vec![],
        }
    }

    fn staying(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.leaving)
    }

    fn is_gone(&self, worker: &WorkerId) -> bool {
        self.members.iter().all(|member| member.seen.id != *worker)
    }

    fn open(&self) -> usize {
        self.ledger.open().filter(|(id, _)| !self.withdraw.contains(id)).count()
    }

    fn begin_epoch(&mut self, fresh: Epoch) {
        let gone: BTreeSet<_> =
            self.ledger.claims().into_values().filter(|worker| self.is_gone(worker)).collect();
        self.ledger.offers.retain(|_, grant| grant.claimed_by.as_ref().is_none_or(|by| !gone.contains(by)));
        self.ledger.begin_epoch(fresh.clone(), self.at.path, self.at.reports, self.at.now);
        self.steps.push(Step::Adopt {
            seen: self.at.path.epoch.clone(),
            epoch: fresh,
            floor: self.ledger.floor(),
            claims: self.ledger.claims(),
        });
    }

    /// Takes over what the path shows.
    fn note(&mut self) {
        let members = std::mem::take(&mut self.members);
        let is_gone = |worker: &WorkerId| members.iter().all(|member| member.seen.id != *worker);
        self.ledger.absorb(self.at.path, is_gone, self.at.now);
        self.members = members;
    }

    /// With several slots a worker may never be wholly free: then offers name workers instead.
    fn name_if_nobody_is_free(&mut self) {
        let Some(patience) = self.patience() else { return };
        if self.staying().any(Member::is_idle) {
            return;
        }
        let old: Vec<_> = self
            .ledger
            .open()
            .filter(|(_, grant)| grant.named.is_none() && self.at.now.since(grant.granted_at) >= patience)
            .map(|(id, _)| id)
            .collect();
        self.ledger.naming |= !old.is_empty();
        self.withdraw.extend(old);
    }

    /// How long an offer to anybody is worth waiting for: one long task. None where each worker has one slot.
    fn patience(&self) -> Option<Duration> {
        let several = self.staying().any(|member| member.slots > 1);
        several.then(|| longest_usual_task(self.at.reports))
    }

    fn grow(&mut self, desired: u32) {
        let staying = self.staying().count();
        let missing = (desired as usize + self.open()).saturating_sub(staying);
        let back: Vec<_> = self.ledger.open().rev().map(|(id, _)| id).take(missing).collect();
        let start = missing - back.len();
        self.withdraw.extend(back);
        let taken: BTreeSet<_> = self.members.iter().map(|member| member.seen.name.as_str()).collect();
        let names: Vec<_> = (1..)
            .map(|number| format!("{}-{number}", self.at.workload))
            .filter(|name| !taken.contains(name.as_str()))
            .take(start)
            .collect();
        self.steps.extend(names.into_iter().map(|name| Step::Start { name }));
    }

    fn shrink(&mut self, desired: u32) {
        let open = self.open();
        let excess = self.staying().count().saturating_sub(open + desired as usize);
        if excess == 0 {
            self.ledger.naming &= open > 0 || !self.withdraw.is_empty();
            return;
        }
        let mut unborn: Vec<_> = self.staying().filter(|member| member.has_no_process()).collect();
        unborn.sort_by_key(|member| std::cmp::Reverse((member.seen.since, member.seen.name.clone())));
        let removed: Vec<_> = unborn
            .iter()
            .take(excess)
            .map(|member| Step::Remove { worker: member.seen.id.clone() })
            .collect();
        let excess = excess - removed.len();
        self.steps.extend(removed);
        let on_the_way = open + self.members.iter().filter(|member| member.leaving).count();
        let allowed = (self.drain.at_once_max as usize).saturating_sub(on_the_way);
        match self.drain.by {
            Leave::Offer => self.grant(excess.min(allowed), desired),
            Leave::Signal => self.terminate_quietest(excess.min(allowed), |member| !member.has_no_process()),
        }
    }

    fn grant(&mut self, wanted: usize, desired: u32) {
        // Offers that are being withdrawn count too: they may have been claimed since they were read.
        let open = self.ledger.open().count();
        let registered = self.staying().filter(|member| member.registered).count();
        let spare = registered.saturating_sub(open + desired as usize);
        let count = wanted.min(spare).min(OPEN_OFFERS_MAX.saturating_sub(open));
        let mut named = if self.ledger.naming { self.least_busy() } else { vec![] }.into_iter();
        for _ in 0..count {
            let grant = Grant { named: named.next(), granted_at: self.at.now, claimed_by: None };
            let id = self.ledger.next;
            self.ledger.next = id.next();
            self.ledger.offers.insert(id, grant);
        }
    }

    /// Registered workers that no open offer names, those with the fewest busy slots first.
    fn least_busy(&self) -> Vec<WorkerId> {
        let named: BTreeSet<_> = self.ledger.open().filter_map(|(_, grant)| grant.named.clone()).collect();
        let mut free: Vec<_> = self
            .staying()
            .filter(|member| member.registered && !named.contains(&member.seen.id))
            .map(|member| (member.busy_slots, member.seen.id.clone()))
            .collect();
        free.sort();
        free.into_iter().map(|(_, id)| id).collect()
    }

    /// A deadline that the user set has passed: as many workers are ended as offers are overdue. Each
    /// takes an open offer along.
    fn end_overdue(&mut self) {
        let Some(deadline) = self.drain.deadline else { return };
        let overdue =
            self.ledger.open().filter(|(_, grant)| self.at.now.since(grant.granted_at) >= deadline).count();
        let ending = self.members.iter().filter(|member| member.leaving).count();
        self.terminate_quietest(overdue.saturating_sub(ending), |member| member.registered);
    }

    fn terminate_quietest(&mut self, count: usize, may: impl Fn(&Member) -> bool) {
        let mut quiet: Vec<_> = self.staying().filter(|member| may(member)).collect();
        let cpu = |member: &Member| member.seen.usage.map_or(0.0, |usage| usage.cpu);
        quiet.sort_by(|a, b| {
            a.busy_slots
                .cmp(&b.busy_slots)
                .then(cpu(a).total_cmp(&cpu(b)))
                .then(b.seen.since.cmp(&a.seen.since))
                .then(a.seen.id.cmp(&b.seen.id))
        });
        let ended =
            quiet.into_iter().take(count).map(|member| Step::Terminate { worker: member.seen.id.clone() });
        let ended: Vec<_> = ended.collect();
        self.steps.extend(ended);
    }

    fn project(&mut self) {
        let Some(epoch) = self.ledger.epoch.clone() else { return };
        if !self.withdraw.is_empty() {
            let offers = self.withdraw.iter().copied().collect();
            self.steps.insert(0, Step::Withdraw { epoch: epoch.clone(), offers });
        }
        let mut offers = self.ledger.projection();
        offers.retain(|id, _| !self.at.path.offers.contains_key(id) && !self.withdraw.contains(id));
        if !offers.is_empty() {
            self.then.push(Step::Project { epoch: epoch.clone(), offers });
        }
        let floor = self.ledger.floor();
        if floor > self.at.path.floor && self.at.path.offers.range(..=floor).next().is_some() {
            self.then.push(Step::RaiseFloor { epoch, floor });
        }
    }

    fn release(&mut self) {
        for member in &self.members {
            if member.leaving && member.has_no_process() {
                self.then.push(Step::Remove { worker: member.seen.id.clone() });
            }
            // Also one that is released already: whoever released it may have died before deleting it.
            let is_deleted = member.seen.process == Process::Ending;
            if let Some(boot) = member.drained.as_ref().filter(|_| !is_deleted) {
                self.then.push(Step::Release { worker: member.seen.id.clone(), boot: boot.clone() });
            }
        }
        let gone: Vec<_> = self.at.reports.keys().filter(|worker| self.is_gone(worker)).cloned().collect();
        if !gone.is_empty() {
            self.then.push(Step::Forget { workers: gone });
        }
    }

    fn finish(self) -> Plan {
        let ledger = (self.ledger != *self.at.ledger).then_some(self.ledger);
        Plan { ledger, steps: [self.steps, self.then].concat() }
    }
}

/// The 95th percentile of all tasks that the present workers report; ten seconds before any has ended.
fn longest_usual_task(reports: &BTreeMap<WorkerId, Received>) -> Duration {
    let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
    for (bucket, count) in reports.values().flat_map(|it| it.report.durations.counts()) {
        *counts.entry(bucket).or_default() += count;
    }
    let total: u64 = counts.values().sum();
    let mut left = total - total / 20;
    for (bucket, count) in counts {
        if count >= left {
            return Duration::from_secs_f64(qscaler_protocol::report::Durations::middle_seconds(bucket));
        }
        left -= count;
    }
    Duration::from_secs(10)
}
