//! The definitions of our objects on the real API server: it takes them, and what it then takes and refuses.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ApiResource, DynamicObject, GetParams, Patch, PatchParams, PostParams, Request};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, CustomResourceExt, ResourceExt};
use qscaler::platform::kubernetes::api::{QWorker, ScalerConfig, Workload};
use serde_json::{Value, json};

use super::{Cluster, wait};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const MANAGER: &str = "qscaler-tests";

/// Installs the committed definitions. Tests run side by side: all install the same, none removes it.
pub(super) async fn install(client: &Client) {
    for name in [QWorker::crd_name(), ScalerConfig::crd_name(), Workload::crd_name()] {
        install_from(client, &format!("deploy/crds/{name}.yaml")).await;
    }
}

/// Installs the definition in this file, and waits until its objects are served.
pub(super) async fn install_from(client: &Client, path: &str) {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = document(path);
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    let apply = PatchParams::apply(MANAGER).force();
    all.patch(&name, &apply, &Patch::Apply(definition)).await.unwrap();
    wait(&name, await_condition(all, &name, is_crd_established())).await;
}

async fn installed() -> Cluster {
    let cluster = Cluster::here().await;
    install(&cluster.client).await;
    cluster
}

fn document(path: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let (file, problems) = qscaler_core::yaml::read(path, text);
    assert_eq!(problems, []);
    file.documents[0].json()
}

impl Cluster {
    /// Creates an object as `kubectl` does: a field that is not known is refused.
    async fn apply<K: CustomResourceExt>(&self, object: Value) -> Result<Value, String> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &K::api_resource());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut params = PatchParams::apply(MANAGER);
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
        applied.map(|object| object.data).map_err(|error| error.to_string())
    }

    async fn refuses<K: CustomResourceExt>(&self, object: Value, told: &str) {
        let error = self.apply::<K>(object).await.expect_err(told);
        assert!(error.contains(told), "{error}\n does not say: {told}");
    }
}

fn qworker(name: &str, change: Value) -> Value {
    let mut object = json!({
        "apiVersion": "quickube.com/v1alpha1",
        "kind": "QWorker",
        "metadata": {"name": name},
        "spec": {
            "podSpec": {"containers": [{"name": "worker", "image": "localhost/worker:1"}]},
            "scaleConfig": scale(1, 5),
        },
    });
    merge(&mut object["spec"], change);
    object
}

fn scale(min: i64, max: i64) -> Value {
    json!({"scalerConfigRef": "redis", "queue": "work", "minReplicas": min, "maxReplicas": max, "scalingFactor": 1})
}

fn scaler_config(change: Value) -> Value {
    let mut config = json!({"host": "redis", "port": "6379", "password": {}});
    merge(&mut config, change);
    json!({
        "apiVersion": "quickube.com/v1alpha1",
        "kind": "ScalerConfig",
        "metadata": {"name": "redis"},
        "spec": {"type": "redis", "config": config},
    })
}

fn workload(change: Value) -> Value {
    let mut spec = json!({
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mailer"},
        "source": {"type": "redis", "url": "redis://redis:6379"},
        "queues": [{"name": "mails"}],
    });
    merge(&mut spec, change);
    json!({
        "apiVersion": "qscaler.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "mailer"},
        "spec": spec,
    })
}

fn merge(object: &mut Value, change: Value) {
    let Value::Object(change) = change else { panic!("fields are changed") };
    object.as_object_mut().unwrap().extend(change);
}

