//! Turns, by which a task is ended and the next one taken in one step, when the wire fails. The tasks look
//! alike, so that nothing but the turn's number tells one from the other.

use std::sync::Arc;
use std::time::Duration;

use qscaler_protocol::name::{WorkerId, WorkloadUid};
use qscaler_worker::{Leased, Queue, Settings, connect};
use tokio_util::sync::CancellationToken;

use crate::fixture::RedisServer;
use crate::wire::{Fault, Wire};

const TASKS: usize = 4;

async fn worker(wire: &Wire) -> Arc<dyn Queue> {
    connect(&Settings::new(wire.url(), ["q"])).await.unwrap()
}

async fn fetched(queue: &Arc<dyn Queue>) -> Option<Leased> {
    let stop = CancellationToken::new();
    loop {
        match queue.fetch(Duration::from_millis(50), &stop).await {
            Ok(fetched) => return fetched,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn acked(queue: &Arc<dyn Queue>, leased: &Leased) -> bool {
    loop {
        if let Ok(kept) = queue.ack(&leased.lease).await {
            return kept;
        }
    }
}

/// Works off what is left, and says how many tasks there were and how many the server knows as done.
async fn work_off(queue: &Arc<dyn Queue>, server: &RedisServer) -> (usize, usize) {
    let mut tasks = 0;
    while let Some(leased) = fetched(queue).await {
        assert!(acked(queue, &leased).await);
        tasks += 1;
    }
    let mut asking = redis::cmd("HGET");
    let asking = asking.arg(&["qscaler:{q}:counters", "departed"]);
    (tasks, asking.query(&mut server.connect().unwrap()).unwrap())
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
    let tasks = ["1", "2", "3", "4", "5"];
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
    assert_eq!(got, &tasks[..4]);
}
