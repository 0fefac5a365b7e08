//! Containers in golden tests: every worker uses the same, and gets at once what was decided.

use std::collections::BTreeMap;

use qscaler_cel::unit;
use qscaler_protocol::name::WorkerId;

use super::series::Spot;
use super::{AllSeries, Edit, Outcome, Run};
use crate::decide::Decision;
use crate::document::scalar::Scalar;
use crate::document::test::{Case, Expectation, ExpectedAmounts, Template, WrittenAmounts};
use crate::memory::Memory;
use crate::rule::Policy;
use crate::signal::Sample;
use crate::time::Time;
use crate::vertical::{
    Amounts, Container, Measured, OutOfMemory, Resource, Resources, Run as OfWorker, Sizes, Target, size,
};

/// Signals that a test may give of a container.
const OF_CONTAINERS: [&str; 3] = ["usage.cpu", "usage.memory", "oom.limit"];

/// The signal and the container of `usage.memory{main}`.
pub(super) fn of_container(name: &str) -> Option<(&str, &str)> {
    let (signal, container) = name.strip_suffix('}')?.split_once('{')?;
    OF_CONTAINERS.contains(&signal).then_some((signal, container))
}

/// The containers of the rule's world.
pub(super) struct Containers(Vec<Container>);

impl Containers {
    pub(super) fn of(case: &Case) -> Self {
        let mut containers: BTreeMap<&str, Container> = BTreeMap::new();
        let named = case.signals.keys().filter_map(|name| of_container(name)).map(|(_, container)| container);
        for name in named {
            containers
                .entry(name)
                .or_insert_with(|| Container { name: name.to_owned(), ..Container::default() });
        }
        for (name, template) in &case.containers {
            containers.insert(name, container(name, template));
        }
        Self(containers.into_values().collect())
    }

    /// What is seen of them at a step, with so many workers.
    pub(super) fn look(&mut self, series: &AllSeries, step: usize, workers: u32, now: Time) {
        for container in &mut self.0 {
            let spot = |signal: &str| match series.get(&format!("{signal}{{{}}}", container.name))?.at(step) {
                Spot::Value(value) => Some(value),
                Spot::Missing | Spot::Stale | Spot::Error => None,
            };
            let measured = Measured { at: now, cpu: spot("usage.cpu"), memory: spot("usage.memory") };
            let kill = series
                .get(&format!("oom.limit{{{}}}", container.name))
                .filter(|series| step < series.len())
                .and_then(|_| spot("oom.limit"));
            if let Some(limit) = kill {
                container.kills = vec![OutOfMemory { at: now, limit: Some(limit), used: None }];
            }
            container.runs.truncate(workers as usize);
            for number in container.runs.len()..workers as usize {
                let worker = WorkerId::new(format!("w{number}"));
                let current = container.template;
                container.runs.push(OfWorker { worker, since: now, current, usage: None });
            }
            for run in &mut container.runs {
                run.usage = Some(measured);
                if kill.is_some() {
                    run.since = now;
                }
            }
        }
    }

    /// Decides, and gives the workers what was decided.
    pub(super) fn size(
        &mut self,
        policy: &Policy,
        memory: &mut Memory,
        about: (&BTreeMap<String, Sample>, &Decision),
        now: Time,
    ) -> Sizes {
        memory.feed_containers(policy, &self.0, about.0, now);
        let question = memory.ask_sizes(policy, &self.0, about, (now, now));
        let sizes = size(policy, &question);
        memory.remember_sizes(&sizes);
        for container in &mut self.0 {
            let Some(target) = sizes.containers.get(&container.name) else { continue };
            for run in container.runs.iter_mut().filter(|run| target.resize.contains(&run.worker)) {
                run.current = target.over(run.current);
                run.since = now;
            }
        }
        sizes
    }
}

fn container(name: &str, template: &Template) -> Container {
    let amounts = |resource: Resource, written: Option<&WrittenAmounts>| {
        let number = |scalar: Option<&Scalar>| scalar.and_then(|it| amount(resource, it));
        written.map_or_else(Amounts::default, |it| Amounts {
            request: number(it.request.as_ref()),
            limit: number(it.limit.as_ref()),
        })
    };
    let template_amounts = Resources {
        cpu: amounts(Resource::Cpu, template.cpu.as_ref()),
        memory: amounts(Resource::Memory, template.memory.as_ref()),
    };
    Container {
        name: name.to_owned(),
        kind: template.kind.unwrap_or_default(),
        template: template_amounts,
        ..Container::default()
    }
}

