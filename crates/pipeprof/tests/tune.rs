//! `pipeprof tune` and `pipeprof buffer` as a user runs them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Killed, pipeprof, stderr};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// A writer of bursts that are larger than the pipe, and a reader that works in between: the pipe
/// is full for some of the time and empty for some. Ended when dropped.
struct Bursts(Killed);

const WRITER: &str =
    "while (1) { syswrite STDOUT, 'x' x 400000; select undef, undef, undef, 0.02 }";
const READER: &str = "while (sysread STDIN, $x, 32768) { select undef, undef, undef, 0.0005 }";

impl Bursts {
    fn start() -> Self {
        let (read, write) = pipe().unwrap();
        let perl = |script: &str| {
            let mut command = Command::new("perl");
            command.args(["-e", script]).stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let writer = perl(WRITER).stdout(write).spawn().unwrap();
        let reader = perl(READER).stdin(read).spawn().unwrap();
        Bursts(Killed(vec![writer, reader]))
    }

    fn pid(&self) -> String {
        self.0.0[1].id().to_string()
    }

    fn members(&self) -> [&Child; 2] {
        [&self.0.0[0], &self.0.0[1]]
    }

    fn setting(&self) -> Setting {
        let pipe = File::open(format!("/proc/{}/fd/0", self.0.0[1].id())).unwrap();
        Setting {
            capacity: fcntl(&pipe, FcntlArg::F_GETPIPE_SZ).unwrap(),
            cpus: self.members().map(|child| {
                let set = sched_getaffinity(Pid::from_raw(child.id() as i32)).unwrap();
                (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap()).collect()
            }),
            nice: self.members().map(|child| {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
                stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned()
            }),
        }
    }
}

/// All that a tuning may change.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    capacity: i32,
    cpus: [Vec<usize>; 2],
    nice: [String; 2],
}

/// Polls until it holds.
fn wait_until(within: Duration, holds: impl Fn() -> bool) -> bool {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    holds()
}

