//! How large containers should be: what always holds, what a kill does, what a restart keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use qscaler_core::decide::{Decision, Question, Shown, decide};
use qscaler_core::memory::{Memory, load, store};
use qscaler_core::record::{Line, replay_sizes};
use qscaler_core::rule::Policy;
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;
use qscaler_core::vertical::{
    Amounts, Container, Measured, OutOfMemory, Resource, Resources, Run, Settled, Sizes, Target, size,
};
use qscaler_protocol::name::WorkerId;

use crate::world::{file, policy, question};

const START: Time = Time(1_767_571_200_000);
const MEBI: f64 = 1_048_576.0;
const HOUR_MS: i64 = 3_600_000;

/// A workload's containers along a time.
pub(crate) struct Life {
    policy: Policy,
    pub(crate) memory: Memory,
    pub(crate) containers: Vec<Container>,
}

impl Life {
    pub(crate) fn new(policy: Policy, containers: Vec<Container>) -> Self {
        Self { policy, memory: Memory::default(), containers }
    }

    /// The container uses this in its one worker.
    pub(crate) fn uses(&mut self, name: &str, (cpu, memory): (f64, f64), at: Time) {
        let container = self.containers.iter_mut().find(|container| container.name == name).unwrap();
        let usage = Some(Measured { at, cpu: Some(cpu), memory: Some(memory) });
        let template = container.template;
        if container.runs.is_empty() {
            container.runs.push(Run { worker: WorkerId::new("w"), since: at, current: template, usage });
        }
        container.runs[0].usage = usage;
        self.memory.feed_containers(&self.policy, &self.containers, &BTreeMap::new(), at);
    }

    pub(crate) fn ask(&mut self, now: Time) -> (qscaler_core::vertical::Question, Sizes, Decision) {
        let decision = decide(&self.policy, &question(1, &[]));
        let signals = BTreeMap::from([("workers.current".to_owned(), Sample::measured(1.0, now))]);
        self.memory.feed_containers(&self.policy, &self.containers, &signals, now);
        let asked = self.memory.ask_sizes(&self.policy, &self.containers, (&signals, &decision), (now, now));
        let sizes = size(&self.policy, &asked);
        self.memory.remember_sizes(&sizes);
        (asked, sizes, decision)
    }

    pub(crate) fn look(&mut self, now: Time) -> BTreeMap<String, Target> {
        self.ask(now).1.containers
    }
}

pub(crate) fn container(name: &str, template: Resources) -> Container {
    Container { name: name.into(), template, ..Container::default() }
}

pub(crate) fn killed(at: Time, limit: f64, used: f64) -> OutOfMemory {
    OutOfMemory { at, limit: Some(limit), used: Some(used) }
}

pub(crate) fn shown(target: &Target, name: &str) -> f64 {
    match &target.lets[name] {
        Ok(Shown::Number(number)) => *number,
        other => panic!("{name} is {other:?}"),
    }
}

fn memory(request: f64, limit: f64) -> Resources {
    Resources { memory: Amounts { request: Some(request), limit: Some(limit) }, ..Resources::default() }
}

