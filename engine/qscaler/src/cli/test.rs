//! `qscaler test`: the golden tests beside rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use qscaler_core::catalog::{Catalog, Update};
use qscaler_core::golden::{self, Outcome};
use qscaler_core::problem::{File, has_errors, render};

use super::check::read_all;
use super::{Format, complain, count, say};
use crate::exit::Exit;
use crate::folder;

#[derive(Args)]
pub(super) struct Test {
    /// Test files, or folders with rules and their `.test.yaml` files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write what the rules decide into the test files, for you to read as a diff.
    #[arg(long)]
    update: bool,
    /// How failures are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Test {
    pub(super) fn run(self) -> Exit {
        let found = match read_all(&with_rules(&self.paths)) {
            Ok(found) => found,
            Err(error) => {
                complain(&error);
                return Exit::Failed;
            }
        };
        let update = Catalog::default().update(found);
        if has_errors(&update.problems) {
            say(&render(&update.problems, &update.files, self.format.of_problems()));
            return Exit::Problems;
        }
        match self.run_all(&update) {
            Ok((0, 0)) => {
                complain("there is no test: write NAME.test.yaml beside NAME.yaml");
                Exit::Problems
            }
            Ok((passed, failed)) => {
                if self.format == Format::Human {
                    let what = if self.update { "updated" } else { "failed" };
                    say(&format!("{} passed, {failed} {what}\n", count(passed, "test")));
                }
                if failed == 0 || self.update { Exit::Good } else { Exit::Problems }
            }
            Err(error) => {
                complain(&error);
                Exit::Failed
            }
        }
    }

    /// Returns how many tests passed and failed.
    fn run_all(&self, update: &Update) -> Result<(usize, usize), String> {
        let all: Vec<_> = update.catalog.rules().map(Arc::clone).collect();
        let (mut passed, mut failed) = (0, 0);
        for (file, index, document) in update.catalog.tests().filter(|(file, ..)| self.is_wanted(&file.path))
        {
            let beside = update.catalog.rules_of(&folder::beside(&file.path));
            let outcomes = golden::run(index, document, &beside, &all);
            for outcome in &outcomes {
                self.show(file, outcome);
                if outcome.findings.is_empty() { passed += 1 } else { failed += 1 }
            }
            if self.update {
                write_update(file, &outcomes)?;
            }
        }
        Ok((passed, failed))
    }

    fn is_wanted(&self, path: &str) -> bool {
        let path = Path::new(path);
        self.paths.iter().any(|wanted| path == wanted || path.parent().is_some_and(|folder| folder == wanted))
    }

    fn show(&self, file: &File, outcome: &Outcome) {
        let good = outcome.findings.is_empty();
        if self.format == Format::Human {
            let mark = if good { "ok  " } else { "FAIL" };
            say(&format!("{mark} {}: {}\n", outcome.rule, outcome.name));
        }
        if !good && !self.update {
            let problems: Vec<_> =
                outcome.findings.iter().map(|finding| file.locate(finding.clone())).collect();
            say(&render(&problems, std::slice::from_ref(file), self.format.of_problems()));
        }
    }
}

fn write_update(file: &File, outcomes: &[Outcome]) -> Result<(), String> {
    let edits: Vec<_> = outcomes.iter().flat_map(|outcome| outcome.edits.clone()).collect();
    if edits.is_empty() {
        return Ok(());
    }
    fs::write(&file.path, golden::apply(file, &edits)).map_err(|error| format!("{}: {error}", file.path))
}

/// A test file needs the rules of its folder.
fn with_rules(paths: &[PathBuf]) -> Vec<PathBuf> {
    let folder = |path: &PathBuf| match path.parent() {
        Some(parent) if path.is_file() && parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) if path.is_file() => parent.to_owned(),
        _ => path.clone(),
    };
    paths.iter().map(folder).collect()
}
