//! The pipes: what each carried, how full it was, and who counted.

use std::fmt::Write;

use super::{Style, wrap};
use crate::caption::{duration, thousands};
use crate::escape::printable;
use crate::ledger::PipeSummary;
use crate::summary::Summary;

pub(super) fn write(text: &mut String, summary: &Summary, style: Style) {
    let _ = writeln!(text, "{}", style.heading("pipes"));
    let mut told = None;
    for pipe in &summary.pipes {
        write_pipe(text, summary, pipe, told, style);
        told = pipe.wakeups_unknown.as_deref();
    }
}

fn write_pipe(
    text: &mut String,
    summary: &Summary,
    pipe: &PipeSummary,
    told: Option<&str>,
    style: Style,
) {
    text.push_str(&wrap(&format!("  {}", head(summary, pipe, style)), 4));
    for (name, words) in rows(summary, pipe, told) {
        text.push_str(&wrap(&format!("    {name:<11}{words}"), 15));
    }
}

/// `pipe:[88121]  zcat (11) → sort (12), holds 64.0 KiB`.
pub(crate) fn head(summary: &Summary, pipe: &PipeSummary, style: Style) -> String {
    let names = |pids: &[i32]| -> String {
        let member = |pid: &i32| summary.members.iter().find(|member| member.pid == *pid);
        let known: Vec<String> = pids
            .iter()
            .filter_map(member)
            .filter(|member| !member.only_holds)
            .map(|member| format!("{} ({})", printable(&member.comm), member.pid))
            .collect();
        if known.is_empty() { "nobody".into() } else { known.join(", ") }
    };
    let arrow = if style.ascii { "->" } else { "→" };
    let mut head = match &pipe.path {
        Some(path) => printable(path).into_owned(),
        None => format!("pipe:[{}]", pipe.inode),
    };
    let _ = write!(head, "  {} {arrow} {}", names(&pipe.writers), names(&pipe.readers));
    if let Some(capacity) = pipe.capacity_bytes {
        let _ = write!(head, ", holds {}", bytes(capacity as f64));
    }
    head
}

/// What is known of a pipe, by name. `told` is why wake-ups are not known, where the pipe before
/// has said it.
pub(crate) fn rows(
    summary: &Summary,
    pipe: &PipeSummary,
    told: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &'static str, words: String| rows.push((name, words));
    match (pipe.bytes, pipe.bytes_source) {
        (Some(moved), Some(source)) => {
            let rate = pipe.bytes_per_second.unwrap_or_default();
            row(
                "bytes",
                format!(
                    "{} ({}), {}/s; {}",
                    thousands(moved),
                    bytes(moved as f64),
                    bytes(rate),
                    source.describe()
                ),
            );
        }
        _ => row("bytes", not_known(pipe.bytes_unknown.as_deref())),
    }
    match &pipe.fill {
        Some(fill) => row(
            "fill",
            format!(
                "full {:.0}%, empty {:.0}% of {} looks; mean {}",
                fill.full_percent,
                fill.empty_percent,
                thousands(fill.counted.looks),
                bytes(fill.mean_bytes)
            ),
        ),
        None => row("fill", not_known(pipe.fill_unknown)),
    }
    for (name, calls, mean, rate) in [
        ("writes", pipe.writes, pipe.bytes_per_write, pipe.writes_per_second),
        ("reads", pipe.reads, pipe.bytes_per_read, pipe.reads_per_second),
    ] {
        let Some(calls) = calls else {
            row(name, not_known(pipe.calls_unknown));
            continue;
        };
        let mut words = thousands(calls);
        if let Some(rate) = rate {
            let _ = write!(words, ", {}/s", thousands(rate.round() as u64));
        }
        if let Some(mean) = mean {
            let _ = write!(words, ", {} each", bytes(mean));
        }
        row(name, words);
    }
    write_wakeups(&mut row, summary, pipe, told);
    if let Some((cpu, blocked)) = pipe.cpu_ns_per_gib.zip(pipe.blocked_ns_per_gib) {
        row(
            "per GiB",
            format!("{} on CPU in its code, {} blocked on it", duration(cpu), duration(blocked)),
        );
    }
    rows
}

/// Members whose wake-ups are listed a pipe.
const MOST_WAKERS: usize = 4;

fn write_wakeups(
    row: &mut impl FnMut(&'static str, String),
    summary: &Summary,
    pipe: &PipeSummary,
    told: Option<&str>,
) {
    let comm = |pid: i32| {
        let member = summary.members.iter().find(|member| member.pid == pid);
        member.map_or_else(|| pid.to_string(), |member| printable(&member.comm).into_owned())
    };
    if let Some(why) = &pipe.wakeups_unknown {
        let why = if told == Some(why) { "as above" } else { why };
        row("wake-ups", not_known(Some(why)));
    }
    for (at, wakeups) in pipe.wakeups.iter().take(MOST_WAKERS).enumerate() {
        let mut words = format!(
            "{} by {}: {}/s",
            comm(wakeups.woken),
            comm(wakeups.waker),
            thousands(wakeups.per_second.round() as u64)
        );
        if let Some(per_gib) = wakeups.per_gib {
            let _ = write!(words, ", {} a GiB", thousands(per_gib.round() as u64));
        }
        if let Some(latency) = wakeups.latency {
            let _ = write!(
                words,
                "; {} to a CPU (median), {} (p99)",
                duration(latency.median_ns as f64),
                duration(latency.p99_ns as f64)
            );
        }
        row(if at == 0 { "wake-ups" } else { "" }, words);
    }
    if pipe.wakeups.len() > MOST_WAKERS {
        row("", format!("and {} more in --json", pipe.wakeups.len() - MOST_WAKERS));
    }
}

fn not_known(why: Option<&str>) -> String {
    format!("not known: {}", why.unwrap_or("it was not measured"))
}

/// `1.20 GiB`, `64.0 KiB`, `12 bytes`.
pub(crate) fn bytes(count: f64) -> String {
    for (scale, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let scale = f64::from(1u32 << scale);
        if count >= scale {
            return format!("{:.1} {unit}", count / scale);
        }
    }
    format!("{count:.0} bytes")
}
