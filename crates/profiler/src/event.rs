//! The sampling event: names, and the choice of the best one that this kernel and these rights
//! allow.

use nix::errno::Errno;

use crate::attr::{EventAttr, event_type, flag};
use crate::environment::Operation;
use crate::profile::{Scope, WeightUnit};

/// An event that can be sampled, by perf's name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As perf spells it.
    pub name: String,
    /// One of [`event_type`].
    pub kind: u32,
    /// Which event of that type.
    pub config: u64,
}

/// perf's names of the generalised events (tools/perf/util/parse-events.c, v6.1).
const NAMED: &[(&str, u32, u64)] = &[
    ("cycles", event_type::HARDWARE, 0),
    ("instructions", event_type::HARDWARE, 1),
    ("cache-references", event_type::HARDWARE, 2),
    ("cache-misses", event_type::HARDWARE, 3),
    ("branches", event_type::HARDWARE, 4),
    ("branch-misses", event_type::HARDWARE, 5),
    ("ref-cycles", event_type::HARDWARE, 9),
    ("dTLB-load-misses", event_type::HW_CACHE, 0x1_0003),
    ("L1-dcache-load-misses", event_type::HW_CACHE, 0x1_0000),
    ("LLC-load-misses", event_type::HW_CACHE, 0x1_0002),
    ("cpu-clock", event_type::SOFTWARE, 0),
    ("task-clock", event_type::SOFTWARE, 1),
    ("page-faults", event_type::SOFTWARE, 2),
    ("context-switches", event_type::SOFTWARE, 3),
    ("cpu-migrations", event_type::SOFTWARE, 4),
    ("minor-faults", event_type::SOFTWARE, 5),
    ("major-faults", event_type::SOFTWARE, 6),
];

impl Event {
    /// The event of that name, or of a raw code such as `r01c2`.
    pub fn named(name: &str) -> Option<Event> {
        if let Some(&(name, kind, config)) = NAMED.iter().find(|(known, ..)| *known == name) {
            return Some(Event { name: name.to_owned(), kind, config });
        }
        let code = name.strip_prefix('r')?;
        let config = u64::from_str_radix(code, 16).ok()?;
        Some(Event { name: name.to_owned(), kind: event_type::RAW, config })
    }

    /// The names that [`Event::named`] knows, for a message.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|&(name, ..)| name)
    }

    /// Samples come from a timer, not from the event itself.
    pub fn is_timer_driven(&self) -> bool {
        self.kind == event_type::SOFTWARE && self.config <= 1
    }

    /// What its periods add up to.
    pub fn unit(&self) -> WeightUnit {
        if self.is_timer_driven() { WeightUnit::Nanoseconds } else { WeightUnit::Events }
    }

    /// It takes a counter of the CPU.
    pub fn is_hardware(&self) -> bool {
        matches!(self.kind, event_type::HARDWARE | event_type::HW_CACHE | event_type::RAW)
    }

    fn is_cycles(&self) -> bool {
        self.kind == event_type::HARDWARE && self.config == 0
    }
}

/// One way to sample, to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The event.
    pub event: Event,
    /// Per CPU or per task.
    pub scope: Scope,
    /// With kernel code, or user code alone.
    pub kernel: bool,
    /// `precise_ip`: 3 asks for no skid, 0 takes what comes.
    pub precise: u8,
}

impl Candidate {
    /// What it asks of the kernel, to have a refusal explained.
    pub fn operation(&self) -> Operation<'_> {
        Operation::Open {
            event: &self.event.name,
            kernel: self.kernel,
            per_cpu: self.scope == Scope::PerCpu,
            pid: None,
        }
    }

    /// In words: `cycles, per task`.
    pub fn describe(&self) -> String {
        let scope = match self.scope {
            Scope::PerCpu => "per CPU",
            Scope::PerTask => "per task",
        };
        let mode = if self.kernel { "" } else { ", user space only" };
        format!("{}, {scope}{mode}", self.event.name)
    }

    /// The attribute that opens it, without what its records carry.
    pub fn attr(&self) -> EventAttr {
        let mut attr = EventAttr::new(self.event.kind, self.event.config)
            .with_flag(flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV, !self.kernel)
            .with_flag(flag::INHERIT, self.scope == Scope::PerTask)
            // A per-CPU clock would sample the idle task, which is no member's.
            .with_flag(flag::EXCLUDE_IDLE, self.scope == Scope::PerCpu)
            .with_flag(flag::EXCLUDE_GUEST, self.event.is_hardware());
        attr.flags |= u64::from(self.precise) << flag::PRECISE_IP_SHIFT;
        attr
    }
}

