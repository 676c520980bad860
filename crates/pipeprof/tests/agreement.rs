//! What two commands say of one pipeline at one time is the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::process::{Child, Command, Stdio};

use common::{Group, may_profile_kernel, pipeprof, wait_for_programs};
use pipeprof_runner::taskstats::Exits;
use serde_json::Value;

fn watch(command: &str, pid: &str) -> Child {
    pipeprof()
        .args([command, "--pid", pid, "--duration", "3s", "--json"])
        .args(if command == "flame" { &["-o", "/dev/null"][..] } else { &[] })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn json(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A compressor reads more than it writes, and a GiB is one of what went into the pipeline.
#[test]
fn stat_and_flame_agree_on_cpu_time_per_gib() {
    if !may_profile_kernel() {
        return;
    }
    let mut shell = Command::new("sh");
    // None of these can splice, so the bytes are known.
    shell.args(["-c", "dd if=/dev/zero bs=64k | gzip -1 | dd of=/dev/null bs=64k"]);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let live = Group::spawn(&mut shell);
    // `stat` knows members by the name that they have when it attaches.
    wait_for_programs(live.pid(), "dd|gzip", 3);
    let pid = live.pid().to_string();
    let [stat, flame] = ["stat", "flame"].map(|command| watch(command, &pid)).map(json);
    // Of one that hardly ever sleeps: a switch is in the scheduler's account, and not in a counter
    // that is on the CPU between switches.
    let counted = stat["members"].as_array().unwrap().iter();
    let counted = counted.filter(|m| m["label"].as_str().unwrap().starts_with("gzip"));
    let counters = counted.flat_map(|member| member["counters"].as_array().unwrap());
    let clock = counters.filter(|counter| counter["name"] == "task-clock");
    let by_stat = clock.map(|clock| clock["per_gib"].as_f64().unwrap()).sum::<f64>();
    let members = flame["members"].as_array().unwrap().iter();
    let roles = members.filter(|member| member["comm"] == "gzip");
    let roles = roles.flat_map(|member| member["roles"].as_array().unwrap());
    let by_flame = roles.map(|role| role["ns_per_gib"].as_f64().unwrap()).sum::<f64>();
    // The two watch the same seconds but for a moment.
    let ratio = by_flame / by_stat;
    assert!((0.95..1.05).contains(&ratio), "{by_flame} of {by_stat}: {flame:#}");
}

/// Bytes through a pipe are known within a sixteenth and what the pipe holds, or not at all: so much
/// may be shared by guess of what several moved that ended within one look. Where the kernel tells of
/// every end, it is what programs read when they start.
#[test]
fn bytes_of_short_members_are_right_or_unknown() {
    if !may_profile_kernel() {
        return;
    }
    const MIB: u64 = 1 << 20;
    // With what goes through pipes to `wc`, and through all others.
    let cases = [
        ("for i in 1 2 3 4 5 6; do head -c 40M /dev/zero | cat; done | wc -c", 240 * MIB, 40 * MIB),
        ("for i in 1 2 3 4 5 6; do head -c 40M /dev/zero; done | wc -c", 240 * MIB, 0),
        ("seq 5 | while read n; do head -c 20M /dev/urandom; done | wc -c", 100 * MIB, 10),
        ("seq 5 | xargs -n1 sh -c 'head -c 20M /dev/urandom' | wc -c", 100 * MIB, 10),
        ("head -c 60M /dev/zero | sh -c 'head -c 20M; head -c 40M' | wc -c", 60 * MIB, 60 * MIB),
        ("seq 3 | sh -c 'while read n; do sleep 0.2; done'", 0, 6),
    ];
    let part = if Exits::listen().is_ok() { 256 } else { 16 };
    for (line, to_wc, other) in cases {
        let json = flame_json(line);
        let name_of = |pid: &Value| {
            let members = json["members"].as_array().unwrap().iter();
            members
                .filter(|member| member["pid"] == *pid)
                .find_map(|member| member["comm"].as_str())
        };
        for pipe in json["pipes"].as_array().unwrap() {
            let Some(bytes) = pipe["bytes"].as_u64() else { continue };
            let is_last = pipe["readers"].as_array().unwrap().iter().any(|pid| {
                let pid = pid.get("pid").unwrap_or(pid);
                name_of(pid) == Some("wc")
            });
            let expected = if is_last { to_wc } else { other };
            let most_off = expected / part + 64 * 1024;
            assert!(bytes.abs_diff(expected) <= most_off, "{line}: {bytes}, {expected} {pipe:#}");
        }
    }
}

fn flame_json(line: &str) -> Value {
    json(
        pipeprof()
            .args(["flame", "--json", "-o", "/dev/null", "-c", line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

/// All three end within one look or two.
#[test]
fn bytes_of_members_that_end_together_are_exact_where_the_kernel_tells() {
    if !may_profile_kernel() {
        return;
    }
    if let Err(error) = Exits::listen() {
        return eprintln!("skipped: taskstats can't be heard: {error}");
    }
    for _ in 0..3 {
        let json = flame_json("head -c 300M /dev/zero | cat | cat >/dev/null");
        let bytes: Vec<Option<u64>> =
            json["pipes"].as_array().unwrap().iter().map(|pipe| pipe["bytes"].as_u64()).collect();
        assert_eq!(bytes, [Some(300 << 20); 2], "{json:#}");
    }
}
