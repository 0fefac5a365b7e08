//! The engine's durable memory on a cluster: the ledger in the status of its object, the checkpoint in a
//! ConfigMap that the object owns, the record in the engine's own folder.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use qscaler_core::document::rule::RuleDocument;
use qscaler_core::ledger::Ledger;
use qscaler_core::record::Line;
use qscaler_protocol::name::WorkloadUid;

use super::controller::Stores;
use super::failed;
use super::objects::{Kind, Object, Objects};
use crate::ports::{Asked, Freshness, PortError, Store, Version};
use crate::store::SqliteStore;

/// The API server's memory is dear; what is lost with a checkpoint costs smoothness, never a worker.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(600);
/// The field of a checkpoint in its ConfigMap.
const CHECKPOINT: &str = "checkpoint";
/// Where a ledger's own count of its changes is.
const REVISION: &str = "revision";
/// A version that is a ledger's own begins so; another is its object's.
const OF_LEDGER: &str = "revision ";

/// Objects of the API server, and a record beside.
pub struct KubernetesStore {
    client: Client,
    objects: Objects,
    stores: Stores,
    record: SqliteStore,
}

impl KubernetesStore {
    /// The memory of these objects.
    pub fn new(client: Client, objects: Objects, stores: Stores, record: SqliteStore) -> Self {
        Self { client, objects, stores, record }
    }

    /// The ledger that the watch has told of; none where it has told of none.
    fn seen(&self, object: &Object) -> Asked<Option<(Version, Ledger)>> {
        let is_it = |metadata: &ObjectMeta| metadata.uid.as_ref() == Some(&object.uid);
        let ledger = match object.kind {
            Kind::QWorker => {
                let qworker = self.stores.qworkers.find(|it| is_it(&it.metadata));
                qworker.and_then(|it| it.status.as_ref()?.ledger.clone())
            }
            Kind::Workload { .. } => {
                let workload = self.stores.workloads.find(|it| is_it(&it.metadata));
                workload.and_then(|it| it.status.as_ref()?.ledger.clone())
            }
        };
        ledger.map(|ledger| parse(&object.key(), &ledger)).transpose()
    }

    async fn read(&self, object: &Object) -> Asked<DynamicObject> {
        let what = || format!("read {}", object.key());
        let read =
            object.api(&self.client).get(&object.name).await.map_err(|error| failed(&what(), &error))?;
        if read.metadata.uid.as_ref() == Some(&object.uid) {
            Ok(read)
        } else {
            Err(PortError::new(what(), "it was deleted, and there is another one of its name"))
        }
    }

    fn maps(&self, object: &Object) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &object.namespace)
    }

    async fn keep(&self, object: &Object, name: &str, text: &str) -> Asked<()> {
        let what = || format!("write the ConfigMap {name}");
        let maps = self.maps(object);
        let map = json!({
            "metadata": {"name": name, "ownerReferences": [object.owns()]},
            "data": {CHECKPOINT: text},
        });
        let is_there = maps.get_opt(name).await.map_err(|error| failed(&what(), &error))?.is_some();
        let written = if is_there {
            maps.patch(name, &PatchParams::default(), &Patch::Merge(map)).await
        } else {
            let map = serde_json::from_value(map).map_err(|error| PortError::new(what(), error))?;
            maps.create(&PostParams::default(), &map).await
        };
        written.map(|_| ()).map_err(|error| failed(&what(), &error))
    }
}

/// A ledger as it is written, and which of its revisions that is.
fn parse(key: &str, written: &Value) -> Asked<(Version, Ledger)> {
    let mut value = written.clone();
    let revision = value.as_object_mut().and_then(|fields| fields.remove(REVISION));
    let revision = revision.and_then(|it| it.as_u64()).unwrap_or_default();
    let ledger = serde_json::from_value(value)
        .map_err(|error| PortError::new(format!("the ledger of {key}"), error))?;
    Ok((Version(format!("{OF_LEDGER}{revision}")), ledger))
}

/// What is written of a ledger.
fn written(ledger: &Ledger, revision: u64) -> Value {
    let mut value = json!(ledger);
    value[REVISION] = json!(revision);
    value
}

