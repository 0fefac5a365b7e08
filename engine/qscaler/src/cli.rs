//! The command line: one short file per command.

mod backtest;
mod check;
mod demo;
mod explain;
#[cfg(feature = "kubernetes")]
mod handover;
mod new;
mod run;
mod schema;
mod test;

use std::io::IsTerminal;

use clap::{Parser, Subcommand, ValueEnum};

use qscaler_core::problem;

use crate::exit::Exit;

/// Autoscaling for queue workers that never interrupts a task in progress.
#[derive(Parser)]
#[command(name = "qscaler", version, after_help = crate::exit::HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every problem of rules and workloads, with what to type instead.
    Check(check::Check),
    /// Run the golden tests that stand beside rules.
    Test(test::Test),
    /// Say what a rule would have given containers whose use was recorded.
    Backtest(backtest::Backtest),
    /// Look after the workloads of a folder by the rules of another.
    Run(run::Run),
    /// Run real workers on a bundled load for about a minute and a half, and audit what they did.
    Demo(demo::Demo),
    /// A worker of the demo.
    #[command(hide = true)]
    DemoWorker,
    /// Say why there were so many workers at some moment of the last hour.
    Explain(explain::Explain),
    /// Take over what a Workload of a cluster scales: from now on the engine acts.
    #[cfg(feature = "kubernetes")]
    Adopt(handover::Adopt),
    /// Give it back: the engine only observes, and every replica takes tasks again.
    #[cfg(feature = "kubernetes")]
    Release(handover::Release),
    /// Write a rule, its tests and a workload to start from.
    New(new::New),
    /// Print the JSON Schemas of rules, tests and workloads.
    Schema(schema::Schema),
}

impl Arguments {
    /// Does what was asked.
    pub fn run(self) -> Exit {
        match self.command {
            Command::Check(command) => command.run(),
            Command::Test(command) => command.run(),
            Command::Backtest(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::DemoWorker => crate::demo::worker::run(),
            Command::Explain(command) => command.run(),
            #[cfg(feature = "kubernetes")]
            Command::Adopt(command) => command.run(),
            #[cfg(feature = "kubernetes")]
            Command::Release(command) => command.run(),
            Command::New(command) => command.run(),
            Command::Schema(command) => command.run(),
        }
    }
}

/// How problems are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the source, for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

impl Format {
    fn of_problems(self) -> problem::Format {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match self {
            Format::Human if colours => problem::Format::Coloured,
            Format::Human => problem::Format::Plain,
            Format::Json => problem::Format::Json,
            Format::Github => problem::Format::Github,
        }
    }
}

/// Writes to standard output. Who reads may have gone, as `head` does; that is no error.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line for people to standard error.
pub(crate) fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `1 rule`, `2 rules`.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
