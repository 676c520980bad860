//! How busy the machine is: `/proc/pressure/memory`, and the idle time in `/proc/stat`.

use pipeprof_runner::proc_file;

use super::timeline::Pressure;

/// Since boot; `None` where the kernel was built without it.
pub(super) fn read() -> Option<Pressure> {
    parse(&proc_file::read_to_string("/proc/pressure/memory").ok()?)
}

/// Time for which CPUs were idle since boot, added up, in ticks; a CPU that waits for a disk is idle.
pub(super) fn idle_ticks() -> Option<u64> {
    parse_idle(&proc_file::read_to_string("/proc/stat").ok()?)
}

/// The line `cpu USER NICE SYSTEM IDLE IOWAIT …` (`show_stat` in fs/proc/stat.c, v6.18).
fn parse_idle(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut words = line.split_ascii_whitespace().skip(3).map(|word| word.parse::<u64>().ok());
    Some(words.next()?? + words.next()??)
}

/// The growth between two readings.
pub(super) fn since(earlier: Pressure, now: Pressure) -> Pressure {
    Pressure {
        memory_some_ns: now.memory_some_ns.saturating_sub(earlier.memory_some_ns),
        memory_full_ns: now.memory_full_ns.saturating_sub(earlier.memory_full_ns),
    }
}

/// Lines `some avg10=… total=MICROSECONDS` and `full …` (`psi_show` in kernel/sched/psi.c, v6.18).
fn parse(text: &str) -> Option<Pressure> {
    Some(Pressure { memory_some_ns: some_ns(text)?, memory_full_ns: total_ns(text, "full")? })
}

/// For how long some task was stalled, by a file of the machine or of a control group.
pub(super) fn some_ns(text: &str) -> Option<u64> {
    total_ns(text, "some")
}

fn total_ns(text: &str, kind: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(kind))?;
    let total = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()?.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_read() {
        let text = "cpu  5 1 7 1000 20 0 3 0 0 0\ncpu0 1 1 1 500 1 0 0 0 0 0\n";
        assert_eq!(parse_idle(text), Some(1020));
        assert_eq!(parse_idle("cpu 1 2 3\n"), None);
    }

    #[test]
    fn totals_are_read_and_subtracted() {
        let text = "some avg10=0.00 avg60=0.58 avg300=0.77 total=163\n\
                    full avg10=0.00 avg60=0.36 avg300=0.51 total=30\n";
        let now = parse(text).unwrap();
        assert_eq!((now.memory_some_ns, now.memory_full_ns), (163_000, 30_000));
        let earlier = Pressure { memory_some_ns: 100_000, memory_full_ns: 30_000 };
        let grown = since(earlier, now);
        assert_eq!((grown.memory_some_ns, grown.memory_full_ns), (63_000, 0));
        assert_eq!(parse("some avg10=0.00\n"), None);
    }
}
