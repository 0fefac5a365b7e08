//! What a test is done with: a QWorker, whose pods the engine makes, or a Workload, whose Deployment does.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use super::Shop;

/// What makes the workers of `mail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum MadeBy {
    QWorker,
    Deployment,
}

impl Shop {
    /// Up to so many workers for the queue `mail`, none at first.
    pub(in super::super) async fn create_mail(&self, by: MadeBy, max: u32) {
        match by {
            MadeBy::QWorker => self.create("mail", max, |_| ()).await,
            MadeBy::Deployment => {
                self.write_rule();
                self.deploy("mail", 0, |_| ()).await;
                self.look_after("mail", max, |_| ()).await;
            }
        }
    }

    /// Whether nobody is asked to leave, and nobody who has left is waited for.
    pub(in super::super) async fn has_no_offers(&self, by: MadeBy) -> bool {
        let ledger = match by {
            MadeBy::QWorker => self.qworker("mail").await.status.unwrap().ledger,
            MadeBy::Deployment => self.workload("mail").await.status.unwrap().ledger,
        };
        ledger.unwrap()["offers"] == json!({})
    }

    /// Pods of `mail` that are to stay, and have claimed nothing.
    pub(in super::super) async fn unclaimed(&self) -> BTreeSet<String> {
        let pods = self.pods().await;
        // Read later: who has claimed meanwhile makes the number no larger than it was.
        let claimed = self.claimed("mail").await;
        let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        let uids = pods.iter().filter(stays).map(|pod| pod.uid().unwrap());
        uids.filter(|uid| !claimed.contains(uid)).collect()
    }

    /// What the control path of a QWorker or a Workload is known by.
    pub(super) async fn path_of(&self, name: &str) -> String {
        match self.qworkers().get_opt(name).await.unwrap() {
            Some(qworker) => qworker.metadata.uid.unwrap(),
            None => format!("{}/{name}", self.cluster.namespace),
        }
    }

    /// How often work on tasks of a queue was cut off.
    pub(in super::super) fn interrupted(&self, queue: &str) -> u64 {
        let mut connection = self.redis.connection().unwrap();
        let counters = format!("qscaler:{{{queue}}}:counters");
        let counted: Option<u64> =
            redis::cmd("HGET").arg(counters).arg("interrupted").query(&mut connection).unwrap();
        counted.unwrap_or_default()
    }
}
