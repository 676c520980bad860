//! Captures a real pipe on the running kernel, and holds the profile against what is known of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use common::Pair;
use common::wait::on_cpu;

use nix::errno::Errno;
use pipeprof_profiler::accounts::now_ns;
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::attr::{EventAttr, event_type};
use pipeprof_profiler::event::Event;
use pipeprof_profiler::profile::{MemberProfile, Mode, Profile};
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::ring::Ring;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::{PerfSystem, RunningKernel};

/// On-CPU and run-queue nanoseconds, and runs, since the process began, by the scheduler's account.
fn schedstat(child: &Child) -> [u64; 3] {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap();
    let mut fields = text.split_whitespace().map(|field| field.parse().unwrap());
    [fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap()]
}

/// A profile, and what the scheduler charged to writer and reader meanwhile.
struct Captured {
    profile: Profile,
    wall_ns: u64,
    /// By how much longer the session was than the time between the two readings of the account:
    /// whoever runs this test may be kept off the CPU before the one and after the other.
    apart_ns: u64,
    on_cpu_ns: [u64; 2],
    run_delay_ns: [u64; 2],
    runs: [u64; 2],
}

/// `None`, and a line that says why, where this machine lets nobody profile the kernel.
fn capture(config: &CaptureConfig, seconds: f64) -> Option<Captured> {
    let pair = Pair::start();
    // Past the exec and the dynamic loader, so that the mappings are the final ones.
    on_cpu(&pair.pids(), Duration::from_millis(20));
    let dir = RecordingDir::temporary().unwrap();
    let session = match Session::attach(&RunningKernel, &pair.pipeline(), config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let started_ns = now_ns();
    let before = [&pair.writer, &pair.reader].map(schedstat);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let after = [&pair.writer, &pair.reader].map(schedstat);
    let wall_ns = now_ns() - started_ns;
    let recording = session.finish(&RunningKernel).unwrap();
    let session_ns = recording.meta.end_ns - recording.meta.start_ns;
    let apart_ns = session_ns.abs_diff(wall_ns);
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    if !profile.quality.kernel_visible {
        eprintln!("skipped: the kernel half may not be profiled");
        return None;
    }
    let charged = |field: usize| [0, 1].map(|end: usize| after[end][field] - before[end][field]);
    let (on_cpu_ns, run_delay_ns, runs) = (charged(0), charged(1), charged(2));
    Some(Captured { profile, wall_ns, apart_ns, on_cpu_ns, run_delay_ns, runs })
}

fn names(profile: &Profile, member: usize) -> Vec<&str> {
    let stacks = profile.members[member].on_cpu.iter();
    stacks.flat_map(|w| profile.stack_frames(w.stack)).map(|f| f.name.as_ref()).collect()
}

/// A kernel that lets nobody measure, as in a container.
struct NoEvents(Errno);

impl PerfSystem for NoEvents {
    fn open(&self, _: &EventAttr, _: i32, _: i32) -> Result<OwnedFd, Errno> {
        Err(self.0)
    }
    fn map(&self, _: BorrowedFd<'_>, _: usize) -> Result<Ring, Errno> {
        Err(self.0)
    }
    fn redirect(&self, _: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Result<(), Errno> {
        Err(self.0)
    }
    fn enable(&self, _: BorrowedFd<'_>) -> Result<(), Errno> {
        Err(self.0)
    }
    fn disable(&self, _: BorrowedFd<'_>) -> Result<(), Errno> {
        Err(self.0)
    }
    fn set_period(&self, _: BorrowedFd<'_>, _: u64) -> Result<(), Errno> {
        Err(self.0)
    }
    fn set_filter(&self, _: BorrowedFd<'_>, _: &str) -> Result<(), Errno> {
        Err(self.0)
    }
    fn id(&self, _: BorrowedFd<'_>) -> Result<u64, Errno> {
        Err(self.0)
    }
}

#[test]
fn where_no_event_may_be_opened_the_members_are_looked_at_all_the_same() {
    for errno in [Errno::EACCES, Errno::EPERM, Errno::ENOSYS] {
        let kernel = NoEvents(errno);
        let pair = Pair::start();
        let dir = RecordingDir::temporary().unwrap();
        let config = CaptureConfig { switches: true, ..CaptureConfig::default() };
        let session = Session::attach(&kernel, &pair.pipeline(), &config, dir).unwrap();
        on_cpu(&pair.pids(), Duration::from_millis(100));
        let recording = session.finish(&kernel).unwrap();
        let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
        assert!(!profile.quality.has_event() && profile.quality.samples == 0);
        assert!(!profile.quality.notes.is_empty());
        let states = recording.meta.states.unwrap();
        let charged = states.bins.iter().flat_map(|bin| &bin.accounts);
        assert!(charged.map(|(_, account)| account.cpu_ns).sum::<u64>() > 0, "{errno}");
        let busy = |joint: &Vec<_>| joint.len() == 2;
        assert!(states.looks >= 2 && states.joints.iter().any(busy), "{} looks", states.looks);
    }
    // An event that was asked for by name is not left out in silence.
    let config = CaptureConfig { event: Event::named("cpu-clock"), ..CaptureConfig::default() };
    let pair = Pair::start();
    let dir = RecordingDir::temporary().unwrap();
    let refused = Session::attach(&NoEvents(Errno::EPERM), &pair.pipeline(), &config, dir);
    assert!(matches!(refused, Err(pipeprof_profiler::Error::NoEvent(_))));
}

/// A kernel whose counters others hold: events of hardware open, and never count.
struct HeldCounters;

impl PerfSystem for HeldCounters {
    fn open(&self, attr: &EventAttr, pid: i32, cpu: i32) -> Result<OwnedFd, Errno> {
        if attr.kind != event_type::HARDWARE {
            return RunningKernel.open(attr, pid, cpu);
        }
        // Whatever is read of it is zero: count, time enabled, time running.
        Ok(std::fs::File::open("/dev/zero").unwrap().into())
    }
    fn map(&self, event: BorrowedFd<'_>, bytes: usize) -> Result<Ring, Errno> {
        RunningKernel.map(event, bytes)
    }
    fn redirect(&self, event: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
        RunningKernel.redirect(event, target)
    }
    fn enable(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        match RunningKernel.enable(event) {
            Err(Errno::ENOTTY) => Ok(()),
            answer => answer,
        }
    }
    fn disable(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        RunningKernel.disable(event)
    }
    fn set_period(&self, event: BorrowedFd<'_>, period: u64) -> Result<(), Errno> {
        RunningKernel.set_period(event, period)
    }
    fn set_filter(&self, event: BorrowedFd<'_>, filter: &str) -> Result<(), Errno> {
        RunningKernel.set_filter(event, filter)
    }
    fn id(&self, event: BorrowedFd<'_>) -> Result<u64, Errno> {
        RunningKernel.id(event)
    }
}

#[test]
fn a_clock_stands_in_where_others_hold_all_counters() {
    let pair = Pair::start();
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig::default();
    let session = match Session::attach(&HeldCounters, &pair.pipeline(), &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    let meta = session.finish(&RunningKernel).unwrap().meta;
    assert_eq!(meta.setup.event, "cpu-clock");
    let why = meta.setup.fallback.unwrap();
    assert!(
        why.contains("cannot count cycles") && why.contains("hold all of its counters"),
        "{why}"
    );
    // Asked for by name, it is not exchanged in silence.
    let config = CaptureConfig { event: Event::named("cycles"), ..CaptureConfig::default() };
    let dir = RecordingDir::temporary().unwrap();
    let refused = Session::attach(&HeldCounters, &pair.pipeline(), &config, dir);
    assert!(matches!(refused, Err(pipeprof_profiler::Error::NoEvent(_))));
}

#[test]
fn both_ends_of_a_running_pipe_are_sampled_down_to_the_pipe() {
    let Some(captured) = capture(&CaptureConfig::default(), 1.0) else { return };
    let profile = captured.profile;
    let quality = &profile.quality;
    assert_eq!(quality.lost, 0);
    assert_eq!(quality.malformed_records, 0);
    assert!(!quality.cut_short);
    assert_eq!(quality.samples, profile.members.iter().map(MemberProfile::samples).sum::<u64>());
    let has = |member, part: &str| names(&profile, member).iter().any(|n| n.contains(part));
    assert!(has(0, "pipe_write"), "{:?}", names(&profile, 0));
    assert!(has(1, "pipe_read"), "{:?}", names(&profile, 1));
    assert!(has(0, "_start") || has(0, "write"), "{:?}", names(&profile, 0));
    // The scheduler's own account of the same second is the oracle for the weights.
    for (member, ns) in profile.members.iter().zip(captured.on_cpu_ns) {
        if quality.timer_driven {
            let ratio = member.weight() as f64 / ns as f64;
            // What a hypervisor takes away is charged and not sampled.
            let most = 1.4 + captured.apart_ns as f64 / captured.wall_ns as f64;
            assert!((0.6..most).contains(&ratio), "{} ns sampled, {ns} ns run", member.weight());
        }
    }
}

#[test]
fn a_stack_is_kernel_leafward_and_user_rootward() {
    let Some(Captured { profile, .. }) = capture(&CaptureConfig::default(), 0.5) else { return };
    for member in &profile.members {
        for weight in &member.on_cpu {
            let mut modes = profile.stack_frames(weight.stack).map(|frame| frame.mode);
            let after_user = modes.by_ref().skip_while(|&mode| mode == Mode::Kernel);
            assert!(after_user.into_iter().all(|mode| mode == Mode::User));
        }
    }
}

#[test]
fn the_asked_event_is_the_one_recorded() {
    let config = CaptureConfig { event: Event::named("page-faults"), ..Default::default() };
    let Some(Captured { profile, .. }) = capture(&config, 0.2) else { return };
    assert_eq!(profile.quality.event, "page-faults");
    assert_eq!(profile.quality.fallback, None);
}

/// The scheduler's account is the oracle: on CPU within 2 %, blocked within 2 % of the wall, and of
/// what happened between the session's readings of it and ours nothing is known.
#[test]
fn on_cpu_blocked_and_runnable_add_up_and_agree_with_schedstat() {
    let config = CaptureConfig { switches: true, ..Default::default() };
    let Some(captured) = capture(&config, 2.0) else { return };
    assert_eq!(captured.profile.quality.lost, 0);
    for (end, member) in captured.profile.members.iter().enumerate() {
        let time = member.time.unwrap();
        let sum = time.on_cpu_ns + time.blocked_ns + time.runnable_ns;
        let wall = captured.wall_ns as f64;
        let off = |a: u64, b: u64| (a as f64 - b as f64).abs() / wall;
        assert!(off(sum, time.lifetime_ns) < 0.01, "{time:?}");
        let apart = captured.apart_ns as f64 / wall;
        assert!(apart < 0.5, "the session took {apart} of {wall} ns longer");
        let room = 0.02 + apart;
        assert!(off(time.lifetime_ns, captured.wall_ns) < room, "{time:?} in {wall}, {apart}");
        assert!(off(time.on_cpu_ns, captured.on_cpu_ns[end]) < room, "{time:?} {end}, {apart}");
        let charged = captured.on_cpu_ns[end] + captured.run_delay_ns[end];
        let blocked = captured.wall_ns.saturating_sub(charged);
        assert!(off(time.blocked_ns, blocked) < room, "{time:?}, schedstat: {blocked}, {apart}");
        // It was on a CPU as often as it left one, by turns or not.
        let switches = time.sleeps + time.preemptions;
        let runs = captured.runs[end];
        assert!(switches.abs_diff(runs) as f64 <= room * switches as f64, "{time:?}, {runs} runs");
        // All of it has a place.
        let placed: u64 = member.blocked.iter().map(|weight| weight.weight).sum();
        assert!(off(placed, time.blocked_ns) < 0.01, "{placed} of {time:?}");
        let side = ["pipe_write", "pipe_read"][end];
        let in_pipe: u64 = member
            .blocked
            .iter()
            .filter(|weight| {
                let mut frames = captured.profile.stack_frames(weight.stack);
                frames.any(|frame| frame.name.contains(side))
            })
            .map(|weight| weight.weight)
            .sum();
        assert!(in_pipe * 10 >= placed * 9, "{in_pipe} of {placed} in {side}");
    }
}
