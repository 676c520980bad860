//! `pipeprof export`, as a user runs it, on a recording made here.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{pipeprof, run_in, stderr, stdout};
use inferno::collapse::Collapse;
use serde_json::Value;

/// Records a pipeline of two, of which one computes and one waits.
fn record(folder: &Path) -> bool {
    let line = "head -c 200M /dev/zero | gzip -1 >/dev/null";
    let output = run_in(folder, &["record", "-o", "it", "-c", line]);
    if stderr(&output).contains("the kernel refused every sampling event") {
        eprintln!("skipped: {}", stderr(&output));
        return false;
    }
    assert!(folder.join("it.pipeprof").exists(), "{}", stderr(&output));
    true
}

fn export(folder: &Path, args: &[&str]) -> Vec<u8> {
    let all: Vec<&str> =
        ["export", "it.pipeprof", "--format"].iter().chain(args).copied().collect();
    let output = run_in(folder, &all);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    output.stdout
}

fn folded(text: &[u8]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in std::str::from_utf8(text).unwrap().lines() {
        let (stack, weight) = line.rsplit_once(' ').unwrap();
        *sums.entry(stack.to_owned()).or_default() += weight.parse::<u64>().unwrap();
    }
    sums
}

/// Of one spelling: `comm-pid`, no mark of inlining, no arguments, which inferno takes away.
fn as_inferno_spells(stack: &str) -> String {
    let mut frames = stack.split(';');
    let label = frames.next().unwrap();
    let (comm, pid) = label.rsplit_once(" (").unwrap();
    let label = format!("{}-{}", comm.replace(' ', "_"), pid.trim_end_matches(')'));
    let frame = |frame: &str| frame.trim_end_matches("_[i]").to_owned();
    std::iter::once(label).chain(frames.map(frame)).collect::<Vec<_>>().join(";")
}

#[test]
fn perf_script_text_folds_to_our_folded_stacks() {
    let folder = tempfile::tempdir().unwrap();
    if !record(folder.path()) {
        return;
    }
    // The shell runs our own code until its exec, whose generic names inferno shortens.
    let ours =
        export(folder.path(), &["folded", "--time", "cpu", "--member", "head", "--member", "gzip"]);
    let script = export(folder.path(), &["perf-script", "--member", "head", "--member", "gzip"]);
    let mut options = inferno::collapse::perf::Options::default();
    options.include_pid = true;
    options.annotate_kernel = true;
    let mut theirs = Vec::new();
    let mut folder = inferno::collapse::perf::Folder::from(options);
    folder.collapse(&script[..], &mut theirs).unwrap();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (stack, weight) in folded(&ours) {
        *expected.entry(as_inferno_spells(&stack)).or_default() += weight;
    }
    assert!(!expected.is_empty());
    assert_eq!(folded(&theirs), expected);

    let mut options = inferno::flamegraph::Options::default();
    let mut picture = Vec::new();
    inferno::flamegraph::from_reader(&mut options, &ours[..], &mut picture).unwrap();
    assert!(String::from_utf8_lossy(&picture).contains("pipe_write"));
}

/// The columns of a table of Firefox's have the length that it gives.
fn assert_table(table: &Value, columns: &[&str]) -> usize {
    let length = usize::try_from(table["length"].as_u64().unwrap()).unwrap();
    for column in columns {
        assert_eq!(table[*column].as_array().unwrap().len(), length, "{column}");
    }
    length
}

