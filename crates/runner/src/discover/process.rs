//! One process: who it is, and its threads.

use crate::proc_file;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::error::DiscoverError;
use super::scan;
use super::sys;
use crate::pipeline::MemberId;

impl MemberId {
    /// Whether that process, and no later one with its pid, is still there: a zombie is.
    pub fn is_there(&self) -> bool {
        match (scan::start_time(self.pid), self.start_time) {
            (Ok(now), Some(then)) => now == then,
            (Ok(_), None) => true,
            (Err(_), _) => false,
        }
    }

    /// Whether it is there and has not ended: a zombie has.
    pub fn is_running(&self) -> bool {
        scan::stat_of(self.pid).is_ok_and(|stat| {
            !stat.ended && self.start_time.is_none_or(|then| then == stat.start_time_ticks)
        })
    }

    /// A pidfd, readable once the process has ended. It never refers to another process.
    ///
    /// # Errors
    ///
    /// The process has ended, another has its pid, or the kernel has no pidfds (before 5.3).
    pub fn pidfd(&self) -> Result<OwnedFd, DiscoverError> {
        let pid = self.pid;
        let fd = sys::pidfd_open(pid).map_err(|error| ended_or(pid, "pidfd", error))?;
        // Asked after the descriptor was made: a process with this start time now had it then.
        match scan::start_time(pid) {
            Ok(ticks) if self.start_time.is_none_or(|then| then == ticks) => Ok(fd),
            Ok(_) => Err(DiscoverError::Replaced { pid }),
            Err(error) => Err(ended_or(pid, "stat", error)),
        }
    }
}

/// The ids of a process's threads, ascending; its own pid among them.
///
/// # Errors
///
/// The process has ended.
pub fn threads(pid: i32) -> Result<Vec<i32>, DiscoverError> {
    let path = format!("/proc/{pid}/task");
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| ended_or(pid, "task", error))? {
        // The directory itself vanishes with the process.
        let entry = entry.map_err(|error| ended_or(pid, "task", error))?;
        ids.extend(entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The user whose rights a process has (its effective user id); `None` where it has gone.
pub fn user_of(pid: i32) -> Option<u32> {
    let status = proc_file::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// The parent of a process; `None` where it has gone.
pub fn parent_of(pid: i32) -> Option<i32> {
    scan::stat_of(pid).ok().map(|stat| stat.parent)
}

/// The process that a thread belongs to.
pub(super) fn thread_group(tid: i32) -> Result<i32, DiscoverError> {
    let status = proc_file::read_to_string(format!("/proc/{tid}/status"))
        .map_err(|error| ended_or(tid, "status", error))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let pid = line
        .and_then(|pid| pid.trim().parse().ok())
        .ok_or(DiscoverError::NoSuchProcess { pid: tid })?;
    if pid == super::own_pid() { Err(DiscoverError::Ourselves { pid }) } else { Ok(pid) }
}

/// Whether we may see what a process holds.
pub(super) fn check_readable(pid: i32) -> Result<(), DiscoverError> {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let comm = proc_file::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comm = String::from_utf8_lossy(&comm).trim_end().to_owned();
            Err(DiscoverError::NotAllowed { pid, comm })
        }
        _ => Ok(()),
    }
}

fn ended_or(pid: i32, file: &str, source: io::Error) -> DiscoverError {
    let gone = [Errno::ENOENT, Errno::ESRCH].map(|errno| Some(errno as i32));
    if gone.contains(&source.raw_os_error()) {
        DiscoverError::NoSuchProcess { pid }
    } else {
        DiscoverError::Proc { what: format!("/proc/{pid}/{file}"), source }
    }
}
