//! What is remembered of the containers of a workload: windows and histograms over what they use, kills
//! for want of memory, and what was answered last. All by the container's name, and windows by what they
//! are: an edited rule finds them again.

mod samples;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_cel::{Input, WindowFunction};
use qscaler_protocol::name::WorkerId;

use super::Memory;
use super::few::Few;
use crate::decide::Decision;
use crate::rule::sizing::{Sizing, Windows};
use crate::rule::{Policy, WindowKey};
use crate::signal::Sample;
use crate::time::Time;
use crate::vertical::{
    Asked, Container, ContainerKind, Held, Kill, OutOfMemory, Question, Resources, Run, Sizes,
};
use crate::window::Window;

pub(super) use samples::Samples;

/// Kills that are remembered at most; the smallest goes first.
const KILLS_MAX: usize = 8;
/// After so many half-lives nothing is left of what a kill added.
const FADED: u32 = 10;
/// A container that is there no more is remembered for this long.
const KEPT: Duration = Duration::from_secs(8 * 86_400);
/// A gap in what is seen that is longer than this part of a window begins it anew.
const GAP: u64 = 20;

/// What is remembered of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remembered {
    windows: Few<WindowKey, Window>,
    pub(super) histograms: Few<WindowKey, Samples>,
    /// No later kill was as large; the oldest first.
    kills: Vec<Kill>,
    killed: u32,
    newest_kill: Option<Time>,
    /// Between these its use was seen without a gap that matters.
    watched: Option<(Time, Time)>,
    last: Option<Resources>,
    unkilled: Option<f64>,
    /// The newest measurement of each worker that was taken in. Not stored: after a start what is not
    /// newer than the last of all is passed over once.
    #[serde(skip)]
    seen: Few<WorkerId, Time>,
    #[serde(skip)]
    is_live: bool,
}

impl Memory {
    /// Takes in what was seen of the containers. `signals` are the workload's own.
    pub fn feed_containers(
        &mut self,
        policy: &Policy,
        containers: &[Container],
        signals: &BTreeMap<String, Sample>,
        now: Time,
    ) {
        for container in containers {
            let Some((_, sizing, windows)) = policy.sizing(&container.name, container.kind) else { continue };
            if self.containers.get(&container.name).is_none() {
                self.containers.insert(container.name.clone(), Remembered::default());
            }
            let half_life = sizing.memory.as_ref().map_or(KEPT / FADED, |memory| memory.oom_half_life);
            let longest = sizing.longest_window_ms(windows);
            if let Some(remembered) = self.containers.get_mut(&container.name) {
                remembered.take_kills(container, half_life, now);
                remembered.prepare(windows, now);
                remembered.feed(container, signals, longest);
            }
        }
        let is_there = |name: &String| containers.iter().any(|container| container.name == *name);
        self.containers.retain(|name, remembered| {
            is_there(name) || remembered.watched.is_some_and(|(_, until)| now.since(until) < KEPT)
        });
    }

    /// Everything that the sizes of the containers rest on. `decision` is the tick's, for the rule's own
    /// values; `wall` is the time by the clock on the wall.
    pub fn ask_sizes(
        &self,
        policy: &Policy,
        containers: &[Container],
        (signals, decision): (&BTreeMap<String, Sample>, &Decision),
        (now, wall): (Time, Time),
    ) -> Question {
        let beside = |container: &&Container| container.kind != ContainerKind::Init;
        let mut question = Question {
            at: now,
            wall,
            together: containers.iter().filter(beside).count() as u32,
            ..Question::default()
        };
        for container in containers {
            let Some((_, sizing, windows)) = policy.sizing(&container.name, container.kind) else { continue };
            for input in &sizing.inputs {
                match input {
                    Input::Signal(name) => {
                        let sample = signals.get(name).map(|sample| (name.clone(), sample.clone()));
                        question.signals.extend(sample);
                    }
                    Input::Let(name) => {
                        let value = decision.lets.get(name).map(|value| (name.clone(), value.clone()));
                        question.lets.extend(value);
                    }
                    Input::Parameter(_) | Input::Window(_) => {}
                }
            }
            let asked = self.ask(container, (sizing, windows), now);
            question.containers.insert(container.name.clone(), asked);
        }
        question
    }

    fn ask(&self, container: &Container, (sizing, windows): (&Sizing, &Windows), now: Time) -> Asked {
        let nothing = Remembered::default();
        let remembered = self.containers.get(&container.name).unwrap_or(&nothing);
        let held = |run: &Run| Held { worker: run.worker.clone(), since: run.since, current: run.current };
        let read = |(slot, (key, argument)): (&usize, &(WindowKey, Option<f64>))| {
            let Some(Input::Window(window)) = sizing.inputs.get(*slot) else { return None };
            Some((window.to_string(), remembered.read(window.function, key, *argument, now)))
        };
        let used = |name: &&str| {
            let is_it = |input: &Input| match input {
                Input::Signal(it) => it == name,
                Input::Window(window) => window.signal == *name,
                Input::Parameter(_) | Input::Let(_) => false,
            };
            sizing.inputs.iter().any(is_it)
        };
        let usage = ["usage.cpu", "usage.memory"].into_iter().filter(used);
        let signals = usage.filter_map(|name| Some((name.to_owned(), sample(container, name)?)));
        Asked {
            kind: container.kind,
            template: container.template,
            last: remembered.last,
            unkilled: remembered.unkilled,
            signals: signals.collect(),
            windows: windows.iter().filter_map(read).collect(),
            watched_since: remembered.watched.map(|(since, _)| since),
            kills: remembered.kills.clone(),
            killed: remembered.killed,
            runs: container.runs.iter().map(held).collect(),
        }
    }

