//! Exit codes. They keep their meaning for ever.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is as it should be.
    Good,
    /// Problems were found, a test does not hold, or the demo has lost or interrupted something.
    Problems,
    /// The command could not do its work: a file cannot be written, a server does not answer.
    Failed,
}

/// For `--help`. 2 is what clap answers to wrong arguments.
pub(crate) const HELP: &str = "Exit codes: 0 everything is as it should be; 1 problems were found, or a test does not hold; \
     2 wrong arguments; 3 the command could not do its work.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Good => 0,
            Exit::Problems => 1,
            Exit::Failed => 3,
        })
    }
}
