//! Workers as pods: those that a QWorker owns, and those of what a Workload scales.
//!
//! A worker's identity is its pod's uid. Every deletion names it, and where no process may run also the
//! version that was looked at, so that what has changed meanwhile is left alone.

mod adoption;
mod containers;
mod fate;
mod quantity;
mod range;
mod resize;
mod template;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use qscaler_core::fleet::{Part, Process, Seen};
use qscaler_core::resize::{Exact, Hindrance, Range, Used};
use qscaler_core::time::Time;
use qscaler_core::workload::{Made, Workload};
use qscaler_protocol::name::{WorkerId, WorkloadUid};

use super::api::QWorker;
use super::controller::Stores;
use super::failed;
use super::objects::{Kind, Object, Objects};
use super::targets::Targets;
use crate::ports::{Asked, Found, Freshness, Platform, PortError};

pub(super) use adoption::announced_hash;
pub(super) use containers::parts;
pub(super) use quantity::resources;
pub(super) use template::OWNER_LABEL;
use template::{HASH_LABEL, label_of, pod};

/// By this annotation a ReplicaSet chooses which of its pods to delete, the lowest cost first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The lowest that there is.
const LOWEST_COST: &str = "-2147483648";
/// A watch tells of what was written within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// It is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The pods of a cluster.
pub struct Pods {
    client: Client,
    objects: Objects,
    /// Those that a QWorker owns, as a watch tells.
    watched: Store<Pod>,
    qworkers: Store<QWorker>,
    targets: Targets,
}

impl Pods {
    /// The pods of these objects.
    pub fn new(client: Client, objects: Objects, stores: Stores) -> Self {
        let (watched, qworkers) = (stores.pods.clone(), stores.qworkers.clone());
        let targets = Targets::new(client.clone(), objects.clone(), stores);
        Self { client, objects, watched, qworkers, targets }
    }

    fn api(&self, object: &Object) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &object.namespace)
    }

    /// A worker's pod as it is now, and where; none when it is gone.
    async fn find(&self, id: &WorkloadUid, worker: &WorkerId) -> Asked<Option<(Api<Pod>, Pod)>> {
        let object = self.objects.of(id)?;
        let api = self.api(&object);
        let is_it = |pod: &Pod| pod.uid().as_deref() == Some(worker.as_str());
        let known = match object.kind {
            Kind::QWorker => self.watched.find(is_it),
            Kind::Workload { .. } => {
                self.targets.pods(id, Freshness::Seen).await?.into_iter().find(|pod| is_it(pod))
            }
        };
        // One that the watch has not told of yet is looked for at the next tick.
        let Some(name) = known.map(|pod| pod.name_any()) else { return Ok(None) };
        let pod =
            api.get_opt(&name).await.map_err(|error| failed(&format!("read the pod {name}"), &error))?;
        Ok(pod.filter(is_it).map(|pod| (api, pod)))
    }

    /// The pods that a QWorker owns, as the watch tells.
    fn watched(&self, object: &Object) -> Vec<Arc<Pod>> {
        self.watched.state_filter(|pod| is_labelled(pod, object))
    }

    /// Takes over pods of another making, once: nothing is said of a QWorker's pods before all are known.
    async fn adopt(&self, object: &Object, hash: Option<&str>) -> Asked<()> {
        if self.objects.is_adopted(object) {
            return Ok(());
        }
        adoption::adopt(&self.api(object), object, hash).await?;
        let of_owner = self.owned(object, Freshness::Live).await?;
        let knows = |pod: &Arc<Pod>| self.watched.find(|it| it.uid() == pod.uid()).is_some();
        for _ in 0..TOLD_WITHIN.as_millis() / LOOK_EVERY.as_millis() {
            if of_owner.iter().all(knows) {
                self.objects.note_adopted(object);
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        let reason = format!("the watch has not told of them within {TOLD_WITHIN:?}");
        Err(PortError::new(format!("take over the pods of {}", object.key()), reason))
    }

    /// Creates a pod; that it exists is success.
    async fn create(&self, object: &Object, name: &str, pod: Value) -> Result<(), Uncreated> {
        let pod: Pod = serde_json::from_value(pod)
            .map_err(|error| PortError::new(format!("spec.podSpec of {}", object.key()), error))?;
        let api = self.api(object);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => match api.get_opt(name).await {
                Ok(Some(there)) if owner(&there) != Some(object.uid.as_str()) => {
                    let reason = "somebody else has a pod of this name; rename it, or the QWorker";
                    Err(PortError::new(format!("create the pod {name}"), reason).into())
                }
                // An answer was lost, or another engine was first.
                Ok(_) => Ok(()),
                Err(error) => Err(failed(&format!("read the pod {name}"), &error).into()),
            },
            Err(error) => {
                let refused = resize::refused(name, &error);
                let error = failed(&format!("create the pod {name}"), &error);
                Err(match refused {
                    Some(hindrance) => Uncreated::Refused(hindrance, error),
                    None => error.into(),
                })
            }
        }
    }

    /// The pods that a QWorker owns.
    async fn owned(&self, object: &Object, freshness: Freshness) -> Asked<Vec<Arc<Pod>>> {
        if freshness == Freshness::Seen {
            return Ok(self.watched(object));
        }
        let of_owner = ListParams::default().labels(&format!("{OWNER_LABEL}={}", object.uid));
        let list = self.api(object).list(&of_owner).await;
        let list = list.map_err(|error| failed(&format!("list the pods of {}", object.key()), &error))?;
        Ok(list.items.into_iter().map(Arc::new).collect())
    }
}

