//! `pipeprof watch` on running pipelines: recordings, metrics, and profiles for a server that
//! comes and goes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Killed, found, is_alive, pipeprof, run_in, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeprof_report::export::otlp::proto::ExportRequest;
use pipeprof_report::export::pprof::proto::Profile;
use prost::Message;
use serde_json::Value;

/// `yes | cat`, whose reader can be stopped, in a process group of its own: the kernel sends SIGHUP
/// to a group that nobody looks after, as that of these tests may be, while a process in it is
/// stopped and another one ends.
fn pipeline() -> Killed {
    let (read, write) = std::io::pipe().unwrap();
    let mut yes = Command::new("yes");
    let yes = yes.stdin(Stdio::null()).stdout(write).spawn().unwrap();
    let mut cat = Command::new("cat");
    let cat = cat.process_group(0).stdin(read).stdout(Stdio::null()).spawn().unwrap();
    Killed(vec![yes, cat])
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|of| of == "pipeprof")).collect();
    found.sort();
    found
}

/// What a server was sent: the line of the request, and its body.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server that breaks off at first, then answers that it is busy, and then takes what comes.
fn serve(port: u16) -> Received {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let received = Received::default();
    let taken = Arc::clone(&received);
    std::thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if connection == 0 {
                let _ = stream.read(&mut [0; 16]);
                continue;
            }
            let Some(request) = request(&stream) else { continue };
            let status = if connection == 1 { "503 Busy" } else { "200 OK" };
            if connection > 1 {
                taken.lock().unwrap().push(request);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    received
}

fn request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some((lines.swap_remove(0), body))
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn profile(body: &[u8]) -> Profile {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut bytes).unwrap();
    Profile::decode(&bytes[..]).unwrap()
}

/// Waits until a metric of this beginning has at least this value.
fn metric(file: &Path, name: &str, least: f64) {
    until(&format!("{name} is {least}"), || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        value.is_some_and(|value| value >= least)
    });
}

#[test]
fn each_drop_of_throughput_is_kept_and_pushed_once_to_a_server_that_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let pipeline = pipeline();
    let (cat, port) = (&pipeline.0[1], free_port());
    let yes = pipeline.0[0].id().to_string();
    let url = format!("pyroscope+http://127.0.0.1:{port}/below");
    let watch = pipeprof()
        .current_dir(here)
        .args(["watch", "--pid", &yes, "--when", "throughput < 1MiB/s for 300ms"])
        // Long beside the time in which a busy machine notices.
        .args(["--interval", "200ms", "--keep", "3s", "--max-recordings", "1", "-o", "it"])
        .args(["--metrics", "it.prom", "--push", &url])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = here.join("it.prom");
    let moves = || metric(&metrics, "pipeprof_pipe_bytes_total", 1e7);
    let kept = |so_far: f64| {
        moves();
        metric(&metrics, "pipeprof_pipeline_bytes_per_second", 2e6);
        signal(cat, Signal::SIGSTOP);
        metric(&metrics, "pipeprof_watch_triggers_fired_total", so_far);
    };
    kept(1.0);
    let first = found("a recording", || recordings(here).into_iter().next());
    metric(&metrics, "pipeprof_watch_profiles_waiting", 1.0);
    let received = serve(port);
    let report = run_in(here, &["report", "--json", first.to_str().unwrap()]);
    assert!(report.status.success(), "{}", stderr(&report));
    let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
    let names: Vec<&str> = report["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["comm"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["yes", "cat"]);
    assert!(report["quality"]["notes"].to_string().contains("kept because of throughput < 1MiB/s"));
    // Data moved before the moment.
    let sidecar = std::fs::read(first.join("pipeprof.json")).unwrap();
    let sidecar: Value = serde_json::from_slice(&sidecar).unwrap();
    let points = sidecar["about"]["flows"][0]["over_time"].as_array().unwrap();
    let bytes: Vec<u64> = points.iter().map(|point| point["bytes"].as_u64().unwrap()).collect();
    let [first_bytes, .., last] = bytes[..] else { panic!("{points:?}") };
    assert!(last > first_bytes + 1_000_000, "{points:?}");

    signal(cat, Signal::SIGCONT);
    kept(2.0);
    until("the first recording is removed", || !first.exists());
    let sent = || received.lock().unwrap().len();
    until("two profiles arrive", || sent() >= 2);
    signal(&watch, Signal::SIGTERM);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let wrote = stderr(&output).matches("wrote it-").count();
    let received = received.lock().unwrap();
    assert_eq!(received.len(), wrote, "{}", stderr(&output));
    assert_eq!(recordings(here).len(), 1);
    let mut times: Vec<i64> = Vec::new();
    for (line, body) in received.iter() {
        assert!(line.starts_with("POST /below/ingest?name=pipeprof%7Bwatch%3Dit"), "{line}");
        assert!(line.contains("&format=pprof"), "{line}");
        let profile = profile(body);
        assert!(profile.duration_nanos > 0);
        let from = profile.time_nanos / 1_000_000_000;
        assert!(line.contains(&format!("&from={from}&until=")), "{line}: {from}");
        times.push(profile.time_nanos);
    }
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), wrote, "each arrives once");
    assert!(stderr(&output).contains("failed:"), "{}", stderr(&output));
    assert!(stderr(&output).contains("works again"), "{}", stderr(&output));
    // Nothing is left but the recording, and the members run on.
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 1);
    assert!(pipeline.0.iter().all(|member| is_alive(member.id() as i32)));
    signal(cat, Signal::SIGCONT);
}

