//! A namespace with a queue and an engine that looks after QWorkers in it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use qscaler::platform::kubernetes::api::{QWorker, ScalerConfig};
use qscaler::platform::kubernetes::crd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit::Audit;
use crate::fixture::{Engine, PROGRAM, RedisServer, get, served_at, until};

/// No task ends while it matters.
const TASK_MS: u64 = 600_000;

pub(crate) struct Site {
    client: Client,
    namespace: String,
    redis: RedisServer,
    engine: Engine,
    folder: TempDir,
    pub(crate) audit: Audit,
}

impl Site {
    pub(crate) async fn open() -> Self {
        let cluster = PathBuf::from(std::env::var_os("QSCALER_CLUSTER").unwrap());
        let client = Client::try_default().await.unwrap();
        install(&client).await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let wanted = object(json!({"metadata": {"generateName": "reaction-"}}));
        let namespace = namespaces.create(&PostParams::default(), &wanted).await.unwrap().name_any();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        await_condition(accounts, "default", |it: Option<&ServiceAccount>| it.is_some()).await.unwrap();
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let port = redis.url.rsplit_once(':').unwrap().1;
        let config = json!({"host": "127.0.0.1", "port": port, "password": {}});
        let config = json!({"metadata": {"name": "redis"}, "spec": {"type": "redis", "config": config}});
        let configs: Api<ScalerConfig> = Api::namespaced(client.clone(), &namespace);
        configs.create(&PostParams::default(), &object(config)).await.unwrap();
        let engine = start_engine(&namespace, &folder);
        let audit = Audit::of(&cluster, &namespace);
        Self { client, namespace, redis, engine, folder, audit }
    }

    /// A QWorker at zero on the queue of its name, looked after.
    pub(crate) async fn create(&self, name: &str, max: usize) {
        let diary = json!({"name": "diary", "hostPath": {"path": self.folder.path(), "type": "Directory"}});
        let qworker = json!({"metadata": {"name": name}, "spec": {
            "scaleConfig": {
                "scalerConfigRef": "redis", "queue": name, "minReplicas": 0, "maxReplicas": max,
                "scalingFactor": 1, "activateVPA": false,
            },
            "podSpec": {"hostNetwork": true, "volumes": [diary], "containers": [{
                "name": "worker",
                "image": "localhost/diarist:test",
                "imagePullPolicy": "Never",
                "env": [
                    {"name": "DIARIST_LEASE_MS", "value": "10000"},
                    {"name": "DIARIST_FOLDER", "value": "/diary"},
                ],
                "volumeMounts": [{"name": "diary", "mountPath": "/diary"}],
                "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            }]},
        }});
        self.qworkers().create(&PostParams::default(), &object(qworker)).await.unwrap();
        let decided = format!("qscaler_workers_desired{{workload=\"{}/{name}\"}} 0", self.namespace);
        until("the engine decides", || {
            let (_, metrics) = get(&served_at(&self.log())?, "/metrics")?;
            metrics.contains(&decided).then_some(())
        });
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn qworkers(&self) -> Api<QWorker> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn push(&self, queue: &str, task: usize) {
        let mut connection = self.redis.connection().unwrap();
        redis::cmd("LPUSH").arg(queue).arg(format!("{task} {TASK_MS}")).exec(&mut connection).unwrap();
    }

    /// With its workers, which are not waited for.
    pub(crate) async fn delete(&self, name: &str) {
        self.qworkers().delete(name, &DeleteParams::default()).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        while self.qworkers().get_opt(name).await.unwrap().is_some() {
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete_collection(&at_once, &ListParams::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub(crate) async fn close(self) {
        self.engine.stop();
        let namespaces: Api<Namespace> = Api::all(self.client);
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }
}

async fn install(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crd::all() {
        let name = definition.name_any();
        let by = PatchParams::apply("qscaler-benches").force();
        definitions.patch(&name, &by, &Patch::Apply(&definition)).await.unwrap();
        await_condition(definitions.clone(), &name, is_crd_established()).await.unwrap();
    }
}

/// Its Lease is in this namespace.
fn start_engine(namespace: &str, folder: &TempDir) -> Engine {
    let config = std::fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["contexts"][0]["context"]["namespace"] = json!(namespace);
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--kubernetes", "--listen", "127.0.0.1:0", "--namespace", namespace]);
    command.arg("--rules").arg(folder.path().join("rules"));
    command.arg("--state").arg(folder.path().join("state")).env("KUBECONFIG", kubeconfig);
    Engine::start(&mut command, folder.path().join("log"))
}

fn object<T: DeserializeOwned>(written: Value) -> T {
    serde_json::from_value(written).unwrap()
}
