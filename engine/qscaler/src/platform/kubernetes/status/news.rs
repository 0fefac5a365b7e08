//! What a status tells at once, and the conditions that are made of it.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use qscaler_core::plan::RolloutState;

/// What is told at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) desired: Option<u32>,
    pub(super) workers: u32,
    pub(super) draining: u32,
    /// Workers that have never reported.
    pub(super) silent: u32,
    /// What its pods are made of.
    pub(super) hash: Option<String>,
    /// While older ones are there.
    pub(super) rollout: Option<RolloutState>,
    /// What is wrong with the object as it is written.
    pub(super) unfit: Option<Condition>,
    /// How deciding goes.
    pub(super) ready: Option<Condition>,
    /// Why what was decided cannot be done.
    pub(super) failure: Option<String>,
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

impl Condition {
    pub(in super::super) fn ready(reason: &'static str, message: &str) -> Self {
        Self { of: READY, holds: true, reason, message: message.into() }
    }

    pub(in super::super) fn not_ready(reason: &'static str, message: &str) -> Self {
        Self { of: READY, holds: false, reason, message: message.into() }
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
        !self.holds && self.reason != ROLLING
    }
}

/// The reason while a rollout goes on as it should.
const ROLLING: &str = "RollingOut";

impl News {
    /// Those that can be told, one of each type.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let updated = self.desired.map(|_| self.updated());
        self.readiness().into_iter().chain(updated).collect()
    }

    fn readiness(&self) -> Option<Condition> {
        let cannot_decide = self.ready.clone().filter(|ready| !ready.holds);
        let cannot_act = || self.failure.as_ref().map(|failure| Condition::not_ready("CannotAct", failure));
        self.unfit.clone().or(cannot_decide).or_else(cannot_act).or_else(|| self.ready.clone())
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
