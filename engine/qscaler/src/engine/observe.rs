//! The first part of a tick: everything that is read, in an order that makes it safe to act on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qscaler_core::document::workload::Mode as Consent;
use qscaler_core::fleet::{Process, Seen};
use qscaler_core::ledger::Ledger;
use qscaler_core::plan::Situation;
use qscaler_core::signal::Measure;
use qscaler_core::time::Time;
use qscaler_protocol::name::WorkerId;
use qscaler_protocol::path::Path;
use qscaler_protocol::report::Received;

use super::keeper::{Hold, Keeper};
use super::polls::Poll;
use super::{Mode, Order};
use crate::ports::{Asked, Found, Freshness, PortError, Version};

/// At least this often a tick reads everything as it is.
const LIVE_EVERY: Duration = Duration::from_secs(30);

/// Everything that one tick reads, in this order.
pub(super) struct Observed {
    pub(super) version: Version,
    pub(super) ledger: Ledger,
    pub(super) poll: Arc<Poll>,
    /// Offers and reports; those of the last tick where they could not be read.
    pub(super) shown: Shown,
    /// Why they could not be read: then nothing is done.
    pub(super) unread: Option<PortError>,
    /// What makes the workers, where that is not the engine.
    pub(super) found: Option<Found>,
    pub(super) fleet: Vec<Seen>,
    pub(super) now: Time,
}

/// What the control path shows.
#[derive(Clone, Default)]
pub(super) struct Shown {
    pub(super) path: Path,
    pub(super) reports: BTreeMap<WorkerId, Received>,
}

impl Keeper {
    /// Whether a tick may begin with what a watch has told. Now and then none may: a watch can break
    /// without a sign.
    pub(super) fn freshness(&self, hold: &mut Hold) -> Freshness {
        let now = self.ports.clock.now();
        let is_due = hold.read_live.is_none_or(|at| now.since(at) >= LIVE_EVERY);
        if is_due || !self.ports.store.lags() {
            hold.read_live = Some(now);
            return Freshness::Live;
        }
        Freshness::Seen
    }

    /// Reads everything, the ledger first: whoever commits on the version read here has seen in the
    /// queue and among the workers at least what the ledger knew. `poll` is given where the queues were
    /// read a moment ago.
    #[tracing::instrument(level = "info", skip_all, fields(freshness = ?freshness))]
    pub(super) async fn observe(
        &self,
        hold: &mut Hold,
        freshness: Freshness,
        poll: Option<Arc<Poll>>,
    ) -> Asked<Observed> {
        let before = self.ports.clock.now();
        let (version, ledger) = self.ports.store.ledger(&hold.uid, freshness).await?;
        if ledger.is_from_the_future() {
            let reason = format!("a later version wrote it (protocol {})", ledger.protocol);
            return Err(PortError::new(format!("the ledger of {}", self.key), reason));
        }
        let poll = match poll {
            Some(poll) => poll,
            None => hold.subscription.after(before).await,
        };
        let read = match hold.subscription.system() {
            Ok(system) => system.control.read(&hold.uid).await,
            Err(error) => Err(error),
        };
        let (shown, unread) = match read {
            Ok((path, reports)) => (Shown { path, reports }, None),
            Err(error) => (hold.shown.clone(), Some(error)),
        };
        let mut found = self.ports.platform.found(&hold.uid, freshness).await?;
        if let Some(found) = &mut found {
            let keeps = hold.order.mode == Mode::Keep && hold.order.workload.mode == Consent::Act;
            found.scale.frozen = !keeps || found.conflict.is_some();
        }
        let fleet = self.ports.platform.fleet(&hold.uid, &hold.order.workload, freshness).await?;
        let now = self.ports.clock.now();
        Ok(Observed { version, ledger, poll, shown, unread, found, fleet, now })
    }
}

/// Whether no task waits in any queue.
fn is_empty(measures: &BTreeMap<String, Measure>) -> bool {
    measures.values().all(|measure| measure.length == 0)
}

impl Observed {
    /// Whether what is decided is done.
    pub(super) fn acts(&self, order: &Order) -> bool {
        match &self.found {
            Some(found) => !found.scale.frozen,
            None => order.workload.mode == Consent::Act || order.mode >= Mode::Drain,
        }
    }

    /// Whether something is to be given back to what makes the workers: offers that are open, and workers
    /// that have left and are still there.
    pub(super) fn owes(&self) -> bool {
        self.found.is_some() && !self.ledger.offers.is_empty()
    }

    /// How many workers run and have never reported.
    pub(super) fn silent(&self) -> u32 {
        let reports = &self.shown.reports;
        let is_silent = |seen: &&Seen| seen.process == Process::Running && !reports.contains_key(&seen.id);
        self.fleet.iter().filter(is_silent).count() as u32
    }

    pub(super) fn situation<'a>(&'a self, workload: &'a str) -> Situation<'a> {
        Situation {
            ledger: &self.ledger,
            path: &self.shown.path,
            reports: &self.shown.reports,
            fleet: &self.fleet,
            scale: self.found.as_ref().map(|found| &found.scale),
            workload,
            queue_is_empty: self.poll.answer.as_ref().is_ok_and(is_empty),
            now: self.now,
        }
    }
}
