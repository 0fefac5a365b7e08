//! Sizes of containers: after a kill for want of memory, in place while a task runs, each its own.

mod cases;
mod kept;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::shop::Shop;

/// So many workers per task, with the sizes that params say. What is below the template's limit is never
/// asked for unless a test does.
const RULE: &str = r"
apiVersion: qscaler.dev/v1alpha1
kind: ScalingRule
metadata: {name: sized}
spec:
  params: {scalingFactor: 1, minReplicas: 0, maxReplicas: 10, worker: 16Mi, second: 16Mi, side: 16Mi, first: 16Mi}
  replicas:
    desired: (queue.length + queue.inflight) * params.scalingFactor
    min: params.minReplicas
    max: params.maxReplicas
  resources:
    - container: worker
      memory:
        request: params.worker
        limit: request * 2
        onOom: max(oom.limit * 1.2, oom.limit + bytes('100Mi'))
    - container: second
      memory: {request: params.second, limit: request * 3}
    - container: side
      memory: {request: params.side, limit: request * 4}
    - container: first
      memory: {request: params.first, limit: request * 5}
";

const MI: u64 = 1 << 20;

/// A shop whose engine knows that rule, and the QWorker `mail` with it; `change` changes what is written.
async fn open(change: impl FnOnce(&mut Value)) -> (Shop, crate::fixture::Engine) {
    let shop = Shop::open().await;
    std::fs::write(shop.rules().join("sized.yaml"), RULE).unwrap();
    let engine = shop.engine("engine");
    create(&shop, change).await;
    (shop, engine)
}

async fn create(shop: &Shop, change: impl FnOnce(&mut Value)) {
    shop.create("mail", 2, |it| {
        it["spec"]["scaleConfig"]["activateVPA"] = json!(true);
        it["spec"]["rule"] = json!("sized");
        change(it);
    })
    .await;
}

async fn want(shop: &Shop, params: Value) {
    shop.change("mail", json!({"spec": {"params": params}})).await;
}

/// The only pod that is not being deleted.
async fn pod(shop: &Shop) -> Option<Pod> {
    let pods = shop.pods().await;
    pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none())
}

fn status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses];
    all.into_iter().flatten().flatten().find(|it| it.name == name)
}

/// Request and limit of memory that a container asks for.
fn asked(pod: &Pod, name: &str) -> Option<(u64, u64)> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    memory(&json!(all.find(|it| it.name == name)?.resources))
}

/// The same of what it has.
fn has(pod: &Pod, name: &str) -> Option<(u64, u64)> {
    memory(&json!(status(pod, name)?.resources))
}

fn memory(resources: &Value) -> Option<(u64, u64)> {
    let amount = |of: &str| {
        let text = resources[of]["memory"].as_str()?;
        qscaler_cel::unit::bytes(text).map(|bytes| bytes as u64)
    };
    Some((amount("requests")?, amount("limits")?))
}

/// The condition `Sized` as `(status, reason, message)`.
async fn sized(shop: &Shop) -> Option<(String, String, String)> {
    let status = shop.qworker("mail").await.status?;
    let it = status.conditions.into_iter().find(|condition| condition.type_ == "Sized")?;
    Some((it.status, it.reason, it.message))
}

async fn until_sized(shop: &Shop, reason: &str) -> String {
    shop.until(&format!("the condition says {reason}"), async |shop| {
        sized(shop).await.is_some_and(|(_, told, _)| told == reason)
    })
    .await;
    sized(shop).await.unwrap().2
}

/// A task that takes so much memory.
fn push_hungry(shop: &Shop, milliseconds: u32, memory: &str) {
    let mut connection = shop.redis.connection().unwrap();
    let task = format!("hungry {milliseconds} {memory}");
    redis::cmd("LPUSH").arg("mail").arg(task).exec(&mut connection).unwrap();
}

/// What new workers get, by the status.
async fn told_limit(shop: &Shop) -> Option<u64> {
    let status = shop.qworker("mail").await.status.unwrap_or_default();
    let worker = status.containers.iter().find(|it| it["name"] == "worker").cloned();
    Some(worker.and_then(|it| memory(&it))?.1)
}

