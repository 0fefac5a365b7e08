//! The life of a worker: Starting -> Idle <-> Busy -> Draining -> Gone, as a pure machine.
//!
//! The program around it fetches, claims and reports as the [`Action`]s say and tells the machine
//! what happened as [`Input`]s. The *gate* is the promise behind "no task after a claim": a worker
//! asks to claim only when its gate is closed, no fetch is under way and no task is held, and the
//! gate opens again only when the claim was lost.

use crate::name::{Epoch, OfferId};
use crate::path::Opening;
use crate::report::{Answer, State};

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Phase {
    /// Not yet reported; fetches nothing, because it may already have been released.
    Starting,
    /// The gate is open.
    Open,
    /// The gate is closed: waits for fetches to end and, when an offer names it, for its tasks.
    Closed { named: bool },
    /// The claim is on its way; the gate is closed.
    Claiming,
    /// Takes nothing any more; finishes what it holds.
    Leaving,
    /// Holds nothing; the user's hook runs.
    Hook,
    /// Says that it is drained.
    Reporting,
    /// Has said so, and ends or parks.
    Gone,
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The answer to a report.
    Answered(Answer),
    /// The answer to a claim: the offer that is now its own, or none.
    Claimed(Option<OfferId>),
    /// A fetch is under way. Only after [`Lifecycle::may_fetch`].
    FetchStarted,
    /// A fetch has ended, with a task or without.
    FetchEnded {
        /// Whether it brought a task.
        task: bool,
    },
    /// A task that was held is acked, given back, or lost.
    TaskEnded,
    /// SIGTERM, SIGINT, or the program's own wish to end.
    Told,
    /// The shutdown hook has run.
    HookEnded,
    /// The last report has been stored, or there is nobody to store it.
    Reported,
}

/// What the program around the machine should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// End the fetches under way, as soon as that loses no task.
    StopFetching,
    /// Ask the control path for an offer, and say how it ended by [`Input::Claimed`].
    Claim,
    /// Report at once: something has changed that the engine waits for.
    Report,
    /// Give every task that is held back to its queue, exactly once, and stop working on it.
    GiveBack,
    /// Run the user's shutdown hook.
    RunHook,
    /// End the process, or park where it would be started again.
    Leave,
}

/// One worker's life. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lifecycle {
    phase: Phase,
    slots: u32,
    busy: u32,
    fetching: u32,
    claim: Option<OfferId>,
    epoch: Option<Epoch>,
    opening: bool,
    told: u8,
    take_along: bool,
}

impl Lifecycle {
    /// A worker that can work on `slots` tasks at a time, one at least.
    pub fn new(slots: u32) -> Self {
        Self {
            phase: Phase::Starting,
            slots: slots.max(1),
            busy: 0,
            fetching: 0,
            claim: None,
            epoch: None,
            opening: false,
            told: 0,
            take_along: false,
        }
    }

    /// Whether another fetch may be started now.
    pub fn may_fetch(&self) -> bool {
        self.phase == Phase::Open && self.busy + self.fetching < self.slots
    }

    /// Whether the next fetch may be started in the same step in which the queue system is told that a
    /// task is done: nothing waits for the moment in between.
    pub fn may_fetch_on(&self) -> bool {
        self.phase == Phase::Open && self.busy > 0 && !(self.opening && self.busy == 1)
    }

