//! One engine: three reads, the real plan, a commit, and then each step of the plan for itself.

use qscaler_core::fleet::{Process, Seen};
use qscaler_core::ledger::Ledger;
use qscaler_core::plan::{Drain, Leave, Plan, Situation, Step};
use qscaler_core::time::Time;
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Offer, Path, Withdrawal};
use qscaler_protocol::report::State;

use super::setting::{Detail, Setting, Weakening};
use super::shared::Shared;
use super::worker::Life;
use super::world::{Broken, Reports, World};

/// Workers are asked by offers, all at once.
fn freely(setting: &Setting) -> Drain {
    let mut rollout = setting.rollout;
    if setting.lacks(Weakening::NoBudget) {
        rollout.unavailable_max += 1;
    }
    Drain { by: Leave::Offer, at_once_max: u32::MAX, deadline: None, rollout }
}
/// Longer than any task.
const LATE: Time = Time(3_600_000);

/// A worker as the platform shows it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Sight {
    name: String,
    id: WorkerId,
    process: Life,
    outdated: bool,
}

/// What an engine has read so far.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Read {
    ledger: Option<Shared<Ledger>>,
    path: Option<(Shared<Path>, Shared<Reports>)>,
    fleet: Option<Shared<Vec<Sight>>>,
    desired: u32,
    queue_is_empty: bool,
    /// Nobody has committed a ledger since this one was read.
    current: bool,
}

/// One thing that an engine does in one step.
#[derive(Clone, Debug, Hash)]
pub(super) enum Deed {
    Step(Step),
    /// Delete a worker that was released, if this is the process that runs.
    Delete {
        worker: WorkerId,
        boot: BootId,
    },
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Engine {
    Resting,
    Reading(Read),
    /// The plan is made; its ledger is not committed.
    Planned {
        plan: Shared<Plan>,
        read: Shared<Ledger>,
    },
    Applying {
        deeds: Shared<Vec<Deed>>,
        next: usize,
    },
}

impl World {
    /// What an engine that rests would plan if it read everything at this instant.
    pub(super) fn plan_now(&self, setting: &Setting) -> Plan {
        let read = self.read_all(setting);
        self.plan(&read, Time(0), Epoch::new("fresh"), setting)
    }

    fn read_all(&self, setting: &Setting) -> Read {
        let mut read = Read::default();
        while !self.read_next(&mut read, setting) {}
        read
    }

    /// Reads the next of ledger, path and fleet; says whether it was the last.
    fn read_next(&self, read: &mut Read, setting: &Setting) -> bool {
        let ledger_last = setting.lacks(Weakening::LedgerReadLast);
        if read.ledger.is_none() && (!ledger_last || read.fleet.is_some()) {
            read.ledger = Some(self.ledger.clone());
            read.current = true;
        } else if read.path.is_none() {
            read.path = Some((self.path.clone(), self.reports.clone()));
            read.desired = self.desired(setting);
            read.queue_is_empty = self.waiting == 0 && setting.outdated > 0;
        } else {
            let sight = |worker: &super::worker::Worker| Sight {
                name: worker.name.clone(),
                id: worker.id.clone(),
                process: worker.process,
                outdated: worker.outdated && !setting.lacks(Weakening::NobodyIsOutdated),
            };
            read.fleet = Some(Shared::new(self.workers.iter().map(sight).collect()));
        }
        read.ledger.is_some() && read.path.is_some() && read.fleet.is_some()
    }

    fn plan(&self, read: &Read, now: Time, fresh: Epoch, setting: &Setting) -> Plan {
        let fleet = read.seen();
        let Some(situation) = read.situation(&fleet, now) else { return Plan::default() };
        let mut plan = situation.plan(read.desired, freely(setting), fresh);
        if let Some(ledger) = &mut plan.ledger {
            // Time passes only where an engine says that it is late.
            ledger.offers.values_mut().for_each(|grant| grant.granted_at = Time(0));
            ledger.rolling.iter_mut().for_each(|rolling| rolling.since = Time(0));
            if *ledger == **read.ledger.as_ref().unwrap_or(&self.ledger) {
                plan.ledger = None;
            }
        }
        plan
    }

