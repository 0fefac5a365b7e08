//! The pod of one worker, made of what its QWorker says.

use serde_json::{Map, Value, json};

use qscaler_core::workload::{Password, PodTemplate, Workload};
use qscaler_protocol::environment;

use crate::platform::kubernetes::objects::Object;

/// The label with the uid of the QWorker that owns a pod.
pub(crate) const OWNER_LABEL: &str = "quickube.com/qworker-uid";
/// The label with its name, for people.
pub(super) const NAME_LABEL: &str = "quickube.com/qworker";
/// The label with the beginning of the hash of what the pod was made of.
pub(super) const HASH_LABEL: &str = "quickube.com/pod-spec-hash";
/// Labels hold at most this many characters.
const LABEL_MAX: usize = 63;
/// So many digits of a hash tell specifications apart.
const HASH_DIGITS: usize = 16;
/// Who moves pods for reasons of their own is asked to leave workers alone.
const ANNOTATIONS: [(&str, &str); 2] =
    [("karpenter.sh/do-not-disrupt", "true"), ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")];
/// Variables of the original SDK.
const ORIGINAL_NAME: &str = "QWORKER_NAME";
pub(super) const ORIGINAL_HASH: &str = "POD_SPEC_HASH";

/// The pod of the worker with this name. `announced` is the hash that the QWorker's status names.
pub(super) fn pod(
    workload: &Workload,
    template: &PodTemplate,
    object: &Object,
    (name, announced): (&str, &str),
) -> Value {
    let mut spec = template.spec.clone();
    let variables = variables(workload, template, announced);
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        add(container, &variables);
    }
    let mut labels: Map<String, Value> = texts(&template.labels);
    labels.insert("app.kubernetes.io/managed-by".into(), "qscaler".into());
    labels.insert(OWNER_LABEL.into(), object.uid.clone().into());
    labels.insert(HASH_LABEL.into(), label_of(&template.hash).into());
    labels.extend(name_of(object).map(|name| (NAME_LABEL.into(), name.into())));
    let mut annotations: Map<String, Value> =
        ANNOTATIONS.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    annotations.extend(texts(&template.annotations));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": object.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [object.owns()],
        },
        "spec": spec,
    })
}

/// What stands in the label of an object's pods with its name; longer ones find no room there.
pub(super) fn name_of(object: &Object) -> Option<&str> {
    Some(object.name.as_str()).filter(|name| name.len() <= LABEL_MAX)
}

/// What stands in the label of pods with this hash.
pub(super) fn label_of(hash: &str) -> &str {
    hash.get(..HASH_DIGITS).unwrap_or(hash)
}

fn texts(of: &std::collections::BTreeMap<String, String>) -> Map<String, Value> {
    of.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}

/// What every container is told. The password stays where it is.
fn variables(workload: &Workload, template: &PodTemplate, announced: &str) -> Vec<Value> {
    let text = |name: &str, value: &str| json!({"name": name, "value": value});
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let source = &workload.source;
    let mut variables = vec![
        field(environment::WORKER, "metadata.uid"),
        field(environment::WORKER_NAME, "metadata.name"),
        text(environment::WORKLOAD, template.owner.as_str()),
        text(environment::QUEUE_URL, &source.url),
        text(environment::QUEUE, &workload.queue_names().join(",")),
        text(environment::GRACE_SECONDS, &workload.target.grace.as_secs().to_string()),
        text(ORIGINAL_NAME, &workload.name),
        text(ORIGINAL_HASH, announced),
    ];
    variables.extend(source.username.as_ref().map(|user| text(environment::QUEUE_USERNAME, user)));
    variables.extend(match &source.password {
        Some(Password::Secret { name, key, .. }) => Some(json!({
            "name": environment::QUEUE_PASSWORD,
            "valueFrom": {"secretKeyRef": {"name": name, "key": key}},
        })),
        Some(Password::Written(password)) => Some(text(environment::QUEUE_PASSWORD, &password.0)),
        Some(Password::Environment(_)) | None => None,
    });
    variables
}

/// Adds variables to a container; those that it sets itself stay as they are.
fn add(container: &mut Value, variables: &[Value]) {
    let Some(container) = container.as_object_mut() else { return };
    let there = container.entry("env").or_insert_with(|| json!([]));
    let Some(there) = there.as_array_mut() else { return };
    for variable in variables {
        if there.iter().all(|it| it["name"] != variable["name"]) {
            there.push(variable.clone());
        }
    }
}
