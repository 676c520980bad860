//! What is known of a pipe, in words.

use std::fmt::Write as _;

use crate::escape::printable;
use crate::ledger::PipeSummary;
use crate::summary::ByPid;
use crate::words::units::{bytes, counted, duration, percent, thousands, throughput};

/// `pipe:[88121]  zcat (11) → sort (12), capacity 64 KiB`.
pub(crate) fn head(members: &ByPid<'_>, pipe: &PipeSummary, arrow: &str) -> String {
    let names = |pids: &[i32]| -> String {
        let known = members.users(pids).into_iter();
        let known: Vec<String> =
            known.map(|member| format!("{} ({})", printable(&member.comm), member.pid)).collect();
        if known.is_empty() { "unknown".to_owned() } else { known.join(", ") }
    };
    let mut head =
        format!("{}  {} {arrow} {}", name(pipe), names(&pipe.writers), names(&pipe.readers));
    if let Some(capacity) = pipe.capacity_bytes {
        let _ = write!(head, ", capacity {}", bytes(capacity as f64));
    }
    head
}

/// `pipe:[88121]`, `unix:[88121]`, or the path of a FIFO.
pub(crate) fn name(pipe: &PipeSummary) -> String {
    match &pipe.path {
        Some(path) => printable(path).into_owned(),
        None => pipe.link.named(pipe.inode),
    }
}

/// `full 93 % of the time`, whichever of full and empty it was more often. `None` where that is not
/// known.
pub(crate) fn fill(pipe: &PipeSummary) -> Option<String> {
    let fill = pipe.fill.as_ref()?;
    Some(if fill.full_percent >= fill.empty_percent {
        format!("full {}", percent(fill.full_percent))
    } else {
        format!("empty {}", percent(fill.empty_percent))
    })
}

/// Members whose wake-ups are listed for a pipe.
const MOST_WAKERS: usize = 4;

/// What is known of a pipe, by name. `told` is why wake-ups are unknown, if the rows of the
/// previous pipe said so.
pub(crate) fn rows(
    members: &ByPid<'_>,
    pipe: &PipeSummary,
    told: Option<&str>,
) -> Vec<(&'static str, String)> {
    let moved = match (pipe.bytes, pipe.bytes_source) {
        (Some(moved), Some(source)) => {
            let rate = pipe.bytes_per_second.unwrap_or_default();
            let size = bytes(moved as f64);
            format!("{} ({size}), {}; {}", thousands(moved), throughput(rate), source.describe())
        }
        _ => unknown(pipe.bytes_unknown.as_deref()),
    };
    let fill = match &pipe.fill {
        Some(fill) => format!(
            "full {}, empty {} of the time ({}); mean {}",
            percent(fill.full_percent),
            percent(fill.empty_percent),
            counted(fill.counted.looks, "look", "looks"),
            bytes(fill.mean_bytes)
        ),
        None => unknown(pipe.fill_unknown),
    };
    let mut rows = vec![("bytes", moved), ("fill", fill)];
    for (name, calls, mean, rate) in [
        ("writes", pipe.writes, pipe.bytes_per_write, pipe.writes_per_second),
        ("reads", pipe.reads, pipe.bytes_per_read, pipe.reads_per_second),
    ] {
        rows.push((
            name,
            match calls {
                None => unknown(pipe.calls_unknown),
                Some(calls) => {
                    let rate = rate.map(|rate| format!(", {}/s", thousands(rate.round() as u64)));
                    let mean = mean.map(|mean| format!(", {} each", bytes(mean)));
                    thousands(calls) + &rate.unwrap_or_default() + &mean.unwrap_or_default()
                }
            },
        ));
    }
    rows.extend(wakeups(members, pipe, told));
    if let Some((cpu, blocked)) = pipe.cpu_ns_per_gib.zip(pipe.blocked_ns_per_gib) {
        let (cpu, blocked) = (duration(cpu), duration(blocked));
        rows.push(("per GiB", format!("{cpu} CPU time in pipe code, {blocked} blocked on it")));
    }
    rows
}

fn wakeups(
    members: &ByPid<'_>,
    pipe: &PipeSummary,
    told: Option<&str>,
) -> Vec<(&'static str, String)> {
    let comm = |pid: i32| {
        let member = members.get(pid);
        member.map_or_else(|| pid.to_string(), |member| printable(&member.comm).into_owned())
    };
    if let Some(why) = &pipe.wakeups_unknown {
        let why = if told == Some(why) { "as above" } else { why };
        return vec![("wake-ups", unknown(Some(why)))];
    }
    let mut rows = Vec::new();
    for (at, wakeups) in pipe.wakeups.iter().take(MOST_WAKERS).enumerate() {
        let mut words = format!(
            "{} by {}: {}/s",
            comm(wakeups.woken),
            comm(wakeups.waker),
            thousands(wakeups.per_second.round() as u64)
        );
        if let Some(per_gib) = wakeups.per_gib {
            let _ = write!(words, ", {} per GiB", thousands(per_gib.round() as u64));
        }
        if let Some(latency) = wakeups.latency {
            let (median, p99) = (latency.median_ns as f64, latency.p99_ns as f64);
            let (median, p99) = (duration(median), duration(p99));
            let _ = write!(words, "; wake-up latency {median} (median), {p99} (p99)");
        }
        rows.push((if at == 0 { "wake-ups" } else { "" }, words));
    }
    if pipe.wakeups.len() > MOST_WAKERS {
        rows.push(("", format!("and {} more in --json", pipe.wakeups.len() - MOST_WAKERS)));
    }
    rows
}

fn unknown(why: Option<&str>) -> String {
    format!("unknown: {}", why.unwrap_or("not measured"))
}
