//! Taking a target over from whoever wrote its number of replicas, and giving it back, without a jump: the
//! number stays what it is.

use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use qscaler_core::document::workload::Mode;
use qscaler_core::workload::{Made, Scaled};

use super::targets::{LAST_APPLIED, autoscaler, last_applied, resource};
use super::{MANAGER, api, failed, of_target};
use crate::ports::{Asked, PortError};

/// From one look at a Workload to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A Workload and what it scales.
pub struct Handover {
    workloads: Api<api::Workload>,
    name: String,
    target: Scaled,
    targets: Api<DynamicObject>,
    client: Client,
    namespace: String,
}

impl Handover {
    /// Of the Workload of this name.
    pub async fn of(client: Client, namespace: &str, name: &str) -> Asked<Self> {
        let workloads: Api<api::Workload> = Api::namespaced(client.clone(), namespace);
        let what = format!("read the Workload {namespace}/{name}");
        let workload = workloads.get(name).await.map_err(|error| failed(&what, &error))?;
        let read = of_target(&workload).map_err(|unfit| PortError::new(&what, unfit.message))?;
        let Made::Replica(target) = read.target.made else {
            return Err(PortError::new(what, "it scales nothing"));
        };
        let resource = resource(&client, &target).await?;
        let targets = Api::namespaced_with(client.clone(), namespace, &resource);
        Ok(Self { workloads, name: name.into(), target, targets, client, namespace: namespace.into() })
    }

    /// Takes the number over from manifests, and lets the engine act. An autoscaler is for its owner to
    /// delete. Returns what was done, in sentences.
    pub async fn adopt(&self) -> Asked<String> {
        let object = self.object().await?;
        if let Some(other) = autoscaler(&self.client, &self.namespace, &self.target).await? {
            return Err(PortError::new(format!("adopt {}", self.target), other));
        }
        // Read before the engine may change it.
        let replicas = self.replicas().await?;
        let mut told = String::new();
        if let Some((patch, from)) = freed(&object) {
            let patched = self.targets.patch(&self.target.name, &by_us(), &Patch::Merge(patch)).await;
            patched.map_err(|error| failed(&format!("take over {}", self.target), &error))?;
            told = format!(
                "`{from}` no longer owns the replicas of {}: remove the line from its manifest, or it asks for \
                 them again.\n",
                self.target
            );
        }
        self.set_mode(Mode::Act).await?;
        Ok(format!(
            "{told}{} is scaled by `{}` from now on; it has {replicas} replicas.",
            self.target, self.name
        ))
    }

    /// Has the engine only look, and waits until what it had offered is taken back. Returns what was done.
    pub async fn release(&self, wait: Duration) -> Asked<String> {
        self.set_mode(Mode::Observe).await?;
        let begin = Instant::now();
        loop {
            let what = || format!("read the Workload {}", self.name);
            let workload = self.workloads.get(&self.name).await.map_err(|error| failed(&what(), &error))?;
            let ledger = workload.status.and_then(|status| status.ledger).unwrap_or_default();
            let open = ledger["offers"].as_object().map_or(0, serde_json::Map::len);
            if open == 0 {
                break;
            }
            if begin.elapsed() > wait {
                let reason = format!(
                    "{open} workers that were asked to leave are still there; the engine gives them back when the \
                     queue system answers"
                );
                return Err(PortError::new(format!("release {}", self.target), reason));
            }
            sleep(LOOK_EVERY).await;
        }
        let replicas = self.replicas().await?;
        Ok(format!("{} keeps its {replicas} replicas, and `{}` only observes.", self.target, self.name))
    }

    async fn object(&self) -> Asked<DynamicObject> {
        let read = self.targets.get(&self.target.name).await;
        read.map_err(|error| failed(&format!("read {}", self.target), &error))
    }

    async fn replicas(&self) -> Asked<i32> {
        let scale = self.targets.get_scale(&self.target.name).await;
        let scale = scale.map_err(|error| failed(&format!("read the scale of {}", self.target), &error))?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or_default())
    }

    async fn set_mode(&self, mode: Mode) -> Asked<()> {
        let patch = Patch::Merge(json!({"spec": {"mode": mode}}));
        let patched = self.workloads.patch(&self.name, &PatchParams::default(), &patch).await;
        patched.map(|_| ()).map_err(|error| failed(&format!("write the Workload {}", self.name), &error))
    }
}

fn by_us() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// What makes the number of replicas nobody's manifest's, and whose it was.
fn freed(object: &DynamicObject) -> Option<(Value, String)> {
    let mut from = None;
    let mut fields = json!(object.managed_fields());
    for entry in fields.as_array_mut().into_iter().flatten() {
        let manager = entry["manager"].as_str().unwrap_or_default().to_owned();
        let spec = entry.pointer_mut("/fieldsV1/f:spec").and_then(Value::as_object_mut);
        if manager != MANAGER && spec.is_some_and(|spec| spec.remove("f:replicas").is_some()) {
            from.get_or_insert(manager);
        }
    }
    let mut annotations = json!({});
    if let Some(mut applied) = last_applied(object) {
        let spec = applied.pointer_mut("/spec").and_then(Value::as_object_mut);
        if spec.is_some_and(|spec| spec.remove("replicas").is_some()) {
            annotations[LAST_APPLIED] = json!(applied.to_string());
            from.get_or_insert("kubectl apply".to_owned());
        }
    }
    let metadata = json!({
        "resourceVersion": object.resource_version(),
        "managedFields": fields,
        "annotations": annotations,
    });
    Some((json!({"metadata": metadata}), from?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_taken_from_every_manifest_and_nothing_else_is() {
        let applied = json!({"spec": {"replicas": 3, "paused": false}}).to_string();
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "mailer", "resourceVersion": "7",
                "annotations": {LAST_APPLIED: applied},
                "managedFields": [{
                    "manager": "argo", "operation": "Apply", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}},
                }],
            },
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let (patch, from) = freed(&object).unwrap();
        assert_eq!(from, "argo");
        let fields = patch.pointer("/metadata/managedFields/0/fieldsV1").unwrap();
        assert_eq!(*fields, json!({"f:spec": {"f:paused": {}}}));
        let kept = patch["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(kept).unwrap(), json!({"spec": {"paused": false}}));
    }
}