#[test]
fn a_killed_tuning_leaves_everything_as_it_was() {
    let bursts = Bursts::start();
    let before = bursts.setting();
    for signal in ["-KILL", "-TERM", "-KILL"] {
        let mut tune = pipeprof()
            // What can matter is another thing on a crowded machine.
            .args(["tune", "--yes", "--all", "--pid", &bursts.pid()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let changed = wait_until(Duration::from_secs(60), || bursts.setting() != before);
        assert!(changed, "nothing was tried");
        let pid = tune.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        tune.wait().unwrap();
        // Room for a crowded machine; the guardian itself needs milliseconds.
        let restored = wait_until(Duration::from_secs(10), || bursts.setting() == before);
        assert!(restored, "after kill {signal}: {:?}, before {before:?}", bursts.setting());
    }
}

#[test]
fn a_tuning_reports_what_it_tried_and_touches_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let sum = folder.path().join("sum");
    // 600 MB, slower than the tuning's own first look.
    let line = format!(
        "perl -e 'for (1..600) {{ print chr(65 + $_ % 26) x 1000000; select undef, undef, undef, 0.005 }}' \
         | perl -e 'while (sysread STDIN, $x, 65536) {{ syswrite STDOUT, $x; select undef, undef, undef, 0.0002 }}' \
         | sha256sum >> {}",
        sum.display()
    );
    let output = pipeprof()
        .args(["tune", "--yes", "--json", "--time", "20s", "-c", &line])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let proof: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // Two members have one name, so each is told by its pid.
    let measure = proof["measure"].as_str().unwrap();
    assert!(measure.starts_with("perl (") && measure.contains(" → perl ("), "{proof}");
    assert!(proof["original"]["bytes_per_second"].as_f64().unwrap() > 1e6, "{proof}");
    assert_eq!(proof["not_restored"], serde_json::json!([]));
    let tried = proof["tried"].as_array().unwrap().len();
    let not_tried = proof["not_tried"].as_array().unwrap().len();
    assert!(tried + not_tried >= 3, "{proof}");
    assert!(tried == 0 || proof["tried"][0]["windows"].as_array().unwrap().len() >= 4, "{proof}");
    // It is run to its end by ourselves, for the sum that is right.
    let expected = Command::new("sh").args(["-c", &line.replace("0.005", "0")]).status().unwrap();
    assert!(expected.success());
    let sums = std::fs::read_to_string(&sum).unwrap();
    let mut sums: Vec<&str> = sums.lines().collect();
    let expected = sums.pop().unwrap();
    // The last run ends with the tuning; its reader may have seen the end before it was ended itself.
    sums.pop();
    assert!(sums.iter().all(|sum| *sum == expected), "{sums:?}, not {expected}");
}

#[test]
fn two_tunings_of_one_pipeline_refuse_each_other() {
    let bursts = Bursts::start();
    let before = bursts.setting();
    let mut first = pipeprof()
        .args(["tune", "--yes", "--all", "--pid", &bursts.pid()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_until(Duration::from_secs(60), || bursts.setting() != before));
    let second =
        pipeprof().args(["tune", "--yes", "--all", "--pid", &bursts.pid()]).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", stderr(&second));
    assert!(stderr(&second).contains("another pipeprof is tuning"), "{}", stderr(&second));
    let pid = first.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    first.wait().unwrap();
    assert!(wait_until(Duration::from_secs(10), || bursts.setting() == before));
}

#[test]
fn other_lines_are_run_in_full_and_a_gap_takes_a_buffer() {
    let tune = |arguments: &[&str], line: &str| -> serde_json::Value {
        let output = pipeprof()
            .args(["tune", "--yes", "--json"])
            .args(arguments)
            .args(["-c", line])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let lines = |proof: &serde_json::Value| -> Vec<String> {
        let tried = proof["tried"].as_array().unwrap().iter();
        let lines = tried.filter_map(|one| one["treatment"]["line"].as_str());
        lines.map(str::to_owned).collect()
    };
    let slow = "perl -e 'for (1..1500) { print \"x\" x 1000; select undef, undef, undef, 0.001 }'";
    let line = format!("{slow} | @ | cat >/dev/null");
    let proof = tune(&["--time", "12s"], &line);
    assert_eq!(lines(&proof), [line.replace('@', "pipeprof buffer -m 64M")]);
    let of_line = |one: &&serde_json::Value| one["treatment"]["kind"] == "line";
    let buffer = proof["tried"].as_array().unwrap().iter().find(of_line).unwrap();
    assert_eq!(buffer["failed"], serde_json::Value::Null, "{proof}");

    let line = format!("{slow} | sort --parallel=1 | tail -n 1 >/dev/null");
    let proof = tune(&["--try-flags", "--time", "8s"], &line);
    let others = lines(&proof);
    assert!(others.iter().all(|other| other.contains("| sort --parallel=")), "{proof}");
    assert!(!others.contains(&line), "{proof}");
}

#[test]
fn it_asks_before_it_changes_anything() {
    let bursts = Bursts::start();
    let output =
        pipeprof().args(["tune", "--pid", &bursts.pid()]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("hint: --yes"), "{}", stderr(&output));
}

#[test]
fn a_pipeline_without_pipes_is_refused_with_the_way_to_find_one() {
    let mut sleeper = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output =
        pipeprof().args(["tune", "--yes", "--pid", &sleeper.id().to_string()]).output().unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("pipeprof ls"), "{}", stderr(&output));
}

#[test]
fn a_buffer_passes_every_byte_and_the_end_and_its_readers_death() {
    let mut buffer = pipeprof()
        .args(["buffer", "-m", "8M"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut feed = buffer.stdin.take().unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 % 253) as u8).collect();
    // Nobody reads yet: all of it is held.
    feed.write_all(&sent).unwrap();
    drop(feed);
    let mut received = Vec::new();
    buffer.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    assert!(received == sent);
    assert!(buffer.wait().unwrap().success());

    let line =
        format!("yes | {} buffer -m 1M | head -c 3M | wc -c", env!("CARGO_BIN_EXE_pipeprof"));
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3145728");
}
