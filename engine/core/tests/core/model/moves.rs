//! What can happen next: moves of the load, of engines, of workers, and faults.

use qscaler_protocol::lifecycle::Input;

use super::engine::Engine;
use super::setting::{Detail, Setting, Weakening};
use super::worker::{Claim, Letter, Life, Worker};
use super::world::{Broken, World};

/// One thing that happens. Engines and workers are named by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Another number of workers is desired.
    Load,
    /// The queue takes back a task whose holder is dead.
    Reap,
    Engine(usize, EngineMove),
    Worker(usize, WorkerMove),
    Fault(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineMove {
    Read { late: bool },
    Commit,
    Act,
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerMove {
    Boot,
    /// A whole fetch at once.
    FetchTask,
    BeginFetch,
    TakeTask,
    BringTask,
    EndFetch,
    FinishTask,
    GiveBack,
    /// A report, stored and answered at once.
    Report,
    SendReport,
    StoreReport,
    HearAnswer,
    /// A claim, made and answered at once.
    Claim,
    MakeClaim,
    HearClaim,
    RunHook,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill(usize),
    Evict(usize),
    /// The grace period of a worker that was evicted is over, or its node is lost.
    Destroy(usize),
    Signal(usize),
    Silence(usize),
    Wipe,
    KeepPath,
    RollBack,
    KeepLedger,
    Restore,
}

impl Move {
    /// Whether it happens by itself sooner or later when nothing goes wrong and the load stays.
    pub(super) fn is_progress(self) -> bool {
        !matches!(self, Move::Load | Move::Fault(_) | Move::Engine(_, EngineMove::Crash))
    }
}

impl World {
    /// Everything that can happen next, in an order that depends on the state alone.
    pub(super) fn moves(&self, setting: &Setting) -> Vec<Move> {
        let mut moves = vec![];
        if self.at + 1 < setting.walk.len() {
            moves.push(Move::Load);
        }
        if self.stray > 0 {
            moves.push(Move::Reap);
        }
        for (place, engine) in self.engines.iter().enumerate() {
            let next = match engine {
                Engine::Resting | Engine::Reading(_) => EngineMove::Read { late: false },
                Engine::Planned { .. } => EngineMove::Commit,
                Engine::Applying { .. } => EngineMove::Act,
            };
            moves.push(Move::Engine(place, next));
            if next == (EngineMove::Read { late: false }) && self.may_be_late(place, setting) {
                moves.push(Move::Engine(place, EngineMove::Read { late: true }));
            }
            // Whoever has done nothing yet loses nothing either.
            if next == EngineMove::Act {
                moves.push(Move::Engine(place, EngineMove::Crash));
            }
        }
        for place in 0..self.workers.len() {
            self.worker_moves(place, setting, &mut |it| moves.push(Move::Worker(place, it)));
        }
        self.fault_moves(&mut |fault| moves.push(Move::Fault(fault)));
        moves
    }

    fn worker_moves(&self, place: usize, setting: &Setting, add: &mut impl FnMut(WorkerMove)) {
        let worker = &self.workers[place];
        if !worker.has_process() {
            let left = worker.process == Life::Ended && self.is_known_to_leave(&worker.id);
            if !left || self.faults.restarts > 0 {
                add(WorkerMove::Boot);
            }
            return;
        }
        if self.waiting > 0 && worker.may_fetch(setting) {
            let slow = setting.has(Detail::SlowFetches);
            add(if slow { WorkerMove::BeginFetch } else { WorkerMove::FetchTask });
        }
        if self.waiting > 0 && worker.fetches > worker.taken {
            add(WorkerMove::TakeTask);
        }
        if worker.taken > 0 {
            add(WorkerMove::BringTask);
        }
        if worker.may_end_fetch(self.waiting, setting) {
            add(WorkerMove::EndFetch);
        }
        if worker.life.busy() > 0 || worker.smuggled > 0 {
            add(WorkerMove::FinishTask);
        }
        if worker.due.give_back {
            add(WorkerMove::GiveBack);
        }
        match (&worker.letter, setting.has(Detail::SlowLetters)) {
            // A claim that takes no time leaves none for a report.
            (Letter::None, false) if worker.claim == Claim::None && self.says_something_new(place) => {
                add(WorkerMove::Report);
            }
            (Letter::None, true) if !worker.leaves => add(WorkerMove::SendReport),
            (Letter::None, _) => {}
            (Letter::Sent(_), _) => add(WorkerMove::StoreReport),
            (Letter::Answered(..), _) => add(WorkerMove::HearAnswer),
        }
        match (&worker.claim, setting.has(Detail::SlowLetters)) {
            (Claim::None, _) => {}
            (Claim::Asked(_), false) => add(WorkerMove::Claim),
            (Claim::Asked(_), true) => add(WorkerMove::MakeClaim),
            (Claim::Answered(_), _) => add(WorkerMove::HearClaim),
        }
        if worker.due.hook {
            add(WorkerMove::RunHook);
        }
        if worker.leaves && !worker.parked {
            add(WorkerMove::Leave);
        }
    }

    /// Whether a report would change what is stored or what the worker knows.
    fn says_something_new(&self, place: usize) -> bool {
        let worker = &self.workers[place];
        let report = self.report(place);
        let stored = self.reports.get(&worker.id);
        if stored.is_none_or(|it| it.report != report || it.epoch != self.path.epoch || it.age_ms > 0) {
            return true;
        }
        let mut after = worker.clone();
        after.hear(report.state, self.answer(&worker.id));
        after != *worker
    }

    fn report_at_once(&mut self, place: usize) {
        let report = self.report(place);
        let said = report.state;
        let answer = self.store_report(report);
        self.workers[place].hear(said, answer);
    }

    /// The state after a move.
    pub(super) fn after(&self, made: Move, setting: &Setting) -> Result<World, Broken> {
        let mut world = self.clone();
        match made {
            Move::Load => world.at += 1,
            Move::Reap => {
                world.stray -= 1;
                world.waiting += 1;
            }
            Move::Engine(place, EngineMove::Read { late }) => world.engine_reads(place, late, setting),
            Move::Engine(place, EngineMove::Commit) => world.engine_commits(place, setting),
            Move::Engine(place, EngineMove::Act) => world.engine_acts(place, setting)?,
            Move::Engine(place, EngineMove::Crash) => world.engines[place] = Engine::Resting,
            Move::Worker(place, made) => world.worker_acts(place, made, setting)?,
            Move::Fault(fault) => world.strike(fault, setting),
        }
        Ok(world)
    }

    fn worker_acts(&mut self, place: usize, made: WorkerMove, setting: &Setting) -> Result<(), Broken> {
        match made {
            WorkerMove::Boot => self.boot(place, setting),
            WorkerMove::FetchTask => self.fetch_at_once(place, setting)?,
            WorkerMove::BeginFetch => {
                let worker = &mut self.workers[place];
                if worker.fetches == 0 {
                    worker.due.stop = false;
                }
                worker.fetches += 1;
                worker.step(Input::FetchStarted);
            }
            WorkerMove::TakeTask => {
                self.take_task(place)?;
                self.workers[place].taken += 1;
            }
            WorkerMove::BringTask => {
                let worker = &mut self.workers[place];
                worker.taken -= 1;
                worker.fetches -= 1;
                worker.step(Input::FetchEnded { task: true });
            }
            WorkerMove::EndFetch => {
                self.workers[place].fetches -= 1;
                self.workers[place].step(Input::FetchEnded { task: false });
            }
            WorkerMove::FinishTask => {
                let worker = &mut self.workers[place];
                if worker.smuggled > 0 {
                    worker.smuggled -= 1;
                } else {
                    worker.proved |= setting.outdated > 0;
                    worker.step(Input::TaskEnded);
                }
            }
            WorkerMove::GiveBack => {
                let worker = &mut self.workers[place];
                worker.due.give_back = false;
                while worker.life.busy() > 0 {
                    self.waiting += 1;
                    worker.step(Input::TaskEnded);
                }
            }
            WorkerMove::Report => self.report_at_once(place),
            WorkerMove::SendReport => self.workers[place].letter = Letter::Sent(Box::new(self.report(place))),
            WorkerMove::StoreReport => self.deliver_report(place),
            WorkerMove::HearAnswer => {
                let letter = std::mem::replace(&mut self.workers[place].letter, Letter::None);
                if let Letter::Answered(said, answer) = letter {
                    self.workers[place].hear(said, answer);
                }
            }
            WorkerMove::Claim => {
                self.claim(place, setting)?;
                self.workers[place].hear_claim();
            }
            WorkerMove::MakeClaim => self.claim(place, setting)?,
            WorkerMove::HearClaim => self.workers[place].hear_claim(),
            WorkerMove::RunHook => {
                self.workers[place].due.hook = false;
                self.workers[place].step(Input::HookEnded);
            }
            WorkerMove::Leave => self.leave(place, setting),
        }
        if !setting.has(Detail::SlowLetters) {
            self.leave_at_once(place, setting);
        }
        Ok(())
    }

    /// Where letters do not travel, hooks take no time either, and who has said that it is drained is gone.
    fn leave_at_once(&mut self, place: usize, setting: &Setting) {
        if std::mem::take(&mut self.workers[place].due.hook) {
            self.workers[place].step(Input::HookEnded);
        }
        if self.workers[place].leaves && !self.workers[place].parked {
            self.leave(place, setting);
        }
    }

    fn deliver_report(&mut self, place: usize) {
        let letter = std::mem::replace(&mut self.workers[place].letter, Letter::None);
        if let Letter::Sent(report) = letter {
            let said = report.state;
            self.workers[place].letter = Letter::Answered(said, self.store_report(*report));
        }
    }

    fn boot(&mut self, place: usize, setting: &Setting) {
        if self.workers[place].process != Life::Waiting {
            let worker = &self.workers[place];
            let left = worker.process == Life::Ended && self.is_known_to_leave(&worker.id);
            self.faults.restarts -= u8::from(left);
            if !setting.has(Detail::Containers) {
                let name = self.workers[place].name.clone();
                let id = self.incarnation(&name, setting);
                self.workers[place] = Worker::new(&name, id, setting.slots);
            }
        }
        self.workers[place].boot(setting);
    }

    fn fetch_at_once(&mut self, place: usize, setting: &Setting) -> Result<(), Broken> {
        self.take_task(place)?;
        let worker = &mut self.workers[place];
        if setting.lacks(Weakening::NoGate) && !worker.life.may_fetch() {
            worker.smuggled += 1;
        } else {
            worker.step(Input::FetchStarted);
            worker.step(Input::FetchEnded { task: true });
        }
        Ok(())
    }

    /// The queue gives a worker a task: the moment at which a fetch is complete.
    fn take_task(&mut self, place: usize) -> Result<(), Broken> {
        let worker = &self.workers[place];
        // A worker that knows the epoch knows the claim that the path holds for it.
        let shown = worker.life.epoch().is_some()
            && worker.life.epoch() == self.path.epoch.as_ref()
            && self.path.claim_of(&worker.id).is_some();
        if worker.claimed || shown {
            return Err(Broken(format!("{} takes a task after its claim", worker.id)));
        }
        self.waiting -= 1;
        Ok(())
    }

    /// The path takes a worker's claim.
    fn claim(&mut self, place: usize, setting: &Setting) -> Result<(), Broken> {
        let Claim::Asked(epoch) = self.workers[place].claim.clone() else { return Ok(()) };
        let id = self.workers[place].id.clone();
        let had = self.path.claim_of(&id);
        let offer = epoch.as_ref().and_then(|epoch| self.path.change(|path| path.claim(epoch, &id)));
        let bare = setting.lacks(Weakening::MessagesSentAgain) || setting.lacks(Weakening::MessagesSentOnce);
        if let (Some(offer), true) = (offer, bare) {
            self.path.change(|path| path.offers.remove(&offer));
        }
        self.workers[place].claim = Claim::Answered(offer);
        let (Some(offer), Some(epoch)) = (offer, epoch) else { return Ok(()) };
        self.workers[place].claimed = true;
        if had.is_some() {
            return Ok(());
        }
        let named = self.ledger.offers.get(&offer).and_then(|grant| grant.named.as_ref());
        if let Some(other) = named.filter(|other| **other != id) {
            return Err(Broken(format!("{id} has claimed {offer}, which names {other}")));
        }
        let before = self.tally.change(|tally| {
            tally.claim_count += 1;
            tally.claims.insert((epoch, offer), id.clone())
        });
        match before {
            Some(other) if other != id => Err(Broken(format!("{other} and {id} have both claimed {offer}"))),
            _ => Ok(()),
        }
    }

    /// A worker ends its process, or parks.
    fn leave(&mut self, place: usize, setting: &Setting) {
        if self.workers[place].process == Life::Ending {
            self.stray += self.workers[place].tasks();
            self.workers.remove(place);
        } else if setting.has(Detail::Parking) {
            self.workers[place].parked = true;
        } else {
            self.stray += self.workers[place].die(Life::Ended);
        }
    }
}
