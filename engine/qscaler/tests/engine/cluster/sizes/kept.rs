//! What keeps a container from its size, and who is left alone.

use std::time::Duration;

use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::json;

use super::super::shop::Shop;
use super::{MI, RULE, asked, create, has, open, pod, push_hungry, until_sized, want};
use crate::fixture::is_full;

#[tokio::test]
async fn a_quota_and_a_limit_range_and_a_node_that_bind_are_named() {
    let shop = Shop::open().await;
    std::fs::write(shop.rules().join("sized.yaml"), RULE).unwrap();
    let range = json!({"metadata": {"name": "range"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}});
    let ranges: Api<LimitRange> = shop.cluster.api();
    ranges.create(&PostParams::default(), &serde_json::from_value(range).unwrap()).await.unwrap();
    let engine = shop.engine("engine");
    create(&shop, |it| {
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
        it["spec"]["params"] = json!({"minReplicas": 1, "worker": "600Mi"});
    })
    .await;
    // Its worker gets what is allowed.
    shop.until("its worker has the largest limit that is allowed", async |shop| {
        pod(shop).await.is_some_and(|pod| has(&pod, "worker") == Some((600 * MI, 1024 * MI)))
    })
    .await;
    let told = until_sized(&shop, "LimitRange").await;
    assert!(told.contains("1Gi") || told.contains("1024Mi"), "{told}");
    ranges.delete("range", &DeleteParams::default()).await.unwrap();
    // Another size is tried at once; what was refused is not for a while.
    let quota = json!({"metadata": {"name": "small"}, "spec": {"hard": {"requests.memory": "100Mi"}}});
    let quotas: Api<ResourceQuota> = shop.cluster.api();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    shop.until("the quota is counted", async |_| {
        quotas.get("small").await.unwrap().status.is_some_and(|it| it.used.is_some())
    })
    .await;
    want(&shop, json!({"worker": "700Mi"})).await;
    let told = until_sized(&shop, "Quota").await;
    assert!(told.contains("exceeded quota: small"), "{told}");
    quotas.delete("small", &DeleteParams::default()).await.unwrap();
    want(&shop, json!({"worker": "900Gi"})).await;
    let told = until_sized(&shop, "Infeasible").await;
    assert!(told.contains("write a smaller `max`"), "{told}");
    let worker = pod(&shop).await.unwrap();
    let (_, limit) = has(&worker, "worker").unwrap();
    assert_eq!(limit, 1024 * MI, "it works on with what it has");
    shop.close(engine).await;
}

#[tokio::test]
async fn a_limit_falls_when_its_container_uses_less_and_not_before() {
    let (shop, engine) = open(|it| {
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
        it["spec"]["params"] = json!({"minReplicas": 1, "maxReplicas": 1, "worker": "128Mi"});
    })
    .await;
    push_hungry(&shop, 45_000, "150");
    shop.until("it works", async |shop| shop.busy() == 1).await;
    want(&shop, json!({"worker": "32Mi"})).await;
    let told = until_sized(&shop, "BelowUse").await;
    assert!(told.contains("uses more than the 64.0Mi") || told.contains("uses more than the 64Mi"), "{told}");
    let busy = pod(&shop).await.unwrap();
    assert_eq!(asked(&busy, "worker"), Some((128 * MI, 256 * MI)));
    shop.until("the task is done", async |shop| shop.ended() == 1).await;
    shop.until("it has its new size", async |shop| {
        pod(shop).await.is_some_and(|pod| has(&pod, "worker") == Some((32 * MI, 64 * MI)))
    })
    .await;
    let idle = pod(&shop).await.unwrap();
    assert_eq!((idle.uid(), shop.restarts().await), (busy.uid(), 0));
    shop.every_task_was_done_once(1);
    shop.close(engine).await;
}

/// Whoever is to be replaced for its size is ten minutes old before; that is waited for in a full run.
#[tokio::test]
async fn a_container_that_a_change_restarts_keeps_its_size_until_its_worker_is_replaced() {
    let (shop, engine) = open(|it| {
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
        it["spec"]["params"] = json!({"minReplicas": 1, "maxReplicas": 1, "worker": "32Mi"});
        it["spec"]["podSpec"]["containers"][0]["resizePolicy"] =
            json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    })
    .await;
    // Busy when it is old enough.
    let task = if is_full() { 660_000 } else { 15_000 };
    shop.push("mail", 1, task..task + 1);
    shop.until("it works", async |shop| shop.busy() == 1).await;
    let before = pod(&shop).await.unwrap();
    want(&shop, json!({"worker": "48Mi"})).await;
    let told = until_sized(&shop, "Restarts").await;
    assert!(told.contains("restartPolicy: NotRequired"), "{told}");
    let patience = Duration::from_secs(900);
    shop.until_within(patience, "the task is done", async |shop| shop.ended() == 1).await;
    if is_full() {
        shop.until("another one has the size", async |shop| {
            let pods = shop.pods().await;
            let is_new =
                |pod: &Pod| pod.uid() != before.uid() && has(pod, "worker") == Some((48 * MI, 96 * MI));
            pods.len() == 1 && pods.iter().all(is_new)
        })
        .await;
    } else {
        assert_eq!(pod(&shop).await.unwrap().uid(), before.uid());
        assert_eq!(asked(&pod(&shop).await.unwrap(), "worker"), asked(&before, "worker"));
    }
    assert_eq!((shop.interrupted("mail"), shop.restarts().await), (0, 0));
    shop.every_task_was_done_once(1);
    shop.close(engine).await;
}

