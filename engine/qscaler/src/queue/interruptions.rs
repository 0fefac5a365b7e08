//! What was read of interruptions: each is read once, and kept for the workloads that count them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qscaler_core::interrupted::{Interruption, Why};
use qscaler_core::time::Time;
use qscaler_protocol::name::WorkerId;

use crate::clock::wall_clock;

/// As many as the queue systems keep of a queue.
const KEPT: usize = 1000;

/// The last interruptions of each queue, in rising order.
#[derive(Default)]
pub(super) struct Interruptions {
    of: Mutex<BTreeMap<String, Arc<Vec<Interruption>>>>,
}

impl Interruptions {
    /// The number of the last one that was read.
    pub(super) fn known(&self, queue: &str) -> u64 {
        self.of(queue).last().map_or(0, |last| last.number)
    }

    /// Adds those that are new, in rising order; `last` is the number of the last one that there is.
    pub(super) fn add(&self, queue: &str, last: u64, fresh: Vec<Interruption>) {
        let mut all = self.lock();
        let known = all.entry(queue.to_owned()).or_default();
        if known.last().is_some_and(|known| last < known.number) {
            // The system has lost its data and begins again.
            *known = Arc::default();
        }
        if !fresh.is_empty() {
            let kept = known.len().min(KEPT.saturating_sub(fresh.len()));
            let old = known.iter().skip(known.len() - kept).cloned();
            *known = Arc::new(old.chain(fresh).collect());
        }
    }

    pub(super) fn of(&self, queue: &str) -> Arc<Vec<Interruption>> {
        self.lock().get(queue).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Vec<Interruption>>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that was read just now.
pub(super) fn interruption(number: u64, why: &str, tasks: u64, worker: &str) -> Interruption {
    let why = if why == "grace" { Why::Grace } else { Why::Lost };
    let seen: Time = wall_clock();
    Interruption { number, why, tasks, worker: WorkerId::new(worker), seen }
}
