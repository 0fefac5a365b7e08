//! Deployments and StatefulSets of workers that park, and the Workloads that scale them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use qscaler::platform::kubernetes::api::Workload;
use serde_json::{Value, json};

use super::Shop;
use crate::cluster::audit::Request;
use crate::cluster::is_ready;
use crate::fixture::{Engine, PROGRAM};

const SCALING_FACTOR: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/scaling-factor.yaml"));

/// A status condition as `(status, reason, message)`.
pub(in super::super) fn condition(workload: &Workload, of: &str) -> Option<(String, String, String)> {
    let conditions = &workload.status.as_ref()?.conditions;
    let condition = conditions.iter().find(|condition| condition.type_ == of)?;
    Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
}

/// Whether it has pods of an older template.
pub(in super::super) fn is_rolling(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref().unwrap();
    status.updated_replicas.unwrap_or(0) < status.replicas.unwrap_or(0)
}

pub(in super::super) fn holds(workload: &Workload, of: &str) -> bool {
    condition(workload, of).is_some_and(|(holds, ..)| holds == "True")
}

impl Shop {
    pub(in super::super) fn workloads(&self) -> Api<Workload> {
        self.cluster.api()
    }

    pub(in super::super) async fn workload(&self, name: &str) -> Workload {
        self.workloads().get(name).await.unwrap()
    }

    pub(in super::super) fn deployments(&self) -> Api<Deployment> {
        self.cluster.api()
    }

    /// An engine that knows the rule of these Workloads.
    pub(in super::super) fn engine_with_rule(&self) -> Engine {
        self.write_rule();
        self.engine("engine")
    }

    /// The rule of these Workloads.
    pub(in super::super) fn write_rule(&self) {
        fs::write(self.rules().join("scaling-factor.yaml"), SCALING_FACTOR).unwrap();
    }

