//! What Workloads scale: Deployments, StatefulSets, and whatever else has a scale.
//!
//! The target and its pods are watched while their Workload is looked after. A look that something may be
//! done on the strength of reads all of it again: the object, its scale, and who else scales it.

mod conflict;
mod watching;
mod wiring;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, pinned_kind};
use kube::error::DiscoveryError;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use qscaler_core::plan::{Scale, Victims};
use qscaler_core::workload::Scaled;
use qscaler_protocol::name::WorkloadUid;

use super::controller::Stores;
use super::objects::{Kind, Object, Objects};
use super::pods::parts;
use super::{MANAGER, failed};
use crate::ports::{Asked, Found, Freshness, PortError};
pub(super) use conflict::{LAST_APPLIED, last_applied};
use watching::Watching;

/// What Workloads scale.
pub(super) struct Targets {
    client: Client,
    objects: Objects,
    stores: Stores,
    watching: Mutex<BTreeMap<WorkloadUid, Arc<Watching>>>,
}

impl Targets {
    pub(super) fn new(client: Client, objects: Objects, stores: Stores) -> Self {
        Self { client, objects, stores, watching: Mutex::default() }
    }

    /// A Workload's target, as the watch has told of it or as it is now.
    pub(super) async fn found(&self, id: &WorkloadUid, freshness: Freshness) -> Asked<Option<Found>> {
        let object = self.objects.of(id)?;
        let Kind::Workload { target } = &object.kind else { return Ok(None) };
        let Some(target) = target else {
            return Err(PortError::new(object.key(), "its target cannot be read"));
        };
        let watching = self.of(id).filter(|it| it.target == *target);
        if freshness == Freshness::Seen
            && let Some(found) = watching.as_ref().and_then(|it| it.found())
        {
            return Ok(Some(found));
        }
        let resource = match &watching {
            Some(watching) => watching.resource.clone(),
            None => resource(&self.client, target).await?,
        };
        let (version, found) = self.read(&object, target, &resource).await?;
        let watching = match watching.filter(|it| it.selector == found.selector) {
            Some(watching) => watching,
            None => self.begin(id, &object, Watching::of(target, resource, &found.selector)),
        };
        watching.keep(version, found.clone());
        Ok(Some(found))
    }

    /// Whether a Workload's target is not there any more, or nothing of its kind.
    pub(super) async fn is_gone(&self, id: &WorkloadUid) -> Asked<bool> {
        let object = self.objects.of(id)?;
        let Kind::Workload { target: Some(target) } = &object.kind else { return Ok(false) };
        let resource = match self.of(id).filter(|it| it.target == *target) {
            Some(watching) => watching.resource.clone(),
            None => match pinned_kind(&self.client, &kind_of(target)).await {
                Ok((resource, _)) => resource,
                Err(error) if is_unknown(&error) => return Ok(true),
                Err(error) => return Err(failed(&format!("find {target}"), &error)),
            },
        };
        let there = self.api(&object, &resource).get_opt(&target.name).await;
        there.map(|there| there.is_none()).map_err(|error| failed(&format!("read {target}"), &error))
    }

