//! A QWorker of an existing installation: its pods are taken over as they are.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::shop::{Shop, staying};

/// What the first engine wrote into its pods and into the status.
const HASH_OF_THE_FIRST: &str = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e";

fn variable<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let variables = pod.spec.as_ref()?.containers[0].env.as_ref()?;
    variables.iter().find(|variable| variable.name == name)?.value.as_deref()
}

impl Shop {
    /// Makes a pod for a QWorker as the first engine does: owned, without labels, without our variables.
    async fn pod_of_the_first(&self, qworker: &str, name: &str) -> Pod {
        let uid = self.qworker(qworker).await.uid().unwrap();
        let mut spec = self.pod_spec();
        let worker = &mut spec["containers"][0];
        worker["env"].as_array_mut().unwrap().extend([
            json!({"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            json!({"name": "QWORKER_NAME", "value": qworker}),
            json!({"name": "POD_SPEC_HASH", "value": HASH_OF_THE_FIRST}),
            json!({"name": "QSCALER_QUEUE_URL", "value": self.redis.url}),
            json!({"name": "QSCALER_QUEUE", "value": qworker}),
        ]);
        worker["volumeMounts"][0]["subPathExpr"] = json!("$(POD)");
        let owner = json!({
            "apiVersion": "quickube.com/v1alpha1", "kind": "QWorker", "name": qworker, "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        });
        let pod = json!({"metadata": {"name": name, "ownerReferences": [owner]}, "spec": spec});
        let pods: Api<Pod> = self.cluster.api();
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn pods_of_the_first_engine_work_on_and_are_never_all_told_to_leave() {
    let shop = Shop::open().await;
    shop.create("mail", 5, |it| it["spec"]["scaleConfig"]["minReplicas"] = json!(3)).await;
    let mut first = vec![];
    for name in ["mail-1f0a", "mail-2b7c", "mail-3d9e"] {
        first.push(shop.pod_of_the_first("mail", name).await.uid().unwrap());
    }
    shop.until("the pods of the first engine run", async |shop| {
        shop.pods().await.iter().filter(|pod| super::is_ready(Some(pod))).count() == 3
    })
    .await;
    let engine = shop.engine("engine");
    let announces = async |shop: &Shop| {
        let status = shop.qworker("mail").await.status.unwrap_or_default();
        (status.current_replicas, status.desired_replicas, status.current_pod_spec_hash)
    };
    shop.until("it has counted them", async |shop| announces(shop).await == (3, 3, HASH_OF_THE_FIRST.into()))
        .await;
    let pods = shop.pods().await;
    assert_eq!(pods.iter().map(|pod| pod.uid().unwrap()).collect::<Vec<_>>(), first);
    // Busy, there is room for two more, of the present making.
    shop.push("mail", 5, 5_000..6_000);
    shop.until("two were added", async |shop| staying(&shop.pods().await).len() == 5).await;
    for pod in shop.pods().await {
        assert_eq!(variable(&pod, "POD_SPEC_HASH"), Some(HASH_OF_THE_FIRST), "one hash for all: {pod:?}");
    }
    shop.until("the tasks are done", async |shop| {
        shop.lived().values().map(|task| task.ended).sum::<u32>() == 5
    })
    .await;
    // One too many is all that they are ever told: of the first SDK everybody who hears it leaves.
    let all: Api<Pod> = shop.cluster.api();
    for (left, name) in [(5, "mail-1f0a"), (4, "mail-2b7c")] {
        shop.until(&format!("of {left} one may leave"), async |shop| {
            let (current, desired, hash) = announces(shop).await;
            assert!(desired >= current - 1, "{desired} of {current} are said to be wanted");
            assert_eq!(hash, HASH_OF_THE_FIRST);
            (current, desired) == (left, left - 1)
        })
        .await;
        all.delete(name, &DeleteParams::default()).await.unwrap();
    }
    shop.until("three are left", async |shop| announces(shop).await.0 == 3).await;
    assert_eq!(shop.restarts().await, 0);
    let pods = shop.pods().await;
    assert!(pods.iter().any(|pod| pod.uid().as_ref() == first.last()), "nobody has touched the third");
    // When the last of them is gone, the hash is ours.
    for pod in pods {
        all.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    shop.until("the hash is ours", async |shop| {
        let (_, _, hash) = announces(shop).await;
        let pods = shop.pods().await;
        hash != HASH_OF_THE_FIRST && staying(&pods).len() == 3
    })
    .await;
    assert_eq!(shop.lived().len(), 5);
    shop.close(engine).await;
}
