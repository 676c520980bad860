//! The pipeline over time: a lane for each member and each pipe, with the phases across them, drawn
//! on the width of the page. A script adds zoom and hover; without it the picture is whole.

use std::fmt::Write as _;

use serde::Serialize;

use super::bars;
use crate::facts::lanes::{Lanes, MemberLane, PipeLane, State};
use crate::markup::Markup;
use crate::summary::{ByPid, MemberSummary, Summary};
use crate::words::lanes as words;
use crate::words::units::{bytes, percent, throughput};

/// The most lanes of members in one picture.
const MOST_MEMBERS: usize = 24;

/// Times below the lanes; a narrow page shows every second one.
const MOST_TICKS: usize = 9;

const PHASES: u32 = 26;
const NAME: u32 = 17;
const TRACK: u32 = 20;
const STRIP: u32 = 7;
const PIPE: u32 = 22;
const GAP: u32 = 9;
const AXIS: u32 = 20;

/// The data of the script: what is said of a column.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Readings {
    /// Seconds that all columns are.
    seconds: f64,
    columns: usize,
    lanes: Vec<Reading>,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Reading {
    name: String,
    /// Where it is in the picture.
    top: u32,
    bottom: u32,
    rows: Vec<Row>,
}

/// One kind of value of a lane.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    label: &'static str,
    /// `percent` or `bytes_per_second`.
    unit: &'static str,
    values: Vec<Option<i64>>,
}

/// The picture, and what its script says at each column; `None` without lanes.
pub(super) fn lanes(summary: &Summary) -> Option<(Markup, Readings)> {
    let lanes = summary.timeline.as_ref()?;
    let mut drawing = Drawing {
        summary,
        by_pid: summary.by_pid(),
        lanes,
        svg: Markup::new(),
        y: 0,
        readings: Vec::new(),
    };
    drawing.phases();
    let members = words::shown(lanes, summary, MOST_MEMBERS);
    let mut left = words::pipes_between(lanes, &members);
    for (lane, member) in &members {
        drawing.member(lane, member);
        for pipe in left.extract_if(.., |pipe| pipe.writers.contains(&lane.pid)) {
            drawing.pipe(pipe);
        }
    }
    if lanes.cpus.iter().sum::<f64>() >= 0.005 * lanes.columns as f64 {
        drawing.cpus();
    }
    let bottom = drawing.y;
    drawing.cuts(bottom);
    drawing.axis();
    let seconds = drawing.seconds();
    let Drawing { svg, y, readings, .. } = drawing;
    let mut html = Markup::new();
    html.raw("<figure class=\"timeline\">").append(&legend(lanes));
    html.raw("<svg class=\"lanes\" width=\"100%\" role=\"img\" tabindex=\"0\"")
        .attribute("height", y)
        .attribute("aria-label", spoken(summary, lanes, &members))
        .raw(">")
        .append(&svg)
        .raw("</svg><p class=\"reading\" aria-live=\"polite\">")
        .raw("<output class=\"told\"></output>")
        .raw("<button type=\"button\" class=\"whole\" hidden>Whole time</button></p></figure>");
    Some((html, Readings { seconds, columns: lanes.columns, lanes: readings }))
}

struct Drawing<'a> {
    summary: &'a Summary,
    by_pid: ByPid<'a>,
    lanes: &'a Lanes,
    svg: Markup,
    y: u32,
    readings: Vec<Reading>,
}

