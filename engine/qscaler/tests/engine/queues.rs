//! SQLite: tasks, counts, offers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qscaler::ports::{Connect, QueueSystem};
use qscaler::queue::ByUrl;
use qscaler_core::workload::{Source, System};
use qscaler_protocol::name::WorkloadUid;
use qscaler_worker::{Queue, Settings, connect};
use tokio_util::sync::CancellationToken;

use crate::control::{Workers, agree_with_the_reference, carry_reports, worker_ids};
use crate::fixture::{counts, seed};

pub(crate) async fn system(of: System, url: &str) -> QueueSystem {
    let source = Source { of, url: url.to_owned(), username: None, password: None };
    ByUrl.connect(&source).await.unwrap()
}

/// A worker's connection to each of these queues.
pub(crate) async fn worker(url: &str, queues: &[&str], workload: &str, name: &str) -> Arc<dyn Queue> {
    let settings = Settings::new(url, queues.iter().copied())
        .identity(WorkloadUid::new(workload), qscaler_protocol::name::WorkerId::new(name))
        .lease(Duration::from_millis(1500));
    connect(&settings).await.unwrap()
}

pub(crate) async fn workers(url: &str, workload: &str) -> Workers {
    let mut workers = BTreeMap::new();
    for id in worker_ids() {
        workers.insert(id.clone(), worker(url, &["q"], workload, id.as_str()).await);
    }
    workers
}

#[tokio::test]
async fn offers_are_kept_as_the_reference_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("queue.db").display());
    let system = system(System::Sqlite, &url).await;
    for seed in seed()..seed() + counts(20) {
        agree_with_the_reference(&system, &workers(&url, &format!("uid-{seed}")).await, seed).await;
    }
    carry_reports(&system, &workers(&url, "reports").await, &WorkloadUid::new("reports")).await;
}

/// One task's ways through a queue, the same on every system.
pub(crate) async fn carry_tasks(system: &QueueSystem, url: &str, mut push: impl AsyncFnMut(&str, &str)) {
    let stop = CancellationToken::new();
    let soon = Duration::from_millis(200);
    let (one, other) =
        (worker(url, &["high", "low"], "w", "one").await, worker(url, &["high", "low"], "w", "other").await);
    let names = ["high".to_owned(), "low".to_owned()];
    let measure = async || {
        let measures = system.source.measure(&names).await.unwrap();
        let high = measures["high"];
        (high.length, high.inflight, high.delayed, high.arrived, high.departed)
    };
    assert_eq!(measure().await, (0, 0, 0, 0, 0));
    assert_eq!(one.fetch(soon, &stop).await.unwrap(), None);
    push("low", "later").await;
    push("high", "first").await;
    push("high", "second").await;
    assert_eq!(measure().await, (2, 0, 0, 2, 0));

    let first = one.fetch(soon, &stop).await.unwrap().unwrap();
    assert_eq!(
        (first.task.queue.as_str(), first.task.payload.as_slice(), first.task.attempt),
        ("high", &b"first"[..], 1)
    );
    assert_eq!(measure().await, (1, 1, 0, 2, 0));
    assert!(one.ack(&first.lease).await.unwrap());
    assert!(!one.ack(&first.lease).await.unwrap(), "a second ack finds nothing");
    assert_eq!(measure().await, (1, 0, 0, 2, 1));

    // Given back without blame, then with: the attempt counts once.
    for (counts, attempt) in [(false, 1), (true, 1)] {
        let second = other.fetch(soon, &stop).await.unwrap().unwrap();
        assert_eq!((second.task.payload.as_slice(), second.task.attempt), (&b"second"[..], attempt));
        assert!(other.give_back(&second.lease, Duration::ZERO, counts).await.unwrap());
    }
    let second = other.fetch(soon, &stop).await.unwrap().unwrap();
    assert_eq!(second.task.attempt, 2);
    assert!(other.give_back(&second.lease, Duration::from_millis(600), true).await.unwrap());
    assert_eq!(measure().await.2, 1, "it waits for its moment");
    let low = one.fetch(soon, &stop).await.unwrap().unwrap();
    assert_eq!(low.task.queue, "low");
    assert!(one.ack(&low.lease).await.unwrap());

    // After its moment it comes again; its holder then gives no sign of life, and another gets it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    other.reap().await.unwrap();
    let lost = one.fetch(soon, &stop).await.unwrap().unwrap();
    assert_eq!((lost.task.payload.as_slice(), lost.task.attempt), (&b"second"[..], 3));
    tokio::time::sleep(Duration::from_millis(1800)).await;
    assert_eq!(other.reap().await.unwrap(), 1);
    let found = other.fetch(soon, &stop).await.unwrap().unwrap();
    assert_eq!((found.task.payload.as_slice(), found.task.attempt), (&b"second"[..], 4));
    assert!(!one.ack(&lost.lease).await.unwrap(), "who lost the lease cannot acknowledge");
    assert!(other.renew(&found.lease).await.unwrap());
    assert!(other.bury(&found.lease, "it is poison").await.unwrap());
    assert_eq!(measure().await, (0, 0, 0, 2, 2));

    // A fetch that is stopped ends at once, and takes nothing.
    let stopped = CancellationToken::new();
    stopped.cancel();
    assert_eq!(one.fetch(Duration::from_secs(60), &stopped).await.unwrap(), None);
    one.leave().await.unwrap();
}

#[tokio::test]
async fn tasks_go_their_ways() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.db");
    let url = format!("sqlite:{}", file.display());
    let system = system(System::Sqlite, &url).await;
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let push = async |queue: &str, payload: &str| {
        connection
            .execute("INSERT INTO qscaler_tasks (queue, payload) VALUES (?1, ?2)", [queue, payload])
            .unwrap();
    };
    carry_tasks(&system, &url, push).await;
    let dead: (String, u32) = connection
        .query_row("SELECT error, attempts FROM qscaler_dead", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(dead, ("it is poison".to_owned(), 4));
}
