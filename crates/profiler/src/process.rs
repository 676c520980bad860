//! A running process, and whether it is the one that was recorded under its pid.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use pipeprof_runner::proc_file;
use pipeprof_runner::stat_line::StatLine;

/// What `/proc` says of a process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: i32,
    /// Its number in its innermost pid namespace.
    pid_within: i32,
    owner: Option<u32>,
    started: Option<SystemTime>,
}

impl Process {
    /// The process of that number; `None` where there is none.
    pub(crate) fn living(pid: i32) -> Option<Self> {
        let status = proc_file::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let fields = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_ascii_whitespace().filter_map(|field| field.parse::<u32>().ok())
        };
        let pid_within = fields("NSpid:").next_back().and_then(|pid| i32::try_from(pid).ok());
        let pid_within = pid_within.unwrap_or(pid);
        // Real, effective, saved, of the file system: files that it makes are the effective user's.
        let owner = fields("Uid:").nth(1);
        Some(Process { pid, pid_within, owner, started: started(pid) })
    }

    /// It began before a recording ended, so that the recording can be of it.
    pub(crate) fn was_there(&self, until: Option<SystemTime>) -> bool {
        match (self.started, until) {
            (Some(started), Some(until)) => started <= until,
            _ => true,
        }
    }

    /// Its root folder.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// How it is numbered in its own pid namespace.
    pub(crate) fn pid_within(&self) -> i32 {
        self.pid_within
    }

    /// The user whose files it makes.
    pub(crate) fn owner(&self) -> Option<u32> {
        self.owner
    }
}

/// When a process began, to a hundredth of a second.
fn started(pid: i32) -> Option<SystemTime> {
    let ticks =
        StatLine::parse(&proc_file::read(format!("/proc/{pid}/stat")).ok()?)?.start_time_ticks()?;
    let a_second = Some(ticks_a_second()).filter(|ticks| *ticks > 0)?;
    let uptime = proc_file::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let age =
        Duration::try_from_secs_f64(uptime - ticks as f64 / a_second as f64).unwrap_or_default();
    SystemTime::now().checked_sub(age)
}

/// Now, as processes tell their start.
pub(crate) fn ticks_since_boot() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    now.as_millis() as u64 * ticks_a_second() / 1_000
}

/// Clock ticks of `/proc` a second; 0 where unknown.
pub(crate) fn ticks_a_second() -> u64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(0).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_were_there_before_now_and_not_before_the_machine() {
        let me = Process::living(std::process::id() as i32).unwrap();
        assert_eq!(me.owner(), Some(nix::unistd::geteuid().as_raw()));
        assert!(me.was_there(None));
        assert!(me.was_there(Some(SystemTime::now())));
        assert!(!me.was_there(Some(SystemTime::UNIX_EPOCH)));
        assert!(me.root().join("proc").exists());
        assert!(Process::living(i32::MAX).is_none());
    }
}
