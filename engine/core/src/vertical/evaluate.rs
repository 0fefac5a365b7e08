//! The expressions of `resources` over one container.

use std::collections::BTreeMap;

use qscaler_cel::{Expression, Input, Value};

use super::{Asked, Held, Kill, Question, Resource, Resources};
use crate::decide::Shown;
use crate::decide::evaluate::{Known, Slots, Why};
use crate::rule::Policy;
use crate::rule::sizing::{Sizing, Windows};
use crate::signal::Sample;

/// The values of a container.
pub(super) struct Evaluation<'a> {
    sizing: &'a Sizing,
    slots: Slots,
    lets: BTreeMap<String, Known>,
}

/// Where the values come from.
struct Sight<'a> {
    policy: &'a Policy,
    windows: &'a Windows,
    question: &'a Question,
    asked: &'a Asked,
    /// The worker that is asked about; none where it is about all.
    held: Option<&'a Held>,
    /// The kill that is asked about; none for the last one.
    kill: Option<&'a Kill>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn of(
        policy: &'a Policy,
        (sizing, windows): (&'a Sizing, &'a Windows),
        (question, asked): (&'a Question, &'a Asked),
        (held, kill): (Option<&'a Held>, Option<&'a Kill>),
    ) -> Self {
        let sight = Sight { policy, windows, question, asked, held, kill };
        let inputs = sizing.inputs.iter().enumerate();
        let known = inputs.map(|(slot, input)| sight.know(slot, input)).collect();
        let slots = Slots::new(known, question.wall.0);
        let mut evaluation = Self { sizing, slots, lets: BTreeMap::new() };
        for (name, expression) in &sizing.lets {
            let known = evaluation.slots.evaluate(expression, || format!("let {name}"));
            evaluation.set(name, &known);
            evaluation.lets.insert(name.clone(), known);
        }
        evaluation
    }

    /// Gives a name its value.
    pub(super) fn set(&mut self, name: &str, known: &Known) {
        let is_it = |input: &Input| matches!(input, Input::Let(it) if it == name);
        if let Some(slot) = self.sizing.inputs.iter().position(is_it) {
            self.slots.set(slot, known);
        }
    }

    pub(super) fn set_number(&mut self, name: &str, value: Option<f64>) {
        self.set(name, &value.map(Value::Number).ok_or_else(|| Why::Missing(name.to_owned())));
    }

    pub(super) fn number(&self, expression: &Expression, name: &str) -> Result<f64, Why> {
        self.slots.number(expression, name)
    }

    pub(super) fn holds(&self, expression: &Expression, name: &str) -> Result<bool, Why> {
        let value = self.slots.evaluate(expression, || name.to_owned())?;
        Ok(value == Value::Bool(true))
    }

    pub(super) fn shown(&self) -> BTreeMap<String, Result<Shown, String>> {
        let shown = |known: &Known| known.as_ref().map(Shown::from).map_err(ToString::to_string);
        self.lets.iter().map(|(name, known)| (name.clone(), shown(known))).collect()
    }

    /// What went wrong under `let`.
    pub(super) fn problems(&self) -> Vec<String> {
        let faults = self.lets.values().filter_map(|known| known.as_ref().err());
        faults.filter(|why| matches!(why, Why::Fault(_))).map(ToString::to_string).collect()
    }
}

impl Sight<'_> {
    fn know(&self, slot: usize, input: &Input) -> Known {
        let missing = |name: &str| Why::Missing(name.to_owned());
        match input {
            Input::Parameter(name) => {
                self.policy.params.get(name).cloned().ok_or_else(|| missing(&format!("params.{name}")))
            }
            // The container's own follow as they are computed.
            Input::Let(name) => match self.question.lets.get(name) {
                Some(Ok(Shown::Number(number))) => Ok(Value::Number(*number)),
                Some(Ok(Shown::Truth(truth))) => Ok(Value::Bool(*truth)),
                Some(Ok(Shown::Text(text))) => Ok(Value::Text(text.as_str().into())),
                Some(Err(why)) => Err(Why::Fault(why.clone())),
                None => Err(missing(name)),
            },
            Input::Signal(name) => self.signal(name).map(Value::Number),
            Input::Window(window) => {
                let text = window.to_string();
                if let Some(value) = self.asked.windows.get(&text).copied().flatten() {
                    return Ok(Value::Number(value));
                }
                let signal = self.windows.get(&slot).map_or(text.as_str(), |(key, _)| key.signal.as_str());
                Err(self.signal(signal).err().unwrap_or(Why::Missing(text)))
            }
        }
    }

    fn signal(&self, name: &str) -> Result<f64, Why> {
        let missing = || Why::Missing(name.to_owned());
        let seconds = |since| self.question.at.since(since).as_secs_f64();
        let kill = self.kill.or(self.asked.kills.last());
        let known = match name.split_once('.') {
            Some(("template", rest)) => read(&self.asked.template, rest),
            Some(("current", rest)) => read(&self.current(), rest),
            Some(("oom", "limit")) => kill.map(|kill| kill.limit),
            Some(("oom", "age")) => kill.map(|kill| seconds(kill.at)),
            Some(("oom", "count")) => Some(f64::from(self.asked.killed)),
            None if name == "containers" => Some(f64::from(self.question.together.max(1))),
            None if name == "age" => {
                let since = |held: &Held| held.since;
                let newest = || self.asked.runs.iter().map(since).max();
                self.held.map(since).or_else(newest).map(seconds)
            }
            _ => {
                let own = self.asked.signals.get(name);
                match own.or_else(|| self.question.signals.get(name)) {
                    Some(Sample::Value { value, .. }) => Some(*value),
                    Some(Sample::Error { reason, .. }) => {
                        return Err(Why::Error { signal: name.to_owned(), reason: reason.clone() });
                    }
                    Some(Sample::Stale { .. }) => {
                        let reason = "its last measurement is too old".to_owned();
                        return Err(Why::Error { signal: name.to_owned(), reason });
                    }
                    Some(Sample::Missing) | None => None,
                }
            }
        };
        known.ok_or_else(missing)
    }

    fn current(&self) -> Resources {
        self.held.map_or_else(|| self.asked.before(), |held| held.current)
    }
}

fn read(resources: &Resources, name: &str) -> Option<f64> {
    match name {
        "cpu.request" => resources.cpu.request,
        "cpu.limit" => resources.cpu.limit,
        "memory.request" => resources.memory.request,
        "memory.limit" => resources.memory.limit,
        _ => None,
    }
}

impl Asked {
    /// What the container has: what was answered last, else the most that a worker has, else the template's.
    pub(super) fn before(&self) -> Resources {
        let most = |resource: Resource| {
            let request = |held: &Held| held.current.of(resource).request;
            let larger =
                |a: &&Held, b: &&Held| request(a).unwrap_or(0.0).total_cmp(&request(b).unwrap_or(0.0));
            self.runs.iter().max_by(larger).map(|held| held.current.of(resource)).filter(|it| !it.is_empty())
        };
        let of = |resource: Resource| {
            let last = self.last.map(|last| last.of(resource)).filter(|amounts| !amounts.is_empty());
            last.or_else(|| most(resource)).unwrap_or_else(|| self.template.of(resource))
        };
        Resources { cpu: of(Resource::Cpu), memory: of(Resource::Memory) }
    }
}
