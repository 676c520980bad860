//! Sentences about what the control group of a member limits.

use pipeprof_profiler::states::{GroupLimits, IoLimit, Stalls, Why};

use super::units::{bytes, cpus, percent, thousands, throughput};
use crate::control_group::ControlGroup;
use crate::escape::printable;
use crate::facts::states::Outside;

/// Stalls below this share of the time explain nothing.
const LEAST_STALLED: f64 = 0.05;

/// How a limit explains that a member waits, as the end of a sentence; `None` where none does.
pub(crate) fn explains((limits, waits_for): (&GroupLimits, Outside)) -> Option<String> {
    let Outside::For(why) = waits_for else { return None };
    let (may, stalled) = match why {
        Why::Disk | Why::Writeback => {
            let reads = why == Why::Disk;
            let io: Vec<String> =
                limits.io.iter().filter_map(|limit| device(limit, reads)).collect();
            let may = (!io.is_empty()).then(|| format!("may {} (io.max)", io.join(", ")));
            (may?, stalled(limits, |stalls| stalls.io_ns, "the disk"))
        }
        Why::Memory => (memory(limits)?, stalled(limits, |stalls| stalls.memory_ns, "memory")),
        _ => return None,
    };
    Some(format!("; its control group {may}{}", stalled.unwrap_or_default()))
}

/// What helps against such a limit.
pub(crate) fn advice((limits, waits_for): (&GroupLimits, Outside)) -> Option<String> {
    explains((limits, waits_for))?;
    let file = match waits_for {
        Outside::For(Why::Memory) if memory_is_high(limits) => "memory.high",
        Outside::For(Why::Memory) => "memory.max",
        _ => "io.max",
    };
    Some(format!("raise {file} of its control group"))
}

/// All that it limits, `; its control group may use 512 MiB (memory.high)`; empty where it limits
/// nothing.
pub(crate) fn listed(group: &ControlGroup) -> String {
    let ControlGroup { cpu_quota, limits, .. } = group;
    let io = limits.io.iter().filter_map(|limit| device(limit, true));
    let quota = cpu_quota.map(|quota| format!("may use {} (cpu.max)", cpus(quota)));
    let mut all: Vec<String> = quota.into_iter().chain(memory(limits)).collect();
    all.extend(io.map(|device| format!("may {device} (io.max)")));
    all.extend(limits.cpus.as_ref().map(|cpus| format!("is bound to CPUs {}", printable(cpus))));
    if all.is_empty() { String::new() } else { format!("; its control group {}", all.join(", ")) }
}

/// `memory.high` is reached first where it is the lower one.
fn memory_is_high(limits: &GroupLimits) -> bool {
    let max = limits.memory_max_bytes;
    limits.memory_high_bytes.is_some_and(|high| max.is_none_or(|max| high <= max))
}

fn memory(limits: &GroupLimits) -> Option<String> {
    let (limit, file) = match memory_is_high(limits) {
        true => (limits.memory_high_bytes, "memory.high"),
        false => (limits.memory_max_bytes, "memory.max"),
    };
    Some(format!("may use {} of memory ({file})", bytes(limit? as f64)))
}

/// `read 10 MiB/s on device 8:16`; `None` where what was asked for is not limited.
fn device(limit: &IoLimit, reads: bool) -> Option<String> {
    let side = |verb: &str, rate: Option<u64>, calls: Option<u64>| {
        let rate = rate.map(|rate| format!("{verb} {}", throughput(rate as f64)));
        let calls = calls.map(|calls| format!("{verb} {} times/s", thousands(calls)));
        [rate, calls].into_iter().flatten()
    };
    let read = side("read", limit.read_bytes_per_second, limit.reads_per_second);
    let written = side("write", limit.write_bytes_per_second, limit.writes_per_second);
    let all: Vec<String> = read.filter(|_| reads).chain(written).collect();
    let device = printable(&limit.device);
    (!all.is_empty()).then(|| format!("{} on device {device}", all.join(" and ")))
}

/// `, and some of its tasks waited for memory 83 % of the time`.
fn stalled(limits: &GroupLimits, of: impl Fn(&Stalls) -> u64, what: &str) -> Option<String> {
    let stalls = limits.stalled.as_ref()?;
    let share = of(stalls) as f64 / stalls.watched_ns.max(1) as f64;
    let some = percent(100.0 * share.min(1.0));
    (share >= LEAST_STALLED)
        .then(|| format!(", and some of its tasks waited for {what} {some} of the time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> GroupLimits {
        GroupLimits {
            memory_high_bytes: Some(512 << 20),
            memory_max_bytes: Some(1 << 30),
            io: vec![IoLimit {
                device: "8:16".into(),
                read_bytes_per_second: Some(10 << 20),
                writes_per_second: Some(1200),
                ..IoLimit::default()
            }],
            cpus: Some("0-1".into()),
            stalled: Some(Stalls { watched_ns: 1000, cpu_ns: 0, memory_ns: 20, io_ns: 830 }),
        }
    }

    #[test]
    fn a_limit_explains_only_waits_for_what_it_limits() {
        let of = |why| explains((&limits(), Outside::For(why)));
        insta::assert_snapshot!(of(Why::Disk).unwrap(), @"; its control group may read 10 MiB/s and write 1,200 times/s on device 8:16 (io.max), and some of its tasks waited for the disk 83 % of the time");
        insta::assert_snapshot!(of(Why::Writeback).unwrap(), @"; its control group may write 1,200 times/s on device 8:16 (io.max), and some of its tasks waited for the disk 83 % of the time");
        insta::assert_snapshot!(of(Why::Memory).unwrap(), @"; its control group may use 512 MiB of memory (memory.high)");
        assert_eq!(of(Why::Network), None);
        assert_eq!(explains((&limits(), Outside::ForeignData)), None);
        let reads_only = GroupLimits {
            io: vec![IoLimit { writes_per_second: None, ..limits().io.remove(0) }],
            ..GroupLimits::default()
        };
        assert_eq!(explains((&reads_only, Outside::For(Why::Writeback))), None);
        assert_eq!(explains((&GroupLimits::default(), Outside::For(Why::Memory))), None);
    }

    #[test]
    fn all_limits_are_listed_and_the_lower_of_two_for_memory() {
        let group = ControlGroup { cpu_quota: Some(0.5), limits: limits(), ..Default::default() };
        insta::assert_snapshot!(listed(&group), @"; its control group may use 0.5 CPUs (cpu.max), may use 512 MiB of memory (memory.high), may read 10 MiB/s and write 1,200 times/s on device 8:16 (io.max), is bound to CPUs 0-1");
        assert_eq!(listed(&ControlGroup::default()), "");
        let max = GroupLimits { memory_max_bytes: Some(1), ..limits() };
        assert_eq!(
            advice((&max, Outside::For(Why::Memory))).as_deref(),
            Some("raise memory.max of its control group")
        );
    }
}
