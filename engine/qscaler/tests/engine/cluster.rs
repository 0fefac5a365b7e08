//! Tests on a real Kubernetes cluster; `cargo ci --only cluster` starts it and says where it is.

mod adoption;
mod audit;
mod budget;
mod crds;
mod deploy;
mod explain;
mod failover;
#[cfg(feature = "http")]
mod faults;
mod foreign;
mod grace;
mod idle;
mod in_pod;
mod interrupted;
mod keda;
mod kinds;
mod many;
mod owners;
mod qworkers;
mod rollouts;
mod secrets;
mod shop;
mod sizes;
mod unborn;
mod workloads;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::{is_deleted, is_pod_running};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::fixture::{RedisServer, until, whole_lines};

/// How long the cluster may take for one thing: longer than any sound machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running cluster, and a namespace of this test's own in it.
struct Cluster {
    client: Client,
    folder: PathBuf,
    namespace: String,
}

impl Cluster {
    async fn here() -> Self {
        let folder = std::env::var_os("QSCALER_CLUSTER").expect("`cargo ci --only cluster` starts a cluster");
        let client = Client::try_default().await.unwrap();
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": "test-"}})).unwrap();
        let namespaces = Api::all(client.clone());
        let made = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let cluster = Self { client, folder: folder.into(), namespace: made.name_any() };
        // Pods are refused until their account is there.
        let accounts: Api<ServiceAccount> = cluster.api();
        wait("the account", await_condition(accounts, "default", |it: Option<&_>| it.is_some())).await;
        cluster
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Removes the namespace with its pods. After a test that failed it stays, to be looked at.
    async fn end(self) {
        let namespaces: Api<Namespace> = Api::all(self.client);
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    async fn create(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.api().create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn until_pod(&self, name: &str, what: &str, so: impl Condition<Pod>) -> Option<Pod> {
        wait(what, Box::pin(await_condition(self.api(), name, so))).await
    }
}

async fn wait<T, E: std::fmt::Debug>(what: &str, so: impl Future<Output = Result<T, E>>) -> T {
    tokio::time::timeout(PATIENCE, so)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
        .unwrap()
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
}

/// A pod with one worker that keeps a diary, in a folder of the machine.
fn diarist(name: &str, redis: &str, diary: &Path) -> Value {
    let environment = [
        ("QSCALER_QUEUE_URL", redis),
        ("QSCALER_QUEUE", "work"),
        ("QSCALER_PROBE_FILE", "/tmp/ready"),
        ("DIARIST_LEASE_MS", "10000"),
        ("DIARIST_FOLDER", "/diary"),
    ];
    json!({
        "metadata": {"name": name},
        "spec": {
            "hostNetwork": true,
            "volumes": [{"name": "diary", "hostPath": {"path": diary, "type": "Directory"}}],
            "containers": [{
                "name": "worker",
                "image": "localhost/diarist:test",
                "imagePullPolicy": "Never",
                "env": environment.map(|(name, value)| json!({"name": name, "value": value})),
                "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "diary", "mountPath": "/diary"}],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
            }]
        }
    })
}

/// What the worker wrote down: process 1 of its container.
fn lines(diary: &Path) -> Vec<String> {
    whole_lines(&diary.join("1"))
}

#[tokio::test]
async fn a_worker_in_a_pod_gets_ready_and_ends_its_task_before_it_goes() {
    let (cluster, redis, diary) = (Cluster::here().await, RedisServer::start(), tempfile::tempdir().unwrap());
    let mut connection = redis.connection().unwrap();
    redis::cmd("LPUSH").arg("work").arg("first 2000").exec(&mut connection).unwrap();
    cluster.create(diarist("worker", &redis.url, diary.path())).await;
    cluster.until_pod("worker", "the worker is ready", is_ready).await;
    until("the task begins", || lines(diary.path()).contains(&"start first 1".to_owned()).then_some(()));
    let pods: Api<Pod> = cluster.api();
    let uid = pods.get("worker").await.unwrap().uid().unwrap();
    pods.delete("worker", &DeleteParams::default()).await.unwrap();
    cluster.until_pod("worker", "the pod is gone", is_deleted(&uid)).await;
    assert_eq!(lines(diary.path())[..4], ["boot", "start first 1", "end first 1", "hook"]);
    cluster.end().await;
}

#[tokio::test]
async fn a_container_takes_new_resources_without_a_restart() {
    let (cluster, redis, diary) = (Cluster::here().await, RedisServer::start(), tempfile::tempdir().unwrap());
    cluster.create(diarist("worker", &redis.url, diary.path())).await;
    cluster.until_pod("worker", "the worker runs", is_pod_running()).await;
    let wanted = json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}});
    let patch = json!({"spec": {"containers": [{"name": "worker", "resources": wanted}]}});
    let pods: Api<Pod> = cluster.api();
    pods.patch_resize("worker", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let container =
        |pod: Option<&Pod>| Some(pod?.status.as_ref()?.container_statuses.as_ref()?.first()?.clone());
    let resized = move |pod: Option<&Pod>| {
        let actual = container(pod).and_then(|it| it.resources);
        actual.is_some_and(|actual| json!(actual) == wanted)
    };
    let pod = cluster.until_pod("worker", "the container has them", resized).await;
    assert_eq!(container(pod.as_ref()).unwrap().restart_count, 0);
    cluster.end().await;
}
