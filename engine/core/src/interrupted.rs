//! Why tasks were cut off: what the queue system wrote down of a worker, and what the platform knew of it.
//!
//! The queue system says that a worker gave no sign of life while it held tasks, or gave them back because it
//! had to end; what became of the worker is the platform's to say.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::WorkerId;

use crate::time::Time;

/// Why the queue system says that the work on tasks was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Their worker gave no sign of life, or started again.
    Lost,
    /// Their worker was told to end, and its grace period was over.
    Grace,
}

/// What the queue system wrote down when work on tasks was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// Higher than that of every one before it in this queue.
    pub number: u64,
    /// Why.
    pub why: Why,
    /// How many tasks.
    pub tasks: u64,
    /// Who held them.
    pub worker: WorkerId,
    /// When this engine has read it first, by the clock on the wall.
    pub seen: Time,
}

/// What a platform knows of the end of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    /// Of whom: where each process is a worker of its own, the one before under the same name.
    pub worker: WorkerId,
    /// How its last process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Why it has to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub going: Option<Going>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// How.
    pub how: How,
    /// When.
    pub at: Time,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// It needed more memory than it was allowed.
    OutOfMemory,
    /// With this exit code, as a shell counts: 128 and the number of the signal that ended it.
    Code(i32),
    /// Nobody saw it.
    Unseen,
}

/// Why a worker has to go, by what the platform says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Going {
    /// Its node has not enough room, or somebody empties it.
    Evicted,
    /// To make room for another of higher priority.
    Preempted,
    /// Its node is gone, is being shut down, or nobody hears of it.
    Node,
    /// It was deleted, and nobody says why.
    Deleted,
}

/// Everything that was seen last of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// A process of it may run.
    pub is_running: bool,
    /// How its last process ended.
    pub end: Option<End>,
    /// Why it had to go.
    pub going: Option<Going>,
    /// The engine has ended it, because it did not leave in time.
    pub is_overdue: bool,
    /// Since when it is not there any more.
    pub gone: Option<Time>,
}

/// Why tasks were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// See [`Cause::about`].
    Oom,
    /// See [`Cause::about`].
    Killed,
    /// See [`Cause::about`].
    Crashed,
    /// See [`Cause::about`].
    Evicted,
    /// See [`Cause::about`].
    Preempted,
    /// See [`Cause::about`].
    Node,
    /// See [`Cause::about`].
    Deleted,
    /// See [`Cause::about`].
    Deadline,
    /// See [`Cause::about`].
    Grace,
    /// See [`Cause::about`].
    Stalled,
    /// See [`Cause::about`].
    Unknown,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Oom,
        Self::Killed,
        Self::Crashed,
        Self::Evicted,
        Self::Preempted,
        Self::Node,
        Self::Deleted,
        Self::Deadline,
        Self::Grace,
        Self::Stalled,
        Self::Unknown,
    ];

    /// Its name on metrics, and what it says.
    pub fn about(self) -> (&'static str, &'static str) {
        match self {
            Self::Oom => ("oom", "its container needed more memory than its limit"),
            Self::Killed => {
                ("killed", "a signal to end or kill it that neither it nor the platform explains")
            }
            Self::Crashed => ("crashed", "its process ended by itself"),
            Self::Evicted => ("evicted", "its node had no room for it, or was emptied"),
            Self::Preempted => ("preempted", "it had to make room for a pod of higher priority"),
            Self::Node => ("node", "its node was gone, shut down or cut off"),
            Self::Deleted => ("deleted", "somebody other than the engine deleted it"),
            Self::Deadline => {
                ("deadline", "the engine ended it past the deadline of its rule, or when told to")
            }
            Self::Grace => ("grace", "it gave the task back when its grace period was over"),
            Self::Stalled => ("stalled", "it seems to live and did not renew the lease"),
            Self::Unknown => ("unknown", "nobody saw what became of it"),
        }
    }

    /// Whether something may yet be heard that says more.
    pub fn is_preliminary(self) -> bool {
        matches!(self, Self::Stalled | Self::Deleted | Self::Unknown)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about().0)
    }
}

/// A process that started again may take so long until it says that what it had held is lost. An end that is
/// longer ago explains nothing about a worker that runs.
const START_MAX: Duration = Duration::from_secs(600);
/// Exit codes of processes that were told or made to end: 128 and SIGHUP, SIGINT, SIGKILL, SIGTERM.
const KILLED: [i32; 4] = [129, 130, 137, 143];

/// Why tasks were cut off, by what the queue system says and what was seen last of their worker.
pub fn cause(why: Why, last: Option<&Last>, now: Time) -> Cause {
    let Some(last) = last.filter(|_| why == Why::Lost) else {
        return if why == Why::Grace { Cause::Grace } else { Cause::Unknown };
    };
    let explains = |end: &End| !last.is_running || now.since(end.at) <= START_MAX;
    let how = last.end.filter(explains).map(|end| end.how);
    match (how, last.going) {
        (Some(How::OutOfMemory), _) => Cause::Oom,
        (_, Some(Going::Evicted)) => Cause::Evicted,
        (_, Some(Going::Preempted)) => Cause::Preempted,
        (_, Some(Going::Node)) => Cause::Node,
        _ if last.is_overdue => Cause::Deadline,
        (_, Some(Going::Deleted)) => Cause::Deleted,
        (Some(How::Code(code)), None) if KILLED.contains(&code) => Cause::Killed,
        (Some(How::Code(_)), None) => Cause::Crashed,
        (Some(How::Unseen), None) => Cause::Unknown,
        // One that ran when it was seen last has not ended by itself: then it would still be there.
        (None, None) if last.gone.is_some() && last.is_running => Cause::Deleted,
        (None, None) if last.is_running => Cause::Stalled,
        (None, None) => Cause::Unknown,
    }
}
