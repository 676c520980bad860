//! A sweep as a heat map: darker is faster, in equal steps of the ratio, so that it can be printed
//! in grey. Each cell shows its figure.

use std::io::Write;

use pipeprof_runner::size;

use super::shapes::{Anchor, BOLD, FAINT, Size, WIDTH, head, rect, styled, text, text_width};
use super::standing::Standings;
use super::sweep::{Cell, Sweep};
use super::table;
use crate::error::Error;
use crate::escape::printable;
use crate::markup::Markup;
use crate::words::layout::cut;

const LEFT: f64 = 110.0;
const TOP: f64 = 110.0;
const ROW: f64 = 40.0;
const WIDEST: f64 = 110.0;
const LABEL: f64 = 12.0;

/// Text on a dark and on a light cell.
const WHITE: &str = " fill=\"#ffffff\"";
const BLACK: &str = " fill=\"#1b1f23\"";
/// The lightest and the darkest fill. Black on the one and white on the other can be read.
const LIGHT: [f64; 3] = [240.0, 244.0, 250.0];
const DARK: [f64; 3] = [12.0, 56.0, 110.0];

/// Draws a sweep.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn write_heatmap(sweep: &Sweep, mut out: impl Write) -> Result<(), Error> {
    out.write_all(draw(sweep).as_str().as_bytes())?;
    Ok(())
}

fn draw(sweep: &Sweep) -> Markup {
    let standings = Standings::of(&sweep.ladder);
    let findings = sweep.findings(&standings);
    let (rows, columns) = (sweep.axes.first().map_or(0, |a| a.values.len()), sweep.columns());
    let cell = ((WIDTH - LEFT - 14.0) / columns as f64).min(WIDEST);
    let below = TOP + rows as f64 * ROW;
    let height = below + 90.0 + findings.len() as f64 * 18.0;
    let title = format!("{} in GiB/s: Linux {}", printable(&sweep.subject), sweep.ladder.kernel);
    let mut svg = head(height, Size::Own, &title, &findings.join("\n"));
    svg.raw(
        "<defs><pattern id=\"refused\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
         <rect width=\"8\" height=\"8\" fill=\"#ffffff\"/>\
         <path d=\"M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4\" stroke=\"#999999\"/></pattern></defs>",
    );
    styled(&mut svg, 14.0, 28.0, 18.0, Anchor::Start, BOLD, &title);
    let scale = Scale::of(sweep, &standings);
    axes(&mut svg, sweep, cell);
    for row in 0..rows {
        for column in 0..columns {
            let entry = row * columns + column;
            let place = [LEFT + column as f64 * cell, TOP + row as f64 * ROW, cell, ROW];
            draw_cell(&mut svg, sweep, &standings, entry, place, &scale);
        }
    }
    scale.legend(&mut svg, below + 26.0);
    let mut y = below + 84.0;
    for line in &findings {
        styled(&mut svg, 14.0, y, 11.0, Anchor::Start, FAINT, &cut(line, 200));
        y += 18.0;
    }
    svg.raw("</svg>\n");
    svg
}

fn axes(svg: &mut Markup, sweep: &Sweep, cell: f64) {
    if let Some(rows) = sweep.axes.first() {
        styled(svg, LEFT - 10.0, TOP - 12.0, LABEL, Anchor::End, BOLD, &rows.knob);
        for (row, value) in rows.values.iter().enumerate() {
            let y = TOP + (row as f64 + 0.5) * ROW + 4.0;
            text(svg, LEFT - 10.0, y, LABEL, Anchor::End, &size::exact(*value));
        }
    }
    if let Some(columns) = sweep.axes.get(1) {
        styled(svg, LEFT, TOP - 34.0, LABEL, Anchor::Start, BOLD, &columns.knob);
        for (column, value) in columns.values.iter().enumerate() {
            let x = LEFT + (column as f64 + 0.5) * cell;
            text(svg, x, TOP - 12.0, LABEL, Anchor::Middle, &size::exact(*value));
        }
    }
}

fn draw_cell(
    svg: &mut Markup,
    sweep: &Sweep,
    standings: &Standings,
    entry: usize,
    [x, y, width, height]: [f64; 4],
    scale: &Scale,
) {
    let name = sweep.ladder.entries.get(entry).map_or("", |entry| &entry.name);
    let (fill, ink, words, title) = match sweep.cell(standings, entry) {
        Cell::Measured(estimate) => {
            let range = standings.standings[entry].range().unwrap_or_default();
            let shade = scale.shade(estimate.median);
            let ink = if shade > 0.45 { WHITE } else { BLACK };
            let words = table::rate(estimate.median);
            (colour(shade), ink, words, format!("{name}: {range} GiB/s"))
        }
        Cell::Refused(why) => {
            ("url(#refused)".to_owned(), BLACK, "refused".to_owned(), format!("{name}: {why}"))
        }
        Cell::NotRun => {
            ("#ffffff".to_owned(), BLACK, "not run".to_owned(), format!("{name}: not run"))
        }
    };
    svg.raw("<g>").element("title", title);
    rect(svg, [x, y, width, height], &fill);
    svg.raw(" stroke=\"#ffffff\" stroke-width=\"1.5\"/></g>");
    let size = if text_width(&words, 13.0) < width - 4.0 { 13.0 } else { 10.0 };
    styled(svg, x + width / 2.0, y + height / 2.0 + 4.5, size, Anchor::Middle, ink, &words);
}

/// From the slowest cell to the fastest.
struct Scale {
    slowest: f64,
    fastest: f64,
}

impl Scale {
    fn of(sweep: &Sweep, standings: &Standings) -> Scale {
        let speeds = (0..sweep.ladder.entries.len()).filter_map(|entry| {
            match sweep.cell(standings, entry) {
                Cell::Measured(estimate) => Some(estimate.median),
                _ => None,
            }
        });
        let (slowest, fastest) = speeds.fold((f64::MAX, 0.0), |(low, high): (f64, f64), speed| {
            (low.min(speed), high.max(speed))
        });
        Scale { slowest, fastest }
    }

    /// From 0 to 1.
    fn shade(&self, gib_per_s: f64) -> f64 {
        let span = (self.fastest / self.slowest).ln();
        if span > 0.0 { ((gib_per_s / self.slowest).ln() / span).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn legend(&self, svg: &mut Markup, y: f64) {
        const STEPS: u32 = 40;
        const WIDE: f64 = 320.0;
        if self.fastest == 0.0 {
            return;
        }
        for step in 0..STEPS {
            let share = f64::from(step) / f64::from(STEPS - 1);
            let x = LEFT + WIDE * f64::from(step) / f64::from(STEPS);
            rect(svg, [x, y, WIDE / f64::from(STEPS) + 0.5, 14.0], &colour(share));
            svg.raw("/>");
        }
        for share in [0.0, 0.5, 1.0] {
            let rate = self.slowest * (self.fastest / self.slowest).powf(share);
            let label = format!("{} GiB/s", table::rate(rate));
            text(svg, LEFT + WIDE * share, y + 29.0, 11.0, Anchor::Middle, &label);
        }
    }
}

fn colour(shade: f64) -> String {
    let mix = |at: usize| (LIGHT[at] + (DARK[at] - LIGHT[at]) * shade) as u8;
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}
