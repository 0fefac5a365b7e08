//! What is seen of the workers of one workload: by the platform, and by what they report themselves.

mod containers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::{BootId, Epoch, WorkerId};
use qscaler_protocol::path::{Offer, Path};
use qscaler_protocol::report::{Received, State};

use crate::interrupted::Fate;
use crate::ledger::Ledger;
use crate::time::Time;

pub use containers::{Inside, Part, Resizing, Restarts};

/// Whether a worker's process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Process {
    /// It has none yet.
    Waiting,
    /// It ended badly and is started again at this time.
    BackOff {
        /// When.
        until: Time,
        /// How the last one ended.
        ended: String,
    },
    /// It runs.
    Running,
    /// It was told to end and still runs.
    Ending,
}

/// What one worker uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Cores in use, averaged since the last look.
    pub cpu: f64,
    /// Resident memory in bytes.
    pub memory: f64,
}

/// One worker as the platform sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Its incarnation.
    pub id: WorkerId,
    /// Its name, `<workload>-<number>`; used again after it is gone.
    pub name: String,
    /// Its process.
    pub process: Process,
    /// When it was created.
    pub since: Time,
    /// How its last process ended, or that of the worker before it under this name, and why it has to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// What it uses, where that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// It was made of an older template than the present one, by what the platform says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// Its readiness probe fails: where something else deletes workers, it may be deleted before others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unready: bool,
    /// It bears the mark by which whoever lowers the number of workers chooses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    /// Its containers, those included that have ended, where somebody asks for their sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Inside>,
    /// A change of their sizes that has not been made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resizing: Option<Resizing>,
}

impl Seen {
    /// One of which nothing further is known.
    pub fn new(id: WorkerId, name: impl Into<String>, process: Process, since: Time) -> Self {
        Self {
            id,
            name: name.into(),
            process,
            since,
            fate: None,
            usage: None,
            outdated: false,
            unready: false,
            marked: false,
            containers: vec![],
            resizing: None,
        }
    }
}

/// A report older than this proves nothing: its worker may hang or be cut off and cannot be counted
/// on to claim. Three times the longest pause between two reports.
pub const REPORT_AGE_MAX: Duration = Duration::from_secs(15);

/// What is known of one worker when everything that was read is put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// As the platform sees it.
    pub seen: Seen,
    /// It has claimed an offer or says that it leaves: it counts as gone already.
    pub leaving: bool,
    /// It has reported in this epoch, lately, and can claim.
    pub registered: bool,
    /// Its slots; one until it has reported.
    pub slots: u32,
    /// Slots at work.
    pub busy_slots: u32,
    /// When it became what it is now, by its own report; none before the first one.
    pub state_since: Option<Time>,
    /// It has said that it is drained, under this boot id.
    pub drained: Option<BootId>,
}

impl Member {
    /// No process of it runs, so it holds no task and can be removed without asking.
    pub fn has_no_process(&self) -> bool {
        matches!(self.seen.process, Process::Waiting | Process::BackOff { .. })
    }

    /// It runs and works on nothing.
    pub fn is_idle(&self) -> bool {
        self.registered && self.busy_slots == 0
    }
}

/// Puts together what was read of a workload's workers, in the platform's order.
pub fn muster(
    ledger: &Ledger,
    path: &Path,
    reports: &BTreeMap<WorkerId, Received>,
    seen: Vec<Seen>,
    now: Time,
) -> Vec<Member> {
    let claimed = claimed(ledger, path, reports);
    seen.into_iter()
        .map(|seen| {
            let received = reports.get(&seen.id);
            let seen = as_reported(seen, received);
            let state = received.map(|it| it.report.state);
            let told = matches!(state, Some(State::Draining | State::Drained));
            let leaving = claimed.contains(&seen.id) || told || seen.process == Process::Ending;
            Member {
                leaving,
                registered: !leaving
                    && seen.process == Process::Running
                    && received.is_some_and(|it| is_current(it, ledger.epoch.as_ref())),
                slots: received.map_or(1, |it| it.report.slots.max(1)),
                busy_slots: received.map_or(0, |it| it.report.busy_slots),
                state_since: received
                    .map(|it| now - Duration::from_millis(it.age_ms.saturating_add(it.report.state_ms))),
                drained: received.filter(|_| state == Some(State::Drained)).map(|it| it.report.boot.clone()),
                seen,
            }
        })
        .collect()
}

/// A worker that seems to have no process yet and has reported lately has one: the platform tells late of it.
fn as_reported(seen: Seen, received: Option<&Received>) -> Seen {
    let is_lately = |it: &Received| !it.released && Duration::from_millis(it.age_ms) <= REPORT_AGE_MAX;
    let runs = seen.process == Process::Waiting && received.is_some_and(is_lately);
    if runs { Seen { process: Process::Running, ..seen } } else { seen }
}

/// Whether a report was made lately, by a worker that has registered and knows this epoch.
fn is_current(received: &Received, epoch: Option<&Epoch>) -> bool {
    epoch.is_some()
        && received.report.epoch.as_ref() == epoch
        && Duration::from_millis(received.age_ms) <= REPORT_AGE_MAX
        && matches!(received.report.state, State::Idle | State::Busy)
}

/// Everybody of whom any source says that it has claimed: once said, it is final.
fn claimed(ledger: &Ledger, path: &Path, reports: &BTreeMap<WorkerId, Received>) -> BTreeSet<WorkerId> {
    let on_path = path.offers.values().filter_map(|offer| match offer {
        Offer::Claimed(by) => Some(by.clone()),
        Offer::Open(_) | Offer::Withdrawn => None,
    });
    let in_ledger = ledger.offers.values().filter_map(|grant| grant.claimed_by.clone());
    let by_report =
        reports.values().filter(|it| it.report.claim.is_some()).map(|it| it.report.worker.clone());
    on_path.chain(in_ledger).chain(by_report).collect()
}
