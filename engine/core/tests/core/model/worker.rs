//! One worker: the real lifecycle, and around it what the SDK's loop does with its actions.

use qscaler_protocol::lifecycle::{Action, Input, Lifecycle};
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId};
use qscaler_protocol::report::{Answer, Report, State};

use super::setting::{Detail, Setting, Weakening};

/// What the platform knows of a worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Waiting,
    Running,
    Ending,
    /// Its process has left by itself.
    Ended,
    Killed,
}

/// A report under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Letter {
    None,
    Sent(Box<Report>),
    /// Stored; the answer is on its way back.
    Answered(State, Answer),
}

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    None,
    Asked(Option<Epoch>),
    Answered(Option<OfferId>),
}

/// What the lifecycle wants done and the loop has not done yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Due {
    /// Fetches under way are being ended.
    pub(super) stop: bool,
    pub(super) hook: bool,
    pub(super) give_back: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that has happened to it, or not")]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) id: WorkerId,
    pub(super) boots: u8,
    pub(super) process: Life,
    pub(super) life: Lifecycle,
    /// Fetches under way, and those of them for which the queue has given a task.
    pub(super) fetches: u8,
    pub(super) taken: u8,
    pub(super) due: Due,
    pub(super) letter: Letter,
    pub(super) claim: Claim,
    /// It has said that it is drained, and ends or parks.
    pub(super) leaves: bool,
    pub(super) parked: bool,
    /// This process has claimed an offer, or was told that it has.
    pub(super) claimed: bool,
    /// It is made of an older template than the present one.
    pub(super) outdated: bool,
    /// This process has finished a task; noted only where a rollout asks for it.
    pub(super) proved: bool,
    /// Tasks that it took past a gate that was left out.
    pub(super) smuggled: u8,
}

impl Worker {
    pub(super) fn new(name: &str, id: WorkerId, slots: u32) -> Self {
        Self {
            name: name.to_owned(),
            id,
            boots: 0,
            process: Life::Waiting,
            life: Lifecycle::new(slots),
            fetches: 0,
            taken: 0,
            due: Due::default(),
            letter: Letter::None,
            claim: Claim::None,
            leaves: false,
            parked: false,
            claimed: false,
            outdated: false,
            proved: false,
            smuggled: 0,
        }
    }

    pub(super) fn boot_id(&self) -> BootId {
        BootId::new(format!("{}/{}", self.id, self.boots))
    }

    pub(super) fn has_process(&self) -> bool {
        matches!(self.process, Life::Running | Life::Ending)
    }

    /// Tasks in its hands.
    pub(super) fn tasks(&self) -> u8 {
        self.life.busy() as u8 + self.taken + self.smuggled
    }

    /// A process of it begins, knowing nothing.
    pub(super) fn boot(&mut self, setting: &Setting) {
        let boots = self.boots + 1;
        let outdated = self.outdated;
        *self = Self {
            boots,
            process: Life::Running,
            outdated,
            ..Self::new(&self.name, self.id.clone(), setting.slots)
        };
    }

    /// Its process is dead, whatever it was about to do. Returns the tasks that it held.
    pub(super) fn die(&mut self, process: Life) -> u8 {
        let stray = self.tasks();
        let boots = self.boots;
        let slots = self.life.slots();
        let outdated = self.outdated;
        *self = Self { boots, process, outdated, ..Self::new(&self.name, self.id.clone(), slots) };
        stray
    }

    /// Tells the machine, and notes what it wants done.
    pub(super) fn step(&mut self, input: Input) {
        for action in self.life.step(input) {
            match action {
                Action::StopFetching => self.due.stop = true,
                Action::Claim => self.claim = Claim::Asked(self.life.epoch().cloned()),
                // It may report at any time anyway.
                Action::Report => {}
                Action::GiveBack => self.due.give_back = true,
                Action::RunHook => self.due.hook = true,
                Action::Leave => self.leaves = true,
            }
        }
    }

    /// Hears the answer to a report.
    pub(super) fn answered(&mut self, answer: Answer) {
        self.claimed |= answer.claim.is_some();
        self.step(Input::Answered(answer));
    }

    /// Hears the answer to a report in which it has said this.
    pub(super) fn hear(&mut self, said: State, answer: Answer) {
        self.answered(answer);
        if said == State::Drained {
            self.step(Input::Reported);
        }
    }

    pub(super) fn hear_claim(&mut self) {
        if let Claim::Answered(offer) = std::mem::replace(&mut self.claim, Claim::None) {
            self.step(Input::Claimed(offer));
        }
    }

    pub(super) fn may_fetch(&self, setting: &Setting) -> bool {
        if setting.lacks(Weakening::NoGate) {
            return self.has_process() && self.smuggled == 0 && self.life.state() != State::Starting;
        }
        self.has_process() && self.life.may_fetch()
    }

    /// Whether the loop can end a fetch that has brought nothing.
    pub(super) fn may_end_fetch(&self, waiting: u8, setting: &Setting) -> bool {
        setting.has(Detail::SlowFetches) && self.fetches > self.taken && (self.due.stop || waiting == 0)
    }
}
