//! A rule that was checked: nothing in it is optional or can be of the wrong type any more.

mod compile;
mod policy;
pub mod sizing;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use qscaler_cel::{Expression, Input, Type, Value};

use crate::document::rule::{RuleDocument, SelectPolicy, Selector};

pub use compile::compile;
pub use policy::{Misfit, Policy, WindowKey};

/// A checked rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// SHA-256 of its document as JSON, the first 16 hexadecimal digits. Comments and layout do not count.
    pub hash: String,
    /// The document that it was made from.
    pub document: RuleDocument,
    /// The workloads that get it when they name none.
    pub selectors: Vec<Selector>,
    /// Its parameters.
    pub params: BTreeMap<String, Parameter>,
    /// Its values under `let`, each after those that it needs.
    pub lets: Vec<(String, Expression)>,
    /// How many workers.
    pub desired: Expression,
    /// How many at least.
    pub min: Expression,
    /// How many at most.
    pub max: Expression,
    /// What its expressions are evaluated over.
    pub inputs: Vec<Input>,
    /// How large the containers are; empty where the template says it.
    pub sizings: Vec<sizing::Sizing>,
    /// How fast the number may rise.
    pub up: Direction,
    /// How fast it may fall.
    pub down: Direction,
    /// How workers leave.
    pub drain: Drain,
    /// What holds when a signal cannot be read.
    pub on_error: OnError,
}

/// A parameter of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The type of its default.
    pub of: Type,
    /// Its default.
    pub default: Value,
}

/// How fast the number may change in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// What was asked for during this time is looked at.
    pub window: Duration,
    /// A change by less than this part of the present number is not made.
    pub tolerance: f64,
    /// Which of several limits holds.
    pub select: SelectPolicy,
    /// By how much the number may change.
    pub limits: Vec<Limit>,
}

/// By how much the number may change during a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The period.
    pub period: Duration,
    /// By how much.
    pub by: By,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    /// Workers.
    Workers(u32),
    /// Per cent of the workers at the begin of the period.
    Percent(u32),
}

impl By {
    /// Reads what is written as a number, or as a part: `5` or `"25%"`.
    pub fn read(written: &Json) -> Option<Self> {
        match written {
            Json::Number(number) => number.as_u64().and_then(|it| u32::try_from(it).ok()).map(By::Workers),
            Json::String(text) => text.strip_suffix('%').and_then(|it| it.parse().ok()).map(By::Percent),
            _ => None,
        }
    }
}

/// How workers leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    /// How long an offer may stay unclaimed before a worker is ended for it; for ever without.
    pub deadline: Option<Duration>,
    /// How many may be asked at once.
    pub at_once: By,
}

impl Drain {
    /// How many of `workers` may be asked at once: one at least, or no shrink would ever end.
    pub fn at_once_max(&self, workers: u32) -> u32 {
        match self.at_once {
            By::Workers(count) => count.max(1),
            By::Percent(percent) => {
                let part = (u64::from(workers) * u64::from(percent)).div_ceil(100);
                u32::try_from(part).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

/// What holds when a signal that is needed cannot be read. Never fewer workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnError {
    /// The present number.
    Hold,
    /// The last value for this long, then as `Hold`.
    LastKnown(Duration),
    /// The present number, but at least this many.
    Floor(u32),
}

/// The scale-down window of rules that do not set one. The best window is one to two start-up times
/// of a worker; five minutes, the HPA's, pays for idle workers (ski rental).
pub const DOWN_WINDOW: Duration = Duration::from_secs(30);
