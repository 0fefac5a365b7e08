//! What one exploration covers: how large its world is, what may go wrong in it, how finely its steps
//! are cut, and which rule of the protocol is left out to see it caught.

use qscaler_core::plan::Rollout;

/// How often each fault may strike on one walk. Engines may crash at every step, as often as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    /// A worker's process is killed; the platform starts it again.
    pub(super) kills: u8,
    /// A worker that is known to have left is started again before it is removed.
    pub(super) restarts: u8,
    /// The platform evicts a worker: SIGTERM, then it is gone.
    pub(super) evictions: u8,
    /// Somebody sends a worker SIGTERM behind the platform's back.
    pub(super) signals: u8,
    /// The control path loses everything.
    pub(super) wipes: u8,
    /// The control path loses its last writes.
    pub(super) rollbacks: u8,
    /// The ledger is restored from an older state.
    pub(super) restores: u8,
    /// A worker is silent for so long that its last report proves nothing.
    pub(super) silences: u8,
}

/// What a setting has beyond the plain case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Between an engine's reads of ledger, path and fleet anything may happen.
    SplitReads,
    /// Reports and claims travel: anything may happen between asking, doing and hearing.
    SlowLetters,
    /// A fetch takes time: the gate may close while it is under way.
    SlowFetches,
    /// A worker that was started has no process yet.
    Pending,
    /// Containers: a process that is started again keeps its incarnation. Without, it gets a new one.
    Containers,
    /// A worker that has drained parks until it is deleted. Without, its process ends.
    Parking,
    /// Offers may have been open for longer than a long task.
    Patience,
    /// Begins with nothing. Without, with the first number of workers, registered.
    Empty,
}

/// A rule of the protocol that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weakening {
    /// What a plan changes in the ledger that was read is changed in whatever it is by now.
    NoCompareAndSwap,
    /// The ledger is read after path and fleet.
    LedgerReadLast,
    /// A projection overwrites what is there.
    NoSetIfAbsent,
    /// A worker fetches on while it claims and after.
    NoGate,
    /// Offers are taken back in the ledger, not on the path.
    WithdrawalInLedgerOnly,
    /// Offers that were forgotten may be written again.
    NoFloor,
    /// The path keeps its epoch when it loses data.
    NoEpoch,
    /// A worker that is started under a name that was used before is taken for the one before.
    NamesForIncarnations,
    /// The original's SIGKILL_QUEUE: an offer is a message that is popped. Shown until the ledger knows better.
    MessagesSentAgain,
    /// The same, but each message is sent once.
    MessagesSentOnce,
    /// A drained report is believed whichever process runs by now.
    NoBootComparison,
    /// The control path shows offers that name somebody as offers to anybody.
    NamesNotShown,
    /// A rollout lets one worker more be missing than it may.
    NoBudget,
    /// The platform does not say that workers are made of an older template.
    NobodyIsOutdated,
}

/// One exploration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// What it is about.
    pub(super) name: &'static str,
    /// How many workers are desired, one after the other.
    pub(super) walk: &'static [u32],
    /// How many engines there are.
    pub(super) engines: usize,
    /// At most this many workers fit on the platform.
    pub(super) places: usize,
    /// Tasks that one worker can work on at a time.
    pub(super) slots: u32,
    /// Tasks that wait at the beginning.
    pub(super) tasks: u8,
    /// So many of the workers at the beginning are made of an older template.
    pub(super) outdated: u32,
    /// How they are replaced.
    pub(super) rollout: Rollout,
    /// What may go wrong.
    pub(super) faults: Faults,
    /// What else there is.
    pub(super) details: &'static [Detail],
    /// What is left out.
    pub(super) without: Option<Weakening>,
}

/// Nothing goes wrong.
pub(super) const NO_FAULTS: Faults = Faults {
    kills: 0,
    restarts: 0,
    evictions: 0,
    signals: 0,
    wipes: 0,
    rollbacks: 0,
    restores: 0,
    silences: 0,
};

/// Three workers, one of which is to stay, one engine, and nothing goes wrong.
pub(super) const PLAIN: Setting = Setting {
    name: "plain",
    walk: &[3, 1],
    engines: 1,
    places: 4,
    slots: 1,
    tasks: 0,
    outdated: 0,
    rollout: Rollout { surge_max: 0, unavailable_max: 0 },
    faults: NO_FAULTS,
    details: &[],
    without: None,
};

impl Setting {
    pub(super) fn has(&self, detail: Detail) -> bool {
        self.details.contains(&detail)
    }

    pub(super) fn lacks(&self, weakening: Weakening) -> bool {
        self.without == Some(weakening)
    }
}
