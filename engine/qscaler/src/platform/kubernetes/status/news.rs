//! What a status tells at once, and the conditions that are made of it.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use qscaler_core::plan::RolloutState;
use qscaler_core::resize::Why;

use crate::event::{SizesState, TargetState};

/// What is told at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) desired: Option<u32>,
    pub(super) workers: u32,
    pub(super) draining: u32,
    /// Workers that have never reported.
    pub(super) silent: u32,
    /// Of the object as it was read.
    pub(super) generation: Option<i64>,
    /// What its pods are made of.
    pub(super) hash: Option<String>,
    /// While older ones are there.
    pub(super) rollout: Option<RolloutState>,
    /// How things are with what makes the workers, where that is not the engine.
    pub(super) target: Option<TargetState>,
    /// How large its workers should be, where it says that.
    pub(super) sizes: Option<SizesState>,
    /// What is decided is done.
    pub(super) acts: bool,
    /// What is wrong with the object as it is written.
    pub(super) unfit: Option<Condition>,
    /// How the rules are.
    pub(super) rules: Option<Condition>,
    /// How deciding goes.
    pub(super) ready: Option<Condition>,
    /// Why what was decided cannot be done.
    pub(super) failure: Option<String>,
}

impl News {
    /// How many workers a QWorker's status says there are, and are wanted. Workers of the first SDK leave when
    /// they read that there are too many, every one of them. So while some live, those that leave already do not
    /// count, and no more than one too many is announced.
    pub(super) fn counted(&self) -> (u32, Option<u32>) {
        if self.silent == 0 {
            return (self.workers, self.desired);
        }
        let current = self.workers.saturating_sub(self.draining);
        (current, self.desired.map(|desired| desired.max(current.saturating_sub(1))))
    }
}

/// A condition as Kubernetes has them.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Condition {
    /// Its type.
    pub(super) of: &'static str,
    pub(super) holds: bool,
    /// In one word.
    pub(super) reason: &'static str,
    /// In a sentence.
    pub(super) message: String,
}

/// Whether it is decided and done what the rule says.
const READY: &str = "Ready";
/// Whether all workers are made of the present template.
const UPDATED: &str = "Updated";
/// Whether all containers have the sizes that the rule says.
const SIZED: &str = "Sized";
/// Whether all rules hold as they are written.
const RULES: &str = "RulesRead";
/// Whether somebody else scales the target.
const CONFLICT: &str = "Conflict";
/// Whether others change the target's number again and again.
const OVERRIDDEN: &str = "Overridden";
/// Whether the target's workers are made such that they can be asked and can leave.
const WIRED: &str = "Wired";
/// Whether tasks take longer than a rollout of the target lets them.
const GRACE_TOO_SHORT: &str = "GraceTooShort";

impl Condition {
    pub(in super::super) fn ready(reason: &'static str, message: &str) -> Self {
        Self { of: READY, holds: true, reason, message: message.into() }
    }

    pub(in super::super) fn not_ready(reason: &'static str, message: &str) -> Self {
        Self { of: READY, holds: false, reason, message: message.into() }
    }

    /// How the rules are that were read last.
    pub(super) fn rules(rules: usize, errors: usize, kept: &[String], refused: bool) -> Self {
        let shows = "`qscaler check` shows every problem";
        let (reason, message) = match (refused, errors, kept) {
            (true, ..) => {
                ("Refused", format!("the files contradict each other, and what held before holds: {shows}"))
            }
            (false, 0, _) => ("AsWritten", format!("{rules} rules hold as they are written")),
            (false, _, []) => ("Errors", format!("{errors} errors, and {rules} rules hold: {shows}")),
            (false, ..) => {
                ("Kept", format!("what {} said before holds, for it has errors: {shows}", kept.join(", ")))
            }
        };
        Self { of: RULES, holds: !refused && errors == 0, reason, message }
    }

    /// As it stands in a status.
    pub(in super::super) fn written(&self, since: Timestamp) -> Value {
        json!({
            "type": self.of,
            "status": if self.holds { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": since.to_string(),
        })
    }

    /// Whether somebody should look.
    pub(super) fn is_bad(&self) -> bool {
        let is_good_to_hold = ![CONFLICT, OVERRIDDEN, GRACE_TOO_SHORT].contains(&self.of);
        self.holds != is_good_to_hold && self.reason != ROLLING
    }

    /// That something is wrong, or that it is not.
    fn wrong(of: &'static str, wrong: Option<&String>, not: (&'static str, &str)) -> Self {
        let (reason, message) = wrong.map_or(not, |wrong| (of, wrong));
        Self { of, holds: wrong.is_some(), reason, message: message.to_owned() }
    }
}

