//! The ledger: the offers of one workload, durable and changed only by compare-and-swap.
//!
//! Shrinking by k means k unclaimed offers here, never a count in somebody's memory. The control
//! path shows the offers to workers; this is what they are. See [`crate::plan`] for who changes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use qscaler_protocol::PROTOCOL;
use qscaler_protocol::name::{Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Offer, Path};
use qscaler_protocol::report::Received;

use crate::plan::{OVERRIDDEN_FOR, OVERRIDES_MAX};
use crate::time::Time;

/// A place to leave that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The only worker that may claim it; anybody without.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub named: Option<WorkerId>,
    /// When it was granted.
    pub granted_at: Time,
    /// Who claimed it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<WorkerId>,
}

/// A rollout under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rolling {
    /// How many workers are desired: while they are replaced their number does not tell.
    pub desired: u32,
    /// Since when.
    pub since: Time,
}

/// The number of replicas that the engine asked for last, where something else makes the workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaled {
    /// So many.
    pub to: u32,
    /// It was read again as it was written.
    pub confirmed: bool,
    /// When others were found to have changed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<Time>,
}

/// The offers of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The protocol of whoever wrote it. A higher one than ours: keep, hold, say so.
    pub protocol: u32,
    /// The epoch of the control path that this ledger belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The next offer's number, above every number ever used.
    pub next: OfferId,
    /// What was granted and is not yet forgotten.
    #[serde(default)]
    pub offers: BTreeMap<OfferId, Grant>,
    /// Offers name workers now: nobody was wholly free for so long that an offer to anybody is no use.
    #[serde(default)]
    pub naming: bool,
    /// The rollout, until it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    /// Where something else makes the workers: their number, as the engine wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// Fields of a later version, kept as they were.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            protocol: PROTOCOL,
            epoch: None,
            next: OfferId(1),
            offers: BTreeMap::new(),
            naming: false,
            rolling: None,
            scaled: None,
            unknown: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// Whether a later version wrote it, so that it must be left alone.
    pub fn is_from_the_future(&self) -> bool {
        self.protocol > PROTOCOL
    }

    /// Whether others change the number of replicas again and again.
    pub fn is_overridden(&self, now: Time) -> bool {
        let lately = |at: &&Time| now.since(**at) < OVERRIDDEN_FOR;
        self.scaled.as_ref().is_some_and(|it| it.overridden.iter().filter(lately).count() >= OVERRIDES_MAX)
    }

    /// Numbers of offers that nobody has claimed.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = (OfferId, &Grant)> {
        self.offers.iter().filter(|(_, grant)| grant.claimed_by.is_none()).map(|(id, grant)| (*id, grant))
    }

    /// Grants the next offer: to this worker, or to anybody.
    pub fn grant(&mut self, named: Option<WorkerId>, now: Time) {
        let id = self.next;
        self.next = id.next();
        self.offers.insert(id, Grant { named, granted_at: now, claimed_by: None });
    }

    /// The highest number that nothing is held at or under: what the path may forget.
    pub fn floor(&self) -> OfferId {
        let lowest_held = self.offers.keys().next().copied().unwrap_or(self.next);
        OfferId(lowest_held.0.saturating_sub(1))
    }

    /// The offers as the control path should hold them.
    pub fn projection(&self) -> BTreeMap<OfferId, Offer> {
        let project = |grant: &Grant| match &grant.claimed_by {
            Some(by) => Offer::Claimed(by.clone()),
            None => Offer::Open(grant.named.clone()),
        };
        self.offers.iter().map(|(id, grant)| (*id, project(grant))).collect()
    }

    /// Claims by number.
    pub fn claims(&self) -> BTreeMap<OfferId, WorkerId> {
        self.offers.iter().filter_map(|(id, grant)| Some((*id, grant.claimed_by.clone()?))).collect()
    }

    /// Whether the path shows this ledger's future: numbers that it has not reached, or a floor above
    /// what it holds. Then it was restored from an older state, or a later one was written since it was read.
    pub fn is_older_than(&self, path: &Path) -> bool {
        path.floor > self.floor() || path.offers.keys().next_back().is_some_and(|id| *id >= self.next)
    }

    /// Notes the claims and withdrawals that the path shows, and forgets what is over: offers that
    /// were withdrawn, and claims of workers that are gone.
    pub fn absorb(&mut self, path: &Path, is_gone: impl Fn(&WorkerId) -> bool, now: Time) {
        for (id, offer) in &path.offers {
            match offer {
                Offer::Claimed(by) => self.note_claim(*id, by, now),
                Offer::Withdrawn => {
                    self.offers.remove(id);
                }
                Offer::Open(_) => {}
            }
        }
        self.offers.retain(|_, grant| grant.claimed_by.as_ref().is_none_or(|by| !is_gone(by)));
    }

    /// Begins an epoch after the path was found empty or changed, or this ledger older than the path.
    /// Open offers are void, because nobody can know who claimed them; their numbers are not used
    /// again. Claims stay, those that only the path or a worker's report still tells included.
    pub fn begin_epoch(
        &mut self,
        epoch: Epoch,
        path: &Path,
        reports: &BTreeMap<WorkerId, Received>,
        now: Time,
    ) {
        let told = reports.values().filter_map(|it| Some((it.report.claim?, it.report.worker.clone())));
        let shown = path.offers.iter().filter_map(|(id, offer)| match offer {
            Offer::Claimed(by) => Some((*id, by.clone())),
            Offer::Open(_) | Offer::Withdrawn => None,
        });
        for (id, worker) in shown.chain(told).collect::<Vec<_>>() {
            self.note_claim(id, &worker, now);
        }
        let highest = self.offers.keys().chain(path.offers.keys()).max().copied().unwrap_or_default();
        self.next = self.next.max(highest.max(path.floor).next());
        self.offers.retain(|_, grant| grant.claimed_by.is_some());
        self.naming = false;
        self.rolling = None;
        self.epoch = Some(epoch);
    }

    fn note_claim(&mut self, id: OfferId, by: &WorkerId, now: Time) {
        let grant =
            self.offers.entry(id).or_insert_with(|| Grant { named: None, granted_at: now, claimed_by: None });
        grant.claimed_by.get_or_insert_with(|| by.clone());
    }
}
