//! Who gets its new size now, and how: in place, by being replaced, or not yet, and why not.
//!
//! Nobody is interrupted for a size. A change that would restart a container is not made in place, whether
//! or not its worker seems idle: it may have a task by the time that the change arrives. Where the engine
//! makes the workers, such a one is replaced by the offers of a rollout, one at a time; where something else
//! does, it keeps its size until it ends.

mod exact;
mod limits;
mod range;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qscaler_protocol::name::WorkerId;

use crate::fleet::{Inside, Member, Part, Process, Resizing, Seen};
use crate::plan::Step;
use crate::time::Time;
use crate::vertical::reason::written;
use crate::vertical::{Container, ContainerKind, Measured, OutOfMemory, Resource, Run, Sizes};

pub use exact::{Exact, Whole, in_words};
pub use limits::Limits;
pub use range::{Range, hold_to_ranges};

/// A resize that the machine puts off for so long is not waited for where a worker can be replaced.
const DEFERRED_MAX: Duration = Duration::from_secs(300);
/// A worker younger than this is not replaced for its size: it was born with one, and something changes it.
const REPLACED_AGE_MIN: Duration = Duration::from_secs(600);
/// At most so many workers are resized in one tick.
const RESIZES_MAX: usize = 10;

/// What containers use, by worker and name.
pub type Used = BTreeMap<(WorkerId, String), Measured>;

/// Why a container has not the size that it should have; the first of these is told before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Somebody else sizes it.
    Conflict,
    /// The rule sizes nothing.
    NoResources,
    /// A quota of the namespace binds.
    Quota,
    /// A LimitRange of the namespace binds.
    LimitRange,
    /// The machine can never have it.
    Infeasible,
    /// The machine does not have it now.
    Deferred,
    /// The change was made in vain.
    Failed,
    /// The API server refuses it.
    Refused,
    /// A change would restart the container.
    Restarts,
    /// It uses more than it should get.
    BelowUse,
    /// What it uses is not known.
    NoUsage,
}

/// Something that keeps containers from the sizes that they should have, and what to type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hindrance {
    /// In one word.
    pub why: Why,
    /// In a sentence.
    pub message: String,
}

/// Everything that resizes rest on.
#[derive(Clone, Copy, Debug)]
pub struct Looked<'a> {
    /// The containers of the template.
    pub parts: &'a [Part],
    /// The sizes that they should have.
    pub sizes: &'a Sizes,
    /// The workers.
    pub members: &'a [Member],
    /// What containers use.
    pub used: &'a Used,
    /// Changes that were refused a short while ago: no worker is given the same again.
    pub refused: &'a [(BTreeMap<String, Exact>, Hindrance)],
    /// Workers that an open offer names.
    pub named: &'a BTreeSet<WorkerId>,
    /// Whether the engine makes the workers, and so can replace one.
    pub can_replace: bool,
    /// When.
    pub now: Time,
}

/// What is done about sizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resizes {
    /// Changes in place.
    pub steps: Vec<Step>,
    /// The worker that is to be replaced: at most one.
    pub replace: Option<WorkerId>,
    /// What keeps containers from their sizes.
    pub hindrances: BTreeSet<Hindrance>,
}

/// The containers of a workload as its sizes are asked for.
pub fn containers(parts: &[Part], fleet: &[Seen], used: &Used, limits: &mut Limits) -> Vec<Container> {
    limits.note(fleet);
    let container = |part: &Part| {
        let of = |seen: &Seen| seen.containers.iter().find(|it| it.name == part.name).cloned();
        let inside: Vec<_> = fleet.iter().filter_map(|seen| Some((seen, of(seen)?))).collect();
        let measured = |seen: &Seen| used.get(&(seen.id.clone(), part.name.clone())).copied();
        let run = |(seen, it): &(&Seen, Inside)| Run {
            worker: seen.id.clone(),
            since: it.since.unwrap_or(seen.since),
            current: it.current(),
            usage: measured(seen),
        };
        let kill = |(seen, it): &(&Seen, Inside)| {
            let kill = it.kill?;
            let before = measured(seen).filter(|measured| measured.at <= kill.at);
            let limit = limits.at_kill(seen, it);
            Some(OutOfMemory { limit, used: kill.used.or(before.and_then(|it| it.memory)), ..kill })
        };
        Container {
            name: part.name.clone(),
            kind: part.kind,
            template: part.template,
            runs: inside.iter().map(run).collect(),
            kills: inside.iter().filter_map(kill).collect(),
        }
    };
    parts.iter().map(container).collect()
}

