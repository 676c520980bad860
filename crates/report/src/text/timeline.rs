//! Lanes over time in characters: the states of each member, fill and rate of each pipe, what
//! limited.

use std::fmt::Write as _;
use std::io::Write;

use super::{Style, marker, write_headline, write_subject};
use crate::error::Error;
use crate::facts::lanes::{Lanes, MemberLane, PipeLane, State};
use crate::summary::{MemberSummary, Summary};
use crate::words::layout::{GREY, cut_with, padded};
use crate::words::units::{bytes, percent, throughput};
use crate::words::{lanes as words, name};

/// The most lanes of members in one picture.
const MOST_MEMBERS: usize = 20;

/// Columns right of the lanes: `limits 100 %`, `≤1023.9 MiB/s`.
const NOTE: usize = 15;

/// How many columns the lanes have in this style.
pub fn columns(summary: &Summary, style: Style) -> usize {
    let names = summary.members.iter().filter(|member| member.uses_pipes());
    let longest = names.map(|member| name::short(member.end, &member.comm).chars().count()).max();
    let taken = label_columns(longest.unwrap_or(0), style) + NOTE;
    style.columns.saturating_sub(taken).max(10)
}

/// Mark, number and name.
fn label_columns(longest: usize, style: Style) -> usize {
    let most = if style.columns < 76 { 8 } else { 15 };
    4 + longest.clamp(6, most) + 1
}

/// Writes the verdict and the lanes.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn timeline(summary: &Summary, style: Style, mut out: impl Write) -> Result<(), Error> {
    let mut text = String::new();
    write_headline(&mut text, summary, style);
    write_subject(&mut text, summary, style);
    match &summary.timeline {
        Some(lanes) => Drawing::of(summary, lanes, style).draw(&mut text),
        None => text.push_str(&style.wrap(NOTHING, 0)),
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

const NOTHING: &str = "no timeline: the recording has no thread states over time (pipeprof record \
                       stores them, perf record does not)";

struct Drawing<'a> {
    summary: &'a Summary,
    lanes: &'a Lanes,
    style: Style,
    members: Vec<(&'a MemberLane, &'a MemberSummary)>,
    pipes: Vec<&'a PipeLane>,
    label: usize,
}

impl<'a> Drawing<'a> {
    fn of(summary: &'a Summary, lanes: &'a Lanes, style: Style) -> Self {
        let members = words::shown(lanes, summary, MOST_MEMBERS);
        let pipes = words::pipes_between(lanes, &members);
        let names = members.iter().map(|(_, m)| name::short(m.end, &m.comm).chars().count());
        let label = label_columns(names.max().unwrap_or(0), style);
        Drawing { summary, lanes, style, members, pipes, label }
    }

    fn draw(&self, text: &mut String) {
        text.push('\n');
        self.phases(text);
        let mut drawn = vec![false; self.pipes.len()];
        for (at, (lane, member)) in self.members.iter().enumerate() {
            self.member(text, at, lane, member);
            for (pipe, of) in self.pipes.iter().enumerate() {
                if of.writers.contains(&lane.pid) && !std::mem::replace(&mut drawn[pipe], true) {
                    self.pipe(text, pipe, of);
                }
            }
        }
        self.limit(text);
        self.axis(text);
        let left_out = self.lanes.members.len() - self.members.len();
        if left_out > 0 && self.summary.only.is_empty() {
            let _ = writeln!(text, "  and {left_out} more members that limit less");
        }
        self.legend(text);
    }

    /// A lane with its label and its note. `line` has no more columns than there are.
    fn row(&self, text: &mut String, label: &str, line: &str, drawn: usize, note: &str) {
        let gap = " ".repeat(self.lanes.columns.saturating_sub(drawn));
        let label = cut_with(label, self.label, if self.style.ascii { "~" } else { "…" });
        let row = format!("{}{line}{gap} {note}", padded(&label, self.label));
        let _ = writeln!(text, "{}", row.trim_end());
    }

    /// The number of each phase where it begins, with what limits it.
    fn phases(&self, text: &mut String) {
        let phases = self.summary.phases();
        if phases.len() < 2 {
            return;
        }
        let edge = if self.style.ascii { '|' } else { '│' };
        let mut line = String::new();
        let column =
            |ns: u64| ((ns as f64 / self.lanes.column_ns).round() as usize).min(self.lanes.columns);
        for (at, phase) in phases.iter().enumerate() {
            let (from, until) = (column(phase.from_ns), column(phase.until_ns));
            let mark = if at == 0 { String::new() } else { edge.to_string() };
            let words = format!("{mark}{} {}", at + 1, words::phase(self.summary, phase));
            let dots = if self.style.ascii { "~" } else { "…" };
            let words = cut_with(&words, until.saturating_sub(from), dots);
            line.push_str(&padded(&words, until.saturating_sub(from)));
        }
        self.row(text, "phase", &self.style.heading(&line), self.lanes.columns, "");
    }

