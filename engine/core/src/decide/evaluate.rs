//! Evaluates a rule's expressions over a question, and says why where one has no value.

use std::collections::BTreeMap;
use std::fmt;

use qscaler_cel::{Expression, Fault, FaultKind, Input, Value, Values};

use super::{Question, Shown};
use crate::rule::{OnError, Policy, Rule};
use crate::signal::Sample;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// This signal has not been measured yet.
    Missing(String),
    /// This signal cannot be read.
    Error {
        /// Its name.
        signal: String,
        /// Why.
        reason: String,
    },
    /// It has no result that is a number.
    Fault(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Missing(signal) => write!(f, "`{signal}` has not been measured yet"),
            Why::Error { signal, reason } => write!(f, "`{signal}` cannot be read: {reason}"),
            Why::Fault(text) => f.write_str(text),
        }
    }
}

/// A value, or why there is none.
pub(crate) type Known = Result<Value, Why>;

/// A rule's values over one question.
pub(super) struct Evaluation<'a> {
    rule: &'a Rule,
    slots: Slots,
    lets: BTreeMap<&'a str, Known>,
}

/// Values by slot, and why there is none where there is none.
pub(crate) struct Slots {
    pub(crate) values: Vec<Option<Value>>,
    pub(crate) why: Vec<Option<Why>>,
    pub(crate) wall_ms: i64,
}

impl Slots {
    pub(crate) fn new(known: Vec<Known>, wall_ms: i64) -> Self {
        Self {
            why: known.iter().map(|known| known.as_ref().err().cloned()).collect(),
            values: known.into_iter().map(Result::ok).collect(),
            wall_ms,
        }
    }

    pub(crate) fn set(&mut self, slot: usize, known: &Known) {
        self.values[slot] = known.as_ref().ok().cloned();
        self.why[slot] = known.as_ref().err().cloned();
    }

    pub(crate) fn evaluate(&self, expression: &Expression, what: impl Fn() -> String) -> Known {
        expression.evaluate(self).map_err(|fault| self.explain(&fault, what))
    }

    pub(crate) fn number(&self, expression: &Expression, name: &str) -> Result<f64, Why> {
        let value = self.evaluate(expression, || name.to_owned())?;
        value.number().ok_or_else(|| Why::Fault(format!("{name}: not a number")))
    }

    fn explain(&self, fault: &Fault, what: impl Fn() -> String) -> Why {
        match fault.kind {
            FaultKind::Absent(slot) => {
                let unknown = || Why::Missing(format!("input {slot}"));
                self.why.get(slot).and_then(Clone::clone).unwrap_or_else(unknown)
            }
            FaultKind::DivisionByZero(number) => Why::Fault(format!("{}: {number} divided by zero", what())),
            FaultKind::NotANumber(name) => {
                Why::Fault(format!("{}: the result of `{name}` is not a number", what()))
            }
            FaultKind::Infinite(name) => {
                Why::Fault(format!("{}: the result of `{name}` is infinite", what()))
            }
        }
    }
}

impl Values for Slots {
    fn input(&self, slot: usize) -> Option<&Value> {
        self.values.get(slot)?.as_ref()
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms
    }
}

impl<'a> Evaluation<'a> {
    pub(super) fn of(policy: &'a Policy, question: &Question) -> Self {
        let rule = &*policy.rule;
        let known: Vec<Known> =
            rule.inputs.iter().enumerate().map(|(slot, input)| know(policy, question, slot, input)).collect();
        let slots = Slots::new(known, question.wall.0);
        let mut evaluation = Self { rule, slots, lets: BTreeMap::new() };
        for (name, expression) in &rule.lets {
            let known = evaluation.evaluate(expression, || format!("let {name}"));
            if let Some(slot) =
                rule.inputs.iter().position(|input| matches!(input, Input::Let(it) if it == name))
            {
                evaluation.slots.set(slot, &known);
            }
            evaluation.lets.insert(name, known);
        }
        evaluation
    }

    fn evaluate(&self, expression: &Expression, what: impl Fn() -> String) -> Known {
        self.slots.evaluate(expression, what)
    }

    fn number(&self, expression: &Expression, name: &str) -> Result<f64, Why> {
        self.slots.number(expression, name)
    }

    pub(super) fn desired(&self) -> Result<f64, Why> {
        self.number(&self.rule.desired, "replicas.desired")
    }

    /// The least and the largest number of workers, rounded up and down.
    pub(super) fn bounds(&self) -> Result<(u32, u32), Why> {
        let min = self.number(&self.rule.min, "replicas.min")?;
        let max = self.number(&self.rule.max, "replicas.max")?;
        let whole = |number: f64| number.clamp(0.0, f64::from(u32::MAX)) as u32;
        Ok((whole(min.ceil()), whole(max.floor())))
    }

    pub(super) fn lets(&self) -> BTreeMap<String, Result<Shown, String>> {
        let shown = |(name, known): (&&str, &Known)| {
            ((*name).to_owned(), known.as_ref().map(Shown::from).map_err(ToString::to_string))
        };
        self.lets.iter().map(shown).collect()
    }

    /// What went wrong under `let`, whether or not the decision needed it.
    pub(super) fn problems(&self) -> Vec<String> {
        let faults = self.lets.values().filter_map(|known| known.as_ref().err());
        faults.filter(|why| matches!(why, Why::Fault(_))).map(ToString::to_string).collect()
    }
}

fn know(policy: &Policy, question: &Question, slot: usize, input: &Input) -> Known {
    match input {
        Input::Parameter(name) => {
            policy.params.get(name).cloned().ok_or_else(|| Why::Missing(format!("params.{name}")))
        }
        Input::Let(name) => Err(Why::Missing(name.clone())),
        Input::Signal(name) => read(policy, question, name).map(Value::Number),
        Input::Window(window) => {
            let text = window.to_string();
            if let Some(value) = question.windows.get(&text).copied().flatten() {
                return Ok(Value::Number(value));
            }
            // Nothing was fed: for the same reason for which the signal has no value now.
            let signal = policy.windows.get(&slot).map_or(text.as_str(), |(key, _)| key.signal.as_str());
            Err(read(policy, question, signal).err().unwrap_or(Why::Missing(text)))
        }
    }
}

/// The value of a signal: measured now, or lately where the rule goes on with the last one.
fn read(policy: &Policy, question: &Question, name: &str) -> Result<f64, Why> {
    let error = |reason: &str| Why::Error { signal: name.to_owned(), reason: reason.to_owned() };
    let (reason, last) = match question.signals.get(name) {
        Some(Sample::Value { value, .. }) => return Ok(*value),
        Some(Sample::Missing) | None => return Err(Why::Missing(name.to_owned())),
        Some(Sample::Stale { value, at }) => {
            ("its last measurement is too old".to_owned(), Some((*value, *at)))
        }
        Some(Sample::Error { reason, last }) => (reason.clone(), *last),
    };
    match (policy.rule.on_error, last) {
        (OnError::LastKnown(ttl), Some((value, at))) if question.at.since(at) <= ttl => Ok(value),
        _ => Err(error(&reason)),
    }
}
