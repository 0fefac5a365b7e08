//! Who asked the API server for what, by its audit log.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::Value;

use super::Cluster;
use crate::fixture::until;

/// Verbs that change nothing.
const READS: [&str; 3] = ["get", "list", "watch"];

/// One request that was answered; a watch is written down when it begins, too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) verb: String,
    pub(super) group: String,
    /// With the subresource: `pods/resize`.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Of the answer.
    pub(super) code: u64,
    /// When it came.
    pub(super) at: Timestamp,
}

impl Request {
    /// None where it is for no resource, but for what the server tells of itself.
    fn read(entry: &Value) -> Option<Self> {
        let object = &entry["objectRef"];
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let resource = object["resource"].as_str()?;
        Some(Self {
            verb: text(&entry["verb"]),
            group: text(&object["apiGroup"]),
            resource: match object["subresource"].as_str() {
                Some(part) => format!("{resource}/{part}"),
                None => resource.to_owned(),
            },
            namespace: text(&object["namespace"]),
            name: text(&object["name"]),
            code: entry["responseStatus"]["code"].as_u64().unwrap_or_default(),
            at: entry["requestReceivedTimestamp"].as_str()?.parse().unwrap(),
        })
    }

    pub(super) fn is_write(&self) -> bool {
        !READS.contains(&self.verb.as_str())
    }
}

impl Cluster {
    /// What this user has asked for since the cluster was started, in the order of the answers.
    pub(super) fn asked_by(&self, user: &str) -> Vec<Request> {
        let log = fs::read_to_string(self.folder.join("audit.log")).unwrap();
        let of_user = |line: &str| {
            // The last line may be half written.
            let entry: Value = serde_json::from_str(line).ok()?;
            if entry["user"]["username"] == user { Request::read(&entry) } else { None }
        };
        log.lines().filter(|line| line.contains(user)).filter_map(of_user).collect()
    }
}

#[tokio::test]
async fn the_audit_names_who_asked_for_what() {
    let cluster = Cluster::here().await;
    cluster.api::<Pod>().list(&ListParams::default()).await.unwrap();
    until("the request is written down", || {
        let asked: BTreeSet<_> =
            cluster.asked_by("admin").into_iter().map(|it| (it.namespace, it.resource, it.verb)).collect();
        asked.contains(&(cluster.namespace.clone(), "pods".into(), "list".into())).then_some(())
    });
    cluster.end().await;
}
