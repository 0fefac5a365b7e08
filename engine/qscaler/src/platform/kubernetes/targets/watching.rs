//! One target and its pods, watched.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, DynamicObject};
use kube::discovery::ApiResource;
use kube::runtime::reflector::{Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::task::JoinHandle;

use qscaler_core::workload::Scaled;

use crate::ports::Found;

/// A target that is watched as long as this is kept.
pub(super) struct Watching {
    pub(super) target: Scaled,
    pub(super) resource: ApiResource,
    pub(super) selector: String,
    watches: Option<Watches>,
    /// What was read live, and which version of the target that was.
    read: Mutex<Option<(String, Found)>>,
}

struct Watches {
    target: Store<DynamicObject>,
    pods: Store<Pod>,
    jobs: [JoinHandle<()>; 2],
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.jobs.iter().for_each(JoinHandle::abort);
    }
}

impl Watching {
    pub(super) fn of(target: &Scaled, resource: ApiResource, selector: &str) -> Self {
        Self {
            target: target.clone(),
            resource,
            selector: selector.to_owned(),
            watches: None,
            read: Mutex::default(),
        }
    }

    pub(super) fn begin(self, api: Api<DynamicObject>, client: &Client, namespace: &str) -> Self {
        let one = watcher::Config::default().fields(&format!("metadata.name={}", self.target.name));
        let (target, of_target) = watch(api, one, Writer::new(self.resource.clone()));
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let selected = watcher::Config::default().labels(&self.selector);
        let (pods, of_pods) = watch(pods, selected, Writer::new(()));
        Self { watches: Some(Watches { target, pods, jobs: [of_target, of_pods] }), ..self }
    }

    /// What was read live, unless the watch has told of a change since.
    pub(super) fn found(&self) -> Option<Found> {
        let watches = self.watches.as_ref()?;
        let there = watches.target.state().first()?.resource_version();
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, found) = read.as_ref()?;
        // Before the watch of the pods has told of any there would seem to be none.
        let is_ready = watches.pods.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok());
        (is_ready && there.as_ref() == Some(version)).then(|| found.clone())
    }

    /// Keeps what was read live.
    pub(super) fn keep(&self, version: String, found: Found) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, found));
    }

    /// The version of the target that was read live, if it asked for so many replicas.
    pub(super) fn version_with(&self, replicas: u32) -> Option<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, found) = read.as_ref()?;
        (found.scale.replicas == replicas).then(|| version.clone())
    }

    /// The target's pods, as the watch tells.
    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.watches.as_ref().map(|watches| self.own(watches.pods.state())).unwrap_or_default()
    }

    /// Of pods that the selector chooses, those that are the target's: a selector may choose others, too.
    pub(super) fn own(&self, pods: impl IntoIterator<Item = Arc<Pod>>) -> Vec<Arc<Pod>> {
        pods.into_iter().filter(|pod| is_of(pod, &self.target)).collect()
    }
}

/// Whether a pod is a replica of this target. A kind that nobody knows has all pods that it selects.
fn is_of(pod: &Pod, target: &Scaled) -> bool {
    let owners = pod.owner_references();
    let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) else { return false };
    match target.kind.as_str() {
        "Deployment" => {
            let hash = pod.labels().get("pod-template-hash");
            owner.kind == "ReplicaSet"
                && hash.is_some_and(|hash| owner.name == format!("{}-{hash}", target.name))
        }
        "StatefulSet" | "ReplicaSet" => owner.kind == target.kind && owner.name == target.name,
        _ => true,
    }
}

fn watch<K>(api: Api<K>, what: watcher::Config, writer: Writer<K>) -> (Store<K>, JoinHandle<()>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let reader = writer.as_reader();
    let events = watcher(api, what).default_backoff().reflect(writer);
    let job = tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                tracing::warn!(%error, "the watch of a target is begun again");
            }
        }
    });
    (reader, job)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_only_share_the_labels_are_not_the_targets() {
        let target =
            Scaled { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "mailer".into() };
        let pod = |kind: &str, owner: &str| -> Pod {
            let owner =
                json!({"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "1", "controller": true});
            let labels = json!({"app": "mail", "pod-template-hash": "abc"});
            serde_json::from_value(json!({"metadata": {"labels": labels, "ownerReferences": [owner]}}))
                .unwrap()
        };
        assert!(is_of(&pod("ReplicaSet", "mailer-abc"), &target));
        assert!(!is_of(&pod("ReplicaSet", "other-abc"), &target));
        assert!(!is_of(&pod("StatefulSet", "mailer-abc"), &target));
        assert!(!is_of(&Pod::default(), &target));
    }
}
