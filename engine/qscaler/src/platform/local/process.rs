//! One worker's process: how it is made and how it ended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use qscaler_core::interrupted::How;
use qscaler_core::workload::{Made, Password, Source, System, Workload};
use qscaler_protocol::environment;

use crate::host;
use crate::ports::{Asked, PortError};
use crate::queue::address;

/// A worker's output file is put aside at this size; one older file is kept.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// What to run. Stored with the row, so that an engine that never read the workload can run it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) directory: Option<String>,
    pub(super) grace_seconds: u64,
    pub(super) url: String,
    pub(super) username: Option<String>,
    /// The variable with the password: secrets are read when a process starts and never written down.
    pub(super) password_env: Option<String>,
}

impl Recipe {
    pub(super) fn of(workload: &Workload) -> Asked<Self> {
        let Made::Process(command) = &workload.target.made else {
            return Err(PortError::new(workload.key(), "its workers are no processes of this machine"));
        };
        let mut environment = command.environment.clone();
        environment.insert(environment::QUEUE.into(), workload.queue_names().join(","));
        let password_env = match &workload.source.password {
            Some(Password::Environment(variable)) => Some(variable.clone()),
            Some(Password::Secret { .. } | Password::Written(_)) | None => None,
        };
        Ok(Self {
            command: command.line.clone(),
            environment,
            directory: command.directory.clone(),
            grace_seconds: workload.target.grace.as_secs(),
            url: workload.source.url.clone(),
            username: workload.source.username.clone(),
            password_env,
        })
    }

    /// The URL that workers connect to.
    pub(super) fn address(&self) -> Asked<String> {
        let of = if self.url.starts_with("sqlite:") { System::Sqlite } else { System::Redis };
        let (url, username) = (self.url.clone(), self.username.clone());
        let password = self.password_env.clone().map(Password::Environment);
        address(&Source { of, url, username, password })
    }
}

/// How a process ended.
pub(super) struct Ending {
    text: String,
    pub(super) how: How,
}

impl Ending {
    /// It was nobody's child here, so nobody was told.
    pub(super) fn unknown() -> Self {
        Self { text: "ended while no engine was its parent".into(), how: How::Unseen }
    }

    pub(super) fn never_began(reason: String) -> Self {
        Self { text: reason, how: How::Unseen }
    }

    fn of(status: io::Result<ExitStatus>) -> Self {
        let (text, how) = match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (format!("exit code {code}"), How::Code(code)),
                (_, Some(signal)) => (format!("ended by signal {signal}"), How::Code(128 + signal)),
                _ => (status.to_string(), How::Unseen),
            },
            Err(error) => (format!("cannot wait for it: {error}"), How::Unseen),
        };
        Self { text, how }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Starts a worker in a session of its own, its output in `log`: a pipe would break with the engine
/// and take the worker along.
pub(super) fn spawn(
    recipe: &Recipe,
    environment: &BTreeMap<String, String>,
    log: &Path,
) -> io::Result<Child> {
    let Some((program, arguments)) = recipe.command.split_first() else {
        return Err(io::Error::other("the command is empty"));
    };
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(log, log.with_extension("log.1"))?;
    }
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment).stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    if let Some(directory) = &recipe.directory {
        // The operating system would say "no such file", as it does for the program.
        if !Path::new(directory).is_dir() {
            return Err(io::Error::other(format!("there is no folder {directory}")));
        }
        command.current_dir(directory);
    }
    host::own_session(command.as_std_mut());
    command.spawn()
}

/// Waits for the end of a child.
pub(super) async fn wait(mut child: Child, pid: u32) -> Ending {
    let ending = Ending::of(child.wait().await);
    tracing::debug!(pid, %ending, "reaped");
    ending
}
