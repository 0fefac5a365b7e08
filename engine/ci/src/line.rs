//! One command of a part, and how it is run: shown, within its time, with the settings of the run.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::part::Settings;

/// A program with its arguments and the folder that it runs in, below the root of the project.
pub(crate) struct Line {
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: &'static str,
    /// What it finds in its environment beside what is there.
    environment: Vec<(&'static str, String)>,
}

/// A call of cargo; no argument holds blanks.
pub(crate) fn cargo(arguments: &str) -> Line {
    Line::new(env!("CARGO"), arguments, ".")
}

/// Cargo's folder for what is built, from the root.
pub(crate) fn target() -> PathBuf {
    let root = env::current_dir().unwrap_or_default();
    root.join(env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into()))
}

impl Line {
    pub(crate) fn new(program: &str, arguments: &str, folder: &'static str) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { program: program.to_owned(), arguments, folder, environment: Vec::new() }
    }

    pub(crate) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }

    /// Runs it; the error says what went wrong.
    pub(crate) fn run(&self, settings: &Settings, left: Duration) -> Result<(), String> {
        let name = self.program.rsplit('/').next().unwrap_or_default();
        let line = format!("{name} {}", self.arguments.join(" "));
        println!("\n$ {line}");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(self.folder);
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        command.env("QSCALER_SEED", settings.seed.to_string());
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
}
