//! `qscaler schema`: the JSON Schemas of the documents, for editors.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use qscaler_core::schema::{self, Kind};

use super::{complain, say};
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct Schema {
    /// Which.
    #[arg(value_enum, required_unless_present = "write")]
    kind: Option<Which>,
    /// Write all of them into this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "kind")]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Of rules.
    Rule,
    /// Of tests of rules.
    Test,
    /// Of workloads.
    Workload,
}

impl Schema {
    pub(super) fn run(self) -> Exit {
        if let Some(kind) = self.kind {
            say(&schema::text(match kind {
                Which::Rule => Kind::Rule,
                Which::Test => Kind::Test,
                Which::Workload => Kind::Workload,
            }));
        }
        let Some(folder) = self.write else { return Exit::Good };
        let write = |kind: Kind| fs::write(folder.join(kind.file()), schema::text(kind));
        match fs::create_dir_all(&folder).and_then(|()| Kind::ALL.into_iter().try_for_each(write)) {
            Ok(()) => Exit::Good,
            Err(error) => {
                complain(&format!("{}: {error}", folder.display()));
                Exit::Failed
            }
        }
    }
}
