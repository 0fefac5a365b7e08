//! A namespace with a Redis server, QWorkers whose pods keep diaries, and engines that look after them.

mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use qscaler::platform::kubernetes::api::{QWorker, ScalerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Cluster;
use super::crds::install;
use crate::fixture::{Engine, PROGRAM, RedisServer, seed};

pub(super) use targets::{condition, holds};

/// How long the engine and the cluster may take together for what the test waits for, beside the tasks.
const PATIENCE: Duration = Duration::from_secs(90);

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
        // Its Lease is in this test's own namespace.
        let config = fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
        let mut config: Value = kube_config(&config);
        for context in config["contexts"].as_array_mut().unwrap() {
            context["context"]["namespace"] = json!(cluster.namespace);
        }
        fs::write(folder.path().join("kubeconfig"), config.to_string()).unwrap();
        let shop = Self { cluster, redis, folder, random: std::cell::Cell::new(seed() | 1) };
        shop.create_config("redis").await;
        shop
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
        let state = self.folder.path().join(name);
        let mut command = Command::new(PROGRAM);
        command.args([
            "run",
            "--kubernetes",
            "--listen",
            "127.0.0.1:0",
            "--namespace",
            &self.cluster.namespace,
        ]);
        command.arg("--rules").arg(self.folder.path().join("rules")).arg("--state").arg(&state);
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        Engine::start(&mut command, self.folder.path().join(format!("{name}.log")))
    }

    pub(super) fn log(&self, engine: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{engine}.log"))).unwrap_or_default()
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

    pub(super) fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    fn diary(&self) -> PathBuf {
        self.folder.path().join("diary")
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

    /// Workers that have claimed an offer of this QWorker: by the path, which forgets them when they are
    /// gone, and by their diaries, where the hook stands some time after the claim.
    pub(super) async fn claimed(&self, qworker: &str) -> BTreeSet<String> {
        let uid = self.qworker(qworker).await.metadata.uid.unwrap();
        let mut connection = self.redis.connection().unwrap();
        let offers: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(format!("qscaler:{{{uid}}}:offers")).query(&mut connection).unwrap();
        let by_path = offers.values().filter_map(|state| state.strip_prefix("claimed:")).map(str::to_owned);
        let by_path: BTreeSet<_> = by_path.collect();
        by_path.union(&self.diaries_with("hook")).cloned().collect()
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
    pub(super) async fn until(&self, what: &str, mut so: impl AsyncFnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !so(self).await {
            assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", self.log("engine"));
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

fn kind<T: k8s_openapi::serde::de::DeserializeOwned>(written: &Value) -> T {
    serde_json::from_value(written.clone()).unwrap()
}
