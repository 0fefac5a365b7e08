//! Workloads: what others have made follows its queue, and nobody is interrupted.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::Api;
use serde_json::json;

use super::qworkers::workers_max;
use super::shop::{Shop, condition, holds, is_rolling, staying};
use crate::fixture::counts;

#[tokio::test]
async fn a_deployment_follows_its_queue_from_zero_and_back_and_no_task_is_interrupted() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    let max = workers_max();
    shop.deploy("mail", 0, |_| ()).await;
    shop.look_after("mail", max, |_| ()).await;
    let tasks = counts(500) as usize;
    shop.push("mail", tasks, 1_000..if tasks == 500 { 20_000 } else { 4_000 });
    shop.until("all workers are there at once", async |shop| shop.busy() == max as usize).await;
    tokio::time::timeout(Duration::from_secs(900), async {
        while shop.ended() < tasks {
            assert!(staying(&shop.pods().await).len() <= max as usize);
            assert_eq!(shop.restarts().await, 0);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    })
    .await
    .unwrap();
    shop.until("nobody is there", async |shop| {
        shop.replicas("mail").await == 0 && shop.pods().await.is_empty()
    })
    .await;
    shop.every_task_was_done_once(tasks);
    shop.until("the ledger is empty", async |shop| {
        let workload = shop.workload("mail").await;
        let says = [("Ready", true), ("Conflict", false), ("Wired", true)];
        let says = says.into_iter().all(|(of, expected)| holds(&workload, of) == expected);
        let status = workload.status.unwrap();
        status.ledger.unwrap()["offers"] == json!({})
            && (status.current, status.desired, status.queue_length) == (Some(0), Some(0), Some(0))
            && says
    })
    .await;
    shop.close_workloads(engine).await;
}

