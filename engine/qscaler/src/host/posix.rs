//! Elsewhere: what POSIX offers. A process that was found is taken for the one that was started, an
//! engine that was killed cannot find workers whose start it had not written down yet, and usage is
//! not known.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};

use super::SessionUse;

/// A pause between two looks for the end of a process.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Says only whether the process runs.
pub(crate) fn born(pid: u32) -> Option<String> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    test_kill_process(raw).ok().map(|()| String::from("unknown"))
}

/// Says only that there is one.
pub(crate) fn child_born(_pid: u32) -> Option<String> {
    Some(String::from("unknown"))
}

/// There is no telling one process from another of the same number.
pub(crate) fn is_group_of(_pid: u32, _born: &str) -> bool {
    true
}

/// Waits until this process has ended.
pub(crate) async fn ended(pid: u32) -> io::Result<()> {
    while born(pid).is_some() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// POSIX has no way to read another process's environment.
pub(crate) fn find_by_environment(_name: &str, _value: &str) -> Option<u32> {
    None
}

/// POSIX has no way to read what others use.
pub(crate) fn sessions() -> BTreeMap<u32, SessionUse> {
    BTreeMap::new()
}