#[tokio::test]
async fn the_samples_of_the_first_qscaler_apply_unchanged() {
    let cluster = installed().await;
    for (name, vpa) in [("plain", false), ("sdk", true)] {
        let sample = document(&format!("testdata/original/{name}-qworker.yaml"));
        let mut spec = sample["spec"].clone();
        let name = sample["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.apply::<QWorker>(sample).await.unwrap();
        let read = cluster.api::<QWorker>().get(&name).await.unwrap();
        merge(&mut spec["scaleConfig"], json!({"activateVPA": vpa}));
        assert_eq!(serde_json::to_value(read.spec).unwrap(), spec);
    }
    for name in ["secret", "value"] {
        let sample = document(&format!("testdata/original/{name}-scaler-config.yaml"));
        let spec = sample["spec"].clone();
        let name = sample["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.apply::<ScalerConfig>(sample).await.unwrap();
        let read = cluster.api::<ScalerConfig>().get(&name).await.unwrap();
        assert_eq!(serde_json::to_value(read.spec).unwrap(), spec);
    }
    cluster.end().await;
}

#[tokio::test]
async fn a_status_as_the_first_engine_writes_it_is_read_with_or_without_our_fields() {
    let cluster = installed().await;
    cluster.apply::<QWorker>(qworker("worker", json!({}))).await.unwrap();
    let api: Api<QWorker> = cluster.api();
    let theirs = json!({"currentReplicas": 2, "desiredReplicas": 3, "currentPodSpecHash": "ab", "maxContainerResourcesUsage": [{"cpu": "150m", "memory": "64Mi"}]});
    let patch = |status: Value| Patch::Merge(json!({"status": status}));
    let written = api.patch_status("worker", &PatchParams::default(), &patch(theirs)).await.unwrap();
    let status = written.status.unwrap();
    assert_eq!((status.current_replicas, status.desired_replicas), (2, 3));
    assert_eq!(status.max_container_resources_usage[0]["cpu"].0, "150m");
    // What it does not know it finds filled in.
    cluster.apply::<QWorker>(qworker("young", json!({}))).await.unwrap();
    api.patch_status("young", &PatchParams::default(), &patch(json!({"queueLength": 7}))).await.unwrap();
    let raw: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &QWorker::api_resource());
    let status = raw.get("young").await.unwrap().data["status"].clone();
    let filled = json!({"currentReplicas": 0, "desiredReplicas": 0, "currentPodSpecHash": "", "maxContainerResourcesUsage": [], "queueLength": 7});
    assert_eq!(status, filled);
    cluster.end().await;
}

#[tokio::test]
async fn all_of_a_pod_spec_is_kept_and_nothing_else_that_is_not_known() {
    let cluster = installed().await;
    let mut object = qworker("worker", json!({}));
    let container =
        json!({"name": "worker", "image": "localhost/worker:1", "ofALaterRelease": {"a": [1, {"b": null}]}});
    let spec = json!({"containers": [container], "ofALaterRelease": {"deep": [true]}});
    object["spec"]["podSpec"] = spec.clone();
    cluster.apply::<QWorker>(object).await.unwrap();
    let read = cluster.api::<QWorker>().get("worker").await.unwrap();
    assert_eq!(Value::Object(read.spec.pod_spec), spec);
    cluster.refuses::<QWorker>(qworker("other", json!({"ruel": "mine"})), "ruel").await;
    cluster.end().await;
}

#[tokio::test]
async fn a_bad_object_is_refused_with_what_to_write_instead() {
    let cluster = installed().await;
    let bad = |change| qworker("worker", change);
    let parted = [
        (json!({"scaleConfig": scale(5, 3)}), "spec.scaleConfig.maxReplicas: Invalid value"),
        (json!({"scaleConfig": scale(5, 3)}), "write a maxReplicas of at least minReplicas"),
        (
            json!({"scaleConfig": scale(-1, 3)}),
            "spec.scaleConfig.minReplicas: Invalid value: \"integer\": it cannot be negative: write 0 or more",
        ),
        (
            json!({"podSpec": {"containers": []}}),
            "spec.podSpec.containers in body should have at least 1 items",
        ),
        (json!({"podSpec": {}}), "spec.podSpec.containers: Required value"),
        (json!({"pause": "sideways"}), "supported values: \"up\", \"down\", \"both\""),
        (json!({"params": {"wait": ["30s"]}}), "spec.params.wait"),
        (json!({"drain": {"deadline": "soon"}}), "write never, or a duration such as 2h or 1h30m"),
        (json!({"rollout": {"maxSurge": "lots"}}), "spec.rollout.maxSurge"),
        (json!({"replicas": -1}), "spec.replicas"),
    ];
    for (change, told) in parted {
        cluster.refuses::<QWorker>(bad(change), told).await;
    }
    let parted = [
        (json!({"port": "redis"}), "write a number from 1 to 65535 in quotes, such as \"6379\""),
        (json!({"port": 6379}), ".spec.config.port: expected string"),
        (json!({"host": ""}), "write the name of the server"),
        (
            json!({"password": {"secret": {"name": "redis"}}}),
            "spec.config.password.secret.key: Required value",
        ),
    ];
    for (change, told) in parted {
        cluster.refuses::<ScalerConfig>(scaler_config(change), told).await;
    }
    let parted = [
        (json!({"target": {"command": ["python"]}}), "spec.target.command"),
        (
            json!({"source": {"type": "sqlite", "url": "sqlite:queue.db"}}),
            "`sqlite` is no queue system that is known here: write redis",
        ),
        (json!({"source": {"type": "redis", "url": "redis://me:secret@redis"}}), "auth.secretRef"),
        (
            json!({"source": {"type": "redis", "url": "redis://redis", "auth": {"passwordEnv": "HOME"}}}),
            "passwordEnv",
        ),
        (json!({"queues": []}), "spec.queues in body should have at least 1 items"),
        (json!({"mode": "watch"}), "supported values: \"observe\", \"act\""),
    ];
    for (change, told) in parted {
        cluster.refuses::<Workload>(workload(change), told).await;
    }
    cluster.end().await;
}

/// A copy of the definition, without its rules as of the first QScaler or with them: rules for all come too
/// late to store what they refuse.
async fn install_copy(client: &Client, with_rules: bool) -> ApiResource {
    let mut definition = document("deploy/crds/qworkers.quickube.com.yaml");
    if !with_rules {
        drop_rules(&mut definition);
    }
    definition["metadata"] = json!({"name": "qworkers.copy.test"});
    definition["spec"]["group"] = json!("copy.test");
    definition["spec"]["names"] = json!({"kind": "QWorker", "plural": "qworkers"});
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply(MANAGER).force();
    all.patch("qworkers.copy.test", &apply, &Patch::Apply(definition)).await.unwrap();
    wait("the copy", await_condition(all, "qworkers.copy.test", is_crd_established())).await;
    ApiResource {
        group: "copy.test".into(),
        api_version: "copy.test/v1alpha1".into(),
        ..QWorker::api_resource()
    }
}

async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let polled = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<_, ()>(())
    };
    wait(what, polled).await;
}