    fn member(&self, text: &mut String, at: usize, lane: &MemberLane, member: &MemberSummary) {
        let blamed = self.summary.limiting();
        let mark = marker(blamed.contains(&lane.pid), self.style);
        let called = name::short(member.end, &member.comm);
        let label = format!("{mark} {} {called}", number(at));
        let mut spread = Spread::default();
        let states = lane.cells.iter().map(|cell| {
            let there: f64 = cell.shares.iter().sum();
            let [a, b, c, d, e] = cell.shares;
            spread.next([a, b, c, d, e, (1.0 - there).max(0.0)])
        });
        let line = self.coloured(states.map(|state| State::ALL.get(state).copied()));
        let note = limits_note(lane.limits);
        self.row(text, &label, &line, self.lanes.columns, &note);
    }

    /// States as characters, with one escape a stretch.
    fn coloured(&self, states: impl Iterator<Item = Option<State>>) -> String {
        let mut line = String::new();
        let mut stretch: (Option<State>, String) = (None, String::new());
        let mut flush = |(state, text): &mut (Option<State>, String)| {
            let escape = state.map_or("", colour);
            let done = std::mem::take(text);
            match (done.is_empty(), escape.is_empty()) {
                (true, _) => {}
                (_, true) => line.push_str(&done),
                _ => line.push_str(&self.style.escaped(escape, &done)),
            }
        };
        for state in states {
            if state != stretch.0 {
                flush(&mut stretch);
                stretch.0 = state;
            }
            stretch.1.push(state.map_or(' ', |state| glyph(state, self.style)));
        }
        flush(&mut stretch);
        line
    }

    fn pipe(&self, text: &mut String, at: usize, lane: &PipeLane) {
        let most = lane.bytes_per_second.iter().flatten().copied().fold(0.0, f64::max);
        let limits = lane.limits.iter().sum::<f64>() / self.lanes.columns as f64;
        let letter = letter(at);
        let share = limits_note(limits);
        let capacity = lane.capacity_bytes.map(|capacity| format!("of {}", bytes(capacity as f64)));
        let mut rows = Vec::new();
        if lane.fill.iter().any(Option::is_some) {
            let line = self.heights(lane.fill.iter().copied());
            rows.push(("fill", line, capacity.unwrap_or_default()));
        }
        if most > 0.0 {
            let rates = lane.bytes_per_second.iter().map(|rate| Some((*rate)? / most));
            let rate = throughput(most);
            rows.push(("rate", self.heights(rates), format!("≤{rate}")));
        }
        if rows.is_empty() {
            rows.push(("pipe", String::new(), String::new()));
        }
        for (row, (what, line, note)) in rows.into_iter().enumerate() {
            let label = match row {
                0 => format!("    {letter} {what}"),
                _ => format!("      {what}"),
            };
            let note = if row == 0 && !share.is_empty() { share.clone() } else { note };
            let note = if self.style.ascii { note.replace('≤', "<=") } else { note };
            let drawn = line.chars().count();
            let line = self.style.escaped("36", &line);
            self.row(text, &label, &line, drawn, &note);
        }
    }

    /// Shares as heights: a blank of 0, a question mark where nothing is known between what is.
    fn heights(&self, shares: impl Iterator<Item = Option<f64>>) -> String {
        let levels: Vec<char> =
            if self.style.ascii { "_.-=+*%#" } else { "▁▂▃▄▅▆▇█" }.chars().collect();
        let level = |share: Option<f64>| match share {
            None => ' ',
            Some(share) if share < 0.005 => ' ',
            Some(share) => levels[((share * 8.0).ceil() as usize).clamp(1, 8) - 1],
        };
        shares.map(level).collect()
    }

    /// By column what limits it: the number of a member, the letter of a pipe.
    fn limit(&self, text: &mut String) {
        let mut who: Vec<(char, Vec<f64>)> = Vec::new();
        for (at, (lane, _)) in self.members.iter().enumerate() {
            who.push((number(at), lane.cells.iter().map(|cell| cell.limits).collect()));
        }
        for (at, lane) in self.pipes.iter().enumerate() {
            who.push((letter(at), lane.limits.clone()));
        }
        who.push(('+', self.lanes.cpus.clone()));
        // '?' is what is not shown or unknown, and a blank is a column without members.
        let sum = |column: usize, who: &[(char, Vec<f64>)]| -> f64 {
            who.iter().map(|(_, shares)| shares[column]).sum()
        };
        let others = (0..self.lanes.columns).map(|column| {
            let members = self.lanes.members.iter().map(|lane| lane.cells[column].limits);
            let pipes = self.lanes.pipes.iter().map(|lane| lane.limits[column]);
            let all: f64 = members.chain(pipes).sum();
            let told = sum(column, &who) - self.lanes.cpus[column];
            (all - told).max(0.0) + self.lanes.unknown[column]
        });
        let others = others.collect();
        who.push(('?', others));
        let nobody = (0..self.lanes.columns).map(|column| (1.0 - sum(column, &who)).max(0.0));
        let nobody = nobody.collect();
        who.push((' ', nobody));
        let mut spread = vec![0.0; who.len()];
        let line: String = (0..self.lanes.columns)
            .map(|column| {
                for (sum, (_, shares)) in spread.iter_mut().zip(&who) {
                    *sum += shares[column];
                }
                let most = (0..who.len()).max_by(|&a, &b| spread[a].total_cmp(&spread[b]));
                let most = most.unwrap_or(0);
                spread[most] -= 1.0;
                who[most].0
            })
            .collect();
        self.row(text, "  limit", &self.style.escaped("1;31", &line), self.lanes.columns, "");
    }

