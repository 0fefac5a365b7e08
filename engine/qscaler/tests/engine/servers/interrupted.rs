//! Tasks of Redis lists that are cut off.

use qscaler::ports::Counting;
use qscaler_core::workload::System;
use qscaler_protocol::name::WorkloadUid;

use crate::fixture::{RedisServer, Site};
use crate::interrupted::{Scene, carry_interruptions};
use crate::queues::system;

fn push(server: &RedisServer, queue: &str, task: &str) {
    redis::cmd("LPUSH").arg(queue).arg(task).exec(&mut server.connection().unwrap()).unwrap();
}

fn scene(server: &RedisServer) -> Scene<'_> {
    let source = format!("{{type: redis, url: \"{}\"}}", server.url);
    Scene::new(Site::new(), &source, |task| push(server, "work", task))
}

#[test]
fn every_task_that_is_cut_off_is_counted_once_with_its_cause() {
    scene(&RedisServer::start()).every_task_that_is_cut_off_is_counted_once_with_its_cause();
}

#[test]
fn a_worker_that_stands_still_is_counted_as_stalled_and_its_acknowledgement_as_late() {
    scene(&RedisServer::start())
        .a_worker_that_stands_still_is_counted_as_stalled_and_its_acknowledgement_as_late();
}

#[tokio::test]
async fn interruptions_are_written_down_and_counted_once() {
    let server = RedisServer::start();
    let system = system(System::Redis, &server.url).await;
    carry_interruptions(&system, &server.url, |task| push(&server, "q", task)).await;
    // An answer was lost: who asks again counts what it was to count.
    let uid = WorkloadUid::new("again");
    let count = async |known, last| {
        system.control.count(&uid, Counting { queue: "q", known, last, by: "a" }).await.unwrap()
    };
    assert_eq!(count(None, 3).await, 3);
    for _ in 0..2 {
        assert_eq!(count(Some(3), 5).await, 3);
    }
}
