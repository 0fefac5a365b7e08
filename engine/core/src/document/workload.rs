//! `kind: Workload`: what is scaled, what it reads, and by which rule.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Duration, Scalar};
use super::{ApiVersion, Metadata};

/// What is scaled, what it reads, and by which rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Workload")]
pub struct WorkloadDocument {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What this document is.
    pub kind: WorkloadKind,
    /// What it is called.
    pub metadata: Metadata,
    /// What it says.
    pub spec: WorkloadSpec,
}

/// The kind of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// A workload.
    Workload,
}

/// What a workload says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// What is scaled.
    pub target: Target,
    /// The queue system.
    pub source: Source,
    /// Its queues, the most urgent first.
    #[schemars(length(min = 1, max = 64))]
    pub queues: Vec<Queue>,
    /// The rule's name. Without, the rule whose `for` chooses this workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Parameters of the rule that are different here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Scalar>,
    /// `observe`, the default: decide and show, touch nothing. `act`: do it.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// Change nothing in this direction for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Have the containers' requests and limits follow the `resources` of the rule, in place; off without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vertical: bool,
}

/// What is scaled: on this machine a command, on Kubernetes an object with a scale.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// On this machine: the worker's program and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = command_example())]
    pub command: Vec<String>,
    /// On this machine: environment variables for the workers, besides the engine's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// On this machine: the folder that the workers run in; the engine's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// On Kubernetes: the object's API version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// On Kubernetes: the object's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// On Kubernetes: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How workers are asked to leave. `offer`, the default: as the SDK does, when they are idle.
    /// `signal`: by SIGTERM, for programs without the SDK; a task in progress may be interrupted.
    #[serde(default, skip_serializing_if = "Leave::is_default")]
    pub leave: Leave,
    /// How long a worker may take to end after SIGTERM before it is killed; 30s without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Duration>,
}

/// How workers are asked to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Leave {
    /// By offers.
    #[default]
    Offer,
    /// By SIGTERM.
    Signal,
}

/// A queue system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Which.
    #[serde(rename = "type")]
    pub of: SourceType,
    /// Where: `redis://HOST:PORT/DATABASE` or `sqlite:PATH`.
    #[schemars(example = &"redis://127.0.0.1:6379", example = &"sqlite:queue.db")]
    pub url: String,
    /// How to log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// A kind of queue system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceType {
    /// Redis lists.
    Redis,
    /// Tables in a SQLite file, on one machine.
    Sqlite,
}

/// How to log in. The secret itself never stands in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// The user; the queue system's default without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The environment variable of the engine that holds the password.
    pub password_env: String,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The part of its demand that this workload is to carry where several share the queue; 1 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
}

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Decide and show.
    #[default]
    Observe,
    /// Decide and do.
    Act,
}

/// A direction in which nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Pause {
    /// Start none.
    Up,
    /// Let none go.
    Down,
    /// Neither.
    Both,
}

impl Mode {
    fn is_default(&self) -> bool {
        *self == Mode::Observe
    }
}

impl Leave {
    fn is_default(&self) -> bool {
        *self == Leave::Offer
    }
}

fn command_example() -> Vec<&'static str> {
    vec!["python", "worker.py"]
}
