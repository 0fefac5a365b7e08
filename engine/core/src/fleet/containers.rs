//! The containers of a worker: what its template says of each, and how each is now.

use serde::{Deserialize, Serialize};

use crate::time::Time;
use crate::vertical::{ContainerKind, OutOfMemory, Resource, Resources};

/// A container as the template of a workload's workers has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How it lives in its pod.
    pub kind: ContainerKind,
    /// What it asks for there.
    pub template: Resources,
}

/// A container of one worker, as the platform sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inside {
    /// Its name.
    pub name: String,
    /// What the worker asks for on its behalf.
    pub asked: Resources,
    /// What it has, where that is known: a change that was asked for may not have been made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Resources>,
    /// When its process was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// It does not run on the machine that its pod was given. A change that is made then reaches the container
    /// when it starts, and not what bounds the whole pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
    /// Which changes restart it.
    #[serde(default)]
    pub restarts: Restarts,
    /// Its last end, where that was a kill for want of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<OutOfMemory>,
}

/// Which changes of its amounts restart a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restarts {
    /// One of its processor.
    pub cpu: bool,
    /// One of its memory.
    pub memory: bool,
}

/// A change of amounts that was asked for and has not been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Resizing {
    /// It is being made.
    InProgress,
    /// It could be made once others on the machine need less.
    Deferred {
        /// Since when it waits.
        since: Time,
        /// For what.
        message: String,
    },
    /// It can never be made on this machine.
    Infeasible {
        /// Why.
        message: String,
    },
    /// It was tried in vain, and is tried again.
    Failed {
        /// Why.
        message: String,
    },
}

impl Inside {
    /// What it has, as far as that is known.
    pub fn current(&self) -> Resources {
        self.applied.unwrap_or(self.asked)
    }
}

impl Restarts {
    /// Whether a change of this resource restarts it.
    pub fn of(self, resource: Resource) -> bool {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }
}