#[test]
fn what_one_watch_could_not_push_the_next_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let port = free_port();
    let watch = |form: &str, trigger: &str, line: &str| {
        let url = format!("{form}+http://127.0.0.1:{port}");
        let args = ["watch", "--interval", "200ms", "--keep", "1s", "--push", &url];
        run_in(here, &[&args[..], &["--when", trigger, "-c", line]].concat())
    };
    // The pipe is full at once, and its reader ends before the recording has its last part.
    let first = watch("pyroscope", "throughput < 1K for 300ms", "yes | sleep 2.5");
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(recordings(here).len(), 1, "{}", stderr(&first));
    assert!(stderr(&first).contains("profiles wait in watch.push"), "{}", stderr(&first));
    // The form is that of the watch that sends.
    let received = serve(port);
    let second = watch("otlp", "cpus > 1000", "yes | sleep 2.5");
    assert!(second.status.success(), "{}", stderr(&second));
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 1, "{}", stderr(&second));
    let (line, body) = &received[0];
    assert!(line.starts_with("POST /v1development/profiles HTTP"), "{line}");
    let request = ExportRequest::decode(&body[..]).unwrap();
    assert_eq!(
        request.resource_profiles[0].scope_profiles[0].scope.as_ref().unwrap().name,
        "pipeprof"
    );
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 1, "a queue without a profile stays");
}

#[test]
fn the_exit_status_is_that_of_a_recording_and_wrong_arguments_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let made = ["-c", "touch made"];
    for (args, code, said) in [
        (&["--when", "limit changes", "-c", "exit 3"][..], 1, "ended with exit status: 3"),
        (&["--when", "limit changes", "-c", "true"], 0, ""),
        (&["--when", "limit changes", "--pid", "2147483647"], 1, "2147483647"),
        (&["--when", "limit chages", made[0], made[1]], 2, "--when 'limit changes'"),
        (&["--metrics", "a.txt", made[0], made[1]], 2, "--metrics a.prom"),
        (&["--metrics", "no/a.prom", made[0], made[1]], 1, "no/a.prom"),
        (&["--when", "cpus > 1", "--push", "http://h", made[0], made[1]], 2, "pyroscope+http"),
        (&["--when", "cpus > 1", "-o", "no/such/x", made[0], made[1]], 1, "mkdir -p 'no/such'"),
        (&["--push", "otlp+http://h", "--metrics", "a.prom", made[0], made[1]], 2, "--when"),
        (made.as_slice(), 2, "--when"),
        (&["--when", "cpus > 1", "--stage", "write"], 2, "built-in pair"),
    ] {
        let output = run_in(here, &[&["watch"], args].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
        assert_eq!(std::fs::read_dir(here).unwrap().count(), 0, "{args:?}");
    }
}
