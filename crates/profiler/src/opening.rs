//! Opening one event on many tasks or CPUs, and the rings that they share.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::attr::{EventAttr, FORMAT_LOST, event_type, flag};
use crate::environment::{Environment, Operation, explain_open_error};
use crate::error::Error;
use crate::frequency::{granted, staggered_frequency};
use crate::perfdata::write::EventDescription;
use crate::profile::Scope;
use crate::recording::EventRole;
use crate::ring::{Ring, page_bytes};
use crate::stop::Stop;
use crate::sys::PerfSystem;

/// An event that is open on all its targets.
pub(crate) struct Opened {
    name: String,
    pub(crate) role: EventRole,
    pub(crate) attr: EventAttr,
    /// With the CPU that each is bound to.
    pub(crate) fds: Vec<(OwnedFd, i32)>,
}

pub(crate) struct Target {
    pid: i32,
    cpu: i32,
}

impl Target {
    /// The operation on this target.
    fn aim<'a>(&self, operation: &Operation<'a>) -> Operation<'a> {
        match *operation {
            Operation::Open { event, kernel, per_cpu, .. } => {
                let pid = (self.pid >= 0).then_some(self.pid);
                Operation::Open { event, kernel, per_cpu, pid }
            }
            other => other,
        }
    }
}

pub(crate) fn targets(scope: Scope, tids: &[i32], cpus: &[u32]) -> Vec<Target> {
    let cpus = cpus.iter().map(|&cpu| cpu as i32);
    match scope {
        Scope::PerCpu => cpus.map(|cpu| Target { pid: -1, cpu }).collect(),
        // An inherited event can only have a ring on one CPU (kernel/events/core.c, perf_mmap,
        // v6.18), so there is one a thread and CPU, as perf has.
        Scope::PerTask => {
            tids.iter().flat_map(|&pid| cpus.clone().map(move |cpu| Target { pid, cpu })).collect()
        }
    }
}

/// Opens one event a target. Tasks and CPUs that are gone meanwhile are skipped. Abandoned when a
/// stop is requested: a task takes some 50 microseconds, and there can be thousands.
pub(crate) fn open_all(
    system: &dyn PerfSystem,
    operation: &Operation<'_>,
    role: EventRole,
    mut attr: EventAttr,
    targets: &[Target],
    stop: &Stop,
) -> Result<Opened, Error> {
    let mut fds = Vec::with_capacity(targets.len());
    let mut asked = attr.period_or_frequency;
    let is_frequency = attr.flags & flag::FREQ != 0;
    let staggered = attr.kind == event_type::SOFTWARE && attr.config <= 1;
    for target in targets {
        if stop.is_asked() {
            return Err(Error::Stopped);
        }
        let result = loop {
            attr.period_or_frequency =
                if staggered { staggered_frequency(asked, target.cpu) } else { asked };
            match system.open(&attr, target.pid, target.cpu) {
                // The limit may have been lowered since it was last read.
                Err(Errno::EINVAL) if is_frequency && granted(asked) < asked => {
                    asked = granted(asked);
                }
                Err(Errno::EINVAL) if leave_out_newest(&mut attr) => {}
                result => break result,
            }
        };
        match result {
            Ok(fd) => fds.push((fd, target.cpu)),
            Err(Errno::ESRCH | Errno::ENODEV) => {}
            Err(errno) => {
                let env = Environment::read();
                let why = explain_open_error(errno, &target.aim(operation), &env);
                return Err(Error::Open(why));
            }
        }
    }
    if fds.is_empty() {
        return Err(Error::NoTasks);
    }
    attr.period_or_frequency = asked;
    let Operation::Open { event, .. } = operation else { return Err(Error::NoTasks) };
    Ok(Opened { name: (*event).to_owned(), role, attr, fds })
}

/// Takes from an attribute what the youngest kernel knows of; false where nothing of that is in it.
fn leave_out_newest(attr: &mut EventAttr) -> bool {
    if attr.read_format & FORMAT_LOST != 0 {
        attr.read_format &= !FORMAT_LOST;
        return true;
    }
    let has_newest = attr.flags & flag::KSYMBOL != 0;
    attr.flags &= !flag::KSYMBOL;
    has_newest
}

/// The events as the file describes them.
pub(crate) fn describe(
    system: &dyn PerfSystem,
    opened: &[Opened],
) -> Result<Vec<EventDescription>, Error> {
    opened
        .iter()
        .map(|event| {
            let ids = event.fds.iter().map(|(fd, _)| system.id(fd.as_fd()));
            let ids = ids
                .collect::<Result<_, Errno>>()
                .map_err(|errno| Error::Control { action: "asking the id of", errno })?;
            Ok(EventDescription { name: event.name.clone(), attr: event.attr, ids })
        })
        .collect()
}

/// One ring a CPU, shared by all events there; smaller ones where the allowance is small.
pub(crate) fn map_rings(
    system: &dyn PerfSystem,
    opened: &[Opened],
    wanted: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<Ring>, Error> {
    let mut owners: Vec<(i32, &OwnedFd)> = Vec::new();
    let events = || opened.iter().flat_map(|event| &event.fds);
    for (fd, cpu) in events() {
        if !owners.iter().any(|(owned, _)| owned == cpu) {
            owners.push((*cpu, fd));
        }
    }
    let mut bytes = wanted;
    let rings = loop {
        let mapped: Result<Vec<Ring>, Errno> =
            owners.iter().map(|(_, fd)| system.map(fd.as_fd(), bytes)).collect();
        match mapped {
            Ok(rings) => break rings,
            Err(Errno::EPERM | Errno::ENOMEM) if bytes > page_bytes() => bytes /= 2,
            Err(errno) => {
                let bytes = (bytes + page_bytes()) as u64;
                let env = Environment::read();
                let why = explain_open_error(errno, &Operation::MapRing { bytes }, &env);
                return Err(Error::Ring(why));
            }
        }
    };
    if bytes < wanted {
        notes.push(format!(
            "ring buffers are {} KiB a CPU instead of {} KiB, as locked memory is limited; \
             hint: sudo sysctl kernel.perf_event_mlock_kb={}",
            bytes >> 10,
            wanted >> 10,
            ((wanted + page_bytes()) * owners.len()) >> 10
        ));
    }
    for (fd, cpu) in events() {
        let owner = owners.iter().find(|(owned, _)| owned == cpu).map(|&(_, owner)| owner);
        if let Some(owner) = owner.filter(|&owner| !std::ptr::eq(owner, fd)) {
            system
                .redirect(fd.as_fd(), owner.as_fd())
                .map_err(|errno| Error::Control { action: "redirecting", errno })?;
        }
    }
    Ok(rings)
}

/// Makes room for that many more descriptors, as far as the hard limit allows; where it does not,
/// opening says so.
pub(crate) fn raise_descriptor_limit(needed: u64) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = (needed + 256).min(hard);
        if wanted > soft {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernels_are_asked_for_less() {
        let mut attr = EventAttr::new(event_type::SOFTWARE, 0);
        attr.read_format = FORMAT_LOST;
        let plain = attr.flags;
        attr.flags |= flag::KSYMBOL;
        assert!(leave_out_newest(&mut attr));
        assert_eq!((attr.read_format, attr.flags), (0, plain | flag::KSYMBOL));
        assert!(leave_out_newest(&mut attr));
        assert_eq!(attr.flags, plain);
        assert!(!leave_out_newest(&mut attr));
    }
}
