//! However pipeprof ends, nothing that it launched lives on, and the terminal is as it was.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use common::{is_alive, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A pipeline whose members are told by pid in `pids`: in the group, in sessions of their own, and
/// without a parent.
const LINE: &str = "echo $$ >>pids; (setsid sleep 300 & echo $! >>pids); \
     (yes & echo $! >>pids) >/dev/null; sh -c 'echo $$ >>pids; sleep 301; true' | cat";

const MEMBERS: usize = 4;

fn pipeprof(folder: &Path, arguments: &[&str]) -> Command {
    // Tests may run where signals are ignored (nohup), and what is ignored stays ignored.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT,TERM", env!("CARGO_BIN_EXE_pipeprof")]);
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The pids that the members wrote down.
fn members(folder: &Path, count: usize) -> Vec<i32> {
    let mut pids = Vec::new();
    until("the members have not begun", || {
        let text = fs::read_to_string(folder.join("pids")).unwrap_or_default();
        pids = text.lines().filter_map(|line| line.parse().ok()).collect();
        pids.len() == count && text.ends_with('\n')
    });
    pids
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("pipeprof does not end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

#[test]
fn no_signal_leaves_a_member_alive() {
    use Signal::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};
    for signals in [
        &[SIGTERM][..],
        &[SIGINT],
        &[SIGHUP],
        &[SIGQUIT],
        &[SIGTERM, SIGTERM],
        &[SIGINT, SIGINT],
        &[SIGHUP, SIGHUP],
        &[SIGTERM, SIGKILL],
        &[SIGKILL],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = pipeprof(folder.path(), &["stat", "-c", LINE]).spawn().unwrap();
        let pids = members(folder.path(), MEMBERS);
        for &signal in signals {
            if child.try_wait().unwrap().is_none() {
                send(&child, signal);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        wait(&mut child);
        let left = || pids.iter().filter(|&&pid| is_alive(pid)).count();
        if signals.last() == Some(&SIGKILL) {
            until("members of a killed pipeprof live on", || left() == 0);
        }
        assert_eq!(left(), 0, "{signals:?}");
    }
}

#[test]
fn a_pair_ends_with_pipeprof() {
    for signals in [&[Signal::SIGTERM, Signal::SIGTERM][..], &[Signal::SIGKILL], &[Signal::SIGQUIT]]
    {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["stat", "--stage", "write", "--bytes", "100000G"];
        let mut child = pipeprof(folder.path(), &arguments).spawn().unwrap();
        let parent = child.id() as i32;
        let mut ends: Vec<i32> = Vec::new();
        until("the ends have not begun", || {
            let all = fs::read_dir("/proc").unwrap().flatten();
            let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            ends = pids.filter(|&pid| is_end_of(pid, parent)).collect();
            ends.len() == 2
        });
        for &signal in signals {
            if child.try_wait().unwrap().is_none() {
                send(&child, signal);
            }
        }
        wait(&mut child);
        until("an end lives on", || ends.iter().all(|&pid| !is_alive(pid)));
    }
}

fn is_end_of(pid: i32, parent: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
    let is_child = rest.split(' ').nth(1) == Some(parent.to_string().as_str());
    is_child && (name.ends_with("(pp-write") || name.ends_with("(pp-read"))
}

#[test]
fn a_trap_runs_at_the_end_of_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let line = "trap 'echo tidied >mark; exit' TERM; while :; do sleep 0.01; done";
    let arguments = ["stat", "--duration", "300ms", "-c", line];
    let mut child = pipeprof(folder.path(), &arguments).spawn().unwrap();
    assert!(wait(&mut child).success());
    assert_eq!(fs::read_to_string(folder.path().join("mark")).unwrap(), "tidied\n");
}

#[test]
fn sort_removes_its_files_at_the_end_of_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let spill = folder.path().join("spill");
    fs::create_dir(&spill).unwrap();
    let arguments = ["stat", "-c", "yes | sort -S 1M -T spill >/dev/null"];
    let mut child = pipeprof(folder.path(), &arguments).spawn().unwrap();
    let files = || fs::read_dir(&spill).unwrap().count();
    until("sort has spilt nothing", || files() > 0);
    send(&child, Signal::SIGTERM);
    assert_eq!(wait(&mut child).code(), Some(130));
    assert_eq!(files(), 0);
}

/// Runs a line in a shell that ignores some signals, and what it printed.
fn shell(folder: &Path, line: &str) -> String {
    let pipeprof = env!("CARGO_BIN_EXE_pipeprof");
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PIPEPROF", pipeprof).current_dir(folder).stdin(Stdio::null());
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_was_ignored_stays_ignored_in_the_command() {
    let folder = tempfile::tempdir().unwrap();
    for ignored in ["HUP", "PIPE", "INT QUIT", "HUP TERM USR1"] {
        let asked = "grep SigIgn /proc/self/status";
        let line = |run: &str| shell(folder.path(), &format!("trap '' {ignored}; {run}"));
        let plain = line(asked);
        let ours = line(&format!("\"$PIPEPROF\" stat -c '{asked}'"));
        assert!(plain.starts_with("SigIgn:"), "{plain}");
        assert_eq!(ours.lines().next(), plain.lines().next(), "{ignored}");
    }
}

#[test]
fn a_signal_that_is_ignored_from_the_start_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = "trap '' HUP; exec \"$PIPEPROF\" stat -c 'echo $$ >>pids; sleep 1; exit 7'";
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PIPEPROF", env!("CARGO_BIN_EXE_pipeprof"));
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    members(folder.path(), 1);
    send(&child, Signal::SIGHUP);
    send(&child, Signal::SIGHUP);
    assert_eq!(wait(&mut child).code(), Some(1));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("exit status: 7"), "the command ran to its own end: {said}");
}

/// What a line prints that runs in a terminal of its own.
fn terminal(folder: &Path, line: &str) -> Option<String> {
    let mut command = Command::new("script");
    command.args(["-qec", line, "/dev/null"]).env("PIPEPROF", env!("CARGO_BIN_EXE_pipeprof"));
    command.current_dir(folder).stdin(Stdio::null());
    match command.output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => {
            #[allow(clippy::print_stderr, reason = "how a test says that it was skipped")]
            {
                eprintln!("skipped: there is no script(1)");
            }
            None
        }
    }
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    // As a pager leaves it that does not heed SIGTERM, one that has no time to tidy up, and one that
    // is killed by somebody else.
    for raw in [
        "trap \"\" TERM; stty raw -echo; exec sleep 300",
        "stty raw -echo; exec sleep 300",
        "stty raw -echo; kill -KILL $$",
    ] {
        let line =
            format!("\"$PIPEPROF\" stat --duration 300ms -c '{raw}' >/dev/null 2>&1; stty -a");
        let Some(said) = terminal(folder.path(), &line) else { return };
        let words: Vec<&str> = said.split_whitespace().collect();
        assert!(words.contains(&"icanon") && words.contains(&"echo"), "{raw}: {said}");
    }
}

#[test]
fn what_a_command_does_to_the_terminal_on_purpose_stays() {
    let folder = tempfile::tempdir().unwrap();
    let line = "\"$PIPEPROF\" stat -c 'stty -echo' >/dev/null 2>&1; stty -a";
    let Some(said) = terminal(folder.path(), line) else { return };
    assert!(said.split_whitespace().any(|word| word == "-echo"), "{said}");
}

#[test]
fn the_command_is_in_the_foreground_of_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    // `+` in ps: a member of the terminal's foreground process group.
    let line = "\"$PIPEPROF\" stat -c 'ps -o stat= -p $$; read -r word; echo \"got $word\"'";
    let mut command = Command::new("script");
    command.args(["-qec", line, "/dev/null"]).env("PIPEPROF", env!("CARGO_BIN_EXE_pipeprof"));
    command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return };
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Asleep until `ps` has ended, or about to be.
    let is_state = |word: &&str| word.starts_with(['S', 'R', 'D']);
    assert!(said.split_whitespace().filter(is_state).any(|state| state.ends_with('+')), "{said}");
    assert!(said.contains("got hello"), "{said}");
}
