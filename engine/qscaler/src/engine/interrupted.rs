//! Tells how many tasks were cut off and why: the queue system says of which worker, the platform what became
//! of it.
//!
//! Whoever cuts tasks off or gives them back writes that down in the same atomic step, and an engine says
//! before it counts that it does. So each is counted once, also by engines that are killed and by several.

use std::collections::BTreeMap;
use std::time::Duration;

use qscaler_core::fleet::{Process, Seen};
use qscaler_core::interrupted::{Interruption, Last, cause};
use qscaler_core::plan::Step;
use qscaler_core::time::Time;
use qscaler_protocol::name::{BootId, WorkerId};
use qscaler_protocol::report::Received;

use super::keeper::{Hold, Keeper};
use crate::event::Event;
use crate::ports::{Counting, QueueSystem};

/// So long something is waited for that says more of a worker than is known.
const HEAR_MAX: Duration = Duration::from_secs(10);
/// Workers that are gone are remembered for so long, and so many of them.
const GONE: (Duration, usize) = (Duration::from_secs(24 * 3600), 1000);

/// What one workload's keeper knows of workers and of what was counted.
pub(super) struct Interrupted {
    /// A name of this keeper's own.
    by: String,
    lives: BTreeMap<WorkerId, Last>,
    queues: BTreeMap<String, Counted>,
    /// Late acknowledgements that each worker had told of, and in which life.
    late: Option<BTreeMap<WorkerId, (BootId, u64)>>,
}

/// How far the interruptions of one queue were counted.
#[derive(Clone, Copy, Default)]
struct Counted {
    /// Up to this one; none before the control path has said where to begin.
    known: Option<u64>,
    /// It was said that they are counted up to this one, and the answer has not come.
    said: Option<u64>,
}

impl Interrupted {
    pub(super) fn new(random: u64) -> Self {
        let by = format!("{random:016x}");
        Self { by, lives: BTreeMap::new(), queues: BTreeMap::new(), late: None }
    }

    /// Notes what the platform shows now.
    fn see(&mut self, fleet: &[Seen], now: Time) {
        for seen in fleet {
            let life = self.lives.entry(seen.id.clone()).or_default();
            life.is_running = matches!(seen.process, Process::Running | Process::Ending);
            life.gone = None;
            let Some(fate) = &seen.fate else { continue };
            let life = self.lives.entry(fate.worker.clone()).or_default();
            life.end = fate.end.or(life.end);
            life.going = fate.going.or(life.going);
            if fate.worker != seen.id {
                life.is_running = false;
            }
        }
        for (worker, life) in &mut self.lives {
            if life.gone.is_none() && fleet.iter().all(|seen| seen.id != *worker) {
                life.gone = Some(now);
            }
        }
        self.lives.retain(|_, life| life.gone.is_none_or(|at| now.since(at) <= GONE.0));
        let mut gone: Vec<_> = self.lives.values().filter_map(|life| life.gone).collect();
        if gone.len() > GONE.1 {
            gone.sort_unstable();
            let oldest = gone.get(gone.len() - GONE.1).copied();
            self.lives.retain(|_, life| life.gone < oldest.or(life.gone) || life.gone.is_none());
        }
    }

    /// Notes which workers the engine has ended.
    fn note(&mut self, done: &[Step]) {
        for step in done {
            if let Step::Terminate { worker } = step {
                self.lives.entry(worker.clone()).or_default().is_overdue = true;
            }
        }
    }

    /// Late acknowledgements that were told of since the last time; from the first time on.
    fn late_acks(&mut self, reports: &BTreeMap<WorkerId, Received>) -> u64 {
        let before = self.late.take();
        let mut known = before.clone().unwrap_or_default();
        let mut fresh = 0;
        for (worker, Received { report, .. }) in reports {
            let counted = match known.get(worker) {
                Some((boot, counted)) if *boot == report.boot => *counted,
                _ => 0,
            };
            fresh += report.late_acks.saturating_sub(counted);
            known.insert(worker.clone(), (report.boot.clone(), report.late_acks.max(counted)));
        }
        known.retain(|worker, _| reports.contains_key(worker) || self.lives.contains_key(worker));
        self.late = Some(known);
        before.map_or(0, |_| fresh)
    }

    /// The last of these that can be told: what became of its worker and of those before is known, or will
    /// not be.
    fn settled(&self, entries: &[Interruption], after: u64, now: Time) -> u64 {
        let is_open = |it: &&Interruption| {
            let cause = cause(it.why, self.lives.get(&it.worker), now);
            cause.is_preliminary() && now.since(it.seen) < HEAR_MAX
        };
        let fresh = || entries.iter().filter(|it| it.number > after);
        let open = fresh().find(is_open).map_or(u64::MAX, |it| it.number);
        fresh().map(|it| it.number).take_while(|number| *number < open).last().unwrap_or(after)
    }
}

impl Keeper {
    /// Tells of tasks that were cut off and of acknowledgements that came late.
    pub(super) async fn tell_interrupted(
        &self,
        hold: &mut Hold,
        (fleet, reports): (&[Seen], &BTreeMap<WorkerId, Received>),
        done: &[Step],
    ) {
        let now = self.ports.clock.wall();
        hold.interrupted.see(fleet, now);
        hold.interrupted.note(done);
        let tasks = hold.interrupted.late_acks(reports);
        if tasks > 0 {
            self.ports.listen.hear(&Event::LateAcks { workload: self.key.clone(), tasks });
        }
        let Ok(system) = hold.subscription.system() else { return };
        for queue in hold.order.workload.queue_names() {
            for it in self.to_count(hold, &system, &queue).await {
                let life = hold.interrupted.lives.get(&it.worker);
                // Of several workloads on a queue only one knows the worker.
                if life.is_some() || reports.contains_key(&it.worker) || hold.subscription.is_alone(&queue) {
                    let (workload, cause) = (self.key.clone(), cause(it.why, life, now));
                    let event = Event::Interrupted { workload, worker: it.worker, cause, tasks: it.tasks };
                    self.ports.listen.hear(&event);
                }
            }
        }
    }

    /// The interruptions of a queue that this engine, and no other, counts now.
    async fn to_count(&self, hold: &mut Hold, system: &QueueSystem, queue: &str) -> Vec<Interruption> {
        let entries = system.source.interruptions(queue);
        let last = entries.last().map_or(0, |last| last.number);
        let mut counted = hold.interrupted.queues.get(queue).copied().unwrap_or_default();
        let by = hold.interrupted.by.clone();
        let count = async |known, last| {
            let counting = Counting { queue, known, last, by: &by };
            let asked = system.control.count(&hold.uid, counting).await;
            asked
                .inspect_err(|error| tracing::debug!(%error, "cannot count interruptions; trying again"))
                .ok()
        };
        if counted.known.is_none() {
            counted.known = count(None, last).await;
        }
        let mut fresh = vec![];
        if let Some(known) = counted.known {
            // Data that was lost begins again at one.
            let known = if last < known { 0 } else { known };
            let settled = || hold.interrupted.settled(&entries, known, self.ports.clock.wall());
            let to = counted.said.unwrap_or_else(settled);
            counted.known = Some(known);
            if to > known {
                counted.said = Some(to);
                if let Some(after) = count(Some(known), to).await {
                    fresh =
                        entries.iter().filter(|it| it.number > after && it.number <= to).cloned().collect();
                    counted = Counted { known: Some(to), said: None };
                }
            }
        }
        hold.interrupted.queues.insert(queue.to_owned(), counted);
        fresh
    }
}
