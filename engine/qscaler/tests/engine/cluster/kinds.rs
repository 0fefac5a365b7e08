//! Anything with a scale: a kind that the engine has never heard of, whose controller is this test's.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::crds::install_from;
use super::is_ready;
use super::shop::{Shop, condition, staying};

const CREWS: &str = "testdata/kinds/crews.workers.test.yaml";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Has as many pods as the Crew `mail` says. Of those that are too many it deletes the cheapest.
struct Controller {
    crews: Api<DynamicObject>,
    pods: Api<Pod>,
}

impl Controller {
    fn start(client: &Client, namespace: &str) -> JoinHandle<()> {
        let crews = crews(client, namespace);
        let controller = Self { crews, pods: Api::namespaced(client.clone(), namespace) };
        tokio::spawn(async move {
            loop {
                controller.look().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }

    async fn look(&self) {
        let crew = self.crews.get("mail").await.unwrap();
        let wanted = crew.data["spec"]["replicas"].as_u64().unwrap() as usize;
        let all = self.pods.list(&ListParams::default().labels("app=mail")).await.unwrap().items;
        let mut pods: Vec<_> =
            all.into_iter().filter(|it| it.metadata.deletion_timestamp.is_none()).collect();
        pods.sort_by_key(|pod| pod.annotations().get(COST).map_or(0, |it| it.parse::<i64>().unwrap()));
        for _ in pods.len()..wanted {
            let pod = serde_json::from_value(pod_of(&crew)).unwrap();
            self.pods.create(&PostParams::default(), &pod).await.unwrap();
        }
        for pod in pods.iter().take(pods.len().saturating_sub(wanted)) {
            self.pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
        }
        let status = json!({"status": {"replicas": pods.len(), "selector": "app=mail"}});
        self.crews.patch_status("mail", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

fn pod_of(crew: &DynamicObject) -> Value {
    let mut pod = crew.data["spec"]["template"].clone();
    pod["metadata"]["generateName"] = json!("mail-");
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "workers.test/v1", "kind": "Crew", "name": "mail", "uid": crew.uid(), "controller": true,
    }]);
    pod
}

fn crews(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("workers.test", "v1", "Crew");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

impl Shop {
    fn crews(&self) -> Api<DynamicObject> {
        crews(&self.cluster.client, &self.cluster.namespace)
    }

    async fn create_crew(&self, replicas: u32) {
        install_from(&self.cluster.client, CREWS).await;
        let crew = json!({
            "apiVersion": "workers.test/v1", "kind": "Crew", "metadata": {"name": "mail"},
            "spec": {"replicas": replicas, "template": self.parking("mail")},
        });
        let crew = serde_json::from_value(crew).unwrap();
        self.crews().create(&PostParams::default(), &crew).await.unwrap();
    }

    async fn crew_is(&self, replicas: u32) -> bool {
        self.crews().get("mail").await.unwrap().data["spec"]["replicas"] == json!(replicas)
    }
}

#[tokio::test]
async fn a_kind_that_nobody_knows_is_observed_scaled_and_given_back() {
    let shop = Shop::open().await;
    shop.create_crew(0).await;
    let controller = Controller::start(&shop.cluster.client, &shop.cluster.namespace);
    let engine = shop.engine_with_rule();
    shop.look_after("mail", 4, |it| {
        let target = json!({"apiVersion": "workers.test/v1", "kind": "Crew", "name": "mail"});
        it["spec"]["target"] = target;
        it["spec"]["mode"] = json!("observe");
    })
    .await;
    let tasks = 16;
    shop.push("mail", tasks, 3_000..5_000);
    shop.until("it shows what it would do", async |shop| {
        let workload = shop.workload("mail").await;
        let observes = condition(&workload, "Ready").is_some_and(|(_, reason, _)| reason == "Observing");
        observes && workload.status.and_then(|it| it.desired) == Some(4)
    })
    .await;
    assert!(shop.crew_is(0).await);
    assert_eq!((shop.writes("crews"), shop.writes("pods")), (vec![], vec![]));

    shop.set_workload("mail", json!({"mode": "act"})).await;
    shop.until("four work", async |shop| shop.busy() == 4).await;
    shop.until("the tasks are done", async |shop| {
        assert!(staying(&shop.pods().await).len() <= 4);
        shop.ended() == tasks
    })
    .await;
    shop.until("nobody is there", async |shop| shop.crew_is(0).await && shop.pods().await.is_empty()).await;
    shop.every_task_was_done_once(tasks);
    assert_eq!(shop.interrupted("mail"), 0);

    shop.set_workload("mail", json!({"params": {"minReplicas": 2}})).await;
    shop.until("two are there", async |shop| {
        shop.pods().await.iter().filter(|pod| is_ready(Some(pod))).count() == 2
    })
    .await;
    let told = shop.command(&["release", "mail"]);
    assert!(told.contains("keeps its 2 replicas"), "{told}");
    let before = staying(&shop.pods().await);
    shop.let_go("mail").await;
    assert!(shop.crew_is(2).await);
    assert_eq!(staying(&shop.pods().await), before);
    controller.abort();
    shop.close_workloads(engine).await;
}
