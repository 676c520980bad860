//! The comparison on a terminal: the headline, then a table for each member.

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::Mode;

use super::cost::{Basis, Change, Judgement};
use super::matching::MatchedBy;
use super::member::{FunctionChange, MemberDiff, SampledOn};
use super::{Diff, Side, Unit, Which};
use crate::error::Error;
use crate::escape::printable;
use crate::statistics::Sample;
use crate::words::layout::{BOLD, Style, cut};
use crate::words::units::{duration, thousands, throughput};

/// ANSI sequences of what costs more, and less.
const RED: &str = "31";
const BLUE: &str = "34";

/// Functions listed in either direction.
const TOP: usize = 6;
/// Rows below this share of their member on both sides are in JSON only.
const LEAST: f64 = 0.002;

/// Writes the comparison for a person.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render(diff: &Diff, style: Style, mut out: impl Write) -> Result<(), Error> {
    let mut text = style.wrapped(BOLD, &diff.headline, 2) + "\n";
    for (letter, side) in [('A', &diff.a), ('B', &diff.b)] {
        text.push_str(&style.wrap(&about(letter, side), 3));
    }
    if let Some(speed) = &diff.speed
        && let Some(interval) = speed.ratio.interval
    {
        let _ = writeln!(
            text,
            "B ÷ A: {:.2} times the throughput ({:.2} to {:.2}){}",
            speed.ratio.median,
            interval.low,
            interval.high,
            if speed.of_largest_pipe { ", of the largest pipe" } else { "" },
        );
    }
    if let Some(why) = &diff.unit_because {
        text.push_str(&style.wrap(&format!("shares of samples instead of cost per GiB: {why}"), 2));
    }
    if diff.members.len() > 1 {
        text.push('\n');
        let _ = writeln!(text, "{}", style.remark(&Widths::of(style).header("", diff.unit)));
        row(&mut text, diff.unit, "all together", &diff.total, style);
    }
    for member in &diff.members {
        text.push('\n');
        write_member(&mut text, diff.unit, member, style);
    }
    write_rest(&mut text, diff, style);
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn about(letter: char, side: &Side) -> String {
    let mut line = format!("{letter}  {}", cut(&printable(&side.name), 60));
    let rates: Vec<f64> = side.bytes_per_second.iter().flatten().copied().collect();
    if let Some(rates) = Sample::new(rates) {
        let _ = write!(line, ": {}", throughput(rates.median()));
        if rates.min() < rates.max() {
            let (min, max) = (throughput(rates.min()), throughput(rates.max()));
            let _ = write!(line, " ({min} to {max})");
        }
    }
    let runs = side.bytes_per_second.len();
    let runs = if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") };
    let _ = write!(line, ", {runs}, {} samples", thousands(side.samples));
    if side.lost > 0 {
        let _ = write!(line, ", {} lost", thousands(side.lost));
    }
    line
}

/// Columns of a table.
#[derive(Clone, Copy)]
struct Widths {
    label: usize,
    /// Of A, and of B.
    cost: usize,
    difference: usize,
    interval: usize,
    noise: &'static str,
}

const WIDE: Widths =
    Widths { label: 21, cost: 11, difference: 12, interval: 23, noise: "within the noise" };

/// For terminals of 80 columns.
const NARROW: Widths = Widths { label: 17, cost: 9, difference: 10, interval: 20, noise: "noise" };

impl Widths {
    fn of(style: Style) -> Self {
        let Widths { label, cost, difference, interval, noise } = WIDE;
        let wide = 2 + label + 2 * cost + difference + 3 + interval + noise.len();
        if style.columns >= wide { WIDE } else { NARROW }
    }

    /// A label and three costs.
    fn costs(self, label: &str, [a, b, difference]: [&str; 3]) -> String {
        let Widths { label: first, cost, difference: last, .. } = self;
        format!("  {label:<first$}{a:>cost$}{b:>cost$}{difference:>last$}")
    }

    fn header(self, label: &str, unit: Unit) -> String {
        let points = if unit == Unit::Percent { " (points)" } else { "" };
        format!("{}  interval{points}", self.costs(label, ["A", "B", "B − A"]))
    }

    fn judged(self, change: &Change, style: Style) -> String {
        match change.judgement {
            Judgement::Dearer => style.escaped(RED, "dearer"),
            Judgement::Cheaper => style.escaped(BLUE, "cheaper"),
            Judgement::WithinNoise => self.noise.to_owned(),
            Judgement::Unknown => "one run".to_owned(),
        }
    }
}

fn row(text: &mut String, unit: Unit, label: &str, change: &Change, style: Style) {
    let interval = match change.interval {
        Some(interval) => {
            format!("{} to {}", unit.show_signed(interval.low), unit.show_signed(interval.high))
        }
        None => "-".to_owned(),
    };
    let widths = Widths::of(style);
    let _ = writeln!(
        text,
        "{}  {interval:<width$} {}",
        widths.costs(
            label,
            [&unit.show(change.a), &unit.show(change.b), &unit.show_signed(change.difference)]
        ),
        widths.judged(change, style),
        width = widths.interval,
    );
}

