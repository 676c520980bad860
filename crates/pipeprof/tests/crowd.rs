//! Crowds and loaded machines: every member and pipe is found, and a watch ends when it should.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Killed, may_profile_kernel, stderr};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeprof_profiler::stop::Stop;
use pipeprof_profiler::watcher::Standby;
use pipeprof_runner::command::Spec;
use serde_json::Value;

/// Processes that never sleep.
fn busy_loops(count: usize) -> Killed {
    let one = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    Killed((0..count).map(|_| one()).collect())
}

fn record(folder: &Path, line: &str, duration: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeprof"));
    command.args(["record", "-o"]).arg(folder.join("it.pipeprof")).args(["-c", line]);
    command.args(duration.map(|duration| format!("--duration={duration}")));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What was noted beside the records.
fn noted(folder: &Path) -> Value {
    let text = fs::read(folder.join("it.pipeprof/pipeprof.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn recorded(folder: &Path, line: &str, duration: Option<&str>) -> Value {
    let output = record(folder, line, duration).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    noted(folder)
}

fn watched(noted: &Value) -> Duration {
    Duration::from_nanos(noted["about"]["elapsed_ns"].as_u64().unwrap())
}

fn pipes(noted: &Value) -> usize {
    noted["capture"]["pipeline"]["pipes"].as_array().unwrap().len()
}

fn chain(first: &str, members: usize) -> String {
    let cats = vec!["cat"; members - 1];
    format!("{first} | {} >/dev/null", cats.join(" | "))
}

#[test]
fn short_pipelines_have_all_their_pipes_beside_busy_loops() {
    if !may_profile_kernel() {
        return;
    }
    let _busy = busy_loops(5);
    for (line, expected) in [(chain("head -c 512M /dev/zero", 2), 1), (chain("seq 200000", 50), 49)]
    {
        let folder = tempfile::tempdir().unwrap();
        let noted = recorded(folder.path(), &line, None);
        assert_eq!(pipes(&noted), expected, "{line}");
    }
}

/// How many pipes a watch without a recording finds.
fn found(line: &str) -> usize {
    let spec = Spec::shell(OsStr::new(line), None);
    let mut standby = Standby::command(spec, line.to_owned(), Stop::default()).unwrap();
    standby.count();
    let mut watcher = standby.release().unwrap();
    watcher.watch(None, &mut []).unwrap();
    let pipes = watcher.pipeline().pipes.len();
    watcher.finish().unwrap();
    pipes
}

#[test]
fn pipelines_of_a_few_milliseconds_have_all_their_pipes_beside_busy_loops() {
    if !may_profile_kernel() {
        return;
    }
    const ROUNDS: usize = 20;
    let _busy = busy_loops(5);
    // A shell that only forks is seen as it is born; whoever executes a program, as it does.
    for (line, expected, least) in [
        ("head -c 64K /dev/zero | cat | cat >/dev/null", 2, ROUNDS * 8 / 10),
        ("echo x | cat | wc >/dev/null", 2, ROUNDS * 7 / 10),
        ("seq 1000 | sort | uniq | head >/dev/null", 3, ROUNDS * 8 / 10),
    ] {
        let all = (0..ROUNDS).filter(|_| found(line) == expected).count();
        println!("{line}: {all} of {ROUNDS}");
        // Looks by the clock alone found those of the second in none, the others in one of four.
        assert!(all >= least, "{line}: {all} of {ROUNDS}");
    }
}

#[test]
fn a_watch_of_hundreds_of_members_ends_when_its_time_is_over() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let line = chain("sleep 60", 300);
    let noted = recorded(folder.path(), &line, Some("2s"));
    let watched = watched(&noted);
    assert!(watched >= Duration::from_secs(2), "{watched:?}");
    // Half a second too long is too long; the rest is room for a crowded machine.
    assert!(watched < Duration::from_secs(4), "{watched:?}");
    // A loaded machine has not started all of them by then.
    assert!(pipes(&noted) > 50, "{}", pipes(&noted));
}

#[test]
fn sigterm_ends_a_watch_of_hundreds_of_members() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let line = chain("sleep 60", 300);
    let mut child = record(folder.path(), &line, Some("50s")).spawn().unwrap();
    // Wherever it is by then: attaching, finding members, or watching.
    std::thread::sleep(Duration::from_millis(700));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let asked = Instant::now();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    // The members get two seconds to end, and the names of 300 programs are looked up.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    // There is nothing where it was attaching still.
    if folder.path().join("it.pipeprof").exists() {
        // The members get two seconds to end, which are not of the watch.
        let watched = watched(&noted(folder.path()));
        assert!(watched < Duration::from_millis(700 + 500), "{watched:?}");
    }
}
