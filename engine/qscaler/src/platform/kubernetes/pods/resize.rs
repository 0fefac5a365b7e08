//! Sizes of pods: those of new ones, and other ones for those that run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use qscaler_core::resize::{Exact, Hindrance, Why};

use super::quantity;
use crate::platform::kubernetes::failed;
use crate::ports::Asked;

/// Gives containers of a pod other amounts through the subresource `resize`, which restarts none of them.
pub(super) async fn resize(
    api: &Api<Pod>,
    pod: &Pod,
    sizes: &BTreeMap<String, Exact>,
) -> Asked<Option<Hindrance>> {
    let name = pod.name_any();
    let patch = Patch::Strategic(patch(pod, sizes));
    match api.patch_resize(&name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        // Another pod has this name by now.
        Err(kube::Error::Api(status)) if status.code == 422 && status.message.contains("metadata.uid") => {
            Ok(None)
        }
        Err(error) => match refused(&name, &error) {
            Some(hindrance) => Ok(Some(hindrance)),
            None => Err(failed(&format!("resize the pod {name}"), &error)),
        },
    }
}

/// The API server takes containers only in their own order.
fn patch(pod: &Pod, sizes: &BTreeMap<String, Exact>) -> Value {
    let spec = pod.spec.as_ref();
    let of = |containers: Option<&[Container]>| -> Value {
        let sized = containers.unwrap_or_default().iter().filter_map(|container| {
            let size = sizes.get(&container.name)?;
            Some(json!({"name": container.name, "resources": quantity::resources(*size)}))
        });
        sized.collect()
    };
    let mut changed = json!({"containers": of(spec.map(|spec| spec.containers.as_slice()))});
    let before = of(spec.and_then(|spec| spec.init_containers.as_deref()));
    if before.as_array().is_some_and(|before| !before.is_empty()) {
        changed["initContainers"] = before;
    }
    json!({"metadata": {"uid": pod.uid()}, "spec": changed})
}

/// Why a pod may not have its size, where the API server refused for that: what of the namespace binds, or that
/// the size is none that such a pod can have.
pub(super) fn refused(pod: &str, error: &kube::Error) -> Option<Hindrance> {
    let kube::Error::Api(status) = error else { return None };
    let text = &status.message;
    match status.code {
        403 => binding(text),
        422 => {
            let message = format!("the API server refuses the new size of {pod}: {text}");
            Some(Hindrance { why: Why::Refused, message })
        }
        _ => None,
    }
}

fn binding(text: &str) -> Option<Hindrance> {
    // Words of the admission plugins ResourceQuota and LimitRanger.
    if text.contains("exceeded quota") || text.contains("failed quota") {
        let message = format!("{text}: raise the quota, or write a smaller `max` in the rule's `resources`");
        return Some(Hindrance { why: Why::Quota, message });
    }
    let is_by_limit_range = text.contains("per Container is") || text.contains("per Pod is");
    is_by_limit_range.then(|| {
        let message = format!(
            "a LimitRange binds: {text}: change it, or write `min` and `max` in the rule's `resources`"
        );
        Hindrance { why: Why::LimitRange, message }
    })
}

/// Writes the sizes that differ from the template into the specification of a new pod.
pub(super) fn born_with(pod: &mut Value, sizes: &BTreeMap<String, Exact>) {
    for field in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(size) = container["name"].as_str().and_then(|name| sizes.get(name)) else { continue };
            for (of, amounts) in quantity::resources(*size).as_object().into_iter().flatten() {
                for (name, amount) in amounts.as_object().into_iter().flatten() {
                    container["resources"][of][name] = amount.clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use qscaler_core::resize::Whole;

    use super::*;

    fn size(bytes: u64) -> Exact {
        Exact { memory: Whole { request: Some(bytes), limit: Some(bytes) }, ..Exact::default() }
    }

    #[test]
    fn a_patch_keeps_the_order_of_the_containers() {
        let pod = json!({"metadata": {"uid": "1"}, "spec": {
            "initContainers": [{"name": "side"}],
            "containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        }});
        let sizes = [("a", 1), ("b", 2)].map(|(name, bytes)| (name.to_owned(), size(bytes)));
        let patch = patch(&serde_json::from_value(pod).unwrap(), &sizes.into());
        let names: Vec<_> =
            patch["spec"]["containers"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["b", "a"]);
        assert!(patch["spec"].get("initContainers").is_none());
        assert_eq!(patch["metadata"]["uid"], "1");
    }

    #[test]
    fn what_binds_is_told_from_a_missing_right() {
        let refused = |message: &str| {
            let status = json!({"status": "Failure", "message": message, "reason": "Forbidden", "code": 403});
            refused("p", &kube::Error::Api(serde_json::from_value(status).unwrap())).map(|it| it.why)
        };
        let quota = "pods \"p\" is forbidden: exceeded quota: q, requested: requests.memory=60Mi";
        assert_eq!(refused(quota), Some(Why::Quota));
        let range =
            "pods \"p\" is forbidden: maximum memory usage per Container is 100Mi, but limit is 148Mi";
        assert_eq!(refused(range), Some(Why::LimitRange));
        assert_eq!(
            refused("pods \"p\" is forbidden: User \"u\" cannot patch resource \"pods/resize\""),
            None
        );
    }

    #[test]
    fn other_resources_of_a_container_stay_as_they_are_written() {
        let amounts = json!({"requests": {"cpu": "5m"}, "limits": {"example.com/gpu": 1}});
        let mut pod = json!({"spec": {"containers": [{"name": "a", "resources": amounts}, {"name": "b"}]}});
        born_with(&mut pod, &[("a".to_owned(), size(7)), ("b".to_owned(), size(8))].into());
        let expected = json!({
            "requests": {"cpu": "5m", "memory": "7"}, "limits": {"example.com/gpu": 1, "memory": "7"},
        });
        assert_eq!(pod["spec"]["containers"][0]["resources"], expected);
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"]["memory"], "8");
    }
}
