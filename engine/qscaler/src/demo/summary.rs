//! The figures of a demo, and whether they are good.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use qscaler_core::plan::Step;
use qscaler_core::record::Line;
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;

use super::audit::{Audit, quantile};
use super::control::Control;
use super::load::Load;
use crate::explain::explain;

/// The bundled load takes at least this many workers.
const WORKERS_MIN: usize = 10;
/// The time between two polls: what a decision knew before the poll that it rests on.
const POLL: Duration = Duration::from_millis(500);

pub(super) struct Summary {
    audit: Audit,
    bundled: bool,
    work_seconds: f64,
    reactions: Vec<f64>,
    workers_at_the_end: usize,
    control: Control,
    explained: String,
}

impl Summary {
    pub(super) fn new(
        audit: Audit,
        load: &Load,
        (lines, workers_at_the_end): (&[Line], usize),
        control: Control,
    ) -> Self {
        Self {
            reactions: reactions(&audit, lines),
            bundled: load.bundled,
            work_seconds: load.work_seconds(),
            workers_at_the_end,
            control,
            explained: explained(lines),
            audit,
        }
    }

    /// Whether nothing was lost, done twice or interrupted, and the control shows that it would be seen.
    pub(super) fn is_good(&self) -> bool {
        self.faults().is_empty()
    }

    fn faults(&self) -> Vec<String> {
        let audit = &self.audit;
        let mut faults = vec![];
        for (count, what) in
            [(audit.lost, "lost"), (audit.duplicated, "done twice"), (audit.interrupted, "interrupted")]
        {
            if count > 0 {
                faults.push(format!("{count} tasks were {what}"));
            }
        }
        if self.control.interrupted == 0 {
            faults.push("the control shows no interruption: the auditor is blind".into());
        }
        if self.bundled && audit.workers_max() < WORKERS_MIN {
            faults.push(format!("there were never {WORKERS_MIN} workers"));
        }
        if self.bundled && self.workers_at_the_end != 1 {
            faults
                .push(format!("{} workers were left when the load was over, not 1", self.workers_at_the_end));
        }
        faults
    }

    pub(super) fn json(&self) -> Value {
        let audit = &self.audit;
        json!({
            "tasks": audit.tasks,
            "done": audit.done,
            "lost": audit.lost,
            "duplicated": audit.duplicated,
            "interrupted": audit.interrupted,
            "wait_p50_s": rounded(audit.wait(0.5)),
            "wait_p95_s": rounded(audit.wait(0.95)),
            "workers_max": audit.workers_max(),
            "worker_seconds": rounded(audit.worker_seconds()),
            "work_seconds": rounded(self.work_seconds),
            "reaction_p95_s": rounded(quantile(&self.reactions, 0.95)),
        })
    }

    pub(super) fn text(&self, folder: &Path, keep: bool) -> String {
        let audit = &self.audit;
        let mut text = String::from("\n");
        let mut row = |name: &str, value: String, note: &str| {
            let _ = writeln!(text, "  {name:<22} {value:>10}   {note}");
        };
        row("tasks", audit.tasks.to_string(), "");
        row("done", audit.done.to_string(), "");
        row("lost", audit.lost.to_string(), "tasks without an end");
        row("duplicated", audit.duplicated.to_string(), "tasks with two ends");
        row("interrupted", audit.interrupted.to_string(), "attempts that began and never ended");
        row("wait, median", format!("{:.2} s", audit.wait(0.5)), "from the queue to the begin of the task");
        row("wait, 95%", format!("{:.2} s", audit.wait(0.95)), "");
        let workers = format!("1 -> {} -> {}", audit.workers_max(), self.workers_at_the_end);
        row("workers", workers, "at the begin, at most, at the end");
        let cost = audit.worker_seconds() / self.work_seconds.max(f64::MIN_POSITIVE);
        row(
            "worker time / work",
            format!("{cost:.2}"),
            "seconds that workers were there, per second of work",
        );
        let reaction = format!("{:.2} s", quantile(&self.reactions, 0.95));
        let of = format!(
            "95% of {} starts: from the task that raised the number to the new process",
            self.reactions.len()
        );
        row("reaction", reaction, &of);
        let control = format!("{} of {}", self.control.interrupted, self.control.kills);
        row("control", control, "tasks interrupted by abrupt kills: the auditor sees them");
        let _ = writeln!(text, "\n{}", self.explained);
        for fault in self.faults() {
            let _ = writeln!(text, "NOT GOOD: {fault}");
        }
        if keep || !self.is_good() {
            let _ = writeln!(text, "everything is kept in {}", folder.display());
        }
        text
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// For each worker after the first: the seconds from the first task that the decision to start it saw
/// and the one before it did not, to the process's own first line.
fn reactions(audit: &Audit, lines: &[Line]) -> Vec<f64> {
    let mut reactions: Vec<f64> = audit
        .workers
        .iter()
        .filter_map(|life| {
            let starts = |line: &&Line| {
                let starts_it = |step: &Step| matches!(step, Step::Start { name } if *name == life.name);
                line.question.wall <= life.born && line.steps.iter().any(starts_it)
            };
            let line = lines.iter().rev().find(starts)?;
            let cause = cause(line, &audit.enqueued)?;
            Some(life.born.since(cause).as_secs_f64())
        })
        .collect();
    reactions.sort_by(f64::total_cmp);
    reactions
}

/// The first task that arrived between the poll that a decision rests on and the one before. None
/// where the number rose for another reason than a new task.
fn cause(line: &Line, enqueued: &[Time]) -> Option<Time> {
    let Some(Sample::Value { at, .. }) = line.question.signals.get("queue.length") else { return None };
    let polled = line.question.wall - line.question.at.since(*at);
    enqueued.iter().copied().find(|moment| *moment > polled - POLL && *moment <= polled)
}

/// The decision that started most workers.
fn explained(lines: &[Line]) -> String {
    let started = |line: &&Line| line.steps.iter().filter(|step| matches!(step, Step::Start { .. })).count();
    let Some(line) = lines.iter().max_by_key(started) else { return String::new() };
    let rule = qscaler_core::yaml::read("demo.yaml", include_str!("rule.yaml").to_owned());
    let document = rule.0.documents.first().map(qscaler_core::yaml::Document::json);
    let read = document.and_then(|json| qscaler_core::schema::read(0, &json).ok());
    let rule = match read {
        Some(qscaler_core::schema::Read::Rule(document)) => qscaler_core::rule::compile(0, &document).0,
        _ => None,
    };
    explain(line, rule.as_ref(), None)
}
