//! One tick of one workload: observe (IO), decide, plan, apply (IO), remember.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::Span;

use qscaler_core::decide::{Decision, Question, decide};
use qscaler_core::memory::Done;
use qscaler_core::observe::{Reading, signals};
use qscaler_core::plan::{Drain, Plan, RolloutState, Situation, Step};
use qscaler_core::record::{Line, used_signals};
use qscaler_core::rule::Policy;
use qscaler_core::signal::Sample;
use qscaler_core::workload::Made;
use qscaler_protocol::name::{Epoch, WorkerId, WorkloadUid};

use super::Mode;
use super::keeper::{Hold, Keeper};
use super::observe::Observed;
use super::sizes::says_sizes;
use crate::event::Event;
use crate::ports::{Adopt, Asked, ControlPath, Freshness, Version};

/// What was decided, or is to hold while there is no rule.
pub(super) struct Decided {
    question: Question,
    pub(super) decision: Decision,
    pub(super) policy: Policy,
    /// All signals, where sizes are asked for.
    pub(super) samples: BTreeMap<String, Sample>,
}

impl Keeper {
    /// Does one tick. Returns how many workers there are, whatever they do.
    #[tracing::instrument(level = "info", skip_all, fields(workload = self.key, desired, reason))]
    pub(super) async fn tick(&mut self, hold: &mut Hold) -> Asked<usize> {
        if hold.order.mode >= Mode::Drain && self.ports.platform.is_gone(&hold.uid).await? {
            return Ok(0);
        }
        let freshness = self.freshness(hold);
        let mut observed = self.observe(hold, freshness, None).await?;
        let workload = Arc::clone(&hold.order.workload);
        let decided = self.decide(hold, &observed, &observed.situation(&workload.name));
        if let Some(decided) = &decided {
            self.tell(hold, decided, &observed);
        }
        let mut plan = self.plan_with_sizes(hold, &mut observed, decided.as_ref());
        if !plan.is_empty() && freshness == Freshness::Seen {
            observed = self.observe(hold, Freshness::Live, Some(observed.poll)).await?;
            plan = self.plan_with_sizes(hold, &mut observed, decided.as_ref());
        }
        let acts = observed.acts(&hold.order);
        self.tell_rollout(hold, plan.rollout.clone());
        self.tell_target(hold, &observed);
        let left = match &observed.found {
            _ if !acts && !observed.owes() => 0,
            // What makes the workers keeps them; only what was taken from it is waited for.
            Some(_) => observed.ledger.offers.len(),
            None => observed.fleet.len() + plan.starts(),
        };
        let announced = self.announce(hold, decided.as_ref(), acts).await;
        let mut outcome = self.apply(hold, &observed.version, plan).await;
        outcome.result = outcome.result.and(announced);
        let rolls = outcome.rolling || observed.ledger.rolling.is_some();
        self.remember(hold, decided, acts, (&outcome.done, rolls)).await;
        let seen = (&*observed.fleet, &observed.shown.reports);
        self.tell_interrupted(hold, seen, &outcome.done).await;
        hold.shown = observed.shown;
        if hold.order.mode >= Mode::Drain && left == 0 {
            // Without workers there is nothing to wait for, whether or not the queue system answers.
            return Ok(0);
        }
        observed.unread.map_or(outcome.result, Err).map(|()| left)
    }

    fn decide(&self, hold: &mut Hold, observed: &Observed, situation: &Situation<'_>) -> Option<Decided> {
        let policy = hold.order.policy.clone()?;
        let (members, current) = (situation.members(), situation.current());
        let reading = Reading {
            measures: observed.poll.answer.as_ref().map_err(|error| error.reason.clone()),
            measured_at: observed.poll.began,
            queues: &hold.order.workload.queues,
            members: &members,
            reports: &observed.shown.reports,
            current,
        };
        let memory = &mut hold.memory;
        let mut samples = signals(&reading, &policy, memory, observed.now);
        memory.resume(&policy, current, observed.now);
        memory.feed(&policy, &samples, observed.now);
        let of_sizes = says_sizes(&policy) && hold.order.workload.sized;
        let of_sizes = if of_sizes { samples.clone() } else { BTreeMap::new() };
        let question = Question {
            at: observed.now,
            wall: self.ports.clock.wall(),
            current,
            windows: memory.read(&policy, observed.now),
            signals: used_signals(&policy.rule).filter_map(|name| samples.remove_entry(name)).collect(),
            history: memory.history.clone(),
            pause: hold.order.workload.pause,
            stopping: hold.order.mode >= Mode::Drain && observed.found.is_none(),
        };
        let decision = decide(&policy, &question);
        Some(Decided { question, decision, policy, samples: of_sizes })
    }

