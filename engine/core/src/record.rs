//! The decision record: what a decision rested on, what it was, and what was done, as one line of
//! JSON. A line can be asked again and gives the same decision bit by bit.
//!
//! Recorded is every change, and a heartbeat: between two lines the decision was that of the earlier
//! one. The format carries its own number; what a later version adds is ignored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_cel::{Input, Value};

use crate::decide::{Because, Decision, Question, Shown, decide};
use crate::document::rule::RuleDocument;
use crate::plan::Step;
use crate::rule::{Policy, Rule, compile};
use crate::time::Time;
use crate::vertical;

/// The format that this version writes.
const FORMAT: u32 = 1;
/// A line at least this often, also when nothing changes.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines are kept this long.
pub const KEPT: Duration = Duration::from_secs(3600);
/// And at most this many bytes of one workload.
pub const BYTES_MAX: u64 = 32 << 20;

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The format.
    pub format: u32,
    /// `namespace/name` of the workload.
    pub workload: String,
    /// The rule's name.
    pub rule: String,
    /// The rule's hash; its document is kept beside the record.
    pub rule_hash: String,
    /// The parameters.
    pub params: BTreeMap<String, Shown>,
    /// The hash of the memory that windows and history were read from.
    pub memory_hash: String,
    /// What the decision rested on.
    pub question: Question,
    /// The decision.
    pub decision: Decision,
    /// Whether it was to be carried out, or only shown.
    pub acts: bool,
    /// What was done.
    pub steps: Vec<Step>,
    /// How large the containers should be and what that rested on; none where the rule does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<(vertical::Question, vertical::Sizes)>,
}

/// Decides which ticks become lines.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    last: Option<(Time, String, u32, u32, Because, Vec<String>)>,
}

impl Recorder {
    /// Whether this tick is a change, or the heartbeat is due.
    pub fn wants(
        &mut self,
        policy: &Policy,
        question: &Question,
        decision: &Decision,
        steps: &[Step],
    ) -> bool {
        let now = (
            question.at,
            policy.rule.hash.clone(),
            question.current,
            decision.replicas,
            decision.because,
            decision.problems.clone(),
        );
        let same = self.last.as_ref().is_some_and(|(at, hash, current, replicas, because, problems)| {
            (hash, current, replicas, because, problems) == (&now.1, &now.2, &now.3, &now.4, &now.5)
                && question.at.since(*at) < HEARTBEAT
        });
        let wanted = !same || !steps.is_empty();
        if wanted {
            self.last = Some(now);
        }
        wanted
    }
}

impl Line {
    /// A line; of the signals only those that the rule uses.
    pub fn new(
        workload: &str,
        policy: &Policy,
        memory_hash: String,
        (question, decision): (&Question, &Decision),
        (acts, steps): (bool, Vec<Step>),
    ) -> Self {
        Self {
            format: FORMAT,
            workload: workload.to_owned(),
            rule: policy.rule.name.clone(),
            rule_hash: policy.rule.hash.clone(),
            params: policy.params.iter().map(|(name, value)| (name.clone(), Shown::from(value))).collect(),
            memory_hash,
            question: question.clone(),
            decision: decision.clone(),
            acts,
            steps,
            sizes: None,
        }
    }

    /// With how large the containers should be.
    pub fn with_sizes(mut self, sizes: Option<(vertical::Question, vertical::Sizes)>) -> Self {
        self.sizes = sizes;
        self
    }
}

/// Why a line cannot be asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrepeatable {
    /// Its rule is not the one that was given.
    #[error("the rule with hash {0} is not at hand")]
    OtherRule(String),
    /// The rule does not compile in this version.
    #[error("this version does not read the rule any more")]
    Rule,
    /// A later version wrote it.
    #[error("its format is {0}; this version reads up to {FORMAT}")]
    FromTheFuture(u32),
}

/// Asks the question of a line again, with the rule that decided then.
pub fn replay(line: &Line, document: &RuleDocument) -> Result<Decision, Unrepeatable> {
    Ok(decide(&policy_of(line, document)?, &line.question))
}

/// Asks a line again how large the containers should be; none where its rule did not say it.
pub fn replay_sizes(line: &Line, document: &RuleDocument) -> Result<Option<vertical::Sizes>, Unrepeatable> {
    let policy = policy_of(line, document)?;
    Ok(line.sizes.as_ref().map(|(question, _)| vertical::size(&policy, question)))
}

fn policy_of(line: &Line, document: &RuleDocument) -> Result<Policy, Unrepeatable> {
    if line.format > FORMAT {
        return Err(Unrepeatable::FromTheFuture(line.format));
    }
    let rule = compile(0, document).0.ok_or(Unrepeatable::Rule)?;
    if rule.hash != line.rule_hash {
        return Err(Unrepeatable::OtherRule(line.rule_hash.clone()));
    }
    Ok(with_values(rule, &line.params))
}

fn with_values(rule: Rule, params: &BTreeMap<String, Shown>) -> Policy {
    let value = |shown: &Shown| match shown {
        Shown::Number(number) => Value::Number(*number),
        Shown::Truth(truth) => Value::Bool(*truth),
        Shown::Text(text) => Value::Text(text.as_str().into()),
    };
    let params = params.iter().map(|(name, shown)| (name.clone(), value(shown))).collect();
    Policy::with_values(Arc::new(rule), params)
}

/// The signals that a rule reads, directly or through windows, and `queue.length`, which decides
/// whether tasks wait when nothing else is known.
pub fn used_signals(rule: &Rule) -> impl Iterator<Item = &str> {
    let of_containers = rule.sizings.iter().flat_map(|sizing| &sizing.inputs);
    let inputs = rule.inputs.iter().chain(of_containers).filter_map(|input| match input {
        Input::Signal(name) => Some(name.as_str()),
        Input::Window(window) => Some(window.signal.as_str()),
        Input::Parameter(_) | Input::Let(_) => None,
    });
    inputs.chain(["queue.length"])
}
