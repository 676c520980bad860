//! The summary on a terminal: at most 100 columns, aligned, calm.

mod picture;
pub(crate) mod pipes;

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::{Mode, Quality, Scope, Unwinding};

use crate::caption::{duration, rough_percent, thousands, throughput};
use crate::error::Error;
use crate::escape::printable;
use crate::ledger::Life;
use crate::summary::{MemberSummary, Summary};
use crate::verdict::{Confidence, Verdict};

/// How to write for the terminal at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Headings in bold and remarks in grey, by ANSI escapes.
    pub colour: bool,
    /// Nothing but ASCII in pictures.
    pub ascii: bool,
}

impl Style {
    pub(crate) fn heading(self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.into() }
    }

    pub(crate) fn remark(self, text: &str) -> String {
        if self.colour { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.into() }
    }
}

/// Roles below this share are left to `--json`.
const LEAST_PERCENT: f64 = 0.05;
const WIDEST: usize = 100;

/// Writes the summary for a person.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render(summary: &Summary, style: Style, mut out: impl Write) -> Result<(), Error> {
    let mut text = String::new();
    if let Some(verdict) = &summary.verdict {
        write_verdict(&mut text, verdict, style);
        text.push('\n');
        picture::write(&mut text, summary, style);
        text.push('\n');
    }
    let mut head = cut(&printable(&summary.subject), 60);
    if let Some(rate) = summary.bytes_per_second {
        let _ = write!(head, ": {}", throughput(rate));
    }
    if let Some(kernel) = &summary.kernel {
        let _ = write!(head, " on Linux {}", printable(kernel));
    }
    let _ = writeln!(text, "{}", style.heading(&head));
    let is_asked_for =
        |m: &&MemberSummary| summary.only.is_empty() || summary.only.contains(&m.pid);
    let (shown, rest): (Vec<&MemberSummary>, Vec<&MemberSummary>) = summary
        .members
        .iter()
        .filter(is_asked_for)
        .partition(|member| !summary.only.is_empty() || is_worth_a_table(summary, member));
    for member in shown {
        text.push('\n');
        write_member(&mut text, member, style);
    }
    if !rest.is_empty() {
        let cpu: u64 = rest.iter().filter_map(|member| member.cpu_time_ns).sum();
        let names: Vec<String> = rest.iter().take(6).map(|member| named(member)).collect();
        let more = if rest.len() > names.len() { ", …" } else { "" };
        let line = format!(
            "beside them, {} on CPU together: {}{more}",
            duration(cpu as f64),
            names.join(", ")
        );
        text.push('\n');
        text.push_str(&wrap(&line, 2));
    }
    if !summary.pipes.is_empty() {
        text.push('\n');
        pipes::write(&mut text, summary, style);
    }
    text.push('\n');
    write_quality(&mut text, summary, style);
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn named(member: &MemberSummary) -> String {
    format!("{} ({})", printable(&member.comm), member.pid)
}

/// Shells that wait, and what they start for a moment, are left to `--json`.
pub(crate) fn is_worth_a_table(summary: &Summary, member: &MemberSummary) -> bool {
    let all: u64 = summary.members.iter().filter_map(|member| member.cpu_time_ns).sum();
    let is_busy = member.cpu_time_ns.is_none_or(|ns| ns * 50 >= all);
    summary.pipes.is_empty() || member.uses_pipes() || is_busy
}

fn write_verdict(text: &mut String, verdict: &Verdict, style: Style) {
    let headline = wrap(&verdict.headline, 4);
    for line in headline.lines() {
        let _ = writeln!(text, "{}", style.heading(line));
    }
    for line in &verdict.evidence {
        text.push_str(&wrap(line, 6));
    }
    if let Some(sure) = doubt(verdict) {
        let _ = writeln!(text, "{}", style.remark(sure));
    }
    for remedy in &verdict.remedies {
        text.push_str(&wrap(&format!("try: {}; {}", remedy.what, remedy.buys), 5));
    }
}

