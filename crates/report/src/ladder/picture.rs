//! `ladder.svg`: all results in one picture. Stages side by side; above, their throughput; below,
//! the cost of each end by role, first to scale and then each bar stretched to the same height, so
//! that cheap stages show their roles too.

use std::io::Write;

use super::shapes::{
    Anchor, BOLD, FAINT, Size, WIDTH, head, line, on_pattern, part, patterns, short, styled, text,
    text_width,
};
use super::standing::{EndStanding, Standing, Standings};
use super::{Ladder, table, words};
use crate::error::Error;
use crate::escape::printable;
use crate::markup::Markup;
use crate::roles::Role;
use crate::words::layout::cut;
use crate::words::units::duration;

const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const NAMES_Y: f64 = 84.0;
/// Throughput.
const SPEED_TOP: f64 = 140.0;
const SPEED_HEIGHT: f64 = 130.0;
/// Costs to scale.
const COST_TOP: f64 = 330.0;
const COST_HEIGHT: f64 = 220.0;
/// Costs stretched.
const SHARE_TOP: f64 = 640.0;
const SHARE_HEIGHT: f64 = 270.0;
const LEGEND_TOP: f64 = SHARE_TOP + SHARE_HEIGHT + 46.0;
const LEGEND_COLUMN: f64 = 150.0;
const ROW: f64 = 18.0;

const LABEL: f64 = 11.0;
/// Inside a bar.
const SMALL: f64 = 10.5;
/// Below this height a part of a bar has no label.
const LEAST_LABELLED: f64 = 12.5;

const AXIS: &str = "stroke=\"#1b1f23\" stroke-width=\"1\"";
const GRID: &str = "stroke=\"#d0d7de\" stroke-width=\"1\"";
const LIMIT: &str = "stroke=\"#1b1f23\" stroke-width=\"1.2\" stroke-dasharray=\"6 4\"";

/// Draws the ladder.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn write_picture(ladder: &Ladder, mut out: impl Write) -> Result<(), Error> {
    out.write_all(draw(ladder, Size::Own).as_str().as_bytes())?;
    Ok(())
}

/// The picture within a page.
pub(super) fn embedded(ladder: &Ladder) -> Markup {
    draw(ladder, Size::Page)
}

fn draw(ladder: &Ladder, size: Size) -> Markup {
    let standings = Standings::of(ladder);
    Picture::new(ladder, &standings).draw(size)
}

struct Picture<'a> {
    ladder: &'a Ladder,
    standings: &'a Standings,
    /// Those that any bar holds.
    roles: Vec<Role>,
    column: f64,
}

impl<'a> Picture<'a> {
    fn new(ladder: &'a Ladder, standings: &'a Standings) -> Self {
        let ends = || standings.standings.iter().flat_map(|standing| &standing.ends);
        let is_held = |role: &Role| ends().any(|end| end.ns_of(*role) > 0.0);
        Picture {
            ladder,
            standings,
            roles: Role::ALL.into_iter().filter(is_held).collect(),
            column: (WIDTH - LEFT - RIGHT) / ladder.entries.len().max(1) as f64,
        }
    }

    fn draw(&self, size: Size) -> Markup {
        let notes = self.notes();
        let legend = self.roles.len().div_ceil(self.legend_columns()) as f64 * ROW;
        let height = LEGEND_TOP + legend + 14.0 + notes.len() as f64 * ROW;
        let title = format!("How fast each stage is, and why: Linux {}", self.ladder.kernel);
        let sentences = words::sentences(self.ladder, self.standings).join("\n");
        let mut svg = head(height, size, &title, &sentences);
        svg.append(&patterns(&self.roles));
        styled(&mut svg, 14.0, 28.0, 18.0, Anchor::Start, BOLD, &title);
        let subtitle = cut(&table::rounds(self.ladder, self.standings), 190);
        styled(&mut svg, 14.0, 48.0, LABEL, Anchor::Start, FAINT, &subtitle);
        self.names(&mut svg);
        self.speeds(&mut svg);
        self.costs(&mut svg);
        self.shares(&mut svg);
        self.legend(&mut svg);
        let mut y = LEGEND_TOP + legend + 14.0;
        for note in notes {
            styled(&mut svg, 14.0, y, LABEL, Anchor::Start, FAINT, &note);
            y += ROW;
        }
        svg.raw("</svg>\n");
        svg
    }

    fn columns(&self) -> impl Iterator<Item = (usize, f64, &'a Standing)> {
        let (column, standings) = (self.column, &self.standings.standings);
        standings
            .iter()
            .enumerate()
            .map(move |(entry, standing)| (entry, LEFT + (entry as f64 + 0.5) * column, standing))
    }

