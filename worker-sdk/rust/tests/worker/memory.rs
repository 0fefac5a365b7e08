//! The whole interface over a queue in memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_protocol::report::State;
use qscaler_worker::testing::MemoryQueue;
use qscaler_worker::{Lifecycle, Settings, Task, Worker};

use crate::fixture::{until, within};

fn settings() -> Settings {
    Settings::new("memory:", ["mail"])
}

fn payloads(tasks: &[Task]) -> Vec<String> {
    tasks.iter().map(|task| String::from_utf8(task.payload.clone()).unwrap()).collect()
}

async fn ok(_task: Task) -> Result<(), String> {
    Ok(())
}

async fn soon(what: &str, so: impl Fn() -> bool) {
    let begin = tokio::time::Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_idle_worker_that_is_offered_a_place_to_leave_runs_its_hook_and_leaves() {
    let queue = MemoryQueue::new();
    let hooks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hooks);
    let worker = queue.worker(settings()).on_shutdown(async move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let working = tokio::spawn(worker.run(ok));
    for payload in ["a", "b"] {
        queue.push("mail", payload);
    }
    queue.worked_off().await;
    queue.drain_now();
    let ended = working.await.unwrap().unwrap();
    assert_eq!((ended.done, ended.failed, ended.late_acks), (2, 0, 0));
    assert!(ended.claim.is_some());
    assert_eq!(hooks.load(Ordering::Relaxed), 1);
    assert_eq!(payloads(&queue.done()), ["a", "b"]);
    let report = queue.reports().pop().unwrap();
    assert_eq!((report.state, report.done, report.claim), (State::Drained, 2, ended.claim));
}

#[tokio::test]
async fn a_busy_worker_finishes_what_it_holds_and_takes_nothing_more() {
    let queue = MemoryQueue::new();
    for task in 0..10 {
        queue.push("mail", format!("{task}"));
    }
    let offers = queue.clone();
    let worker = queue.worker(settings());
    let ended = worker
        .run(move |task: Task| {
            if task.payload == b"2" {
                offers.drain_now();
            }
            tokio::time::sleep(Duration::from_millis(250)).then(task)
        })
        .await
        .unwrap();
    assert_eq!(ended.done, 3);
    assert_eq!(queue.waiting().len(), 7);
}

/// Lets a sleep stand for work.
trait Then {
    async fn then(self, task: Task) -> Result<(), String>;
}

impl Then for tokio::time::Sleep {
    async fn then(self, task: Task) -> Result<(), String> {
        self.await;
        ok(task).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_is_tried_again_and_put_aside_at_last() {
    let queue = MemoryQueue::new();
    queue.push("mail", "error");
    queue.push("mail", "panic");
    queue.push("mail", "good");
    let worker = queue.worker(settings().slots(3).attempts_max(3));
    let working = tokio::spawn(worker.run(|task: Task| async move {
        match task.payload.as_slice() {
            b"error" => Err(format!("attempt {}", task.attempt)),
            b"panic" => panic!("as it was told"),
            _ => Ok(()),
        }
    }));
    queue.worked_off().await;
    queue.drain_now();
    let ended = working.await.unwrap().unwrap();
    assert_eq!((ended.done, ended.failed), (1, 6));
    let mut dead = queue.dead();
    dead.sort_by(|one, other| one.0.payload.cmp(&other.0.payload));
    assert_eq!(dead[0].1, "attempt 3");
    assert!(dead[1].1.contains("panic"), "{}", dead[1].1);
}

#[tokio::test]
async fn a_program_with_a_loop_of_its_own_gets_a_task_when_it_asks_and_gives_back_what_it_drops() {
    let queue = MemoryQueue::new();
    for payload in ["a", "b", "c"] {
        queue.push("mail", payload);
    }
    let mut tasks = queue.worker(settings().slots(2)).tasks();
    let first = tasks.next_task().await.unwrap();
    assert_eq!(first.payload, b"a");
    assert_eq!(queue.waiting().len(), 2, "nothing is taken before it is asked for");
    drop(first);
    soon("it is given back", || queue.waiting().len() == 3).await;
    let again = tasks.next_task().await.unwrap();
    assert_eq!((again.payload.as_slice(), again.attempt), (&b"a"[..], 1), "nobody failed it");
    assert!(again.done().await);
    let second = tasks.next_task().await.unwrap();
    assert!(second.failed("later").await);
    let third = tasks.next_task().await.unwrap();
    assert_eq!(third.payload, b"c");
    // A wait that is given up loses nothing.
    assert!(tokio::time::timeout(Duration::from_millis(50), tasks.next_task()).await.is_err());
    queue.push("mail", "d");
    assert_eq!(tasks.next_task().await.unwrap().payload, b"d");
    queue.drain_now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(third.done().await, "it is held until it is done");
    assert!(tasks.next_task().await.is_none());
    let ended = tasks.ended().await.unwrap();
    assert_eq!((ended.done, ended.failed), (2, 1));
    assert!(ended.claim.is_some());
}

#[tokio::test]
async fn a_worker_that_parks_stays_unready_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready");
    let queue = MemoryQueue::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = settings().park().probe_file(&file).probe_port(port);
    let working = tokio::spawn(queue.worker(settings).run(ok));
    soon("it is ready", || file.exists()).await;
    assert_eq!(status(port).await, "HTTP/1.1 200 OK");
    queue.drain_now();
    soon("it is not ready any more", || !file.exists()).await;
    queue.push("mail", "too late");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(status(port).await, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(queue.waiting().len(), 1);
    assert!(!working.is_finished(), "it ends on SIGTERM only");
    assert_eq!(queue.reports()[0].state, State::Drained);
    working.abort();
}

async fn status(port: u16) -> String {
    let ask = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap().to_owned()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn a_worker_that_is_started_again_and_finds_that_it_had_drained_takes_nothing() {
    let queue = MemoryQueue::new();
    let (workload, worker) =
        (qscaler_protocol::name::WorkloadUid::new("uid"), qscaler_protocol::name::WorkerId::new("w"));
    let settings = settings().identity(workload, worker);
    // The first life ends without a claim, by the program's own wish.
    let tasks = queue.worker(settings.clone()).tasks();
    soon("it has reported", || queue.reports().iter().any(|it| it.state == State::Idle)).await;
    tasks.leave();
    assert_eq!(tasks.ended().await.unwrap().claim, None);
    let first = queue.reports().pop().unwrap().boot;
    queue.push("mail", "not for it");
    let ended = queue.worker(settings).run(ok).await.unwrap();
    assert_eq!((ended.done, queue.waiting().len()), (0, 1));
    let report = queue.reports().pop().unwrap();
    assert_eq!(report.state, State::Drained);
    assert_ne!(report.boot, first, "it says which start of it that was");
}

#[test]
fn work_that_blocks_has_threads_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("queue.db").display());
    let connection = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
    connection.execute_batch(qscaler_protocol::sqlite::TABLES).unwrap();
    for task in 0..8 {
        let payload = task.to_string();
        connection
            .execute("INSERT INTO qscaler_tasks (queue, payload) VALUES ('mail', ?1)", [payload])
            .unwrap();
    }
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = Arc::clone(&at_once);
    std::thread::spawn(move || {
        Worker::run_blocking(Settings::new(url, ["mail"]).slots(4), move |_task| {
            let now = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
            seen.1.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            seen.0.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, String>(())
        })
    });
    until("all are done", || {
        let text = "SELECT COUNT(*) FROM qscaler_tasks";
        let left: u32 = connection.query_row(text, [], |row| row.get(0)).unwrap();
        (left == 0).then_some(())
    });
    assert!(at_once.1.load(Ordering::SeqCst) > 1);
}

#[test]
fn a_program_with_a_queue_library_of_its_own_leaves_between_fetches() {
    use qscaler_protocol::name::{WorkerId, WorkloadUid};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.db");
    let url = format!("sqlite:{}", file.display());
    let settings = Settings::new(url, Vec::<String>::new())
        .identity(WorkloadUid::new("uid"), WorkerId::new("w"))
        .slots(2);
    let lifecycle = Lifecycle::start(settings).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let state = || -> String {
        let text = "SELECT json_extract(report, '$.state') FROM qscaler_reports";
        connection.query_row(text, [], |row| row.get(0)).unwrap_or_default()
    };
    let busy = lifecycle.fetch_blocking().unwrap().busy();
    let nothing = lifecycle.fetch_blocking().unwrap();
    until("it is busy", || (state() == "busy").then_some(()));
    drop(nothing);
    connection
        .execute_batch(
            "INSERT INTO qscaler_path VALUES ('uid', 'e', 0);
             INSERT INTO qscaler_offers VALUES ('uid', 1, 'open', 'w');",
        )
        .unwrap();
    // The offer names it: it stops filling its second slot.
    let order = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1_500));
            order.lock().unwrap().push("done");
            drop(busy);
        });
        std::thread::sleep(Duration::from_millis(1_200));
        assert!(!lifecycle.should_leave(), "it is busy and has claimed nothing");
        assert!(lifecycle.fetch_blocking().is_none(), "and then it leaves");
        order.lock().unwrap().push("left");
    });
    assert_eq!(*order.lock().unwrap(), ["done", "left"]);
    assert!(lifecycle.should_leave());
    let ended = lifecycle.ended().unwrap();
    assert_eq!((ended.claim.map(|claim| claim.0), ended.done), (Some(1), 1));
    within(Duration::from_secs(1), "it says so", || (state() == "drained").then_some(()));
}

#[test]
fn payloads_are_read_as_json_and_as_msgpack() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Mail {
        to: String,
    }
    let mail = Mail { to: "you".into() };
    let task = |payload| Task { id: "1".into(), queue: "mail".into(), payload, attempt: 1 };
    assert_eq!(task(br#"{"to": "you"}"#.to_vec()).json::<Mail>().unwrap(), mail);
    // {"to": "you"}, as msgpack writes it.
    assert_eq!(task(b"\x81\xa2to\xa3you".to_vec()).msgpack::<Mail>().unwrap(), mail);
    assert!(task(b"\xff".to_vec()).json::<Mail>().is_err());
}
