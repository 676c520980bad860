//! Opens events to see whether the kernel allows them. Each is closed again before it counts
//! anything.

use std::io;

use perf_event_open::config::{Cpu, Opts, Proc, SampleOn};
use perf_event_open::count::Counter;
use perf_event_open::event::sw::Software;
use pipeprof_runner::access;
use serde::Serialize;

use crate::counters::KnownEvent;

/// How one event fared on this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventTrial {
    /// In perf's spelling.
    pub event: &'static str,
    /// Counted by the CPU's performance monitoring unit.
    pub hardware: bool,
    /// The errno of measuring user and kernel code; `None` where it opened.
    pub full_errno: Option<i32>,
    /// The same of measuring user code only.
    pub user_only_errno: Option<i32>,
}

impl EventTrial {
    /// It opened one way or the other.
    pub fn opens(&self) -> bool {
        self.full_errno.is_none() || self.user_only_errno.is_none()
    }
}

/// Tries each event that pipeprof may sample or count, on this process.
pub fn try_events() -> Vec<EventTrial> {
    KnownEvent::ALL
        .into_iter()
        .map(|event| {
            let attempt = |user_only: bool| {
                let mut opts = Opts::default();
                opts.exclude.kernel = user_only;
                opts.exclude.hv = user_only;
                let open = || Counter::new(event.to_perf(), (Proc::CURRENT, Cpu::ALL), opts);
                errno(access::with_rights(open))
            };
            EventTrial {
                event: event.name(),
                hardware: event.is_hardware(),
                full_errno: attempt(false),
                user_only_errno: attempt(true),
            }
        })
        .collect()
}

/// Tries `cpu-clock` on a CPU, for all that runs there; the errno where it is refused.
pub fn try_per_cpu(cpu: u32) -> Option<i32> {
    let open = || Counter::new(Software::CpuClock, (Proc::ALL, Cpu(cpu)), Opts::default());
    errno(access::with_rights(open))
}

/// Tries to map a ring of 2^`exponent` data pages for samples of this process's user code; the errno
/// where the event or its ring is refused.
pub fn try_ring(exponent: u8) -> Option<i32> {
    let mut opts = Opts::default();
    opts.exclude.kernel = true;
    opts.exclude.hv = true;
    opts.sample_on = SampleOn::Freq(1);
    let open = || Counter::new(Software::CpuClock, (Proc::CURRENT, Cpu::ALL), opts);
    let ring = || open().and_then(|counter| counter.sampler(exponent).map(drop));
    errno(access::with_rights(ring))
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    // The crate refuses of its own accord what the kernel headers it was built for don't know.
    result.err().map(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
}
