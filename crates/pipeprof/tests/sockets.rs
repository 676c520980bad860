//! Pipelines that go on through sockets, on this machine and to another.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Group, found, run_in, stderr, stdout, until};
use serde_json::Value;

/// A script.
struct Script(Group);

impl Script {
    fn start(script: &str) -> Script {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Script(Group::spawn(&mut shell))
    }

    /// Waits until it has a process with this name.
    fn pid_of(&self, comm: &str) -> i32 {
        found(comm, || {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            let mut pids =
                entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            pids.find(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let Some((head, tail)) = stat.rsplit_once(')') else { return false };
                let group = tail.split_whitespace().nth(2);
                head.ends_with(&format!("({comm}")) && group == Some(&self.0.pid().to_string())
            })
        })
    }
}

/// Whether these programs are there; says so where one is not.
fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    let missing: Vec<&&str> = programs.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: no {missing:?}");
    }
    missing.is_empty()
}

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

/// Another network namespace, by a link of its own, removed when dropped.
struct OtherHost {
    name: String,
    link: String,
    net: u8,
}

impl OtherHost {
    /// `None` where that is not allowed.
    fn new(net: u8) -> Option<OtherHost> {
        if !has(&["ip", "socat", "nsenter"]) {
            return None;
        }
        let id = std::process::id();
        let host = OtherHost { name: format!("pp{id}-{net}"), link: format!("pp{net}x{id}"), net };
        let (name, link) = (&host.name, &host.link);
        let made = ip(&format!("netns add {name}"))
            && ip(&format!("link add {link} type veth peer name eth0 netns {name}"))
            && ip(&format!("addr add 10.213.{net}.1/24 dev {link}"))
            && ip(&format!("link set {link} up"))
            && ip(&format!("-n {name} addr add 10.213.{net}.2/24 dev eth0"))
            && ip(&format!("-n {name} link set eth0 up"));
        if !made {
            eprintln!("skipped: no network namespace can be made");
        }
        made.then_some(host)
    }

    fn address(&self) -> String {
        format!("10.213.{}.2:5000", self.net)
    }

    /// A line of a shell there, which takes what comes.
    fn receives(&self, line: &str) -> Script {
        let name = &self.name;
        let script = Script::start(&format!(
            "exec nsenter --net=/run/netns/{name} sh -c \"socat -u TCP-LISTEN:5000,reuseaddr - | {line}; true\""
        ));
        script.pid_of("socat");
        script
    }

    fn sends(&self) -> Script {
        Script::start(&format!(
            "exec socat -u OPEN:/dev/zero,rdonly TCP:{},retry=600,interval=0.1",
            self.address()
        ))
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.link));
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> bool {
    let run = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
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
    let shaped = Command::new("tc")
        .args(["qdisc", "add", "dev", &host.link, "root", "tbf"])
        .args(["rate", "20mbit", "burst", "32kb", "latency", "50ms"])
        .status();
    if !shaped.is_ok_and(|status| status.success()) {
        eprintln!("skipped: tc cannot shape the link");
        return;
    }
    let _there = host.receives("cat >/dev/null");
    let sender = host.sends();
    let headline = headline_of(&sender);
    let expected = format!("waits for the network to {}", host.address());
    assert!(headline.contains(&expected), "{headline}");
}
