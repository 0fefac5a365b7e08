//! Deleting an object waits until its workers have finished, or until what it scaled is as it was.

use kube::api::{Patch, PatchParams};
use kube::core::ObjectMeta;
use serde_json::json;

use super::Watched;
use crate::engine::Mode;
use crate::platform::kubernetes::failed;
use crate::platform::kubernetes::objects::{Kind, Object};
use crate::ports::Asked;

/// While a QWorker has it, deleting it lets its workers finish first.
const DRAIN: &str = "quickube.com/drain";
/// While a Workload has it, deleting it takes back first what its target's workers were offered.
const HAND_BACK: &str = "qscaler.dev/hand-back";

fn finalizer(object: &Object) -> &'static str {
    match object.kind {
        Kind::QWorker => DRAIN,
        Kind::Workload { .. } => HAND_BACK,
    }
}

fn finalizers(metadata: &ObjectMeta) -> Vec<String> {
    metadata.finalizers.clone().unwrap_or_default()
}

impl Watched {
    /// How an object is to be looked after; not at all while it must be held and is not.
    pub(super) async fn mode(
        &self,
        metadata: &ObjectMeta,
        object: &Object,
        must_be_held: bool,
    ) -> Asked<Option<Mode>> {
        let is_deleted = metadata.deletion_timestamp.is_some();
        let mut finalizers = finalizers(metadata);
        let is_held = finalizers.iter().any(|it| it == finalizer(object));
        match (is_deleted, is_held) {
            (true, true) => Ok(Some(Mode::Drain)),
            (true, false) => Ok(None),
            (false, false) if must_be_held => {
                finalizers.push(finalizer(object).to_owned());
                // The watch tells when it is there.
                self.set_finalizers(metadata, object, &finalizers).await.map(|()| None)
            }
            (false, _) => Ok(Some(Mode::Keep)),
        }
    }

    /// Nothing is left to do for a workload: if its object is being deleted, it may go.
    pub async fn let_go(&self, key: &str) -> Asked<()> {
        let Ok(object) = self.objects.of_key(key) else { return Ok(()) };
        let of_uid = |metadata: &ObjectMeta| metadata.uid.as_ref() == Some(&object.uid);
        let metadata = match object.kind {
            Kind::QWorker => {
                self.stores.qworkers.find(|it| of_uid(&it.metadata)).map(|it| it.metadata.clone())
            }
            Kind::Workload { .. } => {
                self.stores.workloads.find(|it| of_uid(&it.metadata)).map(|it| it.metadata.clone())
            }
        };
        let Some(metadata) = metadata.filter(|it| it.deletion_timestamp.is_some()) else { return Ok(()) };
        let mut others = finalizers(&metadata);
        others.retain(|it| it != finalizer(&object));
        self.set_finalizers(&metadata, &object, &others).await
    }

    async fn set_finalizers(
        &self,
        metadata: &ObjectMeta,
        object: &Object,
        finalizers: &[String],
    ) -> Asked<()> {
        let version = metadata.resource_version.as_deref();
        let patch = json!({
            "metadata": {"uid": object.uid, "resourceVersion": version, "finalizers": finalizers},
        });
        let api = object.api(&self.client);
        match api.patch(&object.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // It has changed meanwhile, or is gone: the watch tells.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
            Err(error) => Err(failed(&format!("write the finalizers of {}", object.key()), &error)),
        }
    }
}
