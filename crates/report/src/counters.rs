//! The table of `pipeprof stat`: what each member cost, in all and for each GiB of
//! the pipeline's input.

use std::io::{self, Write};

use pipeprof_profiler::counters::{Counter, CounterUnit, CounterValue, MemberCounters};
use serde::Serialize;

use crate::escape::printable;
use crate::ordered::{OrderedMap, OrderedSet};
use crate::words::layout::Style;
use crate::words::units::{self, GIB};

/// The counts of a run.
#[derive(Clone, Debug)]
pub struct CounterReport<'a> {
    /// In pipeline order.
    pub members: Vec<CountedMember<'a>>,
    /// From the gate to the last byte, in nanoseconds; `None` where it was not measured.
    pub elapsed_ns: Option<u64>,
}

/// A member and its counts.
#[derive(Clone, Debug)]
pub struct CountedMember<'a> {
    /// `writer pp-write (4121)`. May hold a process's own words: they are escaped here.
    pub label: &'a str,
    /// Bytes of the pipeline's input; `None` where they could not be measured.
    pub bytes: Option<u64>,
    /// Its counts.
    pub counters: &'a MemberCounters,
}

impl CountedMember<'_> {
    /// A number for each GiB; `None` without bytes, or with none.
    fn per_gib(&self, number: f64) -> Option<f64> {
        self.bytes.filter(|&bytes| bytes > 0).map(|bytes| number / (bytes as f64 / GIB))
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.counters.get(name)?.value.number().map(|number| number as f64)
    }

    /// A ratio of two of its counts; `None` unless both were counted of the same code.
    fn ratio(&self, over: &str, under: &str) -> Option<f64> {
        let same = self.counters.get(over)?.user_only == self.counters.get(under)?.user_only;
        let under = self.number(under).filter(|&under| same && under > 0.0)?;
        Some(self.number(over)? / under)
    }
}

/// Writes the table, two members side by side where the terminal is wide enough.
pub fn write_text(
    report: &CounterReport<'_>,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    let beside = if style.columns >= NAME_WIDTH + 2 * MEMBER_WIDTH { 2 } else { 1 };
    for (index, members) in report.members.chunks(beside).enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write_table(members, report.elapsed_ns, out)?;
    }
    write_notes(&report.members, style, out)
}

const NAME_WIDTH: usize = 20;
const TOTAL_WIDTH: usize = 18;
const PER_GIB_WIDTH: usize = 15;
const MEMBER_WIDTH: usize = TOTAL_WIDTH + PER_GIB_WIDTH;

fn write_table(
    members: &[CountedMember<'_>],
    elapsed_ns: Option<u64>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut head = " ".repeat(NAME_WIDTH);
    let mut second = " ".repeat(NAME_WIDTH);
    for member in members {
        head += &format!(" {:>1$}", printable(member.label), MEMBER_WIDTH - 1);
        let per_gib = if member.bytes.is_some() { "per GiB" } else { "" };
        second += &format!("{:>TOTAL_WIDTH$}{per_gib:>PER_GIB_WIDTH$}", "total  ");
    }
    writeln!(out, "{}", head.trim_end())?;
    writeln!(out, "{}", second.trim_end())?;

    let rows = members.first().map(|member| member.counters.counters.as_slice());
    for Counter { name, .. } in rows.unwrap_or_default() {
        let cells = members.iter().map(|member| match member.counters.get(name) {
            Some(counter) => cells(member, counter),
            None => [String::new(), String::new()],
        });
        write_row(name, cells, out)?;
    }

    let cpus = |member: &CountedMember<'_>| {
        let elapsed = elapsed_ns.filter(|&ns| ns > 0)?;
        Some(format!("{:.2}  ", member.number("task-clock")? / elapsed as f64))
    };
    let ipc = |member: &CountedMember<'_>| {
        Some(format!("{:.2}  ", member.ratio("instructions", "cycles")?))
    };
    let missed = |member: &CountedMember<'_>| {
        Some(format!("{:.2} %", member.ratio("branch-misses", "branches")? * 100.0))
    };
    write_derived("CPUs used", members, cpus, out)?;
    write_derived("insn per cycle", members, ipc, out)?;
    write_derived("branches missed", members, missed, out)
}

