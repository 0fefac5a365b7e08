//! From what is known to how many workers there should be, with every step on the way.
//!
//! The order is the HPA's: desired, tolerance, stabilization over the unstabilized history, rate
//! policies, bounds; outside the bounds the number is clamped at once. A [`Question`] holds all that
//! a decision rests on, so a stored one can be asked again and gives the same answer bit by bit.

pub mod behavior;
pub(crate) mod evaluate;
mod reason;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use qscaler_cel::Value;

use crate::document::workload::Pause;
use crate::rule::{OnError, Policy};
use crate::signal::Sample;
use crate::time::Time;

use behavior::History;
use evaluate::Evaluation;

pub use evaluate::Why;

/// Everything that a decision rests on, besides the rule's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// When, on the engine's timeline.
    pub at: Time,
    /// When, by the clock on the wall: for the calendar and for people.
    pub wall: Time,
    /// How many workers there will be when all open offers are claimed.
    pub current: u32,
    /// The signals that the rule uses.
    pub signals: BTreeMap<String, Sample>,
    /// What the rule's windows say; none where they hold no sample.
    pub windows: BTreeMap<String, Option<f64>>,
    /// What was asked for and done lately.
    pub history: History,
    /// A direction in which the owner wants no change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The workload or the engine is being stopped: all workers should leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
}

/// What settled the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Because {
    /// The rule's `desired`.
    Target,
    /// The change would be smaller than the tolerance.
    Tolerance,
    /// The stabilization window.
    Stabilization,
    /// A rate policy.
    Policy,
    /// The rule's minimum.
    Min,
    /// The rule's maximum.
    Max,
    /// A signal that is needed has not been measured yet.
    Missing,
    /// A signal that is needed cannot be read.
    SignalError,
    /// An expression has no value: a division by zero, or a result that is no number.
    Fault,
    /// The number is not known, and tasks wait: one worker at least.
    TasksWaiting,
    /// The owner has paused this direction.
    Paused,
    /// The workload or the engine is being stopped.
    Stopping,
}

/// One change of the number on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clamp {
    /// What changed it.
    pub because: Because,
    /// From.
    pub from: u32,
    /// To.
    pub to: u32,
    /// In words.
    pub note: String,
}

/// How many workers there should be, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// How many.
    pub replicas: u32,
    /// What settled it.
    pub because: Because,
    /// In one sentence.
    pub reason: String,
    /// What the rule's `desired` says, unrounded; none where it has no value.
    pub desired: Option<f64>,
    /// What goes into the history of recommendations; none where the rule recommends nothing.
    pub recommended: Option<u32>,
    /// The rule's own values.
    pub lets: BTreeMap<String, Result<Shown, String>>,
    /// Every change on the way, in order.
    pub clamps: Vec<Clamp>,
    /// What went wrong, in words, where it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A value as records keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shown {
    /// A number in its base unit.
    Number(f64),
    /// True or false.
    Truth(bool),
    /// A text.
    Text(String),
}

impl From<&Value> for Shown {
    fn from(value: &Value) -> Self {
        match value {
            Value::Number(number) => Shown::Number(*number),
            Value::Bool(truth) => Shown::Truth(*truth),
            Value::Text(text) => Shown::Text(text.to_string()),
        }
    }
}

/// A number that is a whole one but for the last bits stays what it was meant to be.
const FUZZ: f64 = 1e-9;

/// Decides. Total: whatever is missing or wrong, there is an answer, and it is never fewer workers
/// because something could not be known.
pub fn decide(policy: &Policy, question: &Question) -> Decision {
    let mut draft = Draft { number: question.current, clamps: vec![], problems: vec![] };
    let evaluation = Evaluation::of(policy, question);
    let bounds = evaluation.bounds();
    let desired = evaluation.desired();
    let mut recommended = None;
    match (&desired, &bounds) {
        (Ok(desired), Ok((min, max))) => {
            recommended = Some(draft.recommend(*desired, policy, question));
            draft.behave(policy, question);
            draft.bound(*min, *max);
        }
        (Err(why), _) | (_, Err(why)) => {
            draft.hold(why, policy, question);
            if let Ok((min, max)) = bounds {
                draft.bound(min, max);
            }
        }
    }
    draft.pause(question);
    draft.stop(question);
    let because = draft.clamps.last().map_or(Because::Target, |clamp| clamp.because);
    let mut decision = Decision {
        replicas: draft.number,
        because,
        reason: String::new(),
        desired: desired.ok(),
        recommended,
        lets: evaluation.lets(),
        clamps: draft.clamps,
        problems: [evaluation.problems(), draft.problems].concat(),
    };
    decision.reason = reason::sentence(&decision, question);
    decision
}

