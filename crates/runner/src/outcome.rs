//! The outcome of a run.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::ends::{Complaint, Report};
use crate::pipeline::End;
use crate::plan::PairPlan;
use crate::size;

/// The outcome of a pair.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was planned.
    pub plan: PairPlan,
    /// Bytes that the reader took out of the pipe.
    pub bytes: u64,
    /// Bytes that the writer put into it.
    pub written_bytes: u64,
    /// Monotonic time from the opening of the gate to the last byte read.
    #[serde(rename = "elapsed_ns", serialize_with = "as_ns")]
    pub elapsed: Duration,
    /// Stopped by [`Running::interrupt`](crate::pair::Running::interrupt).
    pub interrupted: bool,
    /// How the writer ended.
    pub writer: EndOutcome,
    /// How the reader ended.
    pub reader: EndOutcome,
    /// What the user should know: what the kernel would not grant, and what the plan makes of it.
    pub notes: Vec<String>,
}

/// How one end ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndOutcome {
    /// Which.
    pub end: End,
    /// Its pid, which may be another's by now.
    pub pid: i32,
    /// Exit status, if it exited.
    pub exit_status: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// Its own report; `None` where it died before it could make one.
    pub report: Option<Report>,
}

impl EndOutcome {
    pub(crate) fn new(end: End, pid: i32, status: ExitStatus, report: Option<Report>) -> Self {
        EndOutcome { end, pid, exit_status: status.code(), signal: status.signal(), report }
    }

    /// Why it failed, in words; `None` where it did not.
    pub fn failure(&self) -> Option<Complaint> {
        let name = self.end.as_str();
        let died = |how: String| {
            Some(Complaint { message: format!("the {name} (pid {}) {how}", self.pid), hint: None })
        };
        if let Some(complaint) = self.report.as_ref().and_then(|report| report.complaint.as_ref()) {
            let message = format!("the {name} (pid {}): {}", self.pid, complaint.message);
            return Some(Complaint { message, hint: complaint.hint.clone() });
        }
        match (self.exit_status, self.signal) {
            (Some(0), _) if self.report.is_some() => None,
            (Some(0), _) => died("exited without a report".to_owned()),
            (Some(status), _) => died(format!("exited with status {status}")),
            (None, Some(signal)) => {
                let name = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| signal.to_string(), |signal| signal.as_str().to_owned());
                died(format!("was killed by signal {name}"))
            }
            (None, None) => died("ended for an unknown reason".to_owned()),
        }
    }
}

fn as_ns<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_nanos() as u64)
}

pub(crate) fn gib_per_s(bytes: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if bytes == 0 || seconds == 0.0 {
        return 0.0;
    }
    bytes as f64 / (1u64 << 30) as f64 / seconds
}

/// The line of the article's program:
/// `12.7GiB/s, 256KiB buffer, 40960 iterations (10GiB piped)`.
pub(crate) fn line(bytes: u64, elapsed: Duration, buf_size: u64) -> String {
    let rate = gib_per_s(bytes, elapsed);
    // The article's pairs were never so slow that one digit said nothing.
    let decimals = if rate > 0.0 && rate < 0.1 { 4 } else { 1 };
    format!(
        "{rate:.decimals$}GiB/s, {} buffer, {} iterations ({} piped)",
        size::exact(buf_size),
        bytes / buf_size,
        size::exact(bytes),
    )
}

impl Outcome {
    /// GiB per second; 0 where nothing was moved.
    pub fn gib_per_s(&self) -> f64 {
        gib_per_s(self.bytes, self.elapsed)
    }

    /// Buffers' worth of bytes moved.
    pub fn iterations(&self) -> u64 {
        self.bytes / self.plan.buf_size
    }

    /// Why the run failed; the cause before what followed from it. Empty where it did not.
    pub fn failures(&self) -> Vec<Complaint> {
        [&self.writer, &self.reader].into_iter().filter_map(EndOutcome::failure).collect()
    }

    /// The line of the article's program:
    /// `12.7GiB/s, 256KiB buffer, 40960 iterations (10GiB piped)`.
    pub fn line(&self) -> String {
        line(self.bytes, self.elapsed, self.plan.buf_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_run_is_not_a_standstill() {
        let line = |mib: u64| line(mib << 20, Duration::from_secs(1), 256 << 10);
        assert_eq!(line(13_005), "12.7GiB/s, 256KiB buffer, 52020 iterations (13005MiB piped)");
        assert!(line(16).starts_with("0.0156GiB/s, "));
        assert!(line(0).starts_with("0.0GiB/s, "));
    }
}