/// What speaks against a verdict; `None` where nothing does.
pub(crate) fn doubt(verdict: &Verdict) -> Option<&'static str> {
    match verdict.confidence {
        Some(Confidence::Low) => {
            Some("not sure: the others don't wait as they should, or the next is near")
        }
        Some(Confidence::Medium) => Some("fairly sure: not every neighbour bears it out"),
        Some(Confidence::High) | None => None,
    }
}

fn write_life(text: &mut String, member: &MemberSummary, life: &Life, style: Style) {
    let split = &life.split;
    let line = format!(
        "  life {}: on CPU {:.1}%, blocked {:.1}%, waiting for a CPU {:.1}% ({} sleeps, {} preemptions)",
        duration(split.lifetime_ns as f64),
        life.on_cpu_percent,
        life.blocked_percent,
        life.runnable_percent,
        thousands(split.sleeps),
        thousands(split.preemptions),
    );
    text.push_str(&wrap(&line, 4));
    if member.blocked.is_empty() {
        return;
    }
    let has_rate = member.blocked.iter().any(|share| share.ns_per_gib.is_some());
    let mut header = format!("  {:<18}{:>8}{:>10}", "blocked", "of life", "time");
    if has_rate {
        let _ = write!(header, "{:>14}", "per GiB");
    }
    let _ = writeln!(text, "{}", style.remark(&header));
    for share in member.blocked.iter().filter(|share| share.percent >= LEAST_PERCENT) {
        let _ = write!(
            text,
            "  {:<18}{:>8}{:>10}",
            share.reason.label(),
            format!("{:.1}%", share.percent),
            duration(share.ns as f64),
        );
        if let Some(ns) = share.ns_per_gib {
            let _ = write!(text, "{:>14}", duration(ns));
        }
        if let Some(function) = &share.kernel_function {
            let _ = write!(text, "  in {}", cut(&printable(function), 40));
        }
        text.push('\n');
    }
}

fn write_member(text: &mut String, member: &MemberSummary, style: Style) {
    let comm = printable(&member.comm);
    let mut head = match member.end {
        Some(end) => format!("{} {comm} ({})", end.as_str(), member.pid),
        None => format!("{comm} ({})", member.pid),
    };
    let _ = write!(head, ": {} samples", thousands(member.samples));
    if let Some(ns) = member.cpu_time_ns {
        let time = duration(ns as f64);
        let _ = match member.coverage_percent {
            Some(percent) => write!(head, " stand for {percent:.0}% of its {time} on CPU"),
            None => write!(head, ", {time} on CPU"),
        };
    }
    let _ = writeln!(text, "{}", style.heading(&head));
    if let Some(life) = &member.life {
        write_life(text, member, life, style);
    }
    if member.weight == 0 {
        return;
    }
    let has_rate = member.roles.iter().any(|role| role.ns_per_gib.is_some());
    let mut header = format!("  {:<18}{:>8}{:>10}", "role", "share", "samples");
    if has_rate {
        let _ = write!(header, "{:>14}", "per GiB");
    }
    let _ = writeln!(text, "{}", style.remark(&header));
    for role in member.roles.iter().filter(|role| role.percent >= LEAST_PERCENT) {
        let _ = write!(
            text,
            "  {:<18}{:>8}{:>10}",
            role.role.label(),
            format!("{:.1}%", role.percent),
            thousands(role.samples),
        );
        if let Some(ns) = role.ns_per_gib {
            let _ = write!(text, "{:>14}", duration(ns));
        }
        text.push('\n');
    }

    let _ = writeln!(
        text,
        "{}",
        style.remark(&format!("  {:>6}  {:>6}  {}", "self", "total", "function"))
    );
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
            "  {:>6}  {:>6}  {}",
            rough_percent(function.self_weight, member.weight),
            rough_percent(function.total_weight, member.weight),
            cut(&name, WIDEST - 18),
        );
    }

    let noteworthy: Vec<_> = member
        .highlights
        .iter()
        .filter(|sighting| !sighting.names.is_empty() || sighting.absent.is_some())
        .collect();
    if !noteworthy.is_empty() {
        let _ = writeln!(text, "{}", style.remark("  highlighted"));
    }
    for sighting in noteworthy {
        let mut line = format!("  {}", printable(&sighting.function));
        if let Some(why) = &sighting.absent {
            let _ = write!(line, ": {why}");
            if let Some(stand_in) = &sighting.stand_in {
                let share = rough_percent(stand_in.weight, member.weight);
                let _ = write!(line, "; see {} {share}", printable(&stand_in.name));
            }
        } else {
            let others: Vec<_> = sighting
                .names
                .iter()
                .filter(|name| **name != sighting.function)
                .map(|name| printable(name))
                .collect();
            if !others.is_empty() {
                let _ = write!(line, ", here {}", others.join(", "));
            }
            let _ = write!(
                line,
                ": {} ({} itself)",
                rough_percent(sighting.total_weight, member.weight),
                rough_percent(sighting.self_weight, member.weight)
            );
        }
        text.push_str(&wrap(&line, 4));
    }
}

