//! What may go wrong between any two moves.

use qscaler_protocol::lifecycle::Input;
use qscaler_protocol::path::Path;

use super::moves::Fault;
use super::setting::{Setting, Weakening};
use super::shared::Shared;
use super::worker::Life;
use super::world::{Reports, World};

impl World {
    /// Every fault that may strike now.
    pub(super) fn fault_moves(&self, add: &mut impl FnMut(Fault)) {
        for (place, worker) in self.workers.iter().enumerate() {
            let runs = worker.process == Life::Running;
            if runs && self.faults.kills > 0 {
                add(Fault::Kill(place));
            }
            if runs && self.faults.evictions > 0 {
                add(Fault::Evict(place));
            }
            if worker.process == Life::Ending || (runs && self.faults.evictions > 0) {
                add(Fault::Destroy(place));
            }
            if runs && self.faults.signals > 0 {
                add(Fault::Signal(place));
            }
            if self.faults.silences > 0 && self.reports.get(&worker.id).is_some_and(|it| it.age_ms == 0) {
                add(Fault::Silence(place));
            }
        }
        if self.faults.wipes > 0 {
            add(Fault::Wipe);
        }
        if self.faults.rollbacks > 0 {
            add(if self.older.path.is_none() { Fault::KeepPath } else { Fault::RollBack });
        }
        if self.faults.restores > 0 {
            add(if self.older.ledger.is_none() { Fault::KeepLedger } else { Fault::Restore });
        }
    }

    pub(super) fn strike(&mut self, fault: Fault, setting: &Setting) {
        match fault {
            Fault::Kill(place) => {
                self.faults.kills -= 1;
                self.harm();
                self.stray += self.workers[place].die(Life::Killed);
            }
            Fault::Evict(place) => {
                self.faults.evictions -= 1;
                self.evict(place);
            }
            Fault::Destroy(place) => {
                self.faults.evictions -= u8::from(self.workers[place].process == Life::Running);
                self.harm();
                self.stray += self.workers[place].tasks();
                self.workers.remove(place);
            }
            Fault::Signal(place) => {
                self.faults.signals -= 1;
                self.harm();
                self.workers[place].step(Input::Told);
            }
            Fault::Silence(place) => {
                self.faults.silences -= 1;
                let id = self.workers[place].id.clone();
                self.change_report(&id, |received| received.age_ms = 60_000);
            }
            Fault::Wipe => {
                self.faults.wipes -= 1;
                self.lose(Path::default(), Reports::new(), setting);
            }
            Fault::KeepPath => self.older.path = Some((self.path.clone(), self.reports.clone())),
            Fault::RollBack => {
                self.faults.rollbacks -= 1;
                if let Some((path, reports)) = self.older.path.take() {
                    self.lose((*path).clone(), (*reports).clone(), setting);
                }
            }
            Fault::KeepLedger => self.older.ledger = Some(self.ledger.clone()),
            Fault::Restore => {
                self.faults.restores -= 1;
                if let Some(ledger) = self.older.ledger.take() {
                    self.ledger = ledger;
                    self.nobody_is_current(setting);
                }
            }
        }
    }

    /// The path has lost what is not in `path`. Its epoch tells: it is gone, and what is there does not
    /// count.
    fn lose(&mut self, mut path: Path, reports: Reports, setting: &Setting) {
        if setting.lacks(Weakening::NoEpoch) {
            path.epoch.clone_from(&self.path.epoch);
        } else {
            path = Path::default();
        }
        self.path = Shared::new(path);
        self.reports = Shared::new(reports);
    }

    /// The platform asks a worker to end, and will take it away.
    pub(super) fn evict(&mut self, place: usize) {
        if self.workers[place].process == Life::Running {
            self.harm();
            self.workers[place].process = Life::Ending;
            self.workers[place].step(Input::Told);
        }
    }

    fn harm(&mut self) {
        self.tally.change(|tally| tally.harmed = true);
    }
}
