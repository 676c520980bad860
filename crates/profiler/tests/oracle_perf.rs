//! The same recording, read by `perf script`: an account that nobody here wrote.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use common::Pair;
use common::wait::on_cpu;
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::profile::{FrameKind, Mode, Profile};
use pipeprof_profiler::recording::{Recording, RecordingDir};
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
            let frames: Vec<&str> = kernel.map(|frame| &*frame.name).collect();
            let key = format!("{} {}", member.pid, frames.join(";"));
            *stacks.entry(key).or_default() += weight.samples;
        }
    }
    stacks
}

/// The kernel's functions, for the one difference in how perf names them: it looks a return address
/// up as it stands, where we look up the byte before, which belongs to the call.
struct KernelNames {
    at: BTreeMap<u64, String>,
    addresses: BTreeMap<String, u64>,
}

impl KernelNames {
    fn read() -> Self {
        let mut names = KernelNames { at: BTreeMap::new(), addresses: BTreeMap::new() };
        for line in std::fs::read_to_string("/proc/kallsyms").unwrap().lines() {
            let mut fields = line.split_ascii_whitespace();
            let address = fields.next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let is_code = fields.next().is_some_and(|kind| "tTwW".contains(kind));
            if let (Some(address), true, Some(name)) = (address, is_code, fields.next()) {
                // Of several names both of us take the last.
                names.at.insert(address, name.to_owned());
                names.addresses.insert(name.to_owned(), address);
            }
        }
        names
    }

    /// `name+0x12`, of a caller or of where the CPU was.
    fn of_call<'a>(&'a self, frame: &'a str, is_caller: bool) -> &'a str {
        let (name, offset) = frame.rsplit_once("+0x").unwrap_or((frame, ""));
        let address = self.addresses.get(name).filter(|_| is_caller && offset == "0");
        let before = address.and_then(|&address| self.at.range(..address).next_back());
        // Where padding lies before it, no call ends there: it is about to begin.
        let before = before.filter(|(_, name)| !name.starts_with("__pfx_"));
        before.map_or(name, |(_, name)| name)
    }
}

/// Parses `perf script -F pid,ip,sym,symoff,dso`: a line with the pid, then a line a frame, then a blank.
fn theirs(text: &str, pids: &[i32], kernel: &KernelNames) -> KernelStacks {
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
            .enumerate()
            .map(|(depth, frame)| kernel.of_call(frame, depth > 0))
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
    on_cpu(&pair.pids(), Duration::from_millis(20));
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig { frequency_hz: 1999, ..Default::default() };
    let session = match Session::attach(&RunningKernel, &pair.pipeline(), &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    on_cpu(&pair.pids(), Duration::from_millis(250));
    let recording = session.finish(&RunningKernel).unwrap();
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    if !profile.quality.kernel_visible {
        eprintln!("skipped: the kernel half may not be profiled");
        return;
    }
    let output = Command::new("perf")
        .args(["script", "-f", "-F", "pid,ip,sym,symoff,dso", "-i"])
        .arg(recording.perf_data())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert!(!complaints.contains("out of order"), "{complaints}");
    let pids: Vec<i32> = profile.members.iter().map(|member| member.pid).collect();
    let names = KernelNames::read();
    let theirs = theirs(&String::from_utf8_lossy(&output.stdout), &pids, &names);
    let ours = ours(&profile);
    let total: u64 = theirs.values().sum();
    assert!(total > 100, "perf script found only {total} samples: {complaints}");
    assert_eq!(ours.values().sum::<u64>(), total);
    let differing: Vec<_> =
        theirs.iter().filter(|(stack, count)| ours.get(*stack) != Some(count)).collect();
    assert!(differing.is_empty(), "of {total} samples these differ: {differing:#?}");
}

/// A stack as both can tell it: process, kernel half, user half, leaf first.
type Stack = (i32, Vec<String>, Vec<String>);

/// Ours, without the functions that were inlined, which perf does not print.
fn our_stacks(profile: &Profile) -> BTreeMap<Stack, u64> {
    let mut stacks = BTreeMap::new();
    for member in &profile.members {
        for weight in &member.on_cpu {
            let mut stack = (member.pid, Vec::new(), Vec::new());
            for frame in profile.stack_frames(weight.stack) {
                match (frame.mode, frame.kind) {
                    (_, FrameKind::Inlined) => {}
                    (Mode::Kernel, _) => stack.1.push(frame.name.to_string()),
                    (Mode::User, FrameKind::Unresolved) => stack.2.push("[unknown]".to_owned()),
                    (Mode::User, _) => stack.2.push(frame.name.to_string()),
                }
            }
            *stacks.entry(stack).or_default() += weight.samples;
        }
    }
    stacks
}

/// Theirs, each user half cut where we cut it: at the first caller that lies in no mapping.
fn their_stacks(text: &str) -> BTreeMap<Stack, u64> {
    let mut stacks = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.trim().is_empty());
        let Some(Ok(pid)) = lines.next().map(|line| line.trim().parse::<i32>()) else { continue };
        let mut stack = (pid, Vec::new(), Vec::new());
        for line in lines {
            let Some((_, rest)) = line.trim().split_once(' ') else { continue };
            let Some((name, object)) = rest.rsplit_once(" (") else { continue };
            let name = name.trim().to_owned();
            if object.starts_with("[kernel") {
                stack.1.push(name);
            } else if object.starts_with("[unknown]") && !stack.2.is_empty() {
                break;
            } else {
                stack.2.push(name);
            }
        }
        *stacks.entry(stack).or_default() += 1;
    }
    stacks
}

