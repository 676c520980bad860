//! Whether a hardware event gets a counter. The event opens even if no counter is free, and then
//! waits for its turn (`perf_event_sched_in`, kernel/events/core.c, v6.18). That turn never comes
//! if other events hold all counters exclusively, or for whole CPUs.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::attr::{FORMAT_TIMES, flag};
use crate::event::{Candidate, Event};
use crate::profile::Scope;
use crate::sys::{PerfSystem, RunningKernel};

/// Events that share counters take turns every few milliseconds (`perf_event_mux_interval_ms`). A
/// precise event is tried at four levels, so this is the fourth of what it may take.
const PATIENCE: Duration = Duration::from_millis(40);

/// Tries it on this thread, which is busy meanwhile. What counts says so at once. What takes no
/// counter, or cannot be tried, is taken to count.
pub(crate) fn has_counter(system: &dyn PerfSystem, candidate: &Candidate) -> bool {
    if !candidate.event.is_hardware() {
        return true;
    }
    let mut attr = candidate.attr();
    attr.flags &= !flag::INHERIT;
    attr.read_format = FORMAT_TIMES;
    let Ok(event) = system.open(&attr, 0, -1) else { return true };
    if system.enable(event.as_fd()).is_err() {
        return true;
    }
    let began = Instant::now();
    loop {
        match running_ns(&event) {
            Some(0) if began.elapsed() < PATIENCE => {}
            Some(running_ns) => return running_ns > 0,
            None => return true,
        }
    }
}

/// Whether others hold all counters of this machine right now.
pub fn counters_are_held() -> bool {
    let candidate = |event| Candidate { event, scope: Scope::PerTask, kernel: false, precise: 0 };
    let cycles = Event::named("cycles").map(candidate);
    cycles.is_some_and(|cycles| !has_counter(&RunningKernel, &cycles))
}

/// For how long an event with [`FORMAT_TIMES`] has counted.
fn running_ns(event: &OwnedFd) -> Option<u64> {
    let mut words = [0; 24];
    let length = nix::unistd::read(event, &mut words).ok()?;
    words[..length].get(16..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))
}
