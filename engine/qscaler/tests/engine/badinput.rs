//! Sources that are not there or are something else: said where the user looks, while everything else
//! goes on and nothing is lost.

use std::net::TcpListener;

use crate::fixture::{Site, until};

/// Starts an engine with the workload `work`, which is good, and `bad0`, `bad1`, ... on these sources.
fn site_with(sources: &[(String, &str)]) -> Site {
    let site = Site::new();
    site.write_rule(1);
    site.write_workload();
    for (place, (source, _)) in sources.iter().enumerate() {
        let name = format!("bad{place}");
        site.write_workload_named(&name, "command: [sleep, '1000'], leave: signal");
        let good = format!("{{type: sqlite, url: \"sqlite:{}\"}}", site.path("queue.db").display());
        let file = format!("workloads/{name}.yaml");
        let text = std::fs::read_to_string(site.path(&file)).unwrap();
        assert!(text.contains(&good));
        site.write(&file, &text.replace(&good, &format!("{{{source}}}")));
    }
    site
}

/// A source under a path of the site.
fn sqlite(path: &str) -> String {
    format!("type: sqlite, url: 'sqlite:{path}'")
}

#[test]
fn a_source_that_is_wrong_is_told_with_its_reason_while_others_work() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(path("folder.db")).unwrap();
    std::fs::write(path("text.db"), "this is a text and no database, ".repeat(50)).unwrap();
    let sources = [
        ("type: redis, url: 'redis://127.0.0.1:1'".to_owned(), "redis://127.0.0.1:1: "),
        (format!("type: redis, url: 'redis://127.0.0.1:{silent_port}'"), "no answer within 2s"),
        (
            "type: redis, url: 'redis://127.0.0.1:1', auth: {passwordEnv: QSCALER_NOT_SET}".to_owned(),
            "the environment variable QSCALER_NOT_SET with its password is not set",
        ),
        (sqlite(&path("folder.db")), "unable to open database file"),
        (sqlite(&path("text.db")), "file is not a database"),
        (sqlite(&path("nowhere/queue.db")), "unable to open database file"),
    ];
    let site = site_with(&sources);
    let engine = site.start_engine_with(&["--listen", "127.0.0.1:0"]);
    for (place, (source, says)) in sources.iter().enumerate() {
        let tells = |line: &str| {
            line.contains("hold: cannot act")
                && line.contains(&format!("default/bad{place}"))
                && line.contains(says)
        };
        until(&format!("{source}: {says}: {}", site.log()), || site.log().lines().any(tells).then_some(()));
        let failures = format!("qscaler_failures_total{{workload=\"default/bad{place}\"}}");
        until(&failures, || site.metric(&failures).filter(|count| *count > 0.0));
    }
    for task in 0..5 {
        site.enqueue(&format!("t{task}"), 0.1);
    }
    until("the tasks of the good one are done", || (site.attempts().1.len() == 5).then_some(()));
    assert_eq!(site.metric("qscaler_failures_total{workload=\"default/work\"}"), None, "{}", site.log());
    let workers = site.workers();
    assert!(workers.iter().all(|(name, ..)| name.starts_with("work-")), "{workers:?}");

    // An engine whose workloads cannot be read stops all the same.
    engine.stop();
}

#[test]
fn a_source_that_is_mended_in_its_file_is_used_at_once() {
    let site = site_with(&[("type: redis, url: 'redis://127.0.0.1:1'".to_owned(), "")]);
    let engine = site.start_engine();
    until("it is told", || site.log().contains("hold: cannot act").then_some(()));
    assert!(site.workers().iter().all(|(name, ..)| name.starts_with("work-")), "{:?}", site.workers());
    site.write_workload_named("bad0", "command: [sleep, '1000'], leave: signal");
    let workers = site.wait_for_running(2);
    assert_eq!(workers[0].0, "bad0-1");
    engine.stop();
}

#[test]
fn a_workload_whose_source_becomes_wrong_keeps_its_workers_and_they_finish() {
    let site = Site::new();
    site.write_rule(2);
    site.write_workload();
    for task in 0..6 {
        site.enqueue(&format!("t{task}"), 1.0);
    }
    let engine = site.start_engine_with(&["--listen", "127.0.0.1:0"]);
    let before = site.wait_for_running(6);
    let good = std::fs::read_to_string(site.path("workloads/work.yaml")).unwrap();
    let (head, _) = good.split_once("  source:").unwrap();
    let (_, tail) = good.split_once("  queues:").unwrap();
    let bad = format!("{head}  source: {{type: redis, url: \"redis://127.0.0.1:1\"}}\n  queues:{tail}");
    site.write("workloads/work.yaml", &bad);
    let failures = "qscaler_failures_total{workload=\"default/work\"}";
    until(&format!("it cannot act: {}", site.log()), || site.metric(failures).filter(|count| *count > 3.0));
    until("all tasks are done", || (site.attempts().1.len() == 6).then_some(()));
    assert_eq!(site.workers(), before, "none was started or let go without knowing");
    site.write("workloads/work.yaml", &good);
    site.wait_for_running(2);
    let (begun, ended) = site.attempts();
    assert_eq!(begun, ended, "none was interrupted, none done twice");
    engine.stop();
}
