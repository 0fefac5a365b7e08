//! What the platform `local` asks of the operating system, behind one face: processes that outlive
//! the engine, and how to find them again. Linux has it all; elsewhere only what POSIX offers, so
//! that the demo runs there too.

#[cfg(target_os = "linux")]
#[path = "host/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "host/posix.rs"]
mod system;

pub(crate) use system::{born, child_born, ended, find_by_environment, is_group_of, sessions};

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process_group, setsid};

/// What all processes of one session use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SessionUse {
    /// Processor time so far, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub(crate) memory: f64,
}

/// Makes the process lead a session of its own, so that it neither gets the signals of the engine's
/// terminal nor ends with the engine.
pub(crate) fn own_session(command: &mut Command) {
    let detach = || setsid().map(|_| ()).map_err(io::Error::from);
    #[expect(
        unsafe_code,
        reason = "the only way to call setsid between fork and exec; it is async-signal-safe"
    )]
    // SAFETY: `setsid` is one system call; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(detach);
    }
}

/// How to end a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGTERM: please.
    Ask,
    /// SIGKILL: at once.
    Kill,
}

/// Signals every process of the group that a process of this birth leads or has led: what a worker
/// that ended left behind is in it, too. Nothing happens when the number names another process by now.
pub(crate) fn signal_group(pid: u32, born: &str, end: End) {
    if is_group_of(pid, born) {
        signal_child(pid, end);
    }
}

/// Signals the group of a child that nobody has waited for yet: until then its number is its own.
pub(crate) fn signal_child(pid: u32, end: End) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let signal = match end {
        End::Ask => Signal::TERM,
        End::Kill => Signal::KILL,
    };
    let _ = kill_process_group(pid, signal);
}
