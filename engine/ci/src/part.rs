//! The parts of the suite: what each runs, and how long it may take.

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::line::{Line, cargo};
use crate::{cluster, python, servers};

/// A part of the suite that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Format, lints, tests that need no server, generated files.
    Rust,
    /// Tests against real queue systems.
    Queues,
    /// Tests on a real Kubernetes cluster.
    Cluster,
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
/// Beyond it, what a part has started cannot be ended.
const ENDING_MAX: Duration = Duration::from_secs(60);

impl Part {
    pub(crate) const ALL: [Part; 4] = [Part::Rust, Part::Queues, Part::Cluster, Part::Python];

    /// How long it may take once the servers are there, building included: beyond it the part is ended
    /// and has failed.
    pub(crate) fn budget(self, settings: &Settings) -> Duration {
        let minutes = match self {
            Part::Rust => 30,
            Part::Queues => 10,
            Part::Cluster => 30,
            Part::Python => 8,
        };
        let minutes = if settings.full { 4 * minutes } else { minutes };
        Duration::from_secs(60 * minutes)
    }

    pub(crate) fn run(self, settings: &Settings) -> Outcome {
        let begin = Instant::now();
        let tried = self.try_run(settings);
        let ended = self.end(settings);
        let failure = tried.and(ended).err();
        Outcome { part: self, seconds: begin.elapsed().as_secs_f64(), failure }
    }

    fn try_run(self, settings: &Settings) -> Result<(), String> {
        let budget = self.budget(settings);
        let lines = self.commands(settings)?;
        let begin = Instant::now();
        lines.into_iter().try_for_each(|line| {
            let left = budget.checked_sub(begin.elapsed()).unwrap_or_default();
            line.run(settings, left)
        })
    }

    /// What it does at the end, however that came.
    fn end(self, settings: &Settings) -> Result<(), String> {
        match self {
            Part::Cluster => cluster::down().run(settings, ENDING_MAX),
            Part::Rust | Part::Queues | Part::Python => Ok(()),
        }
    }

    /// What it runs, in order, once the servers are there.
    fn commands(self, settings: &Settings) -> Result<Vec<Line>, String> {
        Ok(match self {
            Part::Rust => {
                let clippy = "clippy --release --workspace --all-targets -- --deny warnings";
                let skipped = format!("--skip {SERVER_TESTS} --skip {}", cluster::TESTS);
                let tests = format!("test --release --workspace -- {skipped}");
                // The promise is about a build that nobody has optimised.
                let stack = "test --package qscaler-cel --test cel stack_of_512_kib";
                vec![cargo("fmt --all --check"), cargo(clippy), cargo(&tests), cargo(stack)]
            }
            Part::Queues => {
                servers::bring("redis-server")?;
                vec![cargo(&format!("test --release --workspace -- {SERVER_TESTS}"))]
            }
            Part::Cluster => {
                cluster::bring(settings)?;
                cluster::commands()
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
            Part::Cluster => "cluster",
            Part::Python => "python",
        })
    }
}