fn shipped(name: &str) -> Policy {
    let path = format!("{}/../../rules/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let update = crate::world::load(vec![file(name, &std::fs::read_to_string(path).unwrap())]);
    let rule = update.catalog.rules().next().map(Arc::clone);
    Policy::bind(rule.unwrap_or_else(|| panic!("{:?}", update.problems)), &BTreeMap::new()).unwrap()
}

fn after(hours: f64) -> Time {
    Time(START.0 + (hours * HOUR_MS as f64) as i64)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    /// From thousandths to thousands.
    fn wide(&mut self) -> f64 {
        libm::exp2(self.next() * 20.0 - 10.0)
    }

    fn amounts(&mut self, unit: f64) -> Amounts {
        let whole = |value: f64| (value * 1000.0).ceil() / 1000.0;
        let request = whole(self.wide() * unit);
        let request = if unit > 1.0 { request.ceil() } else { request };
        let limit = match self.next() {
            it if it < 0.3 => None,
            it if it < 0.6 => Some(request),
            it if it < 0.8 => Some((request * 1000.0 * (1.0 + self.next() * 3.0)).ceil() / 1000.0),
            _ => Some(request + 0.001),
        };
        let limit = limit.map(|limit| if unit > 1.0 { limit.ceil() } else { limit });
        match self.next() {
            it if it < 0.1 => Amounts::default(),
            it if it < 0.2 => Amounts { request: None, limit: Some(request) },
            _ => Amounts { request: Some(request), limit },
        }
    }
}

/// Whether request and limit are there, and one: what the quality of service goes by.
fn quality(amounts: Amounts) -> (bool, bool) {
    let request = amounts.request.or(amounts.limit);
    (request.is_some(), request.is_some() && request == amounts.limit)
}

const BOUNDED: &str = "params: {least: 64Mi, most: 2Gi}
resources:
  - container: '*'
    memory: {request: 'max_over_time(usage.memory, \\'1h\\')', onOom: oom.limit * 2, min: params.least, max: params.most}
    cpu: {request: 'ewma(usage.cpu, \\'10m\\') * 1.3', min: 50m, max: 2}";

#[test]
fn whatever_is_seen_a_target_can_be_set_and_keeps_its_bounds_and_quality() {
    let mut random = Random(7);
    let mut targets = 0;
    let bounded = BOUNDED.replace("\\'", "''");
    let policies = [policy(&bounded), shipped("vpa"), shipped("usage-maximum"), shipped("right-size")];
    for round in 0..600 {
        let place = round % policies.len();
        let template = Resources { cpu: random.amounts(1.0), memory: random.amounts(MEBI) };
        let mut life = Life::new(policies[place].clone(), vec![container("main", template)]);
        for step in 0..12 {
            let now = Time(START.0 + step * 600_000);
            if random.next() < 0.8 {
                life.uses("main", (random.wide(), random.wide() * MEBI), now);
            }
            if random.next() < 0.3 {
                life.containers[0].kills = vec![killed(now, random.wide() * MEBI, random.wide() * MEBI)];
            }
            let target = life.look(now)["main"].clone();
            for resource in [Resource::Cpu, Resource::Memory] {
                let Some(sized) = target.of(resource) else { continue };
                let request = sized.amounts.request.unwrap();
                let about = format!("round {round}, {template:?} -> {sized:?}, {:?}", target.problems);
                assert!(request.is_finite() && request >= 0.0, "{about}");
                let limit = sized.amounts.limit;
                assert!(limit.is_none_or(|limit| limit.is_finite() && limit >= request), "{about}");
                if place == 0 {
                    let (min, max) =
                        if resource == Resource::Cpu { (0.05, 2.0) } else { (64.0 * MEBI, 2048.0 * MEBI) };
                    assert!(request >= min && limit.unwrap_or(request) <= max, "{about}");
                }
                let before = template.of(resource);
                if !before.is_empty() {
                    assert_eq!(quality(sized.amounts), quality(before), "{about}");
                }
                targets += 1;
            }
        }
    }
    assert!(targets > 5_000, "{targets} targets prove little");
}

#[test]
fn a_kill_raises_the_floor_at_once_and_says_why() {
    let mut life =
        Life::new(shipped("right-size"), vec![container("main", memory(512.0 * MEBI, 512.0 * MEBI))]);
    life.containers[0].kills = vec![killed(after(0.0), 512.0 * MEBI, 0.0)];
    let sized = life.look(after(0.1))["main"].memory.clone().unwrap();
    assert_eq!(sized.because, Settled::OutOfMemory);
    assert!(sized.amounts.request.unwrap() > 760.0 * MEBI && sized.amounts.limit == sized.amounts.request);
    assert!(sized.note.contains("killed for want of memory at 512Mi 6m ago"), "{}", sized.note);
    // The same kill is still to be seen an hour later: it raises nothing again.
    life.uses("main", (0.1, 300.0 * MEBI), after(1.0));
    let later = life.look(after(1.0))["main"].memory.clone().unwrap();
    assert!(later.amounts.request.unwrap() <= sized.amounts.request.unwrap(), "{later:?}");
}

#[test]
fn a_kill_that_is_seen_again_when_the_container_has_more_is_the_same_kill() {
    let mut life =
        Life::new(shipped("right-size"), vec![container("main", memory(512.0 * MEBI, 512.0 * MEBI))]);
    let request = |life: &mut Life, now| {
        let (question, sizes, _) = life.ask(now);
        assert_eq!(question.containers["main"].killed, 1);
        sizes.containers["main"].memory.as_ref().unwrap().amounts.request.unwrap()
    };
    life.containers[0].kills = vec![killed(after(0.0), 512.0 * MEBI, 0.0)];
    let raised = request(&mut life, after(0.0));
    // A container's status tells of its last kill, and of the limit that it has by now.
    life.containers[0].kills = vec![killed(after(0.0), raised, 0.0)];
    assert!(request(&mut life, after(0.1)) <= raised);
}

#[test]
fn kills_at_the_maximum_do_not_feed_each_other() {
    let mut life = Life::new(
        policy(&BOUNDED.replace("\\'", "''")),
        vec![container("main", memory(1024.0 * MEBI, 1024.0 * MEBI))],
    );
    let mut last = None;
    for hour in 0..50 {
        let now = after(f64::from(hour));
        let limit = last.unwrap_or(1024.0 * MEBI);
        life.containers[0].kills = vec![killed(now, limit, limit)];
        let target = life.look(now)["main"].clone();
        last = target.memory.as_ref().unwrap().amounts.limit;
        assert!(last.unwrap() <= 2048.0 * MEBI);
        if hour > 2 {
            let problem = target.problems.join("\n");
            assert!(
                problem.contains("raise `max`") && problem.contains(&format!("{} kills", hour + 1)),
                "{problem}"
            );
        }
    }
    // Without further kills what they added is gone.
    life.containers[0].kills.clear();
    for step in 0..80 {
        life.uses("main", (0.1, 200.0 * MEBI), Time(after(50.0).0 + step * 120_000));
    }
    for day in 3..20 {
        life.uses("main", (0.1, 200.0 * MEBI), after(f64::from(day) * 24.0));
        life.look(after(f64::from(day) * 24.0));
    }
    for step in 0..80 {
        life.uses("main", (0.1, 200.0 * MEBI), Time(after(480.0).0 + step * 120_000));
    }
    let target = life.look(after(483.0))["main"].memory.clone().unwrap();
    assert_eq!(target.amounts.request, Some(200.0 * MEBI), "{target:?}");
}

#[test]
fn after_a_restart_everything_goes_on_bit_by_bit() {
    for name in ["vpa", "right-size", "usage-maximum"] {
        let mut lives: Vec<_> = (0..2)
            .map(|_| Life::new(shipped(name), vec![container("main", memory(300.0 * MEBI, 600.0 * MEBI))]))
            .collect();
        let mut random = Random(3);
        for step in 0..2_000 {
            let now = Time(START.0 + step * 60_000);
            let used = (random.next(), (100.0 + random.next() * 300.0) * MEBI);
            let kill = (step == 700).then(|| killed(now, 600.0 * MEBI, 0.0));
            // The second engine is restarted again and again, in the middle of a running peak.
            if step % 97 == 50 {
                let text = store(&lives[1].memory, "a test");
                lives[1].memory = load(&text).unwrap();
                assert_eq!(store(&lives[1].memory, "a test"), text);
            }
            let targets: Vec<_> = lives
                .iter_mut()
                .map(|life| {
                    life.uses("main", used, now);
                    life.containers[0].kills.extend(kill);
                    life.look(now)
                })
                .collect();
            assert_eq!(targets[0], targets[1], "{name}, minute {step}");
        }
        assert_eq!(lives[0].memory.hash(), lives[1].memory.hash(), "{name}");
    }
}

#[test]
fn one_measurement_counts_once_also_across_a_restart() {
    let mut life = Life::new(shipped("vpa"), vec![container("main", Resources::default())]);
    for _ in 0..5 {
        life.uses("main", (1.0, 1e8), START);
        life.memory = load(&store(&life.memory, "a test")).unwrap();
    }
    let target = life.look(START)["main"].clone();
    assert!(shown(&target, "confidence") <= 0.0, "one sample has no lifespan");
    let text = store(&life.memory, "a test");
    assert!(text.contains("\"count\":1,"), "{text}");
}

/// The first form of this part of a checkpoint stays readable: `testdata/memory/containers.json` is
/// never rewritten.
#[test]
fn the_first_memory_of_containers_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/memory/containers.json");
    let template = memory(300.0 * MEBI, 600.0 * MEBI);
    if !std::path::Path::new(path).exists() && std::env::var_os("UPDATE").is_some() {
        let mut life = Life::new(shipped("vpa"), vec![container("main", template)]);
        for hour in 0..50 {
            life.uses("main", (0.5, 256.0 * MEBI), after(f64::from(hour)));
        }
        life.containers[0].kills = vec![killed(after(40.0), 600.0 * MEBI, 0.0)];
        life.look(after(50.0));
        std::fs::write(path, store(&life.memory, "qscaler 0.2.0") + "\n").unwrap();
    }
    let mut life = Life::new(shipped("vpa"), vec![container("main", template)]);
    life.memory = load(std::fs::read_to_string(path).unwrap().trim_end()).unwrap();
    let target = life.look(after(50.0))["main"].clone();
    let (cpu, memory) = (target.cpu.unwrap(), target.memory.unwrap());
    assert_eq!((cpu.asked, memory.asked), (Some(0.587), Some(323_522_422.0)));
    assert_eq!(memory.because, Settled::OutOfMemory);
}

