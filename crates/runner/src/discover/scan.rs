//! One fast pass over `/proc`.
//!
//! Each process is read through one open `/proc/PID` directory. The kernel ties that directory to
//! the process, not to the number (`proc_pid_make_inode`, `fs/proc/base.c`, v6.18): once the process
//! is gone every read fails with ESRCH, even where the pid is in use again. So what is read of one
//! process can't be mixed up with another's, and a process that vanishes is passed over.

use crate::proc_file;
use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;

use super::error::DiscoverError;
use super::table::{Access, Calls, Descriptor, HeldSocket, ProcTable, Process};
use super::{sockets, sys};
use crate::pipeline::{Link, PipeKey};
use crate::stat_line::StatLine;

/// Room for many directory entries, and for a whole `stat`, `io` or `fdinfo`.
const BUFFER_BYTES: usize = 32 * 1024;

/// File systems on which even looking at a file may wait for a server that doesn't answer.
const REMOTE: [&str; 9] =
    ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre", "glusterfs"];

/// Reads every process of the machine.
pub(super) fn scan() -> Result<ProcTable, DiscoverError> {
    super::mounted::check_proc()?;
    let cannot_read =
        |source: Errno| DiscoverError::Proc { what: "/proc".to_owned(), source: source.into() };
    let proc =
        open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(cannot_read)?;
    check_room(proc.as_fd()).map_err(cannot_read)?;
    let mut reader = Reader::new();
    let mut pids = Vec::new();
    sys::numbers(proc.as_fd(), &mut reader.buffer, &mut pids)
        .map_err(|source| DiscoverError::Proc { what: "/proc".to_owned(), source })?;

    let mut processes = Vec::with_capacity(pids.len());
    let mut unreadable = 0;
    for pid in pids {
        // An error here is a process that has ended.
        if let Ok((process, readable)) = reader.process(proc.as_fd(), pid) {
            processes.push(process);
            unreadable += usize::from(!readable);
        }
    }
    Ok(sockets::joined(ProcTable::new(processes, unreadable)))
}

/// Descriptors that a look at one process takes at a time.
const OPEN_AT_A_TIME: usize = 5;

/// Where there are fewer, each process would look as if it had ended.
fn check_room(proc: BorrowedFd) -> nix::Result<()> {
    let held: nix::Result<Vec<OwnedFd>> =
        (0..OPEN_AT_A_TIME).map(|_| open_dir(proc, ".")).collect();
    held.map(drop)
}

/// A process and what it started, as far as the parents are still there: what a pass over all of
/// /proc would find of them, at the cost of these alone. `None` where the kernel doesn't list
/// children (`CONFIG_PROC_CHILDREN`).
pub(super) fn scan_tree(root: i32) -> Option<ProcTable> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty()).ok()?;
    if !Path::new("/proc/thread-self/children").exists() {
        return None;
    }
    let mut reader = Reader::new();
    let mut processes = Vec::new();
    let mut unreadable = 0;
    let mut pids = vec![root];
    let mut known = HashSet::from([root]);
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        next += 1;
        // An error here is a process that has ended.
        if let Ok((process, readable)) = reader.process(proc.as_fd(), pid) {
            processes.push(process);
            unreadable += usize::from(!readable);
            pids.extend(
                reader.children(proc.as_fd(), pid).into_iter().filter(|pid| known.insert(*pid)),
            );
        }
    }
    Some(sockets::joined(ProcTable::new(processes, unreadable)))
}

/// Reads single processes, at some tens of microseconds each.
#[derive(Debug)]
pub struct ProcessReader {
    proc: OwnedFd,
    reader: Reader,
}

impl ProcessReader {
    /// `None` where there is no `/proc` of ours.
    pub fn new() -> Option<ProcessReader> {
        super::mounted::check_proc().ok()?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).ok()?;
        Some(ProcessReader { proc, reader: Reader::new() })
    }

    /// A process and its descriptors now; `None` where it has ended or may not be read. With
    /// `in_exec`, nothing is read that would wait for the end of its `exec`.
    pub fn read(&mut self, pid: i32, in_exec: bool) -> Option<Process> {
        self.reader.glance(self.proc.as_fd(), pid, in_exec).ok()
    }
}

