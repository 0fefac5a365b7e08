//! From a decision to ordered steps: who starts, who may leave. No choice is left for apply.
//!
//! Read in this order before planning: the ledger, then the control path, then the fleet; the plan's
//! ledger is committed on the version that was read, and when that fails nothing of the plan is
//! done. A grant counts only workers that have registered in this epoch and can claim, so in the
//! state that was read they never fall below the desired number through it (invariant I3); in a
//! rollout, below the desired number less those that may be missing.

mod draft;
mod grow;
mod rollout;
mod scale;
mod shrink;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::{Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Offer, Path};
use qscaler_protocol::report::Received;

use crate::fleet::{Member, Seen, muster};
use crate::ledger::Ledger;
use crate::time::Time;

use draft::Draft;

pub use rollout::{Rollout, RolloutState};
pub use scale::{OVERRIDDEN_FOR, OVERRIDES_MAX, Scale, Victims};
pub use step::Step;

/// At most this many offers are open at once, so that a ledger stays small enough for an object's status.
pub const OPEN_OFFERS_MAX: usize = 200;

/// How workers are asked to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Leave {
    /// By offers, which a worker of the SDK claims when it is idle. Interrupts nobody.
    #[default]
    Offer,
    /// By SIGTERM, for programs without the SDK: those that use the least processor time first.
    Signal,
}

/// How a workload's workers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How they are asked.
    pub by: Leave,
    /// At most this many are asked or on their way out at once.
    pub at_once_max: u32,
    /// How long an offer may stay unclaimed before a worker is ended for it; without, for ever.
    pub deadline: Option<Duration>,
    /// How workers made of an older template are replaced.
    pub rollout: Rollout,
}

/// Everything that was read of one workload, in the order ledger, path and reports, fleet.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The control path, read after the ledger.
    pub path: &'a Path,
    /// What workers reported, read with the path.
    pub reports: &'a BTreeMap<WorkerId, Received>,
    /// The fleet, read last.
    pub fleet: &'a [Seen],
    /// The number of replicas, where something else makes the workers.
    pub scale: Option<&'a Scale>,
    /// The prefix of worker names.
    pub workload: &'a str,
    /// Whether it is known that no task waits: then a worker that waits for one has shown all it can.
    pub queue_is_empty: bool,
    /// When.
    pub now: Time,
}

/// What to do, in order. When `ledger` is given and cannot be committed, nothing is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The ledger to commit first.
    pub ledger: Option<Ledger>,
    /// Then these.
    pub steps: Vec<Step>,
    /// How far a rollout is, while workers of an older template are there.
    pub rollout: Option<RolloutState>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ledger.is_none() && self.steps.is_empty()
    }

    /// How many workers it adds to those that stay.
    pub fn starts(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Start { .. })).count()
    }
}

impl Situation<'_> {
    /// Everything known of each worker.
    pub fn members(&self) -> Vec<Member> {
        muster(self.ledger, self.path, self.reports, self.fleet_with_unmade(), self.now)
    }

    /// How many workers there will be when all offers that are open now have been claimed: what a
    /// decision starts from. While workers are being replaced it is the number that they are replaced
    /// to, so that who is there too much or not yet there again changes no decision.
    pub fn current(&self) -> u32 {
        if let Some(rolling) = self.ledger.rolling.as_ref().filter(|_| !self.ledger.is_older_than(self.path))
        {
            return rolling.desired;
        }
        let staying = self.members().iter().filter(|member| !member.leaving).count();
        self.asked_for(staying).saturating_sub(self.open_offers()) as u32
    }

    fn open_offers(&self) -> usize {
        let over =
            |id: &OfferId| matches!(self.path.offers.get(id), Some(Offer::Claimed(_) | Offer::Withdrawn));
        self.ledger.open().filter(|(id, _)| !over(id)).count()
    }

    /// The path's data is gone, or the ledger is not what the path shows.
    fn has_lost_the_path(&self) -> bool {
        let lost = self.ledger.epoch.is_none() || self.path.epoch != self.ledger.epoch;
        lost || self.ledger.is_older_than(self.path)
    }

    /// Makes the plan that brings the workers to `desired`. `fresh` is a new random epoch, used only
    /// when the path has lost its data.
    pub fn plan(&self, desired: u32, drain: Drain, fresh: Epoch) -> Plan {
        let mut draft = Draft::new(self, desired, drain);
        if self.has_lost_the_path() {
            draft.begin_epoch(fresh);
            draft.grow();
        } else {
            draft.note();
            draft.note_scale();
            draft.withdraw_void();
            draft.name_if_nobody_is_free();
            draft.clear_outdated();
            draft.grow();
            draft.shrink();
            draft.replace_outdated();
            draft.end_overdue();
            draft.project();
        }
        draft.release();
        draft.finish()
    }
}
