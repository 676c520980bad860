//! Recordings of both hosts of a connection, joined.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;
#[path = "common/hosts.rs"]
mod hosts;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{pipeprof, run_in, stderr, stdout};
use hosts::{OtherHost, Script};
use serde_json::Value;

/// Reads 64 KiB twenty times a second.
const SLOW_READER: &str =
    "sh -c 'while dd bs=64k count=1 of=/dev/null 2>/dev/null; do sleep 0.05; done'";

/// Writes as much.
const SLOW_WRITER: &str =
    "sh -c 'while dd if=/dev/zero bs=64k count=1 2>/dev/null; do sleep 0.05; done'";

fn record(mut command: Command, script: &Script, recording: &Path) -> std::process::Child {
    command.args(["record", "--quiet", "--only-pids", "--duration", "3", "-o"]).arg(recording);
    for pid in script.members() {
        command.args(["--pid", &pid.to_string()]);
    }
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// Records a sender here and a receiver on another host at the same time, and joins the recordings.
fn joined(host: &OtherHost, sends: &str, receives: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let there = host.receives(receives);
    let here = Script::start(&format!(
        "{sends} | socat -u - TCP:{},retry=600,interval=0.1; true",
        host.address()
    ));
    here.pid_of("socat");
    // Buffers fill up first.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let [first, second] = ["here", "there"].map(|name| folder.path().join(name));
    let far = host.command(env!("CARGO_BIN_EXE_pipeprof"));
    let recording = [record(pipeprof(), &here, &first), record(far, &there, &second)];
    for mut child in recording {
        assert!(child.wait().unwrap().success());
    }
    let output = run_in(folder.path(), &["report", "there", "here", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["clocks"]["by"], "traffic", "{:#}", json["clocks"]);
    // Both are looked at by the clock of one machine.
    let ahead = json["clocks"]["ahead_ns"].as_i64().unwrap().unsigned_abs();
    let error = json["clocks"]["error_ns"].as_u64().unwrap();
    assert!(ahead <= error.max(50_000_000), "{:#}", json["clocks"]);
    let text = stdout(&run_in(folder.path(), &["report", "here", "there"]));
    assert!(
        text.starts_with(json["verdict"]["headline"].as_str().unwrap().split(',').next().unwrap()),
        "{text}"
    );
    json
}

/// What the verdict names, jointly and from each side alone.
#[track_caller]
fn is_limited(json: &Value, by: &str, here_alone: &str, there_alone: &str) {
    let headline = json["verdict"]["headline"].as_str().unwrap();
    // On a busy machine, `bottleneck: the CPUs of here: gzip (pid 4121 on here) needs a CPU most`.
    let name = |text: &str| text.contains("on here)") || text.contains("on there)");
    let (member, host) = by.split_once(" on ").unwrap_or((by, ""));
    let named = headline.split(": ").find(|part| part.starts_with(member)).unwrap_or_default();
    assert!(
        !named.is_empty() && (!name(headline) || named.contains(&format!("on {host})"))),
        "{json:#}"
    );
    let alone = |at: usize| json["hosts"][at]["alone"].as_str().unwrap();
    assert!(alone(0).contains(here_alone), "{}", alone(0));
    assert!(alone(1).contains(there_alone), "{}", alone(1));
}

const THERE_OR_NETWORK: &str = "the program there or the network is slow";

#[test]
fn a_slow_writer_at_the_far_end_is_named_with_its_host() {
    let Some(host) = OtherHost::new(21) else { return };
    let json = joined(&host, "yes", SLOW_READER);
    is_limited(&json, "sh on there", "waits for the program at", "sh (pid");
}

#[test]
fn a_slow_network_between_two_hosts_is_named() {
    let Some(host) = OtherHost::new(22) else { return };
    if !host.shape("tbf rate 20mbit burst 32kb latency 50ms") {
        return;
    }
    let json = joined(&host, "yes", "cat >/dev/null");
    is_limited(
        &json,
        "the network from here to there",
        "waits for the network to",
        THERE_OR_NETWORK,
    );
    assert_eq!(json["verdict"]["kind"], "network");
}

#[test]
fn a_slow_producer_here_is_named_with_its_host() {
    let Some(host) = OtherHost::new(23) else { return };
    let json = joined(&host, SLOW_WRITER, "cat >/dev/null");
    is_limited(&json, "sh on here", "sh (pid", THERE_OR_NETWORK);
}

#[test]
fn a_slow_compressor_here_is_named_with_its_host() {
    let Some(host) = OtherHost::new(24) else { return };
    let json = joined(&host, "cat /dev/urandom | gzip", "cat >/dev/null");
    is_limited(&json, "gzip on here", "gzip (pid", THERE_OR_NETWORK);
}

#[test]
fn recordings_without_a_common_connection_say_what_each_has() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let line = ["record", "-q", "-o", name, "-c", "sleep 1 | cat"];
        assert!(run_in(folder.path(), &line).status.success());
    }
    let output = run_in(folder.path(), &["report", "one", "two"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("one has none; two has none"), "{text}");
    assert!(text.contains("pipeprof diff"), "{text}");
}
