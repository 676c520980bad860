//! `pipeprof ls` as a user runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::pipe;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::Killed;
use serde_json::Value;

fn ls(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeprof"));
    command.arg("ls").args(arguments).env("LC_ALL", "C.UTF-8");
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Two processes and the pipe between them, ended when dropped.
struct Pair(Killed);

impl Pair {
    fn start() -> Self {
        let (read, write) = pipe().unwrap();
        let quiet = |program: &str| {
            let mut command = Command::new(program);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let writer = quiet("yes").stdout(write).spawn().unwrap();
        let reader = quiet("sleep").arg("60").stdin(read).spawn().unwrap();
        Pair(Killed(vec![writer, reader]))
    }

    fn pids(&self) -> [String; 2] {
        [0, 1].map(|at: usize| self.0.0[at].id().to_string())
    }

    /// Asks until the pipe is full.
    fn listed(&self, arguments: &[&str], full: impl Fn(&Output) -> bool) -> Output {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let output = ls(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            if full(&output) {
                return output;
            }
            assert!(Instant::now() < deadline, "{output:?}");
        }
    }
}

#[test]
fn a_pipeline_is_drawn_from_either_pid() {
    let pair = Pair::start();
    let [writer, reader] = pair.pids();
    for pid in [&writer, &reader] {
        let output =
            pair.listed(&["--pid", pid], |output| text(&output.stdout).contains("100 % filled"));
        let line = text(&output.stdout);
        assert!(line.starts_with(&format!("yes ({writer}) ──pipe:[")), "{line}");
        assert!(line.ends_with(&format!("──▶ sleep 60 ({reader})\n")), "{line}");
    }
}

#[test]
fn json_tells_the_same() {
    let pair = Pair::start();
    let [writer, reader] = pair.pids();
    let parsed = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
    let is_full = |output: &Output| {
        let pipe = &parsed(output)["pipelines"][0]["pipes"][0];
        pipe["fill_bytes"].is_u64() && pipe["fill_bytes"] == pipe["capacity_bytes"]
    };
    let listing = parsed(&pair.listed(&["--pid", &writer, "--json"], is_full));
    let pipeline = &listing["pipelines"][0];
    assert_eq!(pipeline["members"][1]["pid"].to_string(), reader);
    assert_eq!(pipeline["members"][1]["command_line"][1], "60");
    assert_eq!(pipeline["pipes"][0]["writers"][0], 0);
    assert_eq!(pipeline["pipes"][0]["readers"][0], 1);
}

#[test]
fn without_a_utf8_locale_it_is_ascii() {
    let pair = Pair::start();
    let output = ls(&["--pid", &pair.pids()[0]]).env("LC_ALL", "C").output().unwrap();
    assert!(output.stdout.is_ascii() && text(&output.stdout).contains("-->"), "{output:?}");
}

#[test]
fn a_pid_that_nobody_has_is_said_with_a_hint() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id().to_string();
    child.wait().unwrap();
    let output = ls(&["--pid", &pid]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("no process has pid {pid}")) && said.contains("hint: "),
        "{said}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for arguments in [&["--pid", "0"][..], &["--only-pids"], &["--pid", "x"]] {
        assert_eq!(ls(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let pair = Pair::start();
    let (read, write) = pipe().unwrap();
    drop(read);
    let status = ls(&["--pid", &pair.pids()[0]]).stdout(write).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
