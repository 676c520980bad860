//! Captures a real pipe on the running kernel, and holds the profile against what is known of it.

mod common;

use std::process::Child;
use std::time::Duration;

use common::Pair;

use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::event::Event;
use pipeprof_profiler::profile::{Mode, Profile};
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::RunningKernel;

fn cpu_time_ns(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// `None`, and a line that says why, where this machine lets nobody profile the kernel.
fn capture(config: &CaptureConfig, seconds: f64) -> Option<(Profile, [u64; 2])> {
    let pair = Pair::start();
    // Past the exec and the dynamic loader, so that the mappings are the final ones.
    std::thread::sleep(Duration::from_millis(100));
    let dir = RecordingDir::temporary().unwrap();
    let session = match Session::attach(&RunningKernel, &pair.pipeline(), config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let before = [&pair.writer, &pair.reader].map(cpu_time_ns);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let after = [&pair.writer, &pair.reader].map(cpu_time_ns);
    let recording = session.finish(&RunningKernel).unwrap();
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    if !profile.quality.kernel_visible {
        eprintln!("skipped: the kernel half may not be profiled");
        return None;
    }
    Some((profile, [after[0] - before[0], after[1] - before[1]]))
}

fn names(profile: &Profile, member: usize) -> Vec<&str> {
    let stacks = profile.members[member].on_cpu.iter();
    stacks.flat_map(|w| profile.stack_frames(w.stack)).map(|f| f.name.as_ref()).collect()
}

#[test]
fn both_ends_of_a_running_pipe_are_sampled_down_to_the_pipe() {
    let Some((profile, cpu_ns)) = capture(&CaptureConfig::default(), 1.0) else { return };
    let quality = &profile.quality;
    assert_eq!(quality.lost, 0);
    assert_eq!(quality.malformed_records, 0);
    assert!(!quality.cut_short);
    assert_eq!(quality.samples, profile.members.iter().map(|m| m.samples()).sum::<u64>());
    let has = |member, part: &str| names(&profile, member).iter().any(|n| n.contains(part));
    assert!(has(0, "pipe_write"), "{:?}", names(&profile, 0));
    assert!(has(1, "pipe_read"), "{:?}", names(&profile, 1));
    assert!(has(0, "_start") || has(0, "write"), "{:?}", names(&profile, 0));
    // The scheduler's own account of the same second is the oracle for the weights.
    for (member, ns) in profile.members.iter().zip(cpu_ns) {
        if quality.timer_driven {
            let ratio = member.weight() as f64 / ns as f64;
            assert!((0.7..1.3).contains(&ratio), "{} ns sampled, {ns} ns run", member.weight());
        }
    }
}

#[test]
fn a_stack_is_kernel_leafward_and_user_rootward() {
    let Some((profile, _)) = capture(&CaptureConfig::default(), 0.5) else { return };
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
    let Some((profile, _)) = capture(&config, 0.2) else { return };
    assert_eq!(profile.quality.event, "page-faults");
    assert_eq!(profile.quality.fallback, None);
}
