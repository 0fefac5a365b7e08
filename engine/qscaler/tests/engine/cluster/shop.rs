//! A namespace with a Redis server, QWorkers whose pods keep diaries, and engines that look after them.

mod made;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use qscaler::platform::kubernetes::api::{QWorker, ScalerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Cluster;
use super::crds::install;
use super::deploy::account;
use crate::fixture::{Engine, PROGRAM, RedisServer, get, seed, served_at};

pub(super) use made::MadeBy;
pub(super) use targets::{condition, holds, is_rolling};

/// How long the engine and the cluster may take together for what the test waits for, beside the tasks.
const PATIENCE: Duration = Duration::from_secs(180);
/// The account of the engines of a shop.
const ENGINE: &str = "engine";

/// What became of a task, by the diaries of the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lived {
    pub(super) begun: u32,
    pub(super) ended: u32,
}

pub(super) struct Shop {
    pub(super) cluster: Cluster,
    pub(super) redis: RedisServer,
    folder: TempDir,
    random: std::cell::Cell<u64>,
}

impl Shop {
    /// With a ScalerConfig `redis`.
    pub(super) async fn open() -> Self {
        Self::open_at(RedisServer::start()).await
    }

    pub(super) async fn open_at(redis: RedisServer) -> Self {
        let cluster = Cluster::here().await;
        install(&cluster.client).await;
        let folder = tempfile::tempdir().unwrap();
        for name in ["rules", "diary"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let shop = Self { cluster, redis, folder, random: std::cell::Cell::new(seed() | 1) };
        shop.write_kubeconfig(&shop.kubeconfig(), |_| ()).await;
        shop.create_config("redis").await;
        shop
    }

    /// How its engines reach the cluster.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// For engines: their Lease is in this test's own namespace, and they have an account of their own,
    /// which may do everything there. `change` changes the cluster that it names.
    pub(super) async fn write_kubeconfig(&self, file: &Path, change: impl FnOnce(&mut Value)) {
        let config = fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
        let mut config: Value = kube_config(&config);
        for context in config["contexts"].as_array_mut().unwrap() {
            context["context"]["namespace"] = json!(self.cluster.namespace);
        }
        for user in config["users"].as_array_mut().unwrap() {
            user["user"] = json!({"token": self.token().await});
        }
        change(&mut config["clusters"][0]["cluster"]);
        fs::write(file, config.to_string()).unwrap();
    }

    async fn token(&self) -> String {
        let accounts: Api<ServiceAccount> = self.cluster.api();
        let (by, name) = (PatchParams::apply("qscaler-tests"), json!({"metadata": {"name": ENGINE}}));
        let of = |kind: &str, group: &str| json!({"apiVersion": format!("{group}v1"), "kind": kind});
        let account = merged(of("ServiceAccount", ""), &name);
        accounts.patch(ENGINE, &by, &Patch::Apply(account)).await.unwrap();
        let bindings: Api<RoleBinding> = self.cluster.api();
        let binding = json!({
            "metadata": {"name": ENGINE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": ENGINE, "namespace": self.cluster.namespace}],
        });
        let binding = merged(of("RoleBinding", "rbac.authorization.k8s.io/"), &binding);
        bindings.patch(ENGINE, &by, &Patch::Apply(binding)).await.unwrap();
        let request: TokenRequest = kind(&json!({"metadata": {}, "spec": {"audiences": []}}));
        let granted = accounts.create_token_request(ENGINE, &PostParams::default(), &request).await.unwrap();
        granted.status.unwrap().token
    }

    /// The account of this shop's engines, as the API server calls it.
    pub(super) fn account(&self) -> String {
        account(&self.cluster, ENGINE)
    }

    /// A file or folder of this shop.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) async fn create_config(&self, name: &str) {
        self.create_config_with(name, |_| ()).await;
    }

    /// The same; `change` changes how it says to log in.
    pub(super) async fn create_config_with(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let port = self.redis.url.rsplit_once(':').unwrap().1;
        let mut config = json!({"host": "127.0.0.1", "port": port, "password": {}});
        change(&mut config);
        let config = json!({"metadata": {"name": name}, "spec": {"type": "redis", "config": config}});
        let config: ScalerConfig = kind(&config);
        self.cluster.api().create(&PostParams::default(), &config).await.unwrap();
    }

    /// An engine; each has a folder of its own.
    pub(super) fn engine(&self, name: &str) -> Engine {
        self.engine_by(name, &self.kubeconfig())
    }

    /// An engine that reaches the cluster as this file says.
    pub(super) fn engine_by(&self, name: &str, kubeconfig: &Path) -> Engine {
        let state = self.path(name);
        let mut command = Command::new(PROGRAM);
        command.args([
            "run",
            "--kubernetes",
            "--listen",
            "127.0.0.1:0",
            "--namespace",
            &self.cluster.namespace,
        ]);
        command.arg("--rules").arg(self.path("rules")).arg("--state").arg(&state);
        command.env("KUBECONFIG", kubeconfig);
        Engine::start(&mut command, self.path(&format!("{name}.log")))
    }

    pub(super) fn log(&self, engine: &str) -> String {
        fs::read_to_string(self.path(&format!("{engine}.log"))).unwrap_or_default()
    }

    /// The counter of this name of an engine, summed over the series of each QWorker.
    pub(super) fn counted(&self, engine: &str, metric: &str) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        let Some(address) = served_at(&self.log(engine)) else { return counted };
        let Some((_, text)) = get(&address, "/metrics") else { return counted };
        let of = format!("workload=\"{}/", self.cluster.namespace);
        for line in text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')) {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let (_, rest) = labels.split_once(&of).unwrap();
            let (qworker, _) = rest.split_once('"').unwrap();
            *counted.entry(qworker.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
        counted
    }

    /// A QWorker of the original's form on the queue of its name; `change` changes what is written.
    pub(super) async fn create(&self, name: &str, max: u32, change: impl FnOnce(&mut Value)) {
        let mut written = json!({
            "metadata": {"name": name},
            "spec": {
                "scaleConfig": {
                    "scalerConfigRef": "redis",
                    "queue": name,
                    "minReplicas": 0,
                    "maxReplicas": max,
                    "scalingFactor": 1,
                    "activateVPA": false,
                },
                "podSpec": self.pod_spec(),
            },
        });
        change(&mut written);
        let qworker: QWorker = kind(&written);
        self.qworkers().create(&PostParams::default(), &qworker).await.unwrap();
    }

    /// Changes fields of a QWorker.
    pub(super) async fn change(&self, name: &str, fields: Value) {
        self.qworkers().patch(name, &PatchParams::default(), &Patch::Merge(fields)).await.unwrap();
    }

    pub(super) fn pod_spec(&self) -> Value {
        json!({
            "hostNetwork": true,
            "volumes": [{"name": "diary", "hostPath": {"path": self.diary(), "type": "Directory"}}],
            "containers": [{
                "name": "worker",
                "image": "localhost/diarist:test",
                "imagePullPolicy": "Never",
                "env": [
                    {"name": "DIARIST_LEASE_MS", "value": "10000"},
                    {"name": "DIARIST_FOLDER", "value": "/diary"},
                ],
                // Every pod's worker is process 1.
                "volumeMounts": [{"name": "diary", "mountPath": "/diary", "subPathExpr": "$(QSCALER_WORKER)"}],
                "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            }],
        })
    }

    /// The folder with the engines' rules.
    pub(super) fn rules(&self) -> PathBuf {
        self.path("rules")
    }

    pub(super) fn diary(&self) -> PathBuf {
        self.path("diary")
    }

    pub(super) fn qworkers(&self) -> Api<QWorker> {
        self.cluster.api()
    }

    pub(super) async fn qworker(&self, name: &str) -> QWorker {
        self.qworkers().get(name).await.unwrap()
    }

    /// Pods that are not gone, by name.
    pub(super) async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = self.cluster.api();
        pods.list(&ListParams::default()).await.unwrap().items
    }

    /// Puts tasks into a queue, each as long as `milliseconds` allows.
    pub(super) fn push(&self, queue: &str, tasks: usize, milliseconds: std::ops::Range<u64>) {
        let mut connection = self.redis.connection().unwrap();
        let mut pushing = redis::cmd("LPUSH");
        pushing.arg(queue);
        for _ in 0..tasks {
            let random = self.next_random();
            let length = milliseconds.start + random % (milliseconds.end - milliseconds.start);
            pushing.arg(format!("{random} {length}"));
        }
        pushing.exec(&mut connection).unwrap();
    }

    /// Xorshift: it need be no better.
    fn next_random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    /// Every task that a worker has begun, by id.
    pub(super) fn lived(&self) -> BTreeMap<String, Lived> {
        let mut tasks: BTreeMap<String, Lived> = BTreeMap::new();
        for worker in fs::read_dir(self.diary()).unwrap().flatten() {
            let text = fs::read_to_string(worker.path().join("1")).unwrap_or_default();
            for line in text.lines() {
                let words: Vec<_> = line.split(' ').collect();
                match words.as_slice() {
                    ["start", id, _] => tasks.entry((*id).to_owned()).or_default().begun += 1,
                    ["end", id, _] => tasks.entry((*id).to_owned()).or_default().ended += 1,
                    _ => {}
                }
            }
        }
        tasks
    }

    /// Workers whose diary has this line.
    fn diaries_with(&self, what: &str) -> BTreeSet<String> {
        let diaries = fs::read_dir(self.diary()).unwrap().flatten();
        let says = |worker: &fs::DirEntry| {
            let text = fs::read_to_string(worker.path().join("1")).unwrap_or_default();
            text.lines().any(|line| line == what)
        };
        diaries.filter(says).map(|worker| worker.file_name().into_string().unwrap()).collect()
    }

    /// Workers that have begun.
    pub(super) fn begun(&self) -> BTreeSet<String> {
        self.diaries_with("boot")
    }

    /// Workers that have claimed an offer of this QWorker or Workload: by the path, which forgets them when they are
    /// gone, and by their diaries, where the hook stands some time after the claim.
    pub(super) async fn claimed(&self, name: &str) -> BTreeSet<String> {
        let offers = self.offers(name).await;
        let by_path = offers.iter().filter_map(|state| state.strip_prefix("claimed:")).map(str::to_owned);
        let by_path: BTreeSet<_> = by_path.collect();
        by_path.union(&self.diaries_with("hook")).cloned().collect()
    }

    /// The states of the offers that the control path of a QWorker or a Workload shows.
    pub(super) async fn offers(&self, name: &str) -> Vec<String> {
        let key = format!("qscaler:{{{}}}:offers", self.path_of(name).await);
        let mut connection = self.redis.connection().unwrap();
        let path: BTreeMap<String, String> = redis::cmd("HGETALL").arg(key).query(&mut connection).unwrap();
        path.into_iter().filter(|(field, _)| field.starts_with("o:")).map(|(_, state)| state).collect()
    }

    /// How many tasks were ended.
    pub(super) fn ended(&self) -> usize {
        self.lived().values().map(|task| task.ended as usize).sum()
    }

    /// How many tasks are being worked on.
    pub(super) fn busy(&self) -> usize {
        self.lived().values().filter(|task| task.begun > task.ended).count()
    }

    /// Fails unless so many tasks were begun, each once, and each was ended.
    pub(super) fn every_task_was_done_once(&self, tasks: usize) {
        let lived = self.lived();
        assert_eq!(lived.len(), tasks);
        let once = Lived { begun: 1, ended: 1 };
        assert!(lived.values().all(|task| *task == once), "{lived:?}");
    }

    /// Waits until something is so; fails with what the engine said.
    pub(super) async fn until(&self, what: &str, so: impl AsyncFnMut(&Self) -> bool) {
        self.until_within(PATIENCE, what, so).await;
    }

    /// The same, where it may take longer.
    pub(super) async fn until_within(
        &self,
        patience: Duration,
        what: &str,
        mut so: impl AsyncFnMut(&Self) -> bool,
    ) {
        let begin = Instant::now();
        while !so(self).await {
            assert!(begin.elapsed() < patience, "not within {patience:?}: {what}\n{}", self.log("engine"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets every QWorker go, and the namespace.
    pub(super) async fn close(self, mut engine: Engine) {
        self.qworkers().delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        self.until("the QWorkers are gone", async |shop| {
            shop.qworkers().list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
        engine.signal("TERM");
        assert_eq!(engine.wait(), 0, "{}", self.log("engine"));
        self.cluster.end().await;
    }
}

/// The status condition `Ready` as `(status, reason, message)`.
pub(super) fn ready(qworker: &QWorker) -> Option<(String, String, String)> {
    let conditions = &qworker.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((ready.status.clone(), ready.reason.clone(), ready.message.clone()))
}

/// Names of pods that are not being deleted.
pub(super) fn staying(pods: &[Pod]) -> Vec<String> {
    let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    pods.iter().filter(stays).map(ResourceExt::name_any).collect()
}

fn yaml(text: &str) -> Value {
    let (file, problems) = qscaler_core::yaml::read("definition.yaml", text.to_owned());
    assert_eq!(problems, []);
    file.documents[0].json()
}

fn kube_config(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| yaml(text))
}

/// What one says, and the other.
fn merged(mut one: Value, other: &Value) -> Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

fn kind<T: k8s_openapi::serde::de::DeserializeOwned>(written: &Value) -> T {
    serde_json::from_value(written.clone()).unwrap()
}
