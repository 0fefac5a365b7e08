//! Golden tests: a timeline of measurements, and what a rule should decide along it. They run the same
//! feeding, deciding and remembering as the engine, so a rule that passes here decides so there.

mod containers;
mod series;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qscaler_cel::closest;

use crate::decide::{Decision, Question, decide};
use crate::document::test::{Case, Expectation, TestDocument};
use crate::memory::{Done, Memory};
use crate::problem::{Code, Finding, Place};
use crate::rule::{Policy, Rule};
use crate::signal::{QUEUE_SIGNALS, SIGNALS, Sample};
use crate::time::Time;
use crate::vertical::Sizes;

use containers::Containers;
use series::{Series, Spot};

pub use update::{Edit, apply};

/// The time between two decisions where a case does not say.
const EVERY: Duration = Duration::from_secs(1);
/// When a case begins where it does not say: Monday 2026-01-05 00:00 in UTC.
const START: Time = Time(1_767_571_200_000);
/// A case has at most this many decisions.
const STEPS_MAX: u128 = 100_000;

/// How one case went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// The rule's name.
    pub rule: String,
    /// What does not hold; empty when all does.
    pub findings: Vec<Finding>,
    /// What would have to be written for all to hold.
    pub edits: Vec<Edit>,
}

/// Runs all cases of a document. `beside` are the rules of the file beside it, `all` those that a case
/// may name.
pub fn run(index: usize, document: &TestDocument, beside: &[Arc<Rule>], all: &[Arc<Rule>]) -> Vec<Outcome> {
    let run_one = |(place, case): (usize, &Case)| {
        let pointer = format!("/tests/{place}");
        let run = Run { index, pointer, case };
        match run.prepare(beside, all) {
            Ok((policy, series)) => run.play(&policy, &series),
            Err(findings) => {
                Outcome { name: case.name.clone(), rule: run.rule_name(beside), findings, edits: vec![] }
            }
        }
    };
    document.tests.iter().enumerate().map(run_one).collect()
}

struct Run<'a> {
    index: usize,
    pointer: String,
    case: &'a Case,
}

type AllSeries = BTreeMap<String, Series>;