    /// Has a Deployment replace all its pods, and waits until it has begun to.
    pub(in super::super) async fn roll(&self, deployment: &str) {
        let annotations = json!({"changed": Timestamp::now()});
        let changed = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}));
        self.deployments().patch(deployment, &PatchParams::default(), &changed).await.unwrap();
        self.until("it rolls", async |shop| is_rolling(&shop.deployments().get(deployment).await.unwrap()))
            .await;
    }

    /// The template of workers that park, with a probe.
    pub(in super::super) fn parking(&self, workload: &str) -> Value {
        let mut spec = self.pod_spec();
        let worker = &mut spec["containers"][0];
        let key = format!("{}/{workload}", self.cluster.namespace);
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        worker["env"].as_array_mut().unwrap().extend([
            json!({"name": "QSCALER_WORKER", "valueFrom": field("metadata.uid")}),
            json!({"name": "QSCALER_WORKLOAD", "value": key}),
            json!({"name": "QSCALER_PARK", "value": "1"}),
            json!({"name": "QSCALER_QUEUE_URL", "value": self.redis.url}),
            json!({"name": "QSCALER_QUEUE", "value": workload}),
            json!({"name": "QSCALER_PROBE_FILE", "value": "/tmp/ready"}),
        ]);
        worker["readinessProbe"] = json!({"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1});
        spec["terminationGracePeriodSeconds"] = json!(60);
        let labels = json!({"app": workload});
        json!({"metadata": {"labels": labels}, "spec": spec})
    }

    /// A Deployment of such workers; `change` changes what is written.
    pub(in super::super) async fn deploy(&self, name: &str, replicas: u32, change: impl FnOnce(&mut Value)) {
        let mut deployment = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": self.parking(name),
            },
        });
        change(&mut deployment);
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        self.deployments().create(&PostParams::default(), &deployment).await.unwrap();
    }

    /// A StatefulSet of such workers.
    pub(in super::super) async fn set(&self, name: &str, replicas: u32) {
        let set = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas, "serviceName": name, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": name}}, "template": self.parking(name),
            },
        });
        let sets: Api<StatefulSet> = self.cluster.api();
        sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    }

    /// A Workload that scales a Deployment of its name by its queue, up to `max`; `change` changes it.
    pub(in super::super) async fn look_after(&self, name: &str, max: u32, change: impl FnOnce(&mut Value)) {
        let mut workload = json!({
            "metadata": {"name": name},
            "spec": {
                "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "source": {"type": "redis", "url": self.redis.url},
                "queues": [{"name": name}],
                "rule": "scaling-factor",
                "params": {"scalingFactor": 1, "minReplicas": 0, "maxReplicas": max},
                "mode": "act",
            },
        });
        change(&mut workload);
        let workload: Workload = serde_json::from_value(workload).unwrap();
        self.workloads().create(&PostParams::default(), &workload).await.unwrap();
    }

    pub(in super::super) async fn set_workload(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.workloads().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub(in super::super) async fn replicas(&self, deployment: &str) -> i32 {
        self.deployments().get(deployment).await.unwrap().spec.unwrap().replicas.unwrap()
    }

    pub(in super::super) async fn ready_pods(&self) -> usize {
        self.pods().await.iter().filter(|pod| is_ready(Some(pod))).count()
    }

    /// Has a Deployment follow the length of its queue, up to `max`, until so many tasks were begun and none
    /// waits. Of those that are worked on then, the longer ones would never end: they are begun, nothing
    /// waits, they are cut off, and wait again. So they are worked off by workers that stay.
    pub(in super::super) async fn follow_plainly(&self, name: &str, max: u32, tasks: usize) {
        loop {
            let mut connection = self.redis.connection().unwrap();
            let length: u32 = redis::cmd("LLEN").arg(name).query(&mut connection).unwrap();
            self.set_replicas(name, length.min(max)).await;
            if length == 0 && self.lived().len() == tasks {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.until("nobody is there", async |shop| shop.pods().await.is_empty()).await;
        self.set_replicas(name, max).await;
        self.until("the rest is done", async |shop| shop.ended() == tasks).await;
        self.set_replicas(name, 0).await;
    }

    async fn set_replicas(&self, deployment: &str, replicas: u32) {
        let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.deployments().patch_scale(deployment, &PatchParams::default(), &scale).await.unwrap();
    }

    /// Container restarts of pods that are there.
    pub(in super::super) async fn restarts(&self) -> i32 {
        let of = |pod: &Pod| -> i32 {
            let containers = pod.status.as_ref().and_then(|it| it.container_statuses.as_ref());
            containers.into_iter().flatten().map(|it| it.restart_count).sum()
        };
        self.pods().await.iter().map(of).sum()
    }

    /// Requests of the engine that change something of a kind.
    pub(in super::super) fn writes(&self, resource: &str) -> Vec<Request> {
        let of_kind = |request: &Request| request.resource.split('/').next() == Some(resource);
        let asked = self.cluster.asked_by(&self.account()).into_iter();
        asked.filter(|request| request.is_write() && of_kind(request)).collect()
    }

    /// What a command of the program says of a Workload of this namespace.
    pub(in super::super) fn command(&self, words: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        let output = command.args(words).args(["--namespace", &self.cluster.namespace]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Deletes a Workload and waits until it is gone.
    pub(in super::super) async fn let_go(&self, workload: &str) {
        self.workloads().delete(workload, &DeleteParams::default()).await.unwrap();
        let what = format!("the Workload {workload} is gone");
        self.until(&what, async |shop| shop.workloads().get_opt(workload).await.unwrap().is_none()).await;
    }

    pub(in super::super) async fn close_workloads(self, engine: Engine) {
        let all = ListParams::default();
        self.workloads().delete_collection(&DeleteParams::default(), &all).await.unwrap();
        self.until("the Workloads are gone", async |shop| {
            shop.workloads().list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
        self.close(engine).await;
    }
}
