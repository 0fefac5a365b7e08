//! A namespace with a queue and an engine that looks after QWorkers and Deployments in it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use qscaler::platform::kubernetes::api::{QWorker, ScalerConfig, Workload};
use qscaler::platform::kubernetes::crd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit::Audit;
use crate::fixture::{Engine, PROGRAM, RedisServer, get, served_at, until};

/// No task ends while it matters.
const TASK_MS: u64 = 600_000;
const RULE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/scaling-factor.yaml"));

/// What makes the workers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeBy {
    QWorker,
    Deployment,
}

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

    /// One at zero on the queue of its name, looked after.
    pub(crate) async fn create(&self, by: MadeBy, name: &str, max: usize) {
        match by {
            MadeBy::QWorker => self.create_qworker(name, max).await,
            MadeBy::Deployment => self.create_deployment(name, max).await,
        }
        let decided = format!("qscaler_workers_desired{{workload=\"{}/{name}\"}} 0", self.namespace);
        until("the engine decides", || {
            let (_, metrics) = get(&served_at(&self.log())?, "/metrics")?;
            metrics.contains(&decided).then_some(())
        });
    }

    async fn create_qworker(&self, name: &str, max: usize) {
        let qworker = json!({"metadata": {"name": name}, "spec": {
            "scaleConfig": {
                "scalerConfigRef": "redis", "queue": name, "minReplicas": 0, "maxReplicas": max,
                "scalingFactor": 1, "activateVPA": false,
            },
            "podSpec": self.pod_spec(&[]),
        }});
        self.qworkers().create(&PostParams::default(), &object(qworker)).await.unwrap();
    }

    async fn create_deployment(&self, name: &str, max: usize) {
        let (labels, workload) = (json!({"app": name}), format!("{}/{name}", self.namespace));
        let spec = self.pod_spec(&[
            json!({"name": "QSCALER_WORKER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}),
            json!({"name": "QSCALER_WORKLOAD", "value": workload}),
            json!({"name": "QSCALER_PARK", "value": "1"}),
            json!({"name": "QSCALER_QUEUE_URL", "value": self.redis.url}),
            json!({"name": "QSCALER_QUEUE", "value": name}),
        ]);
        let deployment = json!({"metadata": {"name": name}, "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }});
        self.deployments().create(&PostParams::default(), &object(deployment)).await.unwrap();
        let workload = json!({"metadata": {"name": name}, "spec": {
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "source": {"type": "redis", "url": self.redis.url}, "queues": [{"name": name}],
            "rule": "scaling-factor", "params": {"maxReplicas": max}, "mode": "act",
        }});
        self.workloads().create(&PostParams::default(), &object(workload)).await.unwrap();
    }

    fn pod_spec(&self, variables: &[Value]) -> Value {
        let diary = json!({"name": "diary", "hostPath": {"path": self.folder.path(), "type": "Directory"}});
        let own = [("DIARIST_LEASE_MS", "10000"), ("DIARIST_FOLDER", "/diary")];
        let own = own.map(|(name, value)| json!({"name": name, "value": value}));
        let all = [&own, variables].concat();
        json!({"hostNetwork": true, "volumes": [diary], "containers": [{
            "name": "worker",
            "image": "localhost/diarist:test",
            "imagePullPolicy": "Never",
            "env": all,
            "volumeMounts": [{"name": "diary", "mountPath": "/diary"}],
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        }]})
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn qworkers(&self) -> Api<QWorker> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn workloads(&self) -> Api<Workload> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn push(&self, queue: &str, task: usize) {
        let mut connection = self.redis.connection().unwrap();
        redis::cmd("LPUSH").arg(queue).arg(format!("{task} {TASK_MS}")).exec(&mut connection).unwrap();
    }

    /// With its workers, which are not waited for.
    pub(crate) async fn delete(&self, by: MadeBy, name: &str) {
        let all = DeleteParams::default();
        match by {
            MadeBy::QWorker => self.qworkers().delete(name, &all).await.map(|_| ()),
            MadeBy::Deployment => self.workloads().delete(name, &all).await.map(|_| ()),
        }
        .unwrap();
        if by == MadeBy::Deployment {
            self.deployments().delete(name, &all).await.unwrap();
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        while !self.is_gone(by, name).await
            || !pods.list(&ListParams::default()).await.unwrap().items.is_empty()
        {
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete_collection(&at_once, &ListParams::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn is_gone(&self, by: MadeBy, name: &str) -> bool {
        match by {
            MadeBy::QWorker => self.qworkers().get_opt(name).await.unwrap().is_none(),
            MadeBy::Deployment => self.workloads().get_opt(name).await.unwrap().is_none(),
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
    std::fs::write(folder.path().join("rules/scaling-factor.yaml"), RULE).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--kubernetes", "--listen", "127.0.0.1:0", "--namespace", namespace]);
    command.arg("--rules").arg(folder.path().join("rules"));
    command.arg("--state").arg(folder.path().join("state")).env("KUBECONFIG", kubeconfig);
    Engine::start(&mut command, folder.path().join("log"))
}

fn object<T: DeserializeOwned>(written: Value) -> T {
    serde_json::from_value(written).unwrap()
}
