//! Counts events of each member of a pipeline, from its release to its end.
//!
//! Counting mode only: no samples, no rings. Events are opened on every thread that a member has,
//! and inherited by all that it starts. They stay readable after a member's end. But they make its
//! context switches slower, so for a member without threads and children (a built-in end) only
//! hardware counters use events; the rest comes from accounts that the kernel keeps anyway.

mod event;
mod ledger;
mod switches;
mod value;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};

use nix::errno::Errno;
use perf_event_open::config::{Cpu, Inherit, Opts, Proc};
use perf_event_open::count::Counter as PerfCounter;
use pipeprof_runner::access;

use crate::environment::{Environment, Operation, explain_open_error};

pub use event::{KnownEvent, is_software};
pub use switches::ExitUsage;
pub use value::{Counter, CounterUnit, CounterValue, MemberCounters};

use event::UserOnly;
use ledger::Ledger;
use switches::Switches;
use value::RawCount;

/// How often attaching starts over where threads appear meanwhile. One pass takes about 50 µs for
/// a thread, so a member that outruns this starts threads without pause.
const ATTACH_PASSES: usize = 5;

/// Why members can't be counted at all. An unavailable event is no error: it is
/// [`CounterValue::NotSupported`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CounterError {
    /// A member ended before anything was attached to it.
    #[error("process {pid} has ended")]
    Ended {
        /// The member.
        pid: i32,
    },
    /// Events take a descriptor for each thread, and there are no more.
    #[error("{message}")]
    OutOfFiles {
        /// What was opened, and why it failed.
        message: String,
        /// A command that raises the limit.
        hint: Option<String>,
    },
    /// An open event would not start or stop.
    #[error("cannot switch {event} of process {pid}")]
    Switch {
        /// The event.
        event: &'static str,
        /// The member.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl CounterError {
    /// A fix to be pasted into a shell.
    pub fn hint(&self) -> Option<String> {
        match self {
            CounterError::OutOfFiles { hint, .. } => hint.clone(),
            CounterError::Ended { .. } | CounterError::Switch { .. } => None,
        }
    }
}

/// A process to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pid: i32,
    alone: bool,
}

impl Target {
    /// With all the threads it has, and all that it starts.
    pub fn process(pid: i32) -> Self {
        Target { pid, alone: false }
    }

    /// A process of one thread that starts neither threads nor children, as the ends of the
    /// built-in pair. Counting it costs it nothing but what hardware events do.
    pub fn alone(pid: i32) -> Self {
        Target { pid, alone: true }
    }
}

/// The open counters of all members.
///
/// Attach while the members wait and [`enable`](Self::enable) before they are let go. After their
/// end, but before they are reaped, [`disable`](Self::disable) takes what ends with them;
/// [`read`](Self::read) may come at any time. Where they were reaped first,
/// [`note_exit`](Self::note_exit) makes up for nearly all of it.
pub struct CounterSet {
    members: Vec<Member>,
}

struct Member {
    pid: i32,
    events: Vec<OpenEvent>,
    /// Threads that were seen but not attached, because they kept coming.
    threads_missed: usize,
    alone: bool,
    ledger_at_enable: Option<Ledger>,
    ledger_at_disable: Option<Ledger>,
    switches_at_enable: Option<Switches>,
    switches_at_disable: Option<Switches>,
    exit: Option<ExitUsage>,
}

struct OpenEvent {
    event: KnownEvent,
    state: EventState,
}

enum EventState {
    /// One a thread.
    Open {
        user_only: bool,
        counters: Vec<PerfCounter>,
    },
    Refused {
        reason: String,
        hint: Option<String>,
    },
}

impl CounterSet {
    /// Opens the counters of these processes, stopped. Takes a descriptor for each event and thread.
    pub fn attach(targets: &[Target], env: &Environment) -> Result<Self, CounterError> {
        let members =
            targets.iter().map(|&target| Member::attach(target, env)).collect::<Result<_, _>>()?;
        Ok(CounterSet { members })
    }

