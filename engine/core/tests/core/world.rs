//! Rules and questions for tests, in a few words.

use std::collections::BTreeMap;
use std::sync::Arc;

use qscaler_core::catalog::{Catalog, Found, Update};
use qscaler_core::decide::Question;
use qscaler_core::document::scalar::Scalar;
use qscaler_core::rule::{Policy, Rule};
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;

/// A file that was found.
pub(crate) fn file(path: &str, text: &str) -> Found {
    Found { path: path.into(), text: Ok(text.into()) }
}

/// A rule file whose `spec` is this.
pub(crate) fn rule_file(name: &str, spec: &str) -> Found {
    let spec = spec.trim_end().replace('\n', "\n  ");
    let head =
        format!("apiVersion: qscaler.dev/v1alpha1\nkind: ScalingRule\nmetadata: {{name: {name}}}\nspec:\n  ");
    file(&format!("{name}.yaml"), &format!("{head}{spec}\n"))
}

pub(crate) fn load(files: Vec<Found>) -> Update {
    Catalog::default().update(files)
}

/// The rule whose `spec` is this.
pub(crate) fn rule(spec: &str) -> Arc<Rule> {
    let update = load(vec![rule_file("tested", spec)]);
    let rule = update.catalog.rules().next().cloned();
    rule.unwrap_or_else(|| panic!("the rule does not compile: {:?}", update.problems))
}

/// The rule with its default parameters.
pub(crate) fn policy(spec: &str) -> Policy {
    Policy::bind(rule(spec), &BTreeMap::new()).unwrap()
}

/// The rule with these parameters.
pub(crate) fn policy_with(spec: &str, params: &[(&str, serde_json::Value)]) -> Policy {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), Scalar(value.clone()))).collect();
    Policy::bind(rule(spec), &params).unwrap()
}

/// A question in which so many workers are there and these signals were measured.
pub(crate) fn question(current: u32, signals: &[(&str, f64)]) -> Question {
    let now = Time(1_000_000);
    let measured = |(name, value): &(&str, f64)| ((*name).to_owned(), Sample::measured(*value, now));
    Question {
        at: now,
        wall: now,
        current,
        signals: signals.iter().map(measured).chain([current_signal(current, now)]).collect(),
        ..Question::default()
    }
}

fn current_signal(current: u32, now: Time) -> (String, Sample) {
    ("workers.current".to_owned(), Sample::measured(f64::from(current), now))
}
