//! Workers that something else makes and deletes: of a Deployment, of a StatefulSet, of anything with a
//! number of replicas.
//!
//! Who leaves is settled as everywhere, by offers. Who has left is parked: it takes nothing and stays until
//! the number falls by it, or until it is deleted to make room for a new one. The number is computed from
//! what is there, never counted down, so that a step that was lost or was done twice does no harm.
//!
//! Which replica goes when the number falls is not the engine's choice. A Deployment deletes those without a
//! process first, then those that are not ready, then those with the lowest cost of deletion
//! (`controller.kubernetes.io/pod-deletion-cost`); so the number waits until nobody else is unready, and
//! until those that may go bear the mark. A StatefulSet deletes the last.

use std::collections::BTreeSet;
use std::time::Duration;

use qscaler_protocol::name::{BootId, WorkerId};

use super::draft::Draft;
use super::{Leave, OPEN_OFFERS_MAX, Situation, Step};
use crate::fleet::{Member, Process, Seen};
use crate::ledger::Scaled;
use crate::time::Time;

/// The scale of something that makes workers, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// So many replicas are asked for.
    pub replicas: u32,
    /// Who wrote that number, where it was not the engine.
    pub written_by: Option<String>,
    /// Which replicas go when their number falls.
    pub victims: Victims,
    /// Replicas are being replaced: the number may not fall now.
    pub rolling: bool,
    /// The number stays as it is, and what was taken from it is given back.
    pub frozen: bool,
}

/// Which replicas go when their number falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// Those that bear the mark.
    Marked,
    /// Those with the highest ordinals.
    Last {
        /// The lowest ordinal.
        first: u32,
    },
}

/// After the number was changed by others this often ...
pub const OVERRIDES_MAX: usize = 2;
/// ... within this time, the engine lowers it no more.
pub const OVERRIDDEN_FOR: Duration = Duration::from_secs(3600);

impl Scale {
    /// Replicas that are asked for and were not made yet: workers without a process.
    fn unmade(&self, workload: &str, fleet: &[Seen], now: Time) -> Vec<Seen> {
        let alive: Vec<_> = fleet.iter().filter(|seen| seen.process != Process::Ending).collect();
        let missing = (self.replicas as usize).saturating_sub(alive.len());
        let taken: BTreeSet<_> = alive.iter().filter_map(|seen| ordinal(&seen.name)).collect();
        let first = match self.victims {
            Victims::Marked => 0,
            Victims::Last { first } => first,
        };
        let numbers = (first..).filter(|number| self.victims == Victims::Marked || !taken.contains(number));
        let unmade = |number| {
            let name = format!("{workload}-{number}");
            let id = WorkerId::new(format!("{name} not made yet"));
            Seen { unready: true, ..Seen::new(id, name, Process::Waiting, now) }
        };
        numbers.take(missing).map(unmade).collect()
    }
}

impl Situation<'_> {
    /// The fleet, and what is asked for and not there yet.
    pub(super) fn fleet_with_unmade(&self) -> Vec<Seen> {
        let unmade = self.scale.map(|scale| scale.unmade(self.workload, self.fleet, self.now));
        self.fleet.iter().cloned().chain(unmade.into_iter().flatten()).collect()
    }

    /// Of so many that stay, those that are not about to be deleted because fewer are asked for.
    pub(super) fn asked_for(&self, staying: usize) -> usize {
        self.scale.map_or(staying, |scale| staying.min(scale.replicas as usize))
    }
}

/// The number at the end of a name.
fn ordinal(name: &str) -> Option<u32> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// Who leaves or has left, as the plan for workers of one's own has it.
#[derive(Default)]
struct Going {
    /// Workers to be started.
    starts: u32,
    /// Without a process, or to be ended as they are.
    victims: Vec<WorkerId>,
    /// Drained, under this boot id.
    drained: Vec<(WorkerId, BootId)>,
}

