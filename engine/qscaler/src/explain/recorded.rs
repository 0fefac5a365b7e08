//! What `explain` asks a record, and what it is told: the same whether the record lies in a folder or is
//! asked over HTTP.

use serde::{Deserialize, Serialize};

use qscaler_core::document::rule::RuleDocument;
use qscaler_core::record::Line;
use qscaler_core::time::Time;

use super::clock;
use crate::clock::wall_clock;
use crate::ports::{Asked, PortError};
use crate::store::SqliteStore;

/// Which decision is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `NAME` or `NAMESPACE/NAME`; may be left out where there is only one.
    pub workload: Option<String>,
    /// The decision that held then, by the wall clock; without, the one that holds now.
    pub at: Option<Time>,
}

/// A decision, and all that it takes to explain it and to ask for it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// The decision as it was recorded.
    pub line: Line,
    /// When another one took its place; none while it holds.
    pub replaced: Option<Time>,
    /// The rule that decided; none when it is not kept any more.
    pub rule: Option<RuleDocument>,
}

/// Why a record tells nothing. Each is a sentence for who has asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    /// It knows no such workload; there are these.
    #[error("{0}")]
    Unknown(String),
    /// It does not reach so far back.
    #[error("{0}")]
    Earlier(String),
    /// It cannot be read.
    #[error("{0}")]
    Failed(String),
}

impl From<PortError> for Silent {
    fn from(error: PortError) -> Self {
        Silent::Failed(error.to_string())
    }
}

impl Ask {
    /// As the query of a URL.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.workload.iter().map(|workload| ("workload", workload)));
        query.extend_pairs(self.at.iter().map(|at| ("at", at.0.to_string())));
        query.finish()
    }

    /// From the query of a URL.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut ask = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "workload" => ask.workload = Some(value.into_owned()),
                "at" => {
                    let at = value.parse().map_err(|_| "write `at` in milliseconds since 1970".to_owned())?;
                    ask.at = Some(Time(at));
                }
                other => return Err(format!("there is `workload` and `at`, and no `{other}`")),
            }
        }
        Ok(ask)
    }
}

/// Asks a record.
pub async fn ask(store: &SqliteStore, ask: &Ask) -> Result<Recorded, Silent> {
    let known = store.recorded_workloads().await?;
    let workload = meant(&known, ask.workload.as_deref()).map_err(Silent::Unknown)?;
    let moment = ask.at.unwrap_or_else(wall_clock);
    let lines = store.recorded(workload, moment, 1).await?;
    let Some(line) = lines.into_iter().next() else {
        let first = store.recorded_after(workload, moment).await?;
        let begins = first
            .first()
            .map_or("is empty".to_owned(), |line| format!("begins at {}", clock(line.question.wall)));
        let moment = clock(moment);
        return Err(Silent::Earlier(format!(
            "{workload}: nothing was recorded up to {moment}; the record {begins}"
        )));
    };
    let replaced = next_change(store, &line).await?;
    let rule = store.recorded_rule(&line.rule_hash).await?;
    Ok(Recorded { line, replaced, rule })
}

/// Which of the known workloads is meant.
fn meant<'a>(known: &'a [String], name: Option<&str>) -> Result<&'a String, String> {
    let Some(name) = name else {
        return match known {
            [] => Err("nothing is recorded yet".into()),
            [one] => Ok(one),
            _ => Err(format!("name a workload: {}", known.join(", "))),
        };
    };
    let full = if name.contains('/') { name.to_owned() } else { format!("default/{name}") };
    let of_any_namespace = || known.iter().filter(|it| it.ends_with(&format!("/{name}")));
    let found: Vec<_> = match known.iter().find(|it| **it == full) {
        Some(found) => vec![found],
        None => of_any_namespace().collect(),
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] if known.is_empty() => Err("nothing is recorded yet".into()),
        [] => Err(format!("nothing is recorded of `{name}`; there are: {}", known.join(", "))),
        several => {
            let several: Vec<_> = several.iter().map(|it| it.as_str()).collect();
            Err(format!("name the namespace, too: {}", several.join(", ")))
        }
    }
}

/// When the number or its reason changed after this line.
async fn next_change(store: &SqliteStore, line: &Line) -> Asked<Option<Time>> {
    let later = store.recorded_after(&line.workload, line.question.wall).await?;
    let same = |other: &Line| {
        (other.decision.replicas, other.decision.because) == (line.decision.replicas, line.decision.because)
    };
    Ok(later.iter().find(|other| !same(other)).map(|other| other.question.wall))
}