/// Definition of what the VerticalPodAutoscaler reads, without its rules.
fn autoscalers() -> CustomResourceDefinition {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let definition = json!({
        "metadata": {
            "name": "verticalpodautoscalers.autoscaling.k8s.io",
            // Groups of Kubernetes want this.
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/63797"},
        },
        "spec": {
            "group": "autoscaling.k8s.io",
            "scope": "Namespaced",
            "names": {"plural": "verticalpodautoscalers", "singular": "verticalpodautoscaler",
                "kind": "VerticalPodAutoscaler", "listKind": "VerticalPodAutoscalerList"},
            "versions": [version],
        },
    });
    serde_json::from_value(definition).unwrap()
}

#[tokio::test]
async fn pods_that_a_vertical_pod_autoscaler_sizes_are_left_alone() {
    let shop = Shop::open().await;
    std::fs::write(shop.rules().join("sized.yaml"), RULE).unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(shop.cluster.client.clone());
    let definition = autoscalers();
    let by = PatchParams::apply("qscaler-tests").force();
    definitions.patch(&definition.name_any(), &by, &Patch::Apply(&definition)).await.unwrap();
    let kind = GroupVersionKind::gvk("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler");
    let resource = ApiResource::from_gvk_with_plural(&kind, "verticalpodautoscalers");
    let api: Api<DynamicObject> =
        Api::namespaced_with(shop.cluster.client.clone(), &shop.cluster.namespace, &resource);
    let autoscaler: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": {"name": "sizes"},
        "spec": {"targetRef": {"apiVersion": "quickube.com/v1alpha1", "kind": "QWorker", "name": "mail"}},
    }))
    .unwrap();
    shop.until("the definition is served", async |_| {
        api.create(&PostParams::default(), &autoscaler).await.is_ok()
    })
    .await;
    let engine = shop.engine("engine");
    create(&shop, |it| it["spec"]["params"] = json!({"worker": "32Mi"})).await;
    let told = until_sized(&shop, "Conflict").await;
    assert!(told.contains("kubectl delete vpa") && told.contains("sizes"), "{told}");
    shop.push("mail", 1, 10_000..10_001);
    shop.until("the number of workers is decided all the same", async |shop| shop.busy() == 1).await;
    assert_eq!(asked(&pod(&shop).await.unwrap(), "worker"), Some((16 * MI, 64 * MI)));
    shop.until("the task is done", async |shop| shop.ended() == 1).await;
    assert!(shop.writes("pods").iter().all(|it| it.resource != "pods/resize"));
    shop.close(engine).await;
}

#[tokio::test]
async fn without_metrics_the_number_of_workers_is_decided_and_the_condition_says_what_is_missing() {
    let shop = Shop::open().await;
    // The engine may do everything but read what containers use.
    let groups = [
        "",
        "apps",
        "autoscaling",
        "autoscaling.k8s.io",
        "coordination.k8s.io",
        "events.k8s.io",
        "keda.sh",
        "qscaler.dev",
        "quickube.com",
    ];
    let role = json!({
        "metadata": {"name": "blind"},
        "rules": [{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}],
    });
    let roles: Api<Role> = shop.cluster.api();
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = shop.cluster.api();
    let mut binding = bindings.get("engine").await.unwrap();
    bindings.delete("engine", &DeleteParams::default()).await.unwrap();
    binding.metadata = serde_json::from_value(json!({"name": "engine"})).unwrap();
    (binding.role_ref.kind, binding.role_ref.name) = ("Role".into(), "blind".into());
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    std::fs::write(shop.rules().join("sized.yaml"), RULE).unwrap();
    let engine = shop.engine("engine");
    create(&shop, |_| ()).await;
    shop.push("mail", 4, 500..1_000);
    let told = until_sized(&shop, "NoUsage").await;
    assert!(told.contains("metrics.k8s.io") && told.contains("metrics-server"), "{told}");
    shop.until("the tasks are done", async |shop| shop.ended() == 4).await;
    shop.until("its workers are gone", async |shop| shop.pods().await.is_empty()).await;
    shop.every_task_was_done_once(4);
    shop.close(engine).await;
}
