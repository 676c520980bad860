//! Files of `perf record` made by hand: which event is shown and how it is called, what its samples
//! weigh, what was lost, and what is said of forms that are none of perf's.

#![allow(clippy::unwrap_used)]

#[path = "common/foreign.rs"]
mod foreign;

use std::path::Path;

use foreign::{Foreign, KERNEL, Nameless, Sampled, TYPE, USER};
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::attr::{event_type, flag, sample_type};
use pipeprof_profiler::error::Error;
use pipeprof_profiler::perfdata::read::PerfDataFile;
use pipeprof_profiler::perfdata::record::kind;
use pipeprof_profiler::profile::{MemberProfile, Mode, Profile, StackWeight, WeightUnit};
use pipeprof_profiler::recording::Recording;
use pipeprof_profiler::symbolize::{Function, Functions, Object, Symbolizer};

/// The profile of a file, with the event of that name shown.
fn shown(file: &Foreign, event: Option<&str>) -> Result<Profile, Error> {
    let (_folder, path) = file.write();
    let recording = Recording::open_event(&path, event)?;
    analyse(&recording, &mut Nameless)
}

fn profile(file: &Foreign) -> Profile {
    shown(file, None).unwrap()
}

fn weight(profile: &Profile) -> u64 {
    profile.members.iter().map(MemberProfile::weight).sum()
}

/// So many samples of the event with that id.
fn samples(file: &mut Foreign, id: u64, count: u64) {
    for time in 1..=count {
        let chain = &[USER, 0x40_0100];
        file.sample(Sampled { id, pid: 100, time, period: 1000, chain, ..Sampled::default() });
    }
}

const CYCLES: u64 = 0;
const INSTRUCTIONS: u64 = 1;

#[test]
fn what_the_kernel_and_perf_both_tell_was_lost_once() {
    let mut file = Foreign::new();
    file.event("cpu-clock", event_type::SOFTWARE, 0, |_| {});
    samples(&mut file, 1, 10);
    let words = |words: [u64; 2]| words.map(u64::to_ne_bytes).concat();
    file.record(kind::LOST, 0, &words([1, 947]), (100, 20, 1));
    file.record(kind::LOST, 0, &words([1, 628]), (100, 30, 1));
    assert_eq!(profile(&file).quality.lost, 1575);
    file.record(kind::LOST_SAMPLES, 0, &words([1575, 0])[..8], (0, 0, 1));
    assert_eq!(profile(&file).quality.lost, 1575);
}

#[test]
fn losses_of_another_event_are_not_those_of_the_one_shown() {
    let mut file = Foreign::new();
    file.event("cpu-clock", event_type::SOFTWARE, 0, |_| {});
    file.event("page-faults", event_type::SOFTWARE, 2, |_| {});
    samples(&mut file, 1, 10);
    samples(&mut file, 2, 5);
    let words = |words: [u64; 2]| words.map(u64::to_ne_bytes).concat();
    file.record(kind::LOST, 0, &words([2, 7]), (100, 20, 2));
    file.record(kind::LOST, 0, &words([1, 3]), (100, 21, 1));
    assert_eq!(profile(&file).quality.lost, 3);
    assert_eq!(shown(&file, Some("page-faults")).unwrap().quality.lost, 7);
    // perf counted them event by event, and knows better than the ring that both share.
    file.record(kind::LOST_SAMPLES, 0, &words([10, 0])[..8], (0, 0, 2));
    assert_eq!(profile(&file).quality.lost, 0);
    assert_eq!(shown(&file, Some("page-faults")).unwrap().quality.lost, 10);
}

/// On a CPU of two kinds perf opens an event for each.
#[test]
fn of_two_kinds_of_cpu_the_one_with_samples_is_shown() {
    let mut file = Foreign::new();
    file.event("cpu_atom/cycles/", event_type::HARDWARE, 10 << 32, |_| {});
    file.event("cpu_core/cycles/", event_type::HARDWARE, 4 << 32, |_| {});
    file.event("dummy:u", event_type::SOFTWARE, 9, |_| {});
    samples(&mut file, 2, 100);
    let quality = profile(&file).quality;
    assert_eq!((quality.samples, quality.event.as_str()), (100, "cpu_core/cycles/"));
    assert_eq!(quality.notes, ["the file has no sample of cpu_atom/cycles/"]);
    samples(&mut file, 1, 30);
    let quality = profile(&file).quality;
    assert_eq!((quality.samples, quality.event.as_str()), (100, "cpu_core/cycles/"));
    assert!(quality.notes[0].contains("cpu_atom/cycles/ (30 samples)"), "{:?}", quality.notes);
    assert_eq!(shown(&file, Some("cpu_atom/cycles/")).unwrap().quality.samples, 30);
}

