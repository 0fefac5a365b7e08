//! Tests that need a server of the distribution's packages; `cargo ci` brings it.

mod interrupted;

use qscaler::ports::Connect;
use qscaler::queue::ByUrl;
use qscaler_core::workload::{Source, System};
use qscaler_protocol::name::WorkloadUid;

use crate::control::{agree_with_the_reference, bar_the_unborn, carry_reports};
use crate::demo::every_demo_is_good;
use crate::fixture::{RedisServer, counts, seed};
use crate::queues::{carry_tasks, system, worker, workers};

#[tokio::test]
async fn redis_keeps_offers_as_the_reference_keeps_them() {
    let server = RedisServer::start();
    let system = system(System::Redis, &server.url).await;
    for seed in seed()..seed() + counts(20) {
        agree_with_the_reference(&system, &workers(&server.url, &format!("uid-{seed}")).await, seed).await;
    }
    carry_reports(&system, &workers(&server.url, "reports").await, &WorkloadUid::new("reports")).await;
    bar_the_unborn(&system, &workers(&server.url, "barred").await, &WorkloadUid::new("barred")).await;
}

#[tokio::test]
async fn tasks_go_their_ways_through_redis_lists() {
    let server = RedisServer::start();
    let system = system(System::Redis, &server.url).await;
    let mut connection = server.connection().unwrap();
    let push = async |queue: &str, payload: &str| {
        redis::cmd("LPUSH").arg(queue).arg(payload).exec(&mut connection).unwrap();
    };
    carry_tasks(&system, &server.url, push).await;
    let mut connection = server.connection().unwrap();
    let dead: Vec<String> =
        redis::cmd("LRANGE").arg("qscaler:{high}:dead").arg(0).arg(-1).query(&mut connection).unwrap();
    assert_eq!(dead, ["second"]);
    let errors: Vec<String> =
        redis::cmd("LRANGE").arg("qscaler:{high}:errors").arg(0).arg(-1).query(&mut connection).unwrap();
    assert!(errors[0].contains("it is poison"), "{errors:?}");
}

#[tokio::test]
async fn a_server_that_was_started_again_has_no_epoch_until_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--appendonly", "yes", "--appendfsync", "always", "--dir", folder.path().to_str().unwrap()];
    let first = RedisServer::start_with(&data);
    let uid = WorkloadUid::new("uid");
    let epoch = qscaler_protocol::name::Epoch::new("first");
    let none = std::collections::BTreeMap::new();
    let adopt = qscaler::ports::Adopt {
        seen: None,
        epoch: &epoch,
        floor: qscaler_protocol::name::OfferId(4),
        claims: &none,
    };
    let control = system(System::Redis, &first.url).await.control;
    assert!(control.adopt(&uid, adopt).await.unwrap());
    assert_eq!(control.read(&uid).await.unwrap().0.epoch, Some(epoch.clone()));
    drop(first);
    let second = RedisServer::start_with(&data);
    let control = system(System::Redis, &second.url).await.control;
    assert_eq!(control.read(&uid).await.unwrap().0.epoch, None, "its last writes may be lost");
    let claimed = worker(&second.url, &["q"], "uid", "w").await.claim(&epoch).await.unwrap();
    assert_eq!(claimed, None);
}

#[tokio::test]
async fn a_server_that_may_drop_keys_is_refused_with_what_to_type() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let source = Source { of: System::Redis, url: server.url.clone(), username: None, password: None };
    let Err(error) = ByUrl.connect(&source).await else { panic!("it was accepted") };
    assert!(error.to_string().contains("set maxmemory-policy noeviction"), "{error}");
}

#[tokio::test]
async fn a_worker_that_fetches_takes_up_a_task_whose_answer_was_lost() {
    let server = RedisServer::start();
    let mut connection = server.connection().unwrap();
    let queue = worker(&server.url, &["q"], "w", "one").await;
    let stop = tokio_util::sync::CancellationToken::new();
    let soon = std::time::Duration::from_millis(100);
    assert_eq!(queue.fetch(soon, &stop).await.unwrap(), None);
    // As if the server had moved the task and the connection had broken before it could say so.
    redis::cmd("LPUSH").arg("q").arg("task").exec(&mut connection).unwrap();
    redis::cmd("LMOVE")
        .arg(&["q", "qscaler:{q}:processing:one", "RIGHT", "LEFT"])
        .exec(&mut connection)
        .unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut connection).unwrap();
    let taken = loop {
        if let Ok(Some(leased)) = queue.fetch(soon, &stop).await {
            break leased;
        }
    };
    assert_eq!(taken.task.payload, b"task");
    assert!(queue.ack(&taken.lease).await.unwrap());
}

#[test]
fn the_demo_is_as_good_on_redis() {
    let server = RedisServer::start();
    println!("{}", every_demo_is_good(&["--queue", &server.url]));
    let mut connection = server.connection().unwrap();
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    for key in left {
        let milliseconds: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        assert!(milliseconds > 0, "it leaves nothing on the server that does not go by itself: {key}");
    }
}
