//! What KEDA scales is left to it, also when KEDA comes to a cluster where the engine is at work already.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use serde_json::json;

use super::crds::install_from;
use super::shop::{Shop, condition, holds};

const SCALED_OBJECTS: &str = "testdata/kinds/scaledobjects.keda.sh.yaml";

impl Shop {
    fn scaled_objects(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(self.cluster.client.clone(), &self.cluster.namespace, &resource)
    }

    async fn scale_by_keda(&self, deployment: &str) {
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": format!("{deployment}-by-keda")},
            "spec": {"scaleTargetRef": {"name": deployment}},
        });
        let object = serde_json::from_value(object).unwrap();
        self.scaled_objects().create(&PostParams::default(), &object).await.unwrap();
    }

    async fn until_keda_has(&self, workload: &str) {
        let namespace = &self.cluster.namespace;
        let typed = format!("`kubectl delete scaledobject -n {namespace} {workload}-by-keda`");
        self.until(&format!("{workload} has a conflict"), async |shop| {
            let told = condition(&shop.workload(workload).await, "Conflict");
            told.is_some_and(|(holds, _, message)| holds == "True" && message.contains(&typed))
        })
        .await;
    }

    /// How often the engine has written to a Deployment.
    fn writes_to(&self, deployment: &str) -> usize {
        self.writes("deployments").iter().filter(|write| write.name == deployment).count()
    }
}

#[tokio::test]
async fn what_keda_scales_is_not_touched() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    // One that the engine scales before KEDA comes.
    shop.deploy("mail", 0, |_| ()).await;
    shop.look_after("mail", 3, |_| ()).await;
    shop.push("mail", 1, 100..200);
    shop.until("its task is done", async |shop| shop.ended() == 1).await;
    shop.until("nobody is there", async |shop| shop.replicas("mail").await == 0).await;

    install_from(&shop.cluster.client, SCALED_OBJECTS).await;
    shop.scale_by_keda("mail").await;
    shop.deploy("news", 1, |_| ()).await;
    shop.scale_by_keda("news").await;
    shop.look_after("news", 3, |_| ()).await;
    for name in ["mail", "news"] {
        shop.until_keda_has(name).await;
    }
    let before = shop.writes_to("mail");
    for (name, replicas) in [("mail", 0), ("news", 1)] {
        shop.push(name, 3, 5_000..6_000);
        shop.until("it shows what it would do", async |shop| {
            shop.workload(name).await.status.and_then(|it| it.desired) == Some(3)
        })
        .await;
        assert_eq!(shop.replicas(name).await, replicas);
    }
    assert_eq!((shop.writes_to("mail"), shop.writes_to("news")), (before, 0));
    assert!(!shop.writes("pods").iter().any(|write| write.name.starts_with("news-")));

    shop.scaled_objects().delete("mail-by-keda", &DeleteParams::default()).await.unwrap();
    shop.until("it is scaled again", async |shop| {
        !holds(&shop.workload("mail").await, "Conflict") && shop.replicas("mail").await == 3
    })
    .await;
    shop.until("the tasks are done", async |shop| shop.ended() == 7).await;
    shop.every_task_was_done_once(7);
    shop.close_workloads(engine).await;
}
