//! Tasks that are cut off: each is counted once, with its cause.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use qscaler::ports::{Counting, QueueSystem};
use qscaler_core::interrupted::Why;
use qscaler_core::workload::System;
use qscaler_protocol::name::WorkloadUid;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Site, get, until, whole_lines};
use crate::queues::{system, worker};

/// A site whose workers are killed and told to end: they keep diaries, one for each process.
pub(crate) struct Scene<'a> {
    pub(crate) site: Site,
    /// Puts a task of the queue `work` there.
    pub(crate) push: Box<dyn Fn(&str) + 'a>,
}

impl<'a> Scene<'a> {
    /// On the queue `work` of this source.
    pub(crate) fn new(site: Site, source: &str, push: impl Fn(&str) + 'a) -> Self {
        std::fs::create_dir(site.path("diaries")).unwrap();
        site.write_rule(2);
        let program = std::env::current_exe().unwrap().parent().unwrap().join("../examples/diarist");
        site.write(
            "workloads/work.yaml",
            &format!(
                "apiVersion: qscaler.dev/v1alpha1
kind: Workload
metadata: {{name: work}}
spec:
  target:
    command: [\"{}\"]
    gracePeriod: 2s
    env: {{DIARIST_FOLDER: \"{}\", DIARIST_LEASE_MS: \"2000\"}}
  source: {source}
  queues: [{{name: work}}]
  rule: fixed
  mode: act
",
                program.display(),
                site.path("diaries").display(),
            ),
        );
        Self { site, push: Box::new(push) }
    }

    fn push(&self, task: &str) {
        (self.push)(task);
    }

    /// The process whose diary has this line.
    fn process_with(&self, line: &str) -> Option<u32> {
        let files = std::fs::read_dir(self.site.path("diaries")).unwrap().flatten();
        let has = |file: &PathBuf| whole_lines(file).iter().any(|it| it == line);
        let file = files.map(|entry| entry.path()).find(has)?;
        file.file_name()?.to_str()?.parse().ok()
    }

    fn wait_for(&self, line: &str) -> u32 {
        until(&format!("a diary says {line:?}; the engine says:\n{}", self.site.log()), || {
            self.process_with(line)
        })
    }

    /// What is counted, by cause; none while no engine answers.
    fn counted(&self) -> Option<BTreeMap<String, u64>> {
        let (_, answer) = get(&self.site.address()?, "/metrics")?;
        let of = |line: &str| {
            let rest =
                line.strip_prefix("qscaler_tasks_interrupted_total{workload=\"default/work\",cause=\"")?;
            let (cause, count) = rest.split_once("\"} ")?;
            Some((cause.to_owned(), count.parse().unwrap()))
        };
        Some(answer.lines().filter_map(of).collect())
    }

    fn wait_for_counted(&self, expected: &[(&str, u64)]) {
        let expected = Some(expected.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect());
        let so = || (self.counted() == expected).then_some(());
        until(&format!("{expected:?} is counted; the engine says:\n{}", self.site.log()), so);
    }

    /// Workers are killed and told to end in mid-task, and engines are killed.
    pub(crate) fn every_task_that_is_cut_off_is_counted_once_with_its_cause(self) {
        let mut engine = self.site.start_engine_with(&["--listen", "127.0.0.1:0"]);
        for number in 0..20 {
            self.push(&format!("short{number} 10"));
        }
        self.push("first 4000");
        let victim = self.wait_for("start first 1");
        signal("KILL", victim);
        assert_ne!(self.wait_for("end first 2"), victim, "another one does it");
        self.wait_for_counted(&[("killed", 1)]);

        self.push("second 6000");
        let told = self.wait_for("start second 1");
        signal("TERM", told);
        self.wait_for_counted(&[("grace", 1), ("killed", 1)]);
        until("another one does it", || self.process_with("end second 1").filter(|by| *by != told));

        // While no engine is there nobody sees how it ends.
        engine.kill();
        self.push("third 3000");
        signal("KILL", self.wait_for("start third 1"));
        self.wait_for("end third 2");
        let engine = self.site.start_engine_with(&["--listen", "127.0.0.1:0"]);
        self.wait_for_counted(&[("unknown", 1)]);
        engine.stop();
    }

    /// A worker that stands still loses its task, and acknowledges it all the same when it goes on.
    pub(crate) fn a_worker_that_stands_still_is_counted_as_stalled_and_its_acknowledgement_as_late(self) {
        let engine = self.site.start_engine_with(&["--listen", "127.0.0.1:0"]);
        self.push("task 3000");
        let still = self.wait_for("start task 1");
        signal("STOP", still);
        self.wait_for("end task 2");
        self.wait_for_counted(&[("stalled", 1)]);
        signal("CONT", still);
        self.site.wait_for_metric("qscaler_late_acks_total{workload=\"default/work\"}", 1.0);
        engine.stop();
    }
}

fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn every_cause_is_explained_where_metrics_are() {
    let text = include_str!("../../../../deploy/README.md");
    for cause in qscaler_core::interrupted::Cause::ALL {
        assert!(text.contains(&format!("| `{cause}` |")), "{cause}");
    }
}

fn on_sqlite() -> Scene<'static> {
    let site = Site::new();
    let file = site.path("queue.db");
    let source = format!("{{type: sqlite, url: \"sqlite:{}\"}}", file.display());
    let push = move |task: &str| {
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.execute_batch(qscaler_protocol::sqlite::TABLES).unwrap();
        let text = "INSERT INTO qscaler_tasks (queue, payload) VALUES ('work', ?1)";
        connection.execute(text, [task]).unwrap();
    };
    Scene::new(site, &source, push)
}

#[test]
fn every_task_that_is_cut_off_on_sqlite_is_counted_once_with_its_cause() {
    on_sqlite().every_task_that_is_cut_off_is_counted_once_with_its_cause();
}

#[tokio::test]
async fn interruptions_are_written_down_in_sqlite_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.db");
    let url = format!("sqlite:{}", file.display());
    let system = system(System::Sqlite, &url).await;
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let push = |task: &str| {
        let text = "INSERT INTO qscaler_tasks (queue, payload) VALUES ('q', ?1)";
        connection.execute(text, [task]).unwrap();
    };
    carry_interruptions(&system, &url, push).await;
}

/// What is written down, read and counted is the same on every system.
pub(crate) async fn carry_interruptions(system: &QueueSystem, url: &str, push: impl Fn(&str)) {
    let (stop, soon) = (CancellationToken::new(), Duration::from_millis(200));
    let (one, other) = (worker(url, &["q"], "w", "one").await, worker(url, &["q"], "w", "other").await);
    let names = ["q".to_owned()];
    let read = async || {
        system.source.measure(&names).await.unwrap();
        let all = system.source.interruptions("q");
        let entry = |it: &qscaler_core::interrupted::Interruption| (it.why, it.tasks, it.worker.to_string());
        (all.iter().map(entry).collect::<Vec<_>>(), all.last().map_or(0, |last| last.number))
    };
    let uid = WorkloadUid::new("w");
    let count = async |known, last, by| {
        system.control.count(&uid, Counting { queue: "q", known, last, by }).await.unwrap()
    };
    assert_eq!(read().await, (vec![], 0));
    assert_eq!(count(None, 0, "a").await, 0, "it begins");
    for task in ["1", "2", "3", "4"] {
        push(task);
    }
    let done = one.fetch(soon, &stop).await.unwrap().unwrap();
    assert!(one.ack(&done.lease).await.unwrap());
    let failed = one.fetch(soon, &stop).await.unwrap().unwrap();
    assert!(one.give_back(&failed.lease, Duration::ZERO, true).await.unwrap());
    assert_eq!(read().await, (vec![], 0), "neither was cut off");
    let cut = one.fetch(soon, &stop).await.unwrap().unwrap();
    assert!(one.give_back(&cut.lease, Duration::ZERO, false).await.unwrap());
    assert!(!one.give_back(&cut.lease, Duration::ZERO, false).await.unwrap(), "asked again");
    let grace = (Why::Grace, 1, "one".to_owned());
    let (entries, first) = read().await;
    assert_eq!(entries, std::slice::from_ref(&grace));
    for _ in 0..2 {
        one.fetch(soon, &stop).await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1800)).await;
    other.reap().await.unwrap();
    other.reap().await.unwrap();
    let (entries, last) = read().await;
    assert_eq!(entries, [grace, (Why::Lost, 2, "one".to_owned())]);
    assert!(last > first);

    assert_eq!(count(None, last, "b").await, 0, "an engine that starts goes on where the last one stopped");
    assert_eq!(count(Some(0), first, "a").await, 0);
    assert_eq!(count(None, last, "b").await, first);
    assert_eq!(count(Some(0), last, "a").await, first, "the one of whom it did not know was counted");
    assert_eq!(count(Some(0), last, "b").await, last, "another engine has counted all");
    let another = WorkloadUid::new("another");
    let counting = Counting { queue: "q", known: None, last, by: "a" };
    assert_eq!(
        system.control.count(&another, counting).await.unwrap(),
        last,
        "what was before is not its own"
    );
}
