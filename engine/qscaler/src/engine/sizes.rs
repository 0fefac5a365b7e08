//! How large the workers are: a tick takes in what their containers use, asks the rule, gives new sizes to
//! those that can take them, and tells what keeps others from theirs.
//!
//! A platform may be slow to say what is used, or may not say it at all: it is asked beside the ticks, and
//! the number of workers is decided all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qscaler_core::fleet::{Part, Process};
use qscaler_core::plan::{Plan, Rollout};
use qscaler_core::resize::{
    Exact, Hindrance, Limits, Looked, Range, Resizes, Used, Why, births, containers, hold_to_ranges, resizes,
};
use qscaler_core::rule::Policy;
use qscaler_core::time::Time;
use qscaler_core::vertical::{Question, Sizes, size};
use qscaler_core::workload::Made;
use qscaler_protocol::name::WorkloadUid;

use super::Mode;
use super::keeper::{Hold, Keeper};
use super::observe::Observed;
use super::tick::Decided;
use crate::event::{Event, SizesState};
use crate::ports::{Asked, Ports};

/// What containers use is asked this often.
const USAGE_EVERY: Duration = Duration::from_secs(10);
/// Who else sizes them, and what their namespace allows, is asked this often.
const TERMS_EVERY: Duration = Duration::from_secs(60);
/// A change that was refused is not tried again for so long, on any worker.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// An answer that takes longer is told of; it is still waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// So long a worker may run before its use is known.
const UNKNOWN_MAX: Duration = Duration::from_secs(90);

/// What a keeper knows of the sizes of its workers.
#[derive(Default)]
pub(super) struct Sizing {
    known: Arc<Mutex<Known>>,
    asked: Option<Time>,
    /// What new workers get.
    pub(super) births: BTreeMap<String, Exact>,
    /// What was asked and answered last.
    pub(super) answered: Option<(Question, Sizes)>,
    /// What bounds containers as they run.
    limits: Limits,
    /// A worker is being replaced for its size.
    replaces: bool,
    /// What was told last.
    told: Option<SizesState>,
}

/// What was read beside the ticks, and what was refused in them.
#[derive(Default)]
struct Known {
    used: Used,
    /// Why that is not known.
    failure: Option<String>,
    /// What others have to say, and when that was asked; before that nothing is changed.
    terms: Option<(Terms, Time)>,
    /// Somebody is asking.
    asking: bool,
    /// Changes in place that were refused.
    refused: Vec<(BTreeMap<String, Exact>, Hindrance, Time)>,
    /// Why a worker was born with the sizes of its template.
    born: Option<(Hindrance, Time)>,
}

/// What others have to say about sizes.
struct Terms {
    /// Who else sizes the workers, and what to type.
    rival: Option<String>,
    /// What the namespace allows.
    ranges: Vec<Range>,
}

impl Sizing {
    /// Keeps in mind that a change in place was refused.
    pub(super) fn refuse(&self, sizes: &BTreeMap<String, Exact>, hindrance: Hindrance, now: Time) {
        self.lock().refused.push((sizes.clone(), hindrance, now));
    }

