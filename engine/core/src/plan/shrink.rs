//! Fewer workers: who was never there goes without asking, the others by offers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qscaler_protocol::name::WorkerId;
use qscaler_protocol::report::{Durations, Received};

use super::draft::Draft;
use super::{Leave, OPEN_OFFERS_MAX, Step};
use crate::fleet::Member;

impl Draft<'_> {
    /// With several slots a worker may never be wholly free: then offers name workers instead.
    pub(super) fn name_if_nobody_is_free(&mut self) {
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
        if self.first_ordinal().is_some() {
            return None;
        }
        let several = self.staying().any(|member| member.slots > 1);
        several.then(|| longest_usual_task(self.at.reports))
    }

    pub(super) fn shrink(&mut self) {
        let excess = self.excess();
        if excess == 0 || !self.may_fall() {
            self.ledger.naming &= self.open() > 0 || !self.withdraw.is_empty();
            return;
        }
        if let Some(first) = self.first_ordinal().filter(|_| self.drain.by == Leave::Offer) {
            return self.shrink_from_the_end(first, excess.min(self.may_be_asked()));
        }
        let removed = self.remove_unborn(excess);
        let count = (excess - removed).min(self.may_be_asked());
        match self.drain.by {
            Leave::Offer => self.grant(count.min(self.spare(self.desired)), true),
            Leave::Signal => self.terminate_quietest(count, |member| !member.has_no_process()),
        }
    }

    /// How many workers are too many when all open offers have been claimed.
    pub(super) fn excess(&self) -> usize {
        self.size().saturating_sub(self.open() + self.most())
    }

    /// How many more may be asked or be on their way out at once.
    pub(super) fn may_be_asked(&self) -> usize {
        let on_the_way = self.open() + self.members.iter().filter(|member| member.leaving).count();
        (self.drain.at_once_max as usize).saturating_sub(on_the_way)
    }

    /// How many more may be asked so that `least` of those that can claim stay.
    pub(super) fn spare(&self, least: usize) -> usize {
        // Offers that are being withdrawn count too: they may have been claimed since they were read.
        let registered = self.staying().filter(|member| member.registered).count();
        registered.saturating_sub(self.ledger.open().count() + least)
    }

    /// Removes workers that have no process, the newest first; returns how many. In a rollout only those
    /// for whom no worker of an older template can go.
    fn remove_unborn(&mut self, excess: usize) -> usize {
        let count = excess.saturating_sub(self.can_go_instead());
        let mut unborn: Vec<_> = self
            .staying()
            .filter(|member| member.has_no_process())
            .map(|member| (Reverse((member.seen.since, member.seen.name.clone())), member.seen.id.clone()))
            .collect();
        unborn.sort();
        unborn.truncate(count);
        let removed = unborn.len();
        for (_, worker) in unborn {
            self.remove(worker);
        }
        removed
    }

    /// Grants offers: they name those that a rollout replaces; then, unless only those are meant,
    /// the least busy where nobody is ever free, else nobody.
    pub(super) fn grant(&mut self, wanted: usize, anybody: bool) {
        let count = wanted.min(OPEN_OFFERS_MAX.saturating_sub(self.ledger.open().count()));
        let first = self.least_busy(|member| self.goes_first(member));
        let others = if self.ledger.naming && anybody {
            self.least_busy(|member| !self.goes_first(member))
        } else {
            vec![]
        };
        let names = first.into_iter().chain(others).map(Some);
        let nobody = std::iter::repeat_n(None, if anybody { count } else { 0 });
        for named in names.chain(nobody).take(count) {
            self.ledger.grant(named, self.at.now);
        }
    }

    /// Of these, those that can claim and that no open offer names, with the fewest busy slots first.
    pub(super) fn least_busy(&self, of: impl Fn(&Member) -> bool) -> Vec<WorkerId> {
        let named: BTreeSet<_> = self.ledger.open().filter_map(|(_, grant)| grant.named.clone()).collect();
        let mut free: Vec<_> = self
            .staying()
            .filter(|member| member.registered && of(member) && !named.contains(&member.seen.id))
            .map(|member| (member.busy_slots, member.seen.id.clone()))
            .collect();
        free.sort();
        free.into_iter().map(|(_, id)| id).collect()
    }

    /// A deadline that the user set has passed: a worker is ended for each offer that is overdue, the one
    /// that it names or else the quietest. Each takes an open offer along.
    pub(super) fn end_overdue(&mut self) {
        let Some(deadline) = self.drain.deadline.filter(|_| self.may_fall()) else { return };
        let overdue: Vec<_> = self
            .ledger
            .open()
            .filter(|(_, grant)| self.at.now.since(grant.granted_at) >= deadline)
            .map(|(_, grant)| grant.named.clone())
            .collect();
        let named: BTreeSet<_> = overdue.iter().flatten().cloned().collect();
        let ending = self.members.iter().filter(|member| member.leaving).count();
        let anybody = (overdue.len() - named.len()).saturating_sub(ending);
        self.terminate_quietest(named.len(), |member| member.registered && named.contains(&member.seen.id));
        self.terminate_quietest(anybody, |member| member.registered && !named.contains(&member.seen.id));
    }

    pub(super) fn terminate_quietest(&mut self, count: usize, may: impl Fn(&Member) -> bool) {
        let mut quiet: Vec<_> = self.staying().filter(|member| may(member)).collect();
        let cpu = |member: &Member| member.seen.usage.map_or(0.0, |usage| usage.cpu);
        quiet.sort_by(|a, b| {
            let order = self.goes_first(b).cmp(&self.goes_first(a));
            order
                .then(b.seen.marked.cmp(&a.seen.marked))
                .then(a.busy_slots.cmp(&b.busy_slots))
                .then(cpu(a).total_cmp(&cpu(b)))
                .then(b.seen.since.cmp(&a.seen.since))
                .then(a.seen.id.cmp(&b.seen.id))
        });
        let ended =
            quiet.into_iter().take(count).map(|member| Step::Terminate { worker: member.seen.id.clone() });
        let ended: Vec<_> = ended.collect();
        self.steps.extend(ended);
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
            return Duration::from_secs_f64(Durations::middle_seconds(bucket));
        }
        left -= count;
    }
    Duration::from_secs(10)
}