impl Drawing<'_> {
    fn seconds(&self) -> f64 {
        self.lanes.column_ns * self.lanes.columns as f64 / 1e9
    }

    /// A time as a share of the width.
    fn place(&self, ns: f64) -> f64 {
        100.0 * (ns / (self.lanes.column_ns * self.lanes.columns as f64)).clamp(0.0, 1.0)
    }

    fn phases(&mut self) {
        let phases = self.summary.phases();
        if phases.len() < 2 {
            return;
        }
        for (at, phase) in phases.iter().enumerate() {
            let (from, until) = (phase.from_ns as f64, phase.until_ns as f64);
            let (x, end) = (self.place(from), self.place(until));
            let words = format!("{} {}", at + 1, words::phase(self.summary, phase));
            self.svg
                .raw("<svg class=\"phase\"")
                .attribute("data-from", from / 1e9)
                .attribute("data-until", until / 1e9)
                .attribute("x", format_args!("{x:.3}%"))
                .attribute("width", format_args!("{:.3}%", (end - x).max(0.0)))
                .attribute("height", PHASES - 6)
                .raw("><title>")
                .text(format_args!("phase {words} of it"))
                .raw("</title><rect width=\"100%\" height=\"100%\"/><text x=\"5\" y=\"14\">")
                .text(words)
                .raw("</text></svg>");
        }
        self.y = PHASES;
    }

    /// Lines where phases meet.
    fn cuts(&mut self, bottom: u32) {
        let phases = self.summary.phases();
        for phase in phases.iter().skip(1) {
            let x = self.place(phase.from_ns as f64);
            self.svg
                .raw("<line class=\"cut\" y1=\"0\"")
                .attribute("data-at", phase.from_ns as f64 / 1e9)
                .attribute("x1", format_args!("{x:.3}%"))
                .attribute("x2", format_args!("{x:.3}%"))
                .attribute("y2", bottom - GAP / 2)
                .raw("/>");
        }
    }

    /// `more` is for a page that is wide enough.
    fn heading(&mut self, name: &str, more: &str, note: &str, is_blamed: bool) {
        let y = self.y + NAME - 5;
        self.svg
            .raw("<text")
            .attribute("class", if is_blamed { "name blamed" } else { "name" })
            .attribute("y", y)
            .raw(">")
            .text(name)
            .raw("</text>");
        if !note.is_empty() || !more.is_empty() {
            self.svg
                .raw("<text x=\"100%\" text-anchor=\"end\"")
                .attribute("class", if is_blamed { "note blamed" } else { "note" })
                .attribute("y", y)
                .raw("><tspan class=\"more\">")
                .text(more)
                .text(if more.is_empty() || note.is_empty() { "" } else { ", " })
                .raw("</tspan>")
                .text(note)
                .raw("</text>");
        }
        self.y += NAME;
    }

    /// What is stretched to the width of the page, so many columns wide and 100 high.
    fn track(&mut self, class: &'static str, height: u32, inside: &Markup) {
        self.svg
            .raw("<svg preserveAspectRatio=\"none\" width=\"100%\"")
            .attribute("class", class)
            .attribute("y", self.y)
            .attribute("height", height)
            .attribute("viewBox", format_args!("0 0 {} 100", self.lanes.columns))
            .raw("><rect class=\"ground\" height=\"100\"")
            .attribute("width", self.lanes.columns)
            .raw("/>")
            .append(inside)
            .raw("</svg>");
        self.y += height;
    }

    fn read(&mut self, name: String, top: u32, rows: Vec<Row>) {
        self.readings.push(Reading { name, top, bottom: self.y, rows });
        self.y += GAP;
    }

    fn member(&mut self, lane: &MemberLane, member: &MemberSummary) {
        let top = self.y;
        let blamed = self.summary.limiting();
        let limits = limits(lane.limits);
        self.heading(&bars::name(member), "", &limits, blamed.contains(&lane.pid));
        let columns = lane.cells.len();
        let mut lower = vec![0.0; columns];
        let (mut paths, mut rows) = (Markup::new(), Vec::new());
        for (at, state) in State::ALL.into_iter().enumerate() {
            let shares: Vec<f64> = lane.cells.iter().map(|cell| cell.shares[at]).collect();
            let upper: Vec<f64> = lower.iter().zip(&shares).map(|(a, b)| a + b).collect();
            if shares.iter().any(|share| *share >= 0.005) {
                paths.raw("<path").attribute("class", class(state));
                paths.attribute("d", area(&lower, &upper)).raw("/>");
                rows.push(Row::percents(words::state(state), shares.into_iter().map(Some)));
            }
            lower = upper;
        }
        self.track("track", TRACK, &paths);
        let shares: Vec<f64> = lane.cells.iter().map(|cell| cell.limits).collect();
        self.strip(&shares);
        rows.push(Row::percents("limits", shares.into_iter().map(Some)));
        self.read(bars::name(member), top, rows);
    }

    /// When something limits.
    fn strip(&mut self, shares: &[f64]) {
        let mut path = Markup::new();
        if shares.iter().any(|share| *share >= 0.005) {
            path.raw("<path class=\"limit\"");
            path.attribute("d", area(&vec![0.0; shares.len()], shares)).raw("/>");
        }
        self.track("strip", STRIP, &path);
    }

    fn pipe(&mut self, lane: &PipeLane) {
        let top = self.y;
        let most = lane.bytes_per_second.iter().flatten().copied().fold(0.0, f64::max);
        let has_fill = lane.fill.iter().any(Option::is_some);
        let name = |pids: &[i32]| -> String {
            let known = pids.iter().filter_map(|pid| {
                let member = self.by_pid.get(*pid)?;
                Some(crate::words::name::short(member.end, &member.comm))
            });
            known.collect::<Vec<_>>().join(", ")
        };
        let called = format!("{} → {}", name(&lane.writers), name(&lane.readers));
        let share = lane.limits.iter().sum::<f64>() / self.lanes.columns as f64;
        let mut notes = Vec::new();
        if let (true, Some(capacity)) = (has_fill, lane.capacity_bytes) {
            notes.push(format!("fill of {}", bytes(capacity as f64)));
        }
        if most > 0.0 {
            notes.push(format!("throughput (line) up to {}", throughput(most)));
        }
        self.heading(&called, &notes.join(", "), &limits(share), false);
        let (mut paths, mut rows) = (Markup::new(), Vec::new());
        if has_fill {
            let levels: Vec<f64> = lane.fill.iter().map(|level| level.unwrap_or(0.0)).collect();
            paths.raw("<path class=\"fill\"");
            paths.attribute("d", area(&vec![0.0; levels.len()], &levels)).raw("/>");
            rows.push(Row::percents("fill", lane.fill.iter().copied()));
        }
        if most > 0.0 {
            paths.raw("<path class=\"rate\" vector-effect=\"non-scaling-stroke\"");
            paths.attribute("d", steps(&lane.bytes_per_second, most)).raw("/>");
            rows.push(Row {
                label: "throughput",
                unit: "bytes_per_second",
                values: lane.bytes_per_second.iter().map(|r| r.map(|r| r as i64)).collect(),
            });
        }
        self.track("track pipe", PIPE, &paths);
        if share >= 0.005 {
            self.strip(&lane.limits);
            rows.push(Row::percents("limits", lane.limits.iter().copied().map(Some)));
        }
        self.read(called, top, rows);
    }

    fn cpus(&mut self) {
        let top = self.y;
        let share = self.lanes.cpus.iter().sum::<f64>() / self.lanes.columns as f64;
        self.heading("the CPUs", "", &limits(share), false);
        self.strip(&self.lanes.cpus.clone());
        let rows = vec![Row::percents("limit", self.lanes.cpus.iter().copied().map(Some))];
        self.read("the CPUs".to_owned(), top, rows);
    }

    fn axis(&mut self) {
        let until = self.lanes.column_ns * self.lanes.columns as f64;
        self.svg.raw("<g class=\"axis\"").attribute("data-y", self.y + 10).raw(">");
        for (at, (ns, words)) in words::ticks(until, MOST_TICKS).into_iter().enumerate() {
            let x = self.place(ns);
            // The last one would be cut off at the edge.
            let anchor = match x {
                ..1.0 => "start",
                96.0.. => "end",
                _ => "middle",
            };
            self.svg
                .raw("<text")
                .attribute("class", if at % 2 == 1 { "tick odd" } else { "tick" })
                .attribute("x", format_args!("{x:.3}%"))
                .attribute("y", self.y + 10)
                .attribute("text-anchor", anchor)
                .raw(">")
                .text(words)
                .raw("</text>");
        }
        self.svg.raw("</g>");
        self.y += AXIS;
    }
}