/// What a new worker gets, by container: only what differs from the template.
pub fn births(parts: &[Part], sizes: &Sizes) -> BTreeMap<String, Exact> {
    let born = |part: &Part| {
        let size = Exact::from(sizes.containers.get(&part.name)?.over(part.template));
        (size != Exact::from(part.template)).then(|| (part.name.clone(), size))
    };
    parts.iter().filter_map(born).collect()
}

/// Decides who gets its new size now.
pub fn resizes(at: &Looked<'_>) -> Resizes {
    let mut resizes = Resizes::default();
    let mut candidates = vec![];
    for member in at.members.iter().filter(|member| !member.leaving) {
        if at.can_replace && resizes.steps.len() < RESIZES_MAX && is_born_better(at, member) {
            resizes.steps.push(Step::Remove { worker: member.seen.id.clone() });
            continue;
        }
        let (containers, hindrances) = changes(at, member);
        if at.can_replace && hindrances.iter().any(|it| can_be_replaced(it, member, at.now)) {
            candidates.push(&member.seen);
        }
        resizes.hindrances.extend(hindrances);
        if !containers.is_empty() && resizes.steps.len() < RESIZES_MAX {
            resizes.steps.push(Step::Resize { worker: member.seen.id.clone(), containers });
        }
    }
    resizes.replace = chosen(at, &candidates);
    resizes
}

/// Whether a worker whose process has ended should rather be a new one: before it is started again it may have no
/// other size, and a new one has it from the beginning.
fn is_born_better(at: &Looked<'_>, member: &Member) -> bool {
    matches!(member.seen.process, Process::BackOff { .. })
        && at.parts.iter().filter_map(|part| due(at, member, part)).any(|due| !due.is_near())
}

/// A container that is to have what the rule says now.
struct Due<'a> {
    inside: &'a Inside,
    before: Exact,
    wanted: Exact,
}

impl Due<'_> {
    fn is_near(&self) -> bool {
        self.wanted.is_near(&self.before)
    }
}

fn due<'a>(at: &Looked<'_>, member: &'a Member, part: &Part) -> Option<Due<'a>> {
    let target = at.sizes.containers.get(&part.name)?;
    let inside = member.seen.containers.iter().find(|it| it.name == part.name)?;
    let before = Exact::from(inside.asked);
    let wanted = Exact::from(target.over(part.template)).over(before);
    target.resize.contains(&member.seen.id).then_some(Due { inside, before, wanted })
}

/// One is replaced at a time: the one that is asked already, else the oldest, once nobody is on the way out.
fn chosen(at: &Looked<'_>, candidates: &[&Seen]) -> Option<WorkerId> {
    if at.members.iter().any(|member| member.seen.outdated) {
        // A rollout replaces them all.
        return None;
    }
    let asked = candidates.iter().find(|seen| at.named.contains(&seen.id));
    let nobody_leaves = at.members.iter().all(|member| !member.leaving);
    let oldest = candidates
        .iter()
        .filter(|seen| nobody_leaves && at.now.since(seen.since) >= REPLACED_AGE_MIN)
        .min_by_key(|seen| (seen.since, &seen.id));
    asked.or(oldest).map(|seen| seen.id.clone())
}

