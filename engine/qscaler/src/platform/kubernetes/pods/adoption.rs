//! Pods that the first QScaler has made for a QWorker: taken over as they are.
//!
//! They have an owner and no labels. They get the labels by which the engine knows its own, and nothing
//! restarts. Their workers leave on their own when the status names another hash than the one they were
//! given, or fewer workers than there are; so the hash that the oldest pod was given stays the one that is
//! named and that new pods are given, until the last of them is gone.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::template::{HASH_LABEL, NAME_LABEL, ORIGINAL_HASH, OWNER_LABEL, label_of, name_of};
use super::{is_over, owner};
use crate::platform::kubernetes::failed;
use crate::platform::kubernetes::objects::Object;
use crate::ports::Asked;

/// Labels the pods that a QWorker owns and that nobody has labelled. They count as made of what the QWorker
/// says now: nobody can tell.
pub(super) async fn adopt(api: &Api<Pod>, object: &Object, hash: Option<&str>) -> Asked<()> {
    let unlabelled = ListParams::default().labels(&format!("!{OWNER_LABEL}"));
    let list = api.list(&unlabelled).await;
    let list = list.map_err(|error| failed(&format!("list the pods of {}", object.key()), &error))?;
    let is_adoptable =
        |pod: &&Pod| owner(pod) == Some(object.uid.as_str()) && pod.metadata.deletion_timestamp.is_none();
    for pod in list.items.iter().filter(is_adoptable) {
        let labels = json!({
            OWNER_LABEL: object.uid,
            NAME_LABEL: name_of(object),
            HASH_LABEL: hash.map(label_of),
        });
        let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid(), "labels": labels}}));
        let name = pod.name_any();
        match api.patch_metadata(&name, &PatchParams::default(), &patch).await {
            Ok(_) => tracing::info!(workload = object.key(), pod = name, "taken over"),
            // It is gone, or another one by now.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => return Err(failed(&format!("label the pod {name}"), &error)),
        }
    }
    Ok(())
}

/// The hash that workers of the original SDK are to find in the status: what the oldest pod was given.
/// `hash` is of what pods are made of now.
pub(in super::super) fn announced_hash<'a>(pods: &'a [Arc<Pod>], hash: &'a str) -> &'a str {
    let living = pods.iter().filter(|pod| !is_over(pod));
    let oldest =
        living.min_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()));
    oldest.and_then(|pod| given_hash(pod)).unwrap_or(hash)
}

fn given_hash(pod: &Pod) -> Option<&str> {
    let containers = &pod.spec.as_ref()?.containers;
    let variables = containers.iter().flat_map(|container| container.env.as_deref().unwrap_or_default());
    variables.into_iter().find(|variable| variable.name == ORIGINAL_HASH)?.value.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, second: u32, hash: Option<&str>) -> Arc<Pod> {
        let variables = hash.map(|hash| json!([{"name": "POD_SPEC_HASH", "value": hash}]));
        let pod = json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"containers": [{"name": "worker", "env": variables}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_hash_of_the_oldest_pod_is_named_until_it_is_gone() {
        assert_eq!(announced_hash(&[], "ours"), "ours");
        let pods = [pod("mail-2", 9, Some("ours")), pod("mail-3f2a", 1, Some("of the original"))];
        assert_eq!(announced_hash(&pods, "ours"), "of the original");
        assert_eq!(announced_hash(&pods[..1], "newer"), "ours");
        assert_eq!(announced_hash(&[pod("mail-4", 1, None)], "ours"), "ours");
    }
}