#[test]
fn time_on_cpu_is_shown_before_what_is_only_counted() {
    let mut file = Foreign::new();
    file.event("instructions", event_type::HARDWARE, INSTRUCTIONS, |_| {});
    file.event("page-faults", event_type::SOFTWARE, 2, |_| {});
    file.event("cycles:u", event_type::HARDWARE, CYCLES, |_| {});
    samples(&mut file, 1, 50);
    samples(&mut file, 2, 90);
    assert_eq!(profile(&file).quality.event, "instructions");
    samples(&mut file, 3, 20);
    assert_eq!(profile(&file).quality.event, "cycles:u");
    // Without its modifiers too.
    assert_eq!(shown(&file, Some("cycles")).unwrap().quality.samples, 20);
}

#[test]
fn an_event_that_is_not_in_the_file_is_refused_with_those_that_are() {
    let mut file = Foreign::new();
    file.event("cycles", event_type::HARDWARE, CYCLES, |_| {});
    file.event("page-faults", event_type::SOFTWARE, 2, |_| {});
    samples(&mut file, 2, 1);
    let error = shown(&file, Some("faults")).unwrap_err();
    assert!(error.to_string().ends_with("has no event faults"), "{error}");
    let hint = error.hint().unwrap();
    assert_eq!(hint, "its events are cycles (0 samples), page-faults (1 sample)");
}

/// `perf record -c`.
/// `perf record -e '{cpu-clock,page-faults}:S'`: the clock takes the samples, and reads both.
#[test]
fn a_sample_that_reads_a_group_counts_for_each_event_of_it() {
    const GROUP_AND_ID: u64 = 8 | 4;
    let mut file = Foreign::new();
    for (name, config) in [("cpu-clock", 0), ("page-faults", 2)] {
        file.event(name, event_type::SOFTWARE, config, |attr| {
            attr.sample_type |= sample_type::READ;
            attr.read_format = GROUP_AND_ID;
        });
    }
    for (time, clock, faults) in [(1, 1_100, 3), (2, 2_300, 3), (3, 3_200, 10)] {
        let (chain, read) = (&[USER, 0x40_0100], &[(clock, 1), (faults, 2)]);
        let sampled =
            Sampled { id: 1, pid: 100, time, period: 1000, chain, read, ..Sampled::default() };
        file.sample(sampled);
    }
    let clock = profile(&file);
    assert_eq!((weight(&clock), clock.quality.samples), (3_200, 3));
    assert!(clock.quality.notes.iter().any(|note| note.contains("page-faults (2 samples)")));
    let faults = shown(&file, Some("page-faults")).unwrap();
    assert_eq!((weight(&faults), faults.quality.samples), (10, 2));
}

#[test]
fn samples_of_a_fixed_period_weigh_that_period() {
    let without = TYPE & !sample_type::PERIOD;
    let weighed = |kind, config, period, is_frequency| {
        let mut file = Foreign::new();
        file.event("", kind, config, |attr| {
            attr.sample_type = without;
            attr.period_or_frequency = period;
            *attr = attr.with_flag(flag::FREQ, is_frequency);
        });
        samples(&mut file, 1, 92);
        let profile = profile(&file);
        (weight(&profile), profile.quality.unit, profile.quality.frequency_hz)
    };
    let (software, hardware) = (event_type::SOFTWARE, event_type::HARDWARE);
    let (ns, events) = (WeightUnit::Nanoseconds, WeightUnit::Events);
    assert_eq!(weighed(software, 0, 1_000_000, false), (92_000_000, ns, None));
    assert_eq!(weighed(hardware, CYCLES, 100_003, false), (92 * 100_003, events, None));
    // A clock that ticks a thousand times a second stands for a millisecond.
    assert_eq!(weighed(software, 1, 1000, true), (92_000_000, ns, Some(1000)));
    assert_eq!(weighed(hardware, CYCLES, 1000, true), (92, events, Some(1000)));
    assert_eq!(weighed(software, 0, 0, false), (92, ns, None));
}

