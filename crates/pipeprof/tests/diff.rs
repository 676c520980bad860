//! `pipeprof diff` as a user meets it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::process::Command;

use common::{may_profile_kernel, run_in, stderr, stdout};
use serde_json::Value;

#[test]
fn two_stages_by_turns() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let stages = "diff --stage write --stage splice --bytes 1G --runs 2 -F 1999 --json";
    let output = run_in(folder.path(), &stages.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    // A B, B A.
    let order: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("run ")?.split(" of ").last())
        .map(|of| &of[..1])
        .collect();
    assert_eq!(order, ["A", "B", "B", "A"], "{said}");
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&json["unit"], &json["runs"]), (&"ns_per_gib".into(), &2.into()));
    let writer = &json["members"][0];
    assert_eq!(writer["matched_by"], "end");
    let roles = writer["roles"].as_array().unwrap();
    let copy = roles.iter().find(|role| role["role"] == "copy_in").unwrap();
    // Each end tells what it counted by one write into a pipe of its own.
    let [a, b] = ["a", "b"].map(|side| copy[side].as_f64().unwrap());
    assert!(b < 0.05 * a, "splice copies nothing: {copy}");
    assert!(copy["difference"].as_f64().unwrap() < 0.0, "{copy}");
    let svg = std::fs::read_to_string(folder.path().join("pipeprof-diff.svg")).unwrap();
    assert!(svg.contains("A: write") && svg.contains("per GiB of input, mean of 2 runs"));
}

#[test]
fn recordings_of_ours_and_of_perf() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (stage, name) in [("vmsplice", "before"), ("huge-page", "after")] {
        let record = ["record", "--stage", stage, "--bytes", "2G", "-F", "1999", "-o", name];
        let output = run_in(here, &record);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let output = run_in(here, &["diff", "before.pipeprof", "after.pipeprof", "-o", "d.svg"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("In one run of each, "), "{text}");
    assert!(text.contains("writer pp-write: CPU time per GiB"), "{text}");
    // Recorded with context switches, on both sides.
    assert!(text.contains("not on a CPU"), "{text}");
    assert!(text.contains("copy out"), "{text}");

    // The records alone tell no bytes.
    let [a, b] = ["before", "after"].map(|name| format!("{name}.pipeprof/perf.data"));
    let output = run_in(here, &["diff", &a, &b]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("unknown which is faster"), "{text}");
    assert!(text.contains("share of samples") && text.contains("copy out"), "{text}");
    let refused = run_in(here, &["diff", &a, "before.pipeprof", "--runs", "3"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}

#[test]
fn two_command_lines_by_name_and_place() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lines = ["head -c 300M /dev/zero | cat | cat >/dev/null"; 2];
    let other = "head -c 300M /dev/zero | tr a b | cat >/dev/null";
    let output =
        run_in(folder.path(), &["diff", "-c", lines[0], "-c", other, "--runs", "1", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let matched: Vec<(&str, &str, &str)> = json["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| {
            let of = |side: &str| member[side]["comm"].as_str().unwrap();
            (of("a"), of("b"), member["matched_by"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        matched,
        [("head", "head", "name"), ("cat", "tr", "place"), ("cat", "cat", "name")],
        "{json}"
    );
    assert!(json["speed"]["of_largest_pipe"].as_bool().unwrap(), "{json}");
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (line, says) in [
        ("diff", "nothing to compare"),
        ("diff --stage write", "--stage: give it twice, not 1 times"),
        ("diff -c true -c true -c true", "-c: give it twice, not 3 times"),
        ("diff --bytes 1G", "options of the built-in pair"),
        ("diff a", "2 values required"),
        ("diff --stage write --stage splice --verify", "--verify"),
    ] {
        let output = run_in(folder.path(), &line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{line}: {}", stderr(&output));
    }
    let output = run_in(folder.path(), &["diff", "no", "such"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let output = Command::new(env!("CARGO_BIN_EXE_pipeprof"))
        .args(["diff", "--stage", "write", "--stage", "splice", "-o", "/no/such/folder/x.svg"])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("writing /no/such/folder/x.svg"), "{}", stderr(&output));
}