/// Buffers that are used for process after process.
#[derive(Debug)]
struct Reader {
    buffer: Vec<u8>,
    numbers: Vec<i32>,
    /// The sockets of the latest process.
    sockets: Vec<HeldSocket>,
    /// Mount points of remote file systems.
    remote: Vec<PathBuf>,
}

impl Reader {
    fn new() -> Self {
        Reader {
            buffer: vec![0; BUFFER_BYTES],
            numbers: Vec::new(),
            sockets: Vec::new(),
            remote: remote_mounts(),
        }
    }

    /// What a process holds now, without what the kernel shows only once an `exec` is over.
    fn glance(&mut self, proc: BorrowedFd, pid: i32, in_exec: bool) -> nix::Result<Process> {
        let dir = open_dir(proc, &pid.to_string())?;
        let mut stat = Stat::parse(self.read(&dir, "stat")?).ok_or(Errno::ESRCH)?;
        let mut process = Process { ended: false, ..stat.take_process(pid) };
        let (fds, infos) = (open_dir(&dir, "fd")?, open_dir(&dir, "fdinfo")?);
        self.descriptors(&fds, &infos, &mut process.descriptors)?;
        process.command_line = split_arguments(&self.read_all(&dir, "cmdline")?);
        if !in_exec {
            // This waits for an `exec` (`exec_update_lock`, do_io_accounting, fs/proc/base.c, v6.18).
            process.calls = self.read(&dir, "io").ok().and_then(parse_calls);
        }
        Ok(process)
    }

    /// The process, and whether its descriptors could be read.
    fn process(&mut self, proc: BorrowedFd, pid: i32) -> nix::Result<(Process, bool)> {
        let dir = open_dir(proc, &pid.to_string())?;
        let mut stat = Stat::parse(self.read(&dir, "stat")?).ok_or(Errno::ESRCH)?;
        let mut process = stat.take_process(pid);
        if stat.kernel_thread {
            return Ok((process, true));
        }
        let mut table = (open_dir(&dir, "fd"), open_dir(&dir, "fdinfo"));
        if stat.leader_ended {
            // The first thread has ended and dropped its descriptors; the others still have theirs.
            if let Some(task) = self.other_thread(&dir, pid) {
                table = (open_dir(&task, "fd"), open_dir(&task, "fdinfo"));
            }
        }
        let (Ok(fds), Ok(infos)) = table else { return self.closed(process, table.0.err()) };
        if let Err(error) = self.descriptors(&fds, &infos, &mut process.descriptors) {
            return self.closed(process, Some(error));
        }
        process.sockets = std::mem::take(&mut self.sockets);
        process.waits_for_child = self.read(&dir, "wchan").is_ok_and(is_wait_for_child);
        let may_be_member = !process.descriptors.is_empty() || !process.sockets.is_empty();
        if may_be_member {
            process.command_line = split_arguments(&self.read_all(&dir, "cmdline")?);
        }
        // Without an end it may have handed one down, of which this tells.
        if may_be_member || process.waits_for_child {
            process.calls = self.read(&dir, "io").ok().and_then(parse_calls);
        }
        Ok((process, true))
    }

    /// A process whose descriptors can't be read: no permission, or it has ended.
    fn closed(&self, process: Process, error: Option<Errno>) -> nix::Result<(Process, bool)> {
        match error {
            Some(Errno::EACCES | Errno::EPERM) => Ok((process, false)),
            // Its parent has not waited for it yet: it is a link in the line of descent.
            _ => Ok((process, true)),
        }
    }

