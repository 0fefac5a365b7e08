//! A PodDisruptionBudget in percent counts on the number of workers that is wanted.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::shop::Shop;

impl Shop {
    async fn budget(&self) -> PodDisruptionBudgetStatus {
        let budgets: Api<PodDisruptionBudget> = self.cluster.api();
        budgets.get("mail").await.unwrap().status.unwrap_or_default()
    }

    /// A budget is computed anew when one of its pods changes, and not when the number wanted does.
    async fn stir_a_pod(&self) {
        let pods: Api<Pod> = self.cluster.api();
        if let Some(pod) = self.pods().await.first() {
            let stirred = Patch::Merge(json!({"metadata": {"annotations": {"stirred": Timestamp::now()}}}));
            // One that is gone by now has changed enough.
            let _ = pods.patch(&pod.name_any(), &PatchParams::default(), &stirred).await;
        }
    }

    async fn until_budget_expects(&self, pods: i32) {
        self.until(&format!("it expects {pods} and lets half of them go"), async |shop| {
            shop.stir_a_pod().await;
            let status = shop.budget().await;
            (status.expected_pods, status.current_healthy) == (pods, pods)
                && status.disruptions_allowed == pods / 2
        })
        .await;
        let conditions = self.budget().await.conditions.unwrap_or_default();
        let failed = conditions.iter().find(|condition| condition.reason == "SyncFailed");
        assert!(failed.is_none(), "{failed:?}");
    }
}

impl Shop {
    /// Each number was written before a pod came or went for its sake: the budget would else count on the old
    /// one until a pod changes again.
    fn the_number_comes_first(&self, numbers: &[i64]) {
        let mut asked = self.cluster.asked_by(&self.account());
        asked.sort_by_key(|request| request.at);
        let mut pods = 0;
        let mut written = 0;
        for request in &asked {
            match (request.verb.as_str(), request.resource.as_str()) {
                ("patch", "qworkers/scale") => written += 1,
                ("create", "pods") => pods += 1,
                ("delete", "pods") => pods -= 1,
                _ => continue,
            }
            // Between two numbers there are no more pods than the larger and no fewer than the smaller.
            let now = numbers[..written].last().copied().unwrap_or_default();
            let before = if written > 1 { numbers[written - 2] } else { 0 };
            assert!((now.min(before)..=now.max(before)).contains(&pods), "{pods} pods at {now}: {asked:#?}");
        }
        assert_eq!(written, numbers.len());
    }
}

fn bounds(workers: u32) -> Value {
    json!({"spec": {"scaleConfig": {"minReplicas": workers, "maxReplicas": workers}}})
}

#[tokio::test]
async fn a_budget_in_percent_finds_the_number_wanted_in_the_scale_subresource() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    shop.create("mail", 4, |it| it["spec"]["scaleConfig"]["minReplicas"] = json!(4)).await;
    let budget = json!({
        "metadata": {"name": "mail"},
        "spec": {"maxUnavailable": "50%", "selector": {"matchLabels": {"quickube.com/qworker": "mail"}}},
    });
    let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
    let budgets: Api<PodDisruptionBudget> = shop.cluster.api();
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    shop.until_budget_expects(4).await;
    shop.change("mail", bounds(6)).await;
    shop.until_budget_expects(6).await;
    shop.change("mail", bounds(2)).await;
    shop.until_budget_expects(2).await;
    shop.the_number_comes_first(&[4, 6, 2]);
    shop.close(engine).await;
}
