//! How large the workers are: requests and limits of each container, from what it uses.
//!
//! The order of a tick is that of the number of workers: [`Memory::feed_containers`] takes in what was
//! seen, [`Memory::ask_sizes`] gathers all that the answer rests on into a [`Question`], [`size`] answers
//! it, and [`Memory::remember_sizes`] keeps the answer. A stored question that is asked again gives the
//! same answer bit by bit.
//!
//! What always holds, whatever a rule says: a request is never above its limit, nothing is negative or
//! infinite, `min` and `max` are kept, and the container's quality of service stays what the template
//! makes it, unless the rule gives a `limit` of its own. What is not known changes nothing.
//!
//! [`Memory::feed_containers`]: crate::memory::Memory::feed_containers
//! [`Memory::ask_sizes`]: crate::memory::Memory::ask_sizes
//! [`Memory::remember_sizes`]: crate::memory::Memory::remember_sizes

mod amounts;
mod evaluate;
pub(crate) mod reason;
pub mod replay;
mod target;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use qscaler_protocol::name::WorkerId;

use crate::decide::Shown;
use crate::rule::Policy;
use crate::signal::Sample;
use crate::time::Time;

/// What a container needs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// Processor, in cores.
    Cpu,
    /// Memory, in bytes.
    Memory,
}

/// Request and limit of one resource, in its base unit; none where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// What is kept free for the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<f64>,
    /// What it never gets more of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

/// Requests and limits of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processor, in cores.
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    pub cpu: Amounts,
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    pub memory: Amounts,
}

/// How a container lives in its pod.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ContainerKind {
    /// One of the pod's containers.
    #[default]
    Main,
    /// An init container that is restarted always: it runs beside the others.
    Sidecar,
    /// An init container that ends before the others begin.
    Init,
}

/// A container of a workload: what its template says, and how it runs in each worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name, which no other container of the pod has.
    pub name: String,
    /// How it lives in its pod.
    pub kind: ContainerKind,
    /// What the pod template says, without anything that we have set.
    pub template: Resources,
    /// The container in each worker.
    pub runs: Vec<Run>,
    /// Kills for want of memory that are still to be seen. One may come again at every look, and after a
    /// restart of the engine: it counts once.
    pub kills: Vec<OutOfMemory>,
}

/// A container in one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The worker.
    pub worker: WorkerId,
    /// When its process was started or it got its present amounts, whichever is later.
    pub since: Time,
    /// What it has now.
    pub current: Resources,
    /// What it uses; the same measurement may come again at every look and counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Measured>,
}

/// What a container used when that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// When.
    pub at: Time,
    /// Cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Bytes of its working set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<f64>,
}

/// A container was killed for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutOfMemory {
    /// When.
    pub at: Time,
    /// The limit that it had, or its request where it had no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The most that it was seen to use before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<f64>,
}

/// Everything that sizes rest on, besides the rule's text and parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// When, on the engine's timeline.
    pub at: Time,
    /// When, by the clock on the wall.
    pub wall: Time,
    /// The workload's own signals that the rule's `resources` use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Sample>,
    /// The rule's own values, as the decision on the number of workers has computed them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lets: BTreeMap<String, Result<Shown, String>>,
    /// How many main containers and sidecars a worker has.
    pub together: u32,
    /// The containers, each by its name.
    pub containers: BTreeMap<String, Asked>,
}

/// What is asked of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// How it lives in its pod.
    pub kind: ContainerKind,
    /// What the pod template says.
    pub template: Resources,
    /// What was answered last; none before the first answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Resources>,
    /// What its memory request would last have been without any kill; none before the first answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkilled: Option<f64>,
    /// Its signals that the rule uses: `usage.cpu`, the largest over the workers, and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Sample>,
    /// What the rule's windows over them say; none where they hold no sample.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, Option<f64>>,
    /// Since when its use has been watched without a gap that would matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_since: Option<Time>,
    /// Kills for want of memory that still count, the oldest and largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kills: Vec<Kill>,
    /// How many there were, also those that count no more.
    #[serde(default)]
    pub killed: u32,
    /// The workers whose amounts can be changed, with what each has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Held>,
}

/// A kill as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kill {
    /// When.
    pub at: Time,
    /// The limit that the container had, or what it used, whichever is larger.
    pub limit: f64,
}

/// What a container in one worker has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The worker.
    pub worker: WorkerId,
    /// Since when.
    pub since: Time,
    /// What.
    pub current: Resources,
}

/// How large the containers of a workload's workers should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// For each container that the rule speaks of. Others keep their template.
    pub containers: BTreeMap<String, Target>,
}

/// How large one container should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its processor; none where nothing is known or the rule says nothing: the template holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Sized>,
    /// Its memory; none where nothing is known or the rule says nothing: the template holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Sized>,
    /// The workers that have something else and should get this now. New workers get it at birth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resize: Vec<WorkerId>,
    /// The values that the rule gives names for this container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lets: BTreeMap<String, Result<Shown, String>>,
    /// In one sentence.
    pub reason: String,
    /// What went wrong, in words, where it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The amounts of one resource, and what settled them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sized {
    /// Request and limit: request <= limit, both whole bytes or thousandths of a core.
    pub amounts: Amounts,
    /// What settled the request.
    pub because: Settled,
    /// What the rule's `request` says, before anything else; none where it has no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<f64>,
    /// What the request would be without any kill, and before its bounds.
    pub unkilled: f64,
    /// How this came, in words.
    pub note: String,
}

/// What settled a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Settled {
    /// The rule's `request`.
    Target,
    /// A kill for want of memory: the floor that `onOom` raises.
    OutOfMemory,
    /// The rule's `min`.
    Min,
    /// The rule's `max`.
    Max,
    /// It would be lowered before the rule's longest window has been watched.
    NotWatched,
    /// It is not known, so what was holds.
    Unknown,
}

impl Amounts {
    /// Neither request nor limit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Resource {
    /// What it is called in manifests, rules and sentences.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
        }
    }
}

impl Resources {
    /// Request and limit of one resource.
    pub fn of(&self, resource: Resource) -> Amounts {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }
}

impl Target {
    /// What was settled of one resource.
    pub fn of(&self, resource: Resource) -> Option<&Sized> {
        match resource {
            Resource::Cpu => self.cpu.as_ref(),
            Resource::Memory => self.memory.as_ref(),
        }
    }

    /// The template with this target in it: what a new worker gets.
    pub fn over(&self, template: Resources) -> Resources {
        let amounts = |resource| self.of(resource).map_or(template.of(resource), |sized| sized.amounts);
        Resources { cpu: amounts(Resource::Cpu), memory: amounts(Resource::Memory) }
    }
}

/// Answers. Total: whatever is missing or wrong, there is an answer, and what is not known changes nothing.
pub fn size(policy: &Policy, question: &Question) -> Sizes {
    let sized = |(name, asked): (&String, &Asked)| {
        let (_, sizing, windows) = policy.sizing(name, asked.kind)?;
        Some((name.clone(), target::target(policy, (sizing, windows), question, asked)))
    };
    Sizes { containers: question.containers.iter().filter_map(sized).collect() }
}
