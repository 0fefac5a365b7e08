//! QWorkers: their pods come and go with the tasks, and no task is interrupted.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use qscaler::platform::kubernetes::api::ScalerConfig;
use serde_json::json;

use super::shop::{Shop, ready, staying};
use crate::fixture::{RedisServer, counts};

/// The largest number of workers in these tests: a tenth of the whole in the gate would prove little.
pub(super) fn workers_max() -> u32 {
    if std::env::var_os("QSCALER_FULL").is_some() { 20 } else { 8 }
}

#[tokio::test]
async fn pods_come_with_the_tasks_and_go_when_they_are_done() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let max = workers_max();
    shop.create("mail", max, |_| ()).await;
    let tasks = counts(500) as usize;
    shop.push("mail", tasks, 1_000..if tasks == 500 { 20_000 } else { 4_000 });
    shop.until("all workers are there at once", async |shop| {
        staying(&shop.pods().await).len() == max as usize
    })
    .await;
    // The longest that so many workers may take for so many tasks.
    tokio::time::timeout(Duration::from_secs(900), async {
        while shop.lived().values().map(|task| task.ended as usize).sum::<usize>() < tasks {
            assert!(staying(&shop.pods().await).len() <= max as usize);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    })
    .await
    .unwrap();
    shop.until("the pods are gone", async |shop| shop.pods().await.is_empty()).await;
    shop.every_task_was_done_once(tasks);
    // Ledger, number and status are written one after the other.
    shop.until("the status says so", async |shop| {
        let qworker = shop.qworker("mail").await;
        let status = qworker.status.as_ref().unwrap();
        (status.current_replicas, status.desired_replicas, status.queue_length) == (0, 0, Some(0))
            && status.ledger.as_ref().unwrap()["offers"] == json!({})
            && qworker.spec.replicas == Some(0)
            && ready(&qworker).unwrap().0 == "True"
    })
    .await;
    shop.close(engine).await;
}

#[tokio::test]
async fn a_qworker_that_is_deleted_lets_its_workers_finish() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let max = workers_max();
    shop.create("mail", max, |_| ()).await;
    shop.push("mail", max as usize, 15_000..20_000);
    shop.until("all work", async |shop| shop.busy() == max as usize).await;
    let foreground = DeleteParams::foreground();
    shop.qworkers().delete("mail", &foreground).await.unwrap();
    shop.until("it is gone", async |shop| shop.qworkers().get_opt("mail").await.unwrap().is_none()).await;
    shop.every_task_was_done_once(max as usize);
    assert_eq!(staying(&shop.pods().await), Vec::<String>::new());
    shop.close(engine).await;
}

/// How long a queue system may be away before the condition says so.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn while_the_queue_system_is_away_the_workers_stay() {
    let redis = RedisServer::start();
    let shop = Shop::open_at(redis).await;
    let engine = shop.engine("engine");
    // In the gate many tests share the machine: there an answer after many periods is no fault of the engine.
    let is_full = std::env::var_os("QSCALER_FULL").is_some();
    let (workers, silence, periods) = if is_full { (15, 120, 2) } else { (4, 20, 20) };
    let bounds = |workers: u32| json!({"minReplicas": workers, "maxReplicas": workers});
    shop.create("mail", workers, |it| it["spec"]["scaleConfig"]["minReplicas"] = json!(workers)).await;
    shop.until("they run", async |shop| {
        let status = shop.qworker("mail").await.status.unwrap_or_default();
        status.current_replicas == i64::from(workers)
    })
    .await;
    let before = staying(&shop.pods().await);
    shop.redis.pause();
    let begin = Instant::now();
    shop.until("the condition says so", async |shop| {
        ready(&shop.qworker("mail").await).is_some_and(|(holds, reason, _)| {
            holds == "False" && ["SignalsUnknown", "CannotAct"].contains(&reason.as_str())
        })
    })
    .await;
    let told = begin.elapsed();
    println!("the condition says so after {:.1} s", told.as_secs_f64());
    assert!(told <= TOLD_WITHIN, "{told:?}");
    // More are wanted meanwhile, and fewer would be as easy to misread.
    shop.change("mail", json!({"spec": {"scaleConfig": bounds(workers + 1)}})).await;
    tokio::time::sleep(Duration::from_secs(silence)).await;
    assert_eq!(staying(&shop.pods().await), before);
    let is_healthy = async |shop: &Shop| {
        let configs: Api<ScalerConfig> = shop.cluster.api();
        configs.get("redis").await.unwrap().status.is_some_and(|status| status.healthy)
    };
    assert!(!is_healthy(&shop).await);
    let back = Timestamp::now();
    shop.redis.resume();
    shop.until("it acts again", async |shop| staying(&shop.pods().await).len() == before.len() + 1).await;
    let asked = shop.cluster.asked_by(&shop.account());
    let created = asked.iter().rfind(|it| it.verb == "create" && it.resource == "pods").unwrap();
    let acts = Duration::try_from(created.at.duration_since(back)).unwrap();
    println!("it acts again after {:.2} s", acts.as_secs_f64());
    assert!(acts <= periods * Duration::from_millis(500), "{acts:?}");
    shop.until("the ScalerConfig is healthy again", is_healthy).await;
    shop.until("it says that it decides again", async |shop| {
        ready(&shop.qworker("mail").await).is_some_and(|(holds, ..)| holds == "True")
    })
    .await;
    let after = staying(&shop.pods().await);
    assert!(before.iter().all(|pod| after.contains(pod)), "{after:?}");
    shop.close(engine).await;
}

