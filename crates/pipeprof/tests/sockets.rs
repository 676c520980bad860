//! Pipelines that go on through sockets, on this machine and to another.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;
#[path = "common/hosts.rs"]
mod hosts;

use std::path::Path;

use common::{run_in, stderr, stdout, until};
use hosts::{OtherHost, Script, has};
use serde_json::Value;

fn flame(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec!["flame", "--json", "--duration", "3"];
    all.extend(arguments);
    let output = run_in(folder.path(), &all);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn strings(array: &Value, field: &str) -> Vec<String> {
    let of = |one: &Value| one[field].as_str().unwrap_or_default().to_owned();
    array.as_array().unwrap().iter().map(of).collect()
}

/// Reads 64 KiB twenty times a second.
const SLOW: &str = "while dd bs=64k count=1 of=/dev/null 2>/dev/null; do sleep 0.05; done";

#[test]
fn the_verdict_follows_waits_through_the_socket_pair_of_a_node_child() {
    if !has(&["node"]) {
        return;
    }
    let program = format!(
        "const c = require('child_process').spawn('sh', ['-c', '{SLOW}'], \
         {{stdio: ['pipe', 'ignore', 'inherit']}}); process.stdin.pipe(c.stdin)"
    );
    let script = Script::start(&format!("yes | node -e \"{program}\"; true"));
    let node = script.pid_of("node").to_string();
    script.pid_of("dd");
    let json = flame(&["--pid", &node]);
    let members = &json["members"];
    let names = strings(members, "comm");
    assert_eq!(names[..3], ["yes", "node", "sh"], "{names:?}");
    assert_eq!(strings(&json["pipes"], "kind"), ["pipe", "unix"], "{:#}", json["pipes"]);
    let limits = &json["verdict"]["members"];
    assert_eq!(strings(limits, "name"), ["sh"], "{:#}", json["verdict"]);
    assert!(json["pipes"][1]["capacity_bytes"].as_u64().unwrap() > 0);
    let why = json["pipes"][1]["bytes_unknown"].as_str().unwrap();
    assert!(why.contains("Unix socket"), "{why}");
}

#[test]
fn a_tcp_connection_of_this_machine_is_counted_and_followed() {
    if !has(&["socat"]) {
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = Script::start(&format!(
        "socat -u TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr - | sh -c '{SLOW}' & \
         yes | socat -u - TCP:127.0.0.1:{port},retry=600,interval=0.1; true"
    ));
    script.pid_of("dd");
    let yes = script.pid_of("yes").to_string();
    wait_for_link(&yes, "tcp");
    let json = flame(&["--pid", &yes]);
    assert_eq!(strings(&json["pipes"], "kind"), ["pipe", "tcp", "pipe"], "{:#}", json["pipes"]);
    let tcp = &json["pipes"][1];
    assert_eq!(tcp["bytes_source"], "tcp_info", "{tcp:#}");
    let moved = tcp["bytes"].as_u64().unwrap();
    // 64 KiB twenty times a second, for three seconds.
    assert!((100_000..8 << 20).contains(&moved), "{moved}");
    assert_eq!(strings(&json["verdict"]["members"], "name"), ["sh"], "{:#}", json["verdict"]);
}

fn wait_for_link(pid: &str, kind: &str) {
    until(&format!("{pid} has a {kind}"), || {
        let output = run_in(Path::new("/"), &["ls", "--pid", pid, "--json"]);
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
        strings(&json["pipelines"][0]["pipes"], "kind").contains(&kind.to_owned())
    });
}

/// The headline for a sender alone, as where the receiver is on another machine.
fn headline_of(sender: &Script) -> String {
    let pid = sender.pid_of("socat").to_string();
    let json = flame(&["--pid", &pid, "--only-pids"]);
    json["verdict"]["headline"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_slow_program_at_the_other_end_of_a_connection_is_named() {
    let Some(host) = OtherHost::new(11) else { return };
    let _there = host.receives(&format!("sh -c '{SLOW}'"));
    let sender = host.sends();
    let headline = headline_of(&sender);
    let expected = format!("waits for the program at {} to read", host.address());
    assert!(headline.contains(&expected), "{headline}");
}

#[test]
fn a_slow_network_is_named() {
    let Some(host) = OtherHost::new(12) else { return };
    if !host.shape("tbf rate 20mbit burst 32kb latency 50ms") {
        return;
    }
    let _there = host.receives("cat >/dev/null");
    let sender = host.sends();
    let headline = headline_of(&sender);
    let expected = format!("waits for the network to {}", host.address());
    assert!(headline.contains(&expected), "{headline}");
}
