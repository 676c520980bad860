//! A flat table of samples, grouped as `perf report --sort` groups them.

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::{Frame, Mode, Profile};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::Error;
use crate::escape::printable;
use crate::flamegraph::member_label;
use crate::roles::Role;
use crate::run::Run;
use crate::words::layout::Style;
use crate::words::units::{self, tenths, thousands};

/// What rows are of: each combination that was sampled is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The process, perf's `comm` and `pid`.
    Member,
    /// What the stack does for the pipe.
    Role,
    /// perf's `sym`.
    Function,
    /// Kernel, module, program or library: perf's `dso`.
    Object,
}

/// How to make the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns.
    pub keys: Vec<Key>,
    /// The largest with all that they call first, as perf's `--children`.
    pub by_total: bool,
    /// Rows of a smaller share of all samples shown are left out.
    pub percent_limit: f64,
    /// Pids of the members to show; empty for all.
    pub only: Vec<i32>,
}

/// A member by position, a role, a function, an object; `None` where the table isn't by it.
type Group<'a> = (Option<usize>, Option<Role>, Option<(&'a str, Mode)>, Option<&'a str>);

#[derive(Clone, Copy, Default)]
struct Sums {
    samples: u64,
    itself: u64,
    total: u64,
}

/// A line of the table.
type Row<'a> = (Group<'a>, Sums);

/// Writes the table. "Self" counts a sample for the function that it was taken in, "total" for
/// every function of its stack, once.
///
/// # Errors
///
/// [`Error::NoSamples`] if no shown member was sampled, [`Error::Write`] where `out` fails.
pub fn render(run: &Run, table: &Table, style: Style, mut out: impl Write) -> Result<(), Error> {
    let Run { profile, roles, .. } = run;
    let mut sums: FxHashMap<Group<'_>, Sums> = FxHashMap::default();
    let mut counted = FxHashSet::default();
    let mut whole = 0;
    let has = |key| table.keys.contains(&key);
    for (at, member) in profile.members.iter().enumerate() {
        if !table.only.is_empty() && !table.only.contains(&member.pid) {
            continue;
        }
        for weight in &member.on_cpu {
            whole += weight.weight;
            counted.clear();
            for (depth, frame) in profile.stack_frames(weight.stack).enumerate() {
                let group = (
                    has(Key::Member).then_some(at),
                    has(Key::Role).then(|| roles.role(weight.stack)),
                    has(Key::Function).then_some((&*frame.name, frame.mode)),
                    has(Key::Object).then(|| object(frame)),
                );
                let sum = sums.entry(group).or_default();
                if depth == 0 {
                    sum.itself += weight.weight;
                    sum.samples += weight.samples;
                }
                if counted.insert(group) {
                    sum.total += weight.weight;
                }
            }
        }
    }
    if whole == 0 {
        return Err(Error::NoSamples { of: "what was asked for".into(), notes: Vec::new() });
    }
    let chief = |sums: &Sums| if table.by_total { sums.total } else { sums.itself };
    let least = table.percent_limit / 100.0 * whole as f64;
    let (mut rows, small): (Vec<Row<'_>>, Vec<Row<'_>>) = sums
        .into_iter()
        .filter(|(_, sums)| chief(sums) > 0)
        .partition(|(_, sums)| chief(sums) as f64 >= least);
    rows.sort_by(|x, y| {
        let second = |sums: &Sums| if table.by_total { sums.itself } else { sums.total };
        (chief(&y.1), second(&y.1)).cmp(&(chief(&x.1), second(&x.1))).then_with(|| x.0.cmp(&y.0))
    });
    // What is the same as the sample's own share in every row has no column.
    let has_total = has(Key::Function) || has(Key::Object);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(group, _)| table.keys.iter().map(|key| cell(profile, *key, group)).collect())
        .collect();
    let widths: Vec<usize> = (0..table.keys.len())
        .map(|column| {
            let cells = cells.iter().map(|row| row[column].chars().count());
            cells.chain([heading(table.keys[column]).len()]).max().unwrap_or(0).min(60)
        })
        .collect();
    let share = |part: u64, whole: u64| tenths(100.0 * part as f64 / whole as f64);
    let mut text = String::new();
    let mut head = format!("{:>8}", "Self");
    if has_total {
        let _ = write!(head, " {:>8}", "Total");
    }
    let _ = write!(head, " {:>9}", "Samples");
    for (key, width) in table.keys.iter().zip(&widths) {
        let _ = write!(head, "  {:<width$}", heading(*key));
    }
    let _ = writeln!(text, "{}", style.heading(head.trim_end()));
    for ((_, sums), cells) in rows.iter().zip(&cells) {
        let mut line = format!("{:>8}", share(sums.itself, whole));
        if has_total {
            let _ = write!(line, " {:>8}", share(sums.total, whole));
        }
        let _ = write!(line, " {:>9}", thousands(sums.samples));
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(line, "  {cell:<width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if !small.is_empty() {
        // In the columns of the others, so that the table still adds up.
        let sum =
            |part: fn(&Sums) -> u64| -> u64 { small.iter().map(|(_, sums)| part(sums)).sum() };
        let mut line = format!("{:>8}", share(sum(|sums| sums.itself), whole));
        if has_total {
            let _ = write!(line, " {:>8}", "");
        }
        let rows = units::counted(small.len() as u64, "row", "rows");
        let samples = thousands(sum(|sums| sums.samples));
        let _ = write!(line, " {samples:>9}  {rows} left out: --percent-limit 0");
        let _ = writeln!(text, "{}", style.remark(&line));
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn heading(key: Key) -> &'static str {
    match key {
        Key::Member => "Member",
        Key::Role => "Role",
        Key::Function => "Function",
        Key::Object => "Object",
    }
}

fn object(frame: &Frame) -> &str {
    frame.module.as_deref().unwrap_or("[unknown]")
}

fn cell(profile: &Profile, key: Key, group: &Group<'_>) -> String {
    let cell = match key {
        Key::Member => group.0.map(|at| member_label(&profile.members[at])),
        Key::Role => group.1.map(|role| role.label().to_owned()),
        Key::Function => group.2.map(|(name, mode)| {
            let mark = if mode == Mode::Kernel { "[k]" } else { "[.]" };
            format!("{mark} {}", printable(name))
        }),
        Key::Object => group.3.map(|object| printable(object).into_owned()),
    };
    cell.unwrap_or_default()
}