    /// Keeps what was answered: it holds until something else is known.
    pub fn remember_sizes(&mut self, sizes: &Sizes) {
        for (name, target) in &sizes.containers {
            if let Some(remembered) = self.containers.get_mut(name) {
                let mut last = remembered.last.unwrap_or_default();
                last = target.over(last);
                remembered.last = Some(last);
                remembered.unkilled = target.memory.as_ref().map(|sized| sized.unkilled);
            }
        }
    }
}

/// The largest use over the workers, of the time of the newest measurement.
fn sample(container: &Container, name: &str) -> Option<Sample> {
    let of_run = |run: &Run| {
        let measured = run.usage?;
        let value = if name == "usage.cpu" { measured.cpu } else { measured.memory };
        value.filter(|value| value.is_finite()).map(|value| (measured.at, value))
    };
    let measured = || container.runs.iter().filter_map(of_run);
    let at = measured().map(|(at, _)| at).max()?;
    let value = measured().map(|(_, value)| value).fold(0.0, f64::max);
    Some(Sample::measured(value, at))
}

impl Remembered {
    fn prepare(&mut self, windows: &Windows, now: Time) {
        for (key, _) in windows.values() {
            if key.function.starts_with("decaying") {
                if self.histograms.get(key).is_none() {
                    self.histograms.insert(key.clone(), Samples::default());
                }
            } else if self.windows.get(key).is_none() {
                self.windows.insert(key.clone(), Window::default());
            }
        }
        let wanted = |key: &WindowKey| windows.values().any(|(used, _)| used == key);
        self.windows.retain(|key, window| wanted(key) || !window.is_over(key.length_ms, now));
        self.histograms.retain(|key, samples| wanted(key) || !samples.is_over(key.length_ms, now));
    }

    fn feed(&mut self, container: &Container, signals: &BTreeMap<String, Sample>, longest_ms: u64) {
        let fresh: Vec<&Run> = container.runs.iter().filter(|run| self.is_fresh(run)).collect();
        for (key, window) in self.windows.iter_mut() {
            let own = sample(container, &key.signal);
            let sample =
                if key.signal.starts_with("usage.") { own.as_ref() } else { signals.get(&key.signal) };
            if let Some(Sample::Value { value, at, .. }) = sample {
                window.feed(&key.function, key.length_ms, *at, *value);
            }
        }
        for (key, samples) in self.histograms.iter_mut() {
            for run in &fresh {
                samples.feed(key, run);
            }
        }
        if let Some(newest) = fresh.iter().filter_map(|run| run.usage).map(|usage| usage.at).max() {
            let gap = Duration::from_millis(longest_ms / GAP);
            let goes_on = self.watched.filter(|(_, until)| newest.since(*until) <= gap);
            let (since, until) = goes_on.unwrap_or((newest, newest));
            self.watched = Some((since, until.max(newest)));
        }
        let mut seen = Few::default();
        for run in &container.runs {
            if let Some(at) = run.usage.map(|usage| usage.at).or(self.seen.get(&run.worker).copied()) {
                seen.insert(run.worker.clone(), at);
            }
        }
        self.seen = seen;
        self.is_live = true;
    }

    /// Whether a worker's measurement is one that was not taken in before.
    fn is_fresh(&self, run: &Run) -> bool {
        let Some(usage) = run.usage else { return false };
        let before = self.seen.get(&run.worker).copied();
        let stored = self.watched.map(|(_, until)| until).filter(|_| !self.is_live);
        before.or(stored).is_none_or(|before| usage.at > before)
    }

    fn take_kills(&mut self, container: &Container, half_life: Duration, now: Time) {
        let mut kills: Vec<&OutOfMemory> = container.kills.iter().collect();
        kills.sort_by_key(|kill| kill.at);
        for kill in kills {
            let had = || {
                let held = self.last.unwrap_or(container.template).memory;
                held.limit.or(held.request).or(container.template.memory.limit)
            };
            let seen =
                [kill.limit, kill.used].into_iter().flatten().filter(|it| it.is_finite()).reduce(f64::max);
            if self.newest_kill.is_none_or(|newest| kill.at > newest) {
                self.newest_kill = Some(kill.at);
                self.killed = self.killed.saturating_add(1);
            }
            if let Some(limit) = seen.or_else(had) {
                self.keep_kill(Kill { at: kill.at, limit });
            }
        }
        self.kills.retain(|kill| now.since(kill.at) < half_life * FADED);
    }

    /// A kill tells nothing beside a later one that was as large.
    fn keep_kill(&mut self, kill: Kill) {
        // Seen again after the limit was raised for it, it seems larger and is not.
        let is_known =
            |known: &Kill| known.at == kill.at || (known.at > kill.at && known.limit >= kill.limit);
        if self.kills.iter().any(is_known) {
            return;
        }
        self.kills.retain(|known| known.at > kill.at || known.limit > kill.limit);
        let place = self.kills.partition_point(|known| known.at < kill.at);
        self.kills.insert(place, kill);
        if self.kills.len() > KILLS_MAX {
            self.kills.pop();
        }
    }

    fn read(
        &self,
        function: WindowFunction,
        key: &WindowKey,
        argument: Option<f64>,
        now: Time,
    ) -> Option<f64> {
        if function.is_decaying() {
            return self.histograms.get(key)?.read(function, key, argument);
        }
        self.windows.get(key)?.read(&key.function, key.length_ms, argument, now)
    }
}
