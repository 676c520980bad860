//! What two commands say of one pipeline at one time is the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::process::{Child, Command, Stdio};

use common::{Group, may_profile_kernel, pipeprof, wait_for_programs};
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
