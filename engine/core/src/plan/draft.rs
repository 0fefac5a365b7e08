//! The plan in the making, and what every plan does: keep the path and the ledger true to each other,
//! and let go who has left.

use std::collections::BTreeSet;

use qscaler_protocol::name::{Epoch, OfferId, WorkerId};

use super::rollout::Moving;
use super::{Drain, Plan, Situation, Step};
use crate::fleet::{Member, Process};
use crate::ledger::{Grant, Ledger};

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) at: &'a Situation<'a>,
    pub(super) desired: usize,
    pub(super) drain: Drain,
    pub(super) members: Vec<Member>,
    /// The rollout, while workers of an older template are to stay unless they are replaced.
    pub(super) moving: Option<Moving>,
    pub(super) ledger: Ledger,
    pub(super) withdraw: BTreeSet<OfferId>,
    pub(super) removed: BTreeSet<WorkerId>,
    /// How many workers this plan starts.
    pub(super) started: usize,
    /// Before the ledger's projection: what frees or adds workers.
    pub(super) steps: Vec<Step>,
    /// After it.
    then: Vec<Step>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(at: &'a Situation<'a>, desired: u32, drain: Drain) -> Self {
        let mut draft = Self {
            at,
            desired: at.scale.filter(|it| it.frozen).map_or(desired, |it| it.replicas) as usize,
            drain,
            members: at.members(),
            moving: None,
            ledger: at.ledger.clone(),
            withdraw: BTreeSet::new(),
            removed: BTreeSet::new(),
            started: 0,
            steps: vec![],
            then: vec![],
        };
        draft.moving = draft.moving();
        draft
    }

    pub(super) fn staying(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.leaving && !self.removed.contains(&member.seen.id))
    }

    /// How many of them will be there.
    pub(super) fn size(&self) -> usize {
        self.at.asked_for(self.staying().count())
    }

    /// Removes a worker that has no process.
    pub(super) fn remove(&mut self, worker: WorkerId) {
        self.removed.insert(worker.clone());
        self.steps.push(Step::Remove { worker });
    }

    fn is_gone(&self, worker: &WorkerId) -> bool {
        self.members.iter().all(|member| member.seen.id != *worker)
    }

    /// How many offers stay open.
    pub(super) fn open(&self) -> usize {
        self.kept().count()
    }

    /// Offers that stay open.
    pub(super) fn kept(&self) -> impl DoubleEndedIterator<Item = (OfferId, &Grant)> {
        self.ledger.open().filter(|(id, _)| !self.withdraw.contains(id))
    }

    pub(super) fn begin_epoch(&mut self, fresh: Epoch) {
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
    pub(super) fn note(&mut self) {
        let members = std::mem::take(&mut self.members);
        let is_gone = |worker: &WorkerId| members.iter().all(|member| member.seen.id != *worker);
        self.ledger.absorb(self.at.path, is_gone, self.at.now);
        self.members = members;
    }

    pub(super) fn project(&mut self) {
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

    pub(super) fn release(&mut self) {
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

    pub(super) fn finish(mut self) -> Plan {
        let mut steps = [std::mem::take(&mut self.steps), std::mem::take(&mut self.then)].concat();
        if let Some(scale) = self.at.scale {
            steps = self.as_scale(scale, steps);
        }
        self.ledger.rolling = self.rolling();
        let rollout = self.state();
        let ledger = (self.ledger != *self.at.ledger).then_some(self.ledger);
        Plan { ledger, steps, rollout }
    }
}