/// Sums of counts by what is left of a stack.
fn by<K: Ord>(stacks: &BTreeMap<Stack, u64>, key: impl Fn(&Stack) -> K) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (stack, count) in stacks {
        *sums.entry(key(stack)).or_default() += count;
    }
    sums
}

/// Samples that one side has and the other has not.
fn differing<K: Ord>(ours: &BTreeMap<K, u64>, theirs: &BTreeMap<K, u64>) -> u64 {
    theirs.iter().map(|(key, n)| n.saturating_sub(ours.get(key).copied().unwrap_or(0))).sum()
}

#[test]
fn a_file_of_perf_record_has_the_stacks_that_perf_script_prints() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("perf.data");
    let recorded = Command::new("perf")
        .args(["record", "-g", "-e", "cpu-clock", "-F", "2000", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", "timeout 1 yes | cat >/dev/null"])
        .output();
    match recorded {
        Err(_) => return eprintln!("skipped: perf is not installed"),
        Ok(output) if !output.status.success() => {
            return eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(_) => {}
    }
    let recording = Recording::open(&file).unwrap();
    let profile = analyse(&recording, recording.symbolizer().as_mut()).unwrap();
    let output = Command::new("perf")
        .args(["script", "-f", "--no-inline", "-F", "pid,ip,sym,dso", "-i"])
        .arg(&file)
        .output()
        .unwrap();
    let (ours, theirs) =
        (our_stacks(&profile), their_stacks(&String::from_utf8_lossy(&output.stdout)));
    let total: u64 = theirs.values().sum();
    assert!(total > 100, "perf script found only {total} samples");
    assert_eq!(ours.values().sum::<u64>(), total);

    let kernel = |stack: &Stack| (stack.0, stack.1.clone());
    let (our_halves, their_halves) = (by(&ours, kernel), by(&theirs, kernel));
    let theirs_alone = their_halves.iter().filter(|(key, n)| our_halves.get(key) != Some(n));
    let ours_alone = our_halves.iter().filter(|(key, n)| their_halves.get(key) != Some(n));
    let other = (ours_alone.collect::<Vec<_>>(), theirs_alone.collect::<Vec<_>>());
    assert_eq!(differing(&our_halves, &their_halves), 0, "kernel halves: {other:#?}");
    let depths = |stack: &Stack| (stack.0, stack.1.clone(), stack.2.len());
    assert_eq!(differing(&by(&ours, depths), &by(&theirs, depths)), 0, "depths of user halves");

    let names = differing(&ours, &theirs);
    // What is left: a return address behind a call that is the last instruction of its function
    // belongs to that function for us, and to the next one for perf; and perf makes up names for
    // the entries of a PLT.
    let other: Vec<_> = theirs.iter().filter(|(key, n)| ours.get(key) != Some(n)).collect();
    assert!(names * 20 <= total, "{names} of {total} samples differ in a name: {other:#?}");
}

#[test]
fn stacks_of_perf_record_by_dwarf_are_unwound_as_perf_script_unwinds_them() {
    let folder = tempfile::tempdir().unwrap();
    let [source, binary, file] =
        ["work.c", "work", "perf.data"].map(|name| folder.path().join(name));
    std::fs::write(&source, include_str!("call_graph/programs/work.c")).unwrap();
    let made = Command::new("gcc")
        .args(["-O1", "-pthread", "-fomit-frame-pointer", "-o"])
        .args([&binary, &source])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: gcc cannot build a program here");
    }
    let recorded = Command::new("perf")
        .args(["record", "--call-graph", "dwarf,16384", "-e", "cpu-clock", "-F", "2000", "-o"])
        .args([&file, &binary])
        .output();
    match recorded {
        Err(_) => return eprintln!("skipped: perf is not installed"),
        Ok(output) if !output.status.success() => {
            return eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(_) => {}
    }
    let recording = Recording::open(&file).unwrap();
    let profile = analyse(&recording, recording.symbolizer().as_mut()).unwrap();
    let unwinding = profile.quality.unwinding.clone().unwrap();
    let output = Command::new("perf")
        .args(["script", "-f", "--no-inline", "--max-stack", "1000", "-F", "pid,ip,sym,dso", "-i"])
        .arg(&file)
        .output()
        .unwrap();
    let (ours, theirs) =
        (our_stacks(&profile), their_stacks(&String::from_utf8_lossy(&output.stdout)));
    let total: u64 = theirs.values().sum();
    assert!(total > 100, "perf script found only {total} samples");
    assert_eq!(ours.values().sum::<u64>(), total);
    let depths = |stack: &Stack| (stack.0, stack.1.len(), stack.2.len());
    let depths = differing(&by(&ours, depths), &by(&theirs, depths));
    assert!(depths * 200 <= total, "{depths} of {total} stacks differ in depth; {unwinding:?}");
    // Of several names for one address each of us takes another.
    let aliased = |stack: &Stack| -> Vec<String> {
        let alias = |name: &String| {
            let name = base_name(name.split('@').next().unwrap_or(name)).replace("_impl", "");
            // Where a signal handler returns to: perf looks in .symtab only where it has one.
            let name = if name == "restore_rt" { "[unknown]".to_owned() } else { name };
            name.replace("memmove", "memcpy")
        };
        stack.2.iter().map(alias).collect()
    };
    let (ours, theirs) = (by(&ours, aliased), by(&theirs, aliased));
    let names = differing(&ours, &theirs);
    let other: Vec<_> = theirs.iter().filter(|(key, n)| ours.get(*key) != Some(n)).collect();
    assert!(names * 50 <= total, "{names} of {total} samples differ in a name: {other:#?}");
}

/// A function of libc by the name that programs call it by.
fn base_name(name: &str) -> &str {
    let name = name.split('.').next().unwrap_or(name);
    let shorter = name.trim_start_matches('_');
    match shorter.strip_prefix("libc_").or_else(|| shorter.strip_prefix("GI_")) {
        Some(rest) => base_name(rest),
        None => shorter,
    }
}