#[test]
fn a_period_of_hours_is_taken_and_a_sum_that_cannot_be_is_not() {
    let mut file = Foreign::new();
    file.event("page-faults", event_type::SOFTWARE, 2, |_| {});
    let sample = |time, period| Sampled {
        id: 1,
        pid: 7,
        time,
        period,
        chain: &[USER, 0x1000],
        ..Sampled::default()
    };
    file.sample(sample(1, 20 * 60 * 1_000_000_000)).sample(sample(2, 1 << 50));
    let whole = profile(&file);
    assert_eq!((whole.quality.samples, whole.quality.malformed_records), (2, 0));
    assert_eq!(weight(&whole), 20 * 60 * 1_000_000_000 + (1 << 50));
    file.sample(sample(3, u64::MAX)).sample(sample(4, 1));
    let damaged = profile(&file);
    assert_eq!((damaged.quality.samples, damaged.quality.malformed_records), (3, 1));
}

/// The spellings are those of `perf evlist` 6.1 for the same attributes.
#[test]
fn an_event_without_a_name_is_called_by_its_numbers() {
    let named = |kind: u32, config: u64, flags: u64| {
        let mut file = Foreign::new();
        file.event("", kind, config, |attr| attr.flags |= flags);
        PerfDataFile::parse(&file.build()).unwrap().events[0].name.clone()
    };
    let precise = |level: u64| level << flag::PRECISE_IP_SHIFT;
    let user_only = flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV;
    let table: &[(u32, u64, u64, &str)] = &[
        (0, 0, 0, "cycles"),
        (0, 9, 0, "ref-cycles"),
        (0, 10, 0, "unknown-hardware"),
        (0, 0, user_only, "cycles:u"),
        (0, 0, flag::EXCLUDE_USER, "cycles:kh"),
        (0, 0, precise(3), "cycles:ppp"),
        (0, 1, user_only | precise(2), "instructions:upp"),
        (1, 0, 0, "cpu-clock"),
        (1, 0, flag::EXCLUDE_KERNEL, "cpu-clock:uh"),
        (1, 8, 0, "emulation-faults"),
        (1, 99, 0, "unknown-software"),
        (2, 300, 0, "tracepoint 300"),
        (3, 0x1_0003, 0, "dTLB-load-misses"),
        (3, 0x0002, 0, "LLC-loads"),
        (3, 0x0200, 0, "L1-dcache-prefetches"),
        (3, 0x1_0200, user_only, "L1-dcache-prefetch-misses:u"),
        (3, 0x0101, 0, "invalid-cache"),
        (3, 0x2_0000, 0, "invalid-cache"),
        (4, 0x1c2, 0, "raw 0x1c2"),
        (6, 1, 0, "unknown attr type: 6"),
        // The PMU above a generic event, of which the file says no name.
        (0, 4 << 32, 0, "cycles"),
        (3, 10 << 32 | 0x1_0000, 0, "L1-dcache-load-misses"),
    ];
    for &(kind, config, flags, name) in table {
        assert_eq!(named(kind, config, flags), name, "{kind} {config:#x} {flags:#x}");
    }
}

#[test]
fn only_a_clock_on_each_thread_is_said_to_have_a_scope_that_matters() {
    let scope = |change: fn(&mut pipeprof_profiler::attr::EventAttr)| {
        let mut file = Foreign::new();
        file.event("cpu-clock", event_type::SOFTWARE, 0, change);
        samples(&mut file, 1, 1);
        format!("{:?}", profile(&file).quality.scope)
    };
    // perf record -a, which inherits all the same; perf record COMMAND; perf record --per-thread.
    assert_eq!(
        scope(|attr| {
            attr.sample_type |= sample_type::CPU;
            attr.flags |= flag::INHERIT;
        }),
        "PerCpu"
    );
    assert_eq!(scope(|attr| attr.flags |= flag::INHERIT | flag::ENABLE_ON_EXEC), "PerTask");
    assert_eq!(scope(|_| {}), "PerTask");
}

#[test]
fn call_chains_as_deep_as_the_file_allows_were_cut() {
    let cut = |limit: u16, depth: u64| {
        let mut file = Foreign::new();
        file.event("cycles", event_type::HARDWARE, CYCLES, |attr| attr.sample_max_stack = limit);
        let chain: Vec<u64> = std::iter::once(USER).chain((1..=depth).map(|at| at << 12)).collect();
        file.sample(Sampled { id: 1, pid: 1, time: 1, chain: &chain, ..Sampled::default() });
        profile(&file).quality.truncated_stacks
    };
    assert_eq!([cut(16, 16), cut(16, 15), cut(200, 127)], [1, 0, 0]);
    // Nothing tells the limit: it is the kernel's own, or more.
    assert_eq!([cut(0, 127), cut(0, 126), cut(0, 300)], [1, 0, 1]);
}