#[test]
fn firefox_gets_every_sample_at_its_time_and_every_sleep() {
    let folder = tempfile::tempdir().unwrap();
    if !record(folder.path()) {
        return;
    }
    let file: Value = serde_json::from_slice(&export(folder.path(), &["firefox"])).unwrap();
    let report = run_in(folder.path(), &["report", "it.pipeprof", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
    assert!(file["meta"]["preprocessedProfileVersion"].as_u64().unwrap() >= 50);
    assert_eq!(file["meta"]["symbolicated"], true);
    let categories = file["meta"]["categories"].as_array().unwrap();
    let named = |name: &str| {
        categories.iter().position(|category| category["name"] == name).unwrap() as u64
    };
    let (mut samples, mut sleeps, mut waits_for_space) = (0, 0, 0);
    for thread in file["threads"].as_array().unwrap() {
        let stacks = assert_table(&thread["stackTable"], &["frame", "prefix"]);
        let frames = assert_table(&thread["frameTable"], &["category", "func"]);
        let funcs = assert_table(&thread["funcTable"], &["name"]);
        let strings = thread["stringArray"].as_array().unwrap().len();
        let below = |values: &Value, limit: usize| {
            let mut values = values.as_array().unwrap().iter().filter_map(Value::as_u64);
            values.all(|value| (value as usize) < limit)
        };
        assert!(below(&thread["stackTable"]["frame"], frames));
        assert!(below(&thread["frameTable"]["func"], funcs));
        assert!(below(&thread["frameTable"]["category"], categories.len()));
        assert!(below(&thread["funcTable"]["name"], strings));
        let columns = ["stack", "timeDeltas", "threadCPUDelta", "weight"];
        samples += assert_table(&thread["samples"], &columns);
        assert!(below(&thread["samples"]["stack"], stacks));
        let deltas = thread["samples"]["timeDeltas"].as_array().unwrap();
        assert!(deltas.iter().all(|delta| delta.as_f64().unwrap() >= 0.0), "not in order");
        let markers = &thread["markers"];
        let columns = ["category", "data", "endTime", "name", "phase", "startTime"];
        sleeps += assert_table(markers, &columns);
        let category = named("wait for space");
        waits_for_space += (markers["category"].as_array().unwrap().iter())
            .filter(|of| of.as_u64() == Some(category))
            .count();
    }
    assert_eq!(samples as u64, report["quality"]["samples"].as_u64().unwrap());
    assert!(sleeps > 0);
    assert!(waits_for_space > 0, "head never waited for gzip");
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["--format", "perf-script", "--time", "wall"][..], "leave --time out"),
        (&["--format", "pprof", "--time", "cpu"][..], "leave --time out"),
        (&["--format", "gif"][..], "invalid value 'gif'"),
        (&[][..], "--format <FORMAT>"),
    ] {
        let all: Vec<&str> = ["export", "missing.pipeprof"].iter().chain(args).copied().collect();
        let output = run_in(folder.path(), &all);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{args:?}: {}", stderr(&output));
    }
    let output = run_in(folder.path(), &["export", "missing.pipeprof", "--format", "csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("missing.pipeprof"), "{}", stderr(&output));
}

#[test]
fn binary_data_is_kept_from_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    // `script` gives its command a terminal.
    let line = format!("{} export it.pipeprof --format pprof", env!("CARGO_BIN_EXE_pipeprof"));
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stdout(&output).contains("hint: -o it.pb.gz"), "{}", stdout(&output));
}

#[test]
fn members_are_chosen_by_name_or_pid_and_a_reader_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    if !record(here) {
        return;
    }
    let all = String::from_utf8(export(here, &["csv"])).unwrap();
    let of = |name: &str| all.lines().filter(|line| line.starts_with(&format!("{name},"))).count();
    let gzip = String::from_utf8(export(here, &["csv", "--member", "gzip"])).unwrap();
    assert!(of("gzip") > 0 && of("head") > 0);
    assert_eq!(gzip.lines().count(), 1 + of("gzip"));
    let pid = gzip.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    assert_eq!(
        String::from_utf8(export(here, &["csv", "--member", pid, "-o", "-"])).unwrap(),
        gzip
    );
    let output = run_in(here, &["export", "it.pipeprof", "--format", "csv", "--member", "bzip"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("hint: members: "), "{}", stderr(&output));

    let output = run_in(here, &["export", "it.pipeprof", "--format", "pprof", "-o", "it.pb.gz"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read(here.join("it.pb.gz")).unwrap()[..2], [0x1f, 0x8b]);

    let mut child = pipeprof()
        .args(["export", "it.pipeprof", "--format", "perf-script"])
        .current_dir(here)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}