/// A row of what follows from the counts; none where it follows for no member.
fn write_derived(
    name: &str,
    members: &[CountedMember<'_>],
    derive: impl Fn(&CountedMember<'_>) -> Option<String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let values: Vec<Option<String>> = members.iter().map(derive).collect();
    if values.iter().all(Option::is_none) {
        return Ok(());
    }
    let cells = values.into_iter().map(|value| [value.unwrap_or_default(), String::new()]);
    write_row(name, cells, out)
}

fn write_row(
    name: &str,
    cells: impl Iterator<Item = [String; 2]>,
    out: &mut impl Write,
) -> io::Result<()> {
    let name = match name {
        "task-clock" => "task-clock (ms)",
        "voluntary-switches" => "  voluntary",
        "involuntary-switches" => "  involuntary",
        other => other,
    };
    let mut line = format!("{name:<NAME_WIDTH$}");
    for [total, per_gib] in cells {
        line += &format!("{total:>TOTAL_WIDTH$}{per_gib:>PER_GIB_WIDTH$}");
    }
    writeln!(out, "{}", line.trim_end())
}

/// Total and per GiB. The total ends in two columns for a mark.
fn cells(member: &CountedMember<'_>, counter: &Counter) -> [String; 2] {
    let number = match counter.value {
        CounterValue::Exact { value } | CounterValue::Estimate { value, .. } => value as f64,
        CounterValue::NotSupported { .. } => return ["not supported  ".into(), String::new()],
        CounterValue::NotCounted { .. } => return ["not counted  ".into(), String::new()],
    };
    let estimate = if matches!(counter.value, CounterValue::Estimate { .. }) { "~" } else { "" };
    let mark = if counter.user_only { " u" } else { "  " };
    let per_gib = match member.per_gib(number) {
        Some(number) => format!(" {estimate}{}", rate(number, counter.unit)),
        None => String::new(),
    };
    [format!(" {estimate}{}{mark}", total(number, counter.unit)), per_gib]
}

fn total(number: f64, unit: CounterUnit) -> String {
    match unit {
        CounterUnit::Occurrences => grouped(number, 0),
        CounterUnit::Nanoseconds => grouped(number / 1e6, 2),
    }
}

/// A rate: three digits where there are fewer before the point.
fn rate(number: f64, unit: CounterUnit) -> String {
    let number = match unit {
        CounterUnit::Occurrences => number,
        CounterUnit::Nanoseconds => number / 1e6,
    };
    match number {
        0.0 => "0".to_owned(),
        n if n < 0.01 => "< 0.01".to_owned(),
        n if n < 10.0 => grouped(n, 2),
        n if n < 100.0 => grouped(n, 1),
        n if n < 1e10 => grouped(n, 0),
        // Cycles of a pipeline that pipes little.
        n => format!("{} G", grouped(n / 1e9, 0)),
    }
}

/// `1,234,567.89`
fn grouped(number: f64, decimals: usize) -> String {
    let plain = format!("{number:.decimals$}");
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    units::grouped(whole) + fraction
}

fn write_notes(
    members: &[CountedMember<'_>],
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    let counters = || members.iter().flat_map(|member| &member.counters.counters);
    let shares: Vec<f64> = counters()
        .filter_map(|counter| match counter.value {
            CounterValue::Estimate { running_share, .. } => Some(running_share),
            _ => None,
        })
        .collect();
    let mut notes = Vec::new();
    if !shares.is_empty() {
        let least = shares.iter().copied().fold(1.0, f64::min);
        notes.push(format!(
            "~  estimate: scaled up, as the counter ran only part of the time (at least {:.0} %)",
            (least * 100.0).floor()
        ));
    }
    if counters().any(|counter| counter.user_only) {
        notes.push("u  user code only, without kernel code".to_owned());
    }
    for member in members {
        let missed = member.counters.threads_missed;
        if missed > 0 {
            notes.push(format!(
                "{missed} threads of {} started while counters were being attached: counted in \
                 part or not at all",
                printable(member.label)
            ));
        }
    }
    for ((what, reason), (hint, names)) in missing(members) {
        let names: Vec<&str> = names.into_iter().collect();
        notes.push(format!("{what}: {}", names.join(", ")));
        notes.push(format!("    {reason}"));
        if let Some(hint) = hint {
            notes.push(format!("    fix: {hint}"));
        }
    }
    if notes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    // A fix stays on one line: it is pasted.
    let is_fix = |note: &String| note.starts_with("    fix: ");
    notes.iter().try_for_each(|note| match is_fix(note) {
        true => writeln!(out, "{note}"),
        false => write!(out, "{}", style.wrap(note, 6)),
    })
}

/// What is wrong and why, with the hint and the names of the counters that share the reason.
type Missing<'a> = OrderedMap<(&'static str, &'a str), (Option<&'a str>, OrderedSet<&'static str>)>;

fn missing<'a>(members: &'a [CountedMember<'_>]) -> Missing<'a> {
    let mut all: Missing<'a> = Missing::default();
    for counter in members.iter().flat_map(|member| &member.counters.counters) {
        let (what, reason, hint) = match &counter.value {
            CounterValue::NotSupported { reason, hint } => {
                ("not supported here", reason, hint.as_deref())
            }
            CounterValue::NotCounted { reason } => ("not counted", reason, None),
            CounterValue::Exact { .. } | CounterValue::Estimate { .. } => continue,
        };
        let (_, names) = all.entry((what, reason)).or_insert((hint, OrderedSet::default()));
        names.insert(counter.name);
    }
    all
}

/// Writes the counts as one JSON object.
pub fn write_json(report: &CounterReport<'_>, out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Row<'a> {
        #[serde(flatten)]
        counter: &'a Counter,
        per_gib: Option<f64>,
    }
    #[derive(Serialize)]
    struct Member<'a> {
        pid: i32,
        label: &'a str,
        bytes: Option<u64>,
        threads_missed: usize,
        counters: Vec<Row<'a>>,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        elapsed_ns: Option<u64>,
        members: Vec<Member<'a>>,
    }
    let members = report
        .members
        .iter()
        .map(|member| Member {
            pid: member.counters.pid,
            label: member.label,
            bytes: member.bytes,
            threads_missed: member.counters.threads_missed,
            counters: member
                .counters
                .counters
                .iter()
                .map(|counter| Row {
                    counter,
                    per_gib: counter.value.number().and_then(|n| member.per_gib(n as f64)),
                })
                .collect(),
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &Report { elapsed_ns: report.elapsed_ns, members })?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
