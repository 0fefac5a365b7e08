//! The command `qscaler`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    qscaler::cli::Arguments::parse().run().into()
}