fn write_member(text: &mut String, unit: Unit, member: &MemberDiff, style: Style) {
    let (a, b) = (printable(&member.a.comm), printable(&member.b.comm));
    let mut head = match (member.end, member.matched_by) {
        (Some(end), _) => format!("{} {a}", end.as_str()),
        (None, MatchedBy::Place) => format!("{a} in A, {b} in B (by their place)"),
        (None, _) => a.into_owned(),
    };
    let _ = write!(head, ": {}", unit.words());
    let widths = Widths::of(style);
    let _ = writeln!(text, "{}", style.heading(&head));
    let _ = writeln!(text, "{}", style.remark(&widths.header("role", unit)));
    row(text, unit, "all", &member.total, style);
    let least = LEAST * member.total.a.max(member.total.b);
    let matters = |change: &Change| change.a.max(change.b) >= least;
    for role in member.roles.iter().filter(|role| matters(&role.change)) {
        row(text, unit, role.role.label(), &role.change, style);
    }
    write_functions(text, unit, member, style);
    let slept: Vec<_> = member.blocked.iter().filter(|share| matters(&share.change)).collect();
    if !slept.is_empty() || member.runnable.is_some() {
        let _ = writeln!(text, "{}", style.remark(&widths.header("not on a CPU", unit)));
    }
    for share in slept {
        row(text, unit, share.reason.label(), &share.change, style);
    }
    if let Some(runnable) = &member.runnable {
        row(text, unit, "waiting for a CPU", runnable, style);
    }
}

fn write_functions(text: &mut String, unit: Unit, member: &MemberDiff, style: Style) {
    let widths = Widths::of(style);
    for (direction, words) in
        [(Judgement::Cheaper, "cheaper functions"), (Judgement::Dearer, "dearer functions")]
    {
        let all: Vec<&FunctionChange> = member
            .functions
            .iter()
            .filter(|function| function.change.judgement == direction)
            .collect();
        if all.is_empty() {
            continue;
        }
        let header = widths.costs(words, ["A", "B", "B − A"]);
        let _ = writeln!(text, "{}", style.remark(&header));
        for function in all.iter().take(TOP) {
            let change = &function.change;
            let mut name = printable(&function.name).into_owned();
            if function.mode == Mode::User {
                name.push_str(" [user]");
            }
            name.push_str(match function.seen {
                SampledOn::Both => "",
                SampledOn::New => ", new",
                SampledOn::Gone => ", gone",
            });
            let costs = widths.costs(
                "",
                [&unit.show(change.a), &unit.show(change.b), &unit.show_signed(change.difference)],
            );
            let room = style.columns.saturating_sub(costs.chars().count() + 2);
            let _ = writeln!(text, "{costs}  {}", cut(&name, room.clamp(20, 41)));
        }
        if all.len() > TOP {
            let rest: f64 = all[TOP..].iter().map(|function| function.change.difference).sum();
            let more = format!("and {} more", all.len() - TOP);
            let _ = writeln!(text, "{}", widths.costs(&more, ["", "", &unit.show_signed(rest)]));
        }
    }
}

fn write_rest(text: &mut String, diff: &Diff, style: Style) {
    let mut lines = Vec::new();
    // Processes that took almost no time are in JSON only.
    let cpu = |ns: Option<u64>| ns.unwrap_or(0);
    let most = diff.not_compared.iter().map(|out| cpu(out.cpu_time_ns)).max().unwrap_or(0);
    for out in
        diff.not_compared.iter().filter(|out| cpu(out.cpu_time_ns).saturating_mul(20) >= most)
    {
        let side = match out.side {
            Which::A => "in A",
            Which::B => "in B",
            Which::Both => "in both",
        };
        let mut line = format!("not compared: {} ({}) {side}", printable(&out.comm), out.pid);
        if let Some(ns) = out.cpu_time_ns {
            let _ = write!(line, ", {} on CPU", duration(ns as f64));
        }
        let _ = write!(line, ": {}", printable(&out.why));
        lines.push(line);
        if lines.len() == 8 {
            lines.push("and others: see --json".to_owned());
            break;
        }
    }
    lines.push(match basis(diff) {
        Some(Basis::Runs) => format!(
            "A and B are medians of {} runs. B − A compares neighbouring runs, so it may differ \
             from the difference of the medians. Intervals are at 95 %; a difference whose \
             interval includes 0 is within the noise",
            diff.runs
        ),
        _ => "one run of each: intervals (95 %) cover the sampling error, not the variation from \
             run to run. Record both again, or use --runs where pipeprof launches them"
            .to_owned(),
    });
    lines.extend(diff.notes.iter().map(|note| printable(note).into_owned()));
    text.push('\n');
    let _ = writeln!(text, "{}", style.heading("data quality"));
    for line in lines {
        text.push_str(&style.wrap(&format!("  {line}"), 4));
    }
}

fn basis(diff: &Diff) -> Option<Basis> {
    diff.members.iter().flat_map(|member| &member.roles).find_map(|role| role.change.basis)
}
