//! The control path of one workload: its offers, as every queue system must keep them.
//!
//! [`Path`] is the reference. The Lua scripts and SQL statements of this crate do the same things,
//! each in one atomic step, and a conformance test holds them to it. Three rules carry the proof
//! that exactly as many workers leave as were asked:
//!
//! * **Set if absent.** An id that is open, claimed or withdrawn is never written again, so writing
//!   twice changes nothing.
//! * **Floor.** Nothing at or under the floor is written, so an engine that slept cannot revive an
//!   offer that was forgotten.
//! * **Epoch.** Every operation names the epoch that it rests on and does nothing under another one,
//!   so a path that lost its data takes no part until an engine has written what is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{Epoch, OfferId, WorkerId};

/// What the path holds of one offer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Offer {
    /// To be claimed, by anybody or only by the worker named.
    Open(Option<WorkerId>),
    /// Taken: this worker leaves. Final.
    Claimed(WorkerId),
    /// Taken back by the engine. Final; the mark stays until the floor passes it.
    Withdrawn,
}

/// The offers of one workload on the control path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// The mark of the data; none before an engine has written anything.
    pub epoch: Option<Epoch>,
    /// No id at or under this one is ever written.
    pub floor: OfferId,
    /// Offers by id.
    pub offers: BTreeMap<OfferId, Offer>,
}

/// Whether there is an offer that a worker may claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Opening {
    /// None.
    #[default]
    None,
    /// One that anybody may claim: whoever is idle first.
    Any,
    /// One that names this worker: it should stop filling its slots.
    Named,
}

/// What became of an offer that was to be withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Withdrawal {
    /// Nobody can claim it any more.
    Done,
    /// Too late: this worker has claimed it.
    Claimed(WorkerId),
    /// Another epoch, or forgotten long ago: nothing was done.
    Stale,
}

impl Path {
    /// Begins an epoch: forgets all offers, writes the claims that are known, sets the floor.
    /// Does nothing and says `false` unless the path is still in the epoch that was `seen`.
    pub fn adopt(
        &mut self,
        seen: Option<&Epoch>,
        epoch: Epoch,
        floor: OfferId,
        claims: &BTreeMap<OfferId, WorkerId>,
    ) -> bool {
        if self.epoch.as_ref() != seen {
            return false;
        }
        self.epoch = Some(epoch);
        self.floor = floor;
        self.offers = claims.iter().map(|(id, worker)| (*id, Offer::Claimed(worker.clone()))).collect();
        true
    }

    /// Writes each offer that is absent and above the floor. Says `false` under another epoch.
    pub fn project(&mut self, epoch: &Epoch, offers: &BTreeMap<OfferId, Offer>) -> bool {
        if self.epoch.as_ref() != Some(epoch) {
            return false;
        }
        for (id, offer) in offers.iter().filter(|(id, _)| **id > self.floor) {
            self.offers.entry(*id).or_insert_with(|| offer.clone());
        }
        true
    }

    /// Takes an open offer for a worker: one that names it, else the lowest that names nobody. A worker
    /// has at most one claim, and asking again returns it. Returns nothing when there is none to take.
    pub fn claim(&mut self, epoch: &Epoch, worker: &WorkerId) -> Option<OfferId> {
        if self.epoch.as_ref() != Some(epoch) {
            return None;
        }
        let id = self
            .claim_of(worker)
            .or_else(|| self.first_open(Some(worker)))
            .or_else(|| self.first_open(None))?;
        self.offers.insert(id, Offer::Claimed(worker.clone()));
        Some(id)
    }

    /// Takes an offer back, also where it was not yet written: the mark keeps it from being projected later.
    pub fn withdraw(&mut self, epoch: &Epoch, id: OfferId) -> Withdrawal {
        if self.epoch.as_ref() != Some(epoch) || id <= self.floor {
            return Withdrawal::Stale;
        }
        match self.offers.get(&id) {
            Some(Offer::Claimed(worker)) => Withdrawal::Claimed(worker.clone()),
            _ => {
                self.offers.insert(id, Offer::Withdrawn);
                Withdrawal::Done
            }
        }
    }

    /// Forgets everything at or under `floor`. A floor never falls. Says `false` under another epoch.
    pub fn raise_floor(&mut self, epoch: &Epoch, floor: OfferId) -> bool {
        if self.epoch.as_ref() != Some(epoch) {
            return false;
        }
        if floor > self.floor {
            self.floor = floor;
            self.offers.retain(|id, _| *id > floor);
        }
        true
    }

    /// The offer that this worker has claimed.
    pub fn claim_of(&self, worker: &WorkerId) -> Option<OfferId> {
        self.offers.iter().find_map(|(id, offer)| match offer {
            Offer::Claimed(by) if by == worker => Some(*id),
            _ => None,
        })
    }

    /// What this worker may claim.
    pub fn opening(&self, worker: &WorkerId) -> Opening {
        match (self.first_open(Some(worker)), self.first_open(None)) {
            (Some(_), _) => Opening::Named,
            (None, Some(_)) => Opening::Any,
            (None, None) => Opening::None,
        }
    }

    fn first_open(&self, named: Option<&WorkerId>) -> Option<OfferId> {
        self.offers.iter().find_map(|(id, offer)| match offer {
            Offer::Open(by) if by.as_ref() == named => Some(*id),
            _ => None,
        })
    }
}