fn drop_rules(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("x-kubernetes-validations");
            object.values_mut().for_each(drop_rules);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_rules),
        _ => {}
    }
}

#[tokio::test]
async fn an_object_that_was_stored_before_a_rule_can_still_be_changed() {
    let cluster = Cluster::here().await;
    let resource = install_copy(&cluster.client, false).await;
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let object = |name: &str| {
        let mut object = qworker(name, json!({"scaleConfig": scale(3, -1)}));
        object["apiVersion"] = json!("copy.test/v1alpha1");
        serde_json::from_value(object).unwrap()
    };
    // The API server takes up rules some time after it took the definition.
    let create = PostParams::default();
    until("without rules", async || api.create(&create, &object("before")).await.is_ok()).await;
    install_copy(&cluster.client, true).await;
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    until("with rules", async || api.create(&trial, &object("after")).await.is_err()).await;
    let change = |change: Value| {
        let patch = Patch::Merge(json!({"spec": {"scaleConfig": change}}));
        let api = api.clone();
        async move { api.patch("before", &PatchParams::default(), &patch).await.map_err(|it| it.to_string()) }
    };
    change(json!({"queue": "other"})).await.unwrap();
    let error = change(json!({"minReplicas": 4})).await.unwrap_err();
    assert!(error.contains("at least minReplicas"), "{error}");
    change(json!({"maxReplicas": 3})).await.unwrap();
    cluster.end().await;
}