/// A decision in the making.
struct Draft {
    number: u32,
    clamps: Vec<Clamp>,
    problems: Vec<String>,
}

impl Draft {
    fn clamp(&mut self, because: Because, to: u32, note: impl Into<String>) {
        if to != self.number {
            self.clamps.push(Clamp { because, from: self.number, to, note: note.into() });
            self.number = to;
        }
    }

    /// Takes the rule's number, unless it is within the tolerance of the present one.
    fn recommend(&mut self, desired: f64, policy: &Policy, question: &Question) -> u32 {
        let current = f64::from(question.current);
        let rounded = (desired - FUZZ).ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
        self.number = rounded;
        let (up, down) = (policy.rule.up.tolerance, policy.rule.down.tolerance);
        if question.current > 0 && (up > 0.0 || down > 0.0) {
            let ratio = desired / current;
            if (1.0 - down..=1.0 + up).contains(&ratio) {
                let note = format!("{desired:.2} is within the tolerance of {}", question.current);
                self.clamp(Because::Tolerance, question.current, note);
            }
        }
        self.number
    }

    fn behave(&mut self, policy: &Policy, question: &Question) {
        let rule = &policy.rule;
        let asked = self.number;
        let stable = behavior::stabilize(
            &question.history,
            question.at,
            question.current,
            asked,
            (rule.up.window, rule.down.window),
        );
        if stable != asked {
            let falling = stable > asked;
            let window = if falling { rule.down.window } else { rule.up.window };
            let until = behavior::until(&question.history, question.at, window, stable);
            self.clamp(Because::Stabilization, stable, reason::held(window, until, question));
        }
        let (limited, note) =
            behavior::limit_rate(rule, &question.history, question.at, question.current, self.number);
        self.clamp(Because::Policy, limited, note);
    }

    fn bound(&mut self, min: u32, max: u32) {
        if min > max {
            self.problems.push(format!(
                "the least number of workers, {min}, is above the largest, {max}; the largest holds"
            ));
        }
        if self.number < min {
            self.clamp(Because::Min, min, format!("the minimum is {min}"));
        }
        if self.number > max {
            self.clamp(Because::Max, max, format!("the maximum is {max}"));
        }
    }

    /// Nothing is recommended: the present number, and what the rule says of such times.
    fn hold(&mut self, why: &Why, policy: &Policy, question: &Question) {
        self.number = question.current;
        self.problems.push(why.to_string());
        let because = match why {
            Why::Missing(_) => Because::Missing,
            Why::Error { .. } => Because::SignalError,
            Why::Fault(_) => Because::Fault,
        };
        self.clamps.push(Clamp { because, from: self.number, to: self.number, note: why.to_string() });
        if let (OnError::Floor(floor), Why::Error { .. }) = (policy.rule.on_error, why)
            && self.number < floor
        {
            self.clamp(
                Because::SignalError,
                floor,
                format!("the rule wants {floor} at least when a signal fails"),
            );
        }
        let waiting = question.signals.get("queue.length").and_then(Sample::value).unwrap_or(0.0) > 0.0;
        if waiting && self.number == 0 {
            self.clamp(Because::TasksWaiting, 1, "tasks wait");
        }
    }

    fn pause(&mut self, question: &Question) {
        let (rises, falls) = (self.number > question.current, self.number < question.current);
        let paused = match question.pause {
            Some(Pause::Up) => rises,
            Some(Pause::Down) => falls,
            Some(Pause::Both) => rises || falls,
            None => false,
        };
        if paused {
            self.clamp(Because::Paused, question.current, "the owner has paused this direction");
        }
    }

    fn stop(&mut self, question: &Question) {
        if question.stopping {
            let note = "being stopped: workers finish what they hold and leave".to_owned();
            self.clamps.push(Clamp { because: Because::Stopping, from: self.number, to: 0, note });
            self.number = 0;
        }
    }
}