    /// The pods of a Workload's target.
    pub(super) async fn pods(&self, id: &WorkloadUid, freshness: Freshness) -> Asked<Vec<Arc<Pod>>> {
        let object = self.objects.of(id)?;
        let Some(watching) = self.of(id) else {
            return Err(PortError::new(object.key(), "its target was not read yet"));
        };
        match freshness {
            Freshness::Seen => Ok(watching.pods()),
            Freshness::Live => {
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &object.namespace);
                let selected = ListParams::default().labels(&watching.selector);
                let list = pods.list(&selected).await;
                let list =
                    list.map_err(|error| failed(&format!("list the pods of {}", watching.target), &error))?;
                Ok(watching.own(list.items.into_iter().map(Arc::new)))
            }
        }
    }

    /// What chooses the pods of a Workload's target, and those that the watch tells of.
    pub(super) fn selected(&self, id: &WorkloadUid) -> Asked<(String, Vec<Arc<Pod>>)> {
        let watching =
            self.of(id).ok_or_else(|| PortError::new(id.as_str(), "its target was not read yet"))?;
        Ok((watching.selector.clone(), watching.pods()))
    }

    /// Asks for another number of replicas, if nothing of the target has changed since it was read live.
    pub(super) async fn ask_for(&self, id: &WorkloadUid, from: u32, to: u32) -> Asked<bool> {
        let object = self.objects.of(id)?;
        let Some(watching) = self.of(id) else { return Ok(false) };
        let Some(version) = watching.version_with(from) else { return Ok(false) };
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": to}});
        let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let api = self.api(&object, &watching.resource);
        match api.patch_scale(&watching.target.name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(failed(&format!("scale {}", watching.target), &error)),
        }
    }

    fn api(&self, object: &Object, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &object.namespace, resource)
    }

    /// The target as it is now, and which version of it that is.
    async fn read(&self, object: &Object, target: &Scaled, resource: &ApiResource) -> Asked<(String, Found)> {
        let api = self.api(object, resource);
        let what = || format!("read {target}");
        let there = api.get_opt(&target.name).await.map_err(|error| failed(&what(), &error))?;
        let Some(there) = there else {
            let namespace = &object.namespace;
            let reason = format!(
                "there is none in the namespace `{namespace}`: create it, or name another in spec.target"
            );
            return Err(PortError::new(what(), reason));
        };
        let scale = api.get_scale(&target.name).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => {
                PortError::new(what(), "it has no scale: name another object in spec.target")
            }
            _ => failed(&format!("read the scale of {target}"), &error),
        })?;
        let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
        let selector = scale.status.as_ref().and_then(|status| status.selector.clone()).unwrap_or_default();
        if selector.is_empty() {
            return Err(PortError::new(what(), "its scale names no selector, so nobody knows its pods"));
        }
        let (autoscalers, scaled_objects) = others(&self.client, &object.namespace).await?;
        let victims = victims(target, &there.data);
        let template = there.data.pointer("/spec/template/spec");
        let found = Found {
            scale: Scale {
                replicas: u32::try_from(replicas).unwrap_or_default(),
                written_by: conflict::written_by(there.managed_fields()),
                victims,
                rolling: is_rolling(target, &there.data),
                frozen: false,
            },
            selector,
            conflict: conflict::conflict(target, &there, &autoscalers, &scaled_objects),
            lacks: template.and_then(|spec| wiring::lacks(spec, &object.key(), victims)),
            grace: template.map(wiring::grace),
            parts: template.map(parts).unwrap_or_default(),
        };
        Ok((there.resource_version().unwrap_or_default(), found))
    }

    fn begin(&self, id: &WorkloadUid, object: &Object, watching: Watching) -> Arc<Watching> {
        let api = self.api(object, &watching.resource);
        let watching = Arc::new(watching.begin(api, &self.client, &object.namespace));
        let is_there = |id: &WorkloadUid| {
            self.objects.of(id).is_ok_and(|object| {
                self.stores.workloads.find(|it| it.metadata.uid.as_ref() == Some(&object.uid)).is_some()
            })
        };
        let mut all = self.lock();
        all.retain(|id, _| is_there(id));
        all.insert(id.clone(), Arc::clone(&watching));
        watching
    }

    fn of(&self, id: &WorkloadUid) -> Option<Arc<Watching>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkloadUid, Arc<Watching>>> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the API server serves objects of a target's kind.
pub(super) async fn resource(client: &Client, target: &Scaled) -> Asked<ApiResource> {
    let known = pinned_kind(client, &kind_of(target)).await;
    known.map(|(resource, _)| resource).map_err(|error| {
        let what = format!("find {} of {}", target.kind, target.api_version);
        PortError::new(what, format!("{error}; write `kubectl api-resources` to see what there is"))
    })
}

