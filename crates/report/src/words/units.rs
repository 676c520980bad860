//! Numbers for a person: one formatter for each kind of quantity.

use pipeprof_profiler::profile::WeightUnit;

use crate::facts::verdict::LEAST_GAIN;
use crate::verdict::HIGHEST_BOUND;

/// One GiB.
pub(crate) const GIB: f64 = 1_073_741_824.0;

/// `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    grouped(&n.to_string())
}

/// Digits in threes.
pub(crate) fn grouped(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `97 %`, `4.2 %`, `<0.1 %`: two digits, and never `0 %` for something that was there.
pub(crate) fn percent(percent: f64) -> String {
    match percent {
        0.0 => "0 %".to_owned(),
        _ if percent < 0.05 => "<0.1 %".to_owned(),
        _ if percent < 9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// `26.1 %`: a column of shares that are added up or held against another tool's.
pub(crate) fn tenths(percent: f64) -> String {
    if percent > 0.0 && percent < 0.05 { "<0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

/// [`percent`] of a part; `–` of nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(100.0 * part as f64 / whole as f64) }
}

/// `1 GiB`, `225.9 MiB`, `64 KiB`, `12 bytes`: in three digits or a little more, and without any
/// that are 0 where it is exact.
pub(crate) fn bytes(count: f64) -> String {
    let units = [(GIB, "GiB"), (GIB / 1024.0, "MiB"), (1024.0, "KiB")];
    match units.into_iter().find(|(scale, _)| count >= *scale) {
        None => format!("{count:.0} bytes"),
        Some((scale, unit)) => {
            let value = count / scale;
            let decimals = match value {
                _ if value.fract() == 0.0 => 0,
                _ if value < 9.995 => 2,
                _ => 1,
            };
            format!("{value:.decimals$} {unit}")
        }
    }
}

/// `12.7 GiB/s`.
pub(crate) fn throughput(bytes_per_second: f64) -> String {
    bytes(bytes_per_second) + "/s"
}

/// `0.5 CPUs`.
pub(crate) fn cpus(count: f64) -> String {
    let rounded = (100.0 * count).round() / 100.0;
    if rounded == 1.0 { "1 CPU".to_owned() } else { format!("{rounded} CPUs") }
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
        // An interval of few runs has no end that means anything.
        _ if ns >= 3.6e15 => return "over 1000 h".to_owned(),
        _ if ns >= 59_970e9 => (ns / 3.6e12, "h"),
        _ if ns >= 999.5e9 => (ns / 60e9, "min"),
        _ if ns >= 999.5e6 => (ns / 1e9, "s"),
        _ if ns >= 999.5e3 => (ns / 1e6, "ms"),
        _ if ns >= 999.5 => (ns / 1e3, "µs"),
        _ => return format!("{ns:.0} ns"),
    };
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// `at most 1.8× faster`.
pub(crate) fn gain(bound: f64) -> String {
    match bound {
        ..LEAST_GAIN => "negligible".to_owned(),
        ..=HIGHEST_BOUND => format!("at most {bound:.1}× faster"),
        _ => "several times faster".to_owned(),
    }
}

/// `one`, `one and two`, `one, two and three`.
pub(crate) fn listed(words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match &words[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// `1 process`, `3 processes`, with the plural made of an `s` where none is given.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
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
            (999.0e9, "999 s"),
            (1.2e12, "20.0 min"),
            (1.8e14, "50.0 h"),
            (1e20, "over 1000 h"),
        ] {
            assert_eq!(duration(ns), text);
        }
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(share(1, 1_000_000), "<0.1 %");
        assert_eq!(share(0, 10), "0 %");
        assert_eq!(share(1, 0), "–");
        for (value, text) in
            [(0.05, "0.1 %"), (4.24, "4.2 %"), (9.96, "10 %"), (66.6, "67 %"), (100.0, "100 %")]
        {
            assert_eq!(percent(value), text);
        }
        for (count, text) in [
            (12.0, "12 bytes"),
            (1024.0, "1 KiB"),
            (65536.0, "64 KiB"),
            (GIB, "1 GiB"),
            (GIB + 1.0, "1.00 GiB"),
            (GIB * 1.25, "1.25 GiB"),
            (GIB / 1024.0 * 225.94, "225.9 MiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(throughput(13_636_521_164.0), "12.7 GiB/s");
    }
}
