//! How often clocks and events sample: what the kernel grants, and how neighbouring CPUs are kept
//! out of step.

/// `kernel.perf_event_max_sample_rate`: more samples a second are refused with EINVAL when an event
/// is opened (`perf_event_open` in kernel/events/core.c, v6.18). The kernel itself lowers it where
/// interrupts take too much of the time (`perf_sample_event_took`, ibid.).
pub(crate) fn most_sample_rate() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok()?;
    text.trim().parse().ok()
}

/// As many of those samples a second as the kernel grants.
pub(crate) fn granted(asked_hz: u64) -> u64 {
    asked_hz.min(most_sample_rate().unwrap_or(u64::MAX)).max(1)
}

/// The frequency of a clock on one CPU, up to 2 % below what was asked.
///
/// Clocks of one frequency on two CPUs keep their distance for a whole run. The two ends of a pipe
/// depend on each other within microseconds, so each would always be sampled in the same state of
/// the other: in that of having just been interrupted, if the distance happens to be small.
pub(crate) fn staggered_frequency(asked: u64, cpu: i32) -> u64 {
    const STEPS: u64 = 8;
    let step = (asked / 400).max(1);
    asked.saturating_sub(cpu as u64 % STEPS * step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_neighbouring_cpus_drift_apart() {
        let on = |cpu| staggered_frequency(997, cpu);
        assert_eq!((on(0), on(1), on(8)), (997, 995, 997));
        assert!((0..64).all(|cpu| on(cpu) * 100 >= 997 * 98));
        assert_eq!(staggered_frequency(1, 5), 1);
    }
}