impl Run<'_> {
    fn finding(&self, pointer: &str, message: impl Into<String>) -> Finding {
        Finding::error(Code::Test, Place::value(self.index, format!("{}{pointer}", self.pointer)), message)
    }

    fn prepare(&self, beside: &[Arc<Rule>], all: &[Arc<Rule>]) -> Result<(Policy, AllSeries), Vec<Finding>> {
        let rule = self.rule(beside, all).map_err(|finding| vec![finding])?;
        let mut findings = vec![];
        let policy = Policy::bind(Arc::clone(&rule), &self.case.params).map_err(|misfits| {
            let finding = |misfit: crate::rule::Misfit| {
                let mut finding = self.finding(&format!("/params/{}", misfit.param), misfit.message);
                finding.place.key = !rule.params.contains_key(&misfit.param);
                finding.maybe_help(misfit.help)
            };
            misfits.into_iter().map(finding).collect::<Vec<_>>()
        });
        let mut all_series = AllSeries::new();
        for (name, written) in &self.case.signals {
            let pointer = format!("/signals/{}", name.replace('~', "~0").replace('/', "~1"));
            if let Err(finding) = self.known_signal(name, &pointer) {
                findings.push(finding);
            }
            let text = written.0.as_str().map_or_else(|| written.0.to_string(), str::to_owned);
            match series::parse(&text) {
                Ok(series) => {
                    all_series.insert(name.clone(), series);
                }
                Err((range, message)) => {
                    let mut finding = self.finding(&pointer, message);
                    finding.place.range = Some(range);
                    findings.push(
                        finding.help(
                            "write something like `0 0 400`, `0+10x5`, `400x8`, `_`, `stale` or `error`",
                        ),
                    );
                }
            }
        }
        match policy {
            Ok(policy) if findings.is_empty() => Ok((policy, all_series)),
            Ok(_) => Err(findings),
            Err(misfits) => Err([misfits, findings].concat()),
        }
    }

    fn rule(&self, beside: &[Arc<Rule>], all: &[Arc<Rule>]) -> Result<Arc<Rule>, Finding> {
        match (&self.case.rule, beside) {
            (None, [one]) => Ok(Arc::clone(one)),
            (None, []) => {
                let finding = self.finding("/name", "there is no rule in the file beside this one");
                Err(finding.help("name one: `rule: NAME`"))
            }
            (None, several) => {
                let finding = self.finding("/name", "there are several rules in the file beside this one");
                Err(finding.help(format!("name one: `rule: {}`", several[0].name)))
            }
            (Some(name), _) => all.iter().find(|rule| rule.name == *name).cloned().ok_or_else(|| {
                let meant = closest(name, all.iter().map(|rule| rule.name.as_str()));
                let finding = self.finding("/rule", format!("there is no rule `{name}`"));
                finding.maybe_help(meant.map(|meant| format!("did you mean `{meant}`?")))
            }),
        }
    }

    /// The rule that is meant, whether or not it is there.
    fn rule_name(&self, beside: &[Arc<Rule>]) -> String {
        let of_one = if let [one] = beside { one.name.clone() } else { "?".to_owned() };
        self.case.rule.clone().unwrap_or(of_one)
    }

    fn known_signal(&self, name: &str, pointer: &str) -> Result<(), Finding> {
        let known = || QUEUE_SIGNALS.iter().chain(&SIGNALS).map(|signal| signal.name);
        if containers::of_container(name).is_some() {
            return Ok(());
        }
        let of_one = |name: &str| {
            let field =
                name.strip_prefix("queues['").and_then(|rest| rest.split_once("'].")).map(|(_, field)| field);
            field.is_some_and(|field| {
                QUEUE_SIGNALS.iter().any(|signal| signal.name == format!("queue.{field}"))
            })
        };
        if known().any(|it| it == name) || of_one(name) {
            return Ok(());
        }
        let place = Place::key(self.index, format!("{}{pointer}", self.pointer));
        let finding = Finding::error(Code::Test, place, format!("there is no signal `{name}`"));
        Err(finding.maybe_help(closest(name, known()).map(|meant| format!("did you mean `{meant}`?"))))
    }

    fn play(&self, policy: &Policy, series: &AllSeries) -> Outcome {
        let every = self
            .case
            .every
            .as_ref()
            .map_or(EVERY, crate::document::scalar::Duration::std)
            .max(Duration::from_millis(1));
        let start = self.case.start.as_deref().and_then(parse_utc).unwrap_or(START);
        let mut outcome = Outcome {
            name: self.case.name.clone(),
            rule: policy.rule.name.clone(),
            findings: vec![],
            edits: vec![],
        };
        let last = self.case.expect.iter().map(|expectation| expectation.at.std()).max().unwrap_or_default();
        let steps = last.as_nanos() / every.as_nanos();
        if steps > STEPS_MAX {
            let message = format!("this case has {steps} decisions; the limit is {STEPS_MAX}");
            outcome.findings.push(self.finding("/expect", message).help("choose a longer `every`"));
            return outcome;
        }
        let mut world = World {
            memory: Memory::default(),
            current: self.case.workers.unwrap_or(0),
            containers: Containers::of(self.case),
        };
        for step in 0..=u32::try_from(steps).unwrap_or(u32::MAX) {
            let passed = every * step;
            let (decision, sizes) = world.tick(policy, series, step as usize, start + passed);
            for (place, expectation) in self.case.expect.iter().enumerate() {
                // Between two decisions the earlier one holds.
                if expectation.at.std() >= passed && expectation.at.std() < passed + every {
                    self.compare(place, expectation, &decision, &mut outcome);
                    self.compare_sizes(place, expectation, sizes.as_ref(), &mut outcome);
                }
            }
        }
        outcome
    }

    fn compare(&self, place: usize, expected: &Expectation, decision: &Decision, outcome: &mut Outcome) {
        let at = &expected.at.0;
        let pointer = |field: &str| format!("/expect/{place}/{field}");
        let mut edit = |field: &str, value: String| {
            outcome.edits.push(Edit {
                index: self.index,
                pointer: format!("{}{}", self.pointer, pointer(field)),
                value,
            });
        };
        let because = crate::document::test::because_text(decision.because);
        if let Some(replicas) = expected.replicas.filter(|replicas| *replicas != decision.replicas) {
            edit("replicas", decision.replicas.to_string());
            let message = format!("at {at} the rule decides {} and not {replicas}", decision.replicas);
            outcome.findings.push(self.finding(&pointer("replicas"), message).help(decision.reason.clone()));
        }
        if let Some(wanted) = expected.because.filter(|wanted| *wanted != decision.because) {
            edit("because", because.clone());
            let wanted = crate::document::test::because_text(wanted);
            let message = format!("at {at} `{because}` settles the number and not `{wanted}`");
            outcome.findings.push(self.finding(&pointer("because"), message).help(decision.reason.clone()));
        }
    }
}

