//! Verdicts on pipelines whose bottleneck is known because it was built in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "what was judged is shown where a test fails")]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{Killed, wait_for_programs};
use serde_json::Value;

/// What was built in.
#[derive(Clone, Copy, Debug)]
enum Built {
    /// This member computes.
    Cpu(&'static str),
    /// This member waits for one of these.
    Outside(&'static str, &'static [&'static str]),
    /// The pipe, for one of these causes.
    Pipe(&'static [&'static str]),
    /// More members than CPUs.
    Starved,
    /// Nothing to judge by.
    Nothing,
}

/// A pipeline that is scheduled ahead of whatever else the machine does, where that is allowed:
/// else its bottleneck is not the one that was built in.
fn ahead(program: &str) -> Command {
    let allowed = Command::new("chrt").args(["-r", "1", "true"]).stderr(Stdio::null()).status();
    let mut command = if allowed.is_ok_and(|status| status.success()) {
        let mut chrt = Command::new("chrt");
        chrt.args(["-r", "1", program]);
        chrt
    } else {
        Command::new(program)
    };
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

fn flame(arguments: &[&str]) -> Value {
    let picture = tempfile::NamedTempFile::new().unwrap();
    let output = ahead("taskset")
        .args(["-c", "0,1", env!("CARGO_BIN_EXE_pipeprof"), "-q", "flame", "--json", "-o"])
        .arg(picture.path())
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

fn names(summary: &Value) -> Vec<String> {
    let members = summary["verdict"]["members"].as_array().unwrap();
    members.iter().map(|member| member["name"].as_str().unwrap().to_owned()).collect()
}

/// The members waited for a CPU about as long as they had one: the machine was too busy for what was
/// built in to show, and the tables say so.
fn is_crowded(summary: &Value) -> bool {
    let members = summary["members"].as_array().unwrap();
    let sum = |field: &str| -> u64 {
        let lives = members.iter().filter_map(|member| member["life"][field].as_u64());
        lives.sum()
    };
    sum("runnable_ns") * 4 > sum("on_cpu_ns") * 3
}

fn is_right(summary: &Value, built: Built) -> bool {
    let verdict = &summary["verdict"];
    let (kind, cause) = (verdict["kind"].as_str().unwrap(), verdict["cause"].as_str());
    let names = names(summary);
    let first = names.first().map(String::as_str);
    match built {
        Built::Cpu(comm) => {
            (kind == "cpu_bound" && first == Some(comm))
                || (kind == "starved" && is_crowded(summary) && names.iter().any(|n| n == comm))
        }
        Built::Outside(comm, causes) => {
            kind == "outside" && first == Some(comm) && cause.is_some_and(|c| causes.contains(&c))
        }
        Built::Pipe(causes) => {
            (kind == "pipe_bound" && cause.is_some_and(|cause| causes.contains(&cause)))
                || (kind == "starved" && is_crowded(summary))
        }
        Built::Starved => kind == "starved",
        Built::Nothing => kind == "unclear",
    }
}

/// A server that says a little twenty times a second, to whoever asks.
fn slow_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for _ in 0..24 {
                // The client may have gone.
                let _ = stream.write_all(&[b'x'; 2000]);
                sleep(Duration::from_millis(50));
            }
        }
    });
    port
}