    /// An epoch that nobody has ever heard of: random in truth, here the first that no part of the state
    /// names, so that states are not told apart by it.
    fn fresh_epoch(&self, read: &Read) -> Epoch {
        let known = format!("{self:?} {read:?}");
        let mut number = 1;
        while known.contains(&format!("epoch {number}.")) {
            number += 1;
        }
        Epoch::new(format!("epoch {number}."))
    }

    /// Whether it makes a difference that this engine's plan is made late.
    pub(super) fn may_be_late(&self, engine: usize, setting: &Setting) -> bool {
        let ledger = match &self.engines[engine] {
            Engine::Reading(Read { ledger: Some(ledger), .. }) => ledger,
            _ => &self.ledger,
        };
        setting.has(Detail::Patience) && ledger.open().any(|(_, grant)| grant.named.is_none())
    }

    /// An engine reads on; with the last read it plans.
    pub(super) fn engine_reads(&mut self, engine: usize, late: bool, setting: &Setting) {
        let mut read = match std::mem::replace(&mut self.engines[engine], Engine::Resting) {
            Engine::Reading(read) => read,
            _ => Read::default(),
        };
        let complete = if setting.has(Detail::SplitReads) {
            self.read_next(&mut read, setting)
        } else {
            read = self.read_all(setting);
            true
        };
        if !complete {
            self.engines[engine] = Engine::Reading(read);
            return;
        }
        let now = if late { LATE } else { Time(0) };
        let mut plan = self.plan(&read, now, Epoch::new("new"), setting);
        if plan.ledger.as_ref().is_some_and(|ledger| ledger.epoch == Some(Epoch::new("new"))) {
            plan = self.plan(&read, now, self.fresh_epoch(&read), setting);
        }
        if overdraws(&plan, &read, setting) {
            self.tally.change(|tally| tally.overdrawn = true);
        }
        if setting.lacks(Weakening::WithdrawalInLedgerOnly) {
            forget_withdrawn(&mut plan, read.ledger.as_deref());
        }
        self.engines[engine] = match (&plan.ledger, read.ledger) {
            (Some(_), _) if !read.current && !setting.lacks(Weakening::NoCompareAndSwap) => Engine::Resting,
            (Some(_), Some(ledger)) => Engine::Planned { plan: Shared::new(plan), read: ledger },
            _ => applying(&plan, None, setting),
        };
    }

    /// An engine commits its plan's ledger. Whoever read the one before can commit nothing any more.
    pub(super) fn engine_commits(&mut self, engine: usize, setting: &Setting) {
        let Engine::Planned { plan, read } = &self.engines[engine] else { return };
        let mut plan = (**plan).clone();
        let before = self.ledger.clone();
        if setting.lacks(Weakening::NoCompareAndSwap) {
            plan = on_top(&plan, read, &before);
        }
        let Some(ledger) = plan.ledger.clone() else { return };
        let after = applying(&plan, Some(&before), setting);
        if setting.lacks(Weakening::WithdrawalInLedgerOnly) {
            let gone = before.open().filter(|(id, _)| !ledger.offers.contains_key(id)).count();
            self.tally.change(|tally| tally.withdrawals += gone as u8);
        }
        let granted = ledger.open().filter(|(id, _)| !before.offers.contains_key(id)).count();
        self.tally.change(|tally| tally.grants += granted as u8);
        self.ledger = Shared::new(ledger);
        self.nobody_is_current(setting);
        self.engines[engine] = after;
    }

    /// The ledger has another version now.
    pub(super) fn nobody_is_current(&mut self, setting: &Setting) {
        for engine in &mut self.engines {
            match engine {
                Engine::Planned { .. } if !setting.lacks(Weakening::NoCompareAndSwap) => {
                    *engine = Engine::Resting;
                }
                Engine::Reading(read) => read.current = false,
                _ => {}
            }
        }
    }

    /// An engine does the next thing of its plan.
    pub(super) fn engine_acts(&mut self, engine: usize, setting: &Setting) -> Result<(), Broken> {
        let Engine::Applying { deeds, next } = self.engines[engine].clone() else { return Ok(()) };
        let done = match &deeds[next] {
            Deed::Step(step) => self.carry_out(step, setting),
            Deed::Delete { worker, boot } => {
                self.delete(worker, boot, setting)?;
                true
            }
        };
        // What was not released is not deleted.
        let skips = !done && matches!(deeds.get(next + 1), Some(Deed::Delete { .. }));
        let next = next + 1 + usize::from(skips);
        self.engines[engine] =
            if next < deeds.len() { Engine::Applying { deeds, next } } else { Engine::Resting };
        Ok(())
    }

