//! What containers use, by the API that metrics-server serves, and who else sizes them.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Resource as _, ResourceExt};
use tokio::time::timeout;

use qscaler_core::resize::Used;
use qscaler_core::time::Time;
use qscaler_core::vertical::{Measured, Resource};
use qscaler_protocol::name::WorkerId;

use super::{Pods, quantity};
use crate::platform::kubernetes::failed;
use crate::platform::kubernetes::objects::{Kind, Object};
use crate::ports::{Asked, PortError};

/// An answer that takes longer is as good as none.
const PATIENCE: Duration = Duration::from_secs(8);

/// A pod's name and uid, and when it was created: what was measured before is of an earlier one of its name.
pub(super) type Named = (String, WorkerId, Time);

/// What the containers of these pods use.
pub(super) async fn usage(client: &Client, namespace: &str, selector: &str, pods: &[Named]) -> Asked<Used> {
    let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
    let resource = ApiResource::from_gvk_with_plural(&kind, "pods");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let selected = ListParams::default().labels(selector);
    let what = "read metrics.k8s.io";
    let list = timeout(PATIENCE, api.list(&selected)).await;
    let list = list.map_err(|_| PortError::new(what, format!("no answer within {PATIENCE:?}")))?;
    let list = list.map_err(|error| failed(what, &error))?;
    let mut used = Used::new();
    for metrics in list.items {
        let Some((_, worker, since)) = pods.iter().find(|(name, ..)| *name == metrics.name_any()) else {
            continue;
        };
        let at = metrics.data["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let Some(at) = at.map(|at| Time(at.as_millisecond())).filter(|at| at >= since) else { continue };
        for container in metrics.data["containers"].as_array().into_iter().flatten() {
            let Some(name) = container["name"].as_str() else { continue };
            let amount = |of: Resource| quantity::read(of, container["usage"][of.name()].as_str()?);
            let (cpu, memory) = (amount(Resource::Cpu), amount(Resource::Memory));
            used.insert((worker.clone(), name.to_owned()), Measured { at, cpu, memory });
        }
    }
    Ok(used)
}

/// Who else sizes the pods of an object, and what to type; none where there is nobody.
pub(super) async fn rival(client: &Client, object: &Object) -> Asked<Option<String>> {
    let kind = GroupVersionKind::gvk("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler");
    let resource = ApiResource::from_gvk_with_plural(&kind, "verticalpodautoscalers");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &object.namespace, &resource);
    let autoscalers = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        // The VerticalPodAutoscaler is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        Err(error) => return Err(failed("list the VerticalPodAutoscalers", &error)),
    };
    Ok(autoscalers.iter().find_map(|autoscaler| conflict(autoscaler, object)))
}

fn conflict(autoscaler: &DynamicObject, object: &Object) -> Option<String> {
    let spec = &autoscaler.data["spec"];
    let of = |kind: &str, name: &str| spec["targetRef"]["kind"] == kind && spec["targetRef"]["name"] == name;
    let is_of = of("QWorker", &object.name) && matches!(object.kind, Kind::QWorker);
    let is_of_target = match &object.kind {
        Kind::Workload { target: Some(target) } => of(&target.kind, &target.name),
        Kind::Workload { target: None } | Kind::QWorker => false,
    };
    let mode = spec["updatePolicy"]["updateMode"].as_str().unwrap_or("Auto");
    if mode == "Off" || !(is_of || is_of_target) {
        return None;
    }
    let (name, namespace) = (autoscaler.name_any(), &object.namespace);
    Some(format!(
        "the VerticalPodAutoscaler `{name}` sizes the same pods (updateMode {mode}): `kubectl delete vpa -n {namespace} \
         {name}`, set its updateMode to \"Off\", or choose a rule without `resources` here"
    ))
}

impl Pods {
    /// Chooses the pods of an object, with their names and uids.
    pub(super) fn measured(&self, object: &Object) -> Asked<(String, Vec<Named>)> {
        let (selector, pods) = match object.kind {
            Kind::QWorker => (format!("{}={}", super::OWNER_LABEL, object.uid), self.watched(object)),
            Kind::Workload { .. } => self.targets.selected(&object.id())?,
        };
        let one = |pod: &std::sync::Arc<k8s_openapi::api::core::v1::Pod>| {
            let created = pod.meta().creation_timestamp.as_ref()?;
            Some((pod.name_any(), WorkerId::new(pod.uid()?), Time(created.0.as_millisecond())))
        };
        Ok((selector, pods.iter().filter_map(one).collect()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use qscaler_core::workload::Scaled;

    use super::*;

    #[test]
    fn an_autoscaler_that_acts_on_the_same_pods_is_named_with_what_to_type() {
        let autoscaler = |kind: &str, mode: Option<&str>| -> DynamicObject {
            let spec =
                json!({"targetRef": {"kind": kind, "name": "mailer"}, "updatePolicy": {"updateMode": mode}});
            serde_json::from_value(json!({"metadata": {"name": "sizes"}, "spec": spec})).unwrap()
        };
        let target =
            Scaled { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "mailer".into() };
        let kinds = [Kind::Workload { target: Some(target) }, Kind::QWorker];
        for (kind, of) in kinds.into_iter().zip(["Deployment", "QWorker"]) {
            let object = Object { kind, namespace: "shop".into(), name: "mailer".into(), uid: "1".into() };
            let told = conflict(&autoscaler(of, None), &object).unwrap();
            assert!(told.contains("`kubectl delete vpa -n shop sizes`"), "{told}");
            assert_eq!(conflict(&autoscaler(of, Some("Off")), &object), None);
            assert_eq!(conflict(&autoscaler("StatefulSet", None), &object), None);
        }
    }
}