#[tokio::test]
async fn one_without_its_scaler_config_says_so_and_the_others_go_on() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    shop.create("lost", 2, |it| it["spec"]["scaleConfig"]["scalerConfigRef"] = json!("elsewhere")).await;
    shop.create("mail", 2, |_| ()).await;
    shop.push("mail", 2, 100..200);
    shop.until("the other one works", async |shop| {
        shop.lived().values().map(|it| it.ended).sum::<u32>() == 2
    })
    .await;
    shop.until("it says what to do", async |shop| {
        ready(&shop.qworker("lost").await).is_some_and(|(holds, reason, message)| {
            (holds.as_str(), reason.as_str()) == ("False", "NoScalerConfig")
                && message.contains("no ScalerConfig `elsewhere`")
                && message.contains("scalerConfigRef")
        })
    })
    .await;
    shop.create_config("elsewhere").await;
    shop.push("lost", 1, 100..200);
    shop.until("it works, too", async |shop| shop.lived().values().map(|it| it.ended).sum::<u32>() == 3)
        .await;
    // What it said last holds when somebody deletes more than was meant.
    let configs: Api<ScalerConfig> = shop.cluster.api();
    configs.delete("elsewhere", &DeleteParams::default()).await.unwrap();
    shop.until("it says so", async |shop| {
        ready(&shop.qworker("lost").await).is_some_and(|(_, reason, _)| reason == "NoScalerConfig")
    })
    .await;
    shop.push("lost", 1, 100..200);
    shop.until("it works on", async |shop| shop.lived().values().map(|it| it.ended).sum::<u32>() == 4).await;
    shop.close(engine).await;
}

#[tokio::test]
async fn pods_of_others_are_left_alone_and_those_that_ended_are_replaced() {
    let shop = Shop::open().await;
    let pods: Api<Pod> = shop.cluster.api();
    let foreign = json!({
        "metadata": {"name": "mail-1", "labels": {"quickube.com/qworker": "mail", "app.kubernetes.io/managed-by": "qscaler"}},
        "spec": {"hostNetwork": true, "containers": [{"name": "worker", "image": "localhost/diarist:test", "imagePullPolicy": "Never"}]},
    });
    let foreign: Pod = serde_json::from_value(foreign).unwrap();
    let foreign = pods.create(&PostParams::default(), &foreign).await.unwrap();
    let engine = shop.engine("engine");
    shop.create("mail", 2, |it| it["spec"]["scaleConfig"]["minReplicas"] = json!(2)).await;
    shop.until("it says who is in the way", async |shop| {
        ready(&shop.qworker("mail").await).is_some_and(|(_, _, message)| message.contains("the pod mail-1"))
    })
    .await;
    assert!(shop.pods().await.iter().any(|pod| pod.name_any() == "mail-2"), "the other one is there");
    pods.delete("mail-1", &DeleteParams::default()).await.unwrap();
    let is_ours = |pod: &Pod| pod.uid() != foreign.uid() && pod.metadata.deletion_timestamp.is_none();
    shop.until("both are there", async |shop| {
        shop.pods().await.iter().filter(|pod| is_ours(pod)).count() == 2
    })
    .await;
    shop.close(engine).await;
}
