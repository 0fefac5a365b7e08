//! Which object of the cluster stands behind a workload, by its uid and by its key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ObjectMeta;
use kube::discovery::ApiResource;

use qscaler_core::workload::Scaled;
use qscaler_protocol::name::WorkloadUid;

use super::api::{QWorker, Workload};
use crate::ports::{Asked, PortError};

/// An object that a workload was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, which no later object of this name has.
    pub uid: String,
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A QWorker.
    QWorker,
    /// A Workload.
    Workload {
        /// What it scales; nothing where that cannot be read.
        target: Option<Scaled>,
    },
}

/// All objects that the engine looks after.
#[derive(Clone, Default)]
pub struct Objects {
    by_id: Arc<Mutex<BTreeMap<WorkloadUid, Object>>>,
    /// QWorkers whose pods of another making were taken over, by uid.
    adopted: Arc<Mutex<BTreeSet<String>>>,
}

impl Object {
    /// The object of this metadata; none before the API server has seen it.
    pub fn of(kind: Kind, metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            kind,
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
        })
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What its workers know it by. Whoever writes a Deployment can know a name and no uid; a name that is
    /// used again begins a new epoch on the control path.
    pub fn id(&self) -> WorkloadUid {
        WorkloadUid::new(match self.kind {
            Kind::QWorker => self.uid.clone(),
            Kind::Workload { .. } => self.key(),
        })
    }

    fn resource(&self) -> ApiResource {
        match self.kind {
            Kind::QWorker => ApiResource::erase::<QWorker>(&()),
            Kind::Workload { .. } => ApiResource::erase::<Workload>(&()),
        }
    }

    /// Its resource, without the types of its fields: what a later version has added survives.
    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), &self.namespace, &self.resource())
    }

    /// What events name it by.
    pub fn reference(&self) -> ObjectReference {
        let resource = self.resource();
        ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// What makes it the owner of another object. It does not block: deleting it in the foreground would
    /// else end its workers at once.
    pub fn owns(&self) -> serde_json::Value {
        let resource = self.resource();
        serde_json::json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": true,
            "blockOwnerDeletion": false,
        })
    }
}

impl Objects {
    /// Knows this object from now on, and no earlier one of its name.
    pub fn note(&self, object: Object) {
        let mut objects = self.lock();
        objects.retain(|id, known| *id == object.id() || known.key() != object.key());
        objects.insert(object.id(), object);
    }

    /// The object of a workload.
    pub fn of_key(&self, key: &str) -> Asked<Object> {
        self.lock().values().find(|object| object.key() == key).cloned().ok_or_else(|| unknown(key))
    }

    /// The object whose workers know it by this.
    pub fn of(&self, id: &WorkloadUid) -> Asked<Object> {
        self.lock().get(id).cloned().ok_or_else(|| unknown(id.as_str()))
    }

    /// Whether all pods of a QWorker are known for its own.
    pub fn is_adopted(&self, object: &Object) -> bool {
        self.lock_adopted().contains(&object.uid)
    }

    /// They are from now on.
    pub fn note_adopted(&self, object: &Object) {
        self.lock_adopted().insert(object.uid.clone());
    }

    fn lock_adopted(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkloadUid, Object>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(what: &str) -> PortError {
    PortError::new(what, "it is not there any more")
}
