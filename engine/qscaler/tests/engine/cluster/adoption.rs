//! A QWorker of an existing installation: its pods are taken over as they are.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::task::JoinHandle;

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

/// Everything that a QWorker's status has said: workers that are there, workers wanted, hash.
type Said = Arc<Mutex<Vec<(i64, i64, String)>>>;

impl Shop {
    /// Writes down what workers of the first SDK would read.
    fn listen(&self, qworker: &str) -> (Said, JoinHandle<()>) {
        let said = Said::default();
        let config = watcher::Config::default().fields(&format!("metadata.name={qworker}"));
        let events = watcher(self.qworkers(), config).applied_objects();
        let heard = Arc::clone(&said);
        let listener = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(qworker) = events.next().await {
                let status = qworker.unwrap().status.unwrap_or_default();
                let (current, desired) = (status.current_replicas, status.desired_replicas);
                heard.lock().unwrap().push((current, desired, status.current_pod_spec_hash));
            }
        });
        (said, listener)
    }

    /// When the last pod of the first engine is gone, and whoever was given the same hash, the hash is ours.
    async fn begins_anew_when_all_are_gone(&self) {
        self.change("mail", json!({"spec": {"scaleConfig": {"minReplicas": 0}}})).await;
        let pods: Api<Pod> = self.cluster.api();
        pods.delete("mail-3d9e", &DeleteParams::default()).await.unwrap();
        self.until("nobody is there", async |shop| shop.pods().await.is_empty()).await;
        self.push("mail", 1, 1_000..2_000);
        self.until("the hash is ours", async |shop| {
            let hash = shop.qworker("mail").await.status.unwrap().current_pod_spec_hash;
            let pods = shop.pods().await;
            hash != HASH_OF_THE_FIRST && pods.iter().any(|pod| variable(pod, "POD_SPEC_HASH") == Some(&hash))
        })
        .await;
        self.until("its task is done", async |shop| shop.ended() == 6).await;
        assert_eq!(self.lived().len(), 6);
    }

    /// What a worker of the first SDK does when it leaves: it disowns its pod, and finishes its task.
    async fn disown(&self, pod: &str) {
        let pods: Api<Pod> = self.cluster.api();
        let nobody = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
        pods.patch(pod, &PatchParams::default(), &nobody).await.unwrap();
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
    let told = json!({"status": {"currentReplicas": 3, "desiredReplicas": 3, "currentPodSpecHash": HASH_OF_THE_FIRST}});
    shop.qworkers().patch_status("mail", &PatchParams::default(), &Patch::Merge(told)).await.unwrap();
    let (said, listener) = shop.listen("mail");
    shop.until("it is heard", async |_| !said.lock().unwrap().is_empty()).await;
    let engine = shop.engine("engine");
    let announces = async |shop: &Shop| {
        let status = shop.qworker("mail").await.status.unwrap_or_default();
        (status.current_replicas, status.desired_replicas, status.current_pod_spec_hash)
    };
    // It begins a ledger when it has looked at them all.
    shop.until("it looks after them", async |shop| {
        shop.qworker("mail").await.status.is_some_and(|status| status.ledger.is_some())
            && announces(shop).await == (3, 3, HASH_OF_THE_FIRST.into())
    })
    .await;
    let pods = shop.pods().await;
    assert_eq!(pods.iter().map(|pod| pod.uid().unwrap()).collect::<Vec<_>>(), first);
    // Busy, there is room for two more, of the present making.
    shop.push("mail", 5, 15_000..16_000);
    shop.until("two were added", async |shop| staying(&shop.pods().await).len() == 5).await;
    for pod in shop.pods().await {
        assert_eq!(variable(&pod, "POD_SPEC_HASH"), Some(HASH_OF_THE_FIRST), "one hash for all: {pod:?}");
    }
    shop.until("the tasks are done", async |shop| shop.ended() == 5).await;
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
        shop.disown(name).await;
        shop.until("it is not counted any more", async |shop| announces(shop).await.0 == left - 1).await;
        assert!(staying(&shop.pods().await).contains(&name.to_owned()), "it may finish its task");
        all.delete(name, &DeleteParams::default()).await.unwrap();
    }
    shop.until("three are left", async |shop| announces(shop).await.0 == 3).await;
    assert_eq!(shop.restarts().await, 0);
    let pods = shop.pods().await;
    assert!(pods.iter().any(|pod| pod.uid().as_ref() == first.last()), "nobody has touched the third");
    for (current, desired, hash) in said.lock().unwrap().iter() {
        assert!(*desired >= current - 1, "{desired} of {current} were said to be wanted");
        assert_eq!(hash, HASH_OF_THE_FIRST, "who was given another one leaves");
    }
    listener.abort();
    shop.begins_anew_when_all_are_gone().await;
    shop.close(engine).await;
}