/// Why there is no pod.
enum Uncreated {
    /// Nobody may have one of this size, or nobody may have such a pod at all.
    Refused(Hindrance, PortError),
    Failed(PortError),
}

impl From<PortError> for Uncreated {
    fn from(error: PortError) -> Self {
        Self::Failed(error)
    }
}

impl From<Uncreated> for PortError {
    fn from(error: Uncreated) -> Self {
        let (Uncreated::Refused(_, error) | Uncreated::Failed(error)) = error;
        error
    }
}

#[async_trait]
impl Platform for Pods {
    async fn fleet(&self, uid: &WorkloadUid, workload: &Workload, freshness: Freshness) -> Asked<Vec<Seen>> {
        let object = self.objects.of(uid)?;
        // By the template that is at hand: the object may have another one by now.
        let hash = workload.target.made.hash();
        let mut pods = match &object.kind {
            Kind::QWorker => {
                self.adopt(&object, hash).await?;
                self.owned(&object, freshness).await?
            }
            Kind::Workload { .. } => self.targets.pods(uid, freshness).await?,
        };
        let is_own = matches!(object.kind, Kind::QWorker);
        pods.sort_by_key(|pod| pod.metadata.name.clone());
        let mut fleet = vec![];
        for pod in pods {
            let Some(mut seen) = seen(&pod, hash) else { continue };
            if is_own && seen.process == Process::Running && owner(&pod).is_none() {
                // So workers of the first SDK say that they leave: they finish their task and delete the pod.
                seen.process = Process::Ending;
            }
            if workload.sized {
                seen.containers = containers::inside(&pod);
                seen.resizing = containers::resizing(&pod);
            }
            if is_own && is_over(&pod) && pod.metadata.deletion_timestamp.is_none() {
                // Nothing of it runs any more, and nothing will. It is replaced under another name.
                delete(&self.api(&object), &pod, Exactly::Uid).await?;
            }
            fleet.push(seen);
        }
        Ok(fleet)
    }