    fn carry_out(&mut self, step: &Step, setting: &Setting) -> bool {
        match step {
            Step::Adopt { seen, epoch, floor, claims } => {
                self.path.change(|path| path.adopt(seen.as_ref(), epoch.clone(), *floor, claims))
            }
            Step::Project { epoch, offers } => self.path.change(|path| {
                if path.epoch.as_ref() != Some(epoch) {
                    return false;
                }
                for (id, offer) in offers {
                    if setting.lacks(Weakening::NoSetIfAbsent) && *id > path.floor {
                        path.offers.insert(*id, offer.clone());
                    }
                    if setting.lacks(Weakening::NoFloor) {
                        path.offers.entry(*id).or_insert_with(|| offer.clone());
                    }
                }
                let mut offers = offers.clone();
                if setting.lacks(Weakening::NamesNotShown) {
                    offers.values_mut().for_each(forget_name);
                }
                path.project(epoch, &offers)
            }),
            Step::Withdraw { epoch, offers } => {
                for id in offers {
                    let before = self.path.offers.get(id).cloned();
                    let done = self.path.change(|path| path.withdraw(epoch, *id));
                    if done == Withdrawal::Done && before != Some(Offer::Withdrawn) {
                        self.tally.change(|tally| tally.withdrawals += 1);
                    }
                }
                true
            }
            Step::RaiseFloor { epoch, floor } => self.path.change(|path| path.raise_floor(epoch, *floor)),
            Step::Start { name } => {
                self.create(name, setting);
                true
            }
            Step::Remove { worker } => {
                self.workers.retain(|it| it.id != *worker || it.has_process());
                true
            }
            Step::Release { worker, boot } => self.reports.clone().get(worker).is_some_and(|it| {
                let said = it.report.state == State::Drained && it.report.boot == *boot;
                if said && !it.released {
                    self.change_report(worker, |received| received.released = true);
                }
                said
            }),
            Step::Mark { .. } | Step::Scale { .. } => unreachable!("nothing else makes these workers"),
            Step::Terminate { worker } => {
                if let Some(place) = self.place(worker) {
                    self.evict(place);
                }
                true
            }
            // Sizes interrupt nobody; the model has none.
            Step::Resize { .. } => true,
            Step::Forget { workers } => {
                self.reports.change(|reports| reports.retain(|id, _| !workers.contains(id)));
                true
            }
        }
    }

    fn delete(&mut self, worker: &WorkerId, boot: &BootId, setting: &Setting) -> Result<(), Broken> {
        let Some(place) = self.place(worker) else { return Ok(()) };
        let found = &self.workers[place];
        if found.boot_id() != *boot && !setting.lacks(Weakening::NoBootComparison) {
            return Ok(());
        }
        if found.tasks() > 0 {
            return Err(Broken(format!("{worker} is deleted while it works on a task")));
        }
        self.workers.remove(place);
        Ok(())
    }
}

impl Read {
    fn seen(&self) -> Vec<Seen> {
        self.fleet.iter().flat_map(|fleet| fleet.iter().map(Sight::seen)).collect()
    }

