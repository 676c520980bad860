//! `ladder` as a user meets it, on the real kernel.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use common::{may_profile_kernel, pipeprof, run_in, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeprof_profiler::counters::{CounterSet, CounterValue, Target};
use pipeprof_profiler::environment::Environment;
use pipeprof_runner::pair::{Reexec, launch};
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::Stage;
use serde_json::Value;

fn parsed(path: &std::path::Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn two_stages_and_a_command_in_two_rounds() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let theirs = "head -c 512M /dev/zero | cat >/dev/null";
    let output = run_in(
        folder.path(),
        &[
            "ladder",
            "--stages",
            "write,busy-loop",
            "--runs",
            "2",
            "--bytes",
            "128M",
            "--seed",
            "7",
            "--against",
            theirs,
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for word in
        ["write", "busy-loop", "head -c 512M", "× first", "CPU per GiB", "seed 7", "memory:"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    let ladder = parsed(&folder.path().join("ladder.json"));
    let runs = ladder["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3 * (2 + 2), "a run of each in each round, profiled and not");
    assert_eq!(ladder["seed"], 7);
    for run in runs {
        let is_stage = run["entry"].as_u64().unwrap() < 2;
        if is_stage {
            assert!(run["gib_per_s"].as_f64().unwrap() > 0.0, "{run}");
            assert_eq!(run["bytes"], 128 << 20);
            assert_eq!(run["plan"]["bytes"], 128 << 20);
        }
        if run["profile"].is_null() || !is_stage {
            continue;
        }
        for end in run["ends"].as_array().unwrap() {
            let cpu_ns = end["cpu_ns"].as_f64().unwrap();
            let roles = end["roles"].as_array().unwrap().iter();
            let sum: f64 = roles.map(|role| role["cpu_ns"].as_f64().unwrap()).sum();
            // An end of 128 MiB may be over before the first sample.
            assert!(sum == 0.0 || (sum / cpu_ns - 1.0).abs() < 0.01, "{sum} of {cpu_ns}");
        }
    }
    let svg = fs::read_to_string(folder.path().join("ladder.svg")).unwrap();
    assert!(svg.contains(">busy-loop</text>") && svg.ends_with("</svg>\n"));
    let csv = fs::read_to_string(folder.path().join("ladder.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + runs.len());
}

#[test]
fn the_order_of_a_seed_is_the_same_again() {
    let order = || {
        let folder = tempfile::tempdir().unwrap();
        let line = [
            "-q",
            "ladder",
            "--stages",
            "write,vmsplice,splice,busy-loop",
            "--runs",
            "3",
            "--bytes",
            "1M",
            "--seed",
            "12",
            "--json",
        ];
        let output = run_in(folder.path(), &line);
        let ladder: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let runs = ladder["runs"].as_array().unwrap().clone();
        let plain = runs.into_iter().filter(|run| run["profile"].is_null());
        plain.map(|run| run["entry"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let first = order();
    assert_eq!(first.len(), 12);
    assert_eq!(first, order());
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let child = pipeprof()
        .args([
            "ladder",
            "--stages",
            "write,splice",
            "--runs",
            "500",
            "--bytes",
            "64M",
            "-o",
            "cut",
        ])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It is written after each round.
    let json = folder.path().join("cut.json");
    until("a round ended", || json.exists());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let ladder = parsed(&json);
    assert_eq!(ladder["ending"], "interrupted");
    assert!(ladder["runs"].as_array().unwrap().len() >= 2);
    assert!(stdout(&output).contains("of 500"), "{}", stdout(&output));
    assert!(folder.path().join("cut.svg").exists() && folder.path().join("cut.csv").exists());
}

#[test]
fn a_command_that_fails_is_left_out_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(
        folder.path(),
        &["ladder", "--stages", "write", "--runs", "1", "--bytes", "1M", "--against", "exit 3"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exit 3 is left out"), "{}", stderr(&output));
    assert!(stdout(&output).contains("write"), "{}", stdout(&output));
}

#[test]
fn an_endless_command_is_stopped_and_metered() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(
        folder.path(),
        &[
            "ladder",
            "--stages",
            "write",
            "--runs",
            "1",
            "--bytes",
            "1M",
            "--against",
            "yes | cat >/dev/null",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("metered bytes of its last pipe"), "{text}");
}

#[test]
fn nonsense_is_usage() {
    let folder = tempfile::tempdir().unwrap();
    for (line, word) in [
        (&["--stages", "fast"][..], "vmsplice"),
        (&["--runs", "0"], "--runs"),
        (&["--pin", "0,999"], "--pin"),
        (&["--bytes", "0"], "--bytes"),
        (&["--sweep", "pipe-size=1..2"], "page"),
        (&["--sweep", "pipe-size=4K", "--sweep", "pipe-size=8K"], "twice"),
        (&["--sweep", "pipe-size=4K", "--stages", "write,splice"], "one stage"),
    ] {
        let mut arguments = vec!["ladder"];
        arguments.extend(line);
        let output = run_in(folder.path(), &arguments);
        let told = stderr(&output);
        assert!(told.contains(word), "{line:?}: {told}");
        assert!(matches!(output.status.code(), Some(1 | 2)), "{line:?}: {told}");
    }
}

#[test]
fn a_sweep_is_a_heat_map_and_shows_what_the_kernel_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let line = [
        "ladder",
        "--sweep",
        "pipe-size=64K..1G",
        "--sweep",
        "buf-size=64K..128K",
        "--runs",
        "1",
        "--bytes",
        "1M",
        "-o",
        "heat",
    ];
    let output = run_in(folder.path(), &line);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("refused: the kernel refused a pipe of 1GiB"), "{text}");
    let sweep = parsed(&folder.path().join("heat.json"));
    assert_eq!(sweep["axes"][0]["knob"], "pipe-size");
    assert_eq!(sweep["entries"].as_array().unwrap().len(), 15 * 2);
    let svg = fs::read_to_string(folder.path().join("heat.svg")).unwrap();
    assert!(svg.contains(">refused</text>") && svg.contains(">64KiB</text>"));
}

/// The roles of an end add up to its CPU time (see above), which is that of `pipeprof stat`. Events
/// of perf would make every switch dearer, and so change what they measure.
#[test]
fn the_cpu_time_that_is_shared_out_is_that_of_task_clock() {
    if !may_profile_kernel() {
        return;
    }
    let knobs = Knobs { bytes: Some(1 << 30), ..Knobs::default() };
    let apart = |stage: Stage| {
        let plan = PairPlan::new(stage, &knobs).unwrap();
        let again = Reexec {
            program: env!("CARGO_BIN_EXE_pipeprof").into(),
            arguments: vec!["__end".into()],
        };
        let prepared = launch(&plan, &again).unwrap();
        let ends = prepared.pipeline().members.iter().map(|member| Target::alone(member.pid));
        let ends: Vec<Target> = ends.collect();
        let mut counters = CounterSet::attach(&ends, &Environment::read()).unwrap();
        counters.enable().unwrap();
        let running = prepared.release();
        while !running.wait_timeout(Duration::from_secs(1)).unwrap() {}
        counters.disable().unwrap();
        let outcome = running.wait().unwrap();
        let own = [&outcome.writer, &outcome.reader]
            .map(|end| end.report.as_ref().unwrap().usage.cpu_ns() as f64);
        let worst = own.into_iter().zip(counters.read()).map(|(own, counted)| {
            match counted.get("task-clock").unwrap().value {
                CounterValue::Exact { value } => (own / value as f64 - 1.0).abs(),
                ref other => panic!("{other:?}"),
            }
        });
        worst.fold(0.0, f64::max)
    };
    for stage in [Stage::Write, Stage::Vmsplice] {
        // What an end does before its loop and after it is in the one and not in the other.
        let best = (0..5).map(|_| apart(stage)).fold(f64::MAX, f64::min);
        assert!(best < 0.01, "{stage}: {:.2} % apart at best", 100.0 * best);
    }
}
