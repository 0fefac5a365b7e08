//! `cargo ci`: the one command that tests the project, here and on a fresh machine.
//!
//! It brings the servers that the tests need, runs each part, and prints one table. A part that
//! cannot run fails, unless it was left out by name.

#![expect(clippy::print_stdout, reason = "this is a command line")]

mod cluster;
mod line;
mod part;
mod python;
mod servers;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;

use part::{Outcome, Part, Settings};

/// Tests the whole project: formats, lints, tests, and compares generated files.
#[derive(Parser)]
#[command(name = "cargo ci")]
struct Arguments {
    /// Run only these parts.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Run all parts but these.
    #[arg(long, value_name = "PART", conflicts_with = "only")]
    without: Vec<Part>,
    /// Run whole counts instead of a tenth of each.
    #[arg(long)]
    full: bool,
    /// Repeat a run with the seed that it printed.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(seed_from_clock);
    // Commands name folders from the root, wherever they are called from.
    if let Err(error) = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")) {
        println!("the project's folder cannot be entered: {error}");
        return ExitCode::FAILURE;
    }
    let settings = Settings { full: arguments.full, seed };
    println!("seed {seed}; repeat with `cargo ci --seed {seed}`");
    let wanted = |part: &Part| {
        if arguments.only.is_empty() {
            !arguments.without.contains(part)
        } else {
            arguments.only.contains(part)
        }
    };
    let outcomes: Vec<Outcome> =
        Part::ALL.into_iter().filter(wanted).map(|part| part.run(&settings)).collect();
    println!("\n{:<10} {:>9} {:>9}  result", "part", "seconds", "budget");
    for outcome in &outcomes {
        let result = outcome.failure.as_deref().unwrap_or("ok");
        let name = outcome.part.to_string();
        println!(
            "{name:<10} {:>9.0} {:>9}  {result}",
            outcome.seconds,
            outcome.part.budget(&settings).as_secs()
        );
    }
    for part in Part::ALL.into_iter().filter(|part| !wanted(part)) {
        println!("{:<10} {:>9} {:>9}  left out by the command line", part.to_string(), "-", "-");
    }
    if outcomes.iter().all(|outcome| outcome.failure.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn seed_from_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
}
