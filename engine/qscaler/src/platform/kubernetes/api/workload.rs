//! `Workload`: something that has a scale, what it reads, and by which rule.
//!
//! The document of [`qscaler_core::document::workload`] without what is only of one machine: commands, files,
//! and variables of the engine's environment, where one tenant would read the password of another. Passwords
//! stand in Secrets of the workload's own namespace.

#![expect(clippy::duplicated_attributes, reason = "several columns have one type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use qscaler_core::document::workload::{Leave, Mode, Pause, Queue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::schema;

/// What is scaled, what it reads, and by which rule.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "qscaler.dev",
    version = "v1alpha1",
    kind = "Workload",
    plural = "workloads",
    namespaced,
    doc = "What is scaled, what it reads, and by which rule.",
    status = "WorkloadStatus",
    derive = "PartialEq",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Length", type_ = "integer", json_path = ".status.queueLength"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desired"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.current"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct WorkloadSpec {
    /// What is scaled: an object of this namespace that has a scale.
    pub target: Target,
    /// The queue system.
    pub source: Source,
    /// Its queues, the most urgent first.
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub queues: Vec<Queue>,
    /// The rule's name. Without, the rule whose `for` chooses this workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Parameters of the rule that are different here: texts, numbers, `true` or `false`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::params")]
    pub params: BTreeMap<String, Value>,
    /// `observe`, the default: decide and show, touch nothing. `act`: do it.
    #[serde(default)]
    pub mode: Mode,
    /// Change nothing in this direction for now: `up`, `down` or `both`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Have the containers' requests and limits follow the `resources` of the rule, in place; off without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vertical: bool,
}

/// What is scaled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The object's API version, such as `apps/v1`.
    #[schemars(length(min = 1))]
    pub api_version: String,
    /// The object's kind, such as `Deployment`.
    #[schemars(length(min = 1))]
    pub kind: String,
    /// The object's name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// How workers are asked to leave. `offer`, the default: as the SDK does, when they are idle.
    /// `signal`: by SIGTERM, for programs without the SDK; a task in progress may be interrupted.
    #[serde(default)]
    pub leave: Leave,
}

/// A queue system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The kind of queue system: `redis`.
    #[serde(rename = "type")]
    #[schemars(extend("x-kubernetes-validations" = schema::known_type()))]
    pub of: String,
    /// Where: `redis://HOST:PORT/DATABASE`, or `rediss://` for TLS.
    #[schemars(extend("x-kubernetes-validations" = addresses()), length(max = 2048))]
    pub url: String,
    /// How to log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

fn addresses() -> Value {
    json!([
        {
            "rule": "self.startsWith('redis://') || self.startsWith('rediss://')",
            "message": "it is no address of Redis: write something like redis://redis.shop.svc:6379/0",
        },
        {
            "rule": "!self.contains('@')",
            "message": "whoever reads this object would read the password: write the user in auth.username and \
                the password's Secret in auth.secretRef",
        },
    ])
}

/// How to log in. The secret itself never stands in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// The user; the queue system's default without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The Secret of this namespace with the password.
    pub secret_ref: SecretRef,
}

/// One value of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The key in it; `password` without.
    #[serde(default = "password")]
    pub key: String,
}

fn password() -> String {
    "password".into()
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The workers that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<i64>,
    /// The workers that are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i64>,
    /// The tasks that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_length: Option<i64>,
    /// The workers that were asked to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<i64>,
    /// The last decision in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Chooses the target's pods by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The generation that was decided on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds, and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The requests and limits that the containers of new pods get, and of running ones where they can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::containers")]
    pub containers: Vec<Value>,
    /// The places to leave that were offered. The engine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub ledger: Option<Value>,
}