#[tokio::test]
async fn a_worker_that_was_killed_for_want_of_memory_gets_more_and_ends_its_task() {
    let (shop, engine) = open(|it| it["spec"]["params"] = json!({"worker": "32Mi", "maxReplicas": 1})).await;
    // It needs more than its limit of 64 Mi after more than half of its time.
    push_hungry(&shop, 20_000, "100 slowly");
    shop.until("it works", async |shop| shop.busy() == 1).await;
    let first = pod(&shop).await.unwrap();
    shop.until("the task is done", async |shop| shop.lived().values().any(|task| task.ended == 1)).await;
    assert_eq!(shop.lived()["hungry"].begun, 2, "the second attempt had room");
    let second = pod(&shop).await.unwrap();
    let killed = status(&second, "worker").unwrap();
    assert_eq!((second.uid(), killed.restart_count), (first.uid(), 1));
    let ended = killed.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(ended.reason.as_deref(), Some("OOMKilled"));
    shop.until("the status says what new workers get", async |shop| {
        told_limit(shop).await.is_some_and(|limit| limit * 10 >= 64 * MI * 12)
    })
    .await;
    // So does the worker after it.
    shop.until("its worker is gone", async |shop| shop.pods().await.is_empty()).await;
    push_hungry(&shop, 3_000, "100");
    shop.until("another one is there", async |shop| pod(shop).await.is_some()).await;
    let born = pod(&shop).await.unwrap();
    let (request, limit) = asked(&born, "worker").unwrap();
    assert!(request <= limit && limit * 10 >= 64 * MI * 12, "{request} to {limit}");
    shop.until("it ends its task, too", async |shop| shop.lived()["hungry"].ended == 2).await;
    assert_eq!(shop.lived()["hungry"].begun, 3);
    shop.close(engine).await;
}