fn write_quality(text: &mut String, summary: &Summary, style: Style) {
    let _ = writeln!(text, "{}", style.heading("how far to trust it"));
    for (level, line) in trust(summary) {
        let indent = 2 * level + 2;
        text.push_str(&wrap(&format!("{:indent$}{line}", ""), indent + 2));
    }
}

/// What limits trust in the numbers, a line each; one of level 1 belongs to the line of level 0
/// before it.
pub(crate) fn trust(summary: &Summary) -> Vec<(usize, String)> {
    let quality = &summary.quality.recorded;
    let mut lines: Vec<(usize, String)> =
        quality_lines(quality).into_iter().map(|line| (0, line)).collect();
    let samples: u64 = summary.members.iter().map(|member| member.samples).sum();
    let saw_no_skid = summary.quality.skid.as_ref().is_some_and(Vec::is_empty);
    if saw_no_skid && quality.kernel_visible && samples > 0 {
        let line = "a timer took the samples, and it can't fire while interrupts are off; none was \
                    taken where they come on again, so little ran while they were off";
        lines.push((0, line.to_owned()));
    }
    if let Some(skid) = &summary.quality.skid
        && !skid.is_empty()
    {
        let line = "a timer took the samples, and it can't fire while interrupts are off: what ran \
                    then was sampled where they came on again, and counts in the role of the caller \
                    there:";
        lines.push((0, line.to_owned()));
        let who = |member: &MemberSummary| match member.end {
            Some(end) => end.as_str().to_owned(),
            None => cut(&printable(&member.comm), 15),
        };
        for absorber in skid {
            let each: Vec<String> = summary
                .members
                .iter()
                .zip(&absorber.samples)
                .filter(|(_, samples)| **samples > 0)
                .map(|(member, samples)| {
                    let share = rough_percent(*samples, member.samples);
                    format!("{} {} ({share})", who(member), thousands(*samples))
                })
                .collect();
            let name = printable(&absorber.function);
            lines.push((1, format!("{name}: {}", each.join(", "))));
        }
        for member in &summary.members {
            let each: Vec<String> = member
                .roles
                .iter()
                .filter(|role| role.deferred_samples > 0)
                .map(|role| {
                    let share = rough_percent(role.deferred_samples, role.samples);
                    format!("{} {share}", role.role.label())
                })
                .collect();
            if !each.is_empty() {
                lines.push((1, format!("of the {}'s roles: {}", who(member), each.join(", "))));
            }
        }
    }
    if summary.quality.inferred_samples > 0 {
        let line = format!(
            "{} samples ({}) count as wake-ups only because wake-ups end in the function sampled; \
             no other stack showed what is called there",
            thousands(summary.quality.inferred_samples),
            rough_percent(summary.quality.inferred_samples, samples),
        );
        lines.push((0, line));
    }
    lines
}

