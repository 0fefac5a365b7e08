//! Workers with several slots are seldom wholly free; under steady load the right number leaves all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qscaler::demo::diary::What;

use crate::fixture::{PROGRAM, Site, until};

/// Nine tasks in ten take one to two seconds, the tenth this long: the 95th percentile.
const LONG: f64 = 6.0;
/// What the engine's own rhythm adds: to see the rule, to name workers, to see that they are gone.
const RHYTHM: Duration = Duration::from_secs(3);

fn write_rule(site: &Site, workers: u32) {
    site.write_replicas(&format!("desired: {workers} + 0 * queue.length, min: 1, max: 12"));
}

/// How many workers have written their last line.
fn gone(site: &Site) -> usize {
    let diaries = site.diaries();
    diaries.iter().filter(|lines| lines.last().is_some_and(|line| line.what == What::Gone)).count()
}

/// Twelve tasks a second, of which two dozen are under way at any time.
fn produce(site: &Site, over: &AtomicBool) {
    for task in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let seconds = if task % 10 == 9 { LONG } else { 1.0 + f64::from(task * 7 % 10) / 10.0 };
        site.enqueue(&format!("t{task}"), seconds);
        std::thread::sleep(Duration::from_millis(80));
    }
}

#[test]
fn of_ten_workers_with_eight_slots_under_steady_load_four_leave_soon_and_nothing_is_interrupted() {
    let site = Site::new();
    write_rule(&site, 10);
    site.write_workload_with(&format!(
        "command: [env, \"QSCALER_SLOTS=8\", \"{PROGRAM}\", demo-worker], gracePeriod: 20s"
    ));
    let engine = site.start_engine();
    site.wait_for_running(10);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| produce(&site, &over));
        until("enough tasks are done to know how long they take", || {
            (site.attempts().1.len() >= 100).then_some(())
        });
        assert_eq!(gone(&site), 0);
        write_rule(&site, 6);
        let begin = Instant::now();
        let took = until("four have left", || (gone(&site) >= 4).then(|| begin.elapsed()));
        println!("four of ten left within {took:?}; the 95th percentile of tasks is {LONG} s");
        assert!(took <= Duration::from_secs_f64(2.0 * LONG) + RHYTHM, "{took:?}");
        // A fifth would leave in this time, if one did.
        std::thread::sleep(Duration::from_secs_f64(LONG));
        assert_eq!(gone(&site), 4);
        over.store(true, Ordering::Relaxed);
    });
    site.wait_for_running(6);
    engine.stop();
    let (begun, ended) = site.attempts();
    assert_eq!(begun, ended, "an attempt was interrupted");
    let mut once = begun.clone();
    once.dedup();
    assert_eq!(begun, once, "a task was begun twice");
}