#[tokio::test]
async fn a_task_that_takes_its_memory_at_once_is_tried_again_with_more_and_no_kill_feeds_the_next() {
    let (shop, engine) = open(|it| it["spec"]["params"] = json!({"worker": "32Mi", "maxReplicas": 1})).await;
    push_hungry(&shop, 500, "100");
    shop.until("the task is done", async |shop| shop.lived().values().any(|task| task.ended == 1)).await;
    // What a kill at 64 Mi asks for: 164 Mi, and twice that as a limit.
    let limit = told_limit(&shop).await.unwrap();
    assert!((300 * MI..=328 * MI).contains(&limit), "{limit}");
    shop.close(engine).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_before_it_begins_is_made_anew_with_more() {
    let (shop, engine) = open(|it| {
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
        it["spec"]["params"] = json!({"minReplicas": 1, "maxReplicas": 1, "worker": "32Mi"});
        let environment = it["spec"]["podSpec"]["containers"][0]["env"].as_array_mut().unwrap();
        environment.push(json!({"name": "DIARIST_KEEPS", "value": "100"}));
    })
    .await;
    shop.until("it is there", async |shop| pod(shop).await.is_some()).await;
    let first = pod(&shop).await.unwrap();
    shop.push("mail", 1, 100..101);
    shop.until("another one has done the task", async |shop| shop.ended() == 1).await;
    let second = pod(&shop).await.unwrap_or_else(|| panic!("{}", shop.log("engine")));
    assert_ne!(second.uid(), first.uid());
    let (_, limit) = asked(&second, "worker").unwrap();
    assert!((300 * MI..=328 * MI).contains(&limit), "{limit}");
    assert!(status(&second, "worker").is_none_or(|it| it.restart_count == 0), "it was born with it");
    shop.every_task_was_done_once(1);
    shop.close(engine).await;
}

#[tokio::test]
async fn a_worker_gets_its_size_in_place_while_its_task_runs_on() {
    let (shop, engine) = open(|it| it["spec"]["params"] = json!({"worker": "32Mi"})).await;
    shop.push("mail", 1, 40_000..40_001);
    shop.until("it works", async |shop| shop.busy() == 1).await;
    let before = pod(&shop).await.unwrap();
    assert_eq!(asked(&before, "worker"), Some((32 * MI, 64 * MI)), "it was born with the rule's size");
    want(&shop, json!({"worker": "48Mi"})).await;
    shop.until("it has its new size", async |shop| {
        pod(shop).await.is_some_and(|pod| has(&pod, "worker") == Some((48 * MI, 96 * MI)))
    })
    .await;
    let after = pod(&shop).await.unwrap();
    assert_eq!(after.uid(), before.uid());
    assert_eq!(status(&after, "worker").unwrap().restart_count, 0);
    assert_eq!(shop.lived().values().map(|it| it.begun).sum::<u32>(), 1);
    // A larger worker is one worker.
    let numbers = shop.qworker("mail").await.status.unwrap();
    assert_eq!((numbers.current_replicas, numbers.desired_replicas), (1, 1));
    until_sized(&shop, "AsDecided").await;
    shop.until("the task is done", async |shop| shop.ended() == 1).await;
    shop.every_task_was_done_once(1);
    shop.close(engine).await;
}

/// A pod with an init container, a sidecar, and two containers.
fn with_company(it: &mut Value) {
    let spec = &mut it["spec"]["podSpec"];
    let idle = |name: &str| {
        json!({
            "name": name, "image": "localhost/diarist:test", "imagePullPolicy": "Never",
            "command": ["cat"], "stdin": true,
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        })
    };
    let mut first = idle("first");
    first["command"] = json!(["cat", "/etc/hosts"]);
    let mut side = idle("side");
    side["restartPolicy"] = json!("Always");
    spec["initContainers"] = json!([first, side]);
    spec["containers"].as_array_mut().unwrap().push(idle("second"));
    it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
}

#[tokio::test]
async fn every_container_gets_a_size_of_its_own() {
    let (shop, engine) = open(|it| {
        with_company(it);
        it["spec"]["params"] =
            json!({"minReplicas": 1, "worker": "20Mi", "second": "24Mi", "side": "28Mi", "first": "32Mi"});
    })
    .await;
    shop.until("its worker runs", async |shop| {
        pod(shop).await.is_some_and(|pod| status(&pod, "worker").is_some_and(|it| it.ready))
    })
    .await;
    let born = pod(&shop).await.unwrap();
    let sizes = ["worker", "second", "side", "first"].map(|name| asked(&born, name).unwrap());
    let expected =
        [(20, 40), (24, 72), (28, 112), (32, 160)].map(|(request, limit)| (request * MI, limit * MI));
    assert_eq!(sizes, expected);
    want(&shop, json!({"worker": "40Mi", "second": "48Mi", "side": "56Mi", "first": "64Mi"})).await;
    let expected = [("worker", (40, 80)), ("second", (48, 144)), ("side", (56, 224))];
    shop.until("they have their new sizes", async |shop| {
        let pod = pod(shop).await.unwrap();
        let right = |(name, (request, limit)): &(&str, (u64, u64))| {
            has(&pod, name) == Some((request * MI, limit * MI))
        };
        expected.iter().all(right)
    })
    .await;
    let after = pod(&shop).await.unwrap();
    assert_eq!(after.uid(), born.uid());
    for name in ["worker", "second", "side"] {
        assert_eq!(status(&after, name).unwrap().restart_count, 0, "{name}");
    }
    // What the init container had is over.
    assert_eq!(asked(&after, "first"), asked(&born, "first"));
    shop.close(engine).await;
}

#[tokio::test]
async fn pods_of_a_deployment_are_resized_in_place_and_its_template_stays() {
    let shop = Shop::open().await;
    std::fs::write(shop.rules().join("sized.yaml"), RULE).unwrap();
    let engine = shop.engine("engine");
    shop.deploy("mail", 1, |_| ()).await;
    shop.look_after("mail", 2, |it| {
        it["spec"]["rule"] = json!("sized");
        it["spec"]["params"] = json!({"minReplicas": 1, "maxReplicas": 2, "worker": "40Mi"});
        it["spec"]["vertical"] = json!(true);
    })
    .await;
    shop.until("its pod has its size", async |shop| {
        pod(shop).await.is_some_and(|pod| has(&pod, "worker") == Some((40 * MI, 80 * MI)))
    })
    .await;
    assert_eq!(shop.restarts().await, 0);
    let deployment = shop.deployments().get("mail").await.unwrap();
    assert_eq!(deployment.metadata.generation, Some(1), "its template was not written");
    shop.close_workloads(engine).await;
}
