//! The verdict in words. Shares of a member are of its lifetime, as in its table.

use super::evidence::{Evidence, MemberEvidence, Work};
use super::{Confidence, Finding, Found, PipeCause, Remedy, Verdict};
use crate::roles::Reason;
use crate::words::units::duration;

/// Members that are told of beside the bottleneck.
const MOST_LINES: usize = 8;

pub(super) fn verdict(evidence: &Evidence, found: Found, remedies: Vec<Remedy>) -> Verdict {
    let headline = headline(evidence, &found);
    let mut lines = Vec::new();
    if found.finding != Finding::Unclear {
        lines.extend(neighbours(evidence, &found));
        lines.extend(in_pipes(evidence));
    }
    Verdict {
        finding: found.finding,
        members: found.members.iter().map(|&at| evidence.members[at].pid).collect(),
        pipe: found.pipe.map(|at| evidence.pipes[at].inode),
        confidence: found.confidence,
        doubt: doubt(found.confidence),
        limits: Vec::new(),
        phases: Vec::new(),
        headline,
        evidence: lines,
        remedies,
    }
}

/// What speaks against a verdict that was drawn from averages.
fn doubt(confidence: Option<Confidence>) -> Option<String> {
    let words = match confidence? {
        Confidence::High => return None,
        Confidence::Medium => "medium confidence: not every neighbour waits as expected",
        Confidence::Low => {
            "low confidence: another member is almost as busy, or the neighbours do not wait as \
             expected"
        }
    };
    Some(words.to_owned())
}

/// `97 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = 100.0 * part as f64 / whole.max(1) as f64;
    if part > 0 && share < 0.5 { "<1 %".into() } else { format!("{share:.0} %") }
}

