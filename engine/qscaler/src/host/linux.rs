//! Linux: everything from /proc and pidfds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::SessionUse;

/// What makes a process id unique: when the process started, and in which boot of the machine. None
/// when no such process runs.
pub(crate) fn born(pid: u32) -> Option<String> {
    Stat::of(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?.born()
}

/// The same of a child that nobody has waited for yet; it may have ended.
pub(crate) fn child_born(pid: u32) -> Option<String> {
    Stat::of(pid)?.born()
}

/// Whether the group of this number, if there is one, is still that of the process of this birth. The
/// kernel gives no new process the number of a group that has members, so another process of this
/// number means that the group had ended.
pub(crate) fn is_group_of(pid: u32, born: &str) -> bool {
    let Some((start, boot)) = born.split_once('@') else { return false };
    boot_id().as_deref() == Some(boot) && Stat::of(pid).is_none_or(|stat| stat.start.to_string() == start)
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// Waits until this process has ended, also when it is nobody's child here.
pub(crate) async fn ended(pid: u32) -> io::Result<()> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let descriptor: OwnedFd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(descriptor) => descriptor,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    #[expect(
        unsafe_code,
        reason = "the safe constructor is deprecated; this one asks what OwnedFd guarantees"
    )]
    // SAFETY: the descriptor is owned by the value that is registered and is closed only with it.
    let descriptor = unsafe { AsyncFd::register(descriptor)? };
    descriptor.readable().await.map(|_| ())
}

/// The process whose environment holds `name=value`.
pub(crate) fn find_by_environment(name: &str, value: &str) -> Option<u32> {
    let wanted = format!("{name}={value}");
    processes().find(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let leads = Stat::of(*pid).is_some_and(|stat| stat.session == *pid);
        leads && environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    })
}

/// What each session uses, by the process that leads it.
pub(crate) fn sessions() -> BTreeMap<u32, SessionUse> {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let mut sessions: BTreeMap<u32, SessionUse> = BTreeMap::new();
    for stat in processes().filter_map(Stat::of) {
        let session = sessions.entry(stat.session).or_default();
        session.cpu_seconds += stat.cpu_ticks as f64 / ticks;
        session.memory += stat.resident_pages as f64 * page;
    }
    sessions
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of /proc/PID/stat that matter here (`proc_pid_stat(5)`).
struct Stat {
    state: char,
    session: u32,
    cpu_ticks: u64,
    start: u64,
    resident_pages: u64,
}

impl Stat {
    fn born(&self) -> Option<String> {
        Some(format!("{}@{}", self.start, boot_id()?))
    }

    fn of(pid: u32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name stands in parentheses and may hold anything, parentheses included.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let number = |place: usize| fields.get(place)?.trim().parse::<u64>().ok();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            session: u32::try_from(number(3)?).ok()?,
            cpu_ticks: number(11)? + number(12)?,
            start: number(19)?,
            resident_pages: number(21)?,
        })
    }
}
