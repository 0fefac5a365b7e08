//! The parts of the suite: what each runs, and how long it may take.

use std::fmt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::servers;

/// A part of the suite that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Format, lints, tests that need no server, generated files.
    Rust,
    /// Tests against real queue systems.
    Queues,
}

/// What holds for the whole run.
pub(crate) struct Settings {
    /// Whole counts instead of a tenth.
    pub(crate) full: bool,
    /// Where the tests' randomness starts.
    pub(crate) seed: u64,
}

/// How a part ended.
pub(crate) struct Outcome {
    pub(crate) part: Part,
    pub(crate) seconds: f64,
    /// Why it failed.
    pub(crate) failure: Option<String>,
}

/// Tests that need a server stand in modules of this name.
const SERVER_TESTS: &str = "servers::";

impl Part {
    pub(crate) const ALL: [Part; 2] = [Part::Rust, Part::Queues];

    /// How long it may take, building included: beyond it the part is ended and has failed.
    pub(crate) fn budget(self, settings: &Settings) -> Duration {
        let minutes = match self {
            Part::Rust => 30,
            Part::Queues => 12,
        };
        let minutes = if settings.full { 4 * minutes } else { minutes };
        Duration::from_secs(60 * minutes)
    }

    pub(crate) fn run(self, settings: &Settings) -> Outcome {
        let begin = Instant::now();
        let failure = self.try_run(settings, begin).err();
        Outcome { part: self, seconds: begin.elapsed().as_secs_f64(), failure }
    }

    fn try_run(self, settings: &Settings, begin: Instant) -> Result<(), String> {
        let mut lines: Vec<Vec<&str>> = vec![];
        match self {
            Part::Rust => {
                lines.push(vec!["fmt", "--all", "--check"]);
                lines.push(vec![
                    "clippy",
                    "--release",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "--deny",
                    "warnings",
                ]);
                lines.push(vec!["test", "--release", "--workspace", "--", "--skip", SERVER_TESTS]);
            }
            Part::Queues => {
                servers::bring("redis-server")?;
                lines.push(vec!["test", "--release", "--workspace", "--", SERVER_TESTS]);
            }
        }
        lines.into_iter().try_for_each(|line| {
            let left = self.budget(settings).checked_sub(begin.elapsed()).unwrap_or_default();
            cargo(&line, settings, left)
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Rust => "rust",
            Part::Queues => "queues",
        })
    }
}

fn cargo(arguments: &[&str], settings: &Settings, left: Duration) -> Result<(), String> {
    let line = format!("cargo {}", arguments.join(" "));
    println!("\n$ {line}");
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).env("QSCALER_SEED", settings.seed.to_string());
    if settings.full {
        command.env("QSCALER_FULL", "1");
    }
    let mut child = command.spawn().map_err(|error| format!("{line}: {error}"))?;
    let end = Instant::now() + left;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{line}: {status}")),
            Ok(None) if Instant::now() >= end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{line}: over its budget"));
            }
            Ok(None) => thread::sleep(Duration::from_millis(200)),
            Err(error) => return Err(format!("{line}: {error}")),
        }
    }
}