fn quality_lines(quality: &Quality) -> Vec<String> {
    let mut lines = Vec::new();
    let mut event = format!("event {}", printable(&quality.event));
    if let Some(hz) = quality.frequency_hz {
        let _ = write!(event, " at {hz} Hz");
    }
    event.push_str(match quality.scope {
        Scope::PerCpu => ", one a CPU",
        Scope::PerTask => ", one a thread: biased towards task switches",
    });
    if let Some(why) = &quality.fallback {
        let _ = write!(event, " (instead of a better one: {})", printable(why));
    }
    lines.push(event);
    let mut counts = format!(
        "{} samples, {} lost, {} throttled, {} unresolved frames, {} truncated stacks",
        thousands(quality.samples),
        thousands(quality.lost),
        thousands(quality.throttled),
        rough_percent(quality.unresolved_frames, quality.frames.max(1)),
        thousands(quality.truncated_stacks),
    );
    if quality.foreign_samples > 0 {
        let _ = write!(counts, ", {} of others dropped", thousands(quality.foreign_samples));
    }
    lines.push(counts);
    if !quality.kernel_visible {
        lines.push("user code only: this event was not allowed to measure the kernel".into());
    }
    if quality.cut_user_stacks > 0 {
        let stacks = if quality.cut_user_stacks == 1 { "stack" } else { "stacks" };
        lines.push(format!(
            "{} {stacks} cut in user code built without frame pointers; \
             --call-graph dwarf finds their callers",
            thousands(quality.cut_user_stacks)
        ));
    }
    lines.extend(quality.unwinding.as_ref().map(unwinding_line));
    if quality.malformed_records > 0 {
        lines.push(format!("{} bad records passed over", thousands(quality.malformed_records)));
    }
    if quality.cut_short {
        lines.push("the recording ends before its last record did".into());
    }
    lines.extend(quality.notes.iter().map(|note| printable(note).into_owned()));
    lines
}

/// How far user stacks could be unwound, and what stopped the others.
fn unwinding_line(unwinding: &Unwinding) -> String {
    let stacks = unwinding.stacks.max(1);
    let mut line = format!(
        "{} user stacks unwound, {} to their root",
        thousands(unwinding.stacks),
        rough_percent(unwinding.rooted, stacks)
    );
    let mut stopped = |count: u64, why: &str| {
        if count > 0 {
            let _ = write!(line, ", {} {why}", thousands(count));
        }
    };
    stopped(unwinding.short, "longer than the slice recorded (--call-graph dwarf,65528 has more)");
    stopped(unwinding.uninformed, "cut in code without unwind information");
    stopped(unwinding.astray, "cut where a caller was no code");
    stopped(unwinding.deep, "too deep");
    stopped(unwinding.stackless, "more of which no stack could be copied");
    if !unwinding.uninformed_in.is_empty() {
        let names = unwinding.uninformed_in.iter().map(|(name, _)| printable(name));
        let _ = write!(line, "; without it: {}", names.collect::<Vec<_>>().join(", "));
    }
    line
}

/// At most so many characters, the last of them an ellipsis where something is missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// `one`, `one and two`, `one, two and three`.
pub(crate) fn listed(words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match &words[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// Breaks a line at blanks, so that none is wider than the terminal should need.
pub(crate) fn wrap(line: &str, indent: usize) -> String {
    let mut text = String::new();
    let margin = line.len() - line.trim_start().len();
    let mut width = 0;
    // A number and its unit stay together.
    let glued = line.trim_start().replace(" %", "\u{a0}%").replace("pid ", "pid\u{a0}");
    for word in glued.split(' ') {
        let length = word.chars().count();
        if width == 0 {
            text.push_str(&" ".repeat(margin));
            width = margin;
        } else if width + 1 + length > WIDEST {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            width = indent;
        } else {
            text.push(' ');
            width += 1;
        }
        text.push_str(&word.replace('\u{a0}', " "));
        width += length;
    }
    text.push('\n');
    text
}
