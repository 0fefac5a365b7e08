//! A rollout of a Deployment kills its pods after their grace period: whose tasks take longer is told.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::shop::{Shop, condition};

impl Shop {
    async fn until_grace_is(&self, what: &str, holds: &str, told: &str) {
        self.until(what, async |shop| {
            let found = condition(&shop.workload("mail").await, "GraceTooShort");
            found.is_some_and(|(it, _, message)| it == holds && message.contains(told))
        })
        .await;
    }
}

#[tokio::test]
async fn tasks_that_take_longer_than_the_grace_period_are_told_with_what_to_type() {
    let shop = Shop::open().await;
    let engine = shop.engine_with_rule();
    shop.deploy("mail", 0, |it| {
        it["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    })
    .await;
    shop.look_after("mail", 6, |_| ()).await;
    shop.until_grace_is("of no task anything is known", "False", "end within the grace period").await;
    shop.push("mail", 24, 3_000..4_000);
    shop.until_grace_is("it says what to type", "True", "write `terminationGracePeriodSeconds: 30`").await;
    let longer = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 30}}}});
    shop.until("the tasks are done", async |shop| shop.ended() == 24).await;
    shop.deployments().patch("mail", &PatchParams::default(), &Patch::Merge(longer)).await.unwrap();
    shop.until_grace_is("it is long enough", "False", "end within the grace period").await;
    shop.close_workloads(engine).await;
}
