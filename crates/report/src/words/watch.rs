//! Sentences about a watch with triggers.

use std::time::Duration;

use crate::escape::printable;
use crate::live::PipelineNow;
use crate::words::units::{duration, throughput};

/// What was seen when a trigger fired: `throughput < 50MiB/s for 10s: throughput 1.2 MiB/s, 0.31
/// CPUs, limit: gzip (4121)`.
pub fn moment(trigger: &str, now: &PipelineNow) -> String {
    let rate = now.bytes_per_second.map(|rate| format!("throughput {}", throughput(rate)));
    let limit = now.limit.and_then(|limit| now.members.get(limit.member?));
    let limit = limit.map(|member| format!("limit: {} ({})", printable(&member.name), member.pid));
    let cpus = Some(format!("{:.2} CPUs", now.cpus_used));
    let seen: Vec<String> = [rate, cpus, limit].into_iter().flatten().collect();
    format!("{}: {}", printable(trigger), seen.join(", "))
}

/// A recording that is shorter than what a trigger waits for.
pub fn too_short(trigger: &str, keep: Duration, wanted: Duration) -> String {
    format!(
        "'{}' waits longer than a recording of {} lasts, so the recording will miss how it began; \
         hint: --keep {}s",
        printable(trigger),
        duration(keep.as_nanos() as f64),
        wanted.as_secs_f64().ceil()
    )
}