    fn axis(&self, text: &mut String) {
        let until = self.lanes.column_ns * self.lanes.columns as f64;
        let mut line = String::new();
        for (ns, words) in words::ticks(until, (self.lanes.columns / 11).max(1)) {
            let at = (ns / self.lanes.column_ns).round() as usize;
            let words = format!("{}{words}", if self.style.ascii { '|' } else { '╵' });
            if at < line.chars().count() || at + words.chars().count() > self.lanes.columns + NOTE {
                continue;
            }
            line = padded(&line, at) + &words;
        }
        let drawn = line.chars().count();
        self.row(text, "", &self.style.remark(&line), drawn, "");
    }

    fn legend(&self, text: &mut String) {
        let mut room = self.style.columns;
        for (at, state) in State::ALL.into_iter().enumerate() {
            // Escapes take no room.
            let taken = words::state(state).chars().count() + if at == 0 { 2 } else { 4 };
            let gap = match at {
                0 => "",
                _ if taken > room => "\n",
                _ => "  ",
            };
            room = if gap == "\n" { self.style.columns } else { room }.saturating_sub(taken);
            let sample = self.style.escaped(colour(state), &glyph(state, self.style).to_string());
            let _ = write!(text, "{gap}{sample} {}", words::state(state));
        }
        text.push('\n');
        let mut limit = "limit: the number of a member, the letter of a pipe".to_owned();
        if self.lanes.cpus.iter().any(|share| *share > 0.0) {
            limit += ", + the CPUs";
        }
        if self.lanes.unknown.iter().any(|share| *share > 0.0)
            || self.members.len() < self.lanes.members.len()
        {
            limit += ", ? others";
        }
        text.push_str(&self.style.wrapped(GREY, &limit, 2));
    }
}

/// Where states alternate within columns, the columns alternate in the same proportion: the
/// remainder of a column counts for the next.
#[derive(Debug, Default)]
struct Spread([f64; 6]);

impl Spread {
    fn next(&mut self, shares: [f64; 6]) -> usize {
        for (sum, share) in self.0.iter_mut().zip(shares) {
            *sum += share;
        }
        let mut most = 0;
        for at in 1..6 {
            if self.0[at] > self.0[most] {
                most = at;
            }
        }
        self.0[most] -= 1.0;
        most
    }
}

fn limits_note(share: f64) -> String {
    if share < 0.005 { String::new() } else { format!("limits {}", percent(100.0 * share)) }
}

/// 1 to 9, then letters.
fn number(at: usize) -> char {
    "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars().nth(at).unwrap_or('?')
}

fn letter(at: usize) -> char {
    "abcdefghijklmnopqrstuvwxyz".chars().nth(at).unwrap_or('~')
}

fn glyph(state: State, style: Style) -> char {
    let (wide, ascii) = match state {
        State::Busy => ('█', '#'),
        State::NoCpu => ('▚', '%'),
        State::Data => ('▒', 'd'),
        State::Space => ('▓', 's'),
        State::Outside => ('·', '.'),
    };
    if style.ascii { ascii } else { wide }
}

fn colour(state: State) -> &'static str {
    match state {
        State::Busy => "32",
        State::NoCpu => "35",
        State::Data => "34",
        State::Space => "33",
        State::Outside => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_alternate_as_the_states_within_them_do() {
        let mut spread = Spread::default();
        let drawn: Vec<usize> =
            (0..100).map(|_| spread.next([0.7, 0.0, 0.2, 0.1, 0.0, 0.0])).collect();
        for (state, share) in [(0, 70), (2, 20), (3, 10)] {
            let found = drawn.iter().filter(|&&of| of == state).count();
            assert!(found.abs_diff(share) <= 1, "{state}: {found}");
        }
        let mut spread = Spread::default();
        let mut line = |shares| (0..10).map(|_| spread.next(shares)).collect::<Vec<_>>();
        assert_eq!(line([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), [0; 10]);
        assert_eq!(line([0.0, 0.0, 0.0, 1.0, 0.0, 0.0]), [3; 10]);
    }
}
