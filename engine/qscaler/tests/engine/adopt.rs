//! Engines that are killed, follow each other, or share one store.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::fixture::{Site, is_alive, until};

/// A site whose workers do `tasks` tasks of one second, and its engine.
fn busy_site(workers: u32, tasks: usize) -> (Site, crate::fixture::Engine) {
    let site = Site::new();
    site.write_rule(workers);
    site.write_workload();
    for task in 0..tasks {
        site.enqueue(&format!("t{task}"), 1.0);
    }
    let engine = site.start_engine();
    (site, engine)
}

fn all_done(site: &Site, tasks: usize) {
    let (begun, ended) =
        until("every task is done", || Some(site.attempts()).filter(|(_, ended)| ended.len() == tasks));
    assert_eq!(begun, ended, "none was interrupted, none done twice");
}

#[test]
fn workers_of_a_killed_engine_work_on_and_the_next_engine_takes_them_over() {
    let (site, mut engine) = busy_site(3, 6);
    let before = site.wait_for_running(6);
    engine.kill();
    assert!(before.iter().all(|(_, _, pid)| is_alive(*pid)));
    all_done(&site, 6);
    site.enqueue("more", 0.0);
    all_done(&site, 7);
    let next = site.start_engine();
    let after = site.wait_for_running(3);
    assert!(after.iter().all(|worker| before.contains(worker)), "{before:?} {after:?}");
    next.stop();
    assert_eq!(site.workers(), []);
    assert!(before.iter().all(|(_, _, pid)| !is_alive(*pid)));
}

#[test]
fn workers_that_leave_while_there_is_no_engine_and_adopted_ones_that_die_are_noticed() {
    let (site, mut engine) = busy_site(3, 0);
    let before = site.wait_for_running(3);
    engine.kill();
    kill(before[0].2);
    let next = site.start_engine();
    let after = until("another process in its place", || {
        let workers = site.wait_for_running(3);
        (workers[0].2 != before[0].2).then_some(workers)
    });
    assert_eq!(after[1..], before[1..]);
    kill(after[1].2);
    until("another process in its place", || (site.wait_for_running(3)[1].2 != before[1].2).then_some(()));
    next.stop();
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    until("it is dead", || (!is_alive(pid)).then_some(()));
}

#[test]
fn an_engine_killed_between_the_start_of_a_process_and_its_row_finds_it_by_its_incarnation() {
    let (site, mut engine) = busy_site(2, 0);
    let before = site.wait_for_running(2);
    engine.kill();
    // As if it had been killed before it wrote down the first, and before it started the second.
    kill(before[1].2);
    site.change_state("UPDATE workers SET state = 'spawning', pid = NULL, born = NULL");
    let next = site.start_engine();
    let after = site.wait_for_running(2);
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1].2, before[1].2);
    next.stop();
    assert_eq!(site.workers(), []);
}

/// A process of somebody else, in a group of its own.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").process_group(0).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_process_that_only_has_the_number_of_a_worker_is_left_alone() {
    let bystander = Bystander::start();
    let pid = bystander.0.id();
    // Its worker's own birth is another one; or the machine has been started again since.
    for change in ["state = 'running'", "state = 'ending', kill_at_ms = 0", "born = '1@another-boot'"] {
        let (site, mut engine) = busy_site(1, 0);
        let before = site.wait_for_running(1);
        engine.kill();
        kill(before[0].2);
        site.change_state(&format!("UPDATE workers SET {change}, pid = {pid}"));
        let next = site.start_engine();
        until("another process in its place", || (site.wait_for_running(1)[0].2 != pid).then_some(()));
        next.stop();
        assert!(is_alive(pid), "{change}");
    }
}

#[test]
fn two_engines_on_one_store_start_each_worker_once_and_either_may_die() {
    let (site, mut first) = busy_site(4, 8);
    let second = site.start_engine();
    until("every task has begun", || (site.attempts().0.len() == 8).then_some(()));
    let running = site.workers();
    assert!(running.len() <= 8, "{running:?}");
    first.kill();
    all_done(&site, 8);
    let after = site.wait_for_running(4);
    let boots = site.diaries().len();
    assert!(boots <= 8, "{boots} processes for 8 tasks");
    second.stop();
    assert_eq!(site.workers(), []);
    assert!(after.iter().all(|(_, _, pid)| !is_alive(*pid)));
}

#[test]
fn told_to_leave_its_workers_alone_an_engine_stops_at_once_and_they_work_on() {
    let site = Site::new();
    site.write_rule(2);
    site.write_workload();
    let engine = site.start_engine_with(&["--on-stop", "leave"]);
    let before = site.wait_for_running(2);
    engine.stop();
    assert!(before.iter().all(|(_, _, pid)| is_alive(*pid)));
    let next = site.start_engine();
    site.enqueue("t", 0.0);
    all_done(&site, 1);
    assert_eq!(site.wait_for_running(2), before);
    next.stop();
}
