//! Tasks that are cut off with their pods: the metric says why.

use std::collections::BTreeMap;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, EvictParams, PostParams};
use serde_json::{Value, json};

use super::shop::Shop;
use super::unborn::Room;
use crate::fixture::{get, served_at};

/// What is counted of the QWorker `mail`, by cause.
fn counted(shop: &Shop) -> BTreeMap<String, u64> {
    let answer = served_at(&shop.log("engine")).and_then(|address| get(&address, "/metrics"));
    let begin =
        format!("qscaler_tasks_interrupted_total{{workload=\"{}/mail\",cause=\"", shop.cluster.namespace);
    let of = |line: &str| {
        let (cause, count) = line.strip_prefix(&begin)?.split_once("\"} ")?;
        Some((cause.to_owned(), count.parse().unwrap()))
    };
    answer.unwrap_or_default().1.lines().filter_map(of).collect()
}

async fn until_counted(shop: &Shop, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
    shop.until(&format!("{expected:?} is counted"), async |shop| counted(shop) == expected).await;
}

/// One QWorker with one worker, which works on a task of so many milliseconds: its pod.
async fn busy_worker(shop: &Shop, milliseconds: u64) -> Pod {
    let begun = |shop: &Shop| shop.lived().values().map(|it| it.begun).sum::<u32>();
    let before = begun(shop);
    shop.push("mail", 1, milliseconds..milliseconds + 1);
    shop.until("it works", async |shop| begun(shop) > before).await;
    let pods = shop.pods().await;
    pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).unwrap()
}

/// The process of a pod's worker, as this machine numbers it.
fn process_of(pod: &Pod) -> u32 {
    let variable = format!("QSCALER_WORKER={}", pod.uid().unwrap());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |number: &u32| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    numbers.into_iter().find(is_it).unwrap()
}

#[tokio::test]
async fn tasks_whose_pods_are_killed_evicted_or_deleted_are_counted_once_with_their_causes() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    shop.create("mail", 1, |it| {
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
        let pod = &mut it["spec"]["podSpec"];
        pod["terminationGracePeriodSeconds"] = json!(1);
        // The worker believes that it has the time to finish its task.
        let environment = pod["containers"][0]["env"].as_array_mut().unwrap();
        environment.push(json!({"name": "QSCALER_GRACE_SECONDS", "value": "30"}));
    })
    .await;
    let pods: Api<Pod> = shop.cluster.api();
    let all_done = async |tasks: u32| {
        let done = format!("{tasks} tasks are done");
        shop.until(&done, async |shop| shop.lived().values().map(|it| it.ended).sum::<u32>() == tasks).await;
    };

    let pod = busy_worker(&shop, 8_000).await;
    let killed = Command::new("kill").args(["-9", &process_of(&pod).to_string()]).status();
    assert!(killed.unwrap().success());
    until_counted(&shop, &[("killed", 1)]).await;
    all_done(1).await;

    let pod = busy_worker(&shop, 8_000).await;
    pods.evict(&pod.name_any(), &EvictParams::default()).await.unwrap();
    until_counted(&shop, &[("evicted", 1), ("killed", 1)]).await;
    all_done(2).await;

    let pod = busy_worker(&shop, 8_000).await;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete(&pod.name_any(), &at_once).await.unwrap();
    until_counted(&shop, &[("deleted", 1), ("evicted", 1), ("killed", 1)]).await;
    all_done(3).await;
    shop.close(engine).await;
}

#[tokio::test]
async fn a_task_that_needs_more_memory_than_its_container_may_have_is_counted_as_such() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    shop.create("mail", 1, |it| {
        let container = &mut it["spec"]["podSpec"]["containers"][0];
        container["env"].as_array_mut().unwrap().push(json!({"name": "DIARIST_EATS", "value": "256"}));
    })
    .await;
    shop.push("mail", 1, 1_000..1_001);
    until_counted(&shop, &[("oom", 1)]).await;
    shop.until("its second attempt is done", async |shop| {
        shop.lived().values().map(|it| (it.begun, it.ended)).eq([(2, 1)])
    })
    .await;
    assert_eq!(counted(&shop), BTreeMap::from([("oom".to_owned(), 1)]));
    shop.close(engine).await;
}

/// A worker that believes that it has the time to finish its task, in a pod that has not.
fn in_a_hurry(qworker: &mut Value) {
    let pod = &mut qworker["spec"]["podSpec"];
    pod["terminationGracePeriodSeconds"] = json!(1);
    let environment = pod["containers"][0]["env"].as_array_mut().unwrap();
    environment.push(json!({"name": "QSCALER_GRACE_SECONDS", "value": "60"}));
}

fn bounds(workers: u32) -> Value {
    json!({"spec": {"scaleConfig": {"minReplicas": workers, "maxReplicas": workers}}})
}

#[tokio::test]
async fn a_task_that_outlives_the_deadline_of_a_drain_is_counted_as_such() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    shop.create("mail", 2, |it| {
        in_a_hurry(it);
        it["spec"]["drain"] = json!({"deadline": "2s"});
        it["spec"]["scaleConfig"]["minReplicas"] = json!(2);
    })
    .await;
    shop.push("mail", 2, 30_000..30_001);
    shop.until("two work", async |shop| shop.busy() == 2).await;
    shop.change("mail", bounds(1)).await;
    until_counted(&shop, &[("deadline", 1)]).await;
    shop.close(engine).await;
}

#[tokio::test]
async fn a_task_whose_pod_makes_room_for_a_pod_of_higher_priority_is_counted_as_such() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let room = Room::make(&shop, 1).await;
    let priorities: Api<PriorityClass> = Api::all(shop.cluster.client.clone());
    let namespace = shop.cluster.namespace.as_str();
    let priority = json!({"metadata": {"name": namespace}, "value": 1_000});
    let priority: PriorityClass = serde_json::from_value(priority).unwrap();
    priorities.create(&PostParams::default(), &priority).await.unwrap();
    shop.create("mail", 1, |it| {
        in_a_hurry(it);
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
        room.ask_for_one(&mut it["spec"]["podSpec"]["containers"][0]);
    })
    .await;
    busy_worker(&shop, 20_000).await;
    let mut container = json!({
        "name": "urgent", "image": "localhost/diarist:test", "imagePullPolicy": "Never", "resources": {},
    });
    room.ask_for_one(&mut container);
    let urgent = json!({
        "metadata": {"name": "urgent"},
        "spec": {"hostNetwork": true, "priorityClassName": namespace, "containers": [container]},
    });
    shop.cluster.create(urgent).await;
    // Whoever comes in its place finds no room, and the task waits until there is some.
    let pods: Api<Pod> = shop.cluster.api();
    shop.until("it has the room", async |_| {
        let urgent = pods.get("urgent").await.unwrap();
        urgent.spec.is_some_and(|spec| spec.node_name.is_some())
    })
    .await;
    pods.delete("urgent", &DeleteParams::default()).await.unwrap();
    until_counted(&shop, &[("preempted", 1)]).await;
    shop.close(engine).await;
    room.set(Value::Null).await;
    priorities.delete(priority.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
}