/// What of a worker is changed in place, and what keeps the rest of it from its size.
fn changes(at: &Looked<'_>, member: &Member) -> (BTreeMap<String, Exact>, Vec<Hindrance>) {
    let (mut containers, mut hindrances) = (BTreeMap::new(), vec![]);
    let mut waits = false;
    for part in at.parts.iter().filter(|part| part.kind != ContainerKind::Init) {
        let Some(due) = due(at, member, part).filter(|due| !due.inside.down) else { continue };
        if due.is_near() {
            waits = true;
            continue;
        }
        match hindrance(at, member, &due) {
            Some(hindrance) => hindrances.push(hindrance),
            None => {
                containers.insert(part.name.clone(), due.wanted);
            }
        }
    }
    if waits {
        hindrances.extend(member.seen.resizing.as_ref().and_then(|it| pending(&member.seen.name, it)));
    }
    if let Some((_, refused)) = at.refused.iter().find(|(same, _)| *same == containers) {
        hindrances.push(refused.clone());
        containers.clear();
    }
    (containers, hindrances)
}

/// Why a container is not changed in place.
fn hindrance(at: &Looked<'_>, member: &Member, due: &Due<'_>) -> Option<Hindrance> {
    let Due { inside, before, wanted } = due;
    let (worker, name) = (&member.seen.name, &inside.name);
    let restarts = [Resource::Cpu, Resource::Memory]
        .into_iter()
        .any(|it| inside.restarts.of(it) && wanted.of(it) != before.of(it));
    if restarts && member.seen.process == Process::Running {
        let then = if at.can_replace { "it is replaced when it is idle" } else { "it keeps its size" };
        let message = format!(
            "a change would restart the container {name} of {worker}, so {then}: write `restartPolicy: \
             NotRequired` in its `resizePolicy` to have it changed in place"
        );
        return Some(Hindrance { why: Why::Restarts, message });
    }
    let (Some(from), Some(to)) = (before.memory.limit, wanted.memory.limit) else { return None };
    if to >= from || member.has_no_process() {
        return None;
    }
    let used = at.used.get(&(member.seen.id.clone(), name.clone())).and_then(|it| it.memory);
    match used {
        Some(used) if used < to as f64 => None,
        Some(_) => {
            let message = format!(
                "the container {name} of {worker} uses more than the {} that it should get: it keeps its size \
                 until it uses less",
                written(Resource::Memory, to as f64)
            );
            Some(Hindrance { why: Why::BelowUse, message })
        }
        None => {
            let message =
                format!("it is not known what the container {name} of {worker} uses, so it gets no less");
            Some(Hindrance { why: Why::NoUsage, message })
        }
    }
}

/// What is to be said of a change that was asked for and not made.
fn pending(worker: &str, resizing: &Resizing) -> Option<Hindrance> {
    let (why, message) = match resizing {
        Resizing::InProgress => return None,
        Resizing::Deferred { message, .. } => {
            (Why::Deferred, format!("the node of {worker} has no room for its new size now: {message}"))
        }
        Resizing::Infeasible { message } => (
            Why::Infeasible,
            format!(
                "the node of {worker} can never have its new size ({message}): write a smaller `max` in the \
                 rule's `resources`, or bring larger nodes"
            ),
        ),
        Resizing::Failed { message } => {
            (Why::Failed, format!("the new size of {worker} cannot be given to it: {message}"))
        }
    };
    Some(Hindrance { why, message })
}

/// Whether a new worker would get what this one cannot have.
fn can_be_replaced(hindrance: &Hindrance, member: &Member, now: Time) -> bool {
    match hindrance.why {
        Why::Infeasible | Why::Refused | Why::Restarts => true,
        Why::Deferred => {
            let since = match &member.seen.resizing {
                Some(Resizing::Deferred { since, .. }) => *since,
                _ => now,
            };
            now.since(since) >= DEFERRED_MAX
        }
        Why::Conflict
        | Why::NoResources
        | Why::Quota
        | Why::LimitRange
        | Why::Failed
        | Why::BelowUse
        | Why::NoUsage => false,
    }
}
