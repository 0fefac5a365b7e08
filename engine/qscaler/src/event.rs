//! Everything that the engine tells the outside, in one place: log lines and metrics are made of it.

use std::collections::BTreeMap;

use qscaler_core::decide::Decision;
use qscaler_core::interrupted::Cause;
use qscaler_core::plan::{RolloutState, Step};
use qscaler_core::resize::{Exact, Hindrance, in_words};
use qscaler_core::workload::Source;
use qscaler_protocol::name::WorkerId;

use crate::ports::{Listen, PortError};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The engine looks after a workload from now on.
    Adopted {
        /// `namespace/name`.
        workload: String,
    },
    /// All workers of a workload are gone and the engine looks after it no more.
    Released {
        /// `namespace/name`.
        workload: String,
    },
    /// A workload has no rule now: it is left as it is.
    NoRule {
        /// `namespace/name`.
        workload: String,
    },
    /// A decision was made, with everything that the outside may want to know of the workload.
    Decided {
        /// `namespace/name`.
        workload: String,
        /// How many workers there will be when all open offers are claimed.
        current: u32,
        /// How many there are, those that leave included.
        workers: u32,
        /// Of those, the ones that have begun to run and never reported: they use no SDK, or another one.
        silent: u32,
        /// Tasks that wait, where that is known.
        length: Option<f64>,
        /// The decision.
        decision: Box<Decision>,
        /// It differs from the one before.
        changed: bool,
        /// It is carried out, or only shown.
        acts: bool,
    },
    /// A step of a workload was carried out.
    Done {
        /// `namespace/name`.
        workload: String,
        /// Which.
        step: Step,
    },
    /// Another engine committed the ledger first; the next tick reads again.
    CommitLost {
        /// `namespace/name`.
        workload: String,
    },
    /// A tick of a workload could not be finished; the next one tries again.
    TickFailed {
        /// `namespace/name`.
        workload: String,
        /// Why.
        error: PortError,
        /// It is another failure than the last, or that was told a while ago.
        tell: bool,
    },
    /// Workers of an older template are being replaced, or all have been.
    Rollout {
        /// `namespace/name`.
        workload: String,
        /// How far that is; none when all are new.
        rollout: Option<RolloutState>,
    },
    /// Something has changed about what makes a workload's workers.
    Target {
        /// `namespace/name`.
        workload: String,
        /// How it is now.
        target: Box<TargetState>,
    },
    /// Something has changed about the sizes of a workload's workers.
    Sizes {
        /// `namespace/name`.
        workload: String,
        /// How it is now.
        sizes: Box<SizesState>,
    },
    /// Work on tasks was cut off: they run again.
    Interrupted {
        /// `namespace/name`.
        workload: String,
        /// Who worked on them.
        worker: WorkerId,
        /// Why.
        cause: Cause,
        /// How many.
        tasks: u64,
    },
    /// Workers have acknowledged tasks after they had lost them: these may have run twice.
    LateAcks {
        /// `namespace/name`.
        workload: String,
        /// How many.
        tasks: u64,
    },
    /// A source answers now, or does so no more.
    Source {
        /// Which.
        source: Source,
        /// Why not.
        failure: Option<String>,
    },
    /// A tick of a workload was finished again.
    Recovered {
        /// `namespace/name`.
        workload: String,
    },
    /// The memory of a workload could not be used or kept.
    MemoryFailed {
        /// `namespace/name`.
        workload: String,
        /// Why.
        reason: String,
    },
    /// Rules and workloads were read again.
    Reloaded {
        /// Rules that hold now.
        rules: usize,
        /// Workloads that hold now.
        workloads: usize,
        /// Errors among the files.
        errors: usize,
        /// Files whose present text is bad and whose earlier text holds.
        kept: Vec<String>,
        /// Nothing of it holds, because its parts contradict each other.
        refused: bool,
    },
}

/// How things are with what makes a workload's workers. Each but the first says what to type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetState {
    /// Chooses its workers.
    pub selector: String,
    /// Who else scales it: it is not touched.
    pub conflict: Option<String>,
    /// Others change its number again and again: it is not lowered.
    pub overridden: Option<String>,
    /// What its workers lack.
    pub lacks: Option<String>,
    /// Its workers may take less time to end than their tasks take.
    pub grace_too_short: Option<String>,
}

impl TargetState {
    /// Everything that somebody should look at.
    pub fn complaints(&self) -> impl Iterator<Item = &String> {
        [&self.conflict, &self.overridden, &self.lacks, &self.grace_too_short].into_iter().flatten()
    }
}