fn report(wrong: &mut Vec<String>, name: &str, summary: &Value, built: Built) {
    eprintln!("{name}: {}", summary["verdict"]["headline"]);
    if !is_right(summary, built) {
        let lives: Vec<String> = summary["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| format!("{} {} {} {}", m["comm"], m["pid"], m["life"], m["blocked"]))
            .collect();
        wrong.push(format!(
            "{name}: {built:?}, but {:#}\n{}",
            summary["verdict"],
            lives.join("\n")
        ));
    }
}

#[test]
fn built_in_bottlenecks_are_named() {
    const ANY_PIPE: &[&str] =
        &["copies", "page_allocation", "lock", "wake_ups", "too_small", "page_pinning"];
    let port = slow_server();
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = file.path().display();
    let cases: Vec<(&str, String, Built)> = vec![
        (
            "a reader that sleeps",
            "yes | perl -MTime::HiRes=usleep -e 'for(1..22){sysread STDIN,$b,65536;usleep 50000}'"
                .into(),
            Built::Outside("perl", &["sleep"]),
        ),
        (
            "a writer that sleeps",
            "perl -MTime::HiRes=usleep -e '$|=1;for(1..22){print \"x\"x999;usleep 50000}' \
             | gzip >/dev/null"
                .into(),
            Built::Outside("perl", &["sleep"]),
        ),
        (
            "a middle that sleeps",
            "yes | perl -MTime::HiRes=usleep -e 'for(1..22){sysread STDIN,$b,65536;\
             syswrite STDOUT,$b;usleep 50000}' | cat >/dev/null"
                .into(),
            Built::Outside("perl", &["sleep"]),
        ),
        (
            "a middle that sleeps in select",
            "yes | perl -e 'for(1..22){sysread STDIN,$b,65536;syswrite STDOUT,$b;\
             select undef,undef,undef,0.05}' | cat >/dev/null"
                .into(),
            Built::Outside("perl", &["sleep"]),
        ),
        (
            "the first computes",
            "timeout 1.2 awk 'BEGIN{for(;;){for(j=0;j<30000;j++)x+=j;print x}}' | cat | wc -c \
             >/dev/null"
                .into(),
            Built::Cpu("awk"),
        ),
        (
            "the middle computes",
            "timeout 1.2 cat /dev/zero | sha512sum | cat >/dev/null".into(),
            Built::Cpu("sha512sum"),
        ),
        (
            "the last computes",
            "timeout 1.2 cat /dev/urandom | head -c 1G | gzip -9 >/dev/null".into(),
            Built::Cpu("gzip"),
        ),
        (
            "a disk",
            format!(
                "timeout 1.5 cat /dev/zero | dd of='{file}' bs=4K count=20000 iflag=fullblock \
                 oflag=sync 2>/dev/null"
            ),
            Built::Outside("dd", &["disk"]),
        ),
        (
            "the network",
            format!("bash -c 'exec cat </dev/tcp/127.0.0.1/{port}' | gzip >/dev/null"),
            Built::Outside("cat", &["socket_data"]),
        ),
        (
            "a child that sleeps",
            "yes | sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do read l; sleep 0.1; done'".into(),
            Built::Outside("sh", &["child", "sleep"]),
        ),
        (
            "a byte a call",
            "timeout 1.2 dd if=/dev/zero bs=1 2>/dev/null | cat >/dev/null".into(),
            Built::Pipe(&["tiny_calls"]),
        ),
        (
            "nothing but the pipe",
            "timeout 1.2 dd if=/dev/zero bs=64K 2>/dev/null | dd of=/dev/null bs=64K 2>/dev/null"
                .into(),
            Built::Pipe(ANY_PIPE),
        ),
        (
            "two CPUs for five members",
            "timeout 1.3 yes | awk '{print $0,1}' | awk '{print $0,2}' | awk '{print $0,3}' \
             | awk '{n+=length($0)} END{print n}' >/dev/null"
                .into(),
            Built::Starved,
        ),
        ("too short", "true | true".into(), Built::Nothing),
    ];
    let mut wrong = Vec::new();
    for (name, line, built) in &cases {
        report(&mut wrong, name, &flame(&["-c", line]), *built);
    }
    let stage = flame(&["--stage", "write", "--bytes", "1G", "--time", "wall"]);
    report(&mut wrong, "the built-in pair", &stage, Built::Pipe(ANY_PIPE));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// From any one pid of it.
#[test]
fn a_running_pipeline_is_judged_from_any_of_its_pids() {
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "yes | perl -MTime::HiRes=usleep -e 'while(sysread STDIN,$b,65536){\
             syswrite STDOUT,$b;usleep 30000}' | cat >/dev/null & echo $!; wait",
        ])
        .stdout(Stdio::piped());
    let mut shell = Killed(vec![shell.spawn().unwrap()]);
    let mut pid = String::new();
    let out = shell.0[0].stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut pid).unwrap();
    wait_for_programs(shell.0[0].id() as i32, "yes|perl|cat", 3);
    let summary = flame(&["--pid", pid.trim(), "--duration", "1s"]);
    // Without its reader the pipeline ends.
    Command::new("kill").arg(pid.trim()).status().unwrap();
    let members = summary["members"].as_array().unwrap();
    let order: Vec<&str> = members.iter().map(|m| m["comm"].as_str().unwrap()).collect();
    assert!(order.starts_with(&["yes", "perl", "cat"]), "{order:?}");
    assert!(is_right(&summary, Built::Outside("perl", &["sleep"])), "{:#}", summary["verdict"]);
}
