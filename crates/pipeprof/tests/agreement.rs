//! What two commands say of one pipeline at one time is the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{may_profile_kernel, pipeprof};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// A pipeline in a process group of its own, ended when dropped.
struct Live(Child);

impl Drop for Live {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

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

/// Waits until this many children of a shell run these programs: `stat` knows members by the name
/// that they have when it attaches.
fn wait_for_programs(shell: &str, names: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = Command::new("pgrep").args(["-c", "-x", "-P", shell, names]).output().unwrap();
        if String::from_utf8_lossy(&found.stdout).trim() == count.to_string() {
            return;
        }
        assert!(Instant::now() < deadline, "{names} never started");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A compressor reads more than it writes, and a GiB is one of what went into the pipeline.
#[test]
fn stat_and_flame_agree_on_cpu_time_per_gib() {
    if !may_profile_kernel() {
        return;
    }
    let mut shell = Command::new("sh");
    // None of these can splice, so the bytes are known.
    shell
        .args(["-c", "dd if=/dev/zero bs=64k | gzip -1 | dd of=/dev/null bs=64k"])
        .process_group(0);
    shell.stderr(Stdio::null());
    let live = Live(shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    let pid = live.0.id().to_string();
    wait_for_programs(&pid, "dd|gzip", 3);
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
