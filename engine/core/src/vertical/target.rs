//! One container: what the rule asks for, what a kill asks for, bounds, limit, and whom to resize.

use qscaler_cel::unit::write_duration;

use super::amounts::{Bounds, in_ratio};
use super::evaluate::Evaluation;
use super::reason;
use super::{Amounts, Asked, ContainerKind, Held, Kill, Question, Resource, Settled, Sized, Target};
use crate::decide::evaluate::Why;
use crate::rule::Policy;
use crate::rule::sizing::{AmountRule, Sizing, Windows};

/// A container whose target is being made.
struct Draft<'a> {
    policy: &'a Policy,
    sizing: (&'a Sizing, &'a Windows),
    question: &'a Question,
    asked: &'a Asked,
    evaluation: Evaluation<'a>,
    problems: Vec<String>,
}

/// A request on its way.
struct Request {
    value: f64,
    because: Settled,
    note: String,
}

/// The target of a container.
pub(super) fn target(
    policy: &Policy,
    sizing: (&Sizing, &Windows),
    question: &Question,
    asked: &Asked,
) -> Target {
    let evaluation = Evaluation::of(policy, sizing, (question, asked), (None, None));
    let problems = evaluation.problems();
    let mut draft = Draft { policy, sizing, question, asked, evaluation, problems };
    let mut target = Target {
        cpu: draft.sized(Resource::Cpu),
        memory: draft.sized(Resource::Memory),
        ..Target::default()
    };
    target.resize = draft.due(&target);
    target.lets = draft.evaluation.shown();
    target.problems = draft.problems;
    let sentence = |resource| {
        let sized: &Sized = target.of(resource)?;
        Some(format!("{}: {}", reason::amounts(resource, sized.amounts), sized.note))
    };
    let parts: Vec<_> = [Resource::Memory, Resource::Cpu].into_iter().filter_map(sentence).collect();
    target.reason =
        if parts.is_empty() { "as the template says: nothing is known yet".into() } else { parts.join("; ") };
    target
}

fn name(resource: Resource, field: &str) -> String {
    format!("{}.{field}", resource.name())
}

