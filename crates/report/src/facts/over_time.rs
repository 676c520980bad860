//! Turns counts at each look into values over time, in columns of equal length.

use pipeprof_profiler::meter::Point;

/// Columns of equal length, in nanoseconds since the watch began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Columns {
    /// Start of the first.
    pub from_ns: f64,
    /// Length of each.
    pub step_ns: f64,
    /// How many.
    pub count: usize,
}

impl Columns {
    /// Start of a column, and the end of the one before.
    pub(crate) fn edge(self, column: usize) -> f64 {
        self.from_ns + column as f64 * self.step_ns
    }
}

/// Bytes a second in each column; `None` where nothing was counted any more.
pub(crate) fn rates(counts: &[Point], columns: Columns) -> Vec<Option<f64>> {
    if counts.len() < 3 {
        return vec![None; columns.count];
    }
    let rate = |column: usize| {
        let (from, to) = (columns.edge(column), columns.edge(column + 1));
        let moved = count_at(counts, to)? - count_at(counts, from.max(0.0))?;
        Some(moved.max(0.0) * 1e9 / columns.step_ns)
    };
    (0..columns.count).map(rate).collect()
}

/// Columns that are so much shorter than the time between two looks show each look for as long as
/// it has to tell.
const LOOKS: f64 = 1.5;

/// Mean of the levels found around each column, as a share of the capacity; `None` without a look.
pub(crate) fn levels(levels: &[Point], capacity_bytes: u64, columns: Columns) -> Vec<Option<f64>> {
    let together = (LOOKS * spacing(levels) / columns.step_ns).ceil().max(1.0);
    let wide = Columns {
        step_ns: columns.step_ns * together,
        count: (columns.count as f64 / together).ceil() as usize,
        ..columns
    };
    let found = levels_in(levels, capacity_bytes, wide);
    (0..columns.count).map(|column| found[column / together as usize]).collect()
}

/// Mean time between two points.
pub(crate) fn spacing(points: &[Point]) -> f64 {
    match points {
        [first, .., last] => {
            last.at_ns.saturating_sub(first.at_ns) as f64 / (points.len() - 1) as f64
        }
        _ => 0.0,
    }
}

fn levels_in(levels: &[Point], capacity_bytes: u64, columns: Columns) -> Vec<Option<f64>> {
    let mut at = levels.iter().take_while(|point| (point.at_ns as f64) < columns.from_ns).count();
    let level = |column: usize| {
        let first = at;
        let until = columns.edge(column + 1);
        at += levels[first..].iter().take_while(|point| (point.at_ns as f64) < until).count();
        let found = &levels[first..at];
        let sum: f64 = found.iter().map(|point| point.bytes as f64).sum();
        let mean = sum / found.len() as f64 / capacity_bytes.max(1) as f64;
        (!found.is_empty()).then_some(mean.min(1.0))
    };
    (0..columns.count).map(level).collect()
}

/// What was counted by then, between two looks in proportion; nothing had been at the start.
/// `None` after the last look.
pub(crate) fn count_at(points: &[Point], at_ns: f64) -> Option<f64> {
    let next = points.partition_point(|point| (point.at_ns as f64) < at_ns);
    let after = points.get(next)?;
    let before = if next == 0 { Point { at_ns: 0, bytes: 0 } } else { points[next - 1] };
    let width = after.at_ns.saturating_sub(before.at_ns);
    if width == 0 {
        return Some(after.bytes as f64);
    }
    let share = (at_ns - before.at_ns as f64).max(0.0) / width as f64;
    Some(before.bytes as f64 + share * (after.bytes as f64 - before.bytes as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_between_looks_are_in_proportion() {
        let points = [
            Point { at_ns: 100, bytes: 1000 },
            Point { at_ns: 200, bytes: 1000 },
            Point { at_ns: 300, bytes: 3000 },
        ];
        for (at_ns, count) in
            [(0.0, Some(0.0)), (50.0, Some(500.0)), (150.0, Some(1000.0)), (250.0, Some(2000.0))]
        {
            assert_eq!(count_at(&points, at_ns), count, "{at_ns}");
        }
        assert_eq!(count_at(&points, 301.0), None);
        assert_eq!(count_at(&[], 0.0), None);
    }

    #[test]
    fn columns_hold_the_rate_and_the_mean_level_of_their_time_alone() {
        let looks = |bytes: [u64; 5]| -> Vec<Point> {
            let point = |(at, bytes)| Point { at_ns: 100 * at as u64, bytes };
            bytes.into_iter().enumerate().map(point).collect()
        };
        let columns = Columns { from_ns: 100.0, step_ns: 100.0, count: 4 };
        let rates = rates(&looks([0, 50, 50, 250, 250]), columns);
        assert_eq!(rates, [Some(0.0), Some(2e9), Some(0.0), None]);
        let levels = levels_in(&looks([9, 50, 100, 0, 200]), 100, columns);
        assert_eq!(levels, [Some(0.5), Some(1.0), Some(0.0), Some(1.0)]);
        let columns = Columns { step_ns: 50.0, count: 2, ..columns };
        assert_eq!(levels_in(&looks([9, 50, 100, 0, 0]), 100, columns), [Some(0.5), None]);
    }

    #[test]
    fn levels_are_known_between_looks_that_are_further_apart_than_columns() {
        let points: Vec<Point> = (0..25u64)
            .map(|at| Point { at_ns: 40 * at, bytes: if at < 12 { 100 } else { 0 } })
            .collect();
        let columns = Columns { from_ns: 0.0, step_ns: 5.0, count: 190 };
        let levels = levels(&points, 100, columns);
        assert!(levels.iter().all(Option::is_some));
        let full = levels.iter().filter(|level| **level == Some(1.0)).count();
        assert!(full.abs_diff(96) <= 12, "{full}");
    }
}
