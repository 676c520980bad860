//! Numbers with their units.

pub(super) fn throughput(bytes_per_second: f64) -> String {
    size(bytes_per_second) + "/s"
}

/// `64 KiB`, `157 MiB`, `1.6 GiB`.
pub(super) fn size(bytes: f64) -> String {
    for (scale, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let scaled = bytes / f64::from(1u32 << scale);
        if scaled >= 10.0 || scaled >= 1.0 && scaled.fract() < 0.05 {
            return format!("{scaled:.0} {unit}");
        } else if scaled >= 1.0 {
            return format!("{scaled:.1} {unit}");
        }
    }
    format!("{bytes:.0} B")
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn time_left(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_at_a_glance() {
        let sizes = [700.0, 65_536.0, 1.6e9, 2.0 * 1_048_576.0].map(size);
        assert_eq!(sizes, ["700 B", "64 KiB", "1.5 GiB", "2 MiB"]);
        assert_eq!([45.0, 200.0, 7500.0].map(time_left), ["45 s", "3 min 20 s", "2 h 5 min"]);
        assert_eq!(throughput(1024.0), "1 KiB/s");
    }
}
