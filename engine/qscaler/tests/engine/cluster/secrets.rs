//! Passwords in Secrets: read by name in the QWorker's own namespace, and again when they have changed.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::shop::{Shop, ready};

#[tokio::test]
async fn a_password_is_read_again_when_it_has_changed() {
    let shop = Shop::open().await;
    let mut connection = shop.redis.connection().unwrap();
    let mut tell = |line: &str| {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec(&mut connection).unwrap();
    };
    tell("ACL SETUSER worker on >first ~* &* +@all");
    shop.create_config_with("guarded", |config| {
        config["username"] = json!("worker");
        config["password"] = json!({"secret": {"name": "redis", "key": "password"}});
    })
    .await;
    let engine = shop.engine("engine");
    shop.create("mail", 2, |it| it["spec"]["scaleConfig"]["scalerConfigRef"] = json!("guarded")).await;
    shop.until("it says which Secret is missing", async |shop| {
        ready(&shop.qworker("mail").await).is_some_and(|(holds, _, message)| {
            holds == "False" && message.contains("secrets \"redis\" not found")
        })
    })
    .await;
    let secrets: Api<Secret> = shop.cluster.api();
    let secret = json!({"metadata": {"name": "redis"}, "stringData": {"password": "first"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    shop.push("mail", 4, 100..200);
    shop.until("the tasks are done", async |shop| shop.ended() == 4).await;
    shop.until("the workers are gone", async |shop| shop.pods().await.is_empty()).await;

    tell("ACL SETUSER worker resetpass >second");
    tell("CLIENT KILL USER worker");
    let changed = json!({"stringData": {"password": "second"}});
    secrets.patch("redis", &PatchParams::default(), &Patch::Merge(changed)).await.unwrap();
    shop.push("mail", 4, 100..200);
    shop.until("the tasks are done with the new one", async |shop| shop.ended() == 8).await;
    shop.every_task_was_done_once(8);
    // Nobody has written the password down.
    let log = shop.log("engine");
    assert!(!log.contains("first") && !log.contains("second"), "{log}");
    shop.close(engine).await;
}
