//! Metrics, made of what the engine tells. Every name, unit and meaning stands here.

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use qscaler_core::decide::Because;
use qscaler_core::interrupted::Cause;
use qscaler_core::plan::Step;

use crate::event::Event;
use crate::ports::Listen;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Workload {
    workload: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    workload: String,
    step: StepName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Settled {
    workload: String,
    because: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutOff {
    workload: String,
    cause: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum StepName {
    Start,
    Offer,
    Withdraw,
    Release,
    Remove,
    Terminate,
    Scale,
    Resize,
}

/// The metrics of one engine.
pub struct Metrics {
    registry: Mutex<Registry>,
    current: Family<Workload, Gauge>,
    desired: Family<Workload, Gauge>,
    length: Family<Workload, Gauge<f64, AtomicU64>>,
    ticks: Family<Settled, Counter>,
    steps: Family<Change, Counter>,
    failures: Family<Workload, Counter>,
    interrupted: Family<CutOff, Counter>,
    late_acks: Family<Workload, Counter>,
    rules: Gauge,
    workloads: Gauge,
    errors: Gauge,
    kept: Gauge,
    refused: Gauge,
}

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Arc<Self> {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("qscaler")),
            current: Family::default(),
            desired: Family::default(),
            length: Family::default(),
            ticks: Family::default(),
            steps: Family::default(),
            failures: Family::default(),
            interrupted: Family::default(),
            late_acks: Family::default(),
            rules: Gauge::default(),
            workloads: Gauge::default(),
            errors: Gauge::default(),
            kept: Gauge::default(),
            refused: Gauge::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let r = &mut *registry;
        r.register(
            "workers_current",
            "Workers there will be when all open offers are claimed",
            self.current.clone(),
        );
        r.register("workers_desired", "Workers that the last decision asks for", self.desired.clone());
        r.register("queue_length", "Tasks that wait, at the last decision that knew", self.length.clone());
        r.register("decisions", "Decisions, by what settled them", self.ticks.clone());
        r.register(
            "steps",
            "Steps carried out: workers for start, remove, terminate, resize and scale (down), offers for offer and withdraw",
            self.steps.clone(),
        );
        r.register("failures", "Ticks that could not be finished", self.failures.clone());
        let causes: Vec<_> = Cause::ALL.iter().map(|cause| cause.about()).collect();
        let causes =
            causes.iter().map(|(name, about)| format!("{name}: {about}")).collect::<Vec<_>>().join("; ");
        r.register(
            "tasks_interrupted",
            format!("Tasks that were cut off and run again, each counted once, by what became of their worker: {causes}"),
            self.interrupted.clone(),
        );
        r.register(
            "late_acks",
            "Tasks acknowledged by workers that had lost them: they may have run twice",
            self.late_acks.clone(),
        );
        r.register("rules", "Rules that hold", self.rules.clone());
        r.register("workloads", "Workloads that are looked after", self.workloads.clone());
        r.register(
            "file_errors",
            "Errors in the files of rules and workloads as they stand",
            self.errors.clone(),
        );
        r.register(
            "files_kept",
            "Files that are bad as they stand and whose earlier text holds",
            self.kept.clone(),
        );
        r.register(
            "files_refused",
            "1 while the files contradict each other and what was read before holds",
            self.refused.clone(),
        );
    }

    /// In the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut text, &registry).expect("a string takes everything");
        text
    }

    fn count_step(&self, workload: &str, step: &Step) {
        let (name, count) = match step {
            Step::Start { .. } => (StepName::Start, 1),
            Step::Project { offers, .. } => (StepName::Offer, offers.len() as u64),
            Step::Withdraw { offers, .. } => (StepName::Withdraw, offers.len() as u64),
            Step::Release { .. } => (StepName::Release, 1),
            Step::Remove { .. } => (StepName::Remove, 1),
            Step::Terminate { .. } => (StepName::Terminate, 1),
            Step::Scale { from, to, .. } if to > from => (StepName::Start, u64::from(to - from)),
            Step::Scale { from, to, .. } => (StepName::Scale, u64::from(from - to)),
            Step::Resize { .. } => (StepName::Resize, 1),
            Step::Mark { .. } | Step::Adopt { .. } | Step::RaiseFloor { .. } | Step::Forget { .. } => return,
        };
        self.steps.get_or_create(&Change { workload: workload.to_owned(), step: name }).inc_by(count);
    }
}

fn because_label(because: Because) -> String {
    let value = serde_json::to_value(because).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

impl Listen for Metrics {
    fn hear(&self, event: &Event) {
        match event {
            Event::Decided { workload, current, length, decision, .. } => {
                let label = Workload { workload: workload.clone() };
                self.current.get_or_create(&label).set(i64::from(*current));
                self.desired.get_or_create(&label).set(i64::from(decision.replicas));
                if let Some(length) = length {
                    self.length.get_or_create(&label).set(*length);
                }
                let settled =
                    Settled { workload: workload.clone(), because: because_label(decision.because) };
                self.ticks.get_or_create(&settled).inc();
            }
            Event::Done { workload, step } => self.count_step(workload, step),
            Event::TickFailed { workload, .. } => {
                self.failures.get_or_create(&Workload { workload: workload.clone() }).inc();
            }
            Event::Interrupted { workload, cause, tasks, .. } => {
                let label = CutOff { workload: workload.clone(), cause: cause.about().0 };
                self.interrupted.get_or_create(&label).inc_by(*tasks);
            }
            Event::LateAcks { workload, tasks } => {
                self.late_acks.get_or_create(&Workload { workload: workload.clone() }).inc_by(*tasks);
            }
            Event::Reloaded { rules, workloads, errors, kept, refused } => {
                let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
                self.rules.set(whole(*rules));
                self.workloads.set(whole(*workloads));
                self.errors.set(whole(*errors));
                self.kept.set(whole(kept.len()));
                self.refused.set(i64::from(*refused));
            }
            Event::Released { workload } => {
                let label = Workload { workload: workload.clone() };
                self.current.remove(&label);
                self.desired.remove(&label);
                self.length.remove(&label);
            }
            Event::Adopted { .. }
            | Event::NoRule { .. }
            | Event::CommitLost { .. }
            | Event::Recovered { .. }
            | Event::Rollout { .. }
            | Event::Target { .. }
            | Event::Sizes { .. }
            | Event::Source { .. }
            | Event::MemoryFailed { .. } => {}
        }
    }
}
