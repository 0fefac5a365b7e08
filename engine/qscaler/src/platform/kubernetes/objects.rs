//! Which object of the cluster stands behind a workload, by its uid and by its key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject};
use kube::core::ObjectMeta;
use kube::discovery::ApiResource;
use kube::{Client, Resource};

use qscaler_protocol::name::WorkloadUid;

use super::api::QWorker;
use crate::ports::{Asked, PortError};

/// An object that a workload was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, which no later object of this name has.
    pub uid: WorkloadUid,
    /// What its pods are to be made of; nothing where that cannot be read.
    pub hash: Option<String>,
}

/// All objects that the engine looks after.
#[derive(Clone, Default)]
pub struct Objects {
    by_uid: Arc<Mutex<BTreeMap<WorkloadUid, Object>>>,
}

impl Object {
    /// The object of this metadata; none before the API server has seen it.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: WorkloadUid::new(metadata.uid.clone()?),
            hash: None,
        })
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Its resource, without the types of its fields: what a later version has added survives.
    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), &self.namespace, &ApiResource::erase::<QWorker>(&()))
    }

    /// What events name it by.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(QWorker::api_version(&()).into_owned()),
            kind: Some(QWorker::kind(&()).into_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.to_string()),
            ..ObjectReference::default()
        }
    }

    /// What makes it the owner of another object. It does not block: deleting it in the foreground would
    /// else end its workers at once.
    pub fn owns(&self) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": QWorker::api_version(&()),
            "kind": QWorker::kind(&()),
            "name": self.name,
            "uid": self.uid.as_str(),
            "controller": true,
            "blockOwnerDeletion": false,
        })
    }
}

impl Objects {
    /// Knows this object from now on, and no earlier one of its name.
    pub fn note(&self, object: Object) {
        let mut objects = self.lock();
        objects.retain(|uid, known| *uid == object.uid || known.key() != object.key());
        objects.insert(object.uid.clone(), object);
    }

    /// The object of a workload.
    pub fn of_key(&self, key: &str) -> Asked<Object> {
        self.lock().values().find(|object| object.key() == key).cloned().ok_or_else(|| unknown(key))
    }

    /// The object with this uid.
    pub fn of(&self, uid: &WorkloadUid) -> Asked<Object> {
        self.lock().get(uid).cloned().ok_or_else(|| unknown(uid.as_str()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkloadUid, Object>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(what: &str) -> PortError {
    PortError::new(what, "it is not there any more")
}