impl Row {
    fn percents(label: &'static str, shares: impl Iterator<Item = Option<f64>>) -> Row {
        let whole = |share: Option<f64>| share.map(|share| (100.0 * share).round() as i64);
        Row { label, unit: "percent", values: shares.map(whole).collect() }
    }
}

fn limits(share: f64) -> String {
    match share {
        share if share < 0.005 => String::new(),
        share => format!("limits {} of the time", percent(100.0 * share)),
    }
}

/// The class of a state's area, and of its key.
fn class(state: State) -> &'static str {
    match state {
        State::Busy => "busy",
        State::NoCpu => "runnable",
        State::Data => "data",
        State::Space => "space",
        State::Outside => "outside",
    }
}

/// Percent from the top.
fn height(share: f64) -> i64 {
    100 - (100.0 * share.clamp(0.0, 1.0)).round() as i64
}

/// The area between two lines of steps, a unit wide each.
fn area(lower: &[f64], upper: &[f64]) -> String {
    let edge = |values: &[f64], at: usize| height(values[at]);
    let mut path = format!("M0 {}", edge(upper, 0));
    for at in 1..upper.len() {
        if edge(upper, at) != edge(upper, at - 1) {
            let _ = write!(path, "H{at}V{}", edge(upper, at));
        }
    }
    let last = lower.len() - 1;
    let _ = write!(path, "H{}V{}", upper.len(), edge(lower, last));
    for at in (1..lower.len()).rev() {
        if edge(lower, at) != edge(lower, at - 1) {
            let _ = write!(path, "H{at}V{}", edge(lower, at - 1));
        }
    }
    path.push_str("H0Z");
    path
}

