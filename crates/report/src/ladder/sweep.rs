//! A sweep: one stage with one or two of its sizes at every power of two in a range.

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_runner::size;
use serde::Serialize;

use super::standing::{Standings, compare};
use super::{Ladder, table};
use crate::error::Error;
use crate::escape::printable;
use crate::statistics::Estimate;
use crate::words::layout::Style;

/// A size that is swept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// The flag that sets it, without its dashes: `pipe-size`.
    pub knob: String,
    /// In bytes, ascending.
    pub values: Vec<u64>,
}

/// A ladder whose entries are the cells of a table: of each value of the first axis one for each
/// value of the second.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The stage.
    pub subject: String,
    /// One or two.
    pub axes: Vec<Axis>,
    /// The runs.
    #[serde(flatten)]
    pub ladder: Ladder,
}

/// The result of one cell.
pub(super) enum Cell<'a> {
    Measured(Estimate),
    Refused(&'a str),
    NotRun,
}

impl Sweep {
    /// The sweep as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] where `out` fails.
    pub fn write_json(&self, mut out: impl Write) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            sweep: &'a Sweep,
            standings: Standings,
        }
        let whole = Whole { sweep: self, standings: Standings::of(&self.ladder) };
        serde_json::to_writer_pretty(&mut out, &whole).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    pub(super) fn columns(&self) -> usize {
        self.axes.get(1).map_or(1, |axis| axis.values.len())
    }

    pub(super) fn cell<'a>(&'a self, standings: &Standings, entry: usize) -> Cell<'a> {
        let speed = standings.standings.get(entry).and_then(|standing| standing.gib_per_s);
        let refused = self.ladder.entries.get(entry).and_then(|entry| entry.refused.as_deref());
        match (speed, refused) {
            (Some(speed), _) => Cell::Measured(speed.estimate),
            (None, Some(why)) => Cell::Refused(why),
            (None, None) => Cell::NotRun,
        }
    }

    /// What the sizes do, in sentences.
    pub(super) fn findings(&self, standings: &Standings) -> Vec<String> {
        let mut lines = vec![table::rounds(&self.ladder, standings)];
        let name = |entry: usize| printable(&self.ladder.entries[entry].name).into_owned();
        let speed = |entry: usize| {
            let speed = standings.standings[entry].gib_per_s;
            speed.map_or_else(String::new, |speed| table::rate(speed.estimate.median))
        };
        if let [best, .., worst] = standings.ranking[..] {
            lines.push(format!(
                "fastest {} GiB/s with {}, slowest {} GiB/s with {}",
                speed(best),
                name(best),
                speed(worst),
                name(worst)
            ));
        }
        lines.extend(self.one_page_against_sixteen());
        let mut refusals: Vec<&str> =
            self.ladder.entries.iter().filter_map(|entry| entry.refused.as_deref()).collect();
        refusals.sort_unstable();
        refusals.dedup();
        lines.extend(refusals.iter().map(|why| format!("refused: {}", printable(why))));
        lines
    }

    /// What a pipe of 64 KiB is worth over one of 4 KiB, as pipes were before Linux 2.6.11.
    fn one_page_against_sixteen(&self) -> Option<String> {
        let at = self.axes.iter().position(|axis| axis.knob == "pipe-size")?;
        let place = |bytes: u64| self.axes[at].values.iter().position(|value| *value == bytes);
        let (small, large) = (place(4 << 10)?, place(64 << 10)?);
        let others = self.axes.get(1 - at).map_or(1, |axis| axis.values.len());
        let entry = |size: usize, other: usize| match at {
            0 => size * self.columns() + other,
            _ => other * self.columns() + size,
        };
        let mut ratios: Vec<(f64, usize)> = (0..others)
            .filter_map(|other| {
                let ratio = compare(&self.ladder, entry(small, other), entry(large, other))?;
                Some((ratio.median, other))
            })
            .collect();
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let with = |other: usize| {
            let other = self.axes.get(1 - at).map(|axis| (&axis.knob, axis.values[other]));
            other.map_or_else(String::new, |(knob, value)| {
                format!(" with {knob} {}", size::exact(value))
            })
        };
        let (least, most) = (ratios.first()?, ratios.last()?);
        let mut line =
            format!("a pipe of 64KiB against one of 4KiB: {}{}", change(least.0), with(least.1));
        if ratios.len() > 1 {
            let _ = write!(line, " to {}{}", change(most.0), with(most.1));
        }
        Some(line)
    }
}

/// `+85 %`, and `8.16 times as fast` where percents are no longer read.
fn change(times: f64) -> String {
    if times < 2.0 {
        format!("{:+.0} %", 100.0 * (times - 1.0)).replace('-', "−")
    } else {
        format!("{times:.2} times as fast")
    }
}

/// Writes the table for a person.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render_sweep(sweep: &Sweep, style: Style, mut out: impl Write) -> Result<(), Error> {
    const CELL: usize = 9;
    let standings = Standings::of(&sweep.ladder);
    let mut text = String::new();
    let Some(rows) = sweep.axes.first() else { return Ok(()) };
    let columns = sweep.axes.get(1);
    let mut header = format!("{:<10}", rows.knob);
    match columns {
        Some(axis) => {
            for value in &axis.values {
                let _ = write!(header, "{:>CELL$}", size::exact(*value));
            }
            let _ = write!(header, "  {}", axis.knob);
        }
        None => {
            let _ = write!(header, "{:>CELL$}  min to max", "GiB/s");
        }
    }
    let title = format!("{} in GiB/s", printable(&sweep.subject));
    let _ = writeln!(text, "{}\n{}", style.heading(&title), style.heading(&header));
    for (row, value) in rows.values.iter().enumerate() {
        let _ = write!(text, "{:<10}", size::exact(*value));
        for column in 0..sweep.columns() {
            let entry = row * sweep.columns() + column;
            let cell = match sweep.cell(&standings, entry) {
                Cell::Measured(estimate) => table::rate(estimate.median),
                Cell::Refused(_) => "refused".to_owned(),
                Cell::NotRun => "not run".to_owned(),
            };
            let _ = write!(text, "{cell:>CELL$}");
            if let (None, Some(range)) = (columns, standings.standings[entry].range()) {
                let _ = write!(text, "  {range}");
            }
        }
        text.push('\n');
    }
    text.push('\n');
    for line in sweep.findings(&standings) {
        text.push_str(&style.wrap(&line, 2));
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}
