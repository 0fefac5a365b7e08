//! What must hold in every state, and what it means that everything has come to rest.

use std::collections::BTreeSet;

use qscaler_core::plan::Plan;
use qscaler_protocol::path::Offer;

use super::engine::Engine;
use super::setting::Setting;
use super::worker::Life;
use super::world::{Broken, World};

impl World {
    /// The promises that can be read off a state. Those about a moment are checked where it happens: no
    /// fetch completes after a claim, no id is claimed by two, no busy worker is deleted.
    pub(super) fn check(&self, setting: &Setting) -> Result<(), Broken> {
        let broken = |what: String| Err(Broken(what));
        let claims: Vec<_> = self
            .path
            .offers
            .values()
            .filter_map(|offer| match offer {
                Offer::Claimed(by) => Some(by),
                Offer::Open(_) | Offer::Withdrawn => None,
            })
            .collect();
        if claims.iter().collect::<BTreeSet<_>>().len() < claims.len() {
            return broken(format!("one worker has two claims on the path: {claims:?}"));
        }
        let known = self.ledger.claims();
        if known.values().collect::<BTreeSet<_>>().len() < known.len() {
            return broken(format!("one worker has two claims in the ledger: {known:?}"));
        }
        let tally = &self.tally;
        if tally.claim_count + tally.withdrawals > tally.grants {
            return broken(format!(
                "{} claims and {} withdrawals of {} grants",
                tally.claim_count, tally.withdrawals, tally.grants
            ));
        }
        if tally.overdrawn {
            return broken("a plan asks more workers than can be spared".to_owned());
        }
        let least = setting.walk[..=self.at].iter().min().copied().unwrap_or_default();
        let missing = if setting.outdated > 0 { setting.rollout.unavailable_max } else { 0 };
        let least = least.saturating_sub(missing);
        let run = self.workers.iter().filter(|it| it.process == Life::Running && !it.claimed).count();
        if !tally.harmed && run < least as usize {
            return broken(format!("{run} workers run and at least {least} were always desired"));
        }
        Ok(())
    }

    /// Nothing is left to do: no offers, as many workers as desired, a tidy ledger and path, tasks done.
    pub(super) fn is_quiet(&self, setting: &Setting) -> bool {
        self.workers.len() == self.desired(setting) as usize
            && self.ledger.offers.is_empty()
            && self.path.offers.is_empty()
            && self.waiting + self.stray == 0
            && self.engines.iter().all(|engine| matches!(engine, Engine::Resting))
            && self.workers.iter().all(|it| it.tasks() == 0 && !it.life.is_leaving() && it.has_process())
            && self.workers.iter().all(|it| !it.outdated)
            && self.plan_now(setting) == Plan::default()
    }
}
