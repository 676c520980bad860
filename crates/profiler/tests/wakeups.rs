//! Who wakes whom in a real pipe.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
#[path = "common/tracefs.rs"]
mod tracefs;

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use common::Pair;
use common::wait::on_cpu;
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_profiler::wakeups::{Waker, Wakeups};

/// Of two that sample switches at once each has a few samples under an id of the other's, at which
/// perf gives up; only a recording that is saved gets its own ids.
static TURN: Mutex<()> = Mutex::new(());

/// `None`, and a line that says why, where this machine does not show wake-ups.
fn capture(keep: impl FnOnce(&std::path::Path)) -> Option<Profile> {
    let _turn = TURN.lock();
    if !tracefs::mounted() {
        return None;
    }
    let pair = Pair::start();
    on_cpu(&pair.pids(), Duration::from_millis(20));
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig { switches: true, ..Default::default() };
    let session = match Session::attach(&RunningKernel, &pair.pipeline(), &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    on_cpu(&pair.pids(), Duration::from_millis(300));
    let recording = session.finish(&RunningKernel).unwrap();
    keep(&recording.perf_data());
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    if let Wakeups::Known { watched_ns, .. } = profile.wakeups {
        let session_ns = recording.meta.end_ns - recording.meta.start_ns;
        assert!((10_000_000..=session_ns).contains(&watched_ns), "{watched_ns} of {session_ns}");
    }
    Some(profile)
}

#[test]
fn the_ends_of_a_pipe_wake_each_other() {
    let Some(profile) = capture(|_| {}) else { return };
    let Wakeups::Known { edges, watched_ns } = &profile.wakeups else {
        eprintln!("skipped: {:?}", profile.wakeups);
        return;
    };
    let all: u64 = edges.iter().map(|edge| edge.count).sum();
    for (waker, woken) in [(0, 1), (1, 0)] {
        let edge = edges
            .iter()
            .find(|edge| (edge.waker, edge.woken_member) == (Waker::Member(waker), woken))
            .unwrap_or_else(|| unreachable!("{waker} wakes {woken}: {edges:?}"));
        // Beside what they wake each other, there is next to nothing.
        assert!(edge.count * 5 > all, "{edges:?}");
        let latency = edge.latency.unwrap();
        assert!(latency.count <= edge.count && latency.count * 2 > edge.count, "{edge:?}");
        assert!(0 < latency.median_ns && latency.median_ns <= latency.p99_ns, "{edge:?}");
        assert!(latency.p99_ns <= latency.max_ns && latency.max_ns < *watched_ns, "{edge:?}");
    }
}

#[test]
fn perf_reads_the_recording_with_its_tracepoint() {
    if Command::new("perf").arg("--version").output().is_err() {
        eprintln!("skipped: perf is not installed");
        return;
    }
    let mut text = String::new();
    let profile = capture(|file| {
        let output = Command::new("perf")
            .args(["script", "--force", "--fields", "comm,tid,time,event,trace", "-i"])
            .arg(file)
            .output()
            .unwrap();
        text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {text:.2000}", output.status);
    });
    let Some(Profile { wakeups: Wakeups::Known { .. }, .. }) = profile else { return };
    let woken = |line: &&str| line.contains("sched:sched_waking:") && line.contains("comm=dd pid=");
    assert!(text.lines().any(|line| woken(&line)), "{text:.2000}");
}
