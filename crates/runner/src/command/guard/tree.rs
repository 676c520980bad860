//! Everything that descends from a process, found by one pass over `/proc` that allocates nothing,
//! since it runs in a child that was forked beside other threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::discover::sys as proc;
use crate::stat_line::StatLine;

/// Processes that a pass has room for. Where there are more, the next pass finds the rest, as those
/// that were found have ended by then.
const ROOM: usize = 64 * 1024;

/// Room for what `/proc/PID/stat` says up to the start time: a name of at most 64 bytes, and 22
/// numbers of at most 20 digits.
const STAT_BYTES: usize = 512;

const ENTRIES_BYTES: usize = 32 * 1024;

/// A process, told from a later one with its pid by the time at which it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    pub(super) parent: i32,
    has_ended: bool,
    descends: bool,
}

/// The processes of a pass. All memory is taken when it is made.
#[derive(Debug)]
pub(super) struct Tree {
    processes: Vec<Process>,
    entries: Vec<u8>,
}

impl Tree {
    pub(super) fn with_room() -> Self {
        Tree { processes: Vec::with_capacity(ROOM), entries: vec![0; ENTRIES_BYTES] }
    }

    /// All that descend from `root` now and have not ended.
    pub(super) fn below(&mut self, root: i32) -> impl Iterator<Item = Process> {
        self.read();
        self.processes.sort_unstable();
        // Parents mostly stand before their children, so this is two rounds.
        let mut grows = true;
        while grows {
            grows = false;
            for at in 0..self.processes.len() {
                let Some(&process) = self.processes.get(at) else { break };
                if !process.descends && (process.parent == root || self.descends(process.parent)) {
                    if let Some(process) = self.processes.get_mut(at) {
                        process.descends = true;
                    }
                    grows = true;
                }
            }
        }
        self.processes.iter().copied().filter(|process| process.descends && !process.has_ended)
    }

    fn descends(&self, pid: i32) -> bool {
        let at = self.processes.partition_point(|process| process.pid < pid);
        self.processes.get(at).is_some_and(|process| process.pid == pid && process.descends)
    }

    fn read(&mut self) {
        self.processes.clear();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(directory) = open(c"/proc", flags, Mode::empty()) else { return };
        let Tree { processes, entries } = self;
        // What was read before an error is true.
        let _ = proc::each_number(directory.as_fd(), entries, &mut |pid| {
            if processes.len() < processes.capacity()
                && let Some(process) = look_at(directory.as_fd(), pid)
            {
                processes.push(process);
            }
        });
    }
}

/// `None` where it has gone.
fn look_at(proc: BorrowedFd, pid: i32) -> Option<Process> {
    let file: OwnedFd = {
        let mut name = [0; 24];
        let path = name_of(pid, &mut name)?;
        openat(proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?
    };
    let mut text = [0; STAT_BYTES];
    let length = nix::unistd::read(&file, &mut text).ok()?;
    parse(pid, text.get(..length)?)
}

/// Whether that process, and no later one with its pid, is still there.
pub(super) fn is_there(process: Process) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(c"/proc", flags, Mode::empty())
        .ok()
        .and_then(|proc| look_at(proc.as_fd(), process.pid))
        .is_some_and(|now| now.start_ticks == process.start_ticks)
}

/// `PID/stat`, without memory from the heap.
fn name_of(pid: i32, name: &mut [u8; 24]) -> Option<&std::ffi::CStr> {
    let mut digits = [0; 10];
    let mut rest = u32::try_from(pid).ok()?;
    let mut count = 0;
    loop {
        *digits.get_mut(count)? = b'0' + (rest % 10) as u8;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let number = digits.get(..count)?.iter().rev();
    for (place, &byte) in name.iter_mut().zip(number.chain(b"/stat\0")) {
        *place = byte;
    }
    std::ffi::CStr::from_bytes_until_nul(name).ok()
}

fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let stat = StatLine::parse(stat)?;
    let has_ended = matches!(stat.state()?, 'Z' | 'X');
    let (start_ticks, parent) = (stat.start_time_ticks()?, stat.parent()?);
    Some(Process { pid, start_ticks, parent, has_ended, descends: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_without_memory_from_the_heap() {
        let mut name = [0; 24];
        assert_eq!(name_of(i32::MAX, &mut name).unwrap(), c"2147483647/stat");
        assert_eq!(name_of(1, &mut [0; 24]).unwrap(), c"1/stat");
    }

    #[test]
    fn the_descendants_are_those_of_descendants_too_and_nobody_else() {
        let own = std::process::id() as i32;
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "(sleep 60 & echo $!; wait) & wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let sleep: i32 = line.trim().parse().unwrap();
        let mut tree = Tree::with_room();
        let below: Vec<Process> = tree.below(own).collect();
        let found = below.iter().find(|process| process.pid == sleep).copied().unwrap();
        assert!(is_there(found));
        assert!(below.iter().all(|process| process.pid != own && process.pid != 1));
        assert_eq!(tree.below(sleep).count(), 0);
        let all: Vec<i32> = tree.below(shell.id() as i32).map(|process| process.pid).collect();
        assert!(all.contains(&sleep));
        for pid in all.into_iter().chain([shell.id() as i32]) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        shell.wait().unwrap();
        assert!(!is_there(Process { start_ticks: found.start_ticks + 1, ..found }));
    }
}
