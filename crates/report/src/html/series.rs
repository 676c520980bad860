//! From counts at each look to lines over time.

use pipeprof_profiler::meter::Point;

use super::shell::{Chart, Series, Unit};
use crate::ledger::PipeSummary;
use crate::words::units::{duration, percent, throughput};

/// The most points of a line: as many as a chart has room for.
const MOST: f64 = 160.0;

/// A step is so many looks long, so that most steps hold one.
const LOOKS: f64 = 1.5;

/// Throughput and fill of a pipe; `None` where nobody looked often enough to draw a line.
pub(super) fn chart(pipe: &PipeSummary, elapsed_ns: u64) -> Option<Chart> {
    let longest = [&pipe.over_time, &pipe.fill_over_time].into_iter().filter_map(|p| p.last());
    let until = longest.map(|point| point.at_ns).max()?.min(elapsed_ns.max(1));
    let slowest = spacing(&pipe.over_time).max(spacing(&pipe.fill_over_time));
    let step_ns = (until as f64 / MOST).max(LOOKS * slowest);
    let steps = (until as f64 / step_ns).floor() as usize;
    if steps < 3 {
        return None;
    }
    let edge = |step: usize| (step as f64 * step_ns) as u64;
    let seconds = (0..steps).map(|step| (step as f64 + 0.5) * step_ns / 1e9).collect();
    let mut chart = Chart { seconds, ..Chart::default() };
    let mut caption = Vec::new();
    if pipe.over_time.len() > 2 {
        let rates: Vec<Option<f64>> = (0..steps)
            .map(|step| {
                let (from, to) = (edge(step), edge(step + 1));
                let moved = count_at(&pipe.over_time, to)? - count_at(&pipe.over_time, from)?;
                Some(moved.max(0.0) * 1e9 / step_ns)
            })
            .collect();
        let known: Vec<f64> = rates.iter().copied().flatten().collect();
        let (least, most) = known.iter().fold((f64::MAX, 0f64), |(l, m), &r| (l.min(r), m.max(r)));
        if let (Some(mean), false) = (pipe.bytes_per_second, known.is_empty()) {
            caption.push(format!(
                "{} on average, from {} to {} in steps of {}",
                throughput(mean),
                throughput(least),
                throughput(most),
                duration(step_ns)
            ));
        }
        let label = "throughput".to_owned();
        chart.series.push(Series { label, unit: Unit::BytesPerSecond, values: rates });
    }
    if let Some(capacity) = pipe.capacity_bytes.filter(|bytes| *bytes > 0)
        && pipe.fill_over_time.len() > 2
    {
        let mut at = 0;
        let points = &pipe.fill_over_time;
        let levels = (0..steps).map(|step| {
            let first = at;
            at += points[first..].iter().take_while(|point| point.at_ns < edge(step + 1)).count();
            let found = &points[first..at];
            let sum: u64 = found.iter().map(|point| point.bytes).sum();
            (!found.is_empty())
                .then(|| (100.0 * sum as f64 / found.len() as f64 / capacity as f64).min(100.0))
        });
        let values = levels.collect();
        chart.series.push(Series { label: "fill".to_owned(), unit: Unit::Percent, values });
        if let Some(fill) = &pipe.fill {
            caption.push(format!(
                "full {} and empty {} of the time",
                percent(fill.full_percent),
                percent(fill.empty_percent)
            ));
        }
    }
    chart.caption = caption.join("; ");
    (!chart.series.is_empty()).then_some(chart)
}

/// Mean time between two points.
fn spacing(points: &[Point]) -> f64 {
    match points {
        [first, .., last] => {
            last.at_ns.saturating_sub(first.at_ns) as f64 / (points.len() - 1) as f64
        }
        _ => 0.0,
    }
}

/// What was counted by then, between two looks in proportion; nothing had been at the start.
/// `None` after the last look.
fn count_at(points: &[Point], at_ns: u64) -> Option<f64> {
    let next = points.iter().position(|point| point.at_ns >= at_ns)?;
    let after = points[next];
    let before = if next == 0 { Point { at_ns: 0, bytes: 0 } } else { points[next - 1] };
    let width = after.at_ns.saturating_sub(before.at_ns);
    if width == 0 {
        return Some(after.bytes as f64);
    }
    let share = at_ns.saturating_sub(before.at_ns) as f64 / width as f64;
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
            [(0, Some(0.0)), (50, Some(500.0)), (150, Some(1000.0)), (250, Some(2000.0))]
        {
            assert_eq!(count_at(&points, at_ns), count, "{at_ns}");
        }
        assert_eq!(count_at(&points, 301), None);
        assert_eq!(count_at(&[], 0), None);
    }
}