#[async_trait]
impl Store for KubernetesStore {
    async fn uid(&self, workload: &str, _fresh: WorkloadUid) -> Asked<WorkloadUid> {
        let uid = self.objects.of_key(workload)?.id();
        self.record.set_uid(workload, &uid).await?;
        Ok(uid)
    }

    fn lags(&self) -> bool {
        true
    }

    async fn ledger(&self, uid: &WorkloadUid, freshness: Freshness) -> Asked<(Version, Ledger)> {
        let object = self.objects.of(uid)?;
        if freshness == Freshness::Seen
            && let Some(seen) = self.seen(&object)?
        {
            return Ok(seen);
        }
        let read = self.read(&object).await?;
        match read.data.pointer("/status/ledger").filter(|value| !value.is_null()) {
            Some(ledger) => parse(&object.key(), ledger),
            // None was written yet: the first is, if the object is still as it was.
            None => Ok((Version(read.metadata.resource_version.unwrap_or_default()), Ledger::default())),
        }
    }

    /// What is compared is the ledger's own revision: whoever changes something else of the object is not
    /// in the way.
    async fn commit(&self, uid: &WorkloadUid, read: &Version, ledger: &Ledger) -> Asked<bool> {
        let object = self.objects.of(uid)?;
        let api = object.api(&self.client);
        let what = || format!("write the ledger of {}", object.key());
        let parameters = PatchParams::default();
        let answer = match read.0.strip_prefix(OF_LEDGER).and_then(|it| it.parse::<u64>().ok()) {
            None => {
                let first = json!({
                    "metadata": {"uid": object.uid, "resourceVersion": read.0},
                    "status": {"ledger": written(ledger, 1)},
                });
                api.patch_status(&object.name, &parameters, &Patch::Merge(first)).await
            }
            Some(revision) => {
                let change = json!([
                    {"op": "test", "path": "/metadata/uid", "value": object.uid},
                    {"op": "test", "path": "/status/ledger/revision", "value": revision},
                    {"op": "replace", "path": "/status/ledger", "value": written(ledger, revision + 1)},
                ]);
                let patch = serde_json::from_value(change).map_err(|error| PortError::new(what(), error))?;
                api.patch_status(&object.name, &parameters, &Patch::Json::<()>(patch)).await
            }
        };
        match answer {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            // A test that fails is answered like a patch that cannot be: only the ledger tells which it was.
            Err(error @ kube::Error::Api(_)) => match self.ledger(uid, Freshness::Live).await {
                Ok((now, _)) if now != *read => Ok(false),
                _ => Err(failed(&what(), &error)),
            },
            Err(error) => Err(failed(&what(), &error)),
        }
    }

    fn checkpoint_every(&self) -> Duration {
        CHECKPOINT_EVERY
    }

    async fn checkpoint(&self, uid: &WorkloadUid) -> Asked<Option<String>> {
        let object = self.objects.of(uid)?;
        let name = map_of(&object);
        let map = self.maps(&object).get_opt(&name).await;
        let map = map.map_err(|error| failed(&format!("read the ConfigMap {name}"), &error))?;
        Ok(map.filter(|map| is_owned(map, &object.uid)).and_then(|map| map.data?.remove(CHECKPOINT)))
    }

    async fn keep_checkpoint(&self, uid: &WorkloadUid, text: &str) -> Asked<()> {
        let object = self.objects.of(uid)?;
        self.keep(&object, &map_of(&object), text).await
    }

    async fn put_aside(&self, uid: &WorkloadUid, text: &str) -> Asked<()> {
        let object = self.objects.of(uid)?;
        self.keep(&object, &format!("{}-aside", map_of(&object)), text).await
    }

    async fn record(&self, uid: &WorkloadUid, line: &Line, rule: &RuleDocument) -> Asked<()> {
        self.record.record(uid, line, rule).await
    }
}

/// The ConfigMap with an object's checkpoint.
fn map_of(object: &Object) -> String {
    match object.kind {
        Kind::QWorker => format!("qscaler-{}", object.name),
        Kind::Workload { .. } => format!("qscaler-workload-{}", object.name),
    }
}

/// Of an object that had this name before, nothing is taken over.
fn is_owned(map: &ConfigMap, uid: &str) -> bool {
    let owners = map.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.uid == uid)
}
