//! What was seen of processes that may have ended before anybody looked at all of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pipeprof_runner::discover::Process;
use pipeprof_runner::pipeline::MemberId;

/// A process as it was at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) process: Process,
    /// It was executing a program: what it held before was its parent's.
    pub(super) executes: bool,
    pub(super) at: Instant,
}

/// What has been recalled once is kept for so long, for those who come to the other end later.
const KEPT: Duration = Duration::from_secs(2);

/// More processes than this are not remembered.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Memory {
    seen: HashMap<MemberId, Seen>,
}

#[derive(Debug)]
struct Seen {
    process: Process,
    at: Instant,
    recalled: bool,
}

impl Memory {
    /// A later sight of a process that has executed its program adds to what it held: on its way out
    /// it closes one descriptor after the other.
    pub(super) fn add(&mut self, sight: Sight) {
        let Sight { process, executes, at } = sight;
        let id = process.id();
        let Some(known) = self.seen.get_mut(&id) else {
            if self.seen.len() < MOST {
                self.seen.insert(id, Seen { process, at, recalled: false });
            }
            return;
        };
        known.at = at;
        known.recalled = false;
        let before = &mut known.process;
        before.calls = process.calls.or(before.calls);
        if !process.command_line.is_empty() {
            before.command_line.clone_from(&process.command_line);
        }
        before.comm.clone_from(&process.comm);
        if process.descriptors.is_empty() && !executes {
            return;
        }
        if executes || before.forked_only {
            before.descriptors = process.descriptors;
            before.forked_only = process.forked_only;
            return;
        }
        for descriptor in process.descriptors {
            if before.descriptors.iter().all(|known| known.fd != descriptor.fd) {
                before.descriptors.push(descriptor);
            }
        }
    }

    /// All that is remembered.
    pub(super) fn recall(&mut self, now: Instant) -> Vec<Process> {
        self.seen.retain(|_, seen| {
            let young = now.saturating_duration_since(seen.at) < KEPT;
            young || !std::mem::replace(&mut seen.recalled, true)
        });
        self.seen.values().map(|seen| seen.process.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use pipeprof_runner::discover::{Access, Descriptor};
    use pipeprof_runner::pipeline::{Link, PipeKey};

    use super::*;

    fn descriptor(fd: i32, inode: u64) -> Descriptor {
        Descriptor {
            fd,
            link: Link::Pipe,
            pipe: PipeKey { device: 1, inode },
            access: Access::Read,
            close_on_exec: false,
            path: None,
        }
    }

    fn sight(forked_only: bool, held: &[(i32, u64)], executes: bool, at: Instant) -> Sight {
        let descriptors = held.iter().map(|&(fd, inode)| descriptor(fd, inode)).collect();
        let process = Process { pid: 5, descriptors, forked_only, ..Process::default() };
        Sight { process, executes, at }
    }

    fn held(memory: &mut Memory, now: Instant) -> Vec<(i32, u64)> {
        let seen = memory.recall(now).into_iter().flat_map(|process| process.descriptors);
        seen.map(|descriptor| (descriptor.fd, descriptor.pipe.inode)).collect()
    }

    #[test]
    fn what_a_program_held_stays_and_what_its_parent_held_does_not() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.add(sight(true, &[(3, 7), (4, 7)], false, now));
        memory.add(sight(true, &[(0, 7)], false, now));
        assert_eq!(held(&mut memory, now), [(0, 7)]);
        memory.add(sight(false, &[(0, 7), (1, 8)], true, now));
        assert_eq!(held(&mut memory, now), [(0, 7), (1, 8)]);
        // It closes its output and its input as it ends, and has opened something before that.
        memory.add(sight(false, &[(5, 9)], false, now));
        memory.add(sight(false, &[], false, now));
        assert_eq!(held(&mut memory, now), [(0, 7), (1, 8), (5, 9)]);
    }

    #[test]
    fn nothing_is_forgotten_before_it_was_recalled() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.add(sight(false, &[(0, 7)], true, now));
        let late = now + 2 * KEPT;
        assert_eq!(held(&mut memory, late), [(0, 7)]);
        assert_eq!(held(&mut memory, late), []);
        memory.add(sight(false, &[(0, 7)], true, now));
        assert_eq!(held(&mut memory, now), [(0, 7)]);
        assert_eq!(held(&mut memory, now), [(0, 7)], "somebody may come to its other end");
    }
}
