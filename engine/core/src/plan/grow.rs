//! More workers: offers that nobody has claimed are taken back first, then workers are started.

use std::collections::BTreeSet;

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

    /// Takes back offers that are not needed any more, the newest first.
    fn withdraw_surplus(&mut self) {
        let surplus = self.open().saturating_sub(self.offers_max());
        let back: Vec<_> = self.kept().rev().map(|(id, _)| id).take(surplus).collect();
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
