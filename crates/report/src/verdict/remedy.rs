//! What to do about a bottleneck, and what that would and would not buy.
//!
//! Each bound is Amdahl's: with a share s of the time removed altogether, the whole is at most
//! 1 / (1 - s) times as fast; and never faster than the next member in line lets it be.

use serde::Serialize;

use super::evidence::{Evidence, Work};
use super::words::{named, percent, share};
use super::{Finding, Found, PipeCause};
use crate::roles::Reason;

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remedy {
    /// What to do.
    pub what: String,
    /// What that buys at most, and what it doesn't.
    pub buys: String,
    /// The bound: at most so many times as fast. `None` where the evidence bounds nothing.
    pub at_most: Option<f64>,
}

impl Remedy {
    pub(crate) fn new(
        what: impl Into<String>,
        buys: impl Into<String>,
        at_most: Option<f64>,
    ) -> Self {
        Remedy { what: what.into(), buys: buys.into(), at_most }
    }
}

/// Beyond this a bound says nothing.
const NO_BOUND: f64 = 20.0;

pub(crate) fn remedies(evidence: &Evidence, found: &Found) -> Vec<Remedy> {
    match found.finding {
        Finding::Unclear | Finding::Idle => Vec::new(),
        Finding::CpuBound => cpu(evidence, found),
        Finding::Outside(reason) => outside(evidence, found, reason),
        Finding::PipeBound(cause) => pipe(evidence, found, cause),
        Finding::Starved => vec![Remedy::new(
            "run fewer or cheaper processes at a time, or give them more CPUs (taskset, nice, cgroup)",
            "changing the pipes frees only the CPU time that they use",
            starved_bound(evidence),
        )],
        Finding::Balanced => {
            vec![Remedy::new("make all of them faster", "one alone gains almost nothing", None)]
        }
    }
}

/// What a remedy can buy, in words.
pub(crate) fn gain(bound: f64) -> String {
    match bound {
        // It would be printed as 1.0.
        ..1.05 => "negligible".to_owned(),
        ..NO_BOUND => format!("at most {bound:.1}× faster"),
        _ => "no useful bound".to_owned(),
    }
}

fn without(part: f64) -> f64 {
    1.0 / (1.0 - part.clamp(0.0, 0.999))
}

fn starved_bound(evidence: &Evidence) -> Option<f64> {
    let least_waiting = evidence.candidates().first().map(|&at| {
        let member = &evidence.members[at];
        member.runnable_ns as f64 / evidence.elapsed_ns.max(1) as f64
    })?;
    Some(without(least_waiting))
}

/// How much faster the pipeline is if one member takes no time at all: as fast as the next lets it.
fn next_in_line(evidence: &Evidence, found: &Found) -> (String, Option<f64>) {
    let next = evidence.candidates().into_iter().find(|at| !found.members.contains(at));
    match next {
        Some(at) if evidence.drive(at) > 0.05 => {
            let bound = 1.0 / evidence.drive(at);
            let name = &evidence.members[at].label;
            let text = format!(
                "next limit: {name}, busy {} of the time: {}",
                share(evidence.drive(at)),
                gain(bound)
            );
            (text, Some(bound))
        }
        _ => ("no other limit found".to_owned(), None),
    }
}

fn cpu(evidence: &Evidence, found: &Found) -> Vec<Remedy> {
    let Some(&at) = found.members.first() else { return Vec::new() };
    let member = &evidence.members[at];
    let (next, bound) = next_in_line(evidence, found);
    let pipes = without(member.pipe_work() as f64 / member.on_cpu_ns.max(1) as f64);
    let own = percent(member.pipe_work(), member.on_cpu_ns);
    vec![
        Remedy::new(
            format!("make {} cheaper, or spread it over more CPUs", member.label),
            next,
            bound,
        ),
        Remedy::new(
            "a larger pipe, or vmsplice and splice",
            format!("{}: pipes use {own} of its CPU time", gain(pipes)),
            Some(pipes),
        ),
    ]
}

