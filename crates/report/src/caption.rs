//! Numbers for a person.

use pipeprof_profiler::profile::WeightUnit;

/// One GiB.
pub(crate) const GIB: f64 = 1_073_741_824.0;

/// As the article prints it: `12.7GiB/s`; what is too slow for that in a smaller unit.
pub(crate) fn throughput(bytes_per_second: f64) -> String {
    let (divisor, unit) = match bytes_per_second {
        rate if rate >= GIB => (GIB, "GiB"),
        rate if rate >= GIB / 1024.0 => (GIB / 1024.0, "MiB"),
        _ => (1024.0, "KiB"),
    };
    format!("{:.1}{unit}/s", bytes_per_second / divisor)
}

/// `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A weight for a person: `1.20 s`, `340 ms`, `12 µs`, `1,234 cycles`.
pub(crate) fn weight(weight: u64, unit: WeightUnit, event: &str) -> String {
    match unit {
        WeightUnit::Events => format!("{} {event}", thousands(weight)),
        WeightUnit::Nanoseconds => duration(weight as f64),
    }
}

/// Nanoseconds for a person, in three digits.
pub(crate) fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns >= 999.5e6 => (ns / 1e9, "s"),
        _ if ns >= 999.5e3 => (ns / 1e6, "ms"),
        _ if ns >= 999.5 => (ns / 1e3, "µs"),
        _ => return format!("{ns:.0} ns"),
    };
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {unit}")
}

/// `66.46%`, as `perf report` has it, and never `0.00%` for something that was there.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    share(part, whole, 2)
}

/// `66.5%`, where the second decimal would only be noise.
pub(crate) fn rough_percent(part: u64, whole: u64) -> String {
    share(part, whole, 1)
}

fn share(part: u64, whole: u64, decimals: usize) -> String {
    if whole == 0 {
        return "-".into();
    }
    let share = 100.0 * part as f64 / whole as f64;
    let least = 10f64.powi(-(decimals as i32));
    if part > 0 && share < least / 2.0 {
        return format!("<{least:.decimals$}%");
    }
    format!("{share:.decimals$}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (999.0, "999 ns"),
            (999.7, "1.00 µs"),
            (12_345.0, "12.3 µs"),
            (999_600.0, "1.00 ms"),
            (123_400_000.0, "123 ms"),
            (1_204_000_000.0, "1.20 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(percent(1, 1_000_000), "<0.01%");
        assert_eq!(percent(0, 10), "0.00%");
        assert_eq!(percent(1, 0), "-");
        assert_eq!(rough_percent(1, 1_000_000), "<0.1%");
        assert_eq!(rough_percent(2, 3), "66.7%");
        assert_eq!(throughput(13_636_521_164.0), "12.7GiB/s");
        assert_eq!(throughput(12_000_000.0), "11.4MiB/s");
        assert_eq!(throughput(700.0), "0.7KiB/s");
    }
}
