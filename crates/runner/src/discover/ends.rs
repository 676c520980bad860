//! Which processes count as the ends of a pipe, among all that hold a descriptor for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use super::table::{Access, Descriptor, ProcTable, Process};
use crate::pipeline::{Link, PipeKey};

/// Read calls that a program makes before its own code runs (`ld.so`, locales): a shell that waits
/// for its children has made no more. Bash 5.2 on Debian 12 makes 11.
const START_UP_READS: u64 = 16;

/// Bytes that a program's parent may make it write before it executes: between fork and exec libuv
/// (Node 20) unlocks its signal handlers with one (`uv__signal_unlock`, src/unix/signal.c).
const START_UP_BYTES: u64 = 1;

/// The processes, as positions in the table, that count at a pipe's ends. Ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) writers: Vec<usize>,
    pub(super) readers: Vec<usize>,
    pub(super) link: Link,
    pub(super) path: Option<PathBuf>,
}

/// Every pipe that joins two processes, and the shells that only wait around them.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) pipes: BTreeMap<PipeKey, Ends>,
    /// Per process, the pipes at whose write end it counts.
    pub(super) writes: HashMap<usize, Vec<PipeKey>>,
    /// Per process, the pipes at whose read end it counts.
    pub(super) reads: HashMap<usize, Vec<PipeKey>>,
    /// Processes that wait while a child of theirs uses the same ends, with those pipes.
    pub(super) wrappers: HashMap<usize, Vec<PipeKey>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Write,
    Read,
}

/// One process's descriptors for one end of one pipe.
struct Holder<'a> {
    at: usize,
    fds: Vec<&'a Descriptor>,
}

impl Links {
    pub(super) fn find(table: &ProcTable) -> Self {
        let mut held: BTreeMap<PipeKey, BTreeMap<usize, Vec<&Descriptor>>> = BTreeMap::new();
        for (at, process) in table.processes().iter().enumerate() {
            for descriptor in &process.descriptors {
                held.entry(descriptor.pipe).or_default().entry(at).or_default().push(descriptor);
            }
        }

        let mut links = Links::default();
        for (key, holders) in held {
            if let Some(ends) = count(table, holders) {
                links.pipes.insert(key, ends);
            }
        }
        links.set_wrappers_apart(table);
        links.index();
        links
    }

    /// Moves processes that only wait, while a descendant holds each of their ends too, from the
    /// ends to [`Links::wrappers`].
    fn set_wrappers_apart(&mut self, table: &ProcTable) {
        let mut ends_of: HashMap<usize, Vec<(PipeKey, Side)>> = HashMap::new();
        for (&key, ends) in &self.pipes {
            for (side, holders) in [(Side::Write, &ends.writers), (Side::Read, &ends.readers)] {
                for &at in holders {
                    ends_of.entry(at).or_default().push((key, side));
                }
            }
        }
        let processes = table.processes();
        for (at, held) in ends_of {
            let process = &processes[at];
            let shared = |&(key, side): &(PipeKey, Side)| {
                let ends = &self.pipes[&key];
                let holders = if side == Side::Write { &ends.writers } else { &ends.readers };
                holders.iter().any(|&other| table.descends(processes[other].pid, process.pid))
            };
            if only_waits(process) && held.iter().all(shared) {
                let mut keys: Vec<PipeKey> = held.iter().map(|&(key, _)| key).collect();
                keys.dedup();
                self.wrappers.insert(at, keys);
            }
        }
        let wrappers = &self.wrappers;
        for ends in self.pipes.values_mut() {
            ends.writers.retain(|at| !wrappers.contains_key(at));
            ends.readers.retain(|at| !wrappers.contains_key(at));
        }
    }

    fn index(&mut self) {
        self.pipes.retain(|_, ends| ends.join_two());
        for (&key, ends) in &self.pipes {
            for &at in &ends.writers {
                self.writes.entry(at).or_default().push(key);
            }
            for &at in &ends.readers {
                self.reads.entry(at).or_default().push(key);
            }
        }
    }
}

impl Ends {
    fn join_two(&self) -> bool {
        !self.writers.is_empty() && !self.readers.is_empty()
    }
}

/// Evidence that a process has used none of its ends and is not about to. What it read and wrote
/// since its fork counts, whatever the descriptor: a loop that read its first line has not written yet.
pub(super) fn only_waits(process: &Process) -> bool {
    let (reads, bytes) =
        if process.forked_only { (0, 0) } else { (START_UP_READS, START_UP_BYTES) };
    let Some(calls) = process.calls else { return process.ended };
    process.waits_for_child && calls.written_bytes <= bytes && calls.reads <= reads
}

