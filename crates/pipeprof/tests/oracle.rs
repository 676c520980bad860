//! An account that nobody here wrote: one and the same pair, recorded by us and by `perf record` at
//! the same time, and reported by `perf report`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_runner::pair::{Reexec, launch};
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::Stage;

/// Share of the samples of one command by leaf function, in percent.
type Shares = BTreeMap<String, f64>;

/// `perf report --no-children -F sample,pid,sym`: `  291  12:pp-write  [k] name`, as shares of the
/// process. Without the process among its keys, perf merges equal functions of all processes first
/// and shows them under whichever came first.
fn perf_shares(data: &std::path::Path, pid: i32) -> Shares {
    let output = Command::new("perf")
        .args(["report", "-f", "--no-children", "-g", "none", "--stdio", "-F", "sample,pid,sym"])
        .args(["--pid", &pid.to_string(), "-i"])
        .arg(data)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut shares = Shares::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let counted = line.trim().split_once(' ').and_then(|(samples, rest)| {
            Some((samples.parse::<f64>().ok()?, rest.trim().split_once("] ")?.1.trim()))
        });
        // One name may stand for several functions: instances of a generic one, say.
        if let Some((samples, name)) = counted {
            *shares.entry(own_name(name)).or_default() += samples;
        }
    }
    let sum: f64 = shares.values().sum();
    shares.into_iter().map(|(name, samples)| (name, 100.0 * samples / sum)).collect()
}

fn our_shares(profile: &Profile, member: usize) -> Shares {
    let member = &profile.members[member];
    let mut shares = Shares::new();
    for weight in &member.on_cpu {
        // perf names the function that the address is in, not what was inlined there.
        let leaf = profile
            .stack_frames(weight.stack)
            .find(|frame| frame.kind != pipeprof_profiler::profile::FrameKind::Inlined)
            .unwrap();
        *shares.entry(own_name(&leaf.name)).or_default() +=
            100.0 * weight.samples as f64 / member.samples() as f64;
    }
    shares
}

/// A function's name without its module and type arguments: symbols have them as the linker knows
/// them, debug information has them apart, and names a closure by its number alone.
fn own_name(name: &str) -> String {
    let mut depth = 0;
    let mut bare = String::new();
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth -= i32::from(depth > 0),
            _ if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    let last = bare.split("::").filter(|part| !part.is_empty()).last().unwrap_or(name);
    if last.starts_with('{') { "{closure}".to_owned() } else { last.to_owned() }
}

fn top(shares: &Shares, count: usize) -> Vec<(&str, f64)> {
    let mut list: Vec<(&str, f64)> = shares.iter().map(|(name, s)| (name.as_str(), *s)).collect();
    list.sort_by(|a, b| b.1.total_cmp(&a.1));
    list.truncate(count);
    list
}

#[test]
fn perf_agrees_on_the_functions_of_both_ends() {
    if Command::new("perf").arg("--version").output().is_err() {
        eprintln!("skipped: perf is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("perf.data");
    let knobs = Knobs { bytes: Some(12 << 30), ..Knobs::default() };
    let plan = PairPlan::new(Stage::BusyLoop, &knobs).unwrap();
    let again =
        Reexec { program: env!("CARGO_BIN_EXE_pipeprof").into(), arguments: vec!["__end".into()] };
    let prepared = launch(&plan, &again).unwrap();
    let config = CaptureConfig { frequency_hz: 1999, ..CaptureConfig::default() };
    let dir = RecordingDir::temporary().unwrap();
    let session = match Session::attach(&RunningKernel, prepared.pipeline(), &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    let [control, answer] = ["control", "answer"].map(|name| {
        let path = folder.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    });
    let mut perf = Command::new("perf")
        // Another frequency than ours: two timers of one frequency keep their distance, and where it
        // is small, the later one always samples the return from the earlier one's interrupt.
        .args(["record", "-q", "-a", "-e", "cpu-clock", "-F", "1409", "-g", "-o"])
        .arg(&theirs)
        .args(["-D", "-1", &format!("--control=fifo:{},{}", control.display(), answer.display())])
        .args(["--", "sleep", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // However long it takes to start.
    let mut command = fs::OpenOptions::new().read(true).write(true).open(&control).unwrap();
    command.write_all(b"enable\n").unwrap();
    let mut acknowledged = [0; 4];
    fs::File::open(&answer).unwrap().read_exact(&mut acknowledged).unwrap();
    assert_eq!(&acknowledged, b"ack\n");
    prepared.release().wait().unwrap();
    let recording = session.finish(&RunningKernel).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(perf.id() as i32),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    perf.wait().unwrap();
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    if !profile.quality.kernel_visible {
        eprintln!("skipped: the kernel half may not be profiled");
        return;
    }
    for (member, comm) in ["pp-write", "pp-read"].into_iter().enumerate() {
        let ours = our_shares(&profile, member);
        let (pid, samples) = (profile.members[member].pid, profile.members[member].samples());
        assert!(samples > 200, "only {samples} samples");
        // The same recording: the same counts.
        let same = perf_shares(&recording.perf_data(), pid);
        for (name, share) in top(&ours, 10) {
            let perf = same.get(name).copied().unwrap_or(0.0);
            assert!((share - perf).abs() < 0.01, "{comm}: {name} is {share} here, {perf} to perf");
        }
        // perf's own samples of the same run: within four standard errors of the difference of
        // two samples of that size, and two points for what differs in where the timers fall.
        let perf = perf_shares(&theirs, pid);
        for (name, share) in top(&perf, 10) {
            let here = ours.get(name).copied().unwrap_or(0.0);
            let p = (share / 100.0).clamp(0.01, 0.99);
            let error = 100.0 * (2.0 * p * (1.0 - p) / samples as f64).sqrt();
            let room = 4.0 * error + 2.0;
            assert!((share - here).abs() < room, "{comm}: {name} is {here} here, {share} to perf");
        }
    }
}