    /// Starts all counters. A member that sleeps at a gate counts nothing until it is let go.
    pub fn enable(&mut self) -> Result<(), CounterError> {
        for member in &mut self.members {
            member.switches_at_enable = Switches::of_process(member.pid);
            member.ledger_at_enable = Ledger::of_process(member.pid);
            member.switch(PerfCounter::enable)?;
        }
        Ok(())
    }

    /// Stops all counters, of members that go on running or are zombies.
    pub fn disable(&mut self) -> Result<(), CounterError> {
        for member in &mut self.members {
            member.switch(PerfCounter::disable)?;
            member.switches_at_disable = Switches::of_process(member.pid);
            member.ledger_at_disable = Ledger::of_process(member.pid);
        }
        Ok(())
    }

    /// Adds what `wait4()` said of a member that this process reaped. Only that tells voluntary
    /// from involuntary switches of threads and children that ended before it, and it stands in
    /// for what was not read in time.
    pub fn note_exit(&mut self, pid: i32, usage: ExitUsage) {
        if let Some(member) = self.members.iter_mut().find(|member| member.pid == pid) {
            member.exit = Some(usage);
        }
    }

    /// The counts up to now, in the order of the targets given to [`attach`](Self::attach).
    pub fn read(&self) -> Vec<MemberCounters> {
        self.members.iter().map(Member::read).collect()
    }
}

impl Member {
    fn attach(target: Target, env: &Environment) -> Result<Self, CounterError> {
        let Target { pid, alone } = target;
        let mut pass = 1;
        loop {
            let before = threads(pid).ok_or(CounterError::Ended { pid })?;
            let events = KnownEvent::COUNTED
                .into_iter()
                .filter(|event| event.is_hardware() || !alone)
                .map(|event| OpenEvent::open(event, pid, &before, env))
                .collect::<Result<Vec<_>, _>>()?;
            let after = threads(pid).ok_or(CounterError::Ended { pid })?;
            // A thread that came meanwhile has inherited some events, all, or none: to open its own
            // might count it twice. A pass in which none came is exact.
            let threads_missed = after.difference(&before).count();
            if threads_missed == 0 || pass == ATTACH_PASSES {
                return Ok(Member {
                    pid,
                    events,
                    threads_missed,
                    alone,
                    ledger_at_enable: None,
                    ledger_at_disable: None,
                    switches_at_enable: None,
                    switches_at_disable: None,
                    exit: None,
                });
            }
            pass += 1;
        }
    }

