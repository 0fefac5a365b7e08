//! Workers as pods of their own, which a QWorker owns.
//!
//! A worker's identity is its pod's uid. Every deletion names it, and where no process may run also the
//! version that was looked at, so that what has changed meanwhile is left alone.

mod fate;
mod template;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use qscaler_core::fleet::{Process, Seen};
use qscaler_core::time::Time;
use qscaler_core::workload::{Made, Workload};
use qscaler_protocol::name::{WorkerId, WorkloadUid};

use super::failed;
use super::objects::{Object, Objects};
use crate::ports::{Asked, Freshness, Platform, PortError};

pub(super) use template::OWNER_LABEL;
use template::{HASH_LABEL, label_of, pod};

/// The pods of a cluster.
pub struct Pods {
    client: Client,
    objects: Objects,
    /// Those that a QWorker owns, as a watch tells.
    watched: Store<Pod>,
}

impl Pods {
    /// The pods that these objects own.
    pub fn new(client: Client, objects: Objects, watched: Store<Pod>) -> Self {
        Self { client, objects, watched }
    }

    fn api(&self, object: &Object) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &object.namespace)
    }

    /// A worker's pod as it is now, and where; none when it is gone.
    async fn find(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<Option<(Api<Pod>, Pod)>> {
        let api = self.api(&self.objects.of(uid)?);
        let is_it = |pod: &Pod| pod.uid().as_deref() == Some(worker.as_str());
        // One that the watch has not told of yet is looked for at the next tick.
        let Some(name) = self.watched.find(is_it).map(|pod| pod.name_any()) else { return Ok(None) };
        let pod =
            api.get_opt(&name).await.map_err(|error| failed(&format!("read the pod {name}"), &error))?;
        Ok(pod.filter(is_it).map(|pod| (api, pod)))
    }

    fn watched_of(&self, uid: &WorkloadUid) -> Vec<Arc<Pod>> {
        let is_of = |pod: &Arc<Pod>| pod.labels().get(OWNER_LABEL).is_some_and(|of| of == uid.as_str());
        self.watched.state().into_iter().filter(is_of).collect()
    }
}

#[async_trait]
impl Platform for Pods {
    async fn fleet(&self, uid: &WorkloadUid, freshness: Freshness) -> Asked<Vec<Seen>> {
        let object = self.objects.of(uid)?;
        let api = self.api(&object);
        let mut pods = match freshness {
            Freshness::Seen => self.watched_of(uid),
            Freshness::Live => {
                let of_owner = ListParams::default().labels(&format!("{OWNER_LABEL}={uid}"));
                let list = api.list(&of_owner).await;
                let list =
                    list.map_err(|error| failed(&format!("list the pods of {}", object.key()), &error));
                list?.items.into_iter().map(Arc::new).collect()
            }
        };
        pods.sort_by_key(|pod| pod.metadata.name.clone());
        let mut fleet = vec![];
        for pod in pods {
            let Some(seen) = seen(&pod, object.hash.as_deref()) else { continue };
            if is_over(&pod) && pod.metadata.deletion_timestamp.is_none() {
                // Nothing of it runs any more, and nothing will. It is replaced under another name.
                delete(&api, &pod, Exactly::Uid).await?;
            }
            fleet.push(seen);
        }
        Ok(fleet)
    }

    async fn start(&self, uid: &WorkloadUid, workload: &Workload, name: &str) -> Asked<()> {
        let Made::Pod(template) = &workload.target.made else {
            return Err(PortError::new(workload.key(), "its workers are no pods"));
        };
        let object = self.objects.of(uid)?;
        let pod = pod(workload, template, &object, name);
        let pod: Pod = serde_json::from_value(pod)
            .map_err(|error| PortError::new(format!("spec.podSpec of {}", workload.key()), error))?;
        let api = self.api(&object);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => match api.get_opt(name).await {
                Ok(Some(there)) if owner(&there) != Some(uid.as_str()) => {
                    let reason = "somebody else has a pod of this name; rename it, or the QWorker";
                    Err(PortError::new(format!("create the pod {name}"), reason))
                }
                // An answer was lost, or another engine was first.
                Ok(_) => Ok(()),
                Err(error) => Err(failed(&format!("read the pod {name}"), &error)),
            },
            Err(error) => Err(failed(&format!("create the pod {name}"), &error)),
        }
    }

    async fn remove(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()> {
        match self.find(uid, worker).await? {
            Some((api, pod)) if matches!(process(&pod), Process::Waiting | Process::BackOff { .. }) => {
                delete(&api, &pod, Exactly::Version).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn delete(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()> {
        match self.find(uid, worker).await? {
            Some((api, pod)) => delete(&api, &pod, Exactly::Uid).await,
            None => Ok(()),
        }
    }

    async fn terminate(&self, uid: &WorkloadUid, worker: &WorkerId, _grace: Duration) -> Asked<()> {
        // The pod says itself how long it may take.
        self.delete(uid, worker).await
    }
}

/// What must be as it was for a deletion to happen.
enum Exactly {
    /// The pod is the same one.
    Uid,
    /// And nothing of it has changed.
    Version,
}

async fn delete(api: &Api<Pod>, pod: &Pod, exactly: Exactly) -> Asked<()> {
    let resource_version = match exactly {
        Exactly::Uid => None,
        Exactly::Version => pod.resource_version(),
    };
    let preconditions = Some(Preconditions { uid: pod.uid(), resource_version });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    let name = pod.name_any();
    match api.delete(&name, &parameters).await {
        Ok(_) => Ok(()),
        // It is gone, or another one by now; what is due is seen at the next tick.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(failed(&format!("delete the pod {name}"), &error)),
    }
}

fn owner(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// A pod as a worker. `hash` is of what pods are made of now.
fn seen(pod: &Pod, hash: Option<&str>) -> Option<Seen> {
    let metadata = &pod.metadata;
    // One that somebody else has made says nothing, and is left as it is.
    let made_of = pod.labels().get(HASH_LABEL);
    Some(Seen {
        id: WorkerId::new(metadata.uid.clone()?),
        name: metadata.name.clone()?,
        process: process(pod),
        since: Time(metadata.creation_timestamp.as_ref()?.0.as_millisecond()),
        fate: fate::of(pod),
        usage: None,
        outdated: made_of.zip(hash).is_some_and(|(of, now)| of != label_of(now)),
    })
}

/// Whether all its containers have ended for good.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a worker's process may run. Init containers take no tasks and do not count; of several
/// containers nobody knows which is the worker, so one that runs counts for it.
fn process(pod: &Pod) -> Process {
    if pod.metadata.deletion_timestamp.is_some() || is_over(pod) {
        return Process::Ending;
    }
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    let containers = containers.unwrap_or_default();
    let runs = |container: &&ContainerStatus| container.state.as_ref().is_some_and(|it| it.running.is_some());
    if containers.iter().any(|container| runs(&container)) {
        return Process::Running;
    }
    let ended = containers.iter().find_map(|container| {
        let of =
            |state: &Option<k8s_openapi::api::core::v1::ContainerState>| state.as_ref()?.terminated.clone();
        of(&container.state).or_else(|| of(&container.last_state))
    });
    let Some(ended) = ended else { return Process::Waiting };
    let how = ended.reason.unwrap_or_else(|| "ended".into());
    Process::BackOff {
        until: Time(ended.finished_at.map_or(0, |at| at.0.as_millisecond())),
        ended: format!("{how}, exit code {}", ended.exit_code),
    }
}
