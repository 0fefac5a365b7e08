//! From a rule's document to the rule, with all of its problems at once.

mod sizing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value as Json;

use qscaler_cel::{Compiler, Expression, Kind, Parsed, Scope, Type, Value, parse, unit};

use super::policy::bounds_by_default;
use super::{By, DOWN_WINDOW, Direction, Drain, Limit, OnError, Parameter, Rule};
use crate::document::rule as document;
use crate::document::rule::{PolicyType, RuleDocument, RuleSpec};
use crate::document::scalar::{Expression as Text, Scalar};
use crate::document::sizing::Sizing;
use crate::hash::short;
use crate::problem::{Code, Finding, Place};
use crate::signal::{CONTAINER_SIGNALS, QUEUE_SIGNALS, SIGNALS};

/// Checks a rule. Warnings come with a rule, errors instead of one.
pub fn compile(index: usize, document: &RuleDocument) -> (Option<Rule>, Vec<Finding>) {
    let mut compilation = Compilation { index, findings: vec![], compiler: Compiler::new(Scope::default()) };
    let rule = compilation.rule(document);
    let failed =
        compilation.findings.iter().any(|finding| finding.severity == crate::problem::Severity::Error);
    (rule.filter(|_| !failed), compilation.findings)
}

struct Compilation {
    index: usize,
    findings: Vec<Finding>,
    compiler: Compiler,
}

impl Compilation {
    fn place(&self, pointer: &str) -> Place {
        Place::value(self.index, pointer)
    }

    fn rule(&mut self, document: &RuleDocument) -> Option<Rule> {
        let spec = &document.spec;
        let params = parameters(&spec.params);
        let names = scope(&params);
        self.compiler = Compiler::new(names.clone());
        let lets = self.lets("/spec/let", &spec.lets);
        let desired = self.expression("/spec/replicas/desired", &spec.replicas.desired, Some(Type::Number));
        let nothing = Text { text: "0".into(), literal: true };
        let min = self.expression(
            "/spec/replicas/min",
            spec.replicas.min.as_ref().unwrap_or(&nothing),
            Some(Type::Number),
        );
        let max = self.expression("/spec/replicas/max", &spec.replicas.max, Some(Type::Number));
        self.look_for_unused(spec);
        self.says_something(spec);
        let sizings = self.sizings(&names, lets.as_deref().unwrap_or_default(), &spec.resources);
        // Whoever changes a number that no rule decides means it at once.
        let window = if spec.replicas.is_as_it_is() { Duration::ZERO } else { DOWN_WINDOW };
        let (drain, on_error) = (self.drain(&spec.drain), self.on_error(spec.on_signal_error.as_deref()));
        let rule = Rule {
            name: document.metadata.name.clone(),
            hash: short(serde_json::to_string(document).unwrap_or_default().as_bytes()),
            document: document.clone(),
            selectors: spec.selectors.clone(),
            params,
            lets: lets?,
            desired: desired?,
            min: min?,
            max: max?,
            inputs: self.compiler.inputs().to_vec(),
            sizings: sizings?,
            up: direction(&spec.behavior.scale_up, Duration::ZERO),
            down: direction(&spec.behavior.scale_down, window),
            drain,
            on_error: on_error?,
        };
        self.check_bounds(&rule);
        Some(rule)
    }

    fn expression(&mut self, pointer: &str, written: &Text, wanted: Option<Type>) -> Option<Expression> {
        let parsed = self.parse(pointer, written)?;
        self.check(pointer, &parsed, wanted)
    }

    fn parse(&mut self, pointer: &str, written: &Text) -> Option<Parsed> {
        parse(&written.text).map_err(|problem| self.note(pointer, problem)).ok()
    }

    fn check(&mut self, pointer: &str, parsed: &Parsed, wanted: Option<Type>) -> Option<Expression> {
        let checked = self.compiler.check(parsed, wanted);
        checked.map_err(|problems| problems.into_iter().for_each(|problem| self.note(pointer, problem))).ok()
    }

    fn note(&mut self, pointer: &str, problem: qscaler_cel::Problem) {
        let help = container_help(pointer, &problem).or(problem.help);
        let place = Place { range: Some(problem.span), ..self.place(pointer) };
        let finding = Finding::error(problem.code.into(), place, problem.message);
        self.findings.push(finding.maybe_help(help));
    }