    fn names(&self, svg: &mut Markup) {
        for (entry, x, standing) in self.columns() {
            let name = printable(&self.ladder.entries[entry].name);
            let size = 14.0;
            let fits = (self.column / text_width("x", size)) as usize;
            styled(svg, x, NAMES_Y, size, Anchor::Middle, BOLD, &cut(&name, fits.max(2)));
            let Some(range) = standing.range() else {
                let why = self.ladder.entries[entry].refused.as_deref().unwrap_or("not run");
                let fits = (self.column / text_width("x", LABEL)) as usize;
                text(svg, x, NAMES_Y + 18.0, LABEL, Anchor::Middle, &cut(&printable(why), fits));
                continue;
            };
            let median = standing.gib_per_s.map_or(0.0, |speed| speed.estimate.median);
            let speed = format!("{} GiB/s", table::rate(median));
            styled(svg, x, NAMES_Y + 19.0, 14.0, Anchor::Middle, "", &speed);
            let mut below = range;
            if entry > 0 && standing.of_first.is_some() {
                below = format!("{below} · × {}", table::times(standing.of_first));
            }
            styled(svg, x, NAMES_Y + 35.0, LABEL, Anchor::Middle, FAINT, &below);
        }
    }

    /// On a logarithmic axis, as points: bars would say that their length means something.
    fn speeds(&self, svg: &mut Markup) {
        let limits = self.limits();
        let speeds = self.columns().filter_map(|(_, _, standing)| standing.gib_per_s);
        let values = speeds.flat_map(|speed| [speed.min, speed.max]);
        let values: Vec<f64> = values
            .chain(limits.iter().map(|bandwidth| bandwidth.0))
            .filter(|value| *value > 0.0)
            .collect();
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        if most == 0.0 {
            return;
        }
        let (low, high) = (least.log10().floor(), (most * 1.02).log10().ceil());
        let span = (high - low).max(1.0);
        let y = |rate: f64| SPEED_TOP + SPEED_HEIGHT * (1.0 - (rate.log10() - low) / span);
        axis_title(svg, SPEED_TOP, "GiB/s");
        for decade in low as i32..=(low + span) as i32 {
            let rate = 10f64.powi(decade);
            line(svg, (LEFT, y(rate)), (WIDTH - RIGHT, y(rate)), GRID);
            let label = format!("{rate}");
            text(svg, LEFT - 6.0, y(rate) + 4.0, LABEL, Anchor::End, &label);
        }
        let mut last_label = f64::MAX;
        for (rate, label) in limits {
            line(svg, (LEFT, y(rate)), (WIDTH - RIGHT, y(rate)), LIMIT);
            // Two limits that are near each other have their labels on either side of their lines.
            let above = y(rate) - 4.0;
            let at = if (above - last_label).abs() < LABEL + 2.0 { y(rate) + LABEL } else { above };
            last_label = at;
            let style = " stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\"";
            styled(svg, LEFT + 4.0, at, LABEL, Anchor::Start, style, &label);
        }
        for (_, x, standing) in self.columns() {
            let Some(speed) = standing.gib_per_s else { continue };
            let (top, bottom) = (y(speed.max), y(speed.min));
            let style = "stroke=\"#1b1f23\" stroke-width=\"2\"";
            line(svg, (x, top), (x, bottom), style);
            for edge in [top, bottom] {
                line(svg, (x - 6.0, edge), (x + 6.0, edge), style);
            }
            let middle = y(speed.estimate.median);
            svg.raw("<circle").attribute("cx", format_args!("{x:.1}"));
            svg.attribute("cy", format_args!("{middle:.1}")).raw(" r=\"5\"/>");
        }
        line(svg, (LEFT, SPEED_TOP), (LEFT, SPEED_TOP + SPEED_HEIGHT), AXIS);
    }

    /// Highest first.
    fn limits(&self) -> Vec<(f64, String)> {
        let Some(bandwidth) = &self.ladder.bandwidth else { return Vec::new() };
        let label = |what: &str, rate: f64, where_from: &str| {
            (rate, format!("one thread {what} {where_from}: {} GiB/s", table::rate(rate)))
        };
        let mut limits = vec![
            label("reads", bandwidth.cache.read_gib_per_s, "in cache"),
            label("copies", bandwidth.memory.copy_gib_per_s, "from memory to memory"),
        ];
        limits.sort_by(|a, b| b.0.total_cmp(&a.0));
        limits
    }

    fn costs(&self, svg: &mut Markup) {
        axis_title(svg, COST_TOP - 10.0, "CPU time per GiB");
        let ends = || self.standings.standings.iter().flat_map(|standing| &standing.ends);
        let most = ends().map(|end| end.ns_per_gib).fold(0.0, f64::max);
        let bottom = COST_TOP + COST_HEIGHT;
        for tick in ticks(most) {
            let y = bottom - COST_HEIGHT * tick / most;
            line(svg, (LEFT, y), (WIDTH - RIGHT, y), GRID);
            text(svg, LEFT - 6.0, y + 4.0, LABEL, Anchor::End, &whole_duration(tick));
        }
        self.bars(svg, bottom, &|end| COST_HEIGHT * end.ns_per_gib / most, &|end| {
            duration(end.ns_per_gib)
        });
    }

