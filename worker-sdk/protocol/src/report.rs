//! What a worker says of itself on the control path, and what it is told in return.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{BootId, Epoch, OfferId, WorkerId};
use crate::path::Opening;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It has not taken a task yet and may not.
    #[default]
    Starting,
    /// It waits for tasks.
    Idle,
    /// It works on at least one task.
    Busy,
    /// It takes no more tasks and finishes what it holds.
    Draining,
    /// It holds nothing and its hook has run: it may be deleted.
    Drained,
}

/// One report. Counts are since the process started, so that a lost report loses nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`PROTOCOL`](crate::PROTOCOL) of the worker.
    pub protocol: u32,
    /// Who reports.
    pub worker: WorkerId,
    /// Which start of its process.
    pub boot: BootId,
    /// What it is doing.
    pub state: State,
    /// For how long it has been doing so, in milliseconds of the worker's clock.
    pub state_ms: u64,
    /// How many tasks it can work on at a time.
    pub slots: u32,
    /// How many it works on now.
    pub busy_slots: u32,
    /// Tasks done since the process started.
    pub done: u64,
    /// Tasks that raised an error since the process started.
    pub failed: u64,
    /// Acks that came after the lease was lost: these tasks may have run twice.
    #[serde(default)]
    pub late_acks: u64,
    /// Milliseconds of work in tasks that have ended, summed over slots.
    pub busy_ms: u64,
    /// How long these tasks took.
    #[serde(default)]
    pub durations: Durations,
    /// The offer that it has claimed. Repeated in each report, so that a path that lost its data learns it again.
    #[serde(default)]
    pub claim: Option<OfferId>,
    /// The path's epoch that it knows, unless a claim is on its way: whatever it claims from now on is of this epoch.
    #[serde(default)]
    pub epoch: Option<Epoch>,
    /// Its process id, where that says something to the reader.
    #[serde(default)]
    pub pid: Option<u32>,
}

impl Report {
    /// Of a worker that has not begun: what stands for it until it says something itself.
    pub fn of_unborn(worker: &WorkerId) -> Self {
        Self {
            protocol: crate::PROTOCOL,
            worker: worker.clone(),
            boot: BootId::new(""),
            state: State::Starting,
            state_ms: 0,
            slots: 1,
            busy_slots: 0,
            done: 0,
            failed: 0,
            late_acks: 0,
            busy_ms: 0,
            durations: Durations::default(),
            claim: None,
            epoch: None,
            pid: None,
        }
    }
}

/// The answer to a report, in one atomic step with storing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The path's epoch, which a claim must name.
    pub epoch: Option<Epoch>,
    /// Whether there is an offer that it may claim.
    pub opening: Opening,
    /// The claim that the path holds for this worker.
    pub claim: Option<OfferId>,
    /// The engine has already released this worker, or it had drained before its process was started
    /// again: it takes nothing any more.
    pub released: bool,
}

/// A report as the engine reads it back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// What the worker said.
    pub report: Report,
    /// The path's epoch when it said so: a report from before a loss of data proves nothing.
    pub epoch: Option<Epoch>,
    /// How long ago, in milliseconds of the queue system's clock.
    pub age_ms: u64,
    /// The engine has released this worker.
    pub released: bool,
}

/// How long tasks took: counts per bucket, each bucket a tenth wider than the one before, from one millisecond.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Durations(BTreeMap<u8, u64>);

/// A bucket ends a tenth above where it begins: a quantile is off by at most five per cent.
const GROWTH: f64 = 1.1;

impl Durations {
    /// Counts one task that took this many milliseconds.
    pub fn add(&mut self, ms: u64) {
        *self.0.entry(Self::bucket(ms)).or_default() += 1;
    }

    /// Counts per bucket, in rising order.
    pub fn counts(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        self.0.iter().map(|(bucket, count)| (*bucket, *count))
    }

    /// The middle of a bucket, in seconds.
    pub fn middle_seconds(bucket: u8) -> f64 {
        let end = (0..bucket).fold(1.0, |end, _| end * GROWTH);
        end / GROWTH.sqrt() / 1000.0
    }

    fn bucket(ms: u64) -> u8 {
        let mut end = 1.0;
        let mut bucket = 0;
        while end < ms as f64 && bucket < u8::MAX {
            end *= GROWTH;
            bucket += 1;
        }
        bucket
    }
}
