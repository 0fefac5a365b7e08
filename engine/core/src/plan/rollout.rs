//! Workers made of an older template are replaced, by the same offers that a shrink makes, only that
//! these name them. Nobody is interrupted.
//!
//! A wave has three steps: workers are started, they prove themselves, and as many of the older ones are
//! asked. A worker proves itself by finishing a task, or by waiting for one while the queue is empty. At
//! most as many are on trial at once as may be there too much or be missing; while the new ones fail, nobody
//! else is asked and the older ones work on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Leave;
use super::draft::Draft;
use crate::fleet::{Member, Process};
use crate::ledger::{Grant, Rolling};
use crate::rule::By;

/// How many workers there may be too much, and how many may be missing, while workers are replaced. When
/// both are none, one may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// So many more than desired may stay.
    pub surge_max: u32,
    /// So many fewer than desired may take tasks.
    pub unavailable_max: u32,
}

impl Rollout {
    /// What is written as a number or a part of the desired workers, in numbers, as a Deployment reads it: a
    /// surge is rounded up, what may be missing is rounded down, and when both come to none one may be missing.
    pub fn resolve(surge: By, unavailable: By, desired: u32) -> Self {
        let part = |percent: u32| u64::from(desired) * u64::from(percent);
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let surge_max = match surge {
            By::Workers(count) => count,
            By::Percent(percent) => number(part(percent).div_ceil(100)),
        };
        let unavailable_max = match unavailable {
            By::Workers(count) => count,
            By::Percent(percent) => number(part(percent) / 100),
        };
        Self { surge_max, unavailable_max }.or_one()
    }