pub(crate) fn share(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

pub(crate) fn named(member: &MemberEvidence) -> String {
    format!("{} (pid {})", member.label, member.pid)
}

pub(crate) fn list(evidence: &Evidence, members: &[usize]) -> String {
    let names: Vec<String> = members.iter().map(|&at| named(&evidence.members[at])).collect();
    match &names[..] {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn headline(evidence: &Evidence, found: &Found) -> String {
    let first = found.members.first().map(|&at| &evidence.members[at]);
    match (found.finding, first) {
        (Finding::Unclear | Finding::Idle, _) | (_, None) => {
            format!("no verdict: {}", found.why.as_deref().unwrap_or("not enough data"))
        }
        (Finding::CpuBound, Some(member)) => {
            format!("bottleneck: {}, {}", named(member), busy(member, evidence.elapsed_ns))
        }
        (Finding::Outside(reason), Some(member)) => format!(
            "bottleneck: {}, {} {} of {}",
            named(member),
            outside(reason),
            percent(member.blocked_for(reason), member.lifetime_ns),
            if member.is_many(evidence.elapsed_ns) {
                "the time of its threads and children together"
            } else {
                "the time"
            },
        ),
        (Finding::Starved, Some(_)) => starved(evidence, &found.members),
        (Finding::Balanced, Some(_)) => {
            format!(
                "bottleneck: {} equally; none of them waits much for the others",
                list(evidence, &found.members)
            )
        }
        (Finding::PipeBound(cause), Some(_)) => {
            let pipe = found.pipe.map_or(0, |at| evidence.pipes[at].inode);
            let ends = list(evidence, &found.members);
            format!(
                "bottleneck: pipe:[{pipe}] between {ends}: {}",
                pipe_words(evidence, found, cause)
            )
        }
    }
}

fn busy(member: &MemberEvidence, elapsed_ns: u64) -> String {
    let mut text = format!("on CPU {} of the time", percent(member.on_cpu_ns, member.lifetime_ns));
    if member.is_many(elapsed_ns) {
        text = format!(
            "on {:.1} CPUs (its threads and children on CPU {} of their time)",
            member.on_cpu_ns as f64 / elapsed_ns.max(1) as f64,
            percent(member.on_cpu_ns, member.lifetime_ns)
        );
    }
    if member.runnable_ns.saturating_mul(20) >= member.lifetime_ns {
        text += &format!(", runnable {}", percent(member.runnable_ns, member.lifetime_ns));
    }
    text
}

fn outside(reason: Reason) -> &'static str {
    match reason {
        Reason::WaitSpace => "waiting for space in a pipe outside this pipeline",
        Reason::WaitData => "waiting for data from a pipe outside this pipeline",
        Reason::PipeLock => "waiting for the lock of a pipe",
        Reason::Poll => "waiting in poll() for something other than these pipes",
        Reason::Disk => "waiting for a disk",
        Reason::Network => "waiting for the network",
        Reason::Child => "waiting for a child process",
        Reason::Sleep => "sleeping on a timer",
        Reason::Futex => "waiting for another thread",
        Reason::FileLock => "waiting for a file lock",
        Reason::Other => "waiting for something else",
        Reason::Unknown => "sleeping, cause unknown,",
    }
}

fn starved(evidence: &Evidence, members: &[usize]) -> String {
    let sum = |field: fn(&MemberEvidence) -> u64| -> u64 {
        evidence.candidates().iter().map(|&at| field(&evidence.members[at])).sum()
    };
    let per_elapsed = |ns: u64| ns as f64 / evidence.elapsed_ns.max(1) as f64;
    let (on_cpu, runnable) = (sum(|m| m.on_cpu_ns), sum(|m| m.runnable_ns));
    let others = if per_elapsed(on_cpu) < 0.75 * evidence.cpus as f64 {
        "; other processes or a CPU limit took the rest"
    } else {
        ""
    };
    format!(
        "bottleneck: the CPUs: the members kept {:.1} of {} busy{others} and waited for {:.1} more; \
         most of all {}",
        per_elapsed(on_cpu),
        evidence.cpus,
        per_elapsed(runnable),
        list(evidence, &members[..members.len().min(3)]),
    )
}

pub(crate) fn pipe_words(evidence: &Evidence, found: &Found, cause: PipeCause) -> String {
    let Some(pipe) = found.pipe else { return String::new() };
    let pipe = &evidence.pipes[pipe];
    // The end that is held back is the one that waits least.
    let most = found
        .members
        .iter()
        .copied()
        .max_by(|&a, &b| evidence.drive(a).total_cmp(&evidence.drive(b)))
        .map(|at| &evidence.members[at]);
    let latency = pipe.latency.as_ref().map_or_else(String::new, |latency| {
        format!(
            "; wake-up latency of {}: {} (median), {} (p99)",
            latency.woken,
            duration(latency.median_ns as f64),
            duration(latency.p99_ns as f64)
        )
    });
    let of_most = |work: Work| {
        most.map_or_else(String::new, |member| {
            format!(
                "{} of {}'s CPU time",
                percent(member.work(work), member.on_cpu_ns),
                member.label
            )
        })
    };
    match cause {
        PipeCause::Copies => format!("copying is {}", of_most(Work::Copy)),
        PipeCause::PageAllocation => {
            format!("allocating and freeing pages is {}", of_most(Work::PageAllocation))
        }
        PipeCause::PagePinning => format!("pinning pages is {}", of_most(Work::PagePinning)),
        PipeCause::Lock => format!("its lock is {}", of_most(Work::Lock)),
        PipeCause::WakeUps if evidence.nobody() >= 0.1 => format!(
            "each end waits for the other to wake up; for {} of the time, at the least, no member \
             did anything but wait for another{latency}",
            share(evidence.nobody())
        ),
        PipeCause::WakeUps => {
            format!("blocking and waking the other end is {}{latency}", of_most(Work::WakeUp))
        }
        PipeCause::TooSmall => {
            let size = pipe
                .capacity_bytes
                .map_or_else(|| "it".to_owned(), |bytes| format!("its {} KiB", bytes >> 10));
            format!("{size} is smaller than one batch, so writer and reader alternate")
        }
        PipeCause::TinyCalls => {
            let small = pipe.bytes_per_write.into_iter().chain(pipe.bytes_per_read);
            let least = small.fold(f64::INFINITY, f64::min);
            let unit = if least.round() == 1.0 { "byte" } else { "bytes" };
            format!("each call moves {least:.0} {unit}, so the calls take the time, not the bytes")
        }
    }
}

/// A line for each member beside the bottleneck: what it does instead.
fn neighbours(evidence: &Evidence, found: &Found) -> Vec<String> {
    let mut lines: Vec<(String, String, String)> = Vec::new();
    let all = matches!(found.finding, Finding::Balanced | Finding::Starved | Finding::PipeBound(_));
    let mut shown = evidence.candidates();
    shown.sort_unstable();
    for at in shown {
        if !all && found.members.contains(&at) {
            continue;
        }
        let member = &evidence.members[at];
        let of_life = |ns| percent(ns, member.lifetime_ns);
        let longest = member.blocked.iter().copied().max_by_key(|(_, ns)| *ns);
        let (reason, ns) = longest.unwrap_or((Reason::Unknown, 0));
        let asleep = ns > member.on_cpu_ns && ns > member.runnable_ns;
        let what = if member.on_cpu_ns >= ns && member.on_cpu_ns >= member.runnable_ns {
            format!("on CPU {}", of_life(member.on_cpu_ns))
        } else if member.runnable_ns >= ns {
            format!("runnable {}", of_life(member.runnable_ns))
        } else {
            let on = match reason {
                Reason::WaitSpace => "on a full pipe ",
                Reason::WaitData => "on an empty pipe ",
                _ => "",
            };
            format!("blocked {} {on}({})", of_life(ns), reason.label())
        };
        let pipe = match reason {
            _ if !asleep => String::new(),
            Reason::WaitSpace => pipe_at(evidence, &member.writes_to, true),
            Reason::WaitData => pipe_at(evidence, &member.reads_from, false),
            _ => String::new(),
        };
        let name = if evidence.members.iter().filter(|m| m.label == member.label).count() > 1 {
            format!("{} ({})", member.label, member.pid)
        } else {
            member.label.clone()
        };
        lines.push((name, what, pipe));
    }
    let left_out = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    let width = |column: fn(&(String, String, String)) -> &String| {
        lines.iter().map(|line| column(line).chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(|line| &line.0), width(|line| &line.1));
    let mut text: Vec<String> = lines
        .iter()
        .map(|(name, what, pipe)| {
            format!("  {name:first$}  {what:second$}  {pipe}").trim_end().to_owned()
        })
        .collect();
    if left_out > 0 {
        text.push(format!("  and {left_out} more"));
    }
    text
}

/// The fullest, or emptiest, of some pipes.
pub(crate) fn pipe_at(evidence: &Evidence, pipes: &[usize], full: bool) -> String {
    let of = |at: usize| if full { evidence.pipes[at].full } else { evidence.pipes[at].empty };
    let known = pipes.iter().copied().filter_map(|at| Some((at, of(at)?)));
    match known.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((at, found)) => format!(
            "pipe:[{}] {} {}",
            evidence.pipes[at].inode,
            if full { "full" } else { "empty" },
            share(found)
        ),
        None => String::new(),
    }
}

/// What the pipes themselves cost.
pub(crate) fn in_pipes(evidence: &Evidence) -> Option<String> {
    if evidence.pipes.is_empty() {
        return None;
    }
    let on_cpu: u64 = evidence.members.iter().map(|member| member.on_cpu_ns).sum();
    let sum = |work: Work| -> u64 { evidence.members.iter().map(|m| m.work(work)).sum() };
    let mut parts: Vec<(Work, u64)> = Work::ALL
        .into_iter()
        .map(|work| (work, sum(work)))
        .filter(|(_, ns)| ns.saturating_mul(200) >= on_cpu.max(1))
        .collect();
    parts.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let each: Vec<String> = parts
        .iter()
        .map(|(work, ns)| format!("{} {}", work.label(), percent(*ns, on_cpu)))
        .collect();
    let whole: u64 = Work::ALL.into_iter().map(sum).sum();
    let mut line = format!("pipe code: {} of all CPU time", percent(whole, on_cpu));
    if !each.is_empty() {
        line += &format!(" ({})", each.join(", "));
    }
    Some(line)
}
