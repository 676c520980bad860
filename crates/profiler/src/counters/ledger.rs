//! What the kernel counts for every process anyway, at no extra cost.
//!
//! A perf event on a task slows each of its context switches by 2–4 µs on a virtual machine (6.18),
//! whatever it counts: a plain pair that shares a CPU then takes a quarter longer. These accounts
//! are as exact and need no rights, but end with the process: they leave out children, and switches
//! of threads that ended.

use pipeprof_runner::proc_file;

use nix::time::ClockId;
use nix::unistd::Pid;

use super::switches::{ExitUsage, Switches};
use super::{Counter, CounterUnit, CounterValue};

/// The accounts of a process of one thread at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Its CPU clock, which the kernel brings up to date to read it.
    cpu_ns: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    minor_faults: u64,
    major_faults: u64,
    /// `se.nr_migrations`; `None` where the kernel has no `/proc/PID/sched` (before v6.15 that
    /// takes `CONFIG_SCHED_DEBUG`).
    migrations: Option<u64>,
}

impl Ledger {
    /// `None` where the process is gone. A zombie's is still there, and final.
    pub(super) fn of_process(pid: i32) -> Option<Self> {
        let read = |file: &str| proc_file::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok()?.now().ok()?;
        let switches = Switches::of_process(pid)?.total();
        let (minor_faults, major_faults) = faults(&read("stat")?)?;
        Some(Ledger {
            cpu_ns: nanoseconds(clock)?,
            voluntary_switches: switches.voluntary,
            involuntary_switches: switches.involuntary,
            minor_faults,
            major_faults,
            migrations: read("sched").as_deref().and_then(migrations),
        })
    }

    fn of_reaped(usage: ExitUsage) -> Self {
        Ledger {
            cpu_ns: usage.cpu_ns,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            migrations: None,
        }
    }
}

/// The software counters of a process of one thread between two moments, in the order of the table.
/// Without `end`, up to its death, by `exit`.
pub(super) fn counters(
    start: Option<&Ledger>,
    end: Option<Ledger>,
    exit: Option<ExitUsage>,
) -> Vec<Counter> {
    let reaped = end.is_none();
    let end = end.or_else(|| exit.map(Ledger::of_reaped));
    let row = |name, read: fn(&Ledger) -> Option<u64>| {
        let unit = match name {
            "task-clock" => CounterUnit::Nanoseconds,
            _ => CounterUnit::Occurrences,
        };
        let not_counted = |reason: &str| CounterValue::NotCounted { reason: reason.to_owned() };
        let value = match (start, &end) {
            (None, _) => not_counted("counting had not begun"),
            (_, None) => not_counted("the process was reaped before they were read"),
            (Some(start), Some(end)) => match (read(start), read(end)) {
                (Some(start), Some(end)) if start <= end => {
                    CounterValue::Exact { value: end - start }
                }
                (Some(_), None) if reaped => {
                    not_counted("the process was reaped before they were read")
                }
                (None, _) => CounterValue::NotSupported {
                    reason: "this kernel has no /proc/PID/sched (CONFIG_SCHED_DEBUG)".to_owned(),
                    hint: None,
                },
                _ => not_counted("the kernel's accounts contradict each other"),
            },
        };
        Counter { name, unit, user_only: false, value }
    };
    vec![
        row("task-clock", |ledger| Some(ledger.cpu_ns)),
        row("context-switches", |ledger| {
            ledger.voluntary_switches.checked_add(ledger.involuntary_switches)
        }),
        row("voluntary-switches", |ledger| Some(ledger.voluntary_switches)),
        row("involuntary-switches", |ledger| Some(ledger.involuntary_switches)),
        row("cpu-migrations", |ledger| ledger.migrations),
        row("minor-faults", |ledger| Some(ledger.minor_faults)),
        row("major-faults", |ledger| Some(ledger.major_faults)),
    ]
}

fn nanoseconds(time: nix::sys::time::TimeSpec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(time.tv_nsec()).ok()?)
}

/// Fields 10 and 12 of `/proc/PID/stat`: of all threads, dead ones too. Field 2 may hold anything.
fn faults(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(7);
    let minor = fields.next()?.parse().ok()?;
    let major = fields.nth(1)?.parse().ok()?;
    Some((minor, major))
}

fn migrations(sched: &str) -> Option<u64> {
    let line = sched.lines().find_map(|line| line.strip_prefix("se.nr_migrations"))?;
    line.trim_start_matches([' ', ':']).trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_parsed() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 118 5 2 9 0 0 0 0 20 0 1 0 400 ";
        assert_eq!(faults(stat), Some((118, 2)));
        assert_eq!(faults("7 (a"), None);
        let sched = "cat (1, #threads: 1)\n---\nse.nr_migrations                 :          12\n";
        assert_eq!(migrations(sched), Some(12));
        assert_eq!(migrations(""), None);
    }

    const START: Ledger = Ledger {
        cpu_ns: 100,
        voluntary_switches: 2,
        involuntary_switches: 1,
        minor_faults: 50,
        major_faults: 3,
        migrations: Some(1),
    };

    const USAGE: ExitUsage = ExitUsage {
        cpu_ns: 1_100,
        voluntary_switches: 12,
        involuntary_switches: 2,
        minor_faults: 51,
        major_faults: 3,
    };

    fn values(counters: &[Counter]) -> Vec<Option<u64>> {
        counters.iter().map(|counter| counter.value.exact()).collect()
    }

    #[test]
    fn the_end_less_the_start() {
        let end = Ledger { cpu_ns: 300, voluntary_switches: 4, migrations: Some(5), ..START };
        let counted = counters(Some(&START), Some(end), None);
        let expected = [Some(200), Some(2), Some(2), Some(0), Some(4), Some(0), Some(0)];
        assert_eq!(values(&counted), expected);
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        assert!(values(&counters(None, Some(START), None)).iter().all(Option::is_none));
        assert!(values(&counters(Some(&START), None, None)).iter().all(Option::is_none));
        // wait4() tells all but migrations.
        let expected = [Some(1_000), Some(11), Some(10), Some(1), None, Some(1), Some(0)];
        assert_eq!(values(&counters(Some(&START), None, Some(USAGE))), expected);
        // Another process of the same number.
        let other = Ledger { cpu_ns: 1, ..START };
        assert_eq!(values(&counters(Some(&START), Some(other), None))[0], None);
        let blind = Ledger { migrations: None, ..START };
        let counted = counters(Some(&blind), Some(blind), None);
        assert!(matches!(counted[4].value, CounterValue::NotSupported { .. }));
    }
}
