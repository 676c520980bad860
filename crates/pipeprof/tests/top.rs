//! `pipeprof top` as a user and a script run it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::{Read, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Killed, pipeprof, stderr, stdout, until};
use serde_json::Value;

/// `yes | perl` that reads slowly, ended when dropped.
struct Slow(Killed);

impl Slow {
    fn start() -> Self {
        let (read, write) = pipe().unwrap();
        let quiet = |program: &str| {
            let mut command = Command::new(program);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let writer = quiet("yes").stdout(write).spawn().unwrap();
        // Never waits for anybody: it computes between two reads.
        let script = "while (sysread STDIN, $x, 4096) { for (1 .. 20000) { $y += $_ } }";
        let reader = quiet("perl").args(["-e", script]).stdin(read).spawn().unwrap();
        Slow(Killed(vec![writer, reader]))
    }

    fn pid(&self) -> String {
        self.0.0[1].id().to_string()
    }
}

fn snapshot(arguments: &[&str]) -> Value {
    let output = pipeprof().arg("top").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1, "an object a line: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_slow_reader_is_what_limits_the_pipeline() {
    let slow = Slow::start();
    let now = snapshot(&["--json", "--once", "--interval", "3s", "--pid", &slow.pid()]);
    let pipeline = &now["pipelines"][0];
    let members = pipeline["members"].as_array().unwrap();
    let names: Vec<&str> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["yes", "perl"]);
    assert_eq!(pipeline["limit"]["member"], 1, "{now}");
    assert!(members[0]["waits_for_space"].as_f64().unwrap() > 0.5, "{now}");
    let pipe = &pipeline["pipes"][0];
    assert!(pipe["bytes_per_second"].as_f64().unwrap() > 0.0, "{now}");
    assert_eq!((&pipe["writers"][0], &pipe["readers"][0]), (&Value::from(0), &Value::from(1)));
    // A machine that is busy may let a look into the pipe come too late.
    assert_ne!(pipe["fill_bytes"], 0, "{now}");
    // The shares of a member are of its time.
    for member in members {
        let shares = ["busy", "waits_for_data", "waits_for_space", "outside"];
        let sum: f64 = shares.iter().map(|share| member[share].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 0.05, "{member}");
    }
}

#[test]
fn a_pattern_chooses_and_no_fill_opens_no_pipe() {
    let slow = Slow::start();
    let chosen = |arguments: &[&str]| {
        let now = snapshot(&[&["--json", "--once", "--interval", "200ms"], arguments].concat());
        now["pipelines"].as_array().unwrap().clone()
    };
    let pipelines = chosen(&["--no-fill", &slow.pid()]);
    assert_eq!(pipelines.len(), 1);
    assert_eq!(pipelines[0]["pipes"][0]["fill_bytes"], Value::Null);
    assert_eq!(chosen(&["no such pipeline anywhere"]).len(), 0);
}

#[test]
fn a_batch_is_plain_text_and_its_reader_may_go() {
    let slow = Slow::start();
    let line = format!(
        "{} top --batch --interval 100ms --pid {} | head -4",
        env!("CARGO_BIN_EXE_pipeprof"),
        slow.pid()
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let text = stdout(&output);
    assert!(text.starts_with("1 pipeline, "), "{text}");
    assert!(text.contains("yes | perl"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(stderr(&output), "");
}

#[test]
fn without_a_terminal_it_says_what_prints_instead() {
    let output = pipeprof().arg("top").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--batch"), "{}", stderr(&output));
}

/// `pipeprof top` in a pseudo-terminal, with what it has drawn so far.
struct Terminal {
    script: Child,
    drawn: String,
}

impl Terminal {
    fn open(arguments: &str) -> Self {
        Self::open_after("", arguments)
    }

    fn open_after(first: &str, arguments: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_pipeprof");
        let line = format!("{first}stty rows 24 cols 80; {program} top {arguments}");
        let script = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Terminal { script, drawn: String::new() }
    }

    fn read_until(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut piece = [0; 4096];
        while !self.drawn.contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.drawn);
            let length = self.script.stdout.as_mut().unwrap().read(&mut piece).unwrap();
            assert!(length > 0, "it ended without {text:?}: {:?}", self.drawn);
            self.drawn += &String::from_utf8_lossy(&piece[..length]);
        }
    }

    /// The process in it.
    fn top(&self) -> String {
        let children = |of: &str, name: &[&str]| {
            let output = Command::new("pgrep").args(["-P", of]).args(name).output().unwrap();
            stdout(&output).trim().to_owned()
        };
        let shell = children(&self.script.id().to_string(), &[]);
        // Where the shell became it, a child of its own has its name for a moment.
        let comm = std::fs::read_to_string(format!("/proc/{shell}/comm")).unwrap();
        if comm.trim() == "pipeprof" { shell } else { children(&shell, &["pipeprof"]) }
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }
}

const LEAVES_ITS_SCREEN: &str = "\u{1b}[?1049l";

#[test]
fn the_terminal_is_as_it_was_after_a_key_and_after_a_kill() {
    let slow = Slow::start();
    let mut terminal = Terminal::open(&format!("--interval 200ms --pid {}", slow.pid()));
    terminal.read_until("perl");
    terminal.press("?");
    terminal.read_until("keys");
    terminal.press("xq");
    terminal.read_until(LEAVES_ITS_SCREEN);
    assert!(terminal.script.wait().unwrap().success());

    let mut terminal = Terminal::open(&format!("--interval 200ms --pid {}", slow.pid()));
    terminal.read_until("perl");
    assert!(Command::new("kill").args(["-TERM", &terminal.top()]).status().unwrap().success());
    terminal.read_until(LEAVES_ITS_SCREEN);
    terminal.script.wait().unwrap();
}

#[test]
fn it_ends_when_its_terminal_hangs_up() {
    let slow = Slow::start();
    // Once more with the signal that tells of it ignored.
    for ignored in ["", "trap '' HUP; "] {
        let arguments = format!("--interval 200ms --pid {}", slow.pid());
        let mut terminal = Terminal::open_after(ignored, &arguments);
        terminal.read_until("perl");
        let top = terminal.top();
        // Nobody may have waited for it yet: it is a zombie then.
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{top}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        assert!(is_alive());
        terminal.script.kill().unwrap();
        terminal.script.wait().unwrap();
        until("it ends without a terminal", || !is_alive());
    }
}
