//! More workers: offers that nobody has claimed are taken back first, then workers are started.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use qscaler_protocol::name::OfferId;

use super::Step;
use super::draft::Draft;

impl Draft<'_> {
    pub(super) fn grow(&mut self) {
        self.withdraw_surplus();
        let taken: BTreeSet<_> = self.members.iter().map(|member| member.seen.name.as_str()).collect();
        let names: Vec<_> = (1..)
            .map(|number| format!("{}-{number}", self.at.workload))
            .filter(|name| !taken.contains(name.as_str()))
            .take(self.missing())
            .collect();
        self.started = names.len();
        self.steps.extend(names.into_iter().map(|name| Step::Start { name }));
    }

    /// Takes back offers that are not needed any more: those that replace nobody first, and of them the
    /// newest.
    fn withdraw_surplus(&mut self) {
        let surplus = self.open().saturating_sub(self.offers_max());
        let mut open: Vec<(bool, Reverse<OfferId>)> =
            self.kept().map(|(id, grant)| (self.replaces(grant), Reverse(id))).collect();
        open.sort_unstable();
        let back = open.into_iter().map(|(_, Reverse(id))| id).take(surplus);
        self.withdraw.extend(back);
    }

    /// Takes back offers that nobody can claim any more: they name workers that are gone, on their way
    /// out, or without a process.
    pub(super) fn withdraw_void(&mut self) {
        let may_claim: BTreeSet<_> =
            self.staying().filter(|member| !member.has_no_process()).map(|member| &member.seen.id).collect();
        let void: Vec<_> = self
            .kept()
            .filter(|(_, grant)| grant.named.as_ref().is_some_and(|named| !may_claim.contains(named)))
            .map(|(id, _)| id)
            .collect();
        self.withdraw.extend(void);
    }
}