/// The rule's world: workers follow decisions at once.
struct World {
    memory: Memory,
    current: u32,
    containers: Containers,
}

impl World {
    fn tick(
        &mut self,
        policy: &Policy,
        series: &AllSeries,
        step: usize,
        now: Time,
    ) -> (Decision, Option<Sizes>) {
        let signals = self.signals(policy, series, step, now);
        let current =
            signals.get("workers.current").and_then(Sample::value).map_or(self.current, |it| it as u32);
        self.memory.resume(policy, current, now);
        self.memory.feed(policy, &signals, now);
        let question = Question {
            at: now,
            wall: now,
            current,
            windows: self.memory.read(policy, now),
            signals,
            history: self.memory.history.clone(),
            pause: None,
            stopping: false,
        };
        let decision = decide(policy, &question);
        let done = Done {
            added: decision.replicas.saturating_sub(current),
            removed: current.saturating_sub(decision.replicas),
        };
        self.memory.remember(policy, &decision, done, now);
        let sizes = (!policy.rule.sizings.is_empty()).then(|| {
            self.containers.look(series, step, current, now);
            let about = (&question.signals, &decision);
            self.containers.size(policy, &mut self.memory, about, now)
        });
        self.current = decision.replicas;
        (decision, sizes)
    }

    fn signals(
        &self,
        policy: &Policy,
        series: &AllSeries,
        step: usize,
        now: Time,
    ) -> BTreeMap<String, Sample> {
        let mut signals = BTreeMap::new();
        let workers = f64::from(self.current);
        for (name, value) in [
            ("workers.current", workers),
            ("workers.ready", workers),
            ("workers.slots", 1.0),
            ("workers.starting", 0.0),
            ("workers.draining", 0.0),
            ("workers.failing", 0.0),
            ("workers.startSeconds", 2.0),
        ] {
            signals.insert(name.to_owned(), Sample::measured(value, now));
        }
        for name in ["mean", "p50", "p95", "p99"] {
            signals.insert(format!("tasks.seconds.{name}"), Sample::measured(policy.task_seconds(), now));
        }
        for (name, series) in series {
            let last = || series.last_value(step);
            let sample = match series.at(step) {
                Spot::Value(value) => Sample::measured(value, now),
                Spot::Missing => Sample::Missing,
                Spot::Stale => Sample::Stale { value: last().unwrap_or(0.0), at: now },
                Spot::Error => Sample::Error {
                    reason: "the test says so".into(),
                    last: last().map(|value| (value, now)),
                },
            };
            signals.insert(name.clone(), sample);
        }
        signals
    }
}

/// Reads `2026-01-05T08:00:00Z`.
fn parse_utc(text: &str) -> Option<Time> {
    text.parse::<jiff::Timestamp>().ok().map(|timestamp| Time(timestamp.as_millisecond()))
}