#[tokio::test]
async fn every_field_of_ours_is_taken_and_read_back() {
    let cluster = installed().await;
    let ours = json!({
        "rule": "rate-and-backlog",
        "params": {"wait": "30s", "factor": 0.5, "most": 7, "eager": true},
        "pause": "down",
        "drain": {"deadline": "1h30m"},
        "podMetadata": {"labels": {"team": "mail"}, "annotations": {"note": "text"}},
        "rollout": {"maxSurge": "25%", "maxUnavailable": 1},
    });
    cluster.apply::<QWorker>(qworker("worker", ours.clone())).await.unwrap();
    let read = cluster.api::<QWorker>().get("worker").await.unwrap();
    assert_eq!(read.spec.rollout.as_ref().unwrap().max_unavailable, Some(IntOrString::Int(1)));
    let written = serde_json::to_value(read.spec).unwrap();
    for (name, value) in ours.as_object().unwrap() {
        assert_eq!(written[name], *value, "{name}");
    }
    let ours = json!({"username": "worker", "database": 3, "tls": true});
    cluster.apply::<ScalerConfig>(scaler_config(ours)).await.unwrap();
    let config = cluster.api::<ScalerConfig>().get("redis").await.unwrap().spec.config;
    assert_eq!(
        (config.username.as_deref(), config.database, config.tls),
        (Some("worker"), Some(3), Some(true))
    );
    let auth = json!({"username": "worker", "secretRef": {"name": "redis"}});
    let source = json!({"type": "redis", "url": "rediss://redis:6379/1", "auth": auth});
    cluster.apply::<Workload>(workload(json!({"source": source, "params": {"wait": "1m"}}))).await.unwrap();
    let read = cluster.api::<Workload>().get("mailer").await.unwrap();
    assert_eq!(read.spec.source.auth.unwrap().secret_ref.key, "password");
    assert_eq!(read.spec.mode, qscaler_core::document::workload::Mode::Observe);
    cluster.end().await;
}

#[tokio::test]
async fn the_scale_subresource_tells_replicas_and_selector() {
    let cluster = installed().await;
    cluster.apply::<QWorker>(qworker("worker", json!({}))).await.unwrap();
    let api: Api<QWorker> = cluster.api();
    let status = json!({"status": {"currentReplicas": 2, "selector": "quickube.com/qworker=worker"}});
    api.patch_status("worker", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let wanted = Patch::Merge(json!({"spec": {"replicas": 4}}));
    api.patch_scale("worker", &PatchParams::default(), &wanted).await.unwrap();
    let scale = api.get_scale("worker").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(4));
    let status = scale.status.unwrap();
    assert_eq!((status.replicas, status.selector.as_deref()), (2, Some("quickube.com/qworker=worker")));
    assert_eq!(api.get("worker").await.unwrap().spec.replicas, Some(4));
    cluster.end().await;
}

#[tokio::test]
async fn a_list_tells_length_desired_current_draining_and_reason() {
    let cluster = installed().await;
    cluster.apply::<QWorker>(qworker("worker", json!({}))).await.unwrap();
    let status = json!({"status": {
        "queueLength": 40, "desiredReplicas": 9, "currentReplicas": 11, "drainingReplicas": 2,
        "reason": "9 workers: the rule asks for 9",
    }});
    let api: Api<QWorker> = cluster.api();
    api.patch_status("worker", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let path = format!("/apis/quickube.com/v1alpha1/namespaces/{}/qworkers", cluster.namespace);
    let mut request = Request::new(path).get("worker", &GetParams::default()).unwrap();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    request.headers_mut().insert("accept", table.parse().unwrap());
    let table: Value = cluster.client.request(request).await.unwrap();
    let columns =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap());
    assert_eq!(
        columns.collect::<Vec<_>>(),
        ["Name", "Length", "Desired", "Current", "Draining", "Reason", "Age"]
    );
    let cells = &table["rows"][0]["cells"].as_array().unwrap()[..6];
    assert_eq!(
        cells,
        [json!("worker"), json!(40), json!(9), json!(11), json!(2), json!("9 workers: the rule asks for 9")]
    );
    cluster.end().await;
}

#[tokio::test]
async fn a_ledger_is_kept_as_it_was_written() {
    let cluster = installed().await;
    let ledger = json!({"protocol": 1, "epoch": "e", "offers": [{"id": 7, "for": null, "more": {"x": 1.5}}]});
    cluster.apply::<QWorker>(qworker("worker", json!({}))).await.unwrap();
    let api: Api<QWorker> = cluster.api();
    let mut object = api.get("worker").await.unwrap();
    object.status.get_or_insert_default().ledger = Some(ledger.clone());
    let version = object.resource_version();
    let written = api.replace_status("worker", &PostParams::default(), &object).await.unwrap();
    assert_eq!(written.status.unwrap().ledger, Some(ledger));
    // The version that was read guards the ledger: who comes second with it is told so.
    object.metadata.resource_version = version;
    let second = api.replace_status("worker", &PostParams::default(), &object).await;
    assert!(matches!(second, Err(kube::Error::Api(status)) if status.code == 409));
    cluster.end().await;
}