const ONLY_SHOWS: &str = "it is decided and shown, and nothing is touched; write `mode: act` to have it done";
/// The reason while a rollout goes on as it should.
const ROLLING: &str = "RollingOut";

impl News {
    /// Those that can be told, one of each type.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let of_target = self.target.as_ref().map(of_target);
        let updated = self.desired.filter(|_| of_target.is_none()).map(|_| self.updated());
        let sized = self.sizes.as_ref().map(sized);
        let of_all = self.readiness().into_iter().chain(updated).chain(sized).chain(self.rules.clone());
        of_all.chain(of_target.into_iter().flatten()).collect()
    }

    fn readiness(&self) -> Option<Condition> {
        let cannot_decide = self.ready.clone().filter(|ready| !ready.holds);
        let cannot_act = || self.failure.as_ref().map(|failure| Condition::not_ready("CannotAct", failure));
        let only_shows = || {
            let ready = self.ready.as_ref().filter(|_| self.target.is_some() && !self.acts);
            ready.map(|_| Condition::ready("Observing", ONLY_SHOWS))
        };
        let problem = self.unfit.clone().or(cannot_decide).or_else(cannot_act);
        problem.or_else(only_shows).or_else(|| self.ready.clone())
    }

    fn updated(&self) -> Condition {
        let (holds, reason, message) = match &self.rollout {
            None => (true, "AllNew", "all workers are made of the present podSpec".to_owned()),
            Some(RolloutState { stopped: Some(why), .. }) => (false, "RolloutStopped", why.clone()),
            Some(RolloutState { updated, outdated, stopped: None }) => {
                (false, ROLLING, format!("{updated} workers are new, {outdated} are to be replaced"))
            }
        };
        Condition { of: UPDATED, holds, reason, message }
    }
}

fn sized(sizes: &SizesState) -> Condition {
    let (holds, reason, message) = match &sizes.hindrance {
        Some(hindrance) => (false, word(hindrance.why), hindrance.message.clone()),
        None if !sizes.acts => (true, "Observing", ONLY_SHOWS.to_owned()),
        None => {
            (true, "AsDecided", "every container has the size that the rule says, or is getting it".into())
        }
    };
    Condition { of: SIZED, holds, reason, message }
}

fn word(why: Why) -> &'static str {
    match why {
        Why::Conflict => "Conflict",
        Why::NoResources => "NoResources",
        Why::Quota => "Quota",
        Why::LimitRange => "LimitRange",
        Why::Infeasible => "Infeasible",
        Why::Deferred => "Deferred",
        Why::Failed => "Failed",
        Why::Refused => "Refused",
        Why::Restarts => "Restarts",
        Why::BelowUse => "BelowUse",
        Why::NoUsage => "NoUsage",
    }
}

fn of_target(target: &TargetState) -> [Condition; 4] {
    let lacks = target.lacks.as_ref();
    let wired = Condition {
        of: WIRED,
        holds: lacks.is_none(),
        reason: if lacks.is_none() { "Complete" } else { "Incomplete" },
        message: lacks.map_or("its workers can be asked, and can leave", String::as_str).to_owned(),
    };
    [
        Condition::wrong(CONFLICT, target.conflict.as_ref(), ("OneOwner", "nobody else scales the target")),
        Condition::wrong(
            OVERRIDDEN,
            target.overridden.as_ref(),
            ("NotOverridden", "the number stays as it is written"),
        ),
        wired,
        Condition::wrong(
            GRACE_TOO_SHORT,
            target.grace_too_short.as_ref(),
            ("LongEnough", "99 of 100 tasks end within the grace period"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_the_first_sdk_never_read_that_more_than_one_is_too_many() {
        let counted = |workers, draining, desired, silent| {
            News { workers, draining, desired: Some(desired), silent, ..News::default() }.counted()
        };
        assert_eq!(counted(6, 2, 1, 0), (6, Some(1)), "nobody reads it");
        assert_eq!(counted(6, 0, 1, 6), (6, Some(5)));
        assert_eq!(counted(6, 1, 5, 6), (5, Some(5)), "who leaves already was the one too many");
        assert_eq!(counted(6, 2, 1, 6), (4, Some(3)));
        assert_eq!(counted(2, 0, 4, 2), (2, Some(4)));
    }
}
