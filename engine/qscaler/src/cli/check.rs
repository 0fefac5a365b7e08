//! `qscaler check`: every problem of rules and workloads, in one run.

use std::path::PathBuf;

use clap::Args;

use qscaler_core::catalog::{Catalog, Found};
use qscaler_core::problem::{Severity, has_errors, render};

use super::{Format, complain, count, say};
use crate::exit::Exit;
use crate::folder;

#[derive(Args)]
pub(super) struct Check {
    /// Files, or folders with `.yaml` files: rules, their tests, and workloads.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How problems are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Check {
    pub(super) fn run(self) -> Exit {
        let found = match read_all(&self.paths) {
            Ok(found) => found,
            Err(error) => {
                complain(&error);
                return Exit::Failed;
            }
        };
        let update = Catalog::default().update(found);
        say(&render(&update.problems, &update.files, self.format.of_problems()));
        if self.format == Format::Human {
            let of = |severity| update.problems.iter().filter(|problem| problem.severity == severity).count();
            let files = count(update.files.len(), "file");
            let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
            say(&format!("{files}: {}, {}\n", count(errors, "error"), count(warnings, "warning")));
        }
        if has_errors(&update.problems) { Exit::Problems } else { Exit::Good }
    }
}

/// Reads files and folders; a path that is not there is an error of the command, not of a rule.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<Found>, String> {
    let mut found = vec![];
    for path in paths {
        let files = folder::read(path)?;
        if files.is_empty() {
            return Err(format!(
                "{}: there is no .yaml file; `qscaler new NAME` writes a first rule",
                path.display()
            ));
        }
        for file in files {
            if !found.iter().any(|known: &Found| known.path == file.path) {
                found.push(file);
            }
        }
    }
    Ok(found)
}
