//! The steps that a plan is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId};
use qscaler_protocol::path::Offer;

use crate::resize::Exact;

/// One thing to do. Each may be done twice without harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Begin an epoch on the path: [`Path::adopt`](qscaler_protocol::path::Path::adopt).
    Adopt {
        /// The epoch that was read.
        seen: Option<Epoch>,
        /// The new one.
        epoch: Epoch,
        /// The floor.
        floor: OfferId,
        /// The claims that are known.
        claims: BTreeMap<OfferId, WorkerId>,
    },
    /// Show offers on the path: [`Path::project`](qscaler_protocol::path::Path::project).
    Project {
        /// Under this epoch.
        epoch: Epoch,
        /// These.
        offers: BTreeMap<OfferId, Offer>,
    },
    /// Take offers back: [`Path::withdraw`](qscaler_protocol::path::Path::withdraw).
    Withdraw {
        /// Under this epoch.
        epoch: Epoch,
        /// These.
        offers: Vec<OfferId>,
    },
    /// Let the path forget: [`Path::raise_floor`](qscaler_protocol::path::Path::raise_floor).
    RaiseFloor {
        /// Under this epoch.
        epoch: Epoch,
        /// Up to here.
        floor: OfferId,
    },
    /// Create the worker of this name; that it exists is success.
    Start {
        /// The name.
        name: String,
    },
    /// Remove a worker if still no process of it runs.
    Remove {
        /// Which.
        worker: WorkerId,
    },
    /// Turn a drained worker's report into "released"; it may be deleted.
    Release {
        /// Which.
        worker: WorkerId,
        /// The start of its process that said so.
        boot: BootId,
    },
    /// Ask a worker to end by SIGTERM.
    Terminate {
        /// Which.
        worker: WorkerId,
    },
    /// Mark a worker as one to go when the number of replicas falls, or take the mark away.
    Mark {
        /// Which.
        worker: WorkerId,
        /// Whether it is to bear the mark.
        marked: bool,
    },
    /// Ask for another number of replicas.
    Scale {
        /// The number that was read: where it is another one by now, nothing is done.
        from: u32,
        /// The new one.
        to: u32,
        /// Those without a process that may be deleted with it: where one has a process after all, nothing is
        /// done.
        unborn: Vec<WorkerId>,
        /// Those that have drained and may be deleted with it, each with the start of its process that said
        /// so: where one takes tasks again, nothing is done.
        released: Vec<(WorkerId, BootId)>,
    },
    /// Give containers of a worker other amounts while it works on.
    Resize {
        /// Which.
        worker: WorkerId,
        /// What each is to have, by its name.
        containers: BTreeMap<String, Exact>,
    },
    /// Delete what workers reported that are gone.
    Forget {
        /// These.
        workers: Vec<WorkerId>,
    },
}
