//! The latest snapshot of each process that may have ended before the next look at all of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pipeprof_runner::discover::Process;
use pipeprof_runner::pipeline::MemberId;

/// A process as it was at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) process: Process,
    /// It was in `exec`: the descriptors it held before were its parent's.
    pub(super) in_exec: bool,
    pub(super) at: Instant,
}

/// A snapshot that was returned once is kept for so long, for processes that open the other end of
/// a pipe later.
const KEPT: Duration = Duration::from_secs(2);

/// More processes than this are not kept.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Snapshots {
    latest: HashMap<MemberId, Latest>,
}

#[derive(Debug)]
struct Latest {
    process: Process,
    at: Instant,
    returned: bool,
}

impl Snapshots {
    /// A later snapshot of a process that has executed its program adds descriptors and removes
    /// none: a process that exits closes one after the other.
    pub(super) fn add(&mut self, snapshot: Snapshot) {
        let Snapshot { process, in_exec, at } = snapshot;
        let id = process.id();
        let Some(known) = self.latest.get_mut(&id) else {
            if self.latest.len() < MOST {
                self.latest.insert(id, Latest { process, at, returned: false });
            }
            return;
        };
        known.at = at;
        known.returned = false;
        let before = &mut known.process;
        before.calls = process.calls.or(before.calls);
        if !process.command_line.is_empty() {
            before.command_line.clone_from(&process.command_line);
        }
        before.comm.clone_from(&process.comm);
        if process.descriptors.is_empty() && !in_exec {
            return;
        }
        if in_exec || before.forked_only {
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

    /// All that are kept.
    pub(super) fn current(&mut self, now: Instant) -> Vec<Process> {
        self.latest.retain(|_, latest| {
            let is_recent = now.saturating_duration_since(latest.at) < KEPT;
            is_recent || !std::mem::replace(&mut latest.returned, true)
        });
        self.latest.values().map(|latest| latest.process.clone()).collect()
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

    fn snapshot(forked_only: bool, held: &[(i32, u64)], in_exec: bool, at: Instant) -> Snapshot {
        let descriptors = held.iter().map(|&(fd, inode)| descriptor(fd, inode)).collect();
        let process = Process { pid: 5, descriptors, forked_only, ..Process::default() };
        Snapshot { process, in_exec, at }
    }

    fn held(snapshots: &mut Snapshots, now: Instant) -> Vec<(i32, u64)> {
        let held = snapshots.current(now).into_iter().flat_map(|process| process.descriptors);
        held.map(|descriptor| (descriptor.fd, descriptor.pipe.inode)).collect()
    }

    #[test]
    fn descriptors_of_a_program_stay_and_those_of_its_parent_do_not() {
        let (mut snapshots, now) = (Snapshots::default(), Instant::now());
        snapshots.add(snapshot(true, &[(3, 7), (4, 7)], false, now));
        snapshots.add(snapshot(true, &[(0, 7)], false, now));
        assert_eq!(held(&mut snapshots, now), [(0, 7)]);
        snapshots.add(snapshot(false, &[(0, 7), (1, 8)], true, now));
        assert_eq!(held(&mut snapshots, now), [(0, 7), (1, 8)]);
        // It closes its output and its input as it ends, and has opened something before that.
        snapshots.add(snapshot(false, &[(5, 9)], false, now));
        snapshots.add(snapshot(false, &[], false, now));
        assert_eq!(held(&mut snapshots, now), [(0, 7), (1, 8), (5, 9)]);
    }

    #[test]
    fn no_snapshot_is_dropped_before_it_was_returned() {
        let (mut snapshots, now) = (Snapshots::default(), Instant::now());
        snapshots.add(snapshot(false, &[(0, 7)], true, now));
        let late = now + 2 * KEPT;
        assert_eq!(held(&mut snapshots, late), [(0, 7)]);
        assert_eq!(held(&mut snapshots, late), []);
        snapshots.add(snapshot(false, &[(0, 7)], true, now));
        assert_eq!(held(&mut snapshots, now), [(0, 7)]);
        assert_eq!(held(&mut snapshots, now), [(0, 7)], "somebody may come to its other end");
    }
}
