//! One change to a running pipeline, and how to undo it.

use std::io;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::sys;
use crate::cpus::of_thread;
use crate::discover::parent_of;
use crate::discover::resize::{self, Failure, numbers};
use crate::pipeline::{MemberId, PipeKey};

/// One change, with what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Another capacity of a pipe.
    Capacity {
        /// Which pipe.
        pipe: PipeKey,
        /// Processes that hold an end of it.
        holders: Vec<MemberId>,
        /// `F_GETPIPE_SZ` before.
        from_bytes: u64,
        /// What it is to be; the kernel rounds up to a power of two of pages.
        to_bytes: u64,
    },
    /// Other CPUs for all threads of a process.
    Affinity {
        /// Whose.
        process: MemberId,
        /// The CPUs that each thread might use before.
        from: Vec<(i32, Vec<usize>)>,
        /// The CPUs that all of them may use.
        to: Vec<usize>,
    },
    /// Another nice value for all threads of a process.
    Nice {
        /// Whose.
        process: MemberId,
        /// That of each thread before.
        from: Vec<(i32, i32)>,
        /// That of all of them.
        to: i32,
    },
}

/// Why a change could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The process or the pipe has gone.
    #[error("{what} has gone")]
    NotFound {
        /// `pid 12` or `pipe:[7]`.
        what: String,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Refused {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl ChangeError {
    /// What would allow it, to be pasted into a shell.
    pub fn hint(&self) -> Option<String> {
        let ChangeError::Refused { what, source } = self else { return None };
        let errno = Errno::from_raw(source.raw_os_error()?);
        match errno {
            Errno::EPERM if what.contains("capacity") => {
                Some("sudo sysctl fs.pipe-max-size=16777216 fs.pipe-user-pages-soft=0".to_owned())
            }
            Errno::EPERM => Some("run it as the owner of the processes, or as root".to_owned()),
            _ => None,
        }
    }
}

/// How far a change was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// All of it, or what was changed has gone.
    Done,
    /// Not yet: the pipe holds more than it had room for.
    NotYet,
    /// The kernel refuses.
    Refused(Errno),
}

impl Change {
    /// Another capacity for a pipe whose ends these processes hold.
    ///
    /// # Errors
    /// The pipe has gone, or may not be opened.
    pub fn capacity(
        pipe: PipeKey,
        holders: Vec<MemberId>,
        to_bytes: u64,
    ) -> Result<Change, ChangeError> {
        let from_bytes = resize::capacity(pipe, &holders)
            .map_err(|failure| not_resized(pipe, "asking the capacity of", failure))?;
        Ok(Change::Capacity { pipe, holders, from_bytes, to_bytes })
    }

    /// Other CPUs for all threads of a process.
    ///
    /// # Errors
    /// The process has gone.
    pub fn affinity(process: MemberId, to: Vec<usize>) -> Result<Change, ChangeError> {
        let threads = threads_of(&process);
        let from: Vec<_> =
            threads.into_iter().filter_map(|tid| Some((tid, of_thread(tid)?))).collect();
        if from.is_empty() {
            return Err(ChangeError::NotFound { what: format!("pid {}", process.pid) });
        }
        Ok(Change::Affinity { process, from, to })
    }

    /// A nice value `by` higher for all threads of a process.
    ///
    /// # Errors
    /// The process has gone.
    pub fn nicer(process: MemberId, by: i32) -> Result<Change, ChangeError> {
        let threads = threads_of(&process);
        let from: Vec<_> =
            threads.into_iter().filter_map(|tid| Some((tid, sys::nice(tid).ok()?))).collect();
        let Some(most) = from.iter().map(|&(_, nice)| nice).max() else {
            return Err(ChangeError::NotFound { what: format!("pid {}", process.pid) });
        };
        Ok(Change::Nice { process, from, to: (most + by).min(19) })
    }

    /// Makes the change.
    ///
    /// # Errors
    /// What is to be changed has gone, or the kernel refuses.
    pub fn apply(&self) -> Result<(), ChangeError> {
        match self {
            Change::Capacity { pipe, holders, to_bytes, .. } => {
                let resized = resize::set_capacity(*pipe, holders, *to_bytes);
                let told = |failure| not_resized(*pipe, "changing the capacity of", failure);
                resized.map(drop).map_err(told)
            }
            Change::Affinity { process, to, .. } => {
                each_thread(process, |tid| set_cpus(tid, to), "choosing CPUs for")
            }
            Change::Nice { process, to, .. } => {
                each_thread(process, |tid| sys::set_nice(tid, *to), "changing the nice value of")
            }
        }
    }

    /// Takes the change back, as far as can be done now. Threads and children that began
    /// meanwhile, and inherited what was changed, get what their process had.
    pub fn restore(&self) -> Restored {
        match self {
            Change::Capacity { pipe, holders, from_bytes, .. } => {
                match resize::set_capacity(*pipe, holders, *from_bytes) {
                    // A pipe that has lost its writers or its readers has no use for its capacity.
                    Ok(_) | Err(Failure::OneEnded) => Restored::Done,
                    Err(Failure::Refused(Errno::EBUSY) | Failure::NoLooker) => Restored::NotYet,
                    Err(Failure::Noticed) => Restored::Refused(Errno::EOPNOTSUPP),
                    Err(Failure::Refused(errno)) => Restored::Refused(errno),
                }
            }
            Change::Affinity { process, from, to } => restore_threads(
                process,
                from,
                |tid| of_thread(tid).as_ref() == Some(to),
                |tid, cpus| set_cpus(tid, cpus),
            ),
            Change::Nice { process, from, to } => restore_threads(
                process,
                from,
                |tid| sys::nice(tid).ok() == Some(*to),
                |tid, nice| sys::set_nice(tid, *nice),
            ),
        }
    }
}

/// Threads may begin while others are changed; they inherit, so that a few rounds find them all.
const ROUNDS: usize = 8;

fn threads_of(process: &MemberId) -> Vec<i32> {
    if process.is_there() { numbers(&format!("/proc/{}/task", process.pid)) } else { Vec::new() }
}

fn each_thread(
    process: &MemberId,
    change: impl Fn(i32) -> io::Result<()>,
    what: &str,
) -> Result<(), ChangeError> {
    let mut seen: Vec<i32> = Vec::new();
    for _ in 0..ROUNDS {
        let fresh: Vec<i32> =
            threads_of(process).into_iter().filter(|tid| !seen.contains(tid)).collect();
        if fresh.is_empty() {
            break;
        }
        for tid in fresh {
            seen.push(tid);
            match change(tid) {
                Err(error) if errno(&error) != Errno::ESRCH => {
                    let what = format!("{what} pid {}", process.pid);
                    return Err(ChangeError::Refused { what, source: error });
                }
                _ => {}
            }
        }
    }
    if seen.is_empty() {
        return Err(ChangeError::NotFound { what: format!("pid {}", process.pid) });
    }
    Ok(())
}

fn restore_threads<T>(
    process: &MemberId,
    from: &[(i32, T)],
    is_changed: impl Fn(i32) -> bool,
    set: impl Fn(i32, &T) -> io::Result<()>,
) -> Restored {
    let of_main = from.iter().find(|(tid, _)| *tid == process.pid).or(from.first());
    let Some((_, of_main)) = of_main else { return Restored::Done };
    let mut refusal = None;
    for _ in 0..ROUNDS {
        let mut threads = threads_of(process);
        // Children inherit; those that began before the change were not part of it.
        for child in descendants(process.pid) {
            threads.extend(numbers(&format!("/proc/{child}/task")));
        }
        let changed: Vec<i32> = threads.into_iter().filter(|&tid| is_changed(tid)).collect();
        if changed.is_empty() {
            return Restored::Done;
        }
        let mut progress = false;
        for tid in changed {
            let before = from.iter().find(|(known, _)| *known == tid).map_or(of_main, |(_, b)| b);
            match set(tid, before) {
                Ok(()) => progress |= !is_changed(tid),
                Err(error) if errno(&error) == Errno::ESRCH => {}
                Err(error) => refusal = Some(errno(&error)),
            }
        }
        if !progress {
            break;
        }
    }
    // What it had before may be what it was changed to.
    refusal.map_or(Restored::Done, Restored::Refused)
}

fn not_resized(pipe: PipeKey, what: &str, failure: Failure) -> ChangeError {
    let named = format!("pipe:[{}]", pipe.inode);
    let source = match failure {
        Failure::OneEnded => return ChangeError::NotFound { what: named },
        Failure::Noticed => io::Error::other("its ends would notice: it is a FIFO or uses O_ASYNC"),
        Failure::NoLooker => io::Error::other("it could not be reached"),
        Failure::Refused(errno) => errno.into(),
    };
    ChangeError::Refused { what: format!("{what} {named}"), source }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn set_cpus(tid: i32, cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(tid), &set)?)
}

fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> =
        numbers("/proc").into_iter().filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        at += 1;
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
    }
    found.split_off(1)
}