    fn tell(&self, hold: &Hold, decided: &Decided, observed: &Observed) {
        let Decided { question, decision, .. } = decided;
        Span::current().record("desired", decision.replicas).record("reason", &decision.reason);
        let changed = hold.decided.as_ref().is_none_or(|before| {
            (before.replicas, before.because, &before.problems)
                != (decision.replicas, decision.because, &decision.problems)
        });
        self.ports.listen.hear(&Event::Decided {
            workload: self.key.clone(),
            current: question.current,
            workers: observed.fleet.len() as u32,
            silent: observed.silent(),
            length: question.signals.get("queue.length").and_then(Sample::value),
            decision: Box::new(decision.clone()),
            changed,
            acts: observed.acts(&hold.order),
        });
    }

    /// Tells how far a rollout is, when that has changed.
    fn tell_rollout(&self, hold: &mut Hold, rollout: Option<RolloutState>) {
        if hold.rollout != rollout {
            hold.rollout.clone_from(&rollout);
            self.ports.listen.hear(&Event::Rollout { workload: self.key.clone(), rollout });
        }
    }

    /// What to do; nothing where that is only shown, or where the control path could not be read.
    pub(super) fn plan(&self, hold: &Hold, observed: &Observed, decided: Option<&Decided>) -> Plan {
        if !(observed.acts(&hold.order) || observed.owes()) || observed.unread.is_some() {
            return Plan::default();
        }
        let situation = observed.situation(&hold.order.workload.name);
        let current = situation.current();
        let stopping = hold.order.mode >= Mode::Drain;
        let desired = match decided {
            _ if stopping => 0,
            Some(decided) => decided.decision.replicas,
            None => current,
        };
        let of_rule = decided.map(|decided| decided.policy.rule.drain);
        let drain = Drain {
            by: hold.order.workload.target.leave,
            at_once_max: of_rule.filter(|_| !stopping).map_or(u32::MAX, |drain| drain.at_once_max(current)),
            deadline: hold.order.workload.target.deadline.or(of_rule.and_then(|drain| drain.deadline)),
            rollout: hold.rollout(desired),
        };
        situation.plan(desired, drain, Epoch::from_random(self.ports.random.bits()))
    }

    /// Says how many workers there are to be, before a worker comes or is asked to go. Where that cannot be
    /// written it is told and tried again, and the workers come and go all the same: a budget that counts on
    /// the old number for a while is the smaller harm.
    async fn announce(&self, hold: &Hold, decided: Option<&Decided>, acts: bool) -> Asked<()> {
        match decided {
            Some(decided) if acts => self.ports.platform.announce(&hold.uid, decided.decision.replicas).await,
            Some(_) | None => Ok(()),
        }
    }

    #[tracing::instrument(level = "info", skip_all, fields(steps = plan.steps.len()))]
    async fn apply(&self, hold: &Hold, read: &Version, plan: Plan) -> Outcome {
        let rolling = plan.ledger.as_ref().is_some_and(|ledger| ledger.rolling.is_some());
        let mut outcome = Outcome { done: vec![], result: Ok(()), rolling };
        if plan.is_empty() {
            return outcome;
        }
        let control = match hold.subscription.system() {
            Ok(system) => system.control,
            Err(error) => return Outcome { result: Err(error), ..outcome },
        };
        if let Some(ledger) = &plan.ledger {
            match self.ports.store.commit(&hold.uid, read, ledger).await {
                Ok(true) => {}
                Ok(false) => {
                    self.ports.listen.hear(&Event::CommitLost { workload: self.key.clone() });
                    return outcome;
                }
                Err(error) => return Outcome { result: Err(error), ..outcome },
            }
        }
        // Whoever was to be removed and is still there keeps the place of one that was to be started.
        let mut kept: usize = 0;
        for step in plan.steps {
            if kept > 0 && matches!(step, Step::Start { .. }) {
                kept -= 1;
                continue;
            }
            let removes = matches!(step, Step::Remove { .. });
            // A step that fails is planned again at the next tick; the others need not wait for it.
            match self.carry_out(hold, &*control, &step).await {
                Ok(true) => {
                    self.ports.listen.hear(&Event::Done { workload: self.key.clone(), step: step.clone() });
                    outcome.done.push(step);
                }
                Ok(false) => kept += usize::from(removes),
                Err(error) => {
                    kept += usize::from(removes);
                    outcome.result = outcome.result.and(Err(error));
                }
            }
        }
        outcome
    }