fn outside(evidence: &Evidence, found: &Found, reason: Reason) -> Vec<Remedy> {
    let Some(&at) = found.members.first() else { return Vec::new() };
    let member = &evidence.members[at];
    let what = match reason {
        Reason::Disk => "a faster disk, larger requests, read-ahead, or less to read and write",
        Reason::Network => "a faster peer or network; more than one connection",
        Reason::Sleep => "find out why it sleeps: a rate limit (pv -L), a poll loop, a timer",
        Reason::Child => "look at the child that it waits for",
        Reason::Futex => "look at the thread that it waits for",
        Reason::FileLock => "find who holds the lock (/proc/locks)",
        Reason::Poll => "find out what else it polls for: a rate limit, a socket, a terminal",
        Reason::WaitSpace | Reason::WaitData => "watch the whole pipeline, without --only-pids",
        _ => "look at where it sleeps, in its blocked tower",
    };
    let (next, bound) = next_in_line(evidence, found);
    vec![
        Remedy::new(what, next, bound),
        Remedy::new(
            format!("a faster CPU, or a cheaper {}", member.label),
            format!(
                "{}: {} is on CPU {} of its time",
                gain(without(member.on_cpu_ns as f64 / member.lifetime_ns.max(1) as f64)),
                named(member),
                percent(member.on_cpu_ns, member.lifetime_ns)
            ),
            Some(without(member.on_cpu_ns as f64 / member.lifetime_ns.max(1) as f64)),
        ),
    ]
}

pub(crate) fn pipe(evidence: &Evidence, found: &Found, cause: PipeCause) -> Vec<Remedy> {
    let ends = found.members.iter().copied();
    let Some(most) = ends.max_by(|&a, &b| evidence.drive(a).total_cmp(&evidence.drive(b))) else {
        return Vec::new();
    };
    let member = &evidence.members[most];
    let of_cpu = |work: Work| member.work(work) as f64 / member.on_cpu_ns.max(1) as f64;
    let bounded = |work: Work| {
        let bound = without(of_cpu(work));
        let label = &member.label;
        let took = share(of_cpu(work));
        let text = format!("{}: it is {took} of {label}'s CPU time", gain(bound));
        (text, Some(bound))
    };
    let turns = 1.0 / evidence.drive(most).clamp(0.05, 1.0);
    let latency = || {
        let text = format!(
            "{}: {} is busy {} of the time",
            gain(turns),
            member.label,
            share(evidence.drive(most))
        );
        (text, Some(turns))
    };
    let remedy =
        |what: &str, (buys, at_most): (String, Option<f64>)| Remedy::new(what, buys, at_most);
    let wake_ups = || if evidence.nobody() >= 0.1 { latency() } else { bounded(Work::WakeUp) };
    match cause {
        PipeCause::Copies => {
            let (bound, at_most) = bounded(Work::Copy);
            vec![
                remedy(
                    "vmsplice at the writer and splice at the reader: pages move instead of bytes",
                    (bound + "; pinning the pages costs some of that", at_most),
                ),
                remedy(
                    "a larger pipe (F_SETPIPE_SZ)",
                    ("fewer wake-ups, and the same copies".into(), bounded(Work::WakeUp).1),
                ),
            ]
        }
        PipeCause::PageAllocation => vec![remedy(
            "vmsplice: the writer lends its own pages, and none are allocated",
            bounded(Work::PageAllocation),
        )],
        PipeCause::PagePinning => vec![remedy(
            "huge pages for the writer's buffer: fewer to pin",
            bounded(Work::PagePinning),
        )],
        PipeCause::Lock => vec![remedy(
            "larger calls, or both ends on one CPU: the lock is taken less often, or never contended",
            bounded(Work::Lock),
        )],
        PipeCause::WakeUps => vec![
            remedy("a larger pipe (F_SETPIPE_SZ) and larger calls: fewer wake-ups", wake_ups()),
            remedy("both ends on one CPU (taskset): no wake-up from CPU to CPU", wake_ups()),
            remedy(
                "a busy loop instead of blocking (SPLICE_F_NONBLOCK): no wake-ups, at the cost of a CPU",
                wake_ups(),
            ),
        ],
        PipeCause::TooSmall => vec![remedy("a larger pipe (F_SETPIPE_SZ, up to 1 MiB)", latency())],
        PipeCause::TinyCalls => {
            let least = evidence.pipes[found.pipe.unwrap_or(0)].bytes_per_write.unwrap_or(1.0);
            vec![Remedy::new(
                "larger calls: a buffer of 64 KiB (dd bs=64K, stdbuf -o64K, setvbuf)",
                format!(
                    "{:.0} times fewer calls; a larger pipe alone changes nothing",
                    (65536.0 / least.max(1.0)).max(1.0)
                ),
                None,
            )]
        }
    }
}
