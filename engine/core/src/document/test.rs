//! `kind: RuleTest`: what a rule should decide, given what is measured.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ApiVersion;
use super::scalar::{Duration, Scalar};
use crate::decide::Because;
use crate::vertical::{ContainerKind, Settled};

/// What rules should decide, given what is measured. Stands beside its rules as `NAME.test.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "RuleTest")]
pub struct TestDocument {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What this document is.
    pub kind: TestKind,
    /// The cases.
    #[schemars(length(min = 1))]
    pub tests: Vec<Case>,
}

/// The kind of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TestKind {
    /// Tests of rules.
    RuleTest,
}

/// One timeline and what should be decided along it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it shows, in a few words.
    pub name: String,
    /// The rule; the one in the file beside this one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Parameters that differ from the rule's defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Scalar>,
    /// The time between two decisions, and between two values of a series; 1s without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// When it begins, in UTC, for rules that look at the calendar; 2026-01-05T00:00:00Z, a Monday, without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
        example = &"2026-01-05T08:00:00Z"
    )]
    pub start: Option<String>,
    /// How many workers there are at the begin; afterwards as many as were decided. 0 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// The containers of a worker, by name, for rules that say how large they are; one called `main`
    /// without a request or limit, where a signal names it, without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, Template>,
    /// What is measured, by signal, in PromQL's notation for tests: `0 0 400`, `0+10x5` (0 10 20 30
    /// 40 50), `400x8` (nine times 400), `_` (missing), `stale`, `error`. After the end of a series its
    /// last value holds. Values may have units: `200Mi`. Signals that are not named are missing, except
    /// those of workers, which follow the decisions. Of containers: `usage.memory{main}` and `usage.cpu{main}`
    /// are what it uses in every worker, and a value of `oom.limit{main}` is a kill at that limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Scalar>,
    /// What should be decided.
    #[schemars(length(min = 1))]
    pub expect: Vec<Expectation>,
}

/// What should be decided at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// When, after the begin.
    pub at: Duration,
    /// How many workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What settled the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// How large the containers are, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, Expected>,
}

/// A container as its pod template has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// How it lives in its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ContainerKind>,
    /// Its processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<WrittenAmounts>,
    /// Its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<WrittenAmounts>,
}

/// A request and a limit, as Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenAmounts {
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Scalar>,
    /// The limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Scalar>,
}

/// How large a container should be; what is not written is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// Its processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<ExpectedAmounts>,
    /// Its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ExpectedAmounts>,
    /// Whether running workers are given this now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized: Option<bool>,
}

/// Request and limit as they should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedAmounts {
    /// The request; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Scalar>,
    /// The limit; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Scalar>,
    /// What settled the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Settled>,
}

/// What settled a number, as test files write it.
pub(crate) fn because_text(because: Because) -> String {
    let value = serde_json::to_value(because).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
