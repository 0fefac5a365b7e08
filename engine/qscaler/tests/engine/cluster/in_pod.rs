//! The engine in a pod of its own, from the plain manifest and with its rights.

use std::collections::BTreeSet;
use std::net::TcpListener;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PatchParams};
use serde_json::{Value, json};

use super::Cluster;
use super::deploy::account;
use super::shop::Shop;

/// What a right is: group, resource, verb.
type Right = (String, String, String);

/// Rights whose use needs what does not come in every run.
const RARE: [(&str, &str, &str); 1] = [("events.k8s.io", "events", "patch")];

fn right((group, resource, verb): (&str, &str, &str)) -> Right {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// The manifest for a node of one machine: its image is there, its port is free, and it looks after the
/// test's own namespace.
fn adapted(mut documents: Vec<Value>, namespace: &str) -> Vec<Value> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for deployment in documents.iter_mut().filter(|document| document["kind"] == "Deployment") {
        deployment["spec"]["replicas"] = json!(1);
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["hostNetwork"] = json!(true);
        let engine = &mut pod["containers"][0];
        engine["image"] = json!("localhost/qscaler:test");
        engine["imagePullPolicy"] = json!("Never");
        engine["ports"][0]["containerPort"] = json!(port);
        engine["ports"][0]["hostPort"] = json!(port);
        engine["resources"]["requests"]["cpu"] = json!("10m");
        for probe in ["livenessProbe", "readinessProbe"] {
            engine[probe]["httpGet"]["host"] = json!("127.0.0.1");
        }
        let arguments = engine["args"].as_array_mut().unwrap();
        arguments.retain(|argument| !argument.as_str().unwrap().starts_with("--listen"));
        arguments.push(json!(format!("--listen=127.0.0.1:{port}")));
        arguments.push(json!(format!("--namespace={namespace}")));
    }
    // What is the same for all tests is installed already.
    documents.retain(|document| {
        !["CustomResourceDefinition", "Namespace"].contains(&document["kind"].as_str().unwrap())
    });
    documents
}

fn granted(documents: &[Value]) -> BTreeSet<Right> {
    let roles = documents.iter().filter(|document| document["kind"].as_str().unwrap().ends_with("Role"));
    let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
    let of =
        |rule: &Value, what: &str| -> Vec<String> { serde_json::from_value(rule[what].clone()).unwrap() };
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in of(rule, "apiGroups") {
            for resource in of(rule, "resources") {
                rights.extend(
                    of(rule, "verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)),
                );
            }
        }
    }
    rights
}

/// What this account has asked for, and was not refused.
fn used(cluster: &Cluster, account: &str) -> BTreeSet<Right> {
    let asked = cluster.asked_by(account).into_iter();
    asked
        .map(|request| {
            assert_ne!(request.code, 403, "{request:?}");
            (request.group, request.resource, request.verb)
        })
        .collect()
}

/// Of both, a worker is made, and goes again.
async fn scale_a_deployment_and_a_stateful_set(shop: &Shop) {
    shop.deploy("letters", 0, |_| ()).await;
    shop.set("parcels", 0).await;
    for name in ["letters", "parcels"] {
        shop.push(name, 1, 500..1_000);
    }
    shop.look_after("letters", 1, |_| ()).await;
    shop.look_after("parcels", 1, |it| it["spec"]["target"]["kind"] = json!("StatefulSet")).await;
    for name in ["letters", "parcels"] {
        let what = format!("{name} has worked and shrunk");
        shop.until(&what, async |shop| {
            let status = shop.workload(name).await.status.unwrap_or_default();
            let ledger = status.ledger.unwrap_or_default();
            ledger["scaled"]["to"] == json!(0) && ledger["offers"] == json!({})
        })
        .await;
        shop.let_go(name).await;
    }
    shop.every_task_was_done_once(8);
}

/// A worker gets another size in place once its use is known: the shipped rule asks for 32 Mi at least.
async fn size_a_worker(shop: &Shop) {
    shop.create("sizes", 1, |it| {
        it["spec"]["scaleConfig"]["activateVPA"] = json!(true);
        it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
    })
    .await;
    shop.until("its worker has another size", async |shop| {
        let pods = shop.pods().await;
        let sized = pods.iter().filter(|pod| pod.name_any().starts_with("sizes-"));
        let request = |pod: &Pod| {
            let pod = json!(pod);
            let text = pod["spec"]["containers"][0]["resources"]["requests"]["memory"].as_str()?;
            qscaler_cel::unit::bytes(text)
        };
        sized.filter_map(request).any(|bytes| bytes >= f64::from(32 << 20))
    })
    .await;
    shop.qworkers().delete("sizes", &DeleteParams::default()).await.unwrap();
    shop.until("its QWorker is gone", async |shop| shop.qworkers().get_opt("sizes").await.unwrap().is_none())
        .await;
}

#[tokio::test]
async fn it_does_its_work_from_the_manifest_with_no_right_too_many_or_too_few() {
    let shop = Shop::open().await;
    let documents = adapted(shop.cluster.documents(), &shop.cluster.namespace);
    for document in &documents {
        shop.cluster.apply_document(document, PatchParams::apply("qscaler-tests").force()).await;
    }
    shop.create("mail", 2, |_| ()).await;
    shop.push("mail", 6, 500..1_000);
    shop.until("the tasks are done", async |shop| shop.ended() == 6).await;
    let workers = async |shop: &Shop| {
        let pods = shop.pods().await;
        pods.iter().filter(|pod| pod.metadata.name.as_ref().unwrap().starts_with("mail-")).count()
    };
    shop.until("its workers are gone", async |shop| workers(shop).await == 0).await;
    scale_a_deployment_and_a_stateful_set(&shop).await;
    size_a_worker(&shop).await;
    // Another engine takes over in an orderly way, and what was measured with it.
    let engines: Api<Pod> = shop.cluster.api();
    for pod in shop.pods().await.iter().filter(|pod| pod.name_any().starts_with("qscaler-")) {
        engines.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    // One with a worker, which is deleted.
    shop.push("mail", 1, 3_000..4_000);
    shop.until("a task is worked on", async |shop| shop.busy() == 1).await;
    shop.qworkers().delete("mail", &DeleteParams::default()).await.unwrap();
    shop.until("the QWorker is gone", async |shop| shop.qworkers().get_opt("mail").await.unwrap().is_none())
        .await;
    shop.every_task_was_done_once(9);
    let account = account(&shop.cluster, "qscaler");
    let granted = granted(&documents);
    let wanted: BTreeSet<_> = granted.iter().filter(|it| !RARE.map(right).contains(it)).cloned().collect();
    let seen = used(&shop.cluster, &account);
    let unused: Vec<_> = wanted.difference(&seen).collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
    let more: Vec<_> = seen.difference(&granted).collect();
    assert!(more.is_empty(), "used and not granted: {more:?}");
    for document in
        documents.iter().filter(|document| document["kind"].as_str().unwrap().starts_with("Cluster"))
    {
        let name = document["metadata"]["name"].as_str().unwrap();
        shop.cluster.api_of(document).delete(name, &DeleteParams::default()).await.unwrap();
    }
    shop.cluster.end().await;
}
