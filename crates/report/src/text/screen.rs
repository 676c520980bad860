//! The answer on one screen: the verdict, a line for each member, what to try.

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::TimeSplit;

use super::{Style, marker, write_headline, write_subject};
use crate::error::Error;
use crate::summary::{MemberSummary, Summary};
use crate::words::layout::{cut, padded};
use crate::words::units::percent;
use crate::words::{lanes, member, name, pipe, quality};

/// The most lines for members: with the rest of the screen they fill 24 lines.
const MOST_LINES: usize = 10;

/// Writes what fits a screen of 24 lines.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn screen(summary: &Summary, style: Style, mut out: impl Write) -> Result<(), Error> {
    let mut text = String::new();
    if summary.verdict.is_some() {
        write_headline(&mut text, summary, style);
        for line in lanes::phase_lines(summary) {
            text.push_str(&style.wrap(&format!("  {line}"), 4));
        }
        text.push('\n');
    }
    write_subject(&mut text, summary, style);
    members(&mut text, summary, style);
    let remedy = summary.verdict.as_ref().and_then(|verdict| verdict.remedies.first());
    if let Some(remedy) = remedy {
        text.push('\n');
        text.push_str(&style.wrap(&format!("try: {}; {}", remedy.what, remedy.buys), 5));
    }
    let warnings = quality::warnings(summary);
    if !warnings.is_empty() {
        text.push_str(&style.wrap(&format!("data quality: {}", warnings.join("; ")), 4));
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// Members of one name, or one of them.
struct Line<'a> {
    first: &'a MemberSummary,
    count: usize,
    split: TimeSplit,
    cpus: f64,
    is_blamed: bool,
}

/// The pipeline, a line for each member, and one for what else ran.
pub(super) fn members(text: &mut String, summary: &Summary, style: Style) {
    let (shown, rest) = summary.main_members();
    let mut lines = lines(summary, &shown, false);
    if lines.len() > MOST_LINES {
        lines = self::lines(summary, &shown, true);
    }
    let mut left_out: Vec<&MemberSummary> = Vec::new();
    if lines.len() > MOST_LINES {
        let mut by_cpu: Vec<(bool, u64)> =
            lines.iter().map(|line| (line.is_blamed, line.split.on_cpu_ns)).collect();
        by_cpu.sort_unstable_by(|a, b| b.cmp(a));
        let least = by_cpu[MOST_LINES - 1];
        let (kept, cut): (Vec<Line<'_>>, Vec<Line<'_>>) =
            lines.into_iter().partition(|line| (line.is_blamed, line.split.on_cpu_ns) >= least);
        lines = kept;
        lines.truncate(MOST_LINES);
        left_out.extend(
            shown.iter().copied().filter(|m| cut.iter().any(|line| line.first.comm == m.comm)),
        );
    }
    left_out.extend(rest);
    let columns = Columns::of(&lines, style);
    if lines.iter().any(|line| line.first.life.is_some()) {
        columns.header(text, style);
        for line in &lines {
            columns.line(text, summary, line, style);
        }
    } else {
        for line in &lines {
            columns.roles(text, line, style);
        }
    }
    if !left_out.is_empty() {
        let others = cut(&member::others(&left_out), style.columns.saturating_sub(2));
        let _ = writeln!(text, "  {}", style.remark(&others));
    }
}

/// A line for each member; for each name, where they are to be grouped.
fn lines<'a>(summary: &Summary, members: &[&'a MemberSummary], by_name: bool) -> Vec<Line<'a>> {
    let blamed = summary.limiting();
    let mut lines: Vec<Line<'_>> = Vec::new();
    for &member in members {
        let split = member.life_as_one().map(|life| life.split).unwrap_or_default();
        let is_blamed = blamed.contains(&member.pid);
        let cpus = member.cpus.unwrap_or_default();
        match lines.iter_mut().find(|line| by_name && line.first.comm == member.comm) {
            Some(line) => {
                line.count += 1;
                line.cpus += cpus;
                line.is_blamed |= is_blamed;
                line.split = line.split.plus(split);
            }
            None => lines.push(Line { first: member, count: 1, split, cpus, is_blamed }),
        }
    }
    lines
}

impl Line<'_> {
    fn name(&self) -> String {
        let name = name::short(self.first.end, &self.first.comm);
        if self.count > 1 { format!("{name} ×{}", self.count) } else { name }
    }
}

/// How wide the columns are.
struct Columns {
    name: usize,
    /// 0 where there is no room for it.
    pid: usize,
    bar: usize,
    /// Of the shares on CPU, blocked, and runnable.
    shares: [usize; 3],
}

