//! A new podSpec: workers are replaced while they work, and a bad one goes no further than it must.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use qscaler::platform::kubernetes::api::QWorker;
use serde_json::json;

use super::qworkers::workers_max;
use super::shop::{Shop, staying};

/// The label by which pods of one podSpec are told from those of another.
const HASH: &str = "quickube.com/pod-spec-hash";

/// The status condition `Updated` as `(status, reason)`.
fn updated(qworker: &QWorker) -> Option<(String, String)> {
    let conditions = &qworker.status.as_ref()?.conditions;
    let updated = conditions.iter().find(|condition| condition.type_ == "Updated")?;
    Some((updated.status.clone(), updated.reason.clone()))
}

fn hash(pod: &Pod) -> Option<&String> {
    pod.labels().get(HASH)
}

impl Shop {
    /// Changes an environment variable of the worker.
    async fn set_variable(&self, qworker: &str, name: &str, value: &str) {
        let mut spec = self.qworker(qworker).await.spec.pod_spec;
        let variables = spec["containers"][0]["env"].as_array_mut().unwrap();
        variables.retain(|variable| variable["name"] != name);
        variables.push(json!({"name": name, "value": value}));
        let patch = json!({"spec": {"podSpec": spec}});
        self.qworkers().patch(qworker, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

#[tokio::test]
async fn a_new_pod_spec_replaces_busy_workers_and_no_task_notices() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let workers = workers_max() as usize;
    shop.create("mail", workers_max(), |it| {
        it["spec"]["scaleConfig"]["minReplicas"] = json!(workers);
        it["spec"]["rollout"] = json!({"maxSurge": 2, "maxUnavailable": 1});
    })
    .await;
    shop.push("mail", 4 * workers, 2_000..6_000);
    shop.until("all work", async |shop| shop.busy() == workers).await;
    let old = hash(&shop.pods().await[0]).cloned();
    shop.set_variable("mail", "CHANGED", "yes").await;
    shop.until("all are new", async |shop| {
        // In this order no change between two readings makes a sum look worse than it ever was.
        let claimed = shop.claimed("mail").await;
        let working = shop.begun().difference(&claimed).count();
        assert!(working >= workers - 1, "{working} are there for tasks:\n{}", shop.log("engine"));
        let pods = shop.pods().await;
        let claimed = shop.claimed("mail").await;
        let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        let is_claimed = |pod: &&Pod| claimed.contains(&pod.uid().unwrap());
        let unclaimed: Vec<_> = pods.iter().filter(stays).filter(|pod| !is_claimed(pod)).collect();
        let names: Vec<_> = unclaimed.iter().map(|pod| (pod.name_any(), pod.uid(), hash(pod))).collect();
        assert!(unclaimed.len() <= workers + 2, "{names:#?} have claimed nothing:\n{}", shop.log("engine"));
        staying(&pods).len() == workers && pods.iter().all(|pod| hash(pod) != old.as_ref())
    })
    .await;
    shop.until("the status says so", async |shop| {
        updated(&shop.qworker("mail").await).is_some_and(|(holds, _)| holds == "True")
    })
    .await;
    shop.until("the tasks are done", async |shop| {
        shop.lived().values().map(|task| task.ended as usize).sum::<usize>() == 4 * workers
    })
    .await;
    shop.every_task_was_done_once(4 * workers);
    shop.close(engine).await;
}

#[tokio::test]
async fn a_pod_spec_that_does_not_work_stops_at_the_first_workers() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    shop.create("mail", 4, |it| it["spec"]["scaleConfig"]["minReplicas"] = json!(4)).await;
    shop.push("mail", 4, 500..1_000);
    shop.until("all tasks are done", async |shop| {
        shop.lived().values().map(|task| task.ended).sum::<u32>() == 4
    })
    .await;
    let old = shop.pods().await;
    shop.set_variable("mail", "DIARIST_LEASE_MS", "never").await;
    shop.until("it says that it has stopped", async |shop| {
        updated(&shop.qworker("mail").await).is_some_and(|(_, reason)| reason == "RolloutStopped")
    })
    .await;
    let still = |pods: Vec<Pod>| {
        let names = staying(&pods);
        old.iter().filter(|pod| names.contains(&pod.name_any())).count()
    };
    assert!(still(shop.pods().await) >= 3, "at most one may be missing");
    // The old ones work on, and what is mended goes on.
    shop.push("mail", 4, 100..200);
    shop.until("they work on", async |shop| shop.lived().values().map(|task| task.ended).sum::<u32>() == 8)
        .await;
    shop.set_variable("mail", "DIARIST_LEASE_MS", "9000").await;
    shop.until("all are new", async |shop| {
        let pods = shop.pods().await;
        pods.len() == 4
            && pods.iter().all(|pod| hash(pod) != hash(&old[0]))
            && updated(&shop.qworker("mail").await).is_some_and(|(holds, _)| holds == "True")
    })
    .await;
    shop.close(engine).await;
}