    fn shares(&self, svg: &mut Markup) {
        axis_title(svg, SHARE_TOP, "the same bars, each stretched to 100 %");
        let bottom = SHARE_TOP + SHARE_HEIGHT;
        for percent in [0, 25, 50, 75, 100] {
            let y = bottom - SHARE_HEIGHT * f64::from(percent) / 100.0;
            line(svg, (LEFT, y), (WIDTH - RIGHT, y), GRID);
            text(svg, LEFT - 6.0, y + 4.0, LABEL, Anchor::End, &format!("{percent} %"));
        }
        self.bars(svg, bottom, &|_| SHARE_HEIGHT, &|_| String::new());
    }

    /// A bar for each end, its roles from the bottom up in the order of the legend.
    fn bars(
        &self,
        svg: &mut Markup,
        bottom: f64,
        height_of: &dyn Fn(&EndStanding) -> f64,
        label_of: &dyn Fn(&EndStanding) -> String,
    ) {
        line(svg, (LEFT, bottom), (WIDTH - RIGHT, bottom), AXIS);
        for (_, middle, standing) in self.columns() {
            if standing.ends.is_empty() {
                let words = if standing.runs > 0 { "not profiled" } else { "" };
                styled(svg, middle, bottom - 8.0, LABEL, Anchor::Middle, FAINT, words);
                continue;
            }
            let share = self.column * 0.88 / standing.ends.len() as f64;
            let width = (share * 0.94).min(150.0);
            let from = middle - share * (standing.ends.len() as f64 - 1.0) / 2.0;
            for (at, end) in standing.ends.iter().enumerate() {
                let x = from + at as f64 * share;
                let height = height_of(end);
                let fits = (share / text_width("x", LABEL)) as usize;
                let name = cut(&printable(&end.name), fits.max(2));
                text(svg, x, bottom + 15.0, LABEL, Anchor::Middle, &name);
                text(svg, x, bottom - height - 5.0, LABEL, Anchor::Middle, &label_of(end));
                self.stack(svg, end, [x, bottom, width, height]);
            }
        }
    }

    fn stack(&self, svg: &mut Markup, end: &EndStanding, [x, bottom, width, height]: [f64; 4]) {
        let mut y = bottom;
        for &role in &self.roles {
            let ns = end.ns_of(role);
            if ns <= 0.0 {
                continue;
            }
            let part_height = height * ns / end.ns_per_gib;
            y -= part_height;
            let percent = 100.0 * ns / end.ns_per_gib;
            let title = format!(
                "{}, {}: {} per GiB, {percent:.1} % of its CPU time",
                printable(&end.name),
                role.label(),
                duration(ns)
            );
            part(svg, [x - width / 2.0, y, width, part_height], role, &title);
            if part_height < LEAST_LABELLED {
                continue;
            }
            let full = format!("{} {percent:.0} %", short(role));
            let label = [full, short(role).to_owned()];
            let fitting = label.iter().find(|label| text_width(label, SMALL) <= width - 3.0);
            if let Some(label) = fitting {
                on_pattern(svg, x, y + part_height / 2.0 + 3.5, SMALL, label);
            }
        }
    }

    fn legend_columns(&self) -> usize {
        ((WIDTH - 14.0) / LEGEND_COLUMN) as usize
    }

    fn legend(&self, svg: &mut Markup) {
        for (at, &role) in self.roles.iter().enumerate() {
            let x = 14.0 + (at % self.legend_columns()) as f64 * LEGEND_COLUMN;
            let y = LEGEND_TOP + (at / self.legend_columns()) as f64 * ROW;
            part(svg, [x, y - 11.0, 16.0, 13.0], role, role.description());
            text(svg, x + 22.0, y, LABEL, Anchor::Start, role.label());
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "points are medians, whiskers the slowest and the fastest run, all without a profiler; \
             bars are CPU time ÷ GiB × share of samples, from separate runs"
                .to_owned(),
        ];
        notes.extend(table::noise(self.ladder, self.standings));
        let spoilt = self.ladder.machine.iter().filter(|fact| fact.remedy.is_some());
        notes.extend(spoilt.map(|fact| printable(&fact.text).into_owned()));
        notes.iter().flat_map(|note| lines(note, 190)).collect()
    }
}

/// Breaks a sentence into lines of so many characters.
fn lines(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn axis_title(svg: &mut Markup, top: f64, words: &str) {
    styled(svg, 14.0, top - 16.0, 12.0, Anchor::Start, BOLD, words);
}

/// From 0 to `most` in three to six round steps.
fn ticks(most: f64) -> Vec<f64> {
    if most <= 0.0 {
        return Vec::new();
    }
    let magnitude = 10f64.powf((most / 3.0).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|of| of * magnitude).into_iter().find(|s| most / s >= 3.0);
    let step = step.unwrap_or(magnitude);
    (0..=(most / step) as u32).map(|at| f64::from(at) * step).collect()
}

/// `0`, `500 ms`, `1.5 s`.
fn whole_duration(ns: f64) -> String {
    let (value, unit) = match ns {
        0.0 => return "0".to_owned(),
        _ if ns >= 1e9 => (ns / 1e9, "s"),
        _ if ns >= 1e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e3, "µs"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}
