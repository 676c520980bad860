//! Profiles for tests: the recorded stages, and what `perf script` prints.
// Each test binary uses its part.
#![allow(dead_code)]

use std::collections::HashMap;
use std::sync::Arc;

use pipeprof_profiler::meter::{Bytes, Fill, PipeFlow, Point, Source};
use pipeprof_profiler::profile::{
    Frame, FrameId, FrameKind, MemberProfile, Mode, Profile, Quality, Scope, StackId, StackWeight,
    TimeSplit, WeightUnit,
};
use pipeprof_profiler::states::{
    Account, Bin, PipeRef, ProcessRef, ProcessSeen, ProcessState, StateRef, Timeline,
};
use pipeprof_profiler::wakeups::{Latency, Waker, WakeupEdge, Wakeups};
use pipeprof_report::run::Run;
use pipeprof_runner::pipeline::{End, Link, Member, Pipe, Pipeline};

/// The five stages that `tests/fixtures` holds a recording of.
pub(crate) const STAGES: [&str; 5] = ["write", "vmsplice", "splice", "huge-page", "busy-loop"];

pub(crate) fn quality() -> Quality {
    Quality {
        event: "cpu-clock".into(),
        fallback: Some("cycles: No such file or directory (ENOENT)".into()),
        frequency_hz: Some(4999),
        frequency_range_hz: None,
        sampling_effect: None,
        scope: Scope::PerCpu,
        unit: WeightUnit::Nanoseconds,
        timer_driven: true,
        interrupts_wait: true,
        kernel_visible: true,
        samples: 0,
        foreign_samples: 0,
        lost: 0,
        throttled: 0,
        unresolved_frames: 0,
        frames: 0,
        truncated_stacks: 0,
        cut_user_stacks: 0,
        unwinding: None,
        malformed_records: 0,
        cut_short: false,
        notes: Vec::new(),
    }
}

/// A frame from `name` or `name+hexoffset`.
pub(crate) fn frame(mode: Mode, text: &str) -> Frame {
    let (name, offset) = match text.rsplit_once('+') {
        Some((name, hex)) => match u64::from_str_radix(hex.trim_start_matches("0x"), 16) {
            Ok(offset) => (name, offset),
            Err(_) => (text, 0),
        },
        None => (text, 0),
    };
    let module = match mode {
        Mode::Kernel => "[kernel.kallsyms]",
        Mode::User => "/usr/bin/pp",
    };
    Frame {
        name: Arc::from(name),
        module: Some(Arc::from(module)),
        mode,
        kind: FrameKind::Symbol,
        offset,
    }
}

/// Adds up stacks per member.
pub(crate) struct Builder {
    pub(crate) profile: Profile,
    counts: Vec<HashMap<StackId, usize>>,
}

/// At 4999 Hz.
pub(crate) const PERIOD_NS: u64 = 200_040;

impl Builder {
    pub(crate) fn new() -> Self {
        Builder { profile: Profile::new(quality()), counts: Vec::new() }
    }

    pub(crate) fn member(&mut self, end: Option<End>, comm: &str, pid: i32) -> usize {
        self.profile.members.push(MemberProfile::new(pid, comm.into(), end));
        self.counts.push(HashMap::new());
        self.counts.len() - 1
    }

    /// Leaf first.
    pub(crate) fn add(&mut self, member: usize, frames: &[Frame], samples: u64) -> StackId {
        let ids: Vec<FrameId> =
            frames.iter().map(|f| self.profile.intern_frame(f.clone())).collect();
        let stack = self.profile.intern_stack(&ids);
        let weight = samples * PERIOD_NS;
        let on_cpu = &mut self.profile.members[member].on_cpu;
        let at = *self.counts[member].entry(stack).or_insert_with(|| {
            on_cpu.push(StackWeight { stack, samples: 0, weight: 0 });
            on_cpu.len() - 1
        });
        on_cpu[at].samples += samples;
        on_cpu[at].weight += weight;
        self.profile.quality.samples += samples;
        self.profile.quality.frames += samples * frames.len() as u64;
        stack
    }

