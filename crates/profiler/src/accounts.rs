//! The scheduler's own account of each thread, `/proc/PID/task/TID/schedstat`: time on CPU and time
//! waited for one.

use pipeprof_runner::proc_file;
use std::fs;
use std::path::Path;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// What the scheduler charged to a thread since it began, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// On a CPU.
    pub cpu_ns: u64,
    /// Runnable, waiting for one (`sched_info.run_delay`, kernel/sched/stats.h, v6.18).
    pub run_delay_ns: u64,
    /// How often it got a CPU (`sched_info.pcount`). 0 in recordings from before this was read.
    #[serde(default)]
    pub runs: u64,
}

impl Account {
    fn since(self, earlier: Account) -> Account {
        Account {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            run_delay_ns: self.run_delay_ns.saturating_sub(earlier.run_delay_ns),
            runs: self.runs.saturating_sub(earlier.runs),
        }
    }
}

/// What was charged to a thread between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The difference of the two.
    pub account: Account,
    /// When the latest was made, `CLOCK_MONOTONIC` ns.
    pub read_at_ns: u64,
}

/// CPU time of a process, all threads together; `None` where it has ended.
pub(crate) fn process_cpu_ns(pid: i32) -> Option<u64> {
    let time = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid)).ok()?).ok()?;
    Some(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// First and latest reading of each thread. A thread that ends keeps its last one, so reading now
/// and then bounds what is missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Accounts {
    threads: FxHashMap<i32, Readings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Readings {
    first: Account,
    last: Account,
    last_at_ns: u64,
}

impl Accounts {
    /// Reads all threads of a process. `born_watched` tells that threads not seen before began
    /// after the watch did, so that their account counts from zero.
    pub fn read(&mut self, pid: i32, born_watched: bool) {
        self.read_in(Path::new("/proc"), pid, born_watched, now_ns());
    }

    fn read_in(&mut self, proc_root: &Path, pid: i32, born_watched: bool, last_at_ns: u64) {
        let Ok(tasks) = fs::read_dir(proc_root.join(pid.to_string()).join("task")) else { return };
        for task in tasks.flatten() {
            let tid = task.file_name().to_str().and_then(|name| name.parse().ok());
            let text = proc_file::read_to_string(task.path().join("schedstat")).ok();
            if let (Some(tid), Some(last)) = (tid, text.as_deref().and_then(parse)) {
                let first = if born_watched { Account::default() } else { last };
                let readings = Readings { first, last, last_at_ns };
                let readings = self.threads.entry(tid).or_insert(readings);
                (readings.last, readings.last_at_ns) = (last, last_at_ns);
            }
        }
    }

    /// What all threads were charged between their first and latest reading.
    pub fn sum(&self) -> Account {
        let charged = self.threads.values().map(|readings| readings.last.since(readings.first));
        charged.fold(Account::default(), |sum, one| Account {
            cpu_ns: sum.cpu_ns + one.cpu_ns,
            run_delay_ns: sum.run_delay_ns + one.run_delay_ns,
            runs: sum.runs + one.runs,
        })
    }

    /// Leaves out threads that were read last before then: they have ended.
    pub(crate) fn forget(&mut self, before_ns: u64) {
        self.threads.retain(|_, readings| readings.last_at_ns >= before_ns);
    }

    /// Counts from what was read then.
    pub(crate) fn begin_at(&mut self, then: &Accounts, at_ns: u64) {
        self.forget(at_ns);
        for (tid, readings) in &mut self.threads {
            if let Some(known) = then.threads.get(tid) {
                readings.first = known.last;
            }
        }
    }

    /// What was charged between the first and the latest reading.
    pub fn of(&self, tid: i32) -> Option<Charged> {
        let readings = self.threads.get(&tid)?;
        let account = readings.last.since(readings.first);
        Some(Charged { account, read_at_ns: readings.last_at_ns })
    }
}

/// The time now by the clock of the records, `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(1, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// How far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: the time that the machine slept.
pub(crate) fn boot_offset_ns() -> Option<u64> {
    let ns = |clock| {
        let time = clock_gettime(clock).ok()?;
        Some(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    };
    Some(ns(ClockId::CLOCK_BOOTTIME)?.saturating_sub(ns(ClockId::CLOCK_MONOTONIC)?))
}

/// `run_ns delay_ns slices`.
fn parse(text: &str) -> Option<Account> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    let mut next = || fields.next()?.ok();
    Some(Account { cpu_ns: next()?, run_delay_ns: next()?, runs: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, tid: i32, text: &str) {
        let folder = root.join(format!("7/task/{tid}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("schedstat"), text).unwrap();
    }

    #[test]
    fn a_thread_is_charged_from_its_first_reading_to_its_last() {
        let root = tempfile::tempdir().unwrap();
        let mut accounts = Accounts::default();
        write(root.path(), 7, "100 10 1\n");
        accounts.read_in(root.path(), 7, false, 1);
        write(root.path(), 7, "400 30 2\n");
        write(root.path(), 8, "50 5 1\n");
        accounts.read_in(root.path(), 7, true, 2);
        fs::remove_dir_all(root.path().join("7")).unwrap();
        accounts.read_in(root.path(), 7, true, 3);
        let charged = |cpu_ns, run_delay_ns, runs| {
            let account = Account { cpu_ns, run_delay_ns, runs };
            Some(Charged { account, read_at_ns: 2 })
        };
        assert_eq!(accounts.of(7), charged(300, 20, 1));
        assert_eq!(accounts.of(8), charged(50, 5, 1));
        assert_eq!(accounts.of(9), None);
    }
}
