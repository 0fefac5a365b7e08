//! The parts of the suite: what each runs, and how long it may take.

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::line::{Line, cargo};
use crate::{python, servers};

/// A part of the suite that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Format, lints, tests that need no server, generated files.
    Rust,
    /// Tests against real queue systems.
    Queues,
    /// The Python SDK: format, lints, types, tests against real queue systems, the wheel.
    Python,
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
    pub(crate) const ALL: [Part; 3] = [Part::Rust, Part::Queues, Part::Python];

    /// How long it may take, building included: beyond it the part is ended and has failed.
    pub(crate) fn budget(self, settings: &Settings) -> Duration {
        let minutes = match self {
            Part::Rust => 25,
            Part::Queues => 10,
            Part::Python => 8,
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
        let budget = self.budget(settings);
        self.commands()?.into_iter().try_for_each(|line| {
            let left = budget.checked_sub(begin.elapsed()).unwrap_or_default();
            line.run(settings, left)
        })
    }

    /// What it runs, in order, once the servers are there.
    fn commands(self) -> Result<Vec<Line>, String> {
        Ok(match self {
            Part::Rust => {
                let clippy = "clippy --release --workspace --all-targets -- --deny warnings";
                let tests = format!("test --release --workspace -- --skip {SERVER_TESTS}");
                // The promise is about a build that nobody has optimised.
                let stack = "test --package qscaler-cel --test cel stack_of_512_kib";
                vec![cargo("fmt --all --check"), cargo(clippy), cargo(&tests), cargo(stack)]
            }
            Part::Queues => {
                servers::bring("redis-server")?;
                vec![cargo(&format!("test --release --workspace -- {SERVER_TESTS}"))]
            }
            Part::Python => {
                servers::bring("redis-server")?;
                servers::bring("openssl")?;
                python::commands()
            }
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Rust => "rust",
            Part::Queues => "queues",
            Part::Python => "python",
        })
    }
}