    async fn start(
        &self,
        uid: &WorkloadUid,
        workload: &Workload,
        name: &str,
        sizes: &BTreeMap<String, Exact>,
    ) -> Asked<Option<Hindrance>> {
        let Made::Pod(template) = &workload.target.made else {
            return Err(PortError::new(workload.key(), "its workers are no pods"));
        };
        let object = self.objects.of(uid)?;
        let pods = self.watched(&object);
        let mut pod = pod(workload, template, &object, (name, announced_hash(&pods, &template.hash)));
        let plain = pod.clone();
        resize::born_with(&mut pod, sizes);
        match self.create(&object, name, pod).await {
            Ok(()) => Ok(None),
            // Rather a worker of the old size than none.
            Err(Uncreated::Refused(hindrance, _)) if !sizes.is_empty() => {
                self.create(&object, name, plain).await.map_err(PortError::from)?;
                Ok(Some(hindrance))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn parts(&self, workload: &Workload) -> Vec<Part> {
        match &workload.target.made {
            Made::Pod(template) => parts(&template.spec),
            Made::Process(_) | Made::Replica(_) => vec![],
        }
    }

    async fn usage(&self, uid: &WorkloadUid) -> Asked<Used> {
        let object = self.objects.of(uid)?;
        let (selector, pods) = self.measured(&object)?;
        usage::usage(&self.client, &object.namespace, &selector, &pods).await
    }

    async fn rival(&self, uid: &WorkloadUid) -> Asked<Option<String>> {
        usage::rival(&self.client, &self.objects.of(uid)?).await
    }

    async fn ranges(&self, uid: &WorkloadUid) -> Asked<Vec<Range>> {
        range::ranges(&self.client, &self.objects.of(uid)?.namespace).await
    }

    async fn resize(
        &self,
        uid: &WorkloadUid,
        worker: &WorkerId,
        sizes: &BTreeMap<String, Exact>,
    ) -> Asked<Option<Hindrance>> {
        match self.find(uid, worker).await? {
            Some((api, pod)) => resize::resize(&api, &pod, sizes).await,
            None => Ok(None),
        }
    }

    async fn remove(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<bool> {
        match self.find(uid, worker).await? {
            Some((api, pod)) if matches!(process(&pod), Process::Waiting | Process::BackOff { .. }) => {
                delete(&api, &pod, Exactly::Version).await
            }
            Some(_) | None => Ok(false),
        }
    }

    async fn delete(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()> {
        match self.find(uid, worker).await? {
            Some((api, pod)) => delete(&api, &pod, Exactly::Uid).await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn terminate(&self, uid: &WorkloadUid, worker: &WorkerId, _grace: Duration) -> Asked<()> {
        // The pod says itself how long it may take.
        self.delete(uid, worker).await
    }

    async fn found(&self, uid: &WorkloadUid, freshness: Freshness) -> Asked<Option<Found>> {
        self.targets.found(uid, freshness).await
    }

    async fn is_gone(&self, uid: &WorkloadUid) -> Asked<bool> {
        self.targets.is_gone(uid).await
    }

    async fn announce(&self, uid: &WorkloadUid, desired: u32) -> Asked<()> {
        let object = self.objects.of(uid)?;
        let known = self.qworkers.get(&ObjectRef::new(&object.name).within(&object.namespace));
        // What a Workload scales has its number already; one that the watch has not told of yet is due later.
        let Some(qworker) = known.filter(|it| it.metadata.uid.as_ref() == Some(&object.uid)) else {
            return Ok(());
        };
        if qworker.spec.replicas == Some(i64::from(desired)) {
            return Ok(());
        }
        let scale = Patch::Merge(json!({"metadata": {"uid": object.uid}, "spec": {"replicas": desired}}));
        let scaled =
            object.api(&self.client).patch_scale(&object.name, &PatchParams::default(), &scale).await;
        scaled
            .map(|_| ())
            .map_err(|error| failed(&format!("write spec.replicas of {}", object.key()), &error))
    }

    async fn mark(&self, uid: &WorkloadUid, worker: &WorkerId, marked: bool) -> Asked<()> {
        let Some((api, pod)) = self.find(uid, worker).await? else { return Ok(()) };
        let cost = marked.then_some(LOWEST_COST);
        let patch = json!({"metadata": {"uid": pod.uid(), "annotations": {DELETION_COST: cost}}});
        let name = pod.name_any();
        match api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // It is gone, or another one by now.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(failed(&format!("mark the pod {name}"), &error)),
        }
    }

    async fn ask_for(&self, uid: &WorkloadUid, from: u32, to: u32) -> Asked<bool> {
        self.targets.ask_for(uid, from, to).await
    }
}

/// Whether a pod bears the label of this QWorker.
pub(super) fn is_labelled(pod: &Pod, object: &Object) -> bool {
    pod.labels().get(OWNER_LABEL) == Some(&object.uid)
}

/// What must be as it was for a deletion to happen.
enum Exactly {
    /// The pod is the same one.
    Uid,
    /// And nothing of it has changed.
    Version,
}

/// `false`: it is another one by now, or has changed; what is due is seen at the next tick.
async fn delete(api: &Api<Pod>, pod: &Pod, exactly: Exactly) -> Asked<bool> {
    let resource_version = match exactly {
        Exactly::Uid => None,
        Exactly::Version => pod.resource_version(),
    };
    let preconditions = Some(Preconditions { uid: pod.uid(), resource_version });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    let name = pod.name_any();
    match api.delete(&name, &parameters).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
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
        unready: !is_ready(pod),
        marked: pod.annotations().get(DELETION_COST).is_some_and(|cost| cost == LOWEST_COST),
        containers: vec![],
        resizing: None,
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
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
