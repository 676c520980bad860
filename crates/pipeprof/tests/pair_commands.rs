//! `run`, `write`, `read` and `stages` as a user meets them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{found, is_alive, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PIPEPROF: &str = env!("CARGO_BIN_EXE_pipeprof");

fn pipeprof(line: &str) -> Output {
    Command::new(PIPEPROF).args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

/// A shell command in which `pp` is pipeprof.
fn shell(line: &str) -> Output {
    let script = format!("set -o pipefail; pp() {{ '{PIPEPROF}' \"$@\"; }}; {line}");
    Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn run_prints_the_articles_line() {
    let output = pipeprof("run --stage vmsplice --bytes 64M");
    assert!(output.status.success(), "{}", stderr(&output));
    let (rate, rest) =
        stdout(&output).split_once("GiB/s").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(rate.parse::<f64>().is_ok(), "{rate}");
    assert_eq!(rest, ", 256KiB buffer, 256 iterations (64MiB piped)\n");
    assert_eq!(stderr(&output), "");
}

#[test]
fn run_json_and_csv_agree_with_the_plan() {
    let output = pipeprof("run --stage busy-loop --bytes 16M --buf-size 128K --json");
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["bytes"], 16 << 20);
    assert_eq!(report["iterations"], 128);
    assert_eq!(report["plan"]["stage"], "busy-loop");
    assert!(report["gib_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["elapsed_ns"].as_u64().unwrap() > 0);
    for end in ["writer", "reader"] {
        assert_eq!(report[end]["exit_status"], 0);
        assert_eq!(report[end]["report"]["bytes"], 16 << 20);
    }

    let output = pipeprof("run --stage splice --bytes 16M --csv");
    let text = stdout(&output);
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(header.len(), row.len());
    let cell = |name: &str| row[header.iter().position(|&column| column == name).unwrap()];
    assert_eq!(header[..3], ["gibibytes_per_second", "bytes_to_pipe", "buf_size"]);
    assert_eq!(header[13], "same_buffer");
    assert_eq!((cell("pipe_size"), cell("read_with_splice")), ("131072", "1"));
    assert_eq!(
        (cell("huge_page"), cell("stage"), cell("bytes_piped")),
        ("0", "splice", "16777216")
    );
}

#[test]
fn nonsense_is_usage_and_names_the_flag() {
    for (line, flag) in [
        ("run --stage splice --fill --verify", "--read-with read"),
        ("run --gift", "--write-with vmsplice"),
        ("run --stage gift --fill", "--gift"),
        ("run --stage tee --fill", "--verify works without"),
        ("run --stage tee --verify", "--read-with read"),
        ("run --stage tee --huge-page", "--huge-page"),
        ("run --stage tee-large --buf-size 40K", "32KiB"),
        ("run --stage tee --buf-size 2M", "--pipe-size"),
        ("run --bytes 0", "--bytes"),
        ("run --buf-size 1.5Q", "GiB"),
        ("run --stage fast", "vmsplice, splice"),
        ("run --pin 0", "auto"),
        ("read --stage splice", "pipeprof read"),
        ("read --pipe-size 1M", "--pipe-size"),
    ] {
        let output = pipeprof(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(flag), "{line}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{line}");
    }
    let output = shell("pp write --stage vmsplice >/dev/null");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("stdout is not a pipe"), "{}", stderr(&output));
}

#[test]
fn the_ends_work_alone_in_a_shell_pipeline() {
    for (line, piped) in [
        ("pp write --bytes 5M | pp read", "(5MiB piped)"),
        ("pp write --stage vmsplice --bytes 5M | pp read --stage splice", "(5MiB piped)"),
        // The writer finds the pipe closed, and ends quietly with 0.
        ("pp write | pp read --bytes 10M", "(10MiB piped)"),
        ("pp write --stage busy-loop | pp read --stage busy-loop --bytes 10M", "(10MiB piped)"),
        ("head -c 1000000 /dev/zero | pp read", "(1000000B piped)"),
        ("pp write --stage vmsplice --fill --bytes 5M | pp read --verify", "(5MiB piped)"),
        ("pp write --fill --bytes 5M | cat | pp read --verify", "(5MiB piped)"),
        ("pp write --stage tee-large --bytes 5M | pp read --stage tee", "(5MiB piped)"),
        (
            "pp write --stage tee --bytes 5M | cat | pp read --stage tee --read-with read --verify",
            "(5MiB piped)",
        ),
    ] {
        let output = shell(line);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        assert!(stdout(&output).trim_end().ends_with(piped), "{line}: {}", stdout(&output));
        assert_eq!(stderr(&output), "", "{line}");
    }
    let output = shell("pp write --stage vmsplice --bytes 3000000 | wc -c");
    assert_eq!(stdout(&output).trim(), "3000000");
    let output = shell("head -c 1000 /dev/zero | pp read --verify");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("corrupt data at byte 0"), "{}", stderr(&output));
}

#[test]
fn stages_lists_them_all_and_what_they_cannot_do() {
    let text = stdout(&pipeprof("stages"));
    let names = ["write", "vmsplice", "splice", "huge-page", "busy-loop"];
    let beyond = ["tee", "tee-large", "same-cpu", "gift", "tiny"];
    for name in names.iter().chain(&beyond) {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {text}");
    }
    assert!(text.contains("they cannot change"), "{text}");
    let report: Value = serde_json::from_str(&stdout(&pipeprof("stages --json"))).unwrap();
    let stages = report["stages"].as_array().unwrap();
    let article = stages.iter().filter(|stage| stage["article_gib_per_s"].is_number());
    let article: Vec<&str> = article.map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(article, names);
    assert_eq!(stages.len(), names.len() + beyond.len());
    assert!(report["machine"]["pipe_max_size_bytes"].as_u64().unwrap() >= 4096);
}

/// A pair that runs until it is stopped, with the pids of its ends; both have left the gate.
fn endless(stage: &str) -> (Child, Vec<i32>) {
    let child = Command::new(PIPEPROF)
        .args(["run", "--bytes", "900000G", "--stage", stage])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let ends = found("both ends are in their loops", || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let pids: Vec<i32> =
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        let running = pids.iter().filter(|&&pid| is_in_its_loop(pid)).count();
        (running == 2).then_some(pids)
    });
    (child, ends)
}