    /// What the threads of a process started.
    fn children(&mut self, proc: BorrowedFd, pid: i32) -> Vec<i32> {
        let Ok(tasks) = open_dir(proc, &format!("{pid}/task")) else { return Vec::new() };
        let mut threads = std::mem::take(&mut self.numbers);
        threads.clear();
        // A process that ends meanwhile has no children any more.
        let _ = sys::numbers(tasks.as_fd(), &mut self.buffer, &mut threads);
        let mut children = Vec::new();
        for tid in &threads {
            let text = self.read_all(&tasks, &format!("{tid}/children")).unwrap_or_default();
            let text = std::str::from_utf8(&text).unwrap_or_default();
            children
                .extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        self.numbers = threads;
        children
    }

    fn other_thread(&mut self, dir: &OwnedFd, pid: i32) -> Option<OwnedFd> {
        let tasks = open_dir(dir, "task").ok()?;
        self.numbers.clear();
        sys::numbers(tasks.as_fd(), &mut self.buffer, &mut self.numbers).ok()?;
        let tid = self.numbers.iter().find(|&&tid| tid != pid)?;
        open_dir(&tasks, &tid.to_string()).ok()
    }

    fn descriptors(
        &mut self,
        fds: &OwnedFd,
        infos: &OwnedFd,
        out: &mut Vec<Descriptor>,
    ) -> nix::Result<()> {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        self.sockets.clear();
        let listed = sys::numbers(fds.as_fd(), &mut self.buffer, &mut numbers);
        for &fd in &numbers {
            // A descriptor can be closed while we look: no error.
            if let Some(descriptor) = self.descriptor(fds, infos, fd) {
                out.push(descriptor);
            }
        }
        self.numbers = numbers;
        listed.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    fn descriptor(&mut self, fds: &OwnedFd, infos: &OwnedFd, fd: i32) -> Option<Descriptor> {
        let name = CString::new(fd.to_string()).ok()?;
        // The link names anonymous pipes without touching the file behind it.
        let target = readlinkat(fds, name.as_c_str()).ok()?;
        let bytes = target.as_bytes();
        if let Some(inode) = socket_inode(bytes) {
            self.sockets.push(HeldSocket { fd, inode });
            return None;
        }
        let named = bytes.starts_with(b"/");
        let candidate =
            if named { self.may_be_fifo(Path::new(&target)) } else { bytes.starts_with(b"pipe:[") };
        if !candidate {
            return None;
        }
        let stat = sys::stat(fds.as_fd(), &name).ok().filter(|stat| stat.is_fifo)?;
        let flags = parse_flags(self.read(infos, &fd.to_string()).ok()?)?;
        Some(Descriptor {
            fd,
            pipe: PipeKey { device: stat.device, inode: stat.inode },
            link: if named { Link::Fifo } else { Link::Pipe },
            access: match flags & libc::O_ACCMODE {
                libc::O_RDONLY => Access::Read,
                libc::O_WRONLY => Access::Write,
                libc::O_RDWR => Access::Both,
                _ => return None,
            },
            close_on_exec: flags & libc::O_CLOEXEC != 0,
            path: named.then(|| fifo_path(target)),
        })
    }

    fn may_be_fifo(&self, path: &Path) -> bool {
        !path.starts_with("/dev/pts")
            && path != Path::new("/dev/null")
            && !self.remote.iter().any(|mount| path.starts_with(mount))
    }

    /// The first part of a file, which for all but `cmdline` is the whole.
    fn read(&mut self, dir: impl AsFd, name: &str) -> nix::Result<&[u8]> {
        let file = openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let length = nix::unistd::read(&file, &mut self.buffer)?;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }

    fn read_all(&mut self, dir: impl AsFd, name: &str) -> nix::Result<Vec<u8>> {
        let file = openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut whole = Vec::new();
        loop {
            let length = nix::unistd::read(&file, &mut self.buffer)?;
            if length == 0 {
                return Ok(whole);
            }
            whole.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
        }
    }
}

fn open_dir(dir: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// The parts of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: String,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) start_time_ticks: u64,
    pub(super) kernel_thread: bool,
    pub(super) forked_only: bool,
    pub(super) leader_ended: bool,
    pub(super) ended: bool,
}

impl Stat {
    /// What it tells of a process, with nothing of what that holds. Its name goes along.
    fn take_process(&mut self, pid: i32) -> Process {
        Process {
            pid,
            parent: self.parent,
            group: self.group,
            start_time_ticks: self.start_time_ticks,
            comm: std::mem::take(&mut self.comm),
            forked_only: self.forked_only,
            ended: self.ended,
            ..Process::default()
        }
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        // include/linux/sched.h, the same from v5.10 to v6.18.
        const PF_FORKNOEXEC: u64 = 0x0000_0040;
        const PF_KTHREAD: u64 = 0x0020_0000;
        let line = StatLine::parse(line)?;
        let (state, flags, threads) =
            (line.state()?, line.field::<u64>(9)?, line.field::<u64>(20)?);
        Some(Stat {
            comm: String::from_utf8_lossy(line.name).into_owned(),
            parent: line.parent()?,
            group: line.field(5)?,
            start_time_ticks: line.start_time_ticks()?,
            kernel_thread: flags & PF_KTHREAD != 0,
            forked_only: flags & PF_FORKNOEXEC != 0,
            leader_ended: state == 'Z' && threads > 1,
            ended: matches!(state, 'Z' | 'X') && threads <= 1,
        })
    }
}

/// Of `socket:[88121]`.
fn socket_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn is_wait_for_child(wchan: &[u8]) -> bool {
    ["do_wait", "sigsuspend"].iter().any(|name| wchan.starts_with(name.as_bytes()))
}

fn parse_calls(text: &[u8]) -> Option<Calls> {
    Some(Calls {
        reads: field(text, "syscr:")?.parse().ok()?,
        written_bytes: field(text, "wchar:")?.parse().ok()?,
    })
}

/// The open flags of an fdinfo, written in octal.
fn parse_flags(text: &[u8]) -> Option<i32> {
    i32::from_str_radix(field(text, "flags:")?, 8).ok()
}

fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

pub(super) fn split_arguments(bytes: &[u8]) -> Vec<String> {
    let mut bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    // A program that tells what it does in the place of its arguments (`setproctitle`) leaves the
    // rest of that place empty.
    if bytes.ends_with(b"\0\0") {
        while let Some(rest) = bytes.strip_suffix(b"\0") {
            bytes = rest;
        }
    }
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The kernel marks the path of a file that is no longer there.
fn fifo_path(target: OsString) -> PathBuf {
    let bytes = target.as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Mount points on which files are left alone; none where the list can't be read.
fn remote_mounts() -> Vec<PathBuf> {
    let table = proc_file::read("/proc/self/mountinfo").unwrap_or_default();
    String::from_utf8_lossy(&table).lines().filter_map(remote_mount).collect()
}

fn remote_mount(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let kind = right.split(' ').next()?;
    let remote = REMOTE.contains(&kind) || kind.starts_with("fuse");
    remote.then(|| left.split(' ').nth(4).map(PathBuf::from)).flatten()
}

/// Reads one process again, to see that it is still the one that was found.
pub(super) fn start_time(pid: i32) -> io::Result<u64> {
    stat_of(pid).map(|stat| stat.start_time_ticks)
}

/// Likewise, all of its line.
pub(super) fn stat_of(pid: i32) -> io::Result<Stat> {
    let stat = proc_file::read(format!("/proc/{pid}/stat"))?;
    Stat::parse(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_a_program_that_tells_what_it_does_end_where_that_ends() {
        let split = |bytes: &[u8]| split_arguments(bytes).join("|");
        assert_eq!(split(b"sort\0-k\x002\0"), "sort|-k|2");
        assert_eq!(split(b"printf\0\0"), "printf|", "an empty argument");
        assert_eq!(split(b"sshd: root@notty\0\0\0\0\0"), "sshd: root@notty");
        assert_eq!(split(b"\0\0\0"), "");
        assert_eq!(split(b""), "");
    }
}