/// An amount as it is written; none for `none`.
fn amount(resource: Resource, scalar: &Scalar) -> Option<f64> {
    let text = scalar.0.as_str().map_or_else(|| scalar.0.to_string(), str::to_owned);
    match resource {
        Resource::Cpu => unit::cores(&text),
        Resource::Memory => unit::bytes(&text),
    }
}

impl Run<'_> {
    pub(super) fn compare_sizes(
        &self,
        place: usize,
        expected: &Expectation,
        sizes: Option<&Sizes>,
        outcome: &mut Outcome,
    ) {
        let nothing = Target::default();
        for (name, wanted) in &expected.resources {
            let target = sizes.and_then(|sizes| sizes.containers.get(name)).unwrap_or(&nothing);
            let base = format!("/expect/{place}/resources/{name}");
            let each = [(Resource::Cpu, &wanted.cpu), (Resource::Memory, &wanted.memory)];
            for (resource, wanted) in each {
                if let Some(wanted) = wanted {
                    self.compare_amounts((&base, &expected.at.0), resource, (wanted, target), outcome);
                }
            }
            if let Some(wanted) = wanted.resized.filter(|wanted| *wanted == target.resize.is_empty()) {
                self.differs(
                    (&base, "resized"),
                    (&!wanted, &wanted),
                    (&expected.at.0, &target.reason),
                    outcome,
                );
            }
        }
    }

    fn compare_amounts(
        &self,
        (base, at): (&str, &str),
        resource: Resource,
        (wanted, target): (&ExpectedAmounts, &Target),
        outcome: &mut Outcome,
    ) {
        let field = resource.name();
        let sized = target.of(resource);
        let found = sized.map_or_else(Amounts::default, |sized| sized.amounts);
        let about = (at, target.reason.as_str());
        for (part, wanted, found) in
            [("request", &wanted.request, found.request), ("limit", &wanted.limit, found.limit)]
        {
            let Some(wanted) = wanted else { continue };
            if !resource.same(amount(resource, wanted), found) {
                let found = found.map_or_else(|| "none".to_owned(), |value| text(resource, value));
                self.differs((base, &format!("{field}/{part}")), (&found, &plain(wanted)), about, outcome);
            }
        }
        if let Some(wanted) =
            wanted.because.filter(|wanted| sized.map(|sized| sized.because) != Some(*wanted))
        {
            let text = |settled| serde_json::to_value(settled).unwrap_or_default();
            let found = sized.map(|sized| text(sized.because));
            let found = found.as_ref().and_then(|it| it.as_str()).unwrap_or("nothing").to_owned();
            let wanted = text(wanted).as_str().unwrap_or_default().to_owned();
            self.differs((base, &format!("{field}/because")), (&found, &wanted), about, outcome);
        }
    }

    fn differs(
        &self,
        (base, field): (&str, &str),
        (found, wanted): (&dyn std::fmt::Display, &dyn std::fmt::Display),
        (at, reason): (&str, &str),
        outcome: &mut Outcome,
    ) {
        let pointer = format!("{base}/{field}");
        let name = field.replace('/', ".");
        let message = format!("at {at} `{name}` is {found} and not {wanted}");
        outcome.findings.push(self.finding(&pointer, message).help(reason.to_owned()));
        let pointer = format!("{}{pointer}", self.pointer);
        outcome.edits.push(Edit { index: self.index, pointer, value: found.to_string() });
    }
}

fn plain(scalar: &Scalar) -> String {
    scalar.0.as_str().map_or_else(|| scalar.0.to_string(), str::to_owned)
}

/// An amount in whole units, so that it is read back as it was.
fn text(resource: Resource, value: f64) -> String {
    match resource {
        Resource::Cpu => format!("{}m", (value * 1000.0).round()),
        Resource::Memory => {
            let mebi = value / 1_048_576.0;
            if mebi.fract() == 0.0 { format!("{mebi}Mi") } else { format!("{value}") }
        }
    }
}
