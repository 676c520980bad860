//! The threads of a process, and the CPUs that they can run on.

use pipeprof_runner::proc_file;
use std::fs;
use std::path::Path;

use pipeprof_runner::cpus;
use pipeprof_runner::stat_line::StatLine;

use crate::recording::ThreadStart;
use crate::sleepers::asleep_in;

/// The threads of a process; empty where it has gone.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    pipeprof_runner::discover::threads(pid).unwrap_or_default()
}

/// How the threads of a process are at this moment.
pub(crate) fn thread_starts(pid: i32) -> Vec<ThreadStart> {
    let start = |tid: i32| {
        let root = format!("/proc/{pid}/task/{tid}");
        let state = StatLine::parse(&proc_file::read(format!("{root}/stat")).ok()?)?.state()?;
        let wchan = asleep_in(Path::new(&root)).filter(|_| state != 'R');
        Some(ThreadStart { pid, tid, asleep: state != 'R', wchan })
    };
    threads(pid).into_iter().filter_map(start).collect()
}

/// The CPUs that are online.
pub fn online_cpus() -> Vec<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus: Vec<u32> = cpus::ranges(&text).into_iter().flatten().flatten().collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}
