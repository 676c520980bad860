//! The threads of a process, and the CPUs that they can run on.

use std::fs;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::recording::ThreadStart;
use crate::sleepers::asleep_in;

/// The threads of a process; empty where it has gone.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// How the threads of a process are at this moment.
pub(crate) fn thread_starts(pid: i32) -> Vec<ThreadStart> {
    let start = |tid: i32| {
        let root = format!("/proc/{pid}/task/{tid}");
        let stat = fs::read_to_string(format!("{root}/stat")).ok()?;
        // The name before it may hold anything, so the state is what follows the last `)`.
        let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
        let wchan = asleep_in(Path::new(&root)).filter(|_| state != 'R');
        Some(ThreadStart { pid, tid, asleep: state != 'R', wchan })
    };
    threads(pid).into_iter().filter_map(start).collect()
}

/// The CPUs that a process may run on, or `None` where it cannot be asked.
pub fn affinity(pid: i32) -> Option<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(pid)).ok()?;
    Some(
        (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).map(|c| c as u32).collect(),
    )
}

/// The CPUs that are online.
pub fn online_cpus() -> Vec<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = parse_cpu_list(&text);
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// A list as the kernel prints it: `0-3,8`.
fn parse_cpu_list(text: &str) -> Vec<u32> {
    text.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cpu_list("0"), [0]);
        assert!(parse_cpu_list("").is_empty());
    }
}
