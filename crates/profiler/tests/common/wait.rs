//! Waiting for what a test needs, however busy the machine is.

use std::time::{Duration, Instant};

/// Until each of these has been on a CPU for so long from now on: it is past its start then, and has
/// done what a test looks at.
#[track_caller]
pub(crate) fn on_cpu(pids: &[u32], long: Duration) {
    let spent = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let before: Vec<Duration> = pids.iter().map(|&pid| spent(pid)).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while pids.iter().zip(&before).any(|(&pid, before)| spent(pid) < *before + long) {
        assert!(Instant::now() < deadline, "they get no CPU");
        std::thread::sleep(Duration::from_millis(5));
    }
}