    /// Checks the values under `let` in an order in which each comes after those that it needs.
    fn lets(&mut self, base: &str, written: &BTreeMap<String, Text>) -> Option<Vec<(String, Expression)>> {
        let pointer = |name: &str| format!("{base}/{name}");
        let mut waiting: BTreeMap<String, Option<Parsed>> = BTreeMap::new();
        for (name, text) in written {
            self.check_name(name, &pointer(name));
            waiting.insert(name.clone(), self.parse(&pointer(name), text));
        }
        let mut done = vec![];
        let mut sound = true;
        while !waiting.is_empty() {
            let needs = |parsed: &Option<Parsed>| -> BTreeSet<String> {
                parsed
                    .iter()
                    .flat_map(Parsed::names)
                    .map(|(name, _)| name)
                    .filter(|name| waiting.contains_key(name))
                    .collect()
            };
            let Some(name) =
                waiting.iter().find(|(_, parsed)| needs(parsed).is_empty()).map(|(name, _)| name.clone())
            else {
                self.note_cycle(base, &waiting, needs);
                // What uses them is not wrong by itself.
                for name in waiting.keys() {
                    self.compiler.declare_let(name, Type::Number);
                }
                return None;
            };
            let checked =
                waiting.remove(&name).flatten().and_then(|parsed| self.check(&pointer(&name), &parsed, None));
            // What rests on a value that is wrong is not wrong by itself.
            self.compiler.declare_let(&name, checked.as_ref().map_or(Type::Number, Expression::of));
            match checked {
                Some(expression) => done.push((name, expression)),
                None => sound = false,
            }
        }
        sound.then_some(done)
    }

    fn note_cycle(
        &mut self,
        base: &str,
        waiting: &BTreeMap<String, Option<Parsed>>,
        needs: impl Fn(&Option<Parsed>) -> BTreeSet<String>,
    ) {
        // Follow the needs from any of them; sooner or later one comes again, and from there on it is the cycle.
        let mut path: Vec<String> = vec![];
        let mut at = waiting.keys().next().cloned();
        while let Some(name) = at.filter(|name| !path.contains(name)) {
            at = waiting.get(&name).and_then(|parsed| needs(parsed).into_iter().next());
            path.push(name);
        }
        let repeated = path.last().and_then(|last| needs(&waiting[last]).into_iter().next());
        let begin = path.iter().position(|name| Some(name) == repeated.as_ref()).unwrap_or(0);
        let cycle = &path[begin..];
        let place = self.place(&format!("{base}/{}", cycle[0]));
        let message = match cycle {
            [one] => format!("`{one}` needs itself"),
            several => format!("these need each other: {} -> {}", several.join(" -> "), several[0]),
        };
        self.findings
            .push(Finding::error(Code::Cycle, place, message).help("compute one of them without the others"));
    }

    fn check_name(&mut self, name: &str, pointer: &str) {
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let groups = CONTAINER_SIGNALS.iter().map(|signal| signal.name.split('.').next().unwrap_or_default());
        let of_containers = pointer.starts_with("/spec/resources")
            && groups.chain(["target", "request"]).any(|it| it == name);
        let taken = ["queue", "queues", "tasks", "workers", "params", "usage", "oom"].contains(&name)
            || of_containers;
        if good && !taken {
            return;
        }
        let message = if good {
            format!("`{name}` is a group of signals")
        } else {
            format!("`{name}` cannot be used in an expression")
        };
        let place = Place::key(self.index, pointer);
        self.findings.push(
            Finding::error(Code::Value, place, message)
                .help("use letters, digits and `_`, and a name of your own"),
        );
    }

    fn look_for_unused(&mut self, spec: &RuleSpec) {
        let replicas = &spec.replicas;
        let texts = spec.lets.values().chain([&replicas.desired, &replicas.max]).chain(&replicas.min);
        let texts = texts.chain(spec.resources.iter().flat_map(Sizing::expressions));
        let used: BTreeSet<String> = texts
            .filter_map(|text| parse(&text.text).ok())
            .flat_map(|parsed| parsed.names().into_keys())
            .collect();
        let params = spec
            .params
            .keys()
            .filter(|name| !used.contains(&format!("params.{name}")) && *name != "taskSeconds");
        let lets = spec.lets.keys().filter(|name| !used.contains(*name));
        let unused = params.map(|name| ("params", name)).chain(lets.map(|name| ("let", name)));
        for (group, name) in unused {
            let pointer = format!("/spec/{group}/{name}");
            if self.findings.iter().any(|finding| finding.place.pointer == pointer) {
                continue;
            }
            let place = Place::key(self.index, pointer);
            let finding = Finding::warning(Code::Suspicious, place, format!("nothing uses `{name}`"));
            self.findings.push(finding.help("use it or remove it"));
        }
    }

    fn says_something(&mut self, spec: &RuleSpec) {
        if spec.replicas.is_as_it_is() && spec.resources.is_empty() {
            let place = Place::key(self.index, "/spec");
            let finding = Finding::error(Code::MissingField, place, "the field `replicas` is missing");
            self.findings.push(
                finding
                    .help("add `replicas:` (how many workers), `resources:` (how large they are), or both"),
            );
        }
    }