    fn switch(&self, how: fn(&PerfCounter) -> io::Result<()>) -> Result<(), CounterError> {
        for OpenEvent { event, state } in &self.events {
            let EventState::Open { counters, .. } = state else { continue };
            for counter in counters {
                how(counter).map_err(|source| CounterError::Switch {
                    event: event.name(),
                    pid: self.pid,
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn read(&self) -> MemberCounters {
        // The caller that noted the exit has reaped it: its pid may belong to another process now.
        let is_there = self.exit.is_none();
        let mut counters = Vec::new();
        if self.alone {
            let end = self
                .ledger_at_disable
                .or_else(|| is_there.then(|| Ledger::of_process(self.pid)).flatten());
            counters = ledger::counters(self.ledger_at_enable.as_ref(), end, self.exit);
        }
        counters.extend(self.events.iter().map(OpenEvent::read));
        if !self.alone
            && let Some(at) = counters.iter().position(|c| c.name == "context-switches")
        {
            let total = counters[at].value.exact();
            let end = self
                .switches_at_disable
                .clone()
                .or_else(|| is_there.then(|| Switches::of_process(self.pid)).flatten());
            let split =
                switches::split(self.switches_at_enable.as_ref(), end.as_ref(), self.exit, total);
            counters.splice(at + 1..at + 1, split);
        }
        MemberCounters { pid: self.pid, counters, threads_missed: self.threads_missed }
    }
}

impl OpenEvent {
    fn open(
        event: KnownEvent,
        pid: i32,
        threads: &BTreeSet<i32>,
        env: &Environment,
    ) -> Result<Self, CounterError> {
        let open = |user_only: bool| -> io::Result<Vec<PerfCounter>> {
            let mut counters = Vec::with_capacity(threads.len());
            for &tid in threads {
                match open_on(event, tid, user_only) {
                    Ok(counter) => counters.push(counter),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(counters)
        };
        let explain = |error: &io::Error| {
            let what = Operation::Open {
                event: event.name(),
                kernel: true,
                per_cpu: false,
                pid: Some(pid),
            };
            explain_open_error(
                Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)),
                &what,
                env,
            )
        };
        let mut user_only = false;
        let mut opened = open(false);
        if let Err(error) = &opened
            && error.raw_os_error() == Some(libc::EACCES)
            && event.user_only() != UserOnly::Nothing
        {
            match open(true) {
                Ok(counters) => {
                    user_only = event.user_only() == UserOnly::UserCode;
                    opened = Ok(counters);
                }
                Err(error) if is_absence(&error) => opened = Err(error),
                Err(_) => {}
            }
        }
        let state = match opened {
            Ok(counters) => EventState::Open { user_only, counters },
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                let explanation = explain(&error);
                return Err(CounterError::OutOfFiles {
                    message: explanation.message,
                    hint: explanation.hint,
                });
            }
            Err(error) => {
                let explanation = explain(&error);
                EventState::Refused { reason: explanation.reason, hint: explanation.hint }
            }
        };
        Ok(OpenEvent { event, state })
    }

    fn read(&self) -> Counter {
        let (user_only, value) = match &self.state {
            EventState::Refused { reason, hint } => {
                (false, CounterValue::NotSupported { reason: reason.clone(), hint: hint.clone() })
            }
            EventState::Open { user_only, counters } => (*user_only, read_all(counters)),
        };
        Counter { name: self.event.name(), unit: self.event.unit(), user_only, value }
    }
}

/// The machine has no such event. The kernel asks for rights first (`perf_event_open`,
/// kernel/events/core.c, v6.18), so what is missing altogether shows where they suffice.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::EOPNOTSUPP)
    )
}

fn open_on(event: KnownEvent, tid: i32, user_only: bool) -> io::Result<PerfCounter> {
    let tid = u32::try_from(tid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let mut opts = Opts::default();
    opts.exclude.kernel = user_only;
    opts.exclude.hv = user_only;
    opts.inherit = Some(Inherit::NewChild);
    opts.stat_format.time_enabled = true;
    opts.stat_format.time_running = true;
    access::with_rights(|| PerfCounter::new(event.to_perf(), (Proc(tid), Cpu::ALL), opts))
}

/// Reads the descriptors ourselves: `PerfCounter::stat()` takes its buffer for filled however
/// little the kernel wrote.
fn read_all(counters: &[PerfCounter]) -> CounterValue {
    let mut sum = RawCount::default();
    for counter in counters {
        let mut bytes = [0; RawCount::BYTES];
        match counter.file().read(&mut bytes) {
            Ok(RawCount::BYTES) => sum.add(RawCount::from_bytes(bytes)),
            Ok(length) => {
                return CounterValue::NotCounted {
                    reason: format!("the kernel gave {length} of {} bytes", RawCount::BYTES),
                };
            }
            Err(error) => {
                return CounterValue::NotCounted {
                    reason: format!("it could not be read: {error}"),
                };
            }
        }
    }
    sum.value()
}

/// The threads of a process; `None` where it is gone.
fn threads(pid: i32) -> Option<BTreeSet<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let ids: BTreeSet<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (!ids.is_empty()).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_the_machine_lacks_is_told_from_one_that_is_forbidden() {
        let absent = |errno| is_absence(&io::Error::from_raw_os_error(errno));
        // Debian's 6.12 on a machine without a PMU, as an ordinary user at paranoid 2: cycles with
        // the kernel's half is EACCES, and ENOENT without.
        assert!(absent(libc::ENOENT) && absent(libc::EOPNOTSUPP));
        assert!(!absent(libc::EACCES) && !absent(libc::EMFILE));
    }
}
