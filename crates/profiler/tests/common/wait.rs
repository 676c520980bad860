//! Waiting for what a test needs, however busy the machine is.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

/// Until each of these has been on a CPU for so long from now on: it is past its start then, and has
/// done what a test looks at.
#[track_caller]
#[allow(dead_code, reason = "not every test needs both")]
pub(crate) fn on_cpu(pids: &[u32], long: Duration) {
    let spent = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let before: Vec<Duration> = pids.iter().map(|&pid| spent(pid)).collect();
    until("they get the CPU", || {
        !pids.iter().zip(&before).any(|(&pid, before)| spent(pid) < *before + long)
    });
}

/// Polls until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