/// How large a workload's workers should be, and what keeps them from that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizesState {
    /// What each container should have, by its name.
    pub containers: BTreeMap<String, Exact>,
    /// What keeps some from that: of several, the one to look at first.
    pub hindrance: Option<Hindrance>,
    /// They are given these sizes, or that is only shown.
    pub acts: bool,
}

/// Tells several listeners.
pub struct All(pub Vec<std::sync::Arc<dyn Listen>>);

impl Listen for All {
    fn hear(&self, event: &Event) {
        self.0.iter().for_each(|listener| listener.hear(event));
    }
}

/// Writes each event as a log line.
pub struct Log;

impl Listen for Log {
    fn hear(&self, event: &Event) {
        match event {
            Event::Adopted { workload } => tracing::info!(workload, "look after"),
            Event::Released { workload } => tracing::info!(workload, "let go: all its workers are gone"),
            Event::NoRule { workload } => {
                tracing::warn!(workload, "hold: it has no rule; `qscaler check` says why");
            }
            Event::Decided { workload, decision, changed: true, acts, .. } => {
                let mode = if *acts { "act" } else { "observe" };
                tracing::info!(workload, mode, replicas = decision.replicas, "{}", decision.reason);
            }
            Event::Decided { .. } => {}
            Event::Done { workload, step } => log_step(workload, step),
            Event::CommitLost { workload } => tracing::debug!(workload, "another engine was first"),
            Event::TickFailed { workload, error, tell: true } => {
                tracing::warn!(workload, %error, "hold: cannot act");
            }
            Event::TickFailed { .. } => {}
            Event::Rollout { workload, rollout: None } => tracing::info!(workload, "all workers are new"),
            Event::Rollout { workload, rollout: Some(rollout) } => match &rollout.stopped {
                Some(why) => tracing::warn!(workload, why, "the rollout is stopped"),
                None => tracing::info!(workload, new = rollout.updated, old = rollout.outdated, "rollout"),
            },
            Event::Target { workload, target } => {
                for complaint in target.complaints() {
                    tracing::warn!(workload, complaint, "the target");
                }
            }
            Event::Sizes { workload, sizes } => match &sizes.hindrance {
                Some(hindrance) => tracing::warn!(workload, why = ?hindrance.why, "{}", hindrance.message),
                None => tracing::info!(workload, containers = in_words(&sizes.containers), "sizes"),
            },
            Event::Interrupted { workload, worker, cause, tasks } => {
                let (_, about) = cause.about();
                tracing::warn!(workload, %worker, %cause, tasks, "tasks were cut off and run again: {about}");
            }
            Event::LateAcks { workload, tasks } => {
                tracing::warn!(workload, tasks, "tasks were acknowledged late: they may have run twice");
            }
            Event::Source { source, failure: None } => tracing::info!(url = source.url, "the source answers"),
            Event::Source { source, failure: Some(failure) } => {
                tracing::warn!(url = source.url, failure, "the source does not answer");
            }
            Event::Recovered { workload } => tracing::info!(workload, "it can act again"),
            Event::MemoryFailed { workload, reason } => tracing::warn!(workload, reason, "memory"),
            Event::Reloaded { rules, workloads, errors, kept, refused } => {
                if *refused {
                    tracing::error!(
                        errors,
                        "refused: the files contradict each other; what was read before holds"
                    );
                } else if *errors > 0 {
                    tracing::error!(
                        rules,
                        workloads,
                        errors,
                        ?kept,
                        "read again; bad files keep what they said before"
                    );
                } else {
                    tracing::info!(rules, workloads, "read");
                }
            }
        }
    }
}

fn log_step(workload: &str, step: &Step) {
    match step {
        Step::Start { name } => tracing::info!(workload, worker = name, "start"),
        Step::Remove { worker } => tracing::info!(workload, %worker, "remove: it has no process"),
        Step::Terminate { worker } => tracing::info!(workload, %worker, "end by SIGTERM"),
        Step::Project { offers, .. } => tracing::info!(workload, offers = offers.len(), "offer"),
        Step::Withdraw { offers, .. } => tracing::info!(workload, offers = offers.len(), "withdraw"),
        Step::Release { worker, .. } => tracing::info!(workload, %worker, "drained"),
        Step::Scale { from, to, .. } => tracing::info!(workload, from, to, "scale"),
        Step::Resize { worker, containers } => {
            tracing::info!(workload, %worker, containers = in_words(containers), "resize: nothing restarts");
        }
        Step::Mark { worker, marked } => tracing::debug!(workload, %worker, marked, "mark"),
        Step::Adopt { .. } => tracing::info!(workload, "begin an epoch on the control path"),
        Step::RaiseFloor { .. } | Step::Forget { .. } => tracing::debug!(workload, ?step, "tidy"),
    }
}