    /// A stack written as in KERNEL notes: `leaf < caller+0x3b2 < …`, all kernel frames.
    pub(crate) fn kernel(&mut self, member: usize, text: &str, samples: u64) -> StackId {
        let frames: Vec<Frame> =
            text.split('<').map(|name| frame(Mode::Kernel, name.trim())).collect();
        self.add(member, &frames, samples)
    }
}

/// One of the recorded stages.
pub(crate) fn stage(name: &str) -> Profile {
    let path = format!("{}/tests/fixtures/{name}.tree", env!("CARGO_MANIFEST_DIR"));
    from_tree(&std::fs::read_to_string(&path).unwrap())
}

/// Reads the fixtures' format: a tree, a frame a line, a space of indentation a level, root first,
/// the samples that ended there last.
fn from_tree(text: &str) -> Profile {
    let mut builder = Builder::new();
    let mut member = 0;
    let mut path: Vec<Frame> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let body = line.trim_start_matches(' ');
        let depth = line.len() - body.len();
        let words: Vec<&str> = body.split(' ').collect();
        if depth == 0 {
            let end = if words[0] == "writer" { End::Writer } else { End::Reader };
            member = builder.member(Some(end), words[2], words[1].parse().unwrap());
            path.clear();
            continue;
        }
        let mode = if words[0] == "k" { Mode::Kernel } else { Mode::User };
        let samples =
            if words.len() > 2 { words[words.len() - 1].parse::<u64>().ok() } else { None };
        let name_words = if samples.is_some() { &words[1..words.len() - 1] } else { &words[1..] };
        path.truncate(depth - 1);
        path.push(frame(mode, &name_words.join(" ")));
        if let Some(samples) = samples {
            let leaf_first: Vec<Frame> = path.iter().rev().cloned().collect();
            builder.add(member, &leaf_first, samples);
        }
    }
    builder.profile
}

/// Reads `perf script -F comm,pid,tid,time,period,event,ip,sym,symoff,dso`: one member a pid, of
/// those whose comm `end` knows.
pub(crate) fn from_perf_script(text: &str, end: impl Fn(&str) -> Option<End>) -> Profile {
    let mut builder = Builder::new();
    let mut members: HashMap<String, usize> = HashMap::new();
    for record in text.split("\n\n").filter(|record| !record.trim().is_empty()) {
        let mut lines = record.lines().filter(|line| !line.is_empty());
        let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        let (comm, pid) = (header[0], header[1].split('/').next().unwrap());
        let Some(which) = end(comm) else { continue };
        let frames: Vec<Frame> = lines
            .filter_map(|line| {
                let (_, rest) = line.trim().split_once(' ')?;
                let (name, dso) = rest.rsplit_once(" (")?;
                let dso = dso.trim_end_matches(')');
                let kernel = dso.starts_with('[') && dso != "[vdso]" && dso != "[unknown]";
                Some(frame(if kernel { Mode::Kernel } else { Mode::User }, name))
            })
            .collect();
        if frames.is_empty() {
            continue;
        }
        let member = *members
            .entry(pid.to_owned())
            .or_insert_with(|| builder.member(Some(which), comm, pid.parse().unwrap()));
        builder.add(member, &frames, 1);
    }
    builder.profile
}

