//! What the LimitRanges of a namespace allow a container.

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use qscaler_core::resize::Range;
use qscaler_core::vertical::Resource;

use super::quantity;
use crate::platform::kubernetes::failed;
use crate::ports::Asked;

/// What all of them say of containers; what they say of whole pods shows when a pod is refused.
pub(super) async fn ranges(client: &Client, namespace: &str) -> Asked<Vec<Range>> {
    let api: Api<LimitRange> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default()).await;
    let list = list.map_err(|error| failed("list the LimitRanges", &error))?;
    Ok(list.items.iter().flat_map(of_containers).collect())
}

fn of_containers(of: &LimitRange) -> Vec<Range> {
    let limits = of.spec.iter().flat_map(|spec| &spec.limits).filter(|limit| limit.type_ == "Container");
    let range = |(limit, resource): (&LimitRangeItem, Resource)| Range {
        name: of.name_any(),
        resource,
        min: quantity::of(resource, limit.min.as_ref()),
        max: quantity::of(resource, limit.max.as_ref()),
        default: quantity::of(resource, limit.default.as_ref()),
    };
    limits.flat_map(|limit| [(limit, Resource::Cpu), (limit, Resource::Memory)]).map(range).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_of_containers_is_read() {
        let limits = json!([
            {"type": "Pod", "max": {"memory": "8Gi"}},
            {"type": "Container", "min": {"cpu": "50m"}, "max": {"memory": "1Gi"}, "default": {"memory": "512Mi"}},
        ]);
        let of: LimitRange =
            serde_json::from_value(json!({"metadata": {"name": "range"}, "spec": {"limits": limits}}))
                .unwrap();
        let range = |resource| Range { name: "range".into(), resource, min: None, max: None, default: None };
        let mebi = 1_048_576.0;
        let memory =
            Range { max: Some(1024.0 * mebi), default: Some(512.0 * mebi), ..range(Resource::Memory) };
        assert_eq!(of_containers(&of), [Range { min: Some(0.05), ..range(Resource::Cpu) }, memory]);
    }
}