/// A line of steps, with gaps where nothing is known.
fn steps(values: &[Option<f64>], most: f64) -> String {
    let mut path = String::new();
    let mut before = None;
    for (at, value) in values.iter().enumerate() {
        let y = value.map(|value| height(value / most));
        match (before, y) {
            (_, None) => {}
            (Some(known), Some(y)) if known == y => {}
            (Some(_), Some(y)) => {
                let _ = write!(path, "V{y}");
            }
            (None, Some(y)) => {
                let _ = write!(path, "M{at} {y}");
            }
        }
        if y.is_some() {
            let _ = write!(path, "H{}", at + 1);
        }
        before = y;
    }
    path
}

fn legend(lanes: &Lanes) -> Markup {
    let mut html = Markup::new();
    html.raw("<figcaption><ul class=\"keys\">");
    for (at, state) in State::ALL.into_iter().enumerate() {
        let is_there = |lane: &MemberLane| lane.cells.iter().any(|cell| cell.shares[at] >= 0.005);
        if lanes.members.iter().any(is_there) {
            html.raw("<li><span>").append(&key(class(state))).text(words::meaning(state));
            html.raw("</span></li>");
        }
    }
    html.raw("<li><span>").append(&key("limit")).raw("limits the pipeline</span></li>");
    html.raw("</ul></figcaption>");
    html
}

fn key(class: &'static str) -> Markup {
    let mut svg = Markup::new();
    svg.raw("<svg class=\"swatch lane\" width=\"14\" height=\"14\" aria-hidden=\"true\"><rect")
        .attribute("class", class)
        .raw(" width=\"14\" height=\"14\"/></svg>");
    svg
}

/// The picture in words, for screen readers.
fn spoken(summary: &Summary, lanes: &Lanes, members: &[(&MemberLane, &MemberSummary)]) -> String {
    let mut lines = words::phase_lines(summary);
    for (lane, member) in members {
        lines.push(format!("{}: {}", bars::name(member), words::cells(&lane.cells)));
    }
    let left_out = lanes.members.len() - members.len();
    if left_out > 0 {
        lines.push(format!("and {left_out} more members"));
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_closed_and_steady_stretches_take_no_room() {
        assert_eq!(area(&[0.0; 4], &[1.0; 4]), "M0 0H4V100H0Z");
        let upper = [1.0, 1.0, 0.5, 0.5];
        assert_eq!(area(&[0.0; 4], &upper), "M0 0H2V50H4V100H0Z");
        assert_eq!(area(&upper, &[1.0; 4]), "M0 0H4V50H2V0H0Z");
    }

    #[test]
    fn a_line_has_gaps_where_nothing_is_known() {
        let values = [Some(10.0), Some(10.0), None, Some(5.0), Some(0.0)];
        assert_eq!(steps(&values, 10.0), "M0 0H1H2M3 50H4V100H5");
        assert_eq!(steps(&[None; 3], 10.0), "");
    }
}
