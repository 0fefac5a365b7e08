//! What a worker has done so far, as its reports tell it.

use std::time::Duration;

use tokio::time::Instant;

use qscaler_protocol::PROTOCOL;
use qscaler_protocol::lifecycle::Lifecycle;
use qscaler_protocol::name::{BootId, WorkerId};
use qscaler_protocol::report::{Durations, Report, State};

use super::execute::Outcome;

pub(super) struct Tally {
    boot: BootId,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) late_acks: u64,
    busy: Duration,
    durations: Durations,
    state: (State, Instant),
}

impl Tally {
    pub(super) fn new(boot: BootId) -> Self {
        Self {
            boot,
            done: 0,
            failed: 0,
            late_acks: 0,
            busy: Duration::ZERO,
            durations: Durations::default(),
            state: (State::Starting, Instant::now()),
        }
    }

    /// Counts a task. How long one took that was not worked to its end says nothing of the next.
    pub(super) fn add_task(&mut self, took: Duration, outcome: Outcome) {
        self.busy += took;
        match outcome {
            Outcome::Done => self.done += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Late => self.late_acks += 1,
            Outcome::GivenBack => return,
        }
        self.durations.add(milliseconds(took));
    }

    /// Notices when the state changes, which may be long before the next report.
    pub(super) fn note(&mut self, state: State) {
        if self.state.0 != state {
            self.state = (state, Instant::now());
        }
    }

    pub(super) fn report(&self, worker: &WorkerId, life: &Lifecycle) -> Report {
        Report {
            protocol: PROTOCOL,
            worker: worker.clone(),
            boot: self.boot.clone(),
            state: self.state.0,
            state_ms: milliseconds(self.state.1.elapsed()),
            slots: life.slots(),
            busy_slots: life.busy(),
            done: self.done,
            failed: self.failed,
            late_acks: self.late_acks,
            busy_ms: milliseconds(self.busy),
            durations: self.durations.clone(),
            claim: life.claim(),
            epoch: life.counts_in().cloned(),
            pid: Some(std::process::id()),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