    fn or_one(self) -> Self {
        let none = self.surge_max == 0 && self.unavailable_max == 0;
        Self { unavailable_max: if none { 1 } else { self.unavailable_max }, ..self }
    }
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutState {
    /// Workers made of the present template that stay.
    pub updated: u32,
    /// Workers made of an older one that are still there.
    pub outdated: u32,
    /// Why no further worker is replaced now, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// What a rollout allows in the state that was read.
pub(super) struct Moving {
    surge: usize,
    unavailable: usize,
    stopped: Option<String>,
}

/// For so long a rollout waits for workers above the desired number before it does without them: there may
/// be no room for any.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);
/// Fewer failed tasks than this say nothing.
const FAILED_MIN: u64 = 3;
/// The new workers fail more than the old ones when they fail more than this many times as often ...
const FAILED_TIMES: f64 = 2.0;
/// ... and this part of all tasks more.
const FAILED_MARGIN: f64 = 0.05;

impl Draft<'_> {
    pub(super) fn moving(&self) -> Option<Moving> {
        let Rollout { surge_max, unavailable_max } = self.drain.rollout.or_one();
        let (surge, unavailable) = (surge_max as usize, unavailable_max as usize);
        self.outdated().next()?;
        Some(Moving { surge, unavailable, stopped: self.why_stopped() })
    }

    fn outdated(&self) -> impl Iterator<Item = &Member> {
        self.staying().filter(|member| member.seen.outdated)
    }

    fn updated(&self) -> impl Iterator<Item = &Member> {
        self.staying().filter(|member| !member.seen.outdated)
    }

    /// The rollout, unless it has stopped.
    fn going_on(&self) -> Option<&Moving> {
        self.moving.as_ref().filter(|moving| moving.stopped.is_none())
    }

    /// More offers than these may not stay open: as many as workers are too many, and in a rollout as many
    /// as can be spared for a while.
    pub(super) fn offers_max(&self) -> usize {
        if !self.may_fall() {
            return 0;
        }
        let too_many = self.size().saturating_sub(self.most());
        let registered = self.staying().filter(|member| member.registered).count();
        let spare = self.going_on().map_or(0, |moving| registered.saturating_sub(self.least(moving)));
        too_many.max(spare)
    }

    /// So many workers are to take tasks while others are replaced.
    fn least(&self, moving: &Moving) -> usize {
        self.desired.saturating_sub(moving.unavailable)
    }

    /// More than these may not stay: only new workers may be there beyond the desired number.
    pub(super) fn most(&self) -> usize {
        let surge = self.moving.as_ref().map_or(0, |moving| moving.surge.min(self.updated().count()));
        self.desired + surge
    }

    /// How many workers are to be started: never more new ones than desired.
    pub(super) fn missing(&self) -> usize {
        let surge = self.going_on().map_or(0, |moving| moving.surge);
        let room = (self.desired + surge).saturating_sub(self.size());
        let updated = self.at.asked_for(self.updated().count());
        room.min(self.desired.saturating_sub(updated))
    }

    /// Whether a shrink takes this worker before others.
    pub(super) fn goes_first(&self, member: &Member) -> bool {
        member.seen.outdated && self.going_on().is_some()
    }

    /// How many workers of an older template can be asked now in place of others.
    pub(super) fn can_go_instead(&self) -> usize {
        self.least_busy(|member| self.goes_first(member)).len().min(self.spare(self.desired))
    }

    /// Whether an offer names a worker of an older template.
    pub(super) fn replaces(&self, grant: &Grant) -> bool {
        let Some(named) = &grant.named else { return false };
        self.outdated().any(|member| member.seen.id == *named)
    }

    /// Workers of an older template that have no process hold nothing: they are replaced at once. And
    /// offers that others might claim are taken back where one that names such a worker will do.
    pub(super) fn clear_outdated(&mut self) {
        if self.going_on().is_none() {
            return;
        }
        let unborn: Vec<_> =
            self.outdated().filter(|it| it.has_no_process()).map(|it| it.seen.id.clone()).collect();
        for worker in unborn {
            self.remove(worker);
        }
        let others: Vec<_> =
            self.kept().rev().filter(|(_, grant)| !self.replaces(grant)).map(|(id, _)| id).collect();
        let needed = self.staying().count().saturating_sub(self.most());
        let instead = self.least_busy(|member| member.seen.outdated).len();
        let back = instead.max(others.len().saturating_sub(needed));
        self.withdraw.extend(others.into_iter().take(back));
    }

    /// Asks the next workers of an older template.
    pub(super) fn replace_outdated(&mut self) {
        let Some(moving) = self.going_on() else { return };
        let least = self.least(moving);
        // Offers that a smaller number of workers needs anyway are no part of the wave.
        let shrinking = self.staying().count().saturating_sub(self.most());
        let asked = self.open().saturating_sub(shrinking);
        let count = self.wave(moving).saturating_sub(asked).min(self.may_be_asked());
        match self.drain.by {
            Leave::Offer => self.grant(count.min(self.spare(least)), false),
            Leave::Signal if self.excess() == 0 => {
                let run = self.staying().filter(|member| member.seen.process == Process::Running).count();
                let count = count.min(run.saturating_sub(least));
                self.terminate_quietest(count, |it| it.seen.outdated && it.seen.process == Process::Running);
            }
            Leave::Signal => {}
        }
    }

    /// How many workers of an older template may have been asked and not yet be replaced: no more than new
    /// ones have proved themselves, and no more than are not on trial already.
    fn wave(&self, moving: &Moving) -> usize {
        let proved = self.updated().filter(|member| self.has_proved_itself(member)).count();
        let on_trial = self.updated().count() + self.started - proved;
        let free = (moving.surge + moving.unavailable).saturating_sub(on_trial);
        let nobody_can = self.updated().all(Member::has_no_process);
        let began = self.ledger.rolling.as_ref().map_or(self.at.now, |rolling| rolling.since);
        let has_waited = moving.surge == 0 || self.at.now.since(began) >= ROOM_PATIENCE;
        let trust = if proved == 0 && nobody_can && has_waited { moving.unavailable } else { proved };
        free.min(trust)
    }

    fn has_proved_itself(&self, member: &Member) -> bool {
        let done = self.at.reports.get(&member.seen.id).map_or(0, |it| it.report.done);
        match self.drain.by {
            Leave::Offer => member.registered && (done > 0 || (member.is_idle() && self.at.queue_is_empty)),
            // Programs without the SDK say nothing.
            Leave::Signal => member.seen.process == Process::Running,
        }
    }

    fn why_stopped(&self) -> Option<String> {
        for member in self.updated() {
            if let Process::BackOff { ended, .. } = &member.seen.process {
                let name = &member.seen.name;
                return Some(format!(
                    "the rollout has stopped: the new worker {name} does not stay up ({ended})"
                ));
            }
        }
        let (failed, all) = self.failures(|member| !member.seen.outdated);
        let (failed_before, all_before) = self.failures(|member| member.seen.outdated);
        let rate = |failed: u64, all: u64| failed as f64 / all.max(1) as f64;
        let allowed = FAILED_TIMES * rate(failed_before, all_before) + FAILED_MARGIN;
        (failed >= FAILED_MIN && rate(failed, all) > allowed).then(|| {
            format!(
                "the rollout has stopped: new workers have failed {failed} of {all} tasks, old ones \
                 {failed_before} of {all_before}"
            )
        })
    }

    /// Tasks that failed and all tasks that ended, on these workers.
    fn failures(&self, of: impl Fn(&Member) -> bool) -> (u64, u64) {
        let reports = self.members.iter().filter(|member| of(member));
        let reports = reports.filter_map(|member| self.at.reports.get(&member.seen.id));
        reports.fold((0, 0), |(failed, all), it| {
            (failed + it.report.failed, all + it.report.done + it.report.failed)
        })
    }

    /// What the ledger keeps of the rollout, until as many workers stay as are desired.
    pub(super) fn rolling(&self) -> Option<Rolling> {
        let before = self.ledger.rolling.as_ref();
        let settled = self.staying().count() == self.open() + self.desired;
        if self.moving.is_none() && (before.is_none() || settled) {
            return None;
        }
        let since = before.map_or(self.at.now, |rolling| rolling.since);
        Some(Rolling { desired: self.desired as u32, since })
    }

    /// How far the rollout is.
    pub(super) fn state(&self) -> Option<RolloutState> {
        let outdated = self.members.iter().filter(|member| member.seen.outdated).count() as u32;
        let stopped = self.moving.as_ref().and_then(|moving| moving.stopped.clone());
        let updated = self.updated().count() as u32;
        (outdated > 0).then_some(RolloutState { updated, outdated, stopped })
    }
}
