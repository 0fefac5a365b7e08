//! What a worker does about tasks that may have come to its list without its knowing.

use std::sync::Arc;
use std::time::Duration;

use qscaler_protocol::name::{WorkerId, WorkloadUid};
use qscaler_protocol::redis as texts;
use qscaler_worker::{Leased, Queue, Settings, connect};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::turns::{acked, bring_scripts, fetched, named, work_off};
use crate::fixture::RedisServer;
use crate::wire::{Fault, Wire};

/// The list of what the worker holds of its queue.
const LIST: &str = "qscaler:{q}:processing:one";
const WAIT: Duration = Duration::from_millis(50);

async fn worker(wire: &Wire, queues: &[&str]) -> Arc<dyn Queue> {
    let settings = Settings::new(wire.url(), queues.iter().copied());
    connect(&settings.identity(WorkloadUid::new("w"), WorkerId::new("one"))).await.unwrap()
}

/// What the server says when nothing is in its way.
fn ask<T: redis::FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    redis::cmd(words[0]).arg(&words[1..]).query(&mut server.connect().unwrap()).unwrap()
}

/// Lets time pass for what should not happen, and returns at once if it does.
async fn give_time(mut happens: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) && !happens() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_task_that_ends_while_the_worker_looks_does_not_run_again() {
    let server = RedisServer::start(&[]);
    bring_scripts(&server);
    let wire = Wire::to(server.port).await;
    let queue = worker(&wire, &["q"]).await;
    ask::<()>(&server, &["LPUSH", "q", "a"]);
    let first = fetched(&queue).await.unwrap();
    // An answer was lost that brought one more, and it looks until it knows all.
    ask::<()>(&server, &["LPUSH", "q", "b"]);
    lose_a_fetch(&wire, &queue).await;
    let second = fetched(&queue).await.unwrap();
    wire.set_on("LRANGE", Fault::HoldAnswers);
    let stop = CancellationToken::new();
    let ending = async {
        wire.caught().await;
        queue.ack(&first.lease).await.unwrap()
    };
    let release = async {
        give_time(|| ask::<usize>(&server, &["LLEN", LIST]) == 1).await;
        wire.set(Fault::None);
        wire.let_go().await;
    };
    // In this order: who ends the task hears of its answer first.
    let (kept, found, ()) = tokio::join!(biased; ending, queue.fetch(WAIT, &stop), release);
    assert!(kept);
    assert_eq!(found.unwrap(), None, "both were known");
    assert!(acked(&queue, &second).await);
    assert_eq!(work_off(&queue, &server).await, (0, 2));
}

/// The server moves a task, or nothing, and the worker does not hear of it.
async fn lose_a_fetch(wire: &Wire, queue: &Arc<dyn Queue>) {
    wire.set_on("BLMOVE", Fault::LoseAnswer);
    queue.fetch(WAIT, &CancellationToken::new()).await.unwrap_err();
    wire.set(Fault::None);
}

/// A worker that knows of one of two tasks in its list that look alike, and that there may be another.
async fn one_of_two_alike() -> (RedisServer, Wire, Arc<dyn Queue>, Leased) {
    let server = RedisServer::start(&[]);
    bring_scripts(&server);
    let wire = Wire::to(server.port).await;
    let queue = worker(&wire, &["q"]).await;
    ask::<()>(&server, &["LPUSH", "q", "alike", "alike"]);
    let first = fetched(&queue).await.unwrap();
    lose_a_fetch(&wire, &queue).await;
    (server, wire, queue, first)
}