    /// The state to report.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Starting => State::Starting,
            Phase::Leaving | Phase::Hook => State::Draining,
            Phase::Reporting | Phase::Gone => State::Drained,
            Phase::Open | Phase::Closed { .. } | Phase::Claiming if self.busy > 0 => State::Busy,
            Phase::Open | Phase::Closed { .. } | Phase::Claiming => State::Idle,
        }
    }

    /// How many tasks it can work on at a time.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many tasks it holds.
    pub fn busy(&self) -> u32 {
        self.busy
    }

    /// The offer that it has claimed.
    pub fn claim(&self) -> Option<OfferId> {
        self.claim
    }

    /// The path's epoch by the last answer: the one that a claim must name.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// The epoch in which the engine can count on it, to report. None while a claim is on its way: it
    /// may have been taken in an epoch that is gone, and then the worker leaves and no path tells.
    pub fn counts_in(&self) -> Option<&Epoch> {
        self.epoch.as_ref().filter(|_| self.phase != Phase::Claiming)
    }

    /// Whether it takes no more tasks, for good.
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Hook | Phase::Reporting | Phase::Gone)
    }

    /// Tells the machine what happened; returns what to do, in this order.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Answered(answer) => self.answered(&answer),
            Input::Claimed(offer) => self.claimed(offer),
            Input::FetchStarted => {
                debug_assert!(self.may_fetch(), "a fetch through a closed gate");
                self.fetching += 1;
                vec![]
            }
            Input::FetchEnded { task } => {
                self.fetching = self.fetching.saturating_sub(1);
                self.busy += u32::from(task);
                self.settle(task)
            }
            Input::TaskEnded => {
                self.busy = self.busy.saturating_sub(1);
                self.settle(true)
            }
            Input::Told => self.told(),
            Input::HookEnded if self.phase == Phase::Hook => {
                self.phase = Phase::Reporting;
                vec![Action::Report]
            }
            Input::Reported if self.phase == Phase::Reporting => {
                self.phase = Phase::Gone;
                vec![Action::Leave]
            }
            Input::HookEnded | Input::Reported => vec![],
        }
    }

    fn answered(&mut self, answer: &Answer) -> Vec<Action> {
        let is_new = self.epoch != answer.epoch;
        self.epoch.clone_from(&answer.epoch);
        if self.is_leaving() {
            return vec![];
        }
        // A claim that the path holds is the worker's own, also when the answer to it was lost or the
        // process was started again since.
        if answer.claim.is_some() || answer.released {
            self.claim = answer.claim;
            return self.leave();
        }
        self.opening = answer.opening != Opening::None;
        let mut actions = match (self.phase, answer.opening) {
            (Phase::Starting | Phase::Open, Opening::Named) => self.close(true),
            (Phase::Starting, Opening::Any) => self.close(false),
            (Phase::Open, Opening::Any) if self.busy == 0 => self.close(false),
            (Phase::Starting | Phase::Closed { .. }, Opening::None) => {
                self.phase = Phase::Open;
                vec![]
            }
            _ => vec![],
        };
        if is_new {
            // Until it has said that it knows the epoch nobody counts on it.
            actions.push(Action::Report);
        }
        actions
    }

    fn claimed(&mut self, offer: Option<OfferId>) -> Vec<Action> {
        match offer {
            // Also while leaving: who was told to end takes an open offer along, so that a shrink
            // and an eviction do not add up.
            Some(id) => {
                self.claim = Some(id);
                if self.is_leaving() { vec![Action::Report] } else { self.leave() }
            }
            None => {
                self.opening = false;
                if self.phase == Phase::Claiming {
                    self.phase = Phase::Open;
                }
                vec![]
            }
        }
    }

    fn told(&mut self) -> Vec<Action> {
        self.told = self.told.saturating_add(1);
        if self.told > 1 {
            return if self.busy > 0 { vec![Action::GiveBack] } else { vec![] };
        }
        if self.is_leaving() {
            return vec![];
        }
        self.take_along = self.opening && self.phase != Phase::Claiming;
        self.leave()
    }

    fn close(&mut self, named: bool) -> Vec<Action> {
        self.phase = Phase::Closed { named };
        let mut actions = if self.fetching > 0 { vec![Action::StopFetching] } else { vec![] };
        actions.extend(self.settle(false));
        actions
    }

    fn leave(&mut self) -> Vec<Action> {
        self.phase = Phase::Leaving;
        let mut actions = vec![Action::Report];
        if self.fetching > 0 {
            actions.push(Action::StopFetching);
        }
        actions.extend(self.settle(false));
        actions
    }

    /// Goes as far as what is held and under way allows. `changed` says that a task came or went.
    fn settle(&mut self, changed: bool) -> Vec<Action> {
        match self.phase {
            Phase::Closed { named: false } if self.busy > 0 => {
                // The fetch brought a task before it could be ended: no longer idle, so an idle
                // worker may have the offer.
                self.phase = Phase::Open;
                vec![Action::Report]
            }
            Phase::Closed { .. } if self.busy == 0 && self.fetching == 0 => {
                self.phase = Phase::Claiming;
                vec![Action::Claim]
            }
            Phase::Open if self.busy == 0 && self.opening => self.close(false),
            Phase::Leaving if self.told > 1 && self.busy > 0 => vec![Action::GiveBack],
            Phase::Leaving if self.fetching == 0 => {
                // Not before: a fetch that completes after a claim would break the promise of the gate.
                let mut actions = vec![];
                if std::mem::take(&mut self.take_along) {
                    actions.push(Action::Claim);
                }
                if self.busy == 0 {
                    self.phase = Phase::Hook;
                    actions.push(Action::RunHook);
                } else if changed {
                    actions.push(Action::Report);
                }
                actions
            }
            _ if changed => vec![Action::Report],
            _ => vec![],
        }
    }
}