/// Who may be deleted with a step.
#[derive(Default)]
struct Gone {
    unborn: Vec<WorkerId>,
    drained: Vec<(WorkerId, BootId)>,
}

impl Draft<'_> {
    /// Whether fewer replicas may be asked for.
    pub(super) fn may_fall(&self) -> bool {
        let of_scale = self.at.scale.is_none_or(|scale| !scale.rolling && !scale.frozen);
        of_scale && !self.ledger.is_overridden(self.at.now)
    }

    /// The lowest ordinal, where the highest go first.
    pub(super) fn first_ordinal(&self) -> Option<u32> {
        match self.at.scale?.victims {
            Victims::Marked => None,
            Victims::Last { first } => Some(first),
        }
    }

    /// Notes whether others have changed the number that the engine wrote.
    pub(super) fn note_scale(&mut self) {
        let (Some(scale), Some(known)) = (self.at.scale, &mut self.ledger.scaled) else { return };
        let now = self.at.now;
        known.overridden.retain(|at| now.since(*at) < OVERRIDDEN_FOR);
        let is_as_written = scale.replicas == known.to;
        if scale.written_by.is_none() {
            known.confirmed |= is_as_written;
        } else if known.confirmed && !is_as_written {
            known.confirmed = false;
            known.overridden.push(now);
        }
    }

    /// Offers places to leave to those with the highest ordinals, and takes back what others were offered.
    pub(super) fn shrink_from_the_end(&mut self, first: u32, count: usize) {
        let beyond = first as usize + self.desired;
        let is_beyond = |name: &str| ordinal(name).is_some_and(|number| number as usize >= beyond);
        let named: BTreeSet<_> = self.kept().filter_map(|(_, grant)| grant.named.clone()).collect();
        let mut last: Vec<_> = self
            .staying()
            .filter(|it| it.registered && is_beyond(&it.seen.name) && !named.contains(&it.seen.id))
            .map(|it| (ordinal(&it.seen.name), it.seen.id.clone()))
            .collect();
        last.sort();
        let room = OPEN_OFFERS_MAX.saturating_sub(self.ledger.open().count());
        let count = count.min(self.spare(self.desired)).min(room);
        for (_, worker) in last.into_iter().rev().take(count) {
            self.ledger.grant(Some(worker), self.at.now);
        }
    }

    /// Says in numbers what `steps` say of single workers.
    pub(super) fn as_scale(&mut self, scale: &Scale, steps: Vec<Step>) -> Vec<Step> {
        let mut going = Going::default();
        let mut plan = vec![];
        for step in steps {
            match step {
                Step::Start { .. } => going.starts += 1,
                Step::Remove { worker } | Step::Terminate { worker } => going.victims.push(worker),
                Step::Release { worker, boot } => going.drained.push((worker, boot)),
                other => plan.push(other),
            }
        }
        let again = going.drained.len().min(going.starts as usize);
        if going.starts > 0 {
            // Who has drained is deleted, and the controller makes a new one in its place.
            let released = going.drained.drain(..again);
            plan.extend(released.map(|(worker, boot)| Step::Release { worker, boot }));
            let more = going.starts - again as u32;
            if more > 0 && !scale.frozen {
                plan.push(self.ask_for(scale, scale.replicas.saturating_add(more), Gone::default()));
            }
        } else if self.may_fall() {
            let fall = match scale.victims {
                Victims::Marked => self.fall_by_marked(scale, &going, &mut plan),
                Victims::Last { first } => self.fall_by_last(scale, first, &going),
            };
            plan.extend(fall);
        }
        self.take_marks_back(scale, &going, &mut plan);
        plan
    }

    fn ask_for(&mut self, scale: &Scale, to: u32, gone: Gone) -> Step {
        let overridden = self.ledger.scaled.take().map(|known| known.overridden).unwrap_or_default();
        self.ledger.scaled = Some(Scaled { to, confirmed: false, overridden });
        Step::Scale { from: scale.replicas, to, unborn: gone.unborn, released: gone.drained }
    }

    /// Marks those that may go, and lowers the number by those that bear the mark already: whoever chooses
    /// has seen it then.
    fn fall_by_marked(&mut self, scale: &Scale, going: &Going, plan: &mut Vec<Step>) -> Option<Step> {
        let drained = going.drained.iter().map(|(worker, _)| worker);
        let all: BTreeSet<_> = going.victims.iter().chain(drained).cloned().collect();
        let goes = |member: &Member| all.contains(&member.seen.id);
        let needs_mark = |member: &Member| !matches!(member.seen.process, Process::Waiting | Process::Ending);
        let unmarked: Vec<_> = self
            .members
            .iter()
            .filter(|it| goes(it) && needs_mark(it) && !it.seen.marked)
            .map(|it| it.seen.id.clone())
            .collect();
        let falls: BTreeSet<_> = all.iter().filter(|worker| !unmarked.contains(worker)).cloned().collect();
        plan.extend(unmarked.into_iter().map(|worker| Step::Mark { worker, marked: true }));
        let may_be_busy = |it: &Member| it.seen.process == Process::Running && it.seen.unready && !goes(it);
        if self.members.iter().any(may_be_busy) {
            return None;
        }
        let to = self.alive().saturating_sub(falls.len()) as u32;
        let is_unborn = |it: &&Member| falls.contains(&it.seen.id) && self.is_unborn(it);
        let unborn = self.members.iter().filter(is_unborn).map(|it| it.seen.id.clone()).collect();
        let drained = going.drained.iter().filter(|(worker, _)| falls.contains(worker)).cloned().collect();
        (to < scale.replicas).then(|| self.ask_for(scale, to, Gone { unborn, drained }))
    }

    /// Lowers the number by those at the end that have left.
    fn fall_by_last(&mut self, scale: &Scale, first: u32, going: &Going) -> Option<Step> {
        let desired = self.desired as u32;
        if self.drain.by == Leave::Signal {
            let to = scale.replicas.saturating_sub(going.victims.len() as u32).max(desired);
            return (to < scale.replicas).then(|| self.ask_for(scale, to, Gone::default()));
        }
        let mut to = scale.replicas;
        let mut gone = Gone::default();
        while to > desired {
            let last = first + to - 1;
            let is_last =
                |it: &&Member| ordinal(&it.seen.name) == Some(last) && it.seen.process != Process::Ending;
            match self.members.iter().find(is_last) {
                Some(member) if self.is_unborn(member) => gone.unborn.push(member.seen.id.clone()),
                Some(member) if member.has_no_process() => {}
                Some(member) => {
                    let Some(left) = going.drained.iter().find(|(it, _)| *it == member.seen.id) else {
                        break;
                    };
                    gone.drained.push(left.clone());
                }
                // It is on its way out.
                None => {}
            }
            to -= 1;
        }
        (to < scale.replicas).then(|| self.ask_for(scale, to, gone))
    }

    /// Whether it was made and has no process.
    fn is_unborn(&self, member: &Member) -> bool {
        member.has_no_process() && self.at.fleet.iter().any(|seen| seen.id == member.seen.id)
    }

    /// How many there are, those included that were not made yet.
    fn alive(&self) -> usize {
        self.members.iter().filter(|it| it.seen.process != Process::Ending).count()
    }

    /// Who stays after all is no longer to be chosen. While more are there than are asked for, the choice
    /// goes on.
    fn take_marks_back(&self, scale: &Scale, going: &Going, plan: &mut Vec<Step>) {
        if scale.victims != Victims::Marked || self.alive() > scale.replicas as usize {
            return;
        }
        let stays = |it: &&Member| !it.leaving && it.seen.marked && !going.victims.contains(&it.seen.id);
        let marked = self.members.iter().filter(stays).map(|it| it.seen.id.clone());
        plan.extend(marked.map(|worker| Step::Mark { worker, marked: false }));
    }
}
