//! A rule with the parameters of one workload: what is evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use qscaler_cel::{Constant, Input, Type, Value, Values, WindowFunction, closest};

use super::compile::typed;
use super::sizing::Windows;
use super::{Parameter, Rule};
use crate::document::scalar::Scalar;

/// A rule with the parameters of one workload.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Its parameters, every one.
    pub params: BTreeMap<String, Value>,
    /// The windows that it reads, by slot of the rule's inputs.
    pub windows: Windows,
    /// The windows that each entry of `resources` reads, by slot of the entry's inputs.
    pub sizing_windows: Vec<Windows>,
}

/// What makes two windows one: kept by what they are, never by where a rule has them, so that an edit
/// of the rule keeps their memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowKey {
    /// The signal.
    pub signal: String,
    /// PromQL's name of the function.
    pub function: String,
    /// How far it reaches back, in milliseconds.
    pub length_ms: u64,
}

/// A parameter that does not fit the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Its name.
    pub param: String,
    /// What is wrong.
    pub message: String,
    /// What to type instead.
    pub help: Option<String>,
}

/// The shortest and longest window, in milliseconds.
const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=31 * 86_400_000;

impl Policy {
    /// Puts a workload's parameters in. All misfits at once.
    pub fn bind(rule: Arc<Rule>, written: &BTreeMap<String, Scalar>) -> Result<Self, Vec<Misfit>> {
        let mut params: BTreeMap<String, Value> =
            rule.params.iter().map(|(name, parameter)| (name.clone(), parameter.default.clone())).collect();
        let mut misfits = vec![];
        for (name, scalar) in written {
            match fit(&rule, name, scalar) {
                Ok(value) => {
                    params.insert(name.clone(), value);
                }
                Err(misfit) => misfits.push(misfit),
            }
        }
        let policy = Self::with_values(rule, params);
        misfits.extend(policy.misfitting_windows());
        if misfits.is_empty() { Ok(policy) } else { Err(misfits) }
    }

    /// A rule with parameters that were bound before.
    pub fn with_values(rule: Arc<Rule>, params: BTreeMap<String, Value>) -> Self {
        let number = |constant: &Constant| match constant {
            Constant::Literal(number) => *number,
            Constant::Parameter(name) => params.get(name).and_then(Value::number).unwrap_or(0.0),
        };
        let windows_of = |inputs: &[Input]| -> Windows {
            let window = |(slot, input): (usize, &Input)| {
                let Input::Window(window) = input else { return None };
                let key = WindowKey {
                    signal: window.signal.clone(),
                    function: function_name(window.function),
                    length_ms: (number(&window.length) * 1000.0) as u64,
                };
                Some((slot, (key, window.argument.as_ref().map(number))))
            };
            inputs.iter().enumerate().filter_map(window).collect()
        };
        let windows = windows_of(&rule.inputs);
        let sizing_windows = rule.sizings.iter().map(|sizing| windows_of(&sizing.inputs)).collect();
        Self { rule, params, windows, sizing_windows }
    }

    /// Windows whose length, which a parameter sets, cannot be.
    fn misfitting_windows(&self) -> Vec<Misfit> {
        let misfit = |inputs: &[Input], slot: usize, key: &WindowKey| {
            let Some(Input::Window(window)) = inputs.get(slot) else { return None };
            if WINDOW_MS.contains(&key.length_ms) || window.function == WindowFunction::MaxEver {
                return None;
            }
            let param =
                if let Constant::Parameter(name) = &window.length { name.clone() } else { String::new() };
            let message = format!("`{window}` is {}ms long; a window is 1s to 31d long", key.length_ms);
            Some(Misfit { param, message, help: None })
        };
        let of_sizings = self.rule.sizings.iter().map(|sizing| &sizing.inputs).zip(&self.sizing_windows);
        let all = std::iter::once((&self.rule.inputs, &self.windows)).chain(of_sizings);
        all.flat_map(|(inputs, windows)| windows.iter().map(move |(slot, (key, _))| (inputs, *slot, key)))
            .filter_map(|(inputs, slot, key)| misfit(inputs, slot, key))
            .collect()
    }

    /// What a task is taken to last until some have been measured, in seconds.
    pub fn task_seconds(&self) -> f64 {
        self.params
            .get("taskSeconds")
            .and_then(Value::number)
            .filter(|seconds| *seconds > 0.0)
            .unwrap_or(10.0)
    }
}

/// The name under which a window's memory is kept.
pub(crate) fn function_name(function: WindowFunction) -> String {
    match function {
        // They read one histogram.
        WindowFunction::DecayingQuantile
        | WindowFunction::DecayingSamples
        | WindowFunction::DecayingLifespan => "decaying".to_owned(),
        WindowFunction::DecayingPeakQuantile => "decayingpeak".to_owned(),
        plain => format!("{plain:?}").to_lowercase(),
    }
}

fn fit(rule: &Rule, name: &str, scalar: &Scalar) -> Result<Value, Misfit> {
    let misfit = |message: String, help: Option<String>| Misfit { param: name.to_owned(), message, help };
    let Some(Parameter { of, default }) = rule.params.get(name) else {
        let known: Vec<_> = rule.params.keys().map(String::as_str).collect();
        let help = match closest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => "remove it".to_owned(),
            None => format!("it has {}", known.join(", ")),
        };
        return Err(misfit(format!("the rule `{}` has no parameter `{name}`", rule.name), Some(help)));
    };
    let (found, value) = typed(scalar);
    // A number written for a text is that text; anything else of another type is a mistake.
    match (of, found) {
        (wanted, found) if *wanted == found => Ok(value),
        (Type::Text, _) => Ok(Value::Text(scalar.0.to_string().into())),
        (wanted, found) => {
            let shown = match (wanted, default) {
                (Type::Duration, Value::Number(seconds)) => qscaler_cel::unit::write_duration(*seconds),
                (_, default) => default.to_string(),
            };
            Err(misfit(
                format!("`{name}` is {wanted}; this is {found}"),
                Some(format!("write something like `{shown}`")),
            ))
        }
    }
}

/// The bounds of a rule with its own parameters, where they need nothing else.
pub(super) fn bounds_by_default(rule: &Rule) -> (Option<f64>, Option<f64>) {
    let values: Vec<Option<Value>> = rule
        .inputs
        .iter()
        .map(|input| match input {
            Input::Parameter(name) => rule.params.get(name).map(|parameter| parameter.default.clone()),
            Input::Signal(_) | Input::Let(_) | Input::Window(_) => None,
        })
        .collect();
    let only_params = OnlyParams(values);
    let number = |expression: &qscaler_cel::Expression| {
        expression.evaluate(&only_params).ok().and_then(|value| value.number())
    };
    (number(&rule.min), number(&rule.max))
}

struct OnlyParams(Vec<Option<Value>>);

impl Values for OnlyParams {
    fn input(&self, slot: usize) -> Option<&Value> {
        self.0.get(slot)?.as_ref()
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}
