//! Names of events that a file gives only by number, as `perf evlist` spells them
//! (tools/perf/util/evsel.c, `evsel__name`, v6.1).

use rustc_hash::FxHashMap;

use super::event::Event;
use crate::attr::{event_type, flag};

/// Numbers that only the recorded machine gives a meaning to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pmus {
    /// Names of PMUs by the type of their events.
    pub(super) names: FxHashMap<u32, String>,
    /// Names of tracepoints by their ids.
    pub(super) tracepoints: FxHashMap<u64, String>,
}

/// `PERF_TYPE_BREAKPOINT`.
const BREAKPOINT: u32 = 5;
/// `PERF_TYPE_MAX`: from here on types are PMUs.
const FIRST_PMU: u32 = 6;
/// `PERF_PMU_TYPE_SHIFT`: above these bits of a hardware event's config is its PMU, on machines
/// with several kinds of CPU.
const PMU_SHIFT: u32 = 32;

const HARDWARE: [&str; 10] = [
    "cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branches",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "ref-cycles",
];

const SOFTWARE: [&str; 12] = [
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
    "alignment-faults",
    "emulation-faults",
    "dummy",
    "bpf-output",
    "cgroup-switches",
];

/// A cache, and the operations on it that can be counted.
const CACHES: [(&str, &[&str]); 7] = [
    ("L1-dcache", &["load", "store", "prefetch"]),
    ("L1-icache", &["load", "prefetch"]),
    ("LLC", &["load", "store", "prefetch"]),
    ("dTLB", &["load", "store", "prefetch"]),
    ("iTLB", &["load"]),
    ("branch", &["load"]),
    ("node", &["load", "store", "prefetch"]),
];
const OPERATIONS: [(&str, &str); 3] =
    [("load", "loads"), ("store", "stores"), ("prefetch", "prefetches")];

/// The name of an event by its numbers.
pub(super) fn name(event: &Event, pmus: &Pmus) -> String {
    let modifiers = modifiers(event);
    let (pmu, config) = match event.kind {
        event_type::HARDWARE | event_type::HW_CACHE => {
            (pmus.names.get(&((event.config >> PMU_SHIFT) as u32)), event.config & 0xffff_ffff)
        }
        _ => (None, event.config),
    };
    let known = |names: &[&str], unknown: &str| {
        let index = usize::try_from(config).unwrap_or(usize::MAX);
        names.get(index).map_or_else(|| unknown.to_owned(), |name| (*name).to_owned())
    };
    let plain = match event.kind {
        event_type::HARDWARE => known(&HARDWARE, "unknown-hardware"),
        event_type::SOFTWARE => known(&SOFTWARE, "unknown-software"),
        event_type::TRACEPOINT => match pmus.tracepoints.get(&config) {
            // perf gives these no modifiers.
            Some(name) => return name.clone(),
            None => return format!("tracepoint {config}"),
        },
        event_type::HW_CACHE => cache(config).unwrap_or_else(|| "invalid-cache".to_owned()),
        event_type::RAW => format!("raw {config:#x}"),
        BREAKPOINT => breakpoint(event),
        FIRST_PMU.. => match pmus.names.get(&event.kind) {
            Some(pmu) => format!("{pmu}/config={config:#x}/"),
            None => format!("unknown attr type: {}", event.kind),
        },
    };
    match (pmu, modifiers.is_empty()) {
        (Some(pmu), true) => format!("{pmu}/{plain}/"),
        (Some(pmu), false) => format!("{pmu}/{plain}/{modifiers}"),
        (None, true) => plain,
        (None, false) => format!("{plain}:{modifiers}"),
    }
}

/// `L1-dcache-load-misses`, `dTLB-loads`.
fn cache(config: u64) -> Option<String> {
    let byte = |at: u32| (config >> at & 0xff) as usize;
    let (cache, allowed) = CACHES.get(byte(0))?;
    let (one, many) = OPERATIONS.get(byte(8))?;
    if !allowed.contains(one) {
        return None;
    }
    match byte(16) {
        0 => Some(format!("{cache}-{many}")),
        1 => Some(format!("{cache}-{one}-misses")),
        _ => None,
    }
}

/// `mem:0x1234:rw`.
fn breakpoint(event: &Event) -> String {
    let mut name = format!("mem:{:#x}:", event.address);
    let hit_by = [(1, 'r'), (2, 'w'), (4, 'x')];
    name.extend(hit_by.iter().filter(|(bit, _)| event.breakpoint & bit != 0).map(|(_, by)| by));
    name
}

/// Which of kernel, user and hypervisor code is measured, where not all is, and how precisely.
/// perf adds `H` and `G` by what it would have asked for itself; here a guest is named where it
/// alone is measured.
fn modifiers(event: &Event) -> String {
    let is_set = |bit| event.flags & bit != 0;
    let modes = [(flag::EXCLUDE_KERNEL, 'k'), (flag::EXCLUDE_USER, 'u'), (flag::EXCLUDE_HV, 'h')];
    let mut modifiers = String::new();
    if modes.iter().any(|&(bit, _)| is_set(bit)) {
        modifiers.extend(modes.iter().filter(|&&(bit, _)| !is_set(bit)).map(|&(_, mode)| mode));
    }
    let precise = event.flags >> flag::PRECISE_IP_SHIFT & 3;
    modifiers.extend((0..precise).map(|_| 'p'));
    if is_set(flag::EXCLUDE_HOST) {
        modifiers.push('G');
    }
    modifiers
}