/// It has its name and has used 50 ms of CPU, which setting itself up does not take.
fn is_in_its_loop(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
    let ticks =
        rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    name.contains("(pp-") && ticks.sum::<u64>() >= 5
}

#[test]
fn no_end_outlives_a_killed_pipeprof() {
    for stage in ["write", "busy-loop"] {
        let (mut child, ends) = endless(stage);
        child.kill().unwrap();
        child.wait().unwrap();
        until("both ends have ended", || !ends.iter().any(|&pid| is_alive(pid)));
    }
}

#[test]
fn ctrl_c_stops_the_pair_and_prints_what_was_moved() {
    for stage in ["write", "busy-loop"] {
        let (mut child, ends) = endless(stage);
        // As a terminal does: to every process of the group.
        for pid in ends.iter().copied().chain([child.id() as i32]) {
            kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
        }
        let status = child.wait().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(status.code(), Some(130), "{stage}: {text}");
        assert!(text.contains("GiB/s, 256KiB buffer") && text.contains("piped"), "{text}");
    }
}

#[test]
fn an_end_that_is_killed_fails_the_run_and_is_named() {
    let (child, ends) = endless("vmsplice");
    kill(Pid::from_raw(ends[0]), Signal::SIGKILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("the writer") && text.contains("SIGKILL"), "{text}");
    assert!(stdout(&output).contains("piped"), "what was moved is still printed");
}

#[test]
fn a_second_ctrl_c_quits_at_once_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let is_empty = || fs::read_dir(&temporary).unwrap().next().is_none();
    let mut child = Command::new(PIPEPROF)
        .args(["-q", "flame", "--stage", "write", "--bytes", "1000G", "-o", "it.svg"])
        .current_dir(folder.path())
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The signals are caught before anything is recorded.
    found("a recording is begun", || {
        let folder = fs::read_dir(&temporary).unwrap().next()?.unwrap().path();
        fs::read_dir(folder).unwrap().next().map(drop)
    });
    let started = Instant::now();
    // Until it has quit: two that come close together are one to the kernel.
    while child.try_wait().unwrap().is_none() {
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(started.elapsed() < Duration::from_secs(60), "it did not quit");
    }
    assert!(is_empty(), "a recording was left behind");
    assert!(!folder.path().join("it.svg").exists());
}

#[test]
fn a_writer_without_an_end_does_not_fill_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let output = shell(&format!("timeout 5 pp write >{}", file.display()).replace("pp", PIPEPROF));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: limit it: pipeprof write --bytes 1G"));
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);
    let output = shell(&format!("pp write --bytes 1M >{}", file.display()));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 20);
}

#[test]
fn a_limit_on_file_sizes_is_an_error_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let output = shell(&format!("ulimit -f 64; pp write --bytes 1M >{}", file.display()));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("EFBIG"), "{}", stderr(&output));
}

#[test]
fn what_is_wrong_with_a_command_line_is_said_without_its_escapes() {
    let output = shell("pp flame --stage $'\\e[2J\\u009b1m\\u202e'");
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("\\u{9b}1m\\u{202e}"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text}");
}