    /// Carries out a step. `false`: what it was planned for is no longer so; the next tick plans anew.
    async fn carry_out(&self, hold: &Hold, control: &dyn ControlPath, step: &Step) -> Asked<bool> {
        let (uid, platform) = (&hold.uid, &self.ports.platform);
        match step {
            Step::Adopt { seen, epoch, floor, claims } => {
                let adopt = Adopt { seen: seen.as_ref(), epoch, floor: *floor, claims };
                control.adopt(uid, adopt).await?;
            }
            Step::Project { epoch, offers } => {
                control.project(uid, epoch, offers).await?;
            }
            Step::Withdraw { epoch, offers } => {
                for offer in offers {
                    control.withdraw(uid, epoch, *offer).await?;
                }
            }
            Step::RaiseFloor { epoch, floor } => {
                control.raise_floor(uid, epoch, *floor).await?;
            }
            Step::Start { name } => {
                let sizes = &hold.sizing.births;
                let plain = platform.start(uid, &hold.order.workload, name, sizes).await?;
                if let Some(hindrance) = plain {
                    hold.sizing.bear_plain(hindrance, self.ports.clock.now());
                }
            }
            Step::Resize { worker, containers } => {
                if let Some(hindrance) = platform.resize(uid, worker, containers).await? {
                    hold.sizing.refuse(containers, hindrance, self.ports.clock.now());
                    return Ok(false);
                }
            }
            Step::Remove { worker } => {
                return Ok(
                    self.may_be_removed(uid, control, worker).await? && platform.remove(uid, worker).await?
                );
            }
            Step::Mark { worker, marked } => platform.mark(uid, worker, *marked).await?,
            Step::Scale { from, to, unborn, released } => {
                for worker in unborn {
                    if !self.may_be_removed(uid, control, worker).await? {
                        return Ok(false);
                    }
                }
                for (worker, boot) in released {
                    if !control.release(uid, worker, boot).await? {
                        return Ok(false);
                    }
                }
                return platform.ask_for(uid, *from, *to).await;
            }
            Step::Release { worker, boot } => {
                if control.release(uid, worker, boot).await? {
                    platform.delete(uid, worker).await?;
                }
            }
            Step::Terminate { worker } => {
                platform.terminate(uid, worker, hold.order.workload.target.grace).await?;
            }
            Step::Forget { workers } => {
                for worker in workers {
                    control.forget(uid, worker).await?;
                }
            }
        }
        Ok(true)
    }

    /// Whether a worker that seems to have no process has none, and takes nothing should it get one.
    async fn may_be_removed(
        &self,
        uid: &WorkloadUid,
        control: &dyn ControlPath,
        worker: &WorkerId,
    ) -> Asked<bool> {
        if self.ports.store.lags() { control.bar(uid, worker).await } else { Ok(true) }
    }

    #[tracing::instrument(level = "info", skip_all)]
    async fn remember(
        &self,
        hold: &mut Hold,
        decided: Option<Decided>,
        acts: bool,
        (done, rolls): (&[Step], bool),
    ) {
        let Some(Decided { question, decision, policy, .. }) = decided else { return };
        // Of the memory that was decided with, and only where somebody will read it.
        let wanted = hold.recorder.wants(&policy, &question, &decision, done);
        let memory_hash = wanted.then(|| hold.memory.hash());
        // While workers are replaced, or others make them, steps say nothing of their number.
        let by_number = matches!(hold.order.workload.target.made, Made::Replica(_));
        let changes =
            if rolls || by_number { change(question.current, decision.replicas) } else { changes(done) };
        hold.memory.remember(&policy, &decision, changes, question.at);
        if let Some(memory_hash) = memory_hash {
            let line =
                Line::new(&self.key, &policy, memory_hash, (&question, &decision), (acts, done.to_vec()))
                    .with_sizes(hold.sizing.answered.clone());
            if let Err(error) = self.ports.store.record(&hold.uid, &line, &policy.rule.document).await {
                let reason = format!("the record cannot be kept: {error}");
                self.ports.listen.hear(&Event::MemoryFailed { workload: self.key.clone(), reason });
            }
        }
        hold.decided = Some(decision);
    }
}

/// What a plan came to.
struct Outcome {
    done: Vec<Step>,
    result: Asked<()>,
    /// The ledger that was to be committed says that workers are being replaced.
    rolling: bool,
}

/// What a change of the desired number is, where steps do not tell.
fn change(from: u32, to: u32) -> Done {
    Done { added: to.saturating_sub(from), removed: from.saturating_sub(to) }
}

/// What steps have done to the number of workers.
fn changes(done: &[Step]) -> Done {
    let mut changes = Done::default();
    for step in done {
        match step {
            Step::Start { .. } => changes.added += 1,
            Step::Remove { .. } | Step::Terminate { .. } => changes.removed += 1,
            Step::Project { offers, .. } => changes.removed += offers.len() as u32,
            Step::Withdraw { offers, .. } => changes.added += offers.len() as u32,
            // Where something else makes the workers the number itself tells.
            Step::Mark { .. }
            | Step::Scale { .. }
            | Step::Resize { .. }
            | Step::Adopt { .. }
            | Step::RaiseFloor { .. }
            | Step::Release { .. }
            | Step::Forget { .. } => {}
        }
    }
    changes
}