/// A folder as of `perf record --threads`: the header and what perf noted in one file, what each of
/// its threads drained in another.
#[test]
fn a_folder_of_threads_is_read_in_the_order_of_time() {
    let event = |file: &mut Foreign| {
        file.event("cycles", event_type::HARDWARE, CYCLES, |_| {});
    };
    let mut header = Foreign::new();
    event(&mut header);
    header.comm(7, "before", 1, true);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), header.build()).unwrap();
    let sample = |time| Sampled {
        id: 1,
        pid: 7,
        time,
        period: 1,
        chain: &[USER, 0x1000],
        ..Sampled::default()
    };
    for (name, times) in [("data.0", [10, 40]), ("data.1", [20, 50]), ("data.10", [30, 60])] {
        let mut part = Foreign::new();
        event(&mut part);
        times.iter().for_each(|&time| _ = part.sample(sample(time)));
        if name == "data.1" {
            part.comm(7, "after", 55, true);
        }
        std::fs::write(folder.path().join(name), part.records()).unwrap();
    }
    std::fs::create_dir(folder.path().join("kcore_dir")).unwrap();
    let recording = Recording::open(folder.path()).unwrap();
    let loaded = recording.load().unwrap();
    let times: Vec<u64> = (loaded.file.records(&loaded.bytes))
        .filter(|(_, record)| record.kind == kind::SAMPLE)
        .filter_map(|(_, record)| loaded.file.events[0].layout.time(&record))
        .collect();
    assert_eq!(times, [10, 20, 30, 40, 50, 60]);
    assert_eq!(analyse(&recording, &mut Nameless).unwrap().quality.samples, 6);
    for part in ["data", "data.0", "data.10"] {
        let recording = Recording::open(&folder.path().join(part)).unwrap();
        assert_eq!(recording.path(), folder.path(), "{part} is a part of it");
    }
}

fn refusal(path: &Path) -> String {
    let error = Recording::open(path).unwrap_err();
    let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{error}{hint}").replace(&path.display().to_string(), "FILE")
}

#[test]
fn what_is_no_recording_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        refusal(&path)
    };
    assert_eq!(refused(b""), "FILE: not a perf.data file, but an empty file");
    assert_eq!(
        refused(b"\x1f\x8b\x08\0\0"),
        "FILE: not a perf.data file, but a file packed by gzip; gunzip -c 'FILE' > perf.data"
    );
    assert!(refused(b"<?xml version=\"1.0\"?><svg>").contains("an SVG image"));
    assert!(refused(b"main;write 12\n").contains("a text file"));
    assert!(refused(b"2ELIFREP\0\0\0\0").contains("the other byte order"));
    let refused = refusal(folder.path());
    assert!(refused.contains("is a folder, but not a recording"), "{refused}");
}

