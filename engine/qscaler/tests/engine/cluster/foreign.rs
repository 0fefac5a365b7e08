//! What belongs to others: whatever labels it bears, the engine writes to none of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use super::audit::Request;
use super::diarist;
use super::shop::Shop;
use crate::fixture::counts;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");

/// The labels that Deployments have everywhere, those of ours among them.
fn labels(number: u64) -> Value {
    let mut labels = json!({"app": "web", "team": "mail", "tier": "backend"});
    match number % 4 {
        0 => labels["app.kubernetes.io/managed-by"] = json!("Helm"),
        1 => labels["app.kubernetes.io/managed-by"] = json!("qscaler"),
        2 => labels["quickube.com/qworker"] = json!("mail"),
        _ => labels["app.kubernetes.io/name"] = json!("mail"),
    }
    labels
}

/// Every tenth has a pod.
fn deployment(number: u64, redis: &str, diary: &Path) -> Deployment {
    let name = format!("web-{number}");
    let labels = labels(number);
    let mut selected = labels.clone();
    selected["instance"] = json!(name);
    let made = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": u64::from(number % 10 == 1),
            "selector": {"matchLabels": {"instance": name}},
            "template": {
                "metadata": {"labels": selected},
                "spec": diarist(&name, redis, diary)["spec"],
            },
        },
    });
    serde_json::from_value(made).unwrap()
}

impl Shop {
    /// Writes all rules that ship, and this after each.
    fn write_rules(&self, after: &str) {
        for file in fs::read_dir(RULES).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            if file.path().extension().is_some_and(|it| it == "yaml") {
                let text = fs::read_to_string(file.path()).unwrap();
                fs::write(self.path("new"), format!("{text}{after}")).unwrap();
                fs::rename(self.path("new"), self.rules().join(name)).unwrap();
            }
        }
    }

    fn times_read(&self) -> usize {
        self.log("engine").matches("read rules=").count()
    }

    async fn all_deployments(&self) -> BTreeSet<(String, Option<String>)> {
        let all = self.deployments().list(&ListParams::default()).await.unwrap().items;
        all.iter().map(|it| (it.name_any(), it.uid())).collect()
    }
}

/// Whether a request writes to what the engine was told to look after, or to what is the engine's own.
fn is_consented(write: &Request) -> bool {
    let of_ours = ["mail", "post", "letters"].into_iter().any(|ours| {
        let rest = write.name.strip_prefix(ours);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    match write.resource.split('/').next().unwrap() {
        "configmaps" => write.name.starts_with("qscaler-"),
        "pods" | "deployments" | "qworkers" | "workloads" => of_ours,
        "scalerconfigs" | "leases" | "events" => true,
        _ => false,
    }
}

#[tokio::test]
async fn deployments_of_others_are_never_written_to() {
    let (shop, diary) = (Shop::open().await, tempfile::tempdir().unwrap());
    for number in 1..=10.max(counts(50)) {
        let made = deployment(number, &shop.redis.url, diary.path());
        shop.deployments().create(&PostParams::default(), &made).await.unwrap();
    }
    let before = shop.all_deployments().await;
    shop.write_rules("");
    let engine = shop.engine("engine");
    shop.create("mail", 2, |_| ()).await;
    shop.create("post", 2, |it| it["spec"]["rule"] = json!("rate-and-backlog")).await;
    shop.deploy("letters", 0, |_| ()).await;
    shop.look_after("letters", 2, |_| ()).await;
    for round in 1..=3 {
        for queue in ["mail", "post", "letters"] {
            shop.push(queue, 6, 300..800);
        }
        shop.until("tasks are worked on", async |shop| shop.busy() > 0).await;
        let read = shop.times_read();
        shop.write_rules(&format!("# {round}\n"));
        shop.until("the rules are read again", async |shop| shop.times_read() > read).await;
        shop.until("the tasks are done", async |shop| shop.ended() == 18 * round).await;
    }
    shop.every_task_was_done_once(54);
    let asked = shop.cluster.asked_by(&shop.account());
    let writes: Vec<_> = asked.iter().filter(|request| request.is_write()).collect();
    for write in &writes {
        assert!(is_consented(write) && write.namespace == shop.cluster.namespace, "{write:?}");
    }
    for seen in ["pods", "deployments/scale"] {
        assert!(writes.iter().any(|write| write.resource == seen), "no write to {seen} is seen: {writes:?}");
    }
    shop.let_go("letters").await;
    shop.deployments().delete("letters", &DeleteParams::default()).await.unwrap();
    assert_eq!(shop.all_deployments().await, before);
    shop.close(engine).await;
}
