//! When the API server said yes to each pod of a namespace, and to each number of replicas, by its audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;

/// How long a pod may be waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Audit {
    log: BufReader<File>,
    /// The line that is being read; it may be half written.
    line: String,
    namespace: String,
    /// By the pod's name.
    pods: BTreeMap<String, Timestamp>,
    /// By the Deployment's name, each in turn.
    scales: BTreeMap<String, Vec<Timestamp>>,
}

impl Audit {
    pub(crate) fn of(cluster: &Path, namespace: &str) -> Self {
        let log = BufReader::new(File::open(cluster.join("audit.log")).unwrap());
        Self {
            log,
            line: String::new(),
            namespace: namespace.to_owned(),
            pods: BTreeMap::new(),
            scales: BTreeMap::new(),
        }
    }

    /// When the first pod of this name was accepted.
    pub(crate) async fn created(&mut self, name: &str) -> Timestamp {
        self.reached(|audit| audit.pods.get(name).copied()).await
    }

    /// When a Deployment was given its first, second, ... number of replicas.
    pub(crate) async fn scaled(&mut self, name: &str, time: usize) -> Timestamp {
        self.reached(|audit| audit.scales.get(name)?.get(time - 1).copied()).await
    }

    async fn reached(&mut self, at: impl Fn(&Self) -> Option<Timestamp>) -> Timestamp {
        let reached = async {
            loop {
                self.read_on();
                if let Some(at) = at(self) {
                    return at;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("a worker for every task")
    }

    fn read_on(&mut self) {
        while self.log.read_line(&mut self.line).unwrap() > 0 && self.line.ends_with('\n') {
            let entry: Value = serde_json::from_str(&self.line).unwrap();
            self.line.clear();
            let object = &entry["objectRef"];
            if object["namespace"] == self.namespace.as_str() {
                self.note(&entry);
            }
        }
    }

    fn note(&mut self, entry: &Value) {
        let object = &entry["objectRef"];
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let what = (text(&object["resource"]), text(&object["subresource"]), text(&entry["verb"]));
        let name = text(&object["name"]);
        let at = || text(&entry["stageTimestamp"]).parse().unwrap();
        match (what.0.as_str(), what.1.as_str(), what.2.as_str(), entry["responseStatus"]["code"].as_u64()) {
            ("pods", "", "create", Some(201)) => {
                self.pods.entry(name).or_insert_with(at);
            }
            ("deployments", "scale", "patch", Some(200)) => self.scales.entry(name).or_default().push(at()),
            _ => {}
        }
    }
}
