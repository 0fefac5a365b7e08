//! What a rule would have given a container that used this: recorded use is fed to the same code that
//! sizes containers in the engine, and every amount that it gives is held against what is used next.
//!
//! The first time is watched and not judged. After it the container starts with what the rule asks for
//! then. A use above the limit is a kill: it counts once, and the container is back at once with what the
//! rule gives a new one. A running container gets new amounts when the rule's `when` holds, at once without.

use std::collections::BTreeMap;
use std::time::Duration;

use qscaler_protocol::name::WorkerId;

use super::{Container, Measured, OutOfMemory, Resources, Run, Target, size};
use crate::decide::{self, Decision, decide};
use crate::memory::Memory;
use crate::rule::Policy;

/// What one container used, the earliest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The container's name.
    pub container: String,
    /// Each with a memory.
    pub usage: Vec<Measured>,
}

/// What became of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The container's name.
    pub container: String,
    /// Mean part of the limit that is not used; none where nothing was judged.
    pub slack: Option<f64>,
    /// How often it used more than its limit.
    pub ooms: u64,
    /// How often it got other amounts while it ran.
    pub changes: u64,
    /// What the rule has no answer to, once each.
    pub problems: Vec<String>,
}

/// What became of all containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Total {
    /// How many containers were judged.
    pub containers: u64,
    /// The mean of their slacks.
    pub slack: f64,
    /// Kills.
    pub ooms: u64,
    /// Containers that were killed at least once.
    pub containers_with_oom: u64,
    /// Changes of amounts of running containers.
    pub changes: u64,
}

/// Replays one container under a rule.
pub fn replay(policy: &Policy, trace: &Trace, warm_up: Duration) -> Outcome {
    let mut world = World::of(policy, trace);
    for measured in &trace.usage {
        let Some(used) = measured.memory else { continue };
        let is_judged = trace.usage.first().is_some_and(|first| measured.at.since(first.at) > warm_up);
        let limit = world.limit().filter(|_| is_judged);
        let is_killed = limit.is_some_and(|limit| used > limit);
        let target = world.look(*measured, limit.filter(|_| is_killed));
        match target {
            Some(target) if is_killed || !is_judged => world.start(&target, measured),
            Some(target) if !target.resize.is_empty() => {
                world.start(&target, measured);
                world.outcome.changes += 1;
            }
            Some(_) | None => {}
        }
        let held = if is_killed { world.limit().map(|limit| limit.max(used)) } else { limit };
        if let Some(held) = held.filter(|held| *held > 0.0) {
            world.unused.0 += (held - used) / held;
            world.unused.1 += 1;
        }
        world.outcome.ooms += u64::from(is_killed);
    }
    let (sum, count) = world.unused;
    Outcome { slack: (count > 0).then(|| sum / count as f64), ..world.outcome }
}

impl Total {
    /// All of them together; containers of which nothing was judged do not count.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let judged = || outcomes.iter().filter_map(|outcome| outcome.slack.map(|slack| (slack, outcome)));
        let containers = judged().count() as u64;
        Self {
            containers,
            slack: judged().map(|(slack, _)| slack).sum::<f64>() / containers.max(1) as f64,
            ooms: judged().map(|(_, outcome)| outcome.ooms).sum(),
            containers_with_oom: judged().filter(|(_, outcome)| outcome.ooms > 0).count() as u64,
            changes: judged().map(|(_, outcome)| outcome.changes).sum(),
        }
    }
}

/// One container in one worker, under a rule.
struct World<'a> {
    policy: &'a Policy,
    memory: Memory,
    decision: Decision,
    containers: [Container; 1],
    outcome: Outcome,
    /// The sum of the unused parts, and of how many.
    unused: (f64, u64),
}

impl<'a> World<'a> {
    /// The container's template has neither request nor limit: all that it gets is the rule's.
    fn of(policy: &'a Policy, trace: &Trace) -> Self {
        let container = Container { name: trace.container.clone(), ..Container::default() };
        Self {
            policy,
            memory: Memory::default(),
            decision: decide(policy, &decide::Question::default()),
            containers: [container],
            outcome: Outcome { container: trace.container.clone(), ..Outcome::default() },
            unused: (0.0, 0),
        }
    }

    /// What the container may use: its limit, or its request where the rule gives no limit.
    fn limit(&self) -> Option<f64> {
        let memory = self.containers[0].runs.first()?.current.memory;
        memory.limit.or(memory.request)
    }

    /// Feeds what was measured, and asks the rule.
    fn look(&mut self, measured: Measured, killed_at: Option<f64>) -> Option<Target> {
        let (container, now) = (&mut self.containers[0], measured.at);
        if container.runs.is_empty() {
            let current = Resources::default();
            container.runs.push(Run { worker: WorkerId::new("w"), since: now, current, usage: None });
        }
        container.runs[0].usage = Some(measured);
        container.kills.clear();
        if killed_at.is_some() {
            container.runs[0].since = now;
            container.kills.push(OutOfMemory { at: now, limit: killed_at, used: measured.memory });
        }
        let signals = BTreeMap::new();
        self.memory.feed_containers(self.policy, &self.containers, &signals, now);
        let question =
            self.memory.ask_sizes(self.policy, &self.containers, (&signals, &self.decision), (now, now));
        let mut sizes = size(self.policy, &question);
        self.memory.remember_sizes(&sizes);
        let target = sizes.containers.remove(&self.outcome.container)?;
        for problem in &target.problems {
            if self.outcome.problems.len() < 10 && !self.outcome.problems.contains(problem) {
                self.outcome.problems.push(problem.clone());
            }
        }
        Some(target)
    }

    /// The container has these amounts from now on.
    fn start(&mut self, target: &Target, measured: &Measured) {
        let run = &mut self.containers[0].runs[0];
        run.current = target.over(Resources::default());
        run.since = measured.at;
    }
}
