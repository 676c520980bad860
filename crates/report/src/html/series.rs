//! Turns counts at each look into lines over time.

use super::shell::{Chart, Series, Unit};
use crate::facts::over_time::{self, Columns};
use crate::ledger::PipeSummary;
use crate::words::units::{duration, percent, throughput};

/// The most points of a line: as many as a chart has room for.
const MOST: f64 = 160.0;

/// A step is so many looks long, so that most steps hold one.
const LOOKS: f64 = 1.5;

/// Throughput and fill of a pipe; `None` if there are too few looks to draw a line.
pub(super) fn chart(pipe: &PipeSummary, elapsed_ns: u64) -> Option<Chart> {
    let longest = [&pipe.over_time, &pipe.fill_over_time].into_iter().filter_map(|p| p.last());
    let until = longest.map(|point| point.at_ns).max()?.min(elapsed_ns.max(1));
    let slowest = over_time::spacing(&pipe.over_time).max(over_time::spacing(&pipe.fill_over_time));
    let step_ns = (until as f64 / MOST).max(LOOKS * slowest);
    let steps = (until as f64 / step_ns).floor() as usize;
    if steps < 3 {
        return None;
    }
    let columns = Columns { from_ns: 0.0, step_ns, count: steps };
    let seconds = (0..steps).map(|step| (step as f64 + 0.5) * step_ns / 1e9).collect();
    let mut chart = Chart { seconds, ..Chart::default() };
    let mut caption = Vec::new();
    if pipe.over_time.len() > 2 {
        let rates = over_time::rates(&pipe.over_time, columns);
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
        let levels = over_time::levels(&pipe.fill_over_time, capacity, columns);
        let values = levels.into_iter().map(|level| level.map(|share| 100.0 * share)).collect();
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
