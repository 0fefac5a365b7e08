//! `qscaler demo`: real workers on a bundled load, audited.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::complain;
use crate::demo::load::Load;
use crate::demo::{Settings, run};
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct Demo {
    /// Where the queue is: `redis://127.0.0.1:6379`; a SQLite file of the demo's own without.
    #[arg(long, value_name = "URL", value_parser = address)]
    queue: Option<String>,
    /// Replay recorded tasks: CSV with the columns arrival_s, arrival or arrival_utc, and service_s, seconds or exec_seconds.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Replay the trace this many times as fast; its tasks are that much shorter, too.
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "trace", value_parser = speed)]
    speed: f64,
    /// Kill the engine with SIGKILL this many seconds after the begin, and start another.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    kill_engine_at: Option<Duration>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Another load of the same kind.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the demo's folder: the record, the diaries, the workers' output.
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn run(self) -> Exit {
        let result = self.settings().and_then(|settings| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())?.block_on(run(settings))
        });
        result.unwrap_or_else(|error| {
            complain(&error);
            Exit::Failed
        })
    }

    fn settings(self) -> Result<Settings, String> {
        Ok(Settings {
            queue: self.queue,
            load: match &self.trace {
                Some(path) => Load::read(path, self.speed)?,
                None => Load::bundled(self.seed),
            },
            kill_engine_at: self.kill_engine_at,
            json: self.json,
            keep: self.keep,
        })
    }
}

fn address(text: &str) -> Result<String, String> {
    if ["redis://", "rediss://", "sqlite:"].iter().any(|scheme| text.starts_with(scheme)) {
        Ok(text.to_owned())
    } else {
        Err("write something like `redis://127.0.0.1:6379`, or leave it out for a queue of the demo's own"
            .into())
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write a number above 0, such as `10`".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    number.ok_or_else(|| "write a number of seconds, such as `15`".into())
}
