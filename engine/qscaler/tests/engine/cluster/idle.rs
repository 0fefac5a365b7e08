//! QWorkers at rest: nothing is written, and little is read.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::audit::Request;
use super::shop::{Shop, ready};
use crate::fixture::is_full;

/// How long it is watched: with full counts long enough for a checkpoint.
fn window() -> Duration {
    Duration::from_secs(if is_full() { 620 } else { 45 })
}

/// A checkpoint is written this often.
const CHECKPOINT_EVERY: f64 = 600.0;
/// A watch is begun again after this time at the latest.
const WATCH_MAX: f64 = 290.0;
/// Everything is read as it is this often, whatever the watches tell.
const LIVE_EVERY: Duration = Duration::from_secs(30);

/// How often each was asked: verb and resource.
type Asked = BTreeMap<(String, String), usize>;

fn asked_since(shop: &Shop, begin: Timestamp) -> Vec<Request> {
    let asked = shop.cluster.asked_by(&shop.account()).into_iter();
    // The sign of life is given whatever there is to do.
    asked.filter(|request| request.at >= begin && request.resource != "leases").collect()
}

#[tokio::test]
async fn nothing_is_written_and_little_is_read_while_nothing_happens() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let at_zero = 3;
    let names: Vec<_> = (1..=at_zero).map(|number| format!("none-{number}")).chain(["two".into()]).collect();
    for name in &names {
        let min = if name == "two" { 2 } else { 0 };
        shop.create(name, 2, |it| it["spec"]["scaleConfig"]["minReplicas"] = json!(min)).await;
        shop.push(name, 2, 100..200);
    }
    shop.until("the tasks are done", async |shop| shop.ended() == 2 * names.len()).await;
    shop.until("those that are not wanted are gone", async |shop| shop.pods().await.len() == 2).await;
    for name in &names {
        let wanted = if name == "two" { 2 } else { 0 };
        shop.until("the status says so", async |shop| {
            let qworker = shop.qworker(name).await;
            let is_ready = ready(&qworker).is_some_and(|(holds, ..)| holds == "True");
            let status = qworker.status.unwrap_or_default();
            let numbers = (status.current_replicas, status.desired_replicas, status.queue_length);
            is_ready && numbers == (wanted, wanted, Some(0))
        })
        .await;
    }
    // What changes all the time is written every ten seconds at most: the last of it may be due.
    shop.until("nothing was written for some time", async |shop| {
        let begin = Timestamp::now() - Duration::from_secs(20);
        !asked_since(shop, begin).iter().any(Request::is_write)
    })
    .await;

    let begin = Timestamp::now();
    tokio::time::sleep(window()).await;
    let mut asked = Asked::new();
    let requests = asked_since(&shop, begin);
    for request in &requests {
        *asked.entry((request.verb.clone(), request.resource.clone())).or_default() += 1;
    }
    let took = Timestamp::now().duration_since(begin).as_secs_f64();
    for ((verb, resource), count) in &asked {
        let by = *count as f64 * 60.0 / took / names.len() as f64;
        println!("{verb} {resource}: {count}, {by:.1} per QWorker and minute");
    }
    let writes: Vec<_> = requests.iter().filter(|request| request.is_write()).collect();
    assert!(writes.len() <= names.len() * (took / CHECKPOINT_EVERY) as usize, "{writes:?}");
    let due = 1 + (took / LIVE_EVERY.as_secs_f64()) as usize;
    for ((verb, resource), count) in &asked {
        // A watch is written down when it begins and when it ends.
        let most = if verb == "watch" { 2 + 2 * (took / WATCH_MAX) as usize } else { due * names.len() };
        assert!(*count <= most, "{verb} {resource}: {count} of {most}");
    }
    let read = |verb: &str, resource: &str| asked.contains_key(&(verb.to_owned(), resource.to_owned()));
    assert!(read("get", "qworkers") && read("list", "pods"), "what is asked is seen: {asked:?}");
    shop.close(engine).await;
}
