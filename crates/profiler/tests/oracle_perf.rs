//! The same recording, read by `perf script`: an account that nobody here wrote.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use common::Pair;
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::profile::{Mode, Profile};
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::RunningKernel;

/// Kernel halves of stacks, leaf first, as `pid name;name;…`, with how often each was sampled.
type KernelStacks = BTreeMap<String, u64>;

fn ours(profile: &Profile) -> KernelStacks {
    let mut stacks = KernelStacks::new();
    for member in &profile.members {
        for weight in &member.on_cpu {
            let kernel = profile.stack_frames(weight.stack).filter(|f| f.mode == Mode::Kernel);
            let names: Vec<&str> = kernel.map(|frame| frame.name.as_ref()).collect();
            let key = format!("{} {}", member.pid, names.join(";"));
            *stacks.entry(key).or_default() += weight.samples;
        }
    }
    stacks
}

/// Parses `perf script -F pid,ip,sym,dso`: a line with the pid, then a line a frame, then a blank.
fn theirs(text: &str, pids: &[i32]) -> KernelStacks {
    let mut stacks = KernelStacks::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.trim().is_empty());
        let Some(pid) = lines.next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            continue;
        };
        if !pids.contains(&pid) {
            continue;
        }
        let names: Vec<&str> = lines
            .filter_map(|line| {
                let (_, rest) = line.trim().split_once(' ')?;
                let (name, dso) = rest.rsplit_once(" (")?;
                dso.starts_with("[kernel").then_some(name.trim())
            })
            .collect();
        *stacks.entry(format!("{pid} {}", names.join(";"))).or_default() += 1;
    }
    stacks
}

#[test]
fn perf_script_reads_our_recording_and_sees_the_same_kernel_stacks() {
    if Command::new("perf").arg("--version").output().is_err() {
        eprintln!("skipped: perf is not installed");
        return;
    }
    let pair = Pair::start();
    std::thread::sleep(Duration::from_millis(100));
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig { frequency_hz: 1999, ..Default::default() };
    let session = match Session::attach(&RunningKernel, &pair.pipeline(), &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    std::thread::sleep(Duration::from_secs(1));
    let recording = session.finish(&RunningKernel).unwrap();
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    if !profile.quality.kernel_visible {
        eprintln!("skipped: the kernel half may not be profiled");
        return;
    }
    let output = Command::new("perf")
        .args(["script", "-f", "-F", "pid,ip,sym,dso", "-i"])
        .arg(recording.perf_data())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert!(!complaints.contains("out of order"), "{complaints}");
    let pids: Vec<i32> = profile.members.iter().map(|member| member.pid).collect();
    let theirs = theirs(&String::from_utf8_lossy(&output.stdout), &pids);
    let ours = ours(&profile);
    let total: u64 = theirs.values().sum();
    assert!(total > 100, "perf script found only {total} samples: {complaints}");
    assert_eq!(ours.values().sum::<u64>(), total);
    // perf looks a return address up as it stands, we the byte before it, which belongs to the
    // call. The two differ only where a call is the last instruction of its function.
    let differing: u64 = theirs
        .iter()
        .map(|(stack, count)| count.abs_diff(ours.get(stack).copied().unwrap_or(0)))
        .sum();
    assert!(
        differing * 1000 <= total,
        "{differing} of {total} samples differ, for example {:#?}",
        theirs.iter().find(|(stack, count)| ours.get(*stack) != Some(count)),
    );
}
