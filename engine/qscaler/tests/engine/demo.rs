//! The demo, whole: real engine, real workers, and the auditor's figures.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use qscaler::demo::load::{Load, LoadTask};
use serde_json::Value;

use crate::fixture::{PROGRAM, counts};

/// Demos at a time; more would measure the machine.
const AT_ONCE: usize = 3;

/// What a demo wrote with `--json`.
struct Figures(Value);

impl Figures {
    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("{name}: {}", self.0))
    }
}

/// Runs a demo with a temporary folder of its own, which it must leave empty.
fn run(arguments: &[String]) -> Figures {
    let folder = tempfile::tempdir().unwrap();
    let (temporary, json) = (folder.path().join("tmp"), folder.path().join("figures.json"));
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--json"]).arg(&json).args(arguments).env("TMPDIR", &temporary);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{said}");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "it leaves nothing behind");
    let figures = Figures(serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap());
    for (name, wanted) in
        [("lost", 0.0), ("interrupted", 0.0), ("duplicated", 0.0), ("done", figures.number("tasks"))]
    {
        assert!(figures.number(name).total_cmp(&wanted).is_eq(), "{name}, {arguments:?}\n{said}");
    }
    figures
}

/// Runs the bundled load one time, or ten times in a full run, and as often with an engine that is
/// killed in the middle. Returns the figures as a table.
pub(crate) fn every_demo_is_good(more: &[&str]) -> String {
    let with = |all: &[&str], seed: u64| {
        let seed = format!("--seed={seed}");
        all.iter().map(ToString::to_string).chain([seed]).collect::<Vec<_>>()
    };
    let killed = [more, &["--kill-engine-at", "15"]].concat();
    let runs: Vec<_> = (1..=counts(10)).flat_map(|seed| [with(more, seed), with(&killed, seed)]).collect();
    let mut table = vec![];
    for group in runs.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let started: Vec<_> = group.iter().map(|arguments| scope.spawn(move || run(arguments))).collect();
            table.extend(started.into_iter().map(|run| run.join().unwrap()));
        });
    }
    let mut text =
        "tasks  wait p50  wait p95  workers  worker s/work s  reaction p95  arguments\n".to_owned();
    for (figures, arguments) in table.iter().zip(&runs) {
        let number = |name| figures.number(name);
        let _ = writeln!(
            text,
            "{:>5} {:>7.2} s {:>7.2} s {:>8} {:>16.2} {:>11.2} s  {}",
            number("tasks"),
            number("wait_p50_s"),
            number("wait_p95_s"),
            number("workers_max"),
            number("worker_seconds") / number("work_seconds"),
            number("reaction_p95_s"),
            arguments.join(" ")
        );
        assert!(number("workers_max") >= 10.0, "{}", figures.0);
    }
    text
}

#[test]
fn the_demo_loses_and_interrupts_nothing_also_when_its_engine_is_killed() {
    println!("{}", every_demo_is_good(&[]));
}

fn trace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/traces").join(name)
}

#[test]
fn a_recorded_load_is_read_with_its_columns_in_any_order_and_its_times_as_seconds_or_dates() {
    let task = |at: f64, seconds: f64| LoadTask { at: Duration::from_secs_f64(at), seconds };
    let wanted = [(0.0, 4.0), (0.5, 2.5), (4.25, 1.0), (4.25, 3.0), (10.0, 6.5), (11.0, 0.0), (30.0, 20.0)];
    for name in ["seconds.csv", "dates.csv"] {
        let at_speed = |speed: f64| Load::read(&trace(name), speed).unwrap();
        assert_eq!(at_speed(1.0).tasks, wanted.map(|(at, seconds)| task(at, seconds)), "{name}");
        assert_eq!(at_speed(2.0).tasks, wanted.map(|(at, seconds)| task(at / 2.0, seconds / 2.0)), "{name}");
    }
}

#[test]
fn the_demo_replays_a_recorded_load() {
    let file = trace("dates.csv").display().to_string();
    let figures = run(&["--trace".into(), file, "--speed".into(), "10".into()]);
    assert!(figures.number("tasks").total_cmp(&7.0).is_eq());
    assert!((figures.number("work_seconds") - 3.7).abs() < 1e-9, "a tenth of the recorded seconds");
}