    /// Keeps in mind that a worker was born with the sizes of its template.
    pub(super) fn bear_plain(&self, hindrance: Hindrance, now: Time) {
        self.lock().born = Some((hindrance, now));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hold {
    /// How workers of an older template are replaced; one for its size only once there is one more.
    pub(super) fn rollout(&self, desired: u32) -> Rollout {
        if self.sizing.replaces {
            return Rollout { surge_max: 1, unavailable_max: 0 };
        }
        self.order.workload.target.made.rollout(desired)
    }
}

impl Keeper {
    /// What to do, sizes included.
    pub(super) fn plan_with_sizes(
        &self,
        hold: &mut Hold,
        observed: &mut Observed,
        decided: Option<&Decided>,
    ) -> Plan {
        let resizes = self.resizes(hold, observed, decided);
        hold.sizing.replaces = resizes.replace.is_some();
        if let Some(seen) = observed.fleet.iter_mut().find(|seen| Some(&seen.id) == resizes.replace.as_ref())
        {
            seen.outdated = true;
        }
        let mut plan = self.plan(hold, observed, decided);
        if observed.unread.is_none() {
            plan.steps.extend(resizes.steps);
        }
        plan
    }

    fn resizes(&self, hold: &mut Hold, observed: &Observed, decided: Option<&Decided>) -> Resizes {
        let workload = Arc::clone(&hold.order.workload);
        let Some(decided) = decided.filter(|_| workload.sized && hold.order.mode == Mode::Keep) else {
            hold.sizing.births.clear();
            hold.sizing.answered = None;
            return Resizes::default();
        };
        if !says_sizes(&decided.policy) {
            hold.sizing.births.clear();
            hold.sizing.answered = None;
            self.tell_that_nothing_is_sized(hold, &decided.policy.rule.name);
            return Resizes::default();
        }
        self.ask_beside(hold);
        let parts = match &observed.found {
            Some(found) => found.parts.clone(),
            None => self.ports.platform.parts(&workload),
        };
        let mut sizes = self.answer(hold, observed, decided, &parts);
        let bound = match &hold.sizing.lock().terms {
            Some((terms, _)) => hold_to_ranges(&terms.ranges, &mut sizes),
            None => vec![],
        };
        let mut resizes = look(hold, observed, &parts, &sizes);
        let (is_free, hindrances) = hindrances(hold, observed);
        resizes.hindrances.extend(bound.into_iter().chain(hindrances));
        // Before it is known who else sizes them, new ones get their sizes and the others keep theirs.
        let is_rivalled = resizes.hindrances.iter().any(|it| it.why == Why::Conflict);
        hold.sizing.births = if is_rivalled { BTreeMap::new() } else { births(&parts, &sizes) };
        let acts = observed.acts(&hold.order);
        if !(acts && is_free) {
            (resizes.steps, resizes.replace) = (vec![], None);
        }
        let of = |part: &Part| {
            let target = sizes.containers.get(&part.name)?;
            Some((part.name.clone(), target.over(part.template).into()))
        };
        let hindrance = resizes.hindrances.first().cloned();
        self.tell_sizes(
            hold,
            SizesState { containers: parts.iter().filter_map(of).collect(), hindrance, acts },
        );
        resizes
    }

    /// Asks the rule.
    fn answer(&self, hold: &mut Hold, observed: &Observed, decided: &Decided, parts: &[Part]) -> Sizes {
        let Sizing { known, limits, .. } = &mut hold.sizing;
        let containers = containers(parts, &observed.fleet, &lock(known).used, limits);
        let (policy, memory) = (&decided.policy, &mut hold.memory);
        memory.feed_containers(policy, &containers, &decided.samples, observed.now);
        let at = (observed.now, self.ports.clock.wall());
        let question = memory.ask_sizes(policy, &containers, (&decided.samples, &decided.decision), at);
        let sizes = size(policy, &question);
        memory.remember_sizes(&sizes);
        hold.sizing.answered = Some((question, sizes.clone()));
        sizes
    }

    /// Has somebody ask what containers use, if that is due and nobody does.
    fn ask_beside(&self, hold: &mut Hold) {
        let now = self.ports.clock.now();
        let sizing = &mut hold.sizing;
        if sizing.asked.is_some_and(|at| now.since(at) < USAGE_EVERY) || sizing.lock().asking {
            return;
        }
        sizing.asked = Some(now);
        sizing.lock().asking = true;
        let (known, ports, uid) = (Arc::clone(&sizing.known), self.ports.clone(), hold.uid.clone());
        self.ports.spawn.spawn(Box::pin(async move { ask(&known, &ports, &uid).await }));
    }

    fn tell_that_nothing_is_sized(&self, hold: &mut Hold, rule: &str) {
        let field = match hold.order.workload.target.made {
            Made::Pod(_) => "activateVPA",
            Made::Process(_) | Made::Replica(_) => "vertical",
        };
        let message = format!(
            "{field} is true, and the rule `{rule}` says no sizes: add `resources` to it, name another in `rule`, \
             or write `{field}: false`"
        );
        let hindrance = Some(Hindrance { why: Why::NoResources, message });
        self.tell_sizes(hold, SizesState { containers: BTreeMap::new(), hindrance, acts: true });
    }

    /// Tells which sizes hold, when that has changed by more than a little.
    fn tell_sizes(&self, hold: &mut Hold, mut state: SizesState) {
        if let Some(told) = &hold.sizing.told {
            for (name, size) in &mut state.containers {
                if let Some(before) = told.containers.get(name).filter(|before| size.is_near(before)) {
                    *size = *before;
                }
            }
        }
        if hold.sizing.told.as_ref() != Some(&state) {
            hold.sizing.told = Some(state.clone());
            self.ports.listen.hear(&Event::Sizes { workload: self.key.clone(), sizes: Box::new(state) });
        }
    }
}

/// Decides whose containers are given other amounts now.
fn look(hold: &Hold, observed: &Observed, parts: &[Part], sizes: &Sizes) -> Resizes {
    let made = &hold.order.workload.target.made;
    if matches!(made, Made::Process(_)) {
        // Nothing on this machine bounds a process: what it should get is only shown.
        return Resizes::default();
    }
    let mut known = hold.sizing.lock();
    known.refused.retain(|(.., at)| observed.now.since(*at) < REFUSED_FOR);
    let refused: Vec<_> = known.refused.iter().map(|(sizes, why, _)| (sizes.clone(), why.clone())).collect();
    let named: BTreeSet<_> = observed.ledger.open().filter_map(|(_, grant)| grant.named.clone()).collect();
    resizes(&Looked {
        parts,
        sizes,
        members: &observed.situation(&hold.order.workload.name).members(),
        used: &known.used,
        refused: &refused,
        named: &named,
        can_replace: matches!(made, Made::Pod(_)),
        now: observed.now,
    })
}

/// Whether sizes may be changed as far as others are concerned, and what else keeps workers from theirs.
fn hindrances(hold: &Hold, observed: &Observed) -> (bool, Vec<Hindrance>) {
    let mut known = hold.sizing.lock();
    let mut hindrances = vec![];
    let is_free = match &known.terms {
        Some((Terms { rival: Some(rival), .. }, _)) => {
            hindrances.push(Hindrance { why: Why::Conflict, message: rival.clone() });
            false
        }
        Some((Terms { rival: None, .. }, _)) => true,
        None => false,
    };
    if known.born.as_ref().is_some_and(|(_, at)| observed.now.since(*at) >= REFUSED_FOR) {
        known.born = None;
    }
    hindrances.extend(known.born.as_ref().map(|(hindrance, _)| hindrance.clone()));
    let no_usage = |message: String| Hindrance { why: Why::NoUsage, message };
    let help = "install metrics-server, and see what `kubectl top pods` says";
    let is_unknown = || {
        let measured = |of: &qscaler_core::fleet::Seen| known.used.keys().any(|(worker, _)| *worker == of.id);
        observed.fleet.iter().any(|seen| {
            seen.process == Process::Running
                && observed.now.since(seen.since) >= UNKNOWN_MAX
                && !measured(seen)
        })
    };
    let waits = hold.sizing.asked.is_some_and(|at| observed.now.since(at) >= ANSWER_MAX);
    if known.asking && waits {
        hindrances.push(no_usage(format!("nobody answers what containers use: {help}")));
    } else if let Some(failure) = &known.failure {
        hindrances.push(no_usage(format!("what containers use is not known ({failure}): {help}")));
    } else if is_unknown() {
        hindrances.push(no_usage(format!("nobody says what the containers of some workers use: {help}")));
    }
    (is_free, hindrances)
}

/// Whether a rule says how large workers should be.
pub(super) fn says_sizes(policy: &Policy) -> bool {
    !policy.rule.sizings.is_empty()
}

/// Asks the platform what others have to say, and what the containers use.
async fn ask(known: &Mutex<Known>, ports: &Ports, uid: &WorkloadUid) {
    let now = ports.clock.now();
    let is_due = lock(known).terms.as_ref().is_none_or(|(_, at)| now.since(*at) >= TERMS_EVERY);
    // What was said last holds until something else is known.
    let terms = if is_due { Some(terms(ports, uid).await) } else { None };
    let used = ports.platform.usage(uid).await;
    let mut known = lock(known);
    known.asking = false;
    known.failure = None;
    match terms {
        Some(Ok(terms)) => known.terms = Some((terms, now)),
        Some(Err(error)) => known.failure = Some(error.to_string()),
        None => {}
    }
    known.used = used.unwrap_or_else(|error| {
        known.failure = Some(error.to_string());
        Used::new()
    });
}

async fn terms(ports: &Ports, uid: &WorkloadUid) -> Asked<Terms> {
    let rival = ports.platform.rival(uid).await?;
    Ok(Terms { rival, ranges: ports.platform.ranges(uid).await? })
}