/// `perf record -e intel_pt//`.
#[test]
fn a_processor_trace_is_named_and_how_to_decode_it() {
    let mut file = Foreign::new();
    file.event("intel_pt//", 8, 0x300, |_| {});
    let stream = |records: &[u8]| {
        let mut bytes = b"PERFILE2".to_vec();
        bytes.extend(16u64.to_ne_bytes());
        let mut attr = EventRecord::of(&file);
        bytes.append(&mut attr.0);
        bytes.extend(records);
        bytes
    };
    // PERF_RECORD_AUXTRACE: 48 bytes, then as many as it says.
    let mut trace = 71u32.to_ne_bytes().to_vec();
    trace.extend([0, 0, 48, 0]);
    trace.extend([16u64, 0, 0, 0, 0].map(u64::to_ne_bytes).concat());
    trace.extend([0; 16]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pt.data");
    std::fs::write(&path, stream(&trace)).unwrap();
    let refused = refusal(&path);
    assert!(refused.contains("a processor trace (intel_pt, cs_etm) without samples"), "{refused}");
    assert!(refused.contains("perf inject --itrace"), "{refused}");
}

/// An event as a record of a stream.
struct EventRecord(Vec<u8>);

impl EventRecord {
    fn of(file: &Foreign) -> Self {
        let bytes = file.build();
        let word = |at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
        let (attrs, attr_size) = (word(24) as usize, word(16) as usize - 16);
        let mut record = kind::HEADER_ATTR.to_ne_bytes().to_vec();
        record.extend(0u16.to_ne_bytes());
        record.extend((8 + attr_size as u16 + 8).to_ne_bytes());
        record.extend(&bytes[attrs..attrs + attr_size]);
        record.extend(1u64.to_ne_bytes());
        EventRecord(record)
    }
}

/// The user half of each sample, leaf first, as offsets in the one file that is mapped.
fn user_addresses(profile: &Profile) -> Vec<Vec<u64>> {
    let of_stack = |weight: &StackWeight| {
        let frames = profile.stack_frames(weight.stack).filter(|frame| frame.mode == Mode::User);
        frames.map(|frame| frame.offset).collect()
    };
    profile.members.iter().flat_map(|member| member.on_cpu.iter().map(of_stack)).collect()
}

/// Names each offset of a file after nothing, from its start on.
struct FromStart;

impl Symbolizer for FromStart {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Functions> {
        let function = |&offset: &u64| {
            vec![Function { name: "f".into(), module: None, offset, inlined: false }]
        };
        addresses.iter().map(function).collect()
    }

    fn object(&mut self, _: &Object, file_offsets: &[u64]) -> Vec<Functions> {
        self.kernel(file_offsets)
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// `perf record --call-graph lbr`: `perf script` prints the same addresses of such a file.
#[test]
fn callers_in_the_branch_stack_are_the_user_half_of_the_call_chain() {
    const CALL_STACK: u64 = 1 << 11;
    let addresses = |branch_type: u64, branches: &[(u64, u64)], chain: &[u64]| {
        let mut file = Foreign::new();
        file.event("cycles", event_type::HARDWARE, CYCLES, |attr| {
            attr.sample_type |= sample_type::BRANCH_STACK;
            attr.branch_sample_type = branch_type;
        });
        file.map(7, 0x40_0000, "/bin/app");
        file.sample(Sampled { id: 1, pid: 7, time: 1, chain, branches, ..Sampled::default() });
        let (_folder, path) = file.write();
        let profile = analyse(&Recording::open(&path).unwrap(), &mut FromStart).unwrap();
        assert_eq!(profile.quality.malformed_records, 0);
        user_addresses(&profile).concat()
    };
    let calls = [(0x40_0210, 0x40_00f0), (0x40_0310, 0x40_0200), (0x40_0410, 0x40_0300)];
    let user = [USER, 0x40_0100];
    assert_eq!(addresses(CALL_STACK, &calls, &user), [0xf0, 0x210, 0x310, 0x410]);
    // Behind the kernel's half, which stays; a kernel thread has no other.
    let both = [KERNEL, 0xffff_ffff_8100_0000, USER, 0x40_0100];
    assert_eq!(addresses(CALL_STACK, &calls, &both), [0xf0, 0x210, 0x310, 0x410]);
    assert!(addresses(CALL_STACK, &calls, &both[..2]).is_empty());
    assert_eq!(addresses(CALL_STACK, &[], &user), [0x100]);
    // Branches that are no calls tell no callers: perf record -b.
    assert_eq!(addresses(1 << 3, &calls, &user), [0x100]);
}

/// A record of 64 KiB can hold gigabytes of zeros.
#[test]
fn packed_records_that_would_fill_the_disk_are_refused_before_they_do() {
    let mut file = Foreign::new();
    file.event("cycles", event_type::HARDWARE, CYCLES, |_| {});
    let mut bytes = b"PERFILE2".to_vec();
    bytes.extend(16u64.to_ne_bytes());
    bytes.extend(EventRecord::of(&file).0);
    let mut zstd = zstd_safe::CCtx::create();
    let (zeros, mut packed) = (vec![0; 8 << 20], vec![0; 1 << 16]);
    let mut output = zstd_safe::OutBuffer::around(&mut packed[..]);
    for _ in 0..8 {
        let mut input = zstd_safe::InBuffer::around(&zeros[..]);
        while input.pos() < zeros.len() {
            zstd.compress_stream(&mut output, &mut input).unwrap();
        }
        zstd.flush_stream(&mut output).unwrap();
    }
    let packed = output.as_slice();
    assert!(packed.len() < 16 << 10, "{} bytes for 64 MiB", packed.len());
    bytes.extend(kind::COMPRESSED.to_ne_bytes());
    bytes.extend([0, 0]);
    bytes.extend((packed.len() as u16 + 8).to_ne_bytes());
    bytes.extend(packed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.data");
    std::fs::write(&path, bytes).unwrap();
    let error = Recording::open(&path).unwrap().load().unwrap_err();
    assert!(error.to_string().contains("it unpacks to more than 250 times"), "{error}");
}

/// `perf record -g -e cpu-clock -e sched:sched_switch --switch-events`, as hotspot's users do.
#[test]
fn switch_records_tell_how_long_and_samples_of_switches_where_threads_slept() {
    let mut file = Foreign::new();
    file.event("cpu-clock", event_type::SOFTWARE, 0, |attr| attr.flags |= flag::CONTEXT_SWITCH);
    file.event("sched:sched_switch", event_type::TRACEPOINT, 314, |_| {});
    file.comm(7, "gzip", 0, false);
    let sampled = |file: &mut Foreign, id, time, at: u64| {
        let chain = &[KERNEL, 0xffff_ffff_8100_0000 + at];
        file.sample(Sampled { id, pid: 7, time, period: 1, chain, ..Sampled::default() });
    };
    let out = 1 << 13;
    for (time, at) in [(100, 0x10), (300, 0x20)] {
        sampled(&mut file, 1, time, 0);
        sampled(&mut file, 2, time + 50, at);
        file.record(kind::SWITCH, out, &[], (7, time + 50, 1));
        file.record(kind::SWITCH, 0, &[], (7, time + 90, 1));
    }
    // The idle task's switches are nobody's.
    file.record(kind::SWITCH, 0, &[], (0, 350, 1)).record(kind::SWITCH, out, &[], (0, 390, 1));
    sampled(&mut file, 1, 400, 0);
    let profile = profile(&file);
    assert_eq!(profile.members.len(), 1);
    let member = &profile.members[0];
    let time = member.time.unwrap();
    // From its first sample to its last, with two sleeps of 40.
    assert_eq!((time.lifetime_ns, time.blocked_ns, time.sleeps), (300, 80, 2));
    assert_eq!(member.blocked.iter().map(|weight| weight.weight).sum::<u64>(), 80);
    assert_eq!(profile.quality.samples, 3);
}

#[test]
fn samples_of_switches_alone_are_said_to_tell_no_blocked_time() {
    let mut file = Foreign::new();
    file.event("context-switches", event_type::SOFTWARE, 3, |_| {});
    file.event("dummy:u", event_type::SOFTWARE, 9, |_| {});
    file.event("cycles", event_type::HARDWARE, CYCLES, |_| {});
    samples(&mut file, 1, 3);
    let profile = profile(&file);
    assert!(profile.members[0].time.is_none());
    let notes = profile.quality.notes.join("\n");
    assert!(notes.contains("perf record --switch-events"), "{notes}");
}

/// A build: thousands of compilers, each of which lives for a sample.
#[test]
fn many_processes_of_one_name_are_one_member() {
    let mut file = Foreign::new();
    file.event("cpu-clock", event_type::SOFTWARE, 0, |_| {});
    file.comm(1, "make", 1, true);
    for number in 0..100i32 {
        let (pid, time) = (1000 + number, 100 + 10 * number as u64);
        let sample = |time| Sampled {
            id: 1,
            pid,
            time,
            period: 2,
            chain: &[USER, 0x1000],
            ..Sampled::default()
        };
        file.fork(1, pid, time).sample(sample(time + 1));
        file.comm(pid, "cc1", time + 2, true).sample(sample(time + 3)).sample(sample(time + 4));
    }
    let profile = profile(&file);
    let told: Vec<_> = (profile.members.iter())
        .map(|member| (member.comm.as_str(), member.processes, member.samples(), member.weight()))
        .collect();
    // Until its exec each was a make, which perf's `--sort comm` says too.
    assert_eq!(told, [("cc1", 100, 200, 400), ("make", 100, 100, 200)]);
}

#[test]
fn a_few_processes_of_one_name_stay_apart_and_a_number_given_again_is_another_process() {
    let mut file = Foreign::new();
    file.event("cpu-clock", event_type::SOFTWARE, 0, |_| {});
    let sample =
        |time| Sampled { id: 1, pid: 7, time, chain: &[USER, 0x1000], ..Sampled::default() };
    file.comm(7, "first", 1, true).sample(sample(2));
    file.fork(1, 7, 3).comm(7, "second", 4, true).sample(sample(5)).sample(sample(6));
    let profile = profile(&file);
    let told: Vec<_> =
        profile.members.iter().map(|m| (m.comm.as_str(), m.pid, m.samples())).collect();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&("first", 7, 1)) && told.contains(&("second", 7, 2)), "{told:?}");
}
