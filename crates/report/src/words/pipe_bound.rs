//! Sentences of a verdict about a pipe: why it limits, and what to do.

use pipeprof_runner::pipeline::End;

use super::units::{bytes, duration, gain, percent, share};
use crate::facts::verdict::Judged;
use crate::verdict::evidence::{Evidence, PipeEvidence, Work};
use crate::verdict::{PipeCause, Remedy};

/// Why the pipe of a verdict limits.
pub(crate) fn cause(evidence: &Evidence, judged: &Judged, cause: PipeCause) -> String {
    let Some(pipe) = judged.pipe else { return String::new() };
    let pipe = &evidence.pipes[pipe];
    // The end that is held back is the one that waits least.
    let most = judged
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
            format!("{} of {}'s CPU time", share(member.work(work), member.on_cpu_ns), member.label)
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
            "each end waits for the other to wake up; at least {} of the time every member waited \
             for another{latency}",
            percent(100.0 * evidence.nobody())
        ),
        PipeCause::WakeUps => {
            format!("blocking and waking the other end is {}{latency}", of_most(Work::WakeUp))
        }
        PipeCause::TooSmall => {
            let size = pipe.capacity_bytes;
            let size =
                size.map_or_else(|| "it".to_owned(), |size| format!("its {}", bytes(size as f64)));
            let burst = judged.larger_pipe.burst_bytes;
            let burst =
                burst.map_or_else(String::new, |burst| format!(" of about {}", bytes(burst)));
            format!("{size} hold less than one batch{burst}, so writer and reader alternate")
        }
        PipeCause::TinyCalls => {
            let least = smallest_call(pipe).0;
            let unit = if least.round() == 1.0 { "byte" } else { "bytes" };
            format!("each call moves {least:.0} {unit}, so the calls take the time, not the bytes")
        }
    }
}

/// The mean of the smaller calls, and which end makes them.
fn smallest_call(pipe: &PipeEvidence) -> (f64, End) {
    let [written, read] = [pipe.bytes_per_write, pipe.bytes_per_read];
    let [writes, reads] = [written, read].map(|mean| mean.unwrap_or(f64::INFINITY));
    if reads < writes { (reads, End::Reader) } else { (writes, End::Writer) }
}

/// What to do about it.
pub(crate) fn remedies(evidence: &Evidence, judged: &Judged, cause: PipeCause) -> Vec<Remedy> {
    let ends = judged.members.iter().copied();
    let Some(most) = ends.max_by(|&a, &b| evidence.drive(a).total_cmp(&evidence.drive(b))) else {
        return Vec::new();
    };
    let member = &evidence.members[most];
    let of_cpu = |work: Work| member.work(work) as f64 / member.on_cpu_ns.max(1) as f64;
    let bounded = |work: Work| {
        let bound = 1.0 / (1.0 - of_cpu(work).clamp(0.0, 0.999));
        let label = &member.label;
        let took = percent(100.0 * of_cpu(work));
        let text = format!("{}: it is {took} of {label}'s CPU time", gain(bound));
        (text, Some(bound))
    };
    let turns = 1.0 / evidence.drive(most).clamp(0.05, 1.0);
    let latency = || {
        let text = format!(
            "{}: {} is busy {} of the time",
            gain(turns),
            member.label,
            percent(100.0 * evidence.drive(most))
        );
        (text, Some(turns))
    };
    let remedy =
        |what: &str, (buys, at_most): (String, Option<f64>)| Remedy::new(what, buys, at_most);
    let wake_ups = || if evidence.nobody() >= 0.1 { latency() } else { bounded(Work::WakeUp) };
    let is_socket = judged.pipe.is_some_and(|at| evidence.pipes[at].link.is_socket());
    if is_socket && cause != PipeCause::TinyCalls {
        return vec![
            remedy("a larger send buffer (SO_SNDBUF) and larger calls: fewer wake-ups", wake_ups()),
            remedy("both ends on one CPU (taskset): no cross-CPU wake-ups", wake_ups()),
        ];
    }
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
                    ("fewer wake-ups, but the same copies".into(), bounded(Work::WakeUp).1),
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
            remedy("both ends on one CPU (taskset): no cross-CPU wake-ups", wake_ups()),
            remedy(
                "a busy loop instead of blocking (SPLICE_F_NONBLOCK): no wake-ups, at the cost of a CPU",
                wake_ups(),
            ),
        ],
        PipeCause::TooSmall => vec![remedy("a larger pipe (F_SETPIPE_SZ, up to 1 MiB)", latency())],
        PipeCause::TinyCalls => {
            let (least, end) = smallest_call(&evidence.pipes[judged.pipe.unwrap_or(0)]);
            let what = match end {
                End::Writer => {
                    "larger writes: a buffer of 64 KiB (dd bs=64K, stdbuf -o64K, setvbuf)"
                }
                End::Reader => {
                    "larger reads: a buffer of 64 KiB (dd bs=64K, setvbuf); a shell's read takes a \
                     byte at a time, awk a block"
                }
            };
            vec![Remedy::new(
                what,
                format!(
                    "{:.0} times fewer calls; a larger pipe alone changes nothing",
                    (65536.0 / least.max(1.0)).max(1.0)
                ),
                None,
            )]
        }
    }
}
