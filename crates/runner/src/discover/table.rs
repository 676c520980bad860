//! What a scan saw of the processes of a machine: plain data, so that tests can state the rules as
//! tables.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::pipeline::{Link, MemberId, PipeKey};

/// What a descriptor was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    Both,
}

/// A descriptor that is a pipe or a FIFO; or one direction of a socket that is a link of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// The pipe.
    pub pipe: PipeKey,
    /// What it is.
    pub link: Link,
    /// The end.
    pub access: Access,
    /// It does not survive `exec`.
    pub close_on_exec: bool,
    /// Where a named FIFO lives.
    pub path: Option<PathBuf>,
}

/// A descriptor that is a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSocket {
    /// Its number.
    pub fd: i32,
    /// As in `socket:[88121]`.
    pub inode: u64,
}

/// One process at the moment it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Thread-group id.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group: what a shell calls a job.
    pub group: i32,
    /// Field 22 of `/proc/PID/stat`, clock ticks since boot.
    pub start_time_ticks: u64,
    /// Up to 15 bytes that the process chose.
    pub comm: String,
    /// Empty where it was not read: only processes that hold pipes or sockets are asked.
    pub command_line: Vec<String>,
    /// The pipes that it holds, and the sockets that are links.
    pub descriptors: Vec<Descriptor>,
    /// All sockets that it holds.
    pub sockets: Vec<HeldSocket>,
    /// Connections that carry data and are not followed, because it serves others too.
    pub left_out: u32,
    /// It slept in `wait` or in `sigsuspend`: for a child, as shells and `timeout` do.
    pub waits_for_child: bool,
    /// It has not executed a program since its fork (`PF_FORKNOEXEC`): a subshell, a worker.
    pub forked_only: bool,
    /// Since its fork (`syscr`, `wchar` of `/proc/PID/io`); `None` where they may not be read.
    pub calls: Option<Calls>,
    /// It has ended: what is said of its descriptors was seen earlier than that of the others.
    pub ended: bool,
}

impl Process {
    /// Who it is.
    pub fn id(&self) -> MemberId {
        MemberId { pid: self.pid, start_time: Some(self.start_time_ticks) }
    }
}

/// How often a process read, and how much it wrote, over all its descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// `read` and its like. What `ld.so` reads on start-up counts too.
    pub reads: u64,
    /// By `write` and its like.
    pub written_bytes: u64,
}

/// The processes that were seen in one pass over `/proc`.
#[derive(Clone, Debug, Default)]
pub struct ProcTable {
    processes: Vec<Process>,
    index: HashMap<i32, usize>,
    pub(super) hidden: HashSet<i32>,
    /// Processes whose descriptors may not be read: those of other users.
    pub unreadable: usize,
}

impl ProcTable {
    /// A table of these processes, and of so many more whose descriptors may not be read.
    pub fn new(mut processes: Vec<Process>, unreadable: usize) -> Self {
        processes.sort_by_key(|process| process.pid);
        let index = processes.iter().enumerate().map(|(i, process)| (process.pid, i)).collect();
        ProcTable { processes, index, hidden: HashSet::new(), unreadable }
    }

    /// By pid, ascending.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The process with this pid.
    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.position(pid).map(|at| &self.processes[at])
    }

    /// The table in which only these processes hold descriptors. The others stay in it without any,
    /// as links in the lines of descent.
    pub fn only(mut self, keep: impl Fn(&Process) -> bool) -> ProcTable {
        for process in &mut self.processes {
            if !keep(process) {
                process.descriptors.clear();
            }
        }
        self
    }

    /// The table in which these processes are no readers or writers. What they hold still
    /// shows what their children merely inherited.
    pub fn hiding(mut self, pids: impl IntoIterator<Item = i32>) -> ProcTable {
        self.hidden.extend(pids);
        self
    }

    /// Parent, grandparent and so on, as far as they were seen.
    pub fn ancestors(&self, pid: i32) -> impl Iterator<Item = i32> {
        // A parent that changes while we look could close a loop; no real line is so long.
        let parent = |&pid: &i32| self.get(pid).map(|process| process.parent).filter(|&p| p > 0);
        std::iter::successors(parent(&pid), parent).take(self.processes.len())
    }

    /// Whether `descendant` comes from `ancestor`. No process descends from itself.
    pub fn descends(&self, descendant: i32, ancestor: i32) -> bool {
        self.ancestors(descendant).any(|pid| pid == ancestor)
    }

    pub(super) fn process_mut(&mut self, at: usize) -> &mut Process {
        &mut self.processes[at]
    }

    /// The table with processes that were seen before it was made, and have ended since: what lives
    /// for less than the time between two passes joins what is still there.
    #[must_use]
    pub fn with_ended(self, seen: impl IntoIterator<Item = Process>) -> ProcTable {
        let ProcTable { mut processes, index, hidden, unreadable } = self;
        for process in seen {
            let process = Process { ended: true, waits_for_child: true, ..process };
            match index.get(&process.pid).map(|&at| &mut processes[at]) {
                None => processes.push(process),
                // It has ended, and no process has waited for it yet.
                Some(there) if there.ended && there.id() == process.id() => {
                    *there = process;
                }
                Some(_) => {}
            }
        }
        // Of those that had one pid, one after the other, the last.
        processes.sort_by_key(|process| (process.pid, process.start_time_ticks));
        processes.reverse();
        processes.dedup_by_key(|process| process.pid);
        ProcTable { hidden, ..ProcTable::new(processes, unreadable) }
    }

    pub(super) fn position(&self, pid: i32) -> Option<usize> {
        self.index.get(&pid).copied()
    }
}
