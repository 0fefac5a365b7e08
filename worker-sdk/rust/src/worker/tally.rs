//! What a worker has done so far, as its reports tell it.

use std::time::Duration;

use tokio::time::Instant;

use qscaler_protocol::PROTOCOL;
use qscaler_protocol::lifecycle::Lifecycle;
use qscaler_protocol::name::{BootId, WorkerId};
use qscaler_protocol::report::{Durations, Report, State};

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

    /// Counts the time that one task took, however it ended.
    pub(super) fn add_task(&mut self, took: Duration) {
        self.busy += took;
        self.durations.add(milliseconds(took));
    }

    pub(super) fn report(&mut self, worker: &WorkerId, life: &Lifecycle) -> Report {
        if self.state.0 != life.state() {
            self.state = (life.state(), Instant::now());
        }
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
