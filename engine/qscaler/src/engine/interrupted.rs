//! Tells how many tasks were cut off and why: the queue system says of which worker, the platform what became
//! of it.
//!
//! Whoever cuts tasks off or gives them back writes that down in the same atomic step, and an engine says
//! before it counts that it does. So each is counted once, also by engines that are killed and by several.

use std::collections::{BTreeMap, BTreeSet};
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
        let there: BTreeSet<_> = fleet.iter().map(|seen| &seen.id).collect();
        for (_, life) in self.lives.iter_mut().filter(|(worker, _)| !there.contains(worker)) {
            life.gone.get_or_insert(now);
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Time) {
        self.lives.retain(|_, life| life.gone.is_none_or(|at| now.since(at) <= GONE.0));
        let mut gone: Vec<_> =
            self.lives.iter().filter_map(|(worker, life)| Some((life.gone?, worker))).collect();
        let too_many = gone.len().saturating_sub(GONE.1);
        gone.sort_unstable();
        let oldest: Vec<_> = gone.into_iter().take(too_many).map(|(_, worker)| worker.clone()).collect();
        for worker in oldest {
            self.lives.remove(&worker);
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

#[cfg(test)]
mod tests {
    use qscaler_core::interrupted::{Cause, End, Fate, How, Why};
    use qscaler_protocol::PROTOCOL;
    use qscaler_protocol::report::{Durations, Report, State};

    use super::*;

    fn worker(number: u64) -> WorkerId {
        WorkerId::new(format!("worker{number:06}"))
    }

    fn running(number: u64) -> Seen {
        Seen::new(worker(number), "mail-1", Process::Running, Time(0))
    }

    fn report(boot: &str, late_acks: u64) -> Received {
        let report = Report {
            protocol: PROTOCOL,
            worker: worker(1),
            boot: BootId::new(boot),
            state: State::Idle,
            state_ms: 0,
            slots: 1,
            busy_slots: 0,
            done: 0,
            failed: 0,
            late_acks,
            busy_ms: 0,
            durations: Durations::default(),
            claim: None,
            epoch: None,
            pid: None,
        };
        Received { report, epoch: None, age_ms: 0, released: false }
    }

    #[test]
    fn workers_that_are_gone_are_forgotten_when_they_are_many_or_long_gone() {
        let mut known = Interrupted::new(1);
        for number in 0..1_500 {
            known.see(&[running(number)], Time(1));
        }
        assert_eq!(known.lives.len(), 1_001, "the one that is there, and a thousand");
        known.see(&[running(1_499)], Time(2 + 24 * 3_600_000));
        assert_eq!(known.lives.keys().collect::<Vec<_>>(), [&worker(1_499)]);
    }

    #[test]
    fn how_a_process_ended_is_known_of_the_worker_that_it_was() {
        let mut known = Interrupted::new(1);
        known.see(&[running(1)], Time(1));
        let end = Some(End { how: How::Code(137), at: Time(2) });
        let fate = Some(Fate { worker: worker(1), end, going: None });
        known.see(&[Seen { fate, ..running(2) }], Time(3));
        let cause_of = |number| cause(Why::Lost, known.lives.get(&worker(number)), Time(3));
        assert_eq!([cause_of(1), cause_of(2), cause_of(3)], [Cause::Killed, Cause::Stalled, Cause::Unknown]);
    }

    #[test]
    fn an_interruption_is_told_when_its_cause_is_known_or_will_not_be_and_never_before_an_earlier_one() {
        let mut known = Interrupted::new(1);
        known.see(&[running(1), running(2)], Time(0));
        let entry =
            |number, why, of| Interruption { number, why, tasks: 1, worker: worker(of), seen: Time(0) };
        let entries = [entry(4, Why::Grace, 1), entry(5, Why::Lost, 1), entry(6, Why::Grace, 2)];
        assert_eq!(known.settled(&entries, 3, Time(1)), 4);
        assert_eq!(known.settled(&entries, 4, Time(1)), 4, "more may be heard of the next");
        assert_eq!(known.settled(&entries, 4, Time(10_000)), 6, "or nothing");
        known.note(&[Step::Terminate { worker: worker(1) }]);
        assert_eq!(known.settled(&entries, 4, Time(1)), 6);
    }

    #[test]
    fn late_acknowledgements_are_counted_by_what_each_life_of_a_worker_adds() {
        let mut known = Interrupted::new(1);
        let mut tell = |boot, late_acks| {
            let reports = BTreeMap::from([(worker(1), report(boot, late_acks))]);
            known.see(&[running(1)], Time(0));
            known.late_acks(&reports)
        };
        assert_eq!(tell("first", 3), 0, "what was before this engine is not its own");
        assert_eq!([tell("first", 3), tell("first", 5), tell("second", 1), tell("second", 1)], [0, 2, 1, 0]);
        assert_eq!(known.late_acks(&BTreeMap::new()), 0);
        let back = BTreeMap::from([(worker(1), report("second", 2))]);
        assert_eq!(known.late_acks(&back), 1, "reports that were lost for a while change nothing");
        assert!(known.late.unwrap().contains_key(&worker(1)));
    }
}
