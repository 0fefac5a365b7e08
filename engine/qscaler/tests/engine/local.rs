//! Workers as processes of this machine: how they start, fail and end.

use std::fs;
use std::path::Path;

use crate::fixture::{Site, is_alive, session, until, whole_lines};

/// Process ids that workers wrote into the file `pids` of their site.
fn written_pids(site: &Site) -> Vec<u32> {
    whole_lines(&site.path("pids")).iter().map(|line| line.parse().unwrap()).collect()
}

fn log_of(site: &Site, worker: &str) -> String {
    fs::read_to_string(site.path(&format!("state/logs/{worker}.log"))).unwrap_or_default()
}

fn shell(script: &str) -> String {
    format!("command: [sh, -c, {script:?}]")
}

#[test]
fn workers_lead_sessions_of_their_own_and_leave_when_the_engine_is_told_to_stop() {
    let site = Site::new();
    site.write_rule(2);
    site.write_workload();
    let engine = site.start_engine();
    let workers = site.wait_for_running(2);
    assert_eq!(workers.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["work-1", "work-2"]);
    for (_, _, pid) in &workers {
        assert_eq!(session(*pid), Some(*pid));
    }
    site.enqueue("t1", 1.5);
    until("the task begins", || site.attempts().0.first().cloned());
    engine.stop();
    assert_eq!(
        site.attempts(),
        (vec!["t1".into()], vec!["t1".into()]),
        "it was finished before the worker left"
    );
    assert!(workers.iter().all(|(_, _, pid)| !is_alive(*pid)), "{}", site.log());
    assert_eq!(site.workers(), []);
}

#[test]
fn a_second_signal_ends_workers_that_do_not_leave_by_sigterm_and_then_by_sigkill() {
    let site = Site::new();
    site.write_rule(1);
    let stubborn =
        "trap '' TERM; sleep 1000 & echo $! >> $SITE/pids; echo $$ >> $SITE/pids; wait; sleep 1000";
    site.write_workload_with(&format!("{}, gracePeriod: 1s", shell(stubborn)));
    let mut engine = site.start_engine();
    let pids =
        until("the worker and its child run", || Some(written_pids(&site)).filter(|pids| pids.len() == 2));
    engine.signal("TERM");
    until("it drains", || site.log().contains("stopping: workers finish").then_some(()));
    assert!(engine.child.try_wait().unwrap().is_none(), "it waits for its worker");
    engine.signal("TERM");
    assert_eq!(engine.wait(), 0, "{}", site.log());
    assert!(site.log().contains("its grace period is over"), "{}", site.log());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn what_a_worker_leaves_behind_in_its_group_ends_with_it() {
    let site = Site::new();
    site.write_rule(1);
    site.write_workload_with(&shell("sleep 1000 & echo $! >> $SITE/pids; exit 7"));
    let _engine = site.start_engine();
    let pid = until("the child was started", || written_pids(&site).first().copied());
    until("the child is gone", || (!is_alive(pid)).then_some(()));
}

#[test]
fn a_command_that_cannot_start_is_told_and_tried_again_ever_later_while_others_work() {
    let site = Site::new();
    site.write_rule(1);
    site.write_workload();
    let bad = [
        ("command: [/does/not/exist]", "cannot start `/does/not/exist`: No such file or directory"),
        (
            "command: [sh], directory: /does/not/exist",
            "cannot start `sh`: there is no folder /does/not/exist",
        ),
        ("command: [sh, -c, 'exit 3']", "exit code 3"),
        ("command: ['true']", "exit code 0"),
        ("command: [sh, -c, 'kill -9 $$']", "ended by signal 9"),
    ];
    for (place, (target, _)) in bad.iter().enumerate() {
        site.write_workload_named(&format!("bad{place}"), target);
    }
    let engine = site.start_engine();
    for (place, (target, says)) in bad.iter().enumerate() {
        // The pause doubles with every start in a row that ends soon.
        for pause in ["1s", "2s", "4s"] {
            let how = format!("starts again in {pause} worker=\"bad{place}-1\" how={says}");
            let tells = || site.log().lines().any(|line| line.contains(&how)).then_some(());
            until(&format!("{target}: {how}"), tells);
        }
    }
    site.enqueue("t1", 0.0);
    until("the task is done", || (site.attempts().1 == ["t1"]).then_some(()));
    engine.stop();
    assert_eq!(site.workers(), []);
}

#[test]
fn what_a_worker_says_is_kept_in_a_file_of_its_own() {
    let site = Site::new();
    site.write_rule(2);
    site.write_workload_with(&shell(
        "echo this is $QSCALER_WORKER_NAME; echo and this went wrong >&2; sleep 1000",
    ));
    let engine = site.start_engine();
    for worker in ["work-1", "work-2"] {
        let said = format!("this is {worker}\nand this went wrong\n");
        until("it has spoken", || (log_of(&site, worker) == said).then_some(()));
    }
    engine.signal("TERM");
    drop(engine);
}

#[test]
fn workers_without_the_sdk_leave_by_sigterm_when_their_workload_says_so() {
    let site = Site::new();
    site.write_rule(3);
    let polite = "trap 'echo bye >> $SITE/bye; exit 0' TERM; while :; do sleep 0.05; done";
    site.write_workload_with(&format!("{}, leave: signal", shell(polite)));
    let engine = site.start_engine();
    let all = site.wait_for_running(3);
    site.write_rule(1);
    let left = site.wait_for_running(1);
    assert_eq!(left, all[..1], "the newest leave first");
    let byes = fs::read_to_string(site.path("bye")).unwrap();
    assert_eq!(byes.lines().count(), 2, "each was asked, and once");
    engine.stop();
    assert!(Path::new(&site.path("bye")).exists());
    assert!(!is_alive(left[0].2));
}