fn kind_of(target: &Scaled) -> GroupVersionKind {
    let (group, version) = target.api_version.rsplit_once('/').unwrap_or(("", &target.api_version));
    GroupVersionKind::gvk(group, version, &target.kind)
}

/// Whether the API server says that it serves no objects of a kind.
fn is_unknown(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404,
        kube::Error::Discovery(of) => matches!(of, DiscoveryError::MissingKind(_)),
        _ => false,
    }
}

/// An autoscaler of the target, and what to type; none where there is none.
pub(super) async fn autoscaler(client: &Client, namespace: &str, target: &Scaled) -> Asked<Option<String>> {
    let (autoscalers, scaled_objects) = others(client, namespace).await?;
    Ok(conflict::scaler(target, namespace, &autoscalers, &scaled_objects))
}

/// Everything of the namespace that scales something.
async fn others(
    client: &Client,
    namespace: &str,
) -> Asked<(Vec<HorizontalPodAutoscaler>, Vec<DynamicObject>)> {
    let everything = ListParams::default();
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let autoscalers = autoscalers.list(&everything).await;
    let autoscalers = autoscalers.map_err(|error| failed("list the HorizontalPodAutoscalers", &error))?.items;
    let keda = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    let keda = ApiResource::from_gvk_with_plural(&keda, "scaledobjects");
    let scaled =
        match Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &keda).list(&everything).await
        {
            Ok(scaled) => scaled.items,
            // KEDA is not there.
            Err(kube::Error::Api(status)) if status.code == 404 => vec![],
            Err(error) => return Err(failed("list the ScaledObjects", &error)),
        };
    Ok((autoscalers, scaled))
}

/// Which replicas of a target go when there are to be fewer.
fn victims(target: &Scaled, object: &Value) -> Victims {
    if target.kind != "StatefulSet" {
        return Victims::Marked;
    }
    let first = object.pointer("/spec/ordinals/start").and_then(Value::as_u64).unwrap_or_default();
    Victims::Last { first: u32::try_from(first).unwrap_or_default() }
}

/// Whether the replicas of a target are being replaced. Of kinds that nobody knows it is not known.
fn is_rolling(target: &Scaled, object: &Value) -> bool {
    let number = |path: &str| object.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    match target.kind.as_str() {
        "Deployment" => number("/status/updatedReplicas") < number("/status/replicas"),
        "StatefulSet" => {
            let partition = number("/spec/updateStrategy/rollingUpdate/partition");
            text("/spec/updateStrategy/type") != "OnDelete"
                && text("/status/currentRevision") != text("/status/updateRevision")
                && number("/status/updatedReplicas") < number("/spec/replicas").saturating_sub(partition)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolls(kind: &str, object: Value) -> bool {
        let target = Scaled { api_version: "apps/v1".into(), kind: kind.into(), name: "mailer".into() };
        is_rolling(&target, &object)
    }

    #[test]
    fn a_deployment_rolls_while_it_has_replicas_of_an_older_template() {
        assert!(rolls("Deployment", json!({"status": {"replicas": 5, "updatedReplicas": 3}})));
        assert!(rolls("Deployment", json!({"status": {"replicas": 5}})));
        assert!(!rolls("Deployment", json!({"status": {"replicas": 5, "updatedReplicas": 5}})));
        assert!(!rolls("Deployment", json!({})));
    }

    #[test]
    fn a_stateful_set_rolls_until_its_partition() {
        let of = |updated: u32, partition: u32| {
            json!({
                "spec": {"replicas": 5, "updateStrategy": {"rollingUpdate": {"partition": partition}}},
                "status": {"currentRevision": "a", "updateRevision": "b", "updatedReplicas": updated},
            })
        };
        assert!(rolls("StatefulSet", of(2, 0)));
        assert!(!rolls("StatefulSet", of(2, 3)));
        assert!(!rolls("StatefulSet", json!({"status": {"currentRevision": "a", "updateRevision": "a"}})));
    }
}