/// The holders that count at each end, or `None` if the pipe joins no two processes.
fn count(table: &ProcTable, held: BTreeMap<usize, Vec<&Descriptor>>) -> Option<Ends> {
    let processes = table.processes();
    let path = held.values().flatten().find_map(|descriptor| descriptor.path.clone());
    let link = held.values().flatten().map(|descriptor| descriptor.link).next().unwrap_or_default();
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    let mut newborn = Vec::new();
    for (at, fds) in held {
        let writes = fds.iter().any(|d| d.access != Access::Read);
        let reads = fds.iter().any(|d| d.access != Access::Write);
        match (writes, reads) {
            // Seen right after its birth only, it holds what its parent was about to hand down.
            (true, true) if processes[at].ended && processes[at].forked_only => {
                newborn.push(Holder { at, fds });
            }
            // A self-pipe, a job server, a shell between two forks: no flow can be told from it.
            (true, true) => {}
            (true, false) => writers.push(Holder { at, fds }),
            (false, true) => readers.push(Holder { at, fds }),
            (false, false) => {}
        }
    }
    // A shell starts the writer of a pipe while it holds both ends, and the reader without the write
    // end: a process that was born with both, when no other wrote, is the writer.
    if writers.is_empty() && newborn.len() == 1 {
        writers = newborn;
    }
    if writers.is_empty() || readers.is_empty() {
        return None;
    }
    drop_log_writers(table, &mut writers, &readers);
    drop_leaks(table, &mut writers, Side::Write, path.is_some());
    drop_leaks(table, &mut readers, Side::Read, path.is_some());
    drop_makers(table, &mut writers, Side::Write, &readers);
    drop_makers(table, &mut readers, Side::Read, &writers);

    let places = |holders: &[Holder]| {
        let places = holders.iter().map(|holder| holder.at);
        places.filter(|&at| !table.hidden.contains(&processes[at].pid)).collect()
    };
    let ends = Ends { writers: places(&writers), readers: places(&readers), link, path };
    ends.join_two().then_some(ends)
}

/// Leaves out the writers that hold the pipe as stderr only, except the one writer of a pipe whose
/// reader did not start it: `a 2>&1 >/dev/null | grep`.
fn drop_log_writers(table: &ProcTable, writers: &mut Vec<Holder>, readers: &[Holder]) {
    let processes = table.processes();
    if let [writer] = writers.as_slice() {
        let pid = processes[writer.at].pid;
        let captured = readers.iter().any(|r| table.descends(pid, processes[r.at].pid));
        if !captured {
            return;
        }
    }
    writers.retain(|writer| writer.fds.iter().any(|descriptor| descriptor.fd != 2));
}

/// Leaves out the holders that merely inherited their descriptor.
fn drop_leaks(table: &ProcTable, holders: &mut Vec<Holder>, side: Side, named: bool) {
    let processes = table.processes();
    let numbers: HashSet<(i32, i32)> = holders
        .iter()
        .flat_map(|holder| holder.fds.iter().map(|d| (processes[holder.at].pid, d.fd)))
        .collect();
    let inherited = |holder: &Holder| {
        table
            .ancestors(processes[holder.at].pid)
            .any(|ancestor| holder.fds.iter().all(|d| numbers.contains(&(ancestor, d.fd))))
    };
    let is_meant = |holder: &Holder| {
        let process = &processes[holder.at];
        let made_here = holder.fds.iter().any(|d| d.close_on_exec) && !inherited(holder);
        made_here || holder.fds.iter().any(|d| is_expected(process, d.fd, side))
    };
    let meant: HashSet<usize> = holders.iter().filter(|h| is_meant(h)).map(|h| h.at).collect();
    // FIFOs are never opened by accident: there, only inheritance shows a leak.
    if !meant.is_empty() && !named {
        holders.retain(|holder| meant.contains(&holder.at));
    } else {
        let kept: HashSet<usize> = holders
            .iter()
            .filter(|holder| meant.contains(&holder.at) || !inherited(holder))
            .map(|holder| holder.at)
            .collect();
        holders.retain(|holder| kept.contains(&holder.at));
    }
}

/// Leaves out a shell between two forks: it holds one end for what it starts next, while all at the
/// other end, which it started, were seen at another moment and have ended.
fn drop_makers(table: &ProcTable, holders: &mut Vec<Holder>, side: Side, others: &[Holder]) {
    let processes = table.processes();
    holders.retain(|holder| {
        let process = &processes[holder.at];
        let means = |d: &&Descriptor| d.close_on_exec || is_expected(process, d.fd, side);
        let made = |other: &Holder| {
            let other = &processes[other.at];
            other.ended && table.descends(other.pid, process.pid)
        };
        holder.fds.iter().any(means) || !others.iter().all(made)
    });
}

/// Whether a descriptor is where its process looks for it: stdin, stdout, or named on the command
/// line (`/dev/fd/63`, what a process substitution becomes).
fn is_expected(process: &Process, fd: i32, side: Side) -> bool {
    let usual = match side {
        Side::Write => 1,
        Side::Read => 0,
    };
    fd == usual || is_named(process, fd)
}

fn is_named(process: &Process, fd: i32) -> bool {
    process.command_line.iter().any(|argument| {
        ["/dev/fd/", "/proc/self/fd/"].iter().any(|directory| {
            argument.split(directory).skip(1).any(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                rest[..end].parse() == Ok(fd)
            })
        })
    })
}