/// What to try, best first.
///
/// Kernel code matters more than the event, as a pipe's cost is in the kernel; then hardware
/// cycles, whose interrupt reaches code that has interrupts off. A clock is better per CPU than
/// per task: a per-task clock that is overdue when its task is switched out fires again right
/// after the switch back in, so the switch path gets up to four times its share (measured; see
/// docs/measurement.md).
pub fn candidates(asked: Option<&Event>) -> Vec<Candidate> {
    let defaults = || [Event::named("cycles"), Event::named("cpu-clock")].into_iter().flatten();
    let events: Vec<Event> = asked.cloned().map_or_else(|| defaults().collect(), |e| vec![e]);
    let mut list = Vec::new();
    for kernel in [true, false] {
        for event in &events {
            // The most precise that the PMU has, as perf does for `cycles:P`.
            let precisions: &[u8] = if event.is_cycles() { &[3, 2, 1, 0] } else { &[0] };
            for &precise in precisions {
                if event.is_timer_driven() && kernel {
                    let event = event.clone();
                    list.push(Candidate { event, scope: Scope::PerCpu, kernel, precise });
                }
                let event = event.clone();
                list.push(Candidate { event, scope: Scope::PerTask, kernel, precise });
            }
        }
    }
    list
}

/// A candidate that the kernel took, and what it said of those before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What to sample with.
    pub candidate: Candidate,
    /// The candidates that were refused before it, with the answers.
    pub refused: Vec<(Candidate, Errno)>,
}

impl Choice {
    /// The best that was refused, where that is a better event or scope and not just a more precise
    /// one, which many PMUs don't have.
    pub fn fallback_from(&self) -> Option<&(Candidate, Errno)> {
        let chosen = &self.candidate;
        self.refused.first().filter(|(first, _)| {
            (&first.event, first.scope, first.kernel)
                != (&chosen.event, chosen.scope, chosen.kernel)
        })
    }

    /// The refusal that leaves the kernel half out: that of the most modest candidate with it.
    pub fn kernel_refusal(&self) -> Option<&(Candidate, Errno)> {
        let refused = self.refused.iter().rev().find(|(candidate, _)| candidate.kernel);
        refused.filter(|_| !self.candidate.kernel)
    }
}

/// The first candidate that `open` takes.
///
/// # Errors
/// Where it takes none: every candidate with its errno, in the order tried.
pub fn choose(
    candidates: Vec<Candidate>,
    mut open: impl FnMut(&Candidate) -> Result<(), Errno>,
) -> Result<Choice, Vec<(Candidate, Errno)>> {
    let mut refused: Vec<(Candidate, Errno)> = Vec::new();
    for candidate in candidates {
        match open(&candidate) {
            Ok(()) => return Ok(Choice { candidate, refused }),
            Err(errno) => refused.push((candidate, errno)),
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rule: impl Fn(&Candidate) -> Result<(), Errno>) -> String {
        choose(candidates(None), |c| rule(c)).map_or_else(
            |refused| format!("none of {}", refused.len()),
            |choice| {
                let first = choice.refused.first().map(|(_, errno)| *errno);
                format!("{} p{} {first:?}", choice.candidate.describe(), choice.candidate.precise)
            },
        )
    }

    #[test]
    fn the_best_event_that_the_machine_allows() {
        let hardware = |c: &Candidate| c.event.is_hardware();
        assert_eq!(chosen(|_| Ok(())), "cycles, per task p3 None");
        let no_pebs = |c: &Candidate| if c.precise > 0 { Err(Errno::EOPNOTSUPP) } else { Ok(()) };
        assert_eq!(chosen(no_pebs), "cycles, per task p0 Some(EOPNOTSUPP)");
        let no_pmu = |c: &Candidate| if hardware(c) { Err(Errno::ENOENT) } else { Ok(()) };
        assert_eq!(chosen(no_pmu), "cpu-clock, per CPU p0 Some(ENOENT)");
        let own_tasks = |c: &Candidate| match c.scope {
            _ if hardware(c) => Err(Errno::ENOENT),
            Scope::PerCpu => Err(Errno::EACCES),
            Scope::PerTask => Ok(()),
        };
        assert_eq!(chosen(own_tasks), "cpu-clock, per task p0 Some(ENOENT)");
        let user_only = |c: &Candidate| match (hardware(c), c.kernel) {
            (true, _) => Err(Errno::ENOENT),
            (_, true) => Err(Errno::EACCES),
            _ => Ok(()),
        };
        assert_eq!(chosen(user_only), "cpu-clock, per task, user space only p0 Some(ENOENT)");
        let pmu_user_only = |c: &Candidate| if c.kernel { Err(Errno::EACCES) } else { Ok(()) };
        assert_eq!(chosen(pmu_user_only), "cycles, per task, user space only p3 Some(EACCES)");
        assert_eq!(chosen(|_| Err(Errno::EPERM)), "none of 11");
    }

    #[test]
    fn names_and_raw_codes() {
        assert_eq!(Event::named("cpu-clock").unwrap().kind, event_type::SOFTWARE);
        let raw = Event::named("r01c2").unwrap();
        assert_eq!((raw.kind, raw.config), (event_type::RAW, 0x1c2));
        assert_eq!(Event::named("no-such-event"), None);
        assert_eq!(Event::named("rxyz"), None);
    }
}
