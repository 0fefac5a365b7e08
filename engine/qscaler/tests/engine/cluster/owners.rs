//! A target has one owner: its own asks first, and what others scale is left alone.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::shop::{Shop, condition, holds, staying};

#[tokio::test]
async fn nothing_is_touched_before_its_owner_says_so() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.deploy("mail", 1, |_| ()).await;
    shop.look_after("mail", 3, |it| {
        it["spec"].as_object_mut().unwrap().remove("mode");
    })
    .await;
    shop.push("mail", 6, 2_000..4_000);
    shop.until("it shows what it would do", async |shop| {
        let workload = shop.workload("mail").await;
        let ready = condition(&workload, "Ready");
        workload.status.and_then(|it| it.desired) == Some(3)
            && ready
                .is_some_and(|(_, reason, message)| reason == "Observing" && message.contains("`mode: act`"))
    })
    .await;
    assert_eq!(shop.replicas("mail").await, 1);
    assert_eq!(shop.writes("deployments"), []);
    assert_eq!(shop.writes("pods"), []);
    assert_eq!(shop.workload("mail").await.finalizers(), Vec::<String>::new());
    shop.set_workload("mail", json!({"mode": "act"})).await;
    shop.until("it acts", async |shop| shop.replicas("mail").await == 3).await;
    shop.until("the tasks are done", async |shop| shop.ended() == 6).await;
    shop.every_task_was_done_once(6);
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn what_somebody_else_scales_is_not_touched() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    for name in ["hpa", "server", "client", "twice"] {
        shop.deploy(name, 1, |it| {
            if name == "client" {
                let applied = json!({"kind": "Deployment", "spec": {"replicas": 1}}).to_string();
                it["metadata"]["annotations"] =
                    json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
            }
        })
        .await;
    }
    let autoscaler = json!({
        "metadata": {"name": "old"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hpa"},
            "maxReplicas": 1,
        },
    });
    let autoscalers: Api<HorizontalPodAutoscaler> = shop.cluster.api();
    autoscalers.create(&PostParams::default(), &serde_json::from_value(autoscaler).unwrap()).await.unwrap();
    let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}});
    let applies = PatchParams::apply("argo").force();
    shop.deployments().patch("server", &applies, &Patch::Apply(manifest)).await.unwrap();
    shop.look_after("first", 3, |it| {
        it["spec"]["target"]["name"] = json!("twice");
        it["spec"]["mode"] = json!("observe");
    })
    .await;
    shop.until("the first is there", async |shop| shop.workload("first").await.status.is_some()).await;
    for name in ["hpa", "server", "client"] {
        shop.push(name, 3, 100..200);
        shop.look_after(name, 3, |_| ()).await;
    }
    shop.look_after("second", 3, |it| it["spec"]["target"]["name"] = json!("twice")).await;
    for (name, who) in
        [("hpa", "`kubectl delete hpa -n"), ("server", "`argo` applies"), ("client", "`kubectl apply`")]
    {
        shop.until(&format!("{name} has a conflict"), async |shop| {
            let told = condition(&shop.workload(name).await, "Conflict");
            told.is_some_and(|(holds, _, message)| holds == "True" && message.contains(who))
        })
        .await;
    }
    shop.until("the second says who was first", async |shop| {
        let told = condition(&shop.workload("second").await, "Ready");
        told.is_some_and(|(holds, reason, message)| {
            (holds.as_str(), reason.as_str()) == ("False", "Conflict") && message.contains("`first`")
        })
    })
    .await;
    assert_eq!(shop.writes("deployments"), []);
    assert_eq!(shop.writes("pods"), []);
    // The owner decides, and what is given back works on as it was.
    for name in ["server", "client"] {
        let told = shop.command(&["adopt", name]);
        assert!(told.contains("no longer owns the replicas") && told.contains("it has 1 replicas"), "{told}");
        let what = format!("{name} is adopted");
        shop.until(&what, async |shop| {
            !holds(&shop.workload(name).await, "Conflict") && shop.replicas(name).await == 0
        })
        .await;
        let told = shop.command(&["release", name]);
        assert!(told.contains("keeps its 0 replicas"), "{told}");
        assert_eq!(json!(shop.workload(name).await.spec.mode), json!("observe"));
    }
    autoscalers.delete("old", &DeleteParams::default()).await.unwrap();
    shop.until("it is free", async |shop| !holds(&shop.workload("hpa").await, "Conflict")).await;
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn a_number_that_others_write_again_and_again_is_lowered_no_more() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.deploy("mail", 1, |_| ()).await;
    shop.look_after("mail", 4, |it| it["spec"]["params"]["minReplicas"] = json!(2)).await;
    let scaled = async |shop: &Shop| {
        let ledger = shop.workload("mail").await.status.and_then(|it| it.ledger).unwrap_or_default();
        ledger["scaled"].clone()
    };
    for times in 1..=2 {
        shop.until("it is two", async |shop| {
            shop.replicas("mail").await == 2 && scaled(shop).await["confirmed"] == json!(true)
        })
        .await;
        let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
        shop.deployments().patch("mail", &PatchParams::default(), &three).await.unwrap();
        shop.until("it has seen that", async |shop| {
            scaled(shop).await["overridden"].as_array().map_or(0, Vec::len) == times
        })
        .await;
    }
    shop.until("it says so", async |shop| {
        let told = condition(&shop.workload("mail").await, "Overridden");
        told.is_some_and(|(holds, _, message)| holds == "True" && message.contains("remove `replicas`"))
    })
    .await;
    assert_eq!(shop.replicas("mail").await, 3);
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn a_workload_that_is_deleted_leaves_its_target_as_it_was() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.deploy("mail", 3, |_| ()).await;
    shop.look_after("mail", 3, |it| it["spec"]["params"]["minReplicas"] = json!(3)).await;
    shop.until("all are ready", async |shop| shop.ready_pods().await == 3).await;
    // Two may go and cannot yet.
    shop.push("mail", 3, 6_000..7_000);
    shop.until("all work", async |shop| shop.busy() == 3).await;
    shop.set_workload("mail", json!({"params": {"minReplicas": 1, "maxReplicas": 1}})).await;
    shop.until("two are offered to go", async |shop| {
        let ledger = shop.workload("mail").await.status.and_then(|it| it.ledger).unwrap_or_default();
        ledger["offers"].as_object().is_some_and(|offers| offers.len() == 2)
    })
    .await;
    shop.let_go("mail").await;
    shop.until("the tasks are done", async |shop| shop.ended() == 3).await;
    shop.push("mail", 3, 1_000..1_500);
    shop.until("all work on", async |shop| shop.ended() == 6).await;
    assert_eq!((shop.replicas("mail").await, staying(&shop.pods().await).len()), (3, 3));
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn a_workload_that_is_deleted_with_its_target_waits_for_nothing() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.deploy("mail", 1, |_| ()).await;
    shop.look_after("mail", 2, |it| it["spec"]["params"]["minReplicas"] = json!(2)).await;
    shop.until("two are ready", async |shop| shop.ready_pods().await == 2).await;
    // One is offered to go and cannot yet.
    shop.push("mail", 2, 40_000..40_001);
    shop.until("both work", async |shop| shop.busy() == 2).await;
    shop.set_workload("mail", json!({"params": {"minReplicas": 1, "maxReplicas": 1}})).await;
    shop.until("one is offered to go", async |shop| shop.offers("mail").await == ["open"]).await;
    shop.deployments().delete("mail", &DeleteParams::default()).await.unwrap();
    shop.until("it is gone", async |shop| shop.deployments().get_opt("mail").await.unwrap().is_none()).await;
    shop.let_go("mail").await;
    // Nor does one of a kind that is not there any more.
    shop.look_after("lost", 1, |it| it["spec"]["target"]["apiVersion"] = json!("nowhere.test/v1")).await;
    shop.until("it says that nobody knows the kind", async |shop| {
        let told = condition(&shop.workload("lost").await, "Ready");
        told.is_some_and(|(_, reason, message)| {
            reason == "CannotAct" && message.contains("kubectl api-resources")
        })
    })
    .await;
    shop.let_go("lost").await;
    shop.close_workloads(engine).await;
}
