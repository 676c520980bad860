//! The summary on a terminal: [`screen()`] is the answer, [`timeline()`] what happened when,
//! [`full`] every table.

mod joined;
mod screen;
mod timeline;

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::Mode;

use crate::error::Error;
use crate::escape::printable;
use crate::ledger::Life;
use crate::summary::{LEAST_PERCENT, MemberSummary, Summary};
use crate::verdict::Verdict;
use crate::words::units::{counted, duration, percent, share, thousands, throughput};
use crate::words::{member, name, phase, pipe, quality};

use crate::words::evidence::{Line, lines};
pub use crate::words::layout::Style;
use crate::words::layout::{BOLD, GREY, cut};
pub use joined::joined;
pub use screen::screen;
pub use timeline::{columns as timeline_columns, timeline};

/// Writes the summary for a person, with every table.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn full(summary: &Summary, style: Style, mut out: impl Write) -> Result<(), Error> {
    let mut text = String::new();
    if let Some(verdict) = &summary.verdict {
        write_verdict(&mut text, verdict, style);
        screen::members(&mut text, summary, style);
        text.push('\n');
    }
    let _ = writeln!(text, "{}", style.heading(&subject(summary, style)));
    if let Some(of) = summary.per_gib_of.as_ref().filter(|_| summary.has_rates()) {
        text.push_str(&style.wrapped(GREY, of, 4));
    }
    let (shown, rest) = summary.main_members();
    let of = quality::whole(&summary.quality.recorded);
    for member in shown {
        text.push('\n');
        write_member(&mut text, member, of, style);
    }
    if !rest.is_empty() {
        text.push('\n');
        text.push_str(&style.wrap(&member::others(&rest), 2));
    }
    if !summary.pipes.is_empty() {
        text.push('\n');
        write_pipes(&mut text, summary, style);
    }
    text.push('\n');
    let _ = writeln!(text, "{}", style.heading("data quality"));
    for (level, line) in quality::lines(summary) {
        let indent = 2 * level + 2;
        text.push_str(&style.wrap(&format!("{:indent$}{line}", ""), indent + 2));
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// `zcat x | sort: 512 MiB/s on Linux 6.18.44`, on one line.
fn subject(summary: &Summary, style: Style) -> String {
    let mut facts = String::new();
    if let Some(rate) = summary.bytes_per_second {
        let _ = write!(facts, ": {}", throughput(rate));
    }
    if let Some(kernel) = &summary.kernel {
        let _ = write!(facts, " on Linux {}", printable(kernel));
    }
    if let Some(part) = &summary.phase {
        let _ = write!(facts, ", {}", phase::title(part));
    }
    let room = style.columns.saturating_sub(facts.chars().count()).max(16);
    cut(&printable(&summary.subject), room) + &facts
}

/// The verdict, and how sure it is.
fn write_headline(text: &mut String, summary: &Summary, style: Style) {
    let Some(verdict) = &summary.verdict else { return };
    text.push_str(&style.wrapped(BOLD, &verdict.headline, 4));
    if let Some(sure) = &verdict.doubt {
        text.push_str(&style.wrap(sure, 4));
    }
}

/// Before a member that limits.
fn marker(limits: bool, style: Style) -> char {
    match (limits, style.ascii) {
        (false, _) => ' ',
        (true, true) => '>',
        (true, false) => '▶',
    }
}

/// The subject, and how long it was profiled where that fits.
fn write_subject(text: &mut String, summary: &Summary, style: Style) {
    let mut about = subject(summary, style);
    if let Some(ns) = summary.elapsed_ns {
        let time = format!(", profiled for {}", duration(ns as f64));
        if about.chars().count() + time.chars().count() <= style.columns {
            about += &time;
        }
    }
    let _ = writeln!(text, "{}", style.remark(&about));
}

fn write_verdict(text: &mut String, verdict: &Verdict, style: Style) {
    text.push_str(&style.wrapped(BOLD, &verdict.headline, 4));
    let lines = lines(verdict);
    let width = |column: fn(&Line) -> &String| {
        let members = lines.iter().filter(|line| !line.who.is_empty());
        members.map(|line| column(line).chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(|line| &line.who), width(|line| &line.what));
    for Line { who, what, pipe } in &lines {
        let line = match who.is_empty() {
            true => format!("  {what}"),
            false => format!("  {who:first$}  {what:second$}  {pipe}"),
        };
        text.push_str(&style.wrap(line.trim_end(), 6));
    }
    if let Some(sure) = &verdict.doubt {
        let _ = writeln!(text, "{}", style.remark(sure));
    }
    for remedy in &verdict.remedies {
        text.push_str(&style.wrap(&format!("try: {}; {}", remedy.what, remedy.buys), 5));
    }
}

fn write_life(text: &mut String, member: &MemberSummary, life: &Life, style: Style) {
    let split = &life.split;
    let is_several = member.states.is_some_and(|states| states.is_several);
    let line = format!(
        "  {} {}: on CPU {}, blocked {}, runnable {} ({}, {})",
        if is_several { "lives of all threads" } else { "life" },
        duration(split.lifetime_ns as f64),
        percent(life.on_cpu_percent),
        percent(life.blocked_percent),
        percent(life.runnable_percent),
        counted(split.sleeps, "sleep", "sleeps"),
        counted(split.preemptions, "preemption", "preemptions"),
    );
    text.push_str(&style.wrap(&line, 4));
    let rows = member.blocked.iter().filter(|share| share.percent >= LEAST_PERCENT).map(|share| {
        let function = share.kernel_function.as_ref().map(|name| printable(name).into_owned());
        Row {
            name: share.reason.label(),
            share: share.percent,
            amount: duration(share.ns as f64),
            ns_per_gib: share.ns_per_gib,
            remark: function.map_or_else(String::new, |name| format!("  in {}", cut(&name, 40))),
        }
    });
    write_table(text, ["blocked", "of life", "time"], &rows.collect::<Vec<_>>(), style);
}

/// A row of a table of shares.
struct Row {
    name: &'static str,
    share: f64,
    amount: String,
    ns_per_gib: Option<f64>,
    remark: String,
}

fn write_table(text: &mut String, names: [&str; 3], rows: &[Row], style: Style) {
    if rows.is_empty() {
        return;
    }
    let has_rate = rows.iter().any(|row| row.ns_per_gib.is_some());
    let second = names[1].len().max(7) + 1;
    let mut header = format!("  {:<18}{:>second$}{:>10}", names[0], names[1], names[2]);
    if has_rate {
        let _ = write!(header, "{:>14}", "per GiB");
    }
    let _ = writeln!(text, "{}", style.remark(&header));
    for Row { name, share, amount, ns_per_gib, remark } in rows {
        let _ = write!(text, "  {name:<18}{:>second$}{amount:>10}", percent(*share));
        if let Some(ns) = ns_per_gib {
            let _ = write!(text, "{:>14}", duration(*ns));
        }
        let _ = writeln!(text, "{remark}");
    }
}

fn write_member(text: &mut String, member: &MemberSummary, of: &str, style: Style) {
    let label = name::label(member.end, &member.comm, member.pid, member.processes);
    let head = format!("{label}: {}", member::samples(member));
    let _ = writeln!(text, "{}", style.heading(&head));
    if let Some(life) = &member.life {
        write_life(text, member, life, style);
    }
    if member.weight == 0 {
        return;
    }
    let rows = member.roles.iter().filter(|role| role.percent >= LEAST_PERCENT).map(|role| Row {
        name: role.role.label(),
        share: role.percent,
        amount: thousands(role.samples),
        ns_per_gib: role.ns_per_gib,
        remark: String::new(),
    });
    write_table(text, ["role", of, "samples"], &rows.collect::<Vec<_>>(), style);
    let header = format!("  {:>7}  {:>7}  function", "self", "total");
    let _ = writeln!(text, "{}", style.remark(&header));
    for function in &member.top_functions {
        let mut name = printable(&function.name).into_owned();
        if let Some(classic) = &function.known_as {
            let _ = write!(name, " ({})", printable(classic));
        }
        if function.mode == Mode::User {
            name.push_str(" [user]");
        }
        let _ = writeln!(
            text,
            "  {:>7}  {:>7}  {}",
            share(function.self_weight, member.weight),
            share(function.total_weight, member.weight),
            cut(&name, style.columns.saturating_sub(20).max(20)),
        );
    }
    write_highlights(text, member, style);
}

fn write_highlights(text: &mut String, member: &MemberSummary, style: Style) {
    let mut is_first = true;
    for shown in &member.highlights {
        let mut line = format!("  {}", printable(&shown.function));
        if let Some(why) = &shown.absent {
            let _ = write!(line, ": {why}");
            if let Some(stand_in) = &shown.stand_in {
                let of_member = share(stand_in.weight, member.weight);
                let _ = write!(line, "; see {} {of_member}", printable(&stand_in.name));
            }
        } else if shown.names.is_empty() {
            continue;
        } else {
            let others = shown.names.iter().filter(|name| **name != shown.function);
            let others: Vec<_> = others.map(|name| printable(name)).collect();
            if !others.is_empty() {
                let _ = write!(line, ", called {} here", others.join(", "));
            }
            let (total, itself) = (shown.total_weight, shown.self_weight);
            let (total, itself) = (share(total, member.weight), share(itself, member.weight));
            let _ = write!(line, ": {total} ({itself} self)");
        }
        if is_first {
            let _ = writeln!(text, "{}", style.remark("  highlighted"));
            is_first = false;
        }
        text.push_str(&style.wrap(&line, 4));
    }
}

fn write_pipes(text: &mut String, summary: &Summary, style: Style) {
    let _ = writeln!(text, "{}", style.heading("pipes"));
    let arrow = if style.ascii { "->" } else { "→" };
    let mut told = None;
    let members = summary.by_pid();
    for of in &summary.pipes {
        text.push_str(&style.wrap(&format!("  {}", pipe::head(&members, of, arrow)), 4));
        for (name, words) in pipe::rows(&members, of, told) {
            text.push_str(&style.wrap(&format!("    {name:<11}{words}"), 15));
        }
        told = of.wakeups_unknown.as_deref();
    }
}