    fn situation<'a>(&'a self, fleet: &'a [Seen], now: Time) -> Option<Situation<'a>> {
        let ((path, reports), ledger) = (self.path.as_ref()?, self.ledger.as_ref()?);
        let queue_is_empty = self.queue_is_empty;
        Some(Situation { ledger, path, reports, fleet, scale: None, workload: "w", queue_is_empty, now })
    }
}

/// Whether a plan's grants leave fewer registered workers that nobody has asked than may be, in the state
/// that it was made of.
fn overdraws(plan: &Plan, read: &Read, setting: &Setting) -> bool {
    let (Some(after), Some(before)) = (&plan.ledger, &read.ledger) else { return false };
    let fleet = read.seen();
    let Some(situation) = read.situation(&fleet, Time(0)) else { return false };
    let registered = situation.members().iter().filter(|member| member.registered).count();
    let grants = after.open().filter(|(id, _)| *id >= before.next).count();
    let missing = if setting.outdated > 0 { setting.rollout.unavailable_max } else { 0 };
    grants > 0 && registered + (missing as usize) < after.open().count() + read.desired as usize
}

impl Engine {
    /// What it does next of its plan.
    pub(super) fn next(&self) -> Option<&Deed> {
        match self {
            Engine::Applying { deeds, next } => deeds.get(*next),
            _ => None,
        }
    }
}

impl Sight {
    fn seen(&self) -> Seen {
        let process = match self.process {
            Life::Waiting => Process::Waiting,
            Life::Running => Process::Running,
            Life::Ending => Process::Ending,
            Life::Ended | Life::Killed => Process::BackOff { until: Time(0), ended: String::new() },
        };
        Seen { outdated: self.outdated, ..Seen::new(self.id.clone(), &self.name, process, Time(0)) }
    }
}

fn forget_name(offer: &mut Offer) {
    if let Offer::Open(named) = offer {
        *named = None;
    }
}

/// Takes the offers that a plan withdraws out of its ledger.
fn forget_withdrawn(plan: &mut Plan, read: Option<&Ledger>) {
    let Some(mut ledger) = plan.ledger.clone().or(read.cloned()) else { return };
    for step in &plan.steps {
        if let Step::Withdraw { offers, .. } = step {
            ledger.offers.retain(|id, _| !offers.contains(id));
            plan.ledger = Some(ledger.clone());
        }
    }
}

/// What a plan that was made on one ledger becomes when what it changes is changed in another one.
fn on_top(plan: &Plan, read: &Ledger, present: &Ledger) -> Plan {
    let Some(planned) = &plan.ledger else { return plan.clone() };
    let moved =
        |id: &OfferId| OfferId(if *id < read.next { id.0 } else { id.0 - read.next.0 + present.next.0 });
    let mut ledger = present.clone();
    ledger.epoch.clone_from(&planned.epoch);
    ledger.next = moved(&planned.next);
    ledger.offers.retain(|id, _| !read.offers.contains_key(id) || planned.offers.contains_key(id));
    let changed = planned.offers.iter().filter(|(id, grant)| read.offers.get(id) != Some(grant));
    ledger.offers.extend(changed.map(|(id, grant)| (moved(id), grant.clone())));
    let mut steps = plan.steps.clone();
    for step in &mut steps {
        if let Step::Project { offers, .. } = step {
            *offers = offers.iter().map(|(id, offer)| (moved(id), offer.clone())).collect();
        }
    }
    Plan { ledger: Some(ledger), steps, rollout: plan.rollout.clone() }
}

/// The plan's steps, each as something that is done at once or not at all. `before`: the ledger that
/// the plan's own replaces.
fn applying(plan: &Plan, before: Option<&Ledger>, setting: &Setting) -> Engine {
    let mut deeds = vec![];
    for step in &plan.steps {
        match step {
            Step::Withdraw { .. } if setting.lacks(Weakening::WithdrawalInLedgerOnly) => {}
            Step::Withdraw { epoch, offers } => deeds.extend(
                offers
                    .iter()
                    .map(|offer| Deed::Step(Step::Withdraw { epoch: epoch.clone(), offers: vec![*offer] })),
            ),
            Step::Forget { workers } => deeds.extend(
                workers.iter().map(|worker| Deed::Step(Step::Forget { workers: vec![worker.clone()] })),
            ),
            Step::Project { epoch, offers } if setting.lacks(Weakening::MessagesSentOnce) => {
                let mut offers = offers.clone();
                offers.retain(|id, _| before.is_some_and(|before| !before.offers.contains_key(id)));
                if !offers.is_empty() {
                    deeds.push(Deed::Step(Step::Project { epoch: epoch.clone(), offers }));
                }
            }
            Step::Release { worker, boot } => {
                deeds.push(Deed::Step(step.clone()));
                if setting.has(Detail::Parking) {
                    deeds.push(Deed::Delete { worker: worker.clone(), boot: boot.clone() });
                }
            }
            _ => deeds.push(Deed::Step(step.clone())),
        }
    }
    if deeds.is_empty() { Engine::Resting } else { Engine::Applying { deeds: Shared::new(deeds), next: 0 } }
}
