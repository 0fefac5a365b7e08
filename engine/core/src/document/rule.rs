//! `kind: ScalingRule`: how many workers there should be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Duration, Expression, Scalar};
use super::sizing::Sizing;
use super::{ApiVersion, Metadata};

/// How many workers there should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "ScalingRule")]
pub struct RuleDocument {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What this document is.
    pub kind: RuleKind,
    /// What it is called.
    pub metadata: Metadata,
    /// What it says.
    pub spec: RuleSpec,
}

/// The kind of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RuleKind {
    /// A scaling rule.
    ScalingRule,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// What the rule is for, in a sentence or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The workloads that get this rule when they name none. Only workloads whose owner asked for scaling.
    #[serde(rename = "for", default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<Selector>,
    /// Parameters with their defaults, `params.NAME` in expressions. A workload sets its own. The type
    /// is the default's: a number, a duration such as `30s`, an amount of memory such as `2Gi`, true or
    /// false, or a text. `taskSeconds` is what a task is taken to last until some have been measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Scalar>,
    /// Named values, each evaluated once; they may use each other, and `explain` shows them.
    #[serde(rename = "let", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lets: BTreeMap<String, Expression>,
    /// How many workers; without, their number is left as it is.
    #[serde(default = "Replicas::as_it_is", skip_serializing_if = "Replicas::is_as_it_is")]
    pub replicas: Replicas,
    /// How fast the number may change, in the words of the HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Behavior::is_default")]
    pub behavior: Behavior,
    /// How large the containers of a worker are; without, as their template says. Of several entries the
    /// first that fits a container holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Sizing>,
    /// How workers leave.
    #[serde(default, skip_serializing_if = "Drain::is_default")]
    pub drain: Drain,
    /// What holds when a signal that is needed cannot be read: `hold` the present number;
    /// `lastKnown(5m)`: go on with the last value for that long, then hold; `floor(2)`: hold, but
    /// at least that many. Never fewer workers because a source failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^(hold|lastKnown\([0-9.a-z]+\)|floor\([0-9]+\))$"),
        example = &"hold",
        example = &"lastKnown(5m)",
        example = &"floor(2)"
    )]
    pub on_signal_error: Option<String>,
}

/// Which workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Their kind.
    pub kind: SelectorKind,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only with all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorKind {
    /// Workloads.
    Workload,
    /// QWorkers, which are read as workloads.
    QWorker,
}

/// How many workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replicas {
    /// How many there should be; a fraction is rounded up after the tolerance was looked at.
    pub desired: Expression,
    /// How many at least; 0 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Expression>,
    /// How many at most. Every rule has a maximum, so that no mistake can ask for a million.
    pub max: Expression,
}

/// How fast the number may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Behavior {
    /// On the way up: at once and without limit, unless said otherwise.
    #[serde(default, skip_serializing_if = "Direction::is_default")]
    pub scale_up: Direction,
    /// On the way down: after a stabilization window of 30s, without limit, unless said otherwise.
    #[serde(default, skip_serializing_if = "Direction::is_default")]
    pub scale_down: Direction,
}

/// How fast the number may change in one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Direction {
    /// On the way down the largest number that was asked for during this time holds, on the way up the smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stabilization_window: Option<Duration>,
    /// A change smaller than this part of the present number is not made: 0.1 is ten per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub tolerance: Option<f64>,
    /// Which of several policies holds: the one that allows the largest change (`Max`, the default),
    /// the smallest (`Min`), or none at all (`Disabled`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<SelectPolicy>,
    /// By how much the number may change; without limit when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
}

/// Which of several policies holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    /// The largest change.
    #[default]
    Max,
    /// The smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// By how much the number may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Of what.
    #[serde(rename = "type")]
    pub of: PolicyType,
    /// This many workers, or this many per cent of them.
    pub value: u32,
    /// During this time.
    pub period: Duration,
}

/// What a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyType {
    /// Workers.
    Pods,
    /// Per cent of the workers at the begin of the period.
    Percent,
}

/// How workers leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// How long workers may take to become idle before one is ended although it works: `never`, the
    /// default, or a duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^(never|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$"),
        example = &"never",
        example = &"2h"
    )]
    pub deadline: Option<String>,
    /// How many may be asked to leave at once: a number, or a part such as `25%`; all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_at_once: Option<Scalar>,
}

impl Replicas {
    /// As many as there are.
    pub fn as_it_is() -> Self {
        let desired = Expression { text: "workers.current".into(), literal: false };
        Self { desired, min: None, max: Expression { text: "workers.current".into(), literal: false } }
    }

    /// Whether their number is left as it is.
    pub fn is_as_it_is(&self) -> bool {
        *self == Self::as_it_is()
    }
}

impl Behavior {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Direction {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Drain {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
