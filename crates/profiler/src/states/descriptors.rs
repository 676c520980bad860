//! What the descriptors of a process refer to, as far as its threads wait for them.

use pipeprof_runner::proc_file;
use std::fs;
use std::io::{IoSliceMut, Result as IoResult};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pipeprof_runner::pipeline::PipeKey;
use rustc_hash::{FxHashMap, FxHashSet};

use super::timeline::Why;

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Pipe(PipeKey),
    /// A socket with this inode, which may be a link of the pipeline.
    Socket(u64),
    /// Neither: what a wait for it is.
    Else(Why),
}

/// A descriptor that a thread polls, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) fd: i32,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// The descriptors of one process, each read when it is first waited for. Numbers are given to
/// other files, so it is [forgotten](Self::forget) a few times a second.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    targets: FxHashMap<i32, Target>,
    epolls: FxHashMap<i32, Vec<Interest>>,
    /// Its sockets, also those that are closed by now.
    sockets: FxHashSet<u64>,
}

/// More sockets of one process are not remembered.
const MOST_SOCKETS: usize = 64;

/// Sockets are looked for among so many of the descriptors: of servers with more, those are known at
/// which a thread waits.
const MOST_LISTED: usize = 64;

/// More descriptors than this are not looked at in one poll.
const MOST_POLLED: usize = 64;

impl Descriptors {
    pub(super) fn forget(&mut self) {
        self.targets.clear();
        self.epolls.clear();
    }

    pub(super) fn target(&mut self, pid: i32, fd: i32) -> Target {
        let sockets = &mut self.sockets;
        *self.targets.entry(fd).or_insert_with(|| {
            let target = read_target(pid, fd);
            if let Target::Socket(inode) = target
                && sockets.len() < MOST_SOCKETS
            {
                sockets.insert(inode);
            }
            target
        })
    }

    /// Takes up its sockets, at which no thread may ever wait: those that it sends little to.
    pub(super) fn find_sockets(&mut self, pid: i32) {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
        for entry in entries.take(MOST_LISTED).flatten() {
            if self.sockets.len() >= MOST_SOCKETS {
                return;
            }
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            self.sockets.extend(socket_inode(&link.to_string_lossy()));
        }
    }

    /// The sockets that it has, or had.
    pub(super) fn sockets(&self) -> &FxHashSet<u64> {
        &self.sockets
    }

    pub(super) fn epoll(&mut self, pid: i32, fd: i32) -> Vec<Interest> {
        let interests = self.epolls.entry(fd).or_insert_with(|| {
            let text =
                proc_file::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
            parse_epoll(&text)
        });
        interests.clone()
    }
}

/// `socket:[88121]`.
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.trim_end_matches(']').parse().ok()
}

fn read_target(pid: i32, fd: i32) -> Target {
    let path = format!("/proc/{pid}/fd/{fd}");
    // A link never waits for a file server, as `stat` can.
    let Ok(link) = fs::read_link(&path) else { return Target::Else(Why::Other) };
    let link = link.to_string_lossy();
    if link.starts_with("socket:[") {
        return socket_inode(&link).map_or(Target::Else(Why::Network), Target::Socket);
    }
    if let Some(kind) = link.strip_prefix("anon_inode:") {
        return Target::Else(match kind.trim_matches(['[', ']']) {
            "timerfd" => Why::Timer,
            "eventfd" => Why::Thread,
            "signalfd" => Why::Signal,
            _ => Why::Other,
        });
    }
    if link.starts_with("/dev/pts/") || link.starts_with("/dev/tty") || link == "/dev/console" {
        return Target::Else(Why::Terminal);
    }
    let Ok(data) = fs::metadata(&path) else { return Target::Else(Why::Other) };
    let kind = data.file_type();
    if kind.is_fifo() {
        Target::Pipe(PipeKey { device: data.dev(), inode: data.ino() })
    } else if kind.is_file() || kind.is_block_device() || kind.is_dir() {
        Target::Else(Why::Disk)
    } else {
        Target::Else(Why::Other)
    }
}

/// The descriptors in an array of `struct pollfd` in the memory of a process.
pub(super) fn polled(pid: i32, address: u64, count: u64) -> IoResult<Vec<Interest>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MOST_POLLED);
    let bytes = read_memory(pid, address, count * 8)?;
    let (entries, _) = bytes.as_chunks::<8>();
    let interest = |entry: &[u8; 8]| {
        let [a, b, c, d, e, f, _, _] = *entry;
        let events = i16::from_ne_bytes([e, f]);
        Interest {
            fd: i32::from_ne_bytes([a, b, c, d]),
            readable: events & (libc::POLLIN | libc::POLLRDNORM) != 0,
            writable: events & (libc::POLLOUT | libc::POLLWRNORM) != 0,
        }
    };
    Ok(entries.iter().map(interest).filter(|interest| interest.fd >= 0).collect())
}