/// A run of one pipe, from the first member to the second, at `gib_per_s`.
pub(crate) fn pair(profile: Profile, subject: &str, bytes: u64, gib_per_s: f64) -> Run {
    let members = profile.members.iter().map(|member| Member {
        pid: member.pid,
        start_time_ticks: None,
        comm: member.comm.clone(),
        command_line: Vec::new(),
        end: member.end,
    });
    let members: Vec<Member> = members.collect();
    let pipe = Pipe {
        link: Link::Pipe,
        inode: 7,
        device: 0,
        path: None,
        writers: members[..1].iter().map(Member::id).collect(),
        readers: members[1..].iter().map(Member::id).collect(),
        capacity_bytes: None,
    };
    let flow = PipeFlow {
        inode: 7,
        device: 0,
        bytes: Bytes::Known { bytes, source: Source::Pair },
        writes: None,
        reads: None,
        over_time: Vec::new(),
        fill_over_time: Vec::new(),
        capacity_bytes: None,
        fill: None,
    };
    Run {
        pipeline: Pipeline { members, pipes: vec![pipe] },
        flows: vec![flow],
        subject: subject.to_owned(),
        kernel: "6.18.44".to_owned(),
        elapsed_ns: (bytes as f64 / gib_per_s / 1_073_741_824.0 * 1e9) as u64,
        cpus: 2,
        ..Run::bare(profile)
    }
}

/// A run of which nobody knows what its pipe carried.
pub(crate) fn without_bytes(mut run: Run) -> Run {
    run.pipeline.pipes.clear();
    run.flows.clear();
    run
}

/// `zcat | sort`, a second each: zcat waits for space, sort computes.
pub(crate) fn blocked_chain() -> Run {
    chain_at(
        Link::Pipe,
        [
            "copy_page_from_iter < anon_pipe_write+3b2 < ksys_write",
            "schedule < anon_pipe_write+1 < vfs_write < ksys_write",
            "schedule < anon_pipe_read+1 < vfs_read < ksys_read",
        ],
    )
}

/// The same over a link of another kind: where zcat runs, where it sleeps and where sort does.
pub(crate) fn chain_at(link: Link, [runs, zcat_sleeps, sort_sleeps]: [&str; 3]) -> Run {
    let mut builder = Builder::new();
    let zcat = builder.member(None, "zcat", 11);
    let sort = builder.member(None, "sort", 12);
    let shell = builder.member(None, "sh", 10);
    builder.kernel(zcat, runs, 100);
    builder.add(sort, &[frame(Mode::User, "main")], 4000);
    let sleeps = [
        (zcat, zcat_sleeps, 700_000_000, 100_000_000),
        (sort, sort_sleeps, 50_000_000, 900_000_000),
        // As /proc/PID/wchan names it.
        (shell, "do_wait", 1_000_000_000, 0),
    ];
    for (member, text, blocked_ns, on_cpu_ns) in sleeps {
        let frames: Vec<FrameId> = text
            .split('<')
            .map(|name| builder.profile.intern_frame(frame(Mode::Kernel, name.trim())))
            .collect();
        let stack = builder.profile.intern_stack(&frames);
        let member = &mut builder.profile.members[member];
        member.blocked.push(StackWeight { stack, samples: 10, weight: blocked_ns });
        member.time = Some(TimeSplit {
            lifetime_ns: 1_000_000_000,
            on_cpu_ns,
            blocked_ns,
            runnable_ns: 1_000_000_000 - on_cpu_ns - blocked_ns,
            wake_delay_ns: Some(0),
            sleeps: 100,
            preemptions: 3,
        });
    }
    let latency =
        Latency { count: 90, median_ns: 42_000, p99_ns: 910_000, max_ns: 2_000_000, sum_ns: 0 };
    let edge = |waker, woken_member, count| WakeupEdge {
        waker,
        woken_member,
        count,
        latency: Some(latency),
    };
    // Half of the time was watched. The shell's wake-up is nothing of the pipe's.
    builder.profile.wakeups = Wakeups::Known {
        edges: vec![
            edge(Waker::Member(sort), zcat, 100),
            edge(Waker::Member(shell), zcat, 7),
            edge(Waker::Interrupt, sort, 5),
        ],
        watched_ns: 500_000_000,
    };
    let member = |pid, comm: &str| Member {
        pid,
        start_time_ticks: Some(1),
        comm: comm.into(),
        command_line: vec![comm.into()],
        end: None,
    };
    let members = vec![member(11, "zcat"), member(12, "sort"), member(10, "sh")];
    let pipe = Pipe {
        link,
        inode: 88121,
        device: 13,
        path: None,
        writers: vec![members[0].id()],
        readers: vec![members[1].id()],
        capacity_bytes: Some(65536),
    };
    let flow = PipeFlow {
        inode: 88121,
        device: 13,
        bytes: Bytes::Known { bytes: 1 << 29, source: Source::BothEnds },
        writes: Some(8192),
        reads: None,
        over_time: Vec::new(),
        fill_over_time: Vec::new(),
        capacity_bytes: Some(65536),
        fill: Some(Fill { looks: 25, empty: 0, full: 23, sum_bytes: 25 * 64000, tenths: [0; 10] }),
    };
    Run {
        pipeline: Pipeline { members, pipes: vec![pipe] },
        flows: vec![flow],
        elapsed_ns: 1_000_000_000,
        cpus: 2,
        ..Run::bare(builder.profile)
    }
}

