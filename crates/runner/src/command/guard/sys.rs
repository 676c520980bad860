//! System calls of the guardian for which no safe wrapper is at hand. All of them are
//! async-signal-safe, as it is a child that was forked and never executes.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::discover::sys::pidfd_open;
use crate::ends::Usage;
use crate::stat_line::StatLine;

/// Where [`keep_only`] puts the descriptor that is kept.
pub(super) const KEPT: RawFd = 0;

/// Closes every descriptor of this process but one, which becomes [`KEPT`].
pub(super) fn keep_only(fd: RawFd) {
    // SAFETY: this process is alone, and nothing of it uses another descriptor from here on.
    unsafe {
        if fd != KEPT {
            libc::dup2(fd, KEPT);
        }
        // Linux 5.9.
        libc::syscall(libc::SYS_close_range, KEPT + 1, libc::c_uint::MAX, 0);
    }
}

/// The descriptor that [`keep_only`] kept.
pub(super) fn kept() -> BorrowedFd<'static> {
    // SAFETY: it is open until this process ends.
    unsafe { BorrowedFd::borrow_raw(KEPT) }
}

/// Two ends of a connection that keeps the bounds of messages and tells when the other end is closed.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors, which are new and ours.
    unsafe {
        Errno::result(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Never waits, and raises no `SIGPIPE`.
pub(super) fn send(socket: BorrowedFd, message: &[u8]) -> Result<(), Errno> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let (fd, data) = (socket.as_raw_fd(), message.as_ptr().cast());
    // SAFETY: `message` is readable for its length.
    let sent = unsafe { libc::send(fd, data, message.len(), flags) };
    Errno::result(sent).map(drop)
}

/// Length of a message; 0 where the other end is closed.
pub(super) fn recv(socket: BorrowedFd, room: &mut [u8], block: bool) -> Result<usize, Errno> {
    let flags = if block { 0 } else { libc::MSG_DONTWAIT };
    let (fd, data) = (socket.as_raw_fd(), room.as_mut_ptr().cast());
    // SAFETY: `room` is writable for its length.
    let length = unsafe { libc::recv(fd, data, room.len(), flags) };
    Errno::result(length).map(|length| length as usize)
}

/// Readable when a child has ended. `SIGCHLD` must be blocked, and not ignored.
pub(super) fn children_fd() -> Result<OwnedFd, Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by `sigemptyset`, and the descriptor that comes back is new.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// A child that has ended and is waited for by this.
pub(super) struct Ended {
    pub(super) pid: i32,
    /// As `waitpid` gives it.
    pub(super) status: i32,
    pub(super) usage: Usage,
}

/// A child that has ended; `None` where none has. `ECHILD` where there is no child.
pub(super) fn reap() -> Result<Option<Ended>, Errno> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid `rusage`, which is made of integers.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: both are ours to be written to.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    match Errno::result(pid)? {
        0 => Ok(None),
        pid => Ok(Some(Ended { pid, status, usage: usage_of(&usage) })),
    }
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    let ns = |time: libc::timeval| {
        count(time.tv_sec as libc::c_long) * 1_000_000_000
            + count(time.tv_usec as libc::c_long) * 1_000
    };
    Usage {
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
    }
}

/// Sends signals to a process if `is_still_it` says so, when the pid can no longer become another's.
pub(super) fn signal(pid: i32, signals: &[Signal], is_still_it: impl FnOnce() -> bool) {
    let Ok(process) = pidfd_open(pid) else { return };
    if !is_still_it() {
        return;
    }
    for &signal in signals {
        // SAFETY: no memory is passed; a null siginfo is what `kill` sends.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                process.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }
}

/// The controlling terminal, and how it was when it was opened.
pub(super) struct Terminal {
    tty: OwnedFd,
    settings: libc::termios,
    /// The process group that was in the foreground.
    foreground: i32,
}

impl Terminal {
    /// `None` where there is none.
    pub(super) fn open() -> Option<Self> {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: a constant path; the descriptor that comes back is new, and `settings` is filled in
        // where the call says so.
        unsafe {
            let fd = libc::open(c"/dev/tty".as_ptr(), flags);
            if fd < 0 {
                return None;
            }
            let tty = OwnedFd::from_raw_fd(fd);
            let mut settings = MaybeUninit::<libc::termios>::uninit();
            if libc::tcgetattr(fd, settings.as_mut_ptr()) != 0 {
                return None;
            }
            let foreground = libc::tcgetpgrp(fd);
            Some(Terminal { tty, settings: settings.assume_init(), foreground })
        }
    }

    /// Puts it back as it was, if `group` had it then and nobody else, who lives, has it now.
    ///
    /// This process is in the background, but blocks `SIGTTOU`, so it may.
    pub(super) fn restore(&self, group: i32) {
        if self.foreground != group {
            return;
        }
        let fd = self.tty.as_raw_fd();
        // SAFETY: plain calls on our own descriptor and memory; signal 0 only asks.
        unsafe {
            let now = libc::tcgetpgrp(fd);
            if now != group {
                let is_empty = libc::kill(-now, 0) != 0
                    && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
                if !is_empty {
                    return;
                }
                libc::tcsetpgrp(fd, group);
            }
            libc::tcsetattr(fd, libc::TCSANOW, &raw const self.settings);
        }
    }
}

/// Where this process's arguments lie, as `ps` and `pkill -f` read them; `None` where `/proc` does
/// not tell. To be asked before the fork.
pub(super) fn arguments() -> Option<(usize, usize)> {
    let line = std::fs::read("/proc/self/stat").ok()?;
    let stat = StatLine::parse(&line)?;
    let (start, end) = (stat.field::<usize>(48)?, stat.field(49)?);
    (start > 0 && end > start).then_some((start, end))
}

/// Writes `name` over them: who kills pipeprof by its command line does not mean its guardian.
///
/// # Safety
///
/// They are where [`arguments`] says, and nothing of this process reads them any more.
pub(super) unsafe fn rename((start, end): (usize, usize), name: &[u8]) {
    for at in 0..end - start {
        let byte = name.get(at).copied().unwrap_or(0);
        // SAFETY: the caller's promise; the kernel maps them writable, as the stack that they lie on.
        unsafe { *((start + at) as *mut u8) = byte };
    }
}

/// Ends this process at once.
pub(super) fn exit() -> ! {
    // SAFETY: nothing is left to be done.
    unsafe { libc::_exit(0) }
}
