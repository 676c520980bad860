//! Voluntary and involuntary context switches of a member.
//!
//! The event counts both kinds together. The scheduler keeps them apart for each thread
//! (`/proc/PID/task/TID/status`), and reports those of dead threads and reaped children to the
//! process that reaps (`wait4()`).

use pipeprof_runner::proc_file;
use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use super::{Counter, CounterUnit, CounterValue};

/// What `wait4()` says of a process: all of its life, with all threads and reaped children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExitUsage {
    /// `ru_utime` and `ru_stime` together, in nanoseconds: what the scheduler charged, to the µs.
    pub cpu_ns: u64,
    /// `ru_nvcsw`.
    pub voluntary_switches: u64,
    /// `ru_nivcsw`.
    pub involuntary_switches: u64,
    /// `ru_minflt`.
    pub minor_faults: u64,
    /// `ru_majflt`.
    pub major_faults: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

/// The switches of each thread of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Switches {
    threads: BTreeMap<i32, Pair>,
}

impl Switches {
    /// `None` where the process is gone. A zombie's are still there.
    pub(super) fn of_process(pid: i32) -> Option<Self> {
        let entries = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let threads: BTreeMap<i32, Pair> = entries
            .flatten()
            .filter_map(|entry| {
                let tid = entry.file_name().to_str()?.parse().ok()?;
                let status = proc_file::read_to_string(entry.path().join("status")).ok()?;
                Some((tid, parse(&status)?))
            })
            .collect();
        (!threads.is_empty()).then_some(Switches { threads })
    }

    pub(super) fn total(&self) -> Pair {
        self.threads.values().fold(Pair::default(), |sum, pair| Pair {
            voluntary: sum.voluntary + pair.voluntary,
            involuntary: sum.involuntary + pair.involuntary,
        })
    }

    /// Every thread of `self` is still in `later`.
    fn all_in(&self, later: &Switches) -> bool {
        self.threads.keys().all(|tid| later.threads.contains_key(tid))
    }
}

fn parse(status: &str) -> Option<Pair> {
    let field = |key| {
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse::<u64>().ok()
    };
    Some(Pair {
        voluntary: field("voluntary_ctxt_switches:")?,
        involuntary: field("nonvoluntary_ctxt_switches:")?,
    })
}

/// The two counters, voluntary and involuntary, between `start` and the end of the process (`exit`)
/// or the moment of `end`. `total` is the event's count of both, against which they are checked.
pub(super) fn split(
    start: Option<&Switches>,
    end: Option<&Switches>,
    exit: Option<ExitUsage>,
    total: Option<u64>,
) -> [Counter; 2] {
    let values = match between(start, end, exit, total) {
        Ok(Pair { voluntary, involuntary }) => {
            [voluntary, involuntary].map(|value| CounterValue::Exact { value })
        }
        Err(reason) => {
            [reason, reason].map(|reason| CounterValue::NotCounted { reason: reason.to_owned() })
        }
    };
    let [voluntary, involuntary] = values;
    let counter =
        |name, value| Counter { name, unit: CounterUnit::Occurrences, user_only: false, value };
    [counter("voluntary-switches", voluntary), counter("involuntary-switches", involuntary)]
}

fn between(
    start: Option<&Switches>,
    end: Option<&Switches>,
    exit: Option<ExitUsage>,
    total: Option<u64>,
) -> Result<Pair, &'static str> {
    const THREADS_ENDED: &str =
        "threads or children ended meanwhile, and their switches were not counted";
    let start = start.ok_or("counting had not begun")?;
    let end_total = match (exit, end) {
        (Some(usage), _) => {
            Pair { voluntary: usage.voluntary_switches, involuntary: usage.involuntary_switches }
        }
        (None, Some(end)) if start.all_in(end) => end.total(),
        (None, Some(_)) => return Err(THREADS_ENDED),
        (None, None) => return Err("the process was reaped before they were read"),
    };
    let start_total = start.total();
    let voluntary = end_total.voluntary.checked_sub(start_total.voluntary);
    let involuntary = end_total.involuntary.checked_sub(start_total.involuntary);
    let (Some(voluntary), Some(involuntary)) = (voluntary, involuntary) else {
        return Err(THREADS_ENDED);
    };
    // The event and the accounts are read one after the other, and each thread's last switch, out
    // of its own death, is in the account only.
    let sum = voluntary + involuntary;
    let slack = |total: u64| total / 100 + 8;
    match total {
        Some(total) if sum.abs_diff(total) > slack(total) => Err(THREADS_ENDED),
        _ => Ok(Pair { voluntary, involuntary }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(threads: &[(i32, u64, u64)]) -> Switches {
        Switches {
            threads: threads
                .iter()
                .map(|&(tid, voluntary, involuntary)| (tid, Pair { voluntary, involuntary }))
                .collect(),
        }
    }

    #[test]
    fn status_has_both_kinds() {
        let status =
            "Name:\tpp-write\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(parse(status), Some(Pair { voluntary: 12, involuntary: 3 }));
        assert_eq!(parse("Name:\tvoluntary_ctxt_switches: 1\n"), None);
    }

    #[test]
    fn differences_are_taken_over_all_threads() {
        let start = switches(&[(1, 10, 1), (2, 5, 0)]);
        let end = switches(&[(1, 110, 2), (2, 6, 0), (3, 7, 7)]);
        let pair = between(Some(&start), Some(&end), None, Some(116));
        assert_eq!(pair, Ok(Pair { voluntary: 108, involuntary: 8 }));
    }

    #[test]
    fn what_wait4_said_is_better_than_what_is_left_in_proc() {
        let start = switches(&[(1, 10, 1)]);
        let usage = ExitUsage {
            cpu_ns: 0,
            voluntary_switches: 1_010,
            involuntary_switches: 31,
            minor_faults: 0,
            major_faults: 0,
        };
        let pair = between(Some(&start), None, Some(usage), Some(1_029));
        assert_eq!(pair, Ok(Pair { voluntary: 1_000, involuntary: 30 }));
    }

    #[test]
    fn a_thread_that_ended_is_no_zero() {
        let (start, end) = (switches(&[(1, 10, 1), (2, 5, 0)]), switches(&[(1, 20, 1)]));
        assert!(between(Some(&start), Some(&end), None, None).is_err());
        assert!(between(Some(&start), None, None, None).is_err());
        assert!(between(None, Some(&end), None, None).is_err());
        // Came and went: only the event saw it.
        let (start, end) = (switches(&[(1, 10, 1)]), switches(&[(1, 20, 1)]));
        assert!(between(Some(&start), Some(&end), None, Some(500)).is_err());
        assert!(between(Some(&start), Some(&end), None, Some(10)).is_ok());
    }
}
