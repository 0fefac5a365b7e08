//! What is measured: the signals that rules may name, and samples of them.

use serde::{Deserialize, Serialize};

use qscaler_cel::Type;

use crate::time::Time;

/// One look at a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Sample {
    /// It was measured.
    Value {
        /// In the signal's base unit; finite.
        value: f64,
        /// When.
        at: Time,
        /// It was inferred and not counted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        estimated: bool,
    },
    /// There is nothing to measure yet.
    Missing,
    /// The last measurement is too old to be used.
    Stale {
        /// The last value.
        value: f64,
        /// When it was measured.
        at: Time,
    },
    /// It could not be read.
    Error {
        /// Why.
        reason: String,
        /// The last value that could, and when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<(f64, Time)>,
    },
}

impl Sample {
    /// A measured value. What is no finite number is an error and never a value.
    pub fn measured(value: f64, at: Time) -> Self {
        if value.is_finite() {
            Sample::Value { value, at, estimated: false }
        } else {
            Sample::Error { reason: format!("the source said {value}"), last: None }
        }
    }

    /// The value, if it was measured.
    pub fn value(&self) -> Option<f64> {
        if let Sample::Value { value, .. } = self { Some(*value) } else { None }
    }
}

/// A signal that every workload has.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Its name in expressions.
    pub name: &'static str,
    /// What its value is.
    pub of: Type,
    /// What it says.
    pub about: &'static str,
}

const fn signal(name: &'static str, about: &'static str) -> Signal {
    Signal { name, of: Type::Number, about }
}

/// Signals of the queues of a workload. Each is also there for one queue: `queues['high'].length`.
pub const QUEUE_SIGNALS: [Signal; 6] = [
    signal("queue.length", "Tasks that wait and could be taken now; the sum over the workload's queues."),
    signal("queue.inflight", "Tasks that workers hold; the sum."),
    signal("queue.delayed", "Tasks that may not be taken yet; the sum."),
    signal("queue.arrivals", "Tasks that arrive per second; the sum."),
    signal("queue.departures", "Tasks that leave for good per second; the sum."),
    signal("queue.oldest", "Seconds that the first waiting task has waited; the largest, 0 when none waits."),
];

/// All other signals.
pub const SIGNALS: [Signal; 14] = [
    signal(
        "tasks.seconds.mean",
        "Mean duration of a task in seconds; `params.taskSeconds` is blended in until 20 were measured.",
    ),
    signal("tasks.seconds.p50", "Half of the tasks take at most this many seconds."),
    signal("tasks.seconds.p95", "95 of 100 tasks take at most this many seconds."),
    signal("tasks.seconds.p99", "99 of 100 tasks take at most this many seconds."),
    signal(
        "workers.current",
        "Workers there will be when all open offers are claimed; what a decision starts from.",
    ),
    signal("workers.ready", "Workers that have registered and take tasks."),
    signal("workers.idle", "Ready workers that work on nothing."),
    signal("workers.busy", "Ready workers that work on a task."),
    signal("workers.draining", "Workers that have been asked to leave and are still there."),
    signal("workers.starting", "Workers that have not registered yet."),
    signal(
        "workers.slots",
        "Tasks that one worker can work on at a time; the mean, 1 until one has registered.",
    ),
    signal("workers.busySlots", "Slots at work, over all workers."),
    signal(
        "workers.startSeconds",
        "Seconds from the start of a worker until it takes tasks; the mean of late, 2 until one was measured.",
    ),
    signal("workers.failing", "Workers whose process ended badly and that wait to be started again."),
];

const fn amount(name: &'static str, of: Type, about: &'static str) -> Signal {
    Signal { name, of, about }
}

/// Signals of one container, which only `resources` may name.
pub const CONTAINER_SIGNALS: [Signal; 15] = [
    amount(
        "usage.cpu",
        Type::Cores,
        "Cores that the container uses; the largest over the workers. Histograms take in each worker's.",
    ),
    amount(
        "usage.memory",
        Type::Bytes,
        "Memory that it uses; the largest over the workers. Histograms take in each worker's.",
    ),
    amount(
        "oom.limit",
        Type::Bytes,
        "The limit at its last kill for want of memory, or what it used, whichever is larger. In `onOom` that of each kill that still counts.",
    ),
    signal("oom.count", "How many such kills there were."),
    signal("oom.age", "Seconds since the last one."),
    amount("template.cpu.request", Type::Cores, "What its pod template says."),
    amount("template.cpu.limit", Type::Cores, "What its pod template says."),
    amount("template.memory.request", Type::Bytes, "What its pod template says."),
    amount("template.memory.limit", Type::Bytes, "What its pod template says."),
    amount(
        "current.cpu.request",
        Type::Cores,
        "What it was given last; in `when` what it has in the worker that is asked about.",
    ),
    amount(
        "current.cpu.limit",
        Type::Cores,
        "What it was given last; in `when` what it has in the worker that is asked about.",
    ),
    amount(
        "current.memory.request",
        Type::Bytes,
        "What it was given last; in `when` what it has in the worker that is asked about.",
    ),
    amount(
        "current.memory.limit",
        Type::Bytes,
        "What it was given last; in `when` what it has in the worker that is asked about.",
    ),
    signal(
        "age",
        "Seconds since it was started or was given other amounts: the least over the workers; in `when` that of the worker that is asked about.",
    ),
    signal("containers", "How many containers run beside each other in a worker, this one included."),
];

/// What a queue system says of one queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measure {
    /// Tasks that wait and could be taken now.
    pub length: u64,
    /// Tasks that workers hold.
    pub inflight: u64,
    /// Tasks that may not be taken yet.
    pub delayed: u64,
    /// Tasks that ever arrived.
    pub arrived: u64,
    /// Tasks that ever left for good.
    pub departed: u64,
    /// Seconds that the first waiting task has waited; none when no task waits.
    pub oldest: Option<f64>,
    /// `arrived` is inferred from the other counts, because the queue system does not count it.
    pub arrived_estimated: bool,
    /// `oldest` is inferred from when tasks arrived, because the queue system does not say it.
    pub oldest_estimated: bool,
}
