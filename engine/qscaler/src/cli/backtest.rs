//! `qscaler backtest`: what a rule would have given containers whose use was recorded.

mod trace;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use qscaler_cel::unit;
use qscaler_core::catalog::Catalog;
use qscaler_core::problem::{self, has_errors, render};
use qscaler_core::rule::Policy;
use qscaler_core::vertical::replay::{Outcome, Total, replay};

use super::check::read_all;
use super::{complain, count, say};
use crate::exit::Exit;

/// So much of each container is watched before the rule is judged.
const WARM_UP: Duration = Duration::from_secs(3600);

#[derive(Args)]
pub(super) struct Backtest {
    /// What containers used: CSV with the columns `t_seconds`, `container`, `memory_bytes` (or
    /// `memory_utilisation`, a part of --container-capacity) and, where it was measured, `cpu_cores`.
    #[arg(long, value_name = "CSV")]
    usage: PathBuf,
    /// The rule: a file with one whose `resources` give memory. Its `when` says when a running container
    /// gets new amounts: in place at once without, or only when it is old enough, such as `age >= seconds('12h')`.
    #[arg(long, value_name = "FILE")]
    rule: PathBuf,
    /// What a `memory_utilisation` of 1 is.
    #[arg(long, value_name = "AMOUNT", default_value = "10Gi", value_parser = capacity)]
    container_capacity: f64,
    /// Write the totals as one JSON object into this file; `-` prints it instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn capacity(text: &str) -> Result<f64, String> {
    let bytes = unit::bytes(text).filter(|bytes| *bytes > 0.0);
    bytes.ok_or_else(|| "write an amount of memory, such as `10Gi`".to_owned())
}

impl Backtest {
    pub(super) fn run(self) -> Exit {
        let policy = match self.policy() {
            Ok(policy) => policy,
            Err(exit) => return exit,
        };
        let text = match fs::read(&self.usage) {
            Ok(text) => text,
            Err(error) => {
                complain(&format!("{}: {error}", self.usage.display()));
                return Exit::Failed;
            }
        };
        let outcomes = match trace::read(&self.usage, &text, self.container_capacity) {
            Ok(traces) => {
                traces.iter().map(|trace| replay(&policy, trace, WARM_UP)).collect::<Vec<Outcome>>()
            }
            Err(problem) => {
                complain(&problem);
                return Exit::Problems;
            }
        };
        let total = Total::of(&outcomes);
        if total.containers == 0 {
            complain(&nothing_judged(&self.rule, &outcomes));
            return Exit::Problems;
        }
        if self.json.as_deref() == Some(Path::new("-")) {
            say(&json(&total));
            return Exit::Good;
        }
        say(&table(&policy.rule.name, &outcomes, &total));
        match &self.json {
            Some(path) => match fs::write(path, json(&total)) {
                Ok(()) => Exit::Good,
                Err(error) => {
                    complain(&format!("{}: {error}", path.display()));
                    Exit::Failed
                }
            },
            None => Exit::Good,
        }
    }

    fn policy(&self) -> Result<Policy, Exit> {
        let found = read_all(std::slice::from_ref(&self.rule)).map_err(|error| {
            complain(&error);
            Exit::Failed
        })?;
        let update = Catalog::default().update(found);
        if has_errors(&update.problems) {
            say(&render(&update.problems, &update.files, problem::Format::Plain));
            return Err(Exit::Problems);
        }
        let shown = self.rule.display();
        let mut rules = update.catalog.rules().filter(|rule| !rule.sizings.is_empty());
        let (Some(rule), None) = (rules.next(), rules.next()) else {
            complain(&format!("{shown}: name a file with one rule that has `resources`"));
            return Err(Exit::Problems);
        };
        Policy::bind(Arc::clone(rule), &BTreeMap::new()).map_err(|misfits| {
            for misfit in misfits {
                complain(&format!("{shown}: {}", misfit.message));
            }
            Exit::Problems
        })
    }
}

/// Why no amount was held against any use.
fn nothing_judged(rule: &Path, outcomes: &[Outcome]) -> String {
    let problem = outcomes.iter().find_map(|outcome| outcome.problems.first());
    let why = problem.cloned().unwrap_or_else(|| {
        "its `resources` give these containers no memory, or less than an hour was recorded".to_owned()
    });
    format!("{}: nothing could be judged: {why}", rule.display())
}

fn json(total: &Total) -> String {
    let object = serde_json::json!({
        "containers": total.containers,
        "slack": total.slack,
        "ooms": total.ooms,
        "containers_with_oom": total.containers_with_oom,
        "changes": total.changes,
    });
    format!("{object}\n")
}

fn table(rule: &str, outcomes: &[Outcome], total: &Total) -> String {
    let width = outcomes.iter().map(|outcome| outcome.container.len()).max().unwrap_or(0).max(9);
    let mut text = format!("{:width$}  unused  killed  changed\n", "CONTAINER");
    for outcome in outcomes {
        let slack = outcome.slack.map_or("-".to_owned(), |slack| format!("{:.1}%", slack * 100.0));
        let Outcome { container, ooms, changes, .. } = outcome;
        let _ = writeln!(text, "{container:width$}  {slack:>6}  {ooms:>6}  {changes:>7}");
    }
    let _ = writeln!(
        text,
        "{rule}: {}, {:.1}% of their limits unused in the mean, {} in {}, {}",
        count(total.containers as usize, "container"),
        total.slack * 100.0,
        count(total.ooms as usize, "kill"),
        count(total.containers_with_oom as usize, "container"),
        count(total.changes as usize, "change")
    );
    let mut problems: Vec<&String> = outcomes.iter().flat_map(|outcome| &outcome.problems).collect();
    problems.sort();
    problems.dedup();
    for problem in problems.iter().take(10) {
        let _ = writeln!(text, "note: {problem}");
    }
    text
}
