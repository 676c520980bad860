//! Scripts, and another host: a network namespace with a link of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, dead_code)]

use std::fs;
use std::process::{Command, Stdio};

use super::common::{Group, found};

/// A script.
pub(crate) struct Script(Group);

impl Script {
    pub(crate) fn start(script: &str) -> Script {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Script(Group::spawn(&mut shell))
    }

    /// Those that the shell itself started.
    pub(crate) fn members(&self) -> Vec<i32> {
        having(1, self.0.pid()).map(|(pid, _)| pid).collect()
    }

    /// Waits until it has a process with this name.
    pub(crate) fn pid_of(&self, comm: &str) -> i32 {
        found(comm, || having(2, self.0.pid()).find(|(_, name)| name == comm).map(|(pid, _)| pid))
    }
}

/// All processes of the machine with this field behind their name in `/proc/PID/stat`, and that name,
/// of one moment: some live for a millisecond.
fn having(field: usize, value: i32) -> impl Iterator<Item = (i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(move |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let found = tail.split_whitespace().nth(field)?.parse() == Ok(value);
        found.then(|| (pid, name.to_owned()))
    })
}

/// Whether these programs are there; says so where one is not.
pub(crate) fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    let missing: Vec<&&str> = programs.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: no {missing:?}");
    }
    missing.is_empty()
}

/// Another network namespace, by a link of its own, removed when dropped.
pub(crate) struct OtherHost {
    name: String,
    link: String,
    net: u8,
}

impl OtherHost {
    /// `None` where that is not allowed.
    pub(crate) fn new(net: u8) -> Option<OtherHost> {
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

    /// Makes the link slow, as tc says; whether that was possible.
    pub(crate) fn shape(&self, qdisc: &str) -> bool {
        let words = ["qdisc", "add", "dev", &self.link, "root"];
        let run = Command::new("tc").args(words).args(qdisc.split(' ')).status();
        let shaped = run.is_ok_and(|status| status.success());
        if !shaped {
            eprintln!("skipped: tc cannot shape the link");
        }
        shaped
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    pub(crate) fn address(&self) -> String {
        format!("10.213.{}.2:5000", self.net)
    }

    /// A line of a shell there, which takes what comes.
    pub(crate) fn receives(&self, line: &str) -> Script {
        let name = &self.name;
        let script = Script::start(&format!(
            "exec nsenter --net=/run/netns/{name} sh -c \"socat -u TCP-LISTEN:5000,reuseaddr - | {line}; true\""
        ));
        script.pid_of("socat");
        script
    }

    pub(crate) fn sends(&self) -> Script {
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
