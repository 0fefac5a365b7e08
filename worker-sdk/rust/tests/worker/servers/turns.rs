//! Turns, by which a task is ended and the next one taken in one step, when the wire fails. The tasks look
//! alike, so that nothing but the turn's number tells one from the other.

use std::sync::Arc;
use std::time::Duration;

use qscaler_protocol::name::{WorkerId, WorkloadUid};
use qscaler_protocol::redis as texts;
use qscaler_worker::{Leased, Queue, Settings, connect};
use tokio_util::sync::CancellationToken;

use crate::fixture::RedisServer;
use crate::wire::{Fault, Wire};

pub(super) const TASKS: usize = 4;

async fn worker(wire: &Wire) -> Arc<dyn Queue> {
    connect(&Settings::new(wire.url(), ["q"])).await.unwrap()
}

pub(super) async fn fetched(queue: &Arc<dyn Queue>) -> Option<Leased> {
    let stop = CancellationToken::new();
    loop {
        match queue.fetch(Duration::from_millis(50), &stop).await {
            Ok(fetched) => return fetched,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

pub(super) async fn acked(queue: &Arc<dyn Queue>, leased: &Leased) -> bool {
    loop {
        if let Ok(kept) = queue.ack(&leased.lease).await {
            return kept;
        }
    }
}

/// Works off what is left, and says how many tasks there were and how many the server knows as done.
pub(super) async fn work_off(queue: &Arc<dyn Queue>, server: &RedisServer) -> (usize, usize) {
    let mut tasks = 0;
    while let Some(leased) = fetched(queue).await {
        assert!(acked(queue, &leased).await);
        tasks += 1;
    }
    let mut asking = redis::cmd("HGET");
    let asking = asking.arg(&["qscaler:{q}:counters", "departed"]);
    (tasks, asking.query(&mut server.connect().unwrap()).unwrap())
}

/// Brings the scripts to the server, so that each is one question.
pub(super) fn bring_scripts(server: &RedisServer) {
    let mut connection = server.connect().unwrap();
    for text in [texts::FENCE, texts::TAKE, texts::TURN] {
        redis::Script::new(text).prepare_invoke().load(&mut connection).unwrap();
    }
}

/// What questions have in them that run a script.
pub(super) fn named(text: &str) -> String {
    redis::Script::new(text).get_hash().to_owned()
}

/// A worker that holds its second task: a first turn has brought the script to the server.
async fn a_second_task(server: &RedisServer, wire: &Wire) -> (Arc<dyn Queue>, Leased) {
    let queue = worker(wire).await;
    redis::cmd("LPUSH").arg("q").arg(&["alike"; TASKS]).exec(&mut server.connect().unwrap()).unwrap();
    let first = fetched(&queue).await.unwrap();
    let (kept, second) = queue.ack_and_take(&first.lease).await.unwrap();
    assert!(kept);
    (queue, second.unwrap())
}

#[tokio::test]
async fn a_turn_whose_answer_was_lost_ends_its_task_once_and_loses_none() {
    let server = RedisServer::start(&[]);
    let wire = Wire::to(server.port).await;
    let (queue, second) = a_second_task(&server, &wire).await;
    wire.set(Fault::LoseAnswer);
    queue.ack_and_take(&second.lease).await.unwrap_err();
    wire.set(Fault::None);
    assert!(acked(&queue, &second).await, "the turn was done, and only its answer was lost");
    assert_eq!(work_off(&queue, &server).await, (TASKS - 2, TASKS));
}

#[tokio::test]
async fn a_turn_that_arrives_late_does_nothing() {
    let server = RedisServer::start(&[]);
    let wire = Wire::to(server.port).await;
    let (queue, second) = a_second_task(&server, &wire).await;
    wire.set(Fault::BringLate);
    queue.ack_and_take(&second.lease).await.unwrap_err();
    wire.set(Fault::None);
    assert!(acked(&queue, &second).await);
    let third = fetched(&queue).await.unwrap();
    wire.let_go().await;
    assert!(acked(&queue, &third).await, "the late turn took nothing away");
    assert_eq!(work_off(&queue, &server).await, (TASKS - 3, TASKS));
}

#[tokio::test]
async fn whether_a_turn_was_done_is_asked_again_and_answered_as_before() {
    for (fault, brought) in [(Fault::LoseAnswer, 1), (Fault::BringLate, 0)] {
        let server = RedisServer::start(&[]);
        bring_scripts(&server);
        let wire = Wire::to(server.port).await;
        let (queue, second) = a_second_task(&server, &wire).await;
        wire.set(fault);
        queue.ack_and_take(&second.lease).await.unwrap_err();
        wire.set_on(&named(texts::FENCE), Fault::LoseAnswer);
        queue.ack(&second.lease).await.unwrap_err();
        wire.set(Fault::None);
        assert!(acked(&queue, &second).await);
        if fault == Fault::BringLate {
            wire.let_go().await;
        }
        // What a turn has brought is still in the worker's list.
        let mut asking = redis::cmd("KEYS");
        let asking = asking.arg("qscaler:{q}:processing:*");
        let lists: Vec<String> = asking.query(&mut server.connect().unwrap()).unwrap();
        assert_eq!(lists.len(), brought);
        assert_eq!(work_off(&queue, &server).await, (TASKS - 2, TASKS));
    }
}

#[tokio::test]
async fn a_turn_brings_the_next_task_from_the_first_queue_that_has_one() {
    let server = RedisServer::start(&[]);
    let queue = connect(&Settings::new(server.url(), ["high", "low"])).await.unwrap();
    let mut connection = server.connect().unwrap();
    for (name, task) in [("low", "1"), ("low", "3"), ("high", "2")] {
        redis::cmd("LPUSH").arg(name).arg(task).exec(&mut connection).unwrap();
    }
    let mut leased = fetched(&queue).await;
    let mut order = vec![];
    while let Some(task) = leased {
        order.push((task.task.queue.clone(), String::from_utf8(task.task.payload).unwrap()));
        let (kept, next) = queue.ack_and_take(&task.lease).await.unwrap();
        assert!(kept);
        leased = next;
    }
    let expected = [("high", "2"), ("low", "1"), ("low", "3")];
    assert_eq!(order, expected.map(|(queue, task)| (queue.to_owned(), task.to_owned())));
}

#[tokio::test]
async fn a_worker_that_starts_again_under_its_name_goes_on() {
    let server = RedisServer::start(&[]);
    let settings =
        Settings::new(server.url(), ["p", "q"]).identity(WorkloadUid::new("w"), WorkerId::new("one"));
    let tasks = ["1", "2", "3", "4", "5", "6"];
    redis::cmd("LPUSH").arg("q").arg(&tasks).exec(&mut server.connect().unwrap()).unwrap();
    let mut got = vec![];
    for _ in 0..2 {
        // The first one is never told to leave, and holds a task.
        let queue = connect(&settings).await.unwrap();
        let mut leased = fetched(&queue).await.unwrap();
        for _ in 0..2 {
            got.push(String::from_utf8(leased.task.payload).unwrap());
            let (kept, next) = queue.ack_and_take(&leased.lease).await.unwrap();
            assert!(kept);
            leased = match next {
                Some(next) => next,
                None => fetched(&queue).await.unwrap(),
            };
        }
    }
    // What the first one held comes later.
    assert_eq!(got, ["1", "2", "4", "5"]);
}