/// The descriptors in two `fd_set`s in the memory of a process, of which either may be absent (0).
pub(super) fn selected(
    pid: i32,
    count: u64,
    readable: u64,
    writable: u64,
) -> IoResult<Vec<Interest>> {
    let count = count.min(1024) as usize;
    // The kernel takes whole longs.
    let length = count.div_ceil(64) * 8;
    let set = |address: u64| match address {
        0 => Ok(vec![0; length]),
        address => read_memory(pid, address, length),
    };
    let (readable, writable) = (set(readable)?, set(writable)?);
    let has = |set: &[u8], fd: usize| set.get(fd / 8).is_some_and(|byte| byte >> (fd % 8) & 1 == 1);
    let interest = |fd: usize| Interest {
        fd: fd as i32,
        readable: has(&readable, fd),
        writable: has(&writable, fd),
    };
    let asked = |interest: &Interest| interest.readable || interest.writable;
    Ok((0..count).map(interest).filter(asked).take(MOST_POLLED).collect())
}

fn read_memory(pid: i32, address: u64, length: usize) -> IoResult<Vec<u8>> {
    let mut bytes = vec![0; length];
    if length == 0 {
        return Ok(bytes);
    }
    let base = usize::try_from(address).unwrap_or_default();
    let remote = [RemoteIoVec { base, len: length }];
    let read = process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(&mut bytes)], &remote)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The lines `tfd: … events: …` of an epoll descriptor's fdinfo (`ep_show_fdinfo` in
/// fs/eventpoll.c, v6.18).
fn parse_epoll(text: &str) -> Vec<Interest> {
    let interest = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
        let fd = words.next()?.parse().ok()?;
        let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        let readable = events & libc::EPOLLIN as u32 != 0;
        // Edge-triggered sets name both directions once and for all, whatever is waited for now.
        let edges = events & libc::EPOLLET as u32 != 0;
        let writable = events & libc::EPOLLOUT as u32 != 0 && !(edges && readable);
        Some(Interest { fd, readable, writable })
    };
    text.lines().filter_map(interest).take(MOST_POLLED).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn own_pid() -> i32 {
        std::process::id() as i32
    }

    #[test]
    fn descriptors_tell_pipes_from_files_and_sockets() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let file = tempfile::tempfile().unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut known = Descriptors::default();
        let mut target = |fd: &dyn AsRawFd| known.target(own_pid(), fd.as_raw_fd());
        assert!(matches!(target(&reader), Target::Pipe(PipeKey { inode, .. }) if inode > 0));
        assert_eq!(target(&file), Target::Else(Why::Disk));
        let inode = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
        assert_eq!(target(&socket), Target::Socket(inode));
    }

    #[test]
    fn the_sets_of_poll_and_select_are_read_from_memory() {
        let polls = [
            libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: 1, events: libc::POLLOUT, revents: 0 },
        ];
        let found = polled(own_pid(), polls.as_ptr().addr() as u64, polls.len() as u64).unwrap();
        let read = Interest { fd: 0, readable: true, writable: false };
        let write = Interest { fd: 1, readable: false, writable: true };
        assert_eq!(found, [read, write]);
        let mut readable = [0u64; 16];
        readable[1] = 1 << 6;
        let found = selected(own_pid(), 71, readable.as_ptr().addr() as u64, 0).unwrap();
        assert_eq!(found, [Interest { fd: 70, readable: true, writable: false }]);
        assert_eq!(selected(own_pid(), 0, 0, 0).unwrap(), []);
    }

    #[test]
    fn an_epoll_set_is_read_from_fdinfo() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\n\
                    tfd:       12 events:       19 data:                c  pos:0 ino:1 sdev:e\n\
                    tfd:        1 events: 80000005 data:                1  pos:0 ino:2 sdev:e\n\
                    tfd:        4 events:        4 data:                4  pos:0 ino:3 sdev:e\n";
        let interest = |fd, readable, writable| Interest { fd, readable, writable };
        assert_eq!(
            parse_epoll(text),
            [interest(12, true, false), interest(1, true, false), interest(4, false, true)]
        );
    }
}
