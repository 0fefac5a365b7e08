//! `qscaler explain`: why there were so many workers at some moment of the last hour.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::civil;

use qscaler_cel::unit;
use qscaler_core::record::{Line, replay};
use qscaler_core::rule::compile;
use qscaler_core::time::Time;

use super::{Format, complain, say};
use crate::clock::wall_clock;
use crate::exit::Exit;
use crate::explain::{clock, explain};
use crate::store::SqliteStore;

/// A day of UTC in milliseconds.
const DAY: i64 = 86_400_000;

#[derive(Args)]
pub(super) struct Explain {
    /// The workload, `NAME` or `NAMESPACE/NAME`; may be left out where there is only one.
    workload: Option<String>,
    /// The moment: `12:03` or `12:03:20` (UTC), `2026-01-05T12:03:20Z`, or `5m` for five minutes ago; up to
    /// the end of that second, or `12:03:20.125` for that very millisecond. Now without.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    at: Option<Moment>,
    /// Ask the recorded question again and compare the answer bit by bit.
    #[arg(long)]
    replay: bool,
    /// The engine's state folder.
    #[arg(long, value_name = "FOLDER", default_value = ".qscaler")]
    state: PathBuf,
    /// How the decision is written; `json` gives the recorded line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A moment as it is typed.
#[derive(Clone, Copy)]
enum Moment {
    Ago(Duration),
    Exact(Time),
    /// In milliseconds of this day, or of yesterday when it lies ahead.
    OfDay(Time),
}

impl Explain {
    pub(super) fn run(self) -> Exit {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result =
            runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(self.show()));
        result.unwrap_or_else(|error| {
            complain(&error);
            Exit::Failed
        })
    }

    async fn show(self) -> Result<Exit, String> {
        if !self.state.join("engine.db").exists() {
            return Err(format!(
                "{}: there is no record; name the engine's folder with --state",
                self.state.display()
            ));
        }
        let store = SqliteStore::open(&self.state).await.map_err(|error| error.to_string())?;
        let workload = self.workload(&store).await?;
        let now = wall_clock();
        let moment = self.at.map_or(now, |at| at.wall(now));
        let lines = store.recorded(&workload, moment, 1).await.map_err(|error| error.to_string())?;
        let Some(line) = lines.first() else {
            let first = store.recorded_after(&workload, moment).await.map_err(|error| error.to_string())?;
            let begins = first
                .first()
                .map_or("is empty".to_owned(), |line| format!("begins at {}", clock(line.question.wall)));
            complain(&format!(
                "{workload}: nothing was recorded up to {}; the record {begins}",
                clock(moment)
            ));
            return Ok(Exit::Problems);
        };
        let until = next_change(&store, line).await?;
        let document = store.recorded_rule(&line.rule_hash).await.map_err(|error| error.to_string())?;
        let rule = document.as_ref().and_then(|document| compile(0, document).0);
        match self.format {
            Format::Json => {
                say(&format!("{}\n", serde_json::to_string(line).map_err(|error| error.to_string())?));
            }
            Format::Human | Format::Github => say(&explain(line, rule.as_ref(), until)),
        }
        if !self.replay {
            return Ok(Exit::Good);
        }
        let document = document.ok_or("the rule of this decision is not in the record any more")?;
        let again = replay(line, &document).map_err(|error| error.to_string())?;
        if again == line.decision {
            complain("replay: the same decision, bit by bit");
            Ok(Exit::Good)
        } else {
            complain(&format!("replay: another decision: {}", again.reason));
            Ok(Exit::Problems)
        }
    }

    async fn workload(&self, store: &SqliteStore) -> Result<String, String> {
        let known = store.recorded_workloads().await.map_err(|error| error.to_string())?;
        let list = || known.join(", ");
        match (&self.workload, known.as_slice()) {
            (_, []) => Err("nothing is recorded yet".into()),
            (None, [one]) => Ok(one.clone()),
            (None, _) => Err(format!("name a workload: {}", list())),
            (Some(name), _) => {
                let full = if name.contains('/') { name.clone() } else { format!("default/{name}") };
                let found = known.iter().find(|it| **it == full || it.ends_with(&format!("/{name}")));
                found
                    .cloned()
                    .ok_or_else(|| format!("nothing is recorded of `{name}`; there are: {}", list()))
            }
        }
    }
}

impl Moment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(seconds) = unit::duration(text) {
            let ago = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            return Ok(Moment::Ago(ago));
        }
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return Ok(Moment::Exact(meant(timestamp.as_millisecond(), text)));
        }
        let time = text.trim_end_matches('Z').parse::<civil::Time>();
        let time =
            time.map_err(|_| "write `12:03`, `12:03:20`, `2026-01-05T12:03:20Z` or `5m`".to_owned())?;
        let since_midnight = time.duration_since(civil::Time::midnight());
        let milliseconds = i64::try_from(since_midnight.as_millis()).map_err(|error| error.to_string())?;
        Ok(Moment::OfDay(meant(milliseconds, text)))
    }

    fn wall(self, now: Time) -> Time {
        match self {
            Moment::Ago(ago) => now - ago,
            Moment::Exact(at) => at,
            Moment::OfDay(time) => {
                let midnight = now.0.div_euclid(DAY) * DAY;
                let today = Time(midnight + time.0);
                if today.0 > now.0 + 60_000 { Time(today.0 - DAY) } else { today }
            }
        }
    }
}

/// The moment that a text without fraction means: up to the end of that second.
fn meant(milliseconds: i64, text: &str) -> Time {
    Time(if text.contains('.') { milliseconds } else { milliseconds + 999 })
}

/// When the number or its reason changed after this line.
async fn next_change(store: &SqliteStore, line: &Line) -> Result<Option<Time>, String> {
    let later =
        store.recorded_after(&line.workload, line.question.wall).await.map_err(|error| error.to_string())?;
    let same = |other: &Line| {
        (other.decision.replicas, other.decision.because) == (line.decision.replicas, line.decision.because)
    };
    Ok(later.iter().find(|other| !same(other)).map(|other| other.question.wall))
}
