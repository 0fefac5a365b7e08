//! `QWorker`: pods that the engine makes and lets go.

#![expect(clippy::duplicated_attributes, reason = "several columns have one type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::schema;

/// Which pods, how many, and by what.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quickube.com",
    version = "v1alpha1",
    kind = "QWorker",
    plural = "qworkers",
    shortname = "qw",
    namespaced,
    doc = "Workers of a queue: pods that the engine makes, and lets go when they are idle.",
    status = "QWorkerStatus",
    derive = "PartialEq",
    annotation("helm.sh/resource-policy", "keep"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.currentReplicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Length", type_ = "integer", json_path = ".status.queueLength"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.currentReplicas"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.drainingReplicas"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct QWorkerSpec {
    /// The pods, as a PodSpec of Kubernetes.
    #[schemars(schema_with = "schema::pod_spec")]
    pub pod_spec: Map<String, Value>,
    /// What the pods work off, and how many there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_config: Option<ScaleConfig>,
    /// The rule that decides how many there are. Without, `scalingFactor` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Parameters of the rule that are different here: texts, numbers, `true` or `false`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::params")]
    pub params: BTreeMap<String, Value>,
    /// Change nothing in this direction for now: `up`, `down` or `both`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["up", "down", "both"]))]
    pub pause: Option<String>,
    /// How workers leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// What the pods carry beside their spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// How fast the pods follow a change of `podSpec` or `podMetadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Written by the engine through the scale subresource: the workers it wants now; what others write here
    /// is written over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i64>,
}

/// What the pods work off, and how many there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = bounds_in_order()))]
pub struct ScaleConfig {
    /// The ScalerConfig of this namespace that says where the queue is.
    #[schemars(extend("x-kubernetes-validations" = schema::rule(
        "size(self) > 0",
        "it is empty: write the name of a ScalerConfig in this namespace",
    )))]
    pub scaler_config_ref: String,
    /// The queue's name: the key of a Redis list.
    #[schemars(extend("x-kubernetes-validations" = schema::rule(
        "size(self) > 0",
        "it is empty: write the key of the Redis list that the tasks are pushed to",
    )))]
    pub queue: String,
    /// How many there are at least.
    #[schemars(extend("x-kubernetes-validations" = schema::not_negative()))]
    pub min_replicas: i64,
    /// How many there are at most.
    #[schemars(extend("x-kubernetes-validations" = schema::not_negative()))]
    pub max_replicas: i64,
    /// Workers per task that waits or runs, where no rule is named.
    #[schemars(extend("x-kubernetes-validations" = schema::not_negative()))]
    pub scaling_factor: i64,
    /// Have the pods' requests and limits follow what their containers use, by the `resources` of the rule.
    #[serde(default, rename = "activateVPA")]
    #[schemars(required, extend("default" = false))]
    pub activate_vpa: bool,
}

/// An object that was stored before this rule stays as changeable as it was: only new bounds are judged.
fn bounds_in_order() -> Value {
    json!([{
        "rule": "self.minReplicas <= self.maxReplicas || (oldSelf.hasValue() \
            && oldSelf.value().minReplicas == self.minReplicas \
            && oldSelf.value().maxReplicas == self.maxReplicas)",
        "optionalOldSelf": true,
        "fieldPath": ".maxReplicas",
        "message": "it is below minReplicas: write a maxReplicas of at least minReplicas",
    }])
}

/// How workers leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long workers may take to become idle before one is ended although it works: `never`, the default,
    /// or a duration such as `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = schema::rule(
        r"self.matches('^(never|([0-9]+([.][0-9]+)?(ms|s|m|h|d|w))+)$')",
        "it is no duration: write never, or a duration such as 2h or 1h30m",
    )))]
    pub deadline: Option<String>,
}

/// What pods carry beside their spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodMetadata {
    /// Labels, besides the engine's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, besides the engine's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How fast pods follow a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many more pods than wanted there may be meanwhile: a number, or a part such as `25%`, which is the
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_surge: Option<IntOrString>,
    /// How many fewer may take tasks meanwhile: a number, or a part such as `25%`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_unavailable: Option<IntOrString>,
}

/// What is. The engine of the first QScaler reads and writes the first four.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QWorkerStatus {
    /// The pods that there are.
    #[serde(default)]
    pub current_replicas: i64,
    /// The pods that are wanted.
    #[serde(default)]
    pub desired_replicas: i64,
    /// Tells pods of the present `podSpec` from older ones.
    #[serde(default)]
    pub current_pod_spec_hash: String,
    /// What the containers of a pod used at most.
    #[serde(default)]
    #[schemars(schema_with = "schema::usage")]
    pub max_container_resources_usage: Vec<BTreeMap<String, Quantity>>,
    /// The tasks that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_length: Option<i64>,
    /// The pods that were asked to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_replicas: Option<i64>,
    /// The last decision in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Chooses the pods by their labels.
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