    fn check_bounds(&mut self, rule: &Rule) {
        if let (Some(min), Some(max)) = bounds_by_default(rule)
            && min > max
        {
            let place = self.place("/spec/replicas/min");
            let message = format!("the least number of workers, {min}, is above the largest, {max}");
            self.findings
                .push(Finding::error(Code::Bounds, place, message).help("raise `max` or lower `min`"));
        }
    }

    fn drain(&mut self, written: &document::Drain) -> Drain {
        let deadline = written.deadline.as_deref().filter(|text| *text != "never");
        let deadline =
            deadline.and_then(unit::duration).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let all = Drain { deadline, at_once: By::Percent(100) };
        let Some(Scalar(at_once)) = &written.max_at_once else { return all };
        match By::read(at_once) {
            Some(at_once) => Drain { deadline, at_once },
            None => {
                let place = self.place("/spec/drain/maxAtOnce");
                let finding =
                    Finding::error(Code::Value, place, "`maxAtOnce` is neither a number nor a part");
                self.findings.push(finding.help("write something like `5` or `25%`"));
                all
            }
        }
    }

    fn on_error(&mut self, written: Option<&str>) -> Option<OnError> {
        let Some(written) = written.filter(|text| *text != "hold") else { return Some(OnError::Hold) };
        let inside = |name: &str| written.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let parsed = match (inside("lastKnown"), inside("floor")) {
            (Some(text), _) => unit::duration(text)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(OnError::LastKnown),
            (_, Some(text)) => text.parse().ok().map(OnError::Floor),
            _ => None,
        };
        if parsed.is_none() {
            let place = self.place("/spec/onSignalError");
            let finding = Finding::error(Code::Value, place, format!("`{written}` is not known"));
            self.findings.push(finding.help("write `hold`, `lastKnown(5m)` or `floor(2)`"));
        }
        parsed
    }
}

/// What to type where a name was found that only the other scope has.
fn container_help(pointer: &str, problem: &qscaler_cel::Problem) -> Option<String> {
    if problem.code != qscaler_cel::Code::UnknownName {
        return None;
    }
    let name = problem.message.split('`').nth(1)?;
    if pointer.starts_with("/spec/resources") {
        return match name {
            "request" => Some("`request` is known in `limit`; elsewhere write `target.memory.request` or `template.memory.request`".into()),
            _ if name.starts_with("target.") => Some("`target` is known in `when`".into()),
            _ => None,
        };
    }
    let known = CONTAINER_SIGNALS.iter().any(|signal| signal.name == name);
    known.then(|| format!("`{name}` is of a container: use it under `resources`"))
}

/// All names that a rule may use, besides its own values.
fn scope(params: &BTreeMap<String, Parameter>) -> Scope {
    let mut scope = Scope::default();
    for signal in QUEUE_SIGNALS.iter().chain(&SIGNALS) {
        scope.declare(signal.name, signal.of, Kind::Signal);
    }
    for signal in &QUEUE_SIGNALS {
        scope.declare_of_one_queue(signal.name.trim_start_matches("queue."), signal.of);
    }
    for (name, parameter) in params {
        scope.declare(format!("params.{name}"), parameter.of, Kind::Parameter);
    }
    scope
}

fn parameters(written: &BTreeMap<String, Scalar>) -> BTreeMap<String, Parameter> {
    let parameter = |(name, scalar): (&String, &Scalar)| {
        let (of, default) = typed(scalar);
        (name.clone(), Parameter { of, default })
    };
    written.iter().map(parameter).collect()
}

/// What a scalar is: the type of a parameter follows from how its value is written.
pub(super) fn typed(scalar: &Scalar) -> (Type, Value) {
    let number = |of, number| (of, Value::Number(number));
    match &scalar.0 {
        Json::Bool(truth) => (Type::Bool, Value::Bool(*truth)),
        Json::Number(value) => number(Type::Number, value.as_f64().unwrap_or(0.0)),
        Json::String(text) => {
            let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
            match (unit::duration(text), unit::bytes(text)) {
                (Some(seconds), _) if has_unit => number(Type::Duration, seconds),
                (_, Some(bytes)) if has_unit => number(Type::Bytes, bytes),
                _ => (Type::Text, Value::Text(text.as_str().into())),
            }
        }
        other => (Type::Text, Value::Text(other.to_string().into())),
    }
}

fn direction(written: &document::Direction, window: Duration) -> Direction {
    let limit = |policy: &document::Policy| Limit {
        period: policy.period.std(),
        by: match policy.of {
            PolicyType::Pods => By::Workers(policy.value),
            PolicyType::Percent => By::Percent(policy.value),
        },
    };
    Direction {
        window: written.stabilization_window.as_ref().map_or(window, crate::document::scalar::Duration::std),
        tolerance: written.tolerance.unwrap_or(0.0),
        select: written.select_policy.unwrap_or_default(),
        limits: written.policies.iter().map(limit).collect(),
    }
}