/// What the same load, the same workers and the same grace period come to when the number simply follows the
/// length of the queue, as with an external metric.
#[tokio::test]
async fn beside_it_a_plain_scale_interrupts_tasks() {
    let shop = Shop::open().await;
    let max = workers_max();
    let tasks = counts(500) as usize;
    let (longest, grace) = if tasks == 500 { (20_000, 10) } else { (6_000, 2) };
    let mut interrupted = vec![];
    for plain in [true, false] {
        let name = if plain { "plain" } else { "mail" };
        shop.deploy(name, 0, |it| {
            it["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(grace);
            let worker = &mut it["spec"]["template"]["spec"]["containers"][0];
            let seconds = json!({"name": "QSCALER_GRACE_SECONDS", "value": grace.to_string()});
            worker["env"].as_array_mut().unwrap().push(seconds);
        })
        .await;
        let before = shop.lived();
        shop.push(name, tasks, 1_000..longest);
        let engine = (!plain).then(|| shop.engine_with_rule());
        if plain {
            tokio::time::timeout(Duration::from_secs(1_200), shop.follow_plainly(name, max, tasks))
                .await
                .unwrap();
        } else {
            shop.look_after(name, max, |_| ()).await;
            tokio::time::timeout(Duration::from_secs(1_200), async {
                while shop.ended() < 2 * tasks {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            })
            .await
            .unwrap();
        }
        let lived = shop.lived().into_iter().filter(|(id, _)| !before.contains_key(id));
        interrupted.push(lived.map(|(_, task)| task.begun - task.ended).sum::<u32>());
        if let Some(engine) = engine {
            println!("interrupted: {} by a plain scale, {} here", interrupted[0], interrupted[1]);
            assert!(interrupted[0] > 0 && interrupted[1] == 0, "{interrupted:?}");
            return shop.close_workloads(engine).await;
        }
    }
}

#[tokio::test]
async fn load_that_returns_works_on_with_workers_that_had_parked() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.deploy("mail", 0, |_| ()).await;
    shop.look_after("mail", 4, |_| ()).await;
    let mut tasks = 0;
    for round in 0..3 {
        shop.push("mail", 4, 300..600);
        tasks += 4;
        shop.until(&format!("the tasks of round {round} are done"), async |shop| shop.ended() == tasks).await;
    }
    shop.every_task_was_done_once(tasks);
    shop.until("nobody is there", async |shop| shop.replicas("mail").await == 0).await;
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn a_shrink_waits_for_the_end_of_a_rollout() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    let (many, few) = if std::env::var_os("QSCALER_FULL").is_some() { (12, 4) } else { (6, 2) };
    shop.deploy("mail", many, |_| ()).await;
    shop.look_after("mail", many, |it| it["spec"]["params"]["minReplicas"] = json!(many)).await;
    shop.until("all are ready", async |shop| shop.ready_pods().await == many as usize).await;
    shop.push("mail", 2 * many as usize, 4_000..8_000);
    shop.until("all work", async |shop| shop.busy() == many as usize).await;
    shop.roll("mail").await;
    shop.set_workload("mail", json!({"params": {"minReplicas": few, "maxReplicas": few}})).await;
    shop.until("it has shrunk", async |shop| {
        let deployment = shop.deployments().get("mail").await.unwrap();
        let rolls = is_rolling(&deployment);
        let replicas = deployment.spec.unwrap().replicas.unwrap();
        assert!(!rolls || replicas == many as i32, "{replicas} are asked for in the middle of the rollout");
        assert_eq!(shop.restarts().await, 0);
        replicas == few
    })
    .await;
    shop.until("the tasks are done", async |shop| shop.ended() == 2 * many as usize).await;
    shop.every_task_was_done_once(2 * many as usize);
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn a_stateful_set_falls_from_its_end_when_its_last_have_finished() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.set("mail", 1).await;
    let sets: Api<StatefulSet> = shop.cluster.api();
    shop.look_after("mail", 4, |it| {
        it["spec"]["target"]["kind"] = json!("StatefulSet");
        it["spec"]["params"]["minReplicas"] = json!(1);
    })
    .await;
    shop.push("mail", 16, 3_000..6_000);
    shop.until("four work", async |shop| shop.busy() == 4).await;
    shop.until("one is left", async |shop| {
        let pods = shop.pods().await;
        sets.get("mail").await.unwrap().spec.unwrap().replicas == Some(1) && pods.len() == 1
    })
    .await;
    assert_eq!(staying(&shop.pods().await), ["mail-0"]);
    shop.every_task_was_done_once(16);
    shop.close_workloads(engine).await;
}

#[tokio::test]
async fn programs_without_the_sdk_are_scaled_and_a_template_that_lacks_something_is_told() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    // Nobody counts these workers: they do not say who they are.
    shop.deploy("plain", 0, |it| {
        let variables = it["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        variables.retain(|variable| {
            !["QSCALER_PARK", "QSCALER_WORKLOAD"].contains(&variable["name"].as_str().unwrap())
        });
    })
    .await;
    shop.look_after("plain", 3, |it| it["spec"]["target"]["leave"] = json!("signal")).await;
    shop.deploy("mail", 0, |it| {
        let worker = &mut it["spec"]["template"]["spec"]["containers"][0];
        worker["env"].as_array_mut().unwrap().retain(|variable| variable["name"] != "QSCALER_PARK");
    })
    .await;
    shop.look_after("mail", 3, |_| ()).await;
    shop.push("plain", 6, 1_000..2_000);
    shop.until("the tasks are done", async |shop| shop.ended() == 6).await;
    shop.until("nobody is there", async |shop| shop.replicas("plain").await == 0).await;
    shop.every_task_was_done_once(6);
    shop.until("it says what to type", async |shop| {
        let told = condition(&shop.workload("mail").await, "Wired");
        told.is_some_and(|(holds, _, message)| holds == "False" && message.contains("QSCALER_PARK"))
    })
    .await;
    shop.close_workloads(engine).await;
}
