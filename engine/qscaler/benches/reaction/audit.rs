//! When the API server said yes to each pod of a namespace, by its audit log.

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
}

impl Audit {
    pub(crate) fn of(cluster: &Path, namespace: &str) -> Self {
        let log = BufReader::new(File::open(cluster.join("audit.log")).unwrap());
        Self { log, line: String::new(), namespace: namespace.to_owned(), pods: BTreeMap::new() }
    }

    /// When the first pod of this name was accepted.
    pub(crate) async fn created(&mut self, name: &str) -> Timestamp {
        let reached = async {
            loop {
                self.read_on();
                if let Some(at) = self.pods.get(name) {
                    return *at;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("a pod for every task")
    }

    fn read_on(&mut self) {
        while self.log.read_line(&mut self.line).unwrap() > 0 && self.line.ends_with('\n') {
            let entry: Value = serde_json::from_str(&self.line).unwrap();
            self.line.clear();
            let object = &entry["objectRef"];
            let is_pod = object["namespace"] == self.namespace.as_str()
                && object["resource"] == "pods"
                && object.get("subresource").is_none();
            if is_pod && entry["verb"] == "create" && entry["responseStatus"]["code"] == 201 {
                let name = object["name"].as_str().unwrap().to_owned();
                let at = entry["stageTimestamp"].as_str().unwrap().parse().unwrap();
                self.pods.entry(name).or_insert(at);
            }
        }
    }
}