impl Draft<'_> {
    fn sized(&mut self, resource: Resource) -> Option<Sized> {
        let rule = self.sizing.0.of(resource)?;
        // What a kill added fades by itself: it is not what a request is held at.
        let unkilled = self.asked.unkilled.filter(|_| resource == Resource::Memory);
        let before = unkilled.or(self.asked.before().of(resource).request);
        let asked = self.evaluation.number(&rule.request, &name(resource, "request"));
        let bounds = self.bounds(resource, rule);
        let mut request = match (&asked, &bounds) {
            (Ok(value), Ok(_)) => {
                let note = format!("the rule asks for {}", reason::written(resource, value.max(0.0)));
                Request { value: value.max(0.0), because: Settled::Target, note }
            }
            (Err(why), _) | (_, Err(why)) => {
                if !matches!(why, Why::Missing(_)) {
                    self.problems.push(why.to_string());
                }
                let nothing_known = self.asked.last.is_none_or(|last| last.of(resource).is_empty());
                if nothing_known && (resource == Resource::Cpu || self.asked.kills.is_empty()) {
                    return None;
                }
                let note = format!("held, because {why}");
                Request { value: before.unwrap_or(0.0), because: Settled::Unknown, note }
            }
        };
        let bounds = bounds.unwrap_or_default();
        self.watch(before, &mut request);
        let unkilled = request.value;
        if resource == Resource::Memory {
            self.floor(rule, bounds, &mut request);
        }
        request.bound(resource, bounds);
        let amounts = self.with_limit(resource, rule, request.value, bounds);
        Some(Sized { amounts, because: request.because, asked: asked.ok(), unkilled, note: request.note })
    }

    fn bounds(&mut self, resource: Resource, rule: &AmountRule) -> Result<Bounds, Why> {
        let number = |field: &str, expression: &Option<qscaler_cel::Expression>| {
            let number = expression.as_ref().map(|it| self.evaluation.number(it, &name(resource, field)));
            number.transpose()
        };
        let (min, max) = (number("min", &rule.min)?, number("max", &rule.max)?);
        let bounds = Bounds { min: min.map(|it| resource.up(it)), max: max.map(|it| resource.down(it)) };
        if let (Some(min), Some(max)) = (bounds.min, bounds.max)
            && min > max
        {
            let (min, max) = (reason::written(resource, min), reason::written(resource, max));
            self.problems
                .push(format!("the least amount, {min}, is above the largest, {max}; the largest holds"));
            return Ok(Bounds { min: bounds.max, max: bounds.max });
        }
        Ok(bounds)
    }

    /// Nothing is lowered before the longest window has been watched: what it has not seen may have
    /// been larger.
    fn watch(&self, before: Option<f64>, request: &mut Request) {
        let longest = self.sizing.0.longest_window_ms(self.sizing.1);
        let watched = self.asked.watched_since.map_or(0, |since| self.question.at.since(since).as_millis());
        let Some(before) = before.filter(|before| request.value < *before) else { return };
        if request.because == Settled::Target && watched < u128::from(longest) {
            let duration = |ms: f64| write_duration(ms / 1000.0);
            request.note = format!(
                "{}, and nothing is lowered before its use was watched for {}, {} of which have passed",
                request.note,
                duration(longest as f64),
                duration(watched as f64)
            );
            (request.value, request.because) = (before.max(request.value), Settled::NotWatched);
        }
    }

    /// Kills for want of memory: each asks for what `onOom` says, and what that adds fades by half in
    /// every half-life.
    fn floor(&mut self, rule: &AmountRule, bounds: Bounds, request: &mut Request) {
        let Some(on_oom) = &rule.on_oom else { return };
        let base = request.value;
        let memory = |value| reason::written(Resource::Memory, value);
        for kill in &self.asked.kills {
            let evaluation = self.of_kill(kill);
            let raised = match evaluation.number(on_oom, "memory.onOom") {
                Ok(raised) => raised,
                Err(why) => {
                    self.problems.push(why.to_string());
                    continue;
                }
            };
            let age = self.question.at.since(kill.at);
            let faded = libm::exp2(-age.as_secs_f64() / rule.oom_half_life.as_secs_f64().max(1e-3));
            let floor = base + (raised - base) * faded;
            if floor > request.value {
                request.value = floor;
                request.because = Settled::OutOfMemory;
                request.note = format!(
                    "killed for want of memory at {} {} ago, so {} at least, of which half of what is above {} fades every {}",
                    memory(kill.limit),
                    write_duration(age.as_secs_f64().round()),
                    memory(floor),
                    memory(base),
                    write_duration(rule.oom_half_life.as_secs_f64())
                );
            }
            if let Some(max) =
                bounds.max.filter(|max| kill.limit >= *max && Some(kill) == self.asked.kills.last())
            {
                self.problems.push(format!(
                    "killed for want of memory at {} {} ago, and `max` is {}: it gets no more; raise `max`, or give it less to do at once ({} kills so far)",
                    memory(kill.limit),
                    write_duration(age.as_secs_f64().round()),
                    memory(max),
                    self.asked.killed
                ));
            }
        }
    }

    fn of_kill<'b>(&'b self, kill: &'b Kill) -> Evaluation<'b> {
        Evaluation::of(self.policy, self.sizing, (self.question, self.asked), (None, Some(kill)))
    }

    fn with_limit(&mut self, resource: Resource, rule: &AmountRule, request: f64, bounds: Bounds) -> Amounts {
        if let Some(limit) = &rule.limit {
            self.evaluation.set_number("request", Some(request));
            match self.evaluation.number(limit, &name(resource, "limit")) {
                Ok(limit) => {
                    let limit = bounds.clamp(resource.up(limit)).max(request);
                    return Amounts { request: Some(request), limit: Some(limit) };
                }
                Err(why) => {
                    self.problems.push(format!("{why}; the template's ratio of limit to request holds"));
                }
            }
        }
        let (amounts, problem) = in_ratio(resource, request, self.asked.template.of(resource), bounds);
        self.problems.extend(problem.map(|problem| format!("{}: {problem}", name(resource, "limit"))));
        amounts
    }

    /// The workers that have something else, and for which the rule's `when` holds.
    fn due(&mut self, target: &Target) -> Vec<qscaler_protocol::name::WorkerId> {
        if self.asked.kind == ContainerKind::Init {
            return vec![];
        }
        let mut workers = vec![];
        for held in self.asked.runs.iter().filter(|held| differs(held, target)) {
            let Some(when) = &self.sizing.0.when else {
                workers.push(held.worker.clone());
                continue;
            };
            let about = (Some(held), None);
            let mut evaluation = Evaluation::of(self.policy, self.sizing, (self.question, self.asked), about);
            for (name, resource) in
                [("target.memory.request", Resource::Memory), ("target.cpu.request", Resource::Cpu)]
            {
                let request = target.of(resource).and_then(|sized| sized.amounts.request);
                evaluation.set_number(name, request.or(held.current.of(resource).request));
            }
            match evaluation.holds(when, "when") {
                Ok(true) => workers.push(held.worker.clone()),
                Ok(false) => {}
                Err(why) => {
                    let problem = why.to_string();
                    if !self.problems.contains(&problem) {
                        self.problems.push(problem);
                    }
                }
            }
        }
        workers
    }
}

fn differs(held: &Held, target: &Target) -> bool {
    let differs = |resource: Resource| {
        let current = held.current.of(resource);
        target.of(resource).is_some_and(|sized| {
            !resource.same(current.request, sized.amounts.request)
                || !resource.same(current.limit, sized.amounts.limit)
        })
    };
    differs(Resource::Cpu) || differs(Resource::Memory)
}

impl Request {
    fn bound(&mut self, resource: Resource, bounds: Bounds) {
        let rounded = resource.up(self.value);
        let bounded = bounds.clamp(rounded);
        if bounded < rounded {
            self.because = Settled::Max;
            self.note = format!("{}; the maximum is {}", self.note, reason::written(resource, bounded));
        } else if bounded > rounded {
            self.because = Settled::Min;
            self.note = format!("{}; the minimum is {}", self.note, reason::written(resource, bounded));
        }
        self.value = bounded;
    }
}
