//! Two engines: both are ready, one leads, and that one tells why there are so many workers.

use std::process::{Command, Stdio};

use super::shop::Shop;
use crate::fixture::{PROGRAM, get, served_at};

/// Both outputs and the exit code of `qscaler explain`.
fn explain(arguments: &[&str]) -> (String, i32) {
    let output = Command::new(PROGRAM).arg("explain").args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code().unwrap())
}

#[tokio::test]
async fn the_engine_that_leads_explains_and_the_other_one_is_ready_to() {
    let shop = Shop::open().await;
    let readiness = |shop: &Shop, engine: &str| get(&served_at(&shop.log(engine))?, "/readyz");
    let engine = shop.engine("engine");
    shop.until("it leads", async |shop| readiness(shop, "engine") == Some((200, "leads\n".into()))).await;
    let mut second = shop.engine("second");
    shop.until("the other one stands by", async |shop| {
        readiness(shop, "second") == Some((200, "stands by\n".into()))
    })
    .await;
    shop.create("mail", 2, |it| it["spec"]["scaleConfig"]["minReplicas"] = 1.into()).await;
    let url = format!("http://{}", served_at(&shop.log("engine")).unwrap());
    let namespace = shop.cluster.namespace.clone();
    let ask = || explain(&["-n", &namespace, "mail", "--engine", &url, "--replay"]);
    shop.until("it has decided", async |_| ask().1 == 0).await;
    let (said, _) = ask();
    assert!(said.starts_with(&format!("{namespace}/mail at ")), "{said}");
    assert!(said.contains("replay: the same decision, bit by bit"), "{said}");

    let standby = format!("http://{}", served_at(&shop.log("second")).unwrap());
    let (said, exit) = explain(&["-n", &namespace, "mail", "--engine", &standby]);
    assert!(exit == 3 && said.contains("this engine stands by: ask the one that leads"), "{said}");
    // It is asked through the API server as far as that goes: these engines are no pods.
    let (said, exit) = explain(&["-n", &namespace, "mail", "--engine-namespace", &namespace]);
    assert!(exit == 3 && said.contains(&format!("is no pod of the namespace {namespace}")), "{said}");

    second.signal("TERM");
    assert_eq!(second.wait(), 0, "{}", shop.log("second"));
    shop.close(engine).await;
}
