//! `qscaler new`: a rule, its tests and a workload to start from.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{complain, say};
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct New {
    /// What it is called: lower-case letters, digits and `-`.
    #[arg(value_parser = name)]
    name: String,
    /// Where the folders `rules` and `workloads` are, or are made.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

const FILES: [(&str, &str); 3] = [
    ("rules/NAME.yaml", include_str!("new/rule.yaml")),
    ("rules/NAME.test.yaml", include_str!("new/rule.test.yaml")),
    ("workloads/NAME.yaml", include_str!("new/workload.yaml")),
];

impl New {
    pub(super) fn run(self) -> Exit {
        let paths = FILES.map(|(path, text)| (self.folder.join(path.replace("NAME", &self.name)), text));
        if let Some((path, _)) = paths.iter().find(|(path, _)| path.exists()) {
            complain(&format!("{} is there already; choose another name or remove it", path.display()));
            return Exit::Failed;
        }
        for (path, text) in &paths {
            if let Err(error) = write(path, &text.replace("NAME", &self.name)) {
                complain(&format!("{}: {error}", path.display()));
                return Exit::Failed;
            }
            say(&format!("wrote {}\n", path.display()));
        }
        let (rules, workloads) = (self.folder.join("rules"), self.folder.join("workloads"));
        say(&format!(
            "next: qscaler test {rules}\n      qscaler check {rules} {workloads}\n      qscaler run --rules {rules} --workloads {workloads}\n",
            rules = rules.display(),
            workloads = workloads.display(),
        ));
        Exit::Good
    }
}

fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends_well = !text.starts_with('-') && !text.ends_with('-');
    if text.chars().all(good) && !text.is_empty() && ends_well {
        Ok(text.to_owned())
    } else {
        Err("use lower-case letters, digits and, between them, `-`".into())
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