#[test]
fn a_container_takes_at_most_six_kilobytes_of_a_checkpoint_with_the_default_rule() {
    let empty = store(&Memory::default(), "a test").len();
    let mut life =
        Life::new(shipped("right-size"), vec![container("main", memory(300.0 * MEBI, 600.0 * MEBI))]);
    let mut random = Random(3);
    for step in 0..20_000 {
        let now = Time(START.0 + step * 15_000);
        life.uses("main", (random.next(), random.next() * 1e9 / 3.0), now);
        if step % 200 == 0 {
            life.containers[0].kills = vec![killed(now, random.next() * 1e9, 0.0)];
        }
        life.look(now);
    }
    let bytes = store(&life.memory, "a test").len() - empty;
    assert!(bytes < 6_000, "{bytes} bytes");
}

#[test]
fn a_line_with_sizes_is_asked_again_with_the_same_answer() {
    let policy = policy(
        "params: {spare: 1.25}
let: {factor: params.spare * workers.current}
replicas: {desired: factor, max: 50}
resources:
  - container: worker
    let: {peak: \"max_over_time(usage.memory, '10m')\"}
    memory: {request: peak * factor, limit: request * 2, onOom: oom.limit * 1.5}
    when: age > 60 && target.memory.request > current.memory.request",
    );
    let mut life = Life::new(
        policy.clone(),
        vec![container("worker", memory(1e8, 2e8)), container("proxy", memory(1e8, 2e8))],
    );
    for step in 0..200 {
        let now = Time(START.0 + step * 30_000);
        life.uses("worker", (0.1, 1e8 / 3.0 * (1 + step % 9) as f64), now);
        let (asked, sizes, decision) = life.ask(now);
        assert_eq!(sizes.containers.keys().collect::<Vec<_>>(), ["worker"]);
        let rested = Question { ..question(1, &[]) };
        let line = Line::new("shop/mail", &policy, life.memory.hash(), (&rested, &decision), (true, vec![]))
            .with_sizes(Some((asked, sizes.clone())));
        let text = serde_json::to_string(&line).unwrap();
        let back: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert_eq!(replay_sizes(&back, &policy.rule.document), Ok(Some(sizes)));
    }
}

#[test]
fn what_a_container_says_is_told_from_what_a_workload_says() {
    let problems = |spec: &str| {
        let update = crate::world::load(vec![crate::world::rule_file("tested", spec)]);
        update
            .problems
            .iter()
            .map(|it| format!("{}: {:?}", it.message, it.help))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let told = problems("replicas: {desired: usage.memory / bytes('1Gi'), max: 5}");
    assert!(told.contains("use it under `resources`"), "{told}");
    let told = problems("resources: [{container: '*', memory: {request: request * 2}}]");
    assert!(told.contains("`request` is known in `limit`"), "{told}");
    let told = problems("resources: [{container: '*', memory: {request: usage.cpu}}]");
    assert!(told.contains("an amount of memory is needed here; this is an amount of processor"), "{told}");
    let told = problems("replicas: {desired: 'decaying_quantile(queue.length, ''24h'', 0.9)', max: 5}");
    assert!(told.contains("write `usage.cpu` or `usage.memory`"), "{told}");
    let told = problems("resources: [{container: '*'}]");
    assert!(told.contains("this entry says nothing"), "{told}");
    let told = problems("description: nothing");
    assert!(told.contains("the field `replicas` is missing"), "{told}");
}