/// How often somebody has looked into a list.
fn looks(server: &RedisServer) -> u64 {
    let stats: String = ask(server, &["INFO", "commandstats"]);
    let calls = stats.split_once("cmdstat_lrange:calls=").map_or("0", |(_, rest)| rest);
    calls.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_task_that_ends_while_the_worker_looks_hides_none_that_looks_like_it() {
    let (server, wire, queue, first) = one_of_two_alike().await;
    let before = looks(&server);
    wire.set_on("qscaler:{q}:counters", Fault::HoldAnswers);
    let stop = CancellationToken::new();
    let looking = async {
        wire.caught().await;
        queue.fetch(WAIT, &stop).await.unwrap()
    };
    let release = async {
        give_time(|| looks(&server) > before).await;
        wire.set(Fault::None);
        wire.let_go().await;
    };
    let (kept, found, ()) = tokio::join!(biased; queue.ack(&first.lease), looking, release);
    assert!(kept.unwrap());
    assert!(acked(&queue, &found.expect("the other one")).await);
    assert_eq!(work_off(&queue, &server).await, (0, 2));
}

#[tokio::test]
async fn an_acknowledgement_whose_answer_was_lost_ends_no_other_task_that_looks_alike() {
    let (server, wire, queue, first) = one_of_two_alike().await;
    wire.set_on("qscaler:{q}:counters", Fault::LoseAnswer);
    queue.ack(&first.lease).await.unwrap_err();
    wire.set(Fault::None);
    assert_eq!(fetched(&queue).await, None, "the other one is taken for it");
    assert_eq!(queue.ack_and_take(&first.lease).await.unwrap(), (true, None));
    assert_eq!(work_off(&queue, &server).await, (1, 2));
}

#[tokio::test]
async fn a_take_that_comes_after_the_worker_has_left_takes_nothing() {
    let server = RedisServer::start(&[]);
    bring_scripts(&server);
    let wire = Wire::to(server.port).await;
    let (queue, stop) = (worker(&wire, &["p", "q"]).await, CancellationToken::new());
    assert_eq!(fetched(&queue).await, None);
    wire.set_on(&named(texts::TAKE), Fault::BringLate);
    queue.fetch(WAIT, &stop).await.unwrap_err();
    wire.set(Fault::None);
    queue.leave().await.unwrap();
    ask::<()>(&server, &["LPUSH", "q", "task"]);
    wire.let_go().await;
    assert_eq!(ask::<usize>(&server, &["LLEN", "q"]), 1);
}

#[tokio::test]
async fn a_wait_that_begins_after_the_worker_has_left_takes_nothing() {
    let server = RedisServer::start(&[]);
    let wire = Wire::to(server.port).await;
    let queue = a_wait_is_lost(&wire).await;
    queue.leave().await.unwrap();
    assert_eq!(ask::<Vec<String>>(&server, &["ZRANGE", "qscaler:{q}:leases", "0", "-1"]), [""; 0]);
    ask::<()>(&server, &["LPUSH", "q", "task"]);
    wire.let_go().await;
    assert_eq!(ask::<usize>(&server, &["LLEN", "q"]), 1);
}

/// A worker whose wait has not reached the server and may yet.
async fn a_wait_is_lost(wire: &Wire) -> Arc<dyn Queue> {
    let (queue, stop) = (worker(wire, &["q"]).await, CancellationToken::new());
    assert_eq!(fetched(&queue).await, None);
    wire.set_on("BLMOVE", Fault::BringLate);
    queue.fetch(WAIT, &stop).await.unwrap_err();
    wire.set(Fault::None);
    queue
}

fn forbid_to_end_connections(server: &RedisServer) {
    ask::<()>(server, &["ACL", "SETUSER", "default", "-client|kill"]);
}

#[tokio::test]
async fn a_worker_that_may_not_end_its_lost_wait_looks_until_that_must_be_over() {
    let server = RedisServer::start(&[]);
    forbid_to_end_connections(&server);
    let wire = Wire::to(server.port).await;
    let queue = a_wait_is_lost(&wire).await;
    assert_eq!(fetched(&queue).await, None, "it works on, in doubt");
    ask::<()>(&server, &["LPUSH", "q", "1"]);
    wire.let_go().await;
    let late = fetched(&queue).await.expect("what the late wait has moved");
    ask::<()>(&server, &["LPUSH", "q", "2", "3"]);
    assert_eq!(queue.ack_and_take(&late.lease).await.unwrap(), (true, None), "still in doubt");
    tokio::time::pause();
    tokio::time::advance(WAIT + Duration::from_secs(6)).await;
    tokio::time::resume();
    let next = fetched(&queue).await.unwrap();
    let (kept, last) = queue.ack_and_take(&next.lease).await.unwrap();
    assert!(kept && acked(&queue, &last.expect("without doubt")).await);
    assert_eq!(work_off(&queue, &server).await, (0, 3));
}

#[tokio::test]
async fn a_worker_that_leaves_in_doubt_stays_the_holder_until_its_lease_ends() {
    let server = RedisServer::start(&[]);
    forbid_to_end_connections(&server);
    let wire = Wire::to(server.port).await;
    let queue = a_wait_is_lost(&wire).await;
    queue.leave().await.unwrap();
    ask::<()>(&server, &["LPUSH", "q", "task"]);
    wire.let_go().await;
    assert_eq!(ask::<usize>(&server, &["LLEN", LIST]), 1, "the late wait has moved it");
    assert_eq!(ask::<Vec<String>>(&server, &["ZRANGE", "qscaler:{q}:leases", "0", "-1"]), ["one"]);
}
