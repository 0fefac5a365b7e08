//! From what was read to the signals that rules name.

use std::collections::{BTreeMap, BTreeSet};

use qscaler_protocol::name::WorkerId;
use qscaler_protocol::report::Received;

use crate::fleet::{Member, Process};
use crate::memory::Memory;
use crate::record::used_signals;
use crate::rule::Policy;
use crate::signal::{Measure, QUEUE_SIGNALS, Sample};
use crate::time::Time;
use crate::workload::Queue;

/// What was read of a workload at one tick.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// The queues, or why they could not be read.
    pub measures: Result<&'a BTreeMap<String, Measure>, String>,
    /// When they were read.
    pub measured_at: Time,
    /// The workload's queues.
    pub queues: &'a [Queue],
    /// The workers.
    pub members: &'a [Member],
    /// What they reported.
    pub reports: &'a BTreeMap<WorkerId, Received>,
    /// How many workers there will be when all open offers are claimed.
    pub current: u32,
}

/// A worker's start is taken to last this many seconds until one was measured.
const START_SECONDS: f64 = 2.0;
/// The newest start counts this much in the mean of starts.
const START_WEIGHT: f64 = 0.2;

/// Makes the signals of one tick. The memory holds what they are compared with.
pub fn signals(
    reading: &Reading<'_>,
    policy: &Policy,
    memory: &mut Memory,
    now: Time,
) -> BTreeMap<String, Sample> {
    let used = used_signals(&policy.rule).collect();
    let mut signals = Signals { memory, used, at: reading.measured_at, samples: BTreeMap::new() };
    match &reading.measures {
        Ok(measures) => signals.queues(reading.queues, measures),
        Err(reason) => signals.queues_failed(reading.queues, reason),
    }
    let Signals { memory, mut samples, .. } = signals;
    memory.tasks.observe(reading.reports.values());
    let guess = policy.task_seconds();
    let tasks = &memory.tasks;
    let mut put = |name: &str, value: f64| {
        samples.insert(name.to_owned(), Sample::measured(value, now));
    };
    put("tasks.seconds.mean", tasks.mean(guess));
    for (name, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        put(&format!("tasks.seconds.{name}"), tasks.quantile(part, guess));
    }
    for (name, value) in workers(reading, memory) {
        put(name, value);
    }
    samples
}

/// The signals of queues in the making.
struct Signals<'a> {
    memory: &'a mut Memory,
    /// What the rule reads; of anything else no last value is kept.
    used: BTreeSet<&'a str>,
    at: Time,
    samples: BTreeMap<String, Sample>,
}

impl Signals<'_> {
    fn queues(&mut self, queues: &[Queue], measures: &BTreeMap<String, Measure>) {
        let mut sums: BTreeMap<&'static str, Option<(f64, bool)>> = BTreeMap::new();
        for queue in queues {
            let measure = measures.get(&queue.name).copied().unwrap_or_default();
            let rates = self.memory.rates(&queue.name, &measure, self.at);
            for (name, value, estimated) in fields(&measure, rates, queue.share) {
                self.note(of_one(queue, name), value, estimated);
                let sum = sums.entry(name).or_insert(Some((0.0, false)));
                // The sum is known when every part is.
                *sum = match (*sum, value) {
                    (Some((sum, also)), Some(value)) => {
                        let all = if name == "queue.oldest" { sum.max(value) } else { sum + value };
                        Some((all, also || estimated))
                    }
                    _ => None,
                };
            }
        }
        for (name, sum) in sums {
            let (value, estimated) = sum.map_or((None, false), |(value, estimated)| (Some(value), estimated));
            self.note(name.to_owned(), value, estimated);
        }
    }

    fn queues_failed(&mut self, queues: &[Queue], reason: &str) {
        for signal in QUEUE_SIGNALS {
            let of_each = queues.iter().map(|queue| of_one(queue, signal.name));
            for name in of_each.chain([signal.name.to_owned()]) {
                let last = self.memory.last.get(&name).copied();
                self.samples.insert(name, Sample::Error { reason: reason.to_owned(), last });
            }
        }
    }

    fn note(&mut self, name: String, value: Option<f64>, estimated: bool) {
        let sample = match value {
            Some(value) if value.is_finite() => {
                if self.used.contains(name.as_str()) {
                    self.memory.last.insert(name.clone(), (value, self.at));
                }
                Sample::Value { value, at: self.at, estimated }
            }
            Some(value) => Sample::measured(value, self.at),
            None => Sample::Missing,
        };
        self.samples.insert(name, sample);
    }
}

/// The name of a queue's own signal.
fn of_one(queue: &Queue, signal: &str) -> String {
    format!("queues['{}'].{}", queue.name, signal.trim_start_matches("queue."))
}

/// The signals of one queue: name, value, and whether it is inferred.
fn fields(
    measure: &Measure,
    rates: Option<(f64, f64)>,
    share: f64,
) -> [(&'static str, Option<f64>, bool); 6] {
    let count = |count: u64| Some(count as f64 * share);
    [
        ("queue.length", count(measure.length), false),
        ("queue.inflight", count(measure.inflight), false),
        ("queue.delayed", count(measure.delayed), false),
        ("queue.arrivals", rates.map(|(arrivals, _)| arrivals * share), measure.arrived_estimated),
        ("queue.departures", rates.map(|(_, departures)| departures * share), false),
        ("queue.oldest", Some(measure.oldest.unwrap_or(0.0)), measure.oldest_estimated),
    ]
}

fn workers(reading: &Reading<'_>, memory: &mut Memory) -> [(&'static str, f64); 10] {
    let count =
        |test: &dyn Fn(&Member) -> bool| reading.members.iter().filter(|member| test(member)).count() as f64;
    let ready = |member: &Member| member.registered;
    let slots =
        mean(reading.members.iter().filter(|member| member.registered).map(|member| f64::from(member.slots)));
    measure_starts(reading.members, memory);
    [
        ("workers.current", f64::from(reading.current)),
        ("workers.ready", count(&ready)),
        ("workers.idle", count(&|member| member.is_idle())),
        ("workers.busy", count(&|member| member.registered && member.busy_slots > 0)),
        ("workers.draining", count(&|member| member.leaving)),
        (
            "workers.starting",
            count(&|member| !member.registered && !member.leaving && member.seen.process == Process::Running),
        ),
        ("workers.slots", slots.unwrap_or(1.0)),
        ("workers.busySlots", reading.members.iter().map(|member| f64::from(member.busy_slots)).sum()),
        ("workers.startSeconds", memory.start_seconds.unwrap_or(START_SECONDS)),
        ("workers.failing", count(&|member| matches!(member.seen.process, Process::BackOff { .. }))),
    ]
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Takes in how long each worker took from its creation to its first state, once.
fn measure_starts(members: &[Member], memory: &mut Memory) {
    memory.started.retain(|worker| members.iter().any(|member| member.seen.id == *worker));
    for member in members.iter().filter(|member| member.registered) {
        let (Some(ready), false) = (member.state_since, memory.started.contains(&member.seen.id)) else {
            continue;
        };
        let seconds = ready.since(member.seen.since).as_secs_f64();
        let before = memory.start_seconds.unwrap_or(seconds);
        memory.start_seconds = Some(before + (seconds - before) * START_WEIGHT);
        memory.started.push(member.seen.id.clone());
    }
}