/// [`blocked_chain`] in two phases: zcat computes for 600 ms, with sort waiting for its data but for
/// every fourth look; then zcat is gone and sort computes alone.
pub(crate) fn phased() -> Run {
    const BIN_NS: u64 = 20_000_000;
    let mut run = blocked_chain();
    let process = |pid, comm: &str, bins: u64| ProcessSeen {
        pid,
        start_time_ticks: Some(1),
        parent: 10,
        comm: comm.into(),
        first_ns: 0,
        last_ns: bins * BIN_NS,
        threads: 1,
        busiest_thread_ns: 0,
        busiest_thread: None,
        second_thread_ns: 0,
        cpus_allowed: Some(2),
        quota_cpus: None,
        throttled_ns: 0,
        ..ProcessSeen::default()
    };
    let joint = |states: &[u32]| -> Vec<(ProcessRef, StateRef)> {
        // Of one alone it is the second.
        let first = 2 - states.len() as u32;
        states.iter().zip(first..).map(|(&state, of)| (ProcessRef(of), StateRef(state))).collect()
    };
    let bin = |at: u64| {
        let both = at < 30;
        let account = |process, cpu_ns| (ProcessRef(process), Account { cpu_ns, run_delay_ns: 0 });
        Bin {
            from_ns: at * BIN_NS,
            until_ns: (at + 1) * BIN_NS,
            joints: if both { vec![(0, 3.0), (1, 1.0)] } else { vec![(2, 4.0)] },
            accounts: match both {
                true => vec![account(0, BIN_NS), account(1, BIN_NS / 4)],
                false => vec![account(1, BIN_NS)],
            },
        }
    };
    run.states = Some(Timeline {
        start_ns: 0,
        end_ns: 50 * BIN_NS,
        looks: 200,
        blind: 0,
        traffic: Vec::new(),
        pressure: None,
        idle_cpus: None,
        processes: vec![process(11, "zcat", 30), process(12, "sort", 50)],
        pipes: vec![run.pipeline.pipes[0].key()],
        states: vec![
            ProcessState { running: 1, ..ProcessState::default() },
            ProcessState { data: vec![PipeRef(0)], ..ProcessState::default() },
        ],
        joints: vec![joint(&[0, 1]), joint(&[0, 0]), joint(&[0])],
        bins: (0..50).map(bin).collect(),
    });
    let looks = |bytes: &dyn Fn(u64) -> u64| -> Vec<Point> {
        (0..100).map(|at| Point { at_ns: at * 10_000_000, bytes: bytes(at) }).collect()
    };
    run.flows[0].over_time = looks(&|at| at.min(60) << 20);
    run.flows[0].fill_over_time = looks(&|at| if at < 60 { 16_384 } else { 0 });
    run
}
