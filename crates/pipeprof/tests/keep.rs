//! Watches that are too long to be kept whole: `--keep` and `--max-size`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::RwLock;
use std::time::{Duration, Instant};

use common::{may_profile_kernel, run_in, stderr, stdout};
use serde_json::Value;

/// Of two that sample switches at once each has a few samples under an id of the other's, at which
/// perf gives up; a recording gets its own ids when it is complete, and so never where its maker is
/// killed. That test holds this alone.
static OTHERS: RwLock<()> = RwLock::new(());

fn report(folder: &Path, recording: &str) -> Value {
    let output = run_in(folder, &["report", "--json", recording]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Times of the samples of one program, in seconds, as perf reads them.
fn times(perf_data: &Path, comm: &str) -> Option<Vec<f64>> {
    let script = Command::new("perf")
        .args(["script", "-f", "-F", "comm,time,ip,sym", "--comms", comm, "-i"])
        .arg(perf_data)
        .output();
    let Ok(script) = script else {
        eprintln!("skipped: perf is not installed");
        return None;
    };
    assert!(script.status.success(), "{}", stderr(&script));
    let text = stdout(&script);
    assert!(text.contains("pipe_write") || text.contains("pipe_read"), "{text:.2000}");
    let time = |line: &str| -> Option<f64> {
        let (before, _) = line.strip_prefix(comm)?.trim().split_once(':')?;
        before.parse().ok()
    };
    Some(text.lines().filter_map(time).collect())
}

fn span(times: &[f64]) -> f64 {
    times.iter().copied().fold(0.0, f64::max) - times.iter().copied().fold(f64::MAX, f64::min)
}

#[test]
fn only_the_last_second_of_four_is_kept_and_all_that_is_said_is_of_that() {
    let _turn = OTHERS.read();
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // `yes` was born long before what is kept begins, and by a shell that is no member.
    let line = "(yes | head -c 100G) | cat >/dev/null";
    let args = ["record", "-F", "997", "--keep", "1s", "--duration", "4s", "-o", "it", "-c", line];
    let output = run_in(here, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("were kept"), "{}", stderr(&output));
    let mut names: Vec<_> = std::fs::read_dir(here.join("it.pipeprof"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["perf.data", "pipeprof.json", "states.json", "symbols.json"]);
    let Some(times) = times(&here.join("it.pipeprof/perf.data"), "yes") else { return };
    assert!(times.len() > 50, "{} samples of yes", times.len());
    let span = span(&times);
    assert!((0.7..=1.7).contains(&span), "{span} s");

    let report = report(here, "it.pipeprof");
    let members = report["members"].as_array().unwrap();
    let whole = 1.8e9;
    for comm in ["yes", "head", "cat"] {
        let member = members.iter().find(|member| member["comm"] == comm).unwrap();
        let time = &member["life"];
        let life = time["lifetime_ns"].as_f64().unwrap();
        assert!((0.7e9..=whole).contains(&life), "{comm} lived {life} ns");
        let parts = ["on_cpu_ns", "blocked_ns", "runnable_ns"];
        let sum: f64 = parts.iter().map(|part| time[*part].as_f64().unwrap()).sum();
        assert!((sum / life - 1.0).abs() < 0.01, "{time}");
        // More than it ran in what was kept would be what it ran in all the four seconds.
        // Samples are taken for at least half of the time.
        let sampled = 2.0 * member["samples"].as_f64().unwrap() / 997.0 * 1e9;
        let on_cpu = time["on_cpu_ns"].as_f64().unwrap();
        assert!(on_cpu < 2.5 * sampled.max(0.1e9), "{comm}: {sampled} sampled, {on_cpu} charged");
    }
    let unresolved = report["quality"]["unresolved_frames"].as_u64().unwrap();
    let frames = report["quality"]["frames"].as_u64().unwrap();
    assert!(unresolved * 20 <= frames, "{unresolved} of {frames}");
    // Rates are of what was kept, too: no pipe is four times as fast as the others say.
    let pipes = report["pipes"].as_array().unwrap();
    let known: Vec<f64> = pipes.iter().filter_map(|pipe| pipe["bytes"].as_f64()).collect();
    assert!(known.len() <= pipes.len());
    for pair in known.windows(2) {
        assert!((pair[0] / pair[1] - 1.0).abs() < 0.2, "{known:?}");
    }
}

#[test]
fn the_bytes_of_a_pair_are_those_of_what_was_kept() {
    let _turn = OTHERS.read();
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut child = common::pipeprof()
        .current_dir(here)
        .args(["record", "--keep", "500ms", "-o", "it", "--stage", "write", "--bytes", "1024G"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(4));
    let run = started.elapsed().as_nanos() as f64;
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let sidecar = std::fs::read(here.join("it.pipeprof/pipeprof.json")).unwrap();
    let sidecar: Value = serde_json::from_slice(&sidecar).unwrap();
    let elapsed = sidecar["about"]["elapsed_ns"].as_f64().unwrap();
    // A busy machine begins stretches late, and then more is kept; all of it is another thing.
    assert!((0.4e9..0.6 * run).contains(&elapsed), "{elapsed} of {run}");
    let flow = &sidecar["about"]["flows"][0];
    let bytes = flow["bytes"]["known"]["bytes"].as_f64().unwrap();
    let points = flow["over_time"].as_array().unwrap();
    let last = points.last().unwrap();
    let covered = last["at_ns"].as_f64().unwrap() / elapsed;
    assert!((0.5..1.5).contains(&covered), "{last} of {elapsed}");
    assert!((last["bytes"].as_f64().unwrap() / bytes - 1.0).abs() < 0.3, "{last} of {bytes}");
}

#[test]
fn a_recording_ends_when_it_is_full_and_that_is_no_failure() {
    let _turn = OTHERS.read();
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let line = "timeout 30 yes | cat >/dev/null";
    let args = ["record", "--max-size", "300K", "-F", "4000", "-o", "it", "-c", line];
    let started = Instant::now();
    let output = run_in(here, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(started.elapsed() < Duration::from_secs(20), "it was to end by itself");
    let bytes = here.join("it.pipeprof/perf.data").metadata().unwrap().len();
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    // How much beyond the limit is up to how soon a busy machine looks; thirty seconds come to
    // several times as much.
    assert!((300_000..cpus * (6 << 20)).contains(&bytes), "{bytes}");
    let report = report(here, "it.pipeprof");
    let notes = report["quality"]["notes"].to_string();
    assert!(notes.contains("300KiB"), "{notes}");
    assert_eq!(report["quality"]["cut_short"], false);
}

/// Bounded by size where it is not by time, and readable though the maker was killed.
#[test]
fn every_stretch_of_a_killed_watch_is_a_whole_perf_data() {
    let _turn = OTHERS.write();
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let line = "timeout 10 yes | cat >/dev/null";
    let mut child = common::pipeprof()
        .current_dir(here)
        .args(["record", "--keep", "1s", "--max-size", "64M", "-o", "it", "-c", line])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let partial = here.join("it.pipeprof.partial");
    let waited = Instant::now();
    while !partial.join("perf.data.6").exists() && waited.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let stretches: Vec<_> = std::fs::read_dir(&partial)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("perf.data."))
        .collect();
    // A busy machine begins them late, and then fewer are young enough.
    assert!((1..=6).contains(&stretches.len()), "{stretches:?}");
    for stretch in &stretches {
        let Some(times) = times(stretch, "yes") else { return };
        assert!(span(&times) < 1.5, "{}: {}", stretch.display(), span(&times));
        let report = report(here, stretch.to_str().unwrap());
        assert_eq!(report["quality"]["cut_short"], false);
    }
    let report = report(here, "it.pipeprof.partial");
    assert_eq!(report["quality"]["cut_short"], true);
    assert!(report["quality"]["notes"].to_string().contains("was killed"));
}
