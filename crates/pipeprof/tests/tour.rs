//! `pipeprof tour` on this machine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use common::{may_profile_kernel, pipeprof, run_in, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SHORT: [&str; 5] = ["tour", "--bytes", "2G", "--stages", "write,vmsplice"];

#[test]
fn two_stages_are_run_explained_and_compared() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &[&SHORT[..], &["--no-pause", "--svg", "."]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let mut rest = &text[..];
    // In this order.
    for part in [
        "pipeprof tour\n",
        "1 of 2: write\n",
        "\nmeasured here: ",
        "\nwriter: ",
        "\nreader: ",
        " fs/pipe.c ",
        "pipe_write: ",
        "\nLargest in the writer's CPU time: ",
        "\nNext, vmsplice. ",
        "2 of 2: vmsplice\n",
        "\nmeasured here: ",
        " fs/splice.c ",
        "iov_iter_get_pages",
        "\nwhat vmsplice changed\n",
        "writer  copy in ",
        "writer  all CPU time ",
        "reader  blocked ",
        " times",
        "\nin one table\n",
        "\nwrite ",
        "\nvmsplice ",
    ] {
        let at =
            rest.find(part).unwrap_or_else(|| panic!("{part:?} is not where it belongs: {text}"));
        rest = &rest[at + part.len()..];
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    // vmsplice has no copy in: at most a sample of its start.
    let copy_in = text.lines().find(|line| line.starts_with("writer  copy in ")).unwrap();
    assert!(copy_in.contains("none seen") || copy_in.contains('<'), "{copy_in}");
    for stage in ["write", "vmsplice"] {
        let svg = std::fs::read_to_string(folder.path().join(format!("tour-{stage}.svg"))).unwrap();
        assert!(svg.contains("</svg>"));
    }
}

#[test]
fn a_stage_is_named_once() {
    let output = pipeprof().args(["tour", "--stages", "write,splice,write"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--stages has write twice"), "{}", stderr(&output));
}

#[test]
fn ctrl_c_stops_it_within_a_stage() {
    let mut tour = pipeprof()
        .args(["tour", "--no-pause", "--stages", "write", "--bytes", "1024G"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tour.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("ends with a wake-up")).unwrap().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", tour.id());
    until("its pair runs", || {
        std::fs::read_to_string(&children).unwrap().split_whitespace().count() >= 2
    });
    kill(Pid::from_raw(tour.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(tour.wait().unwrap().code(), Some(130));
}

#[test]
fn it_ends_when_nobody_reads() {
    let mut tour = pipeprof()
        .args(["tour", "--no-pause", "--stages", "write", "--bytes", "64M"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(tour.stdout.take());
    assert_eq!(tour.wait().unwrap().code(), Some(0));
}

/// On a terminal of its own, with these keys typed when it asks.
fn on_a_terminal(keys: &str) -> Option<(Option<i32>, String)> {
    let program = env!("CARGO_BIN_EXE_pipeprof");
    let line = format!("{program} tour --bytes 64M --stages write,vmsplice");
    let mut script = Command::new("timeout")
        .args(["60", "script", "-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .inspect_err(|error| eprintln!("skipped: timeout(1) can't be run: {error}"))
        .ok()?;
    // Kept open until the end: script would end the terminal's input with it.
    let mut typed = script.stdin.take().unwrap();
    let mut shown = BufReader::new(script.stdout.take().unwrap());
    let mut text = Vec::new();
    while !text.ends_with(b"to stop: ") && shown.read_until(b' ', &mut text).unwrap() > 0 {}
    typed.write_all(keys.as_bytes()).unwrap();
    shown.read_to_end(&mut text).unwrap();
    let status = script.wait().unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    if status.code() == Some(127) {
        eprintln!("skipped: script(1) can't be run: {text}");
        return None;
    }
    Some((status.code(), text))
}

#[test]
fn on_a_terminal_it_waits_to_be_told() {
    let Some((status, text)) = on_a_terminal("q\n") else { return };
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("Press Enter to see what vmsplice changes"), "{text}");
    assert!(text.contains("in one table") && !text.contains("2 of 2"), "{text}");
    let Some((status, text)) = on_a_terminal("\n") else { return };
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("2 of 2") && text.contains("what vmsplice changed"), "{text}");
    let ctrl_c = "\u{3}";
    let Some((status, text)) = on_a_terminal(ctrl_c) else { return };
    assert_eq!(status, Some(130), "{text}");
    assert!(text.contains("in one table"), "{text}");
}
