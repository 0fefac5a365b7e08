//! What one tick hands to the next: windows, history, and what measurements are compared with.
//!
//! A memory is a checkpoint, not a ledger: losing it costs smoothness, never a worker. After a start
//! the present number counts as recommended just now, so nothing is lowered before the rule's down
//! window has been seen again.

mod checkpoint;
mod containers;
mod few;
mod tasks;
mod vpa;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::WorkerId;

use crate::decide::Decision;
use crate::decide::behavior::History;
use crate::rule::{Policy, WindowKey};
use crate::signal::{Measure, Sample};
use crate::time::Time;
use crate::window::Window;

use few::Few;

pub use checkpoint::{Unreadable, load, store};
pub use tasks::TaskTimes;
pub use vpa::{NotAdopted, VpaCheckpoint, VpaHistogram};

/// The memory of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What was asked for and done lately.
    pub history: History,
    /// Windows over signals. Kept by what they are; a rule that is edited finds them again.
    windows: Few<WindowKey, Window>,
    /// The last counts of each queue, from which rates are made.
    pub(crate) counts: Few<String, Counted>,
    /// The last value of each signal of the queues that the rule reads, for rules that go on with it.
    pub(crate) last: Few<String, (f64, Time)>,
    /// How long tasks take.
    pub tasks: TaskTimes,
    /// How long workers take to start, in seconds: a mean in which the last few count most.
    pub(crate) start_seconds: Option<f64>,
    /// Workers whose start was measured.
    pub(crate) started: Vec<WorkerId>,
    /// What the containers of the workers use and were given, by name.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    containers: Few<String, containers::Remembered>,
    /// The present number was taken into the history after the last start.
    #[serde(skip)]
    resumed: bool,
}

/// The counts of a queue at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counted {
    pub(crate) at: Time,
    pub(crate) arrived: u64,
    pub(crate) departed: u64,
}

/// Recommendations are kept at least this long, so that a rule with a longer window than the last one
/// does not begin with nothing.
const HISTORY_MIN: Duration = Duration::from_secs(600);

impl Memory {
    /// Feeds every window that `policy` reads, and those of earlier rules until they are over.
    pub fn feed(&mut self, policy: &Policy, signals: &BTreeMap<String, Sample>, now: Time) {
        for (key, _) in policy.windows.values() {
            if self.windows.get(key).is_none() {
                self.windows.insert(key.clone(), Window::default());
            }
        }
        let wanted = |key: &WindowKey| policy.windows.values().any(|(used, _)| used == key);
        self.windows.retain(|key, window| wanted(key) || !window.is_over(key.length_ms, now));
        for (key, window) in self.windows.iter_mut() {
            if let Some(Sample::Value { value, at, .. }) = signals.get(&key.signal) {
                window.feed(&key.function, key.length_ms, *at, *value);
            }
        }
    }

    /// What the windows of `policy` say now, by their text.
    pub fn read(&self, policy: &Policy, now: Time) -> BTreeMap<String, Option<f64>> {
        let read = |(slot, (key, argument)): (&usize, &(WindowKey, Option<f64>))| {
            let text = policy.rule.inputs.get(*slot).and_then(window_text)?;
            let window = self.windows.get(key);
            let value = window.and_then(|it| it.read(&key.function, key.length_ms, *argument, now));
            Some((text, value))
        };
        policy.windows.iter().filter_map(read).collect()
    }

    /// How many windows it holds.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Takes the present number as recommended, once after each start.
    pub fn resume(&mut self, policy: &Policy, current: u32, now: Time) {
        if !std::mem::replace(&mut self.resumed, true) {
            self.history.recommend(now, current, keep(policy));
        }
    }

    /// Remembers what was decided and done.
    pub fn remember(&mut self, policy: &Policy, decision: &Decision, done: Done, now: Time) {
        if let Some(recommended) = decision.recommended {
            self.history.recommend(now, recommended, keep(policy));
        }
        self.history.change(now, done.added, done.removed, keep(policy));
    }

    /// The hash of everything in it, by which a record names it.
    pub fn hash(&self) -> String {
        crate::hash::short(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Rates of a queue since its last counts; none at the first look. A source that was reset gives
    /// none either.
    pub(crate) fn rates(&mut self, queue: &str, measure: &Measure, at: Time) -> Option<(f64, f64)> {
        let now = Counted { at, arrived: measure.arrived, departed: measure.departed };
        let before = self.counts.insert(queue.to_owned(), now)?;
        let seconds = at.since(before.at).as_secs_f64();
        let rose = |before: u64, now: u64| now.checked_sub(before).map(|rose| rose as f64 / seconds);
        let rates = (rose(before.arrived, now.arrived)?, rose(before.departed, now.departed)?);
        (seconds > 0.0).then_some(rates)
    }
}

/// What one tick has done to the number of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Started.
    pub added: u32,
    /// Asked to leave, or removed.
    pub removed: u32,
}

fn keep(policy: &Policy) -> Duration {
    let rule = &policy.rule;
    let periods = rule.up.limits.iter().chain(&rule.down.limits).map(|limit| limit.period);
    periods.chain([rule.up.window, rule.down.window, HISTORY_MIN]).max().unwrap_or(HISTORY_MIN)
}

fn window_text(input: &qscaler_cel::Input) -> Option<String> {
    if let qscaler_cel::Input::Window(window) = input { Some(window.to_string()) } else { None }
}
