//! Who else scales a target. One owner per target: where there is another, the engine only looks.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use qscaler_core::workload::Scaled;

use crate::platform::kubernetes::MANAGER;

/// What `kubectl apply` keeps of the manifest that it applied last.
pub(in super::super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Names another owner of the target's number of replicas and says what to type.
pub(super) fn conflict(
    target: &Scaled,
    object: &DynamicObject,
    autoscalers: &[HorizontalPodAutoscaler],
    scaled_objects: &[DynamicObject],
) -> Option<String> {
    let scaler = scaler(target, &object.namespace().unwrap_or_default(), autoscalers, scaled_objects);
    if scaler.is_some() {
        return scaler;
    }
    if let Some(manager) = applier(object.managed_fields()) {
        return Some(format!(
            "`{manager}` applies a manifest of {target} with `replicas`: remove the line there and apply it \
             again, or take the field over with `qscaler adopt`"
        ));
    }
    says_replicas(object).then(|| {
        format!(
            "`kubectl apply` was given a manifest of {target} with `replicas`: remove the line there and apply \
             it again, or take the field over with `qscaler adopt`"
        )
    })
}

/// Names an autoscaler of the target and says what to type.
pub(super) fn scaler(
    target: &Scaled,
    namespace: &str,
    autoscalers: &[HorizontalPodAutoscaler],
    scaled_objects: &[DynamicObject],
) -> Option<String> {
    let of_keda = scaled_objects.iter().find(|it| is_of_keda(it, target)).map(ResourceExt::name_any);
    let autoscaler = || autoscalers.iter().find(|it| is_of_hpa(it, target)).map(ResourceExt::name_any);
    if let Some(name) = of_keda {
        return Some(format!(
            "the ScaledObject `{name}` scales {target}: `kubectl delete scaledobject -n {namespace} {name}`, or \
             keep `mode: observe` here"
        ));
    }
    let name = autoscaler()?;
    Some(format!(
        "the HorizontalPodAutoscaler `{name}` scales {target}: `kubectl delete hpa -n {namespace} {name}`, or keep \
         `mode: observe` here"
    ))
}

fn is_of_hpa(autoscaler: &HorizontalPodAutoscaler, target: &Scaled) -> bool {
    let Some(spec) = &autoscaler.spec else { return false };
    let of = &spec.scale_target_ref;
    of.kind == target.kind
        && of.name == target.name
        && of.api_version.as_deref().is_none_or(|version| group(version) == group(&target.api_version))
}

fn is_of_keda(scaled: &DynamicObject, target: &Scaled) -> bool {
    let of = &scaled.data["spec"]["scaleTargetRef"];
    let text = |field: &str, default: &str| of[field].as_str().unwrap_or(default).to_owned();
    text("kind", "Deployment") == target.kind
        && of["name"] == *target.name
        && group(&text("apiVersion", "apps/v1")) == group(&target.api_version)
}

/// Versions of one group name the same objects.
fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Who applies the number from the server's side. Whoever has only updated it does not write it again by
/// itself; a manifest that is applied does.
fn applier(fields: &[ManagedFieldsEntry]) -> Option<&str> {
    let is_applied = |entry: &&ManagedFieldsEntry| {
        entry.operation.as_deref() == Some("Apply")
            && entry.manager.as_deref() != Some(MANAGER)
            && owns_replicas(entry)
    };
    fields.iter().find(is_applied)?.manager.as_deref()
}

/// Who wrote the number last, where it was not the engine.
pub(super) fn written_by(fields: &[ManagedFieldsEntry]) -> Option<String> {
    let mut owners = fields.iter().filter(|entry| owns_replicas(entry)).peekable();
    owners.peek()?;
    let names: Vec<_> = owners.map(|entry| entry.manager.clone().unwrap_or_default()).collect();
    if names.iter().any(|name| name == MANAGER) { None } else { names.into_iter().next() }
}

fn owns_replicas(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
}

/// Whether the manifest that was applied last says how many replicas there are.
fn says_replicas(object: &DynamicObject) -> bool {
    last_applied(object).is_some_and(|it| it.pointer("/spec/replicas").is_some())
}

/// The manifest that `kubectl apply` was given last; none where there is none that can be read.
pub(in super::super) fn last_applied(object: &DynamicObject) -> Option<Value> {
    serde_json::from_str(object.annotations().get(LAST_APPLIED)?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target() -> Scaled {
        Scaled { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "mailer".into() }
    }

    fn object(metadata: Value) -> DynamicObject {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
        object["metadata"]["name"] = json!("mailer");
        object["metadata"]["namespace"] = json!("shop");
        serde_json::from_value(object).unwrap()
    }

    fn managed(manager: &str, operation: &str) -> Value {
        json!([{
            "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }])
    }

    #[test]
    fn an_autoscaler_of_the_target_is_named_with_what_to_type() {
        let hpa = |name: &str, of: &str| -> HorizontalPodAutoscaler {
            let of = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": of});
            let spec = json!({"scaleTargetRef": of, "maxReplicas": 3});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let bare = object(json!({}));
        let told = conflict(&target(), &bare, &[hpa("web", "web"), hpa("old", "mailer")], &[]).unwrap();
        assert!(told.contains("`kubectl delete hpa -n shop old`"), "{told}");
        assert_eq!(conflict(&target(), &bare, &[hpa("web", "web")], &[]), None);
    }

    #[test]
    fn a_scaled_object_of_the_target_is_named_before_the_autoscaler_that_it_made() {
        let scaled = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "mail"},
            "spec": {"scaleTargetRef": {"name": "mailer"}},
        });
        let scaled = [serde_json::from_value(scaled).unwrap()];
        let told = conflict(&target(), &object(json!({})), &[], &scaled).unwrap();
        assert!(told.contains("`kubectl delete scaledobject -n shop mail`"), "{told}");
    }

    #[test]
    fn a_manifest_with_replicas_conflicts_and_an_update_does_not() {
        let of =
            |manager: &str, operation: &str| object(json!({"managedFields": managed(manager, operation)}));
        assert!(
            conflict(&target(), &of("kubectl", "Apply"), &[], &[]).unwrap().contains("`kubectl` applies")
        );
        assert_eq!(conflict(&target(), &of("kubectl", "Update"), &[], &[]), None);
        assert_eq!(conflict(&target(), &of(MANAGER, "Apply"), &[], &[]), None);
    }

    #[test]
    fn what_kubectl_applied_with_replicas_conflicts() {
        let applied = |spec: Value| {
            let text = json!({"kind": "Deployment", "spec": spec}).to_string();
            object(json!({"annotations": {LAST_APPLIED: text}}))
        };
        assert!(conflict(&target(), &applied(json!({"replicas": 3})), &[], &[]).is_some());
        assert_eq!(conflict(&target(), &applied(json!({})), &[], &[]), None);
    }

    #[test]
    fn the_last_to_write_the_number_is_somebody_else_unless_the_engine_has() {
        let by = |manager: &str| {
            written_by(object(json!({"managedFields": managed(manager, "Update")})).managed_fields())
        };
        assert_eq!(by("helm").as_deref(), Some("helm"));
        assert_eq!(by(MANAGER), None);
    }
}