/// Room for how full the input pipe was, behind two blanks.
const INPUT: usize = 2 + "empty 100 %".len();

impl Columns {
    fn of(lines: &[Line<'_>], style: Style) -> Self {
        let longest = lines.iter().map(|line| line.name().chars().count()).max().unwrap_or(0);
        let is_narrow = style.columns < 76;
        let (name, pid, shares) = match is_narrow {
            true => (longest.clamp(6, 10), 0, [9, 10, 11]),
            false => (longest.clamp(6, 15), 9, [9, 11, 12]),
        };
        let numbers = shares.iter().sum::<usize>() + INPUT;
        let room = style.columns.saturating_sub(2 + name + pid + 1 + numbers);
        Columns { name, pid, bar: room.clamp(4, 30), shares }
    }

    fn header(&self, text: &mut String, style: Style) {
        let [busy, blocked, runnable] = glyphs(style);
        let pid = if self.pid == 0 { "" } else { "pid" };
        let header = format!(
            "  {:name$}{pid:>pids$} {:bar$}{:>first$}{:>second$}{:>third$}  {}",
            "member",
            "",
            format!("{busy} on CPU"),
            format!("{blocked} blocked"),
            format!("{runnable} runnable"),
            "input pipe",
            name = self.name,
            pids = self.pid,
            bar = self.bar,
            first = self.shares[0],
            second = self.shares[1],
            third = self.shares[2],
        );
        let _ = writeln!(text, "{}", style.remark(header.trim_end()));
    }

    fn line(&self, text: &mut String, summary: &Summary, line: &Line<'_>, style: Style) {
        let marker = marker(line.is_blamed, style);
        let name = padded(&line.name(), self.name);
        let name = if line.is_blamed { style.heading(&name) } else { name };
        let pid = match (self.pid, line.count) {
            (0, _) | (_, 2..) => String::new(),
            _ => line.first.pid.to_string(),
        };
        let split = &line.split;
        let of_life = |ns: u64| 100.0 * ns as f64 / split.lifetime_ns.max(1) as f64;
        let shares = [split.on_cpu_ns, split.blocked_ns, split.runnable_ns].map(of_life);
        let on_cpu = member::several_cpus(line.cpus).unwrap_or_else(|| percent(shares[0]));
        let line = format!(
            "{marker} {name}{pid:>pids$} {}{on_cpu:>first$}{:>second$}{:>third$}  {}",
            bar(shares, self.bar, style),
            percent(shares[1]),
            percent(shares[2]),
            input(summary, line),
            pids = self.pid,
            first = self.shares[0],
            second = self.shares[1],
            third = self.shares[2],
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }

    /// For members of unknown lifetime: their CPU time by role.
    fn roles(&self, text: &mut String, line: &Line<'_>, style: Style) {
        let member = line.first;
        let mut words = member::samples(member);
        for (at, role) in member.roles.iter().filter(|role| role.percent >= 1.0).take(4).enumerate()
        {
            let separator = if at == 0 { ": " } else { ", " };
            let _ = write!(words, "{separator}{} {}", role.role.label(), percent(role.percent));
        }
        let head = format!("  {} ", padded(&line.name(), self.name));
        text.push_str(&style.wrap(&(head + &words), self.name + 3));
    }
}

fn glyphs(style: Style) -> [char; 3] {
    if style.ascii { ['#', '.', '+'] } else { ['█', '░', '▒'] }
}

/// On CPU, then runnable, then blocked, in so many columns.
pub(super) fn bar([on_cpu, blocked, runnable]: [f64; 3], columns: usize, style: Style) -> String {
    let [busy, asleep, ready] = glyphs(style);
    let whole = on_cpu + blocked + runnable;
    if whole <= 0.0 {
        return " ".repeat(columns);
    }
    let upto = |share: f64| (share / whole * columns as f64).round() as usize;
    let (first, second) = (upto(on_cpu), upto(on_cpu + runnable));
    let part = |glyph: char, count: usize, sequence: &str| {
        let text: String = std::iter::repeat_n(glyph, count).collect();
        if count == 0 { text } else { style.escaped(sequence, &text) }
    };
    part(busy, first, "32")
        + &part(ready, second.saturating_sub(first), "33")
        + &part(asleep, columns.saturating_sub(second.max(first)), "2")
}

/// How full the pipe was that a member reads from.
fn input(summary: &Summary, line: &Line<'_>) -> String {
    match line.first.reads_from[..] {
        [] => String::new(),
        [key] if line.count == 1 => {
            let found = summary.pipes.iter().find(|pipe| pipe.key() == key);
            found.and_then(pipe::fill).unwrap_or_default()
        }
        ref many => format!("{} pipes", many.len().max(line.count)),
    }
}
