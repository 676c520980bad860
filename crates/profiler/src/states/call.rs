//! What a blocked thread asked of the kernel: `/proc/TID/syscall`, and `/proc/TID/wchan` where that
//! may not be read.

/// The system call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It runs, or waits for a CPU.
    Running,
    /// Reads from a descriptor.
    Read(i32),
    /// Writes to a descriptor.
    Write(i32),
    /// Moves from one descriptor to another.
    Move {
        from: i32,
        to: i32,
    },
    /// `poll`: an array in its memory.
    Poll {
        address: u64,
        count: u64,
    },
    /// `select`: bit sets in its memory.
    Select {
        count: u64,
        readable: u64,
        writable: u64,
    },
    /// `epoll_wait` on a descriptor.
    Epoll(i32),
    Sleep,
    Futex,
    Child,
    Signal,
    /// Receives from a socket.
    Receive(i32),
    /// Sends to a socket.
    Send(i32),
    /// Another call that only sockets know.
    Socket,
    FileLock,
    /// `fsync` and its like.
    Sync,
    /// Too many pages are dirty.
    Writeback,
    /// Blocked outside of a system call: a page fault, as a rule.
    Fault,
    /// A file is opened: of a named FIFO, that waits for its other end.
    Open,
    /// Files are looked up, listed, changed or run, none of which waits for anything but a disk.
    Files,
    /// Anything else.
    Other,
}

impl Call {
    /// Reads a line of `/proc/TID/syscall`: `running`, `-1 SP PC` or `NR A0 … A5 SP PC`
    /// (`proc_pid_syscall` in fs/proc/base.c, v6.18).
    pub(super) fn parse(text: &str) -> Option<Call> {
        let mut words = text.split_ascii_whitespace();
        let number = match words.next()? {
            "running" => return Some(Call::Running),
            number => number.parse::<i64>().ok()?,
        };
        if number < 0 {
            return Some(Call::Fault);
        }
        let mut arguments = [0u64; 6];
        for argument in &mut arguments {
            let Some(word) = words.next() else { break };
            *argument = u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
        }
        Some(of_number(number, arguments))
    }

    /// A function in which writers wait until dirty pages have gone to the disk.
    pub(super) fn is_writeback(function: &str) -> bool {
        function.contains("balance_dirty")
    }

    /// The same, as far as the one kernel function tells in which a thread sleeps. No descriptor is
    /// in it: -1.
    pub(super) fn of_wchan(function: &str) -> Call {
        let is = |words: &[&str]| words.iter().any(|word| function.contains(word));
        match function {
            "" | "0" => Call::Running,
            _ if is(&["pipe_read", "pipe_wait_readable"]) => Call::Read(-1),
            _ if is(&["pipe_write", "pipe_wait_writable"]) => Call::Write(-1),
            _ if is(&["poll", "do_select"]) => Call::Poll { address: 0, count: 0 },
            _ if is(&["futex"]) => Call::Futex,
            _ if is(&["nanosleep"]) => Call::Sleep,
            _ if is(&["do_wait", "kernel_waitid", "wait_consider"]) => Call::Child,
            _ if is(&["sigsuspend", "sigtimedwait", "pause"]) => Call::Signal,
            _ if is(&["sk_", "tcp", "unix_", "inet_", "skb", "wait_woken"]) => Call::Socket,
            _ if is(&["flock", "posix_lock", "fcntl_setlk"]) => Call::FileLock,
            _ if is(&["folio", "wait_on_page", "jbd2", "ext4", "xfs", "btrfs", "blk", "bio"]) => {
                Call::Sync
            }
            _ if Call::is_writeback(function) => Call::Writeback,
            _ if is(&["io_schedule", "rq_qos", "nfs", "request_wait"]) => Call::Sync,
            _ if is(&["fifo_open", "wait_for_partner"]) => Call::Open,
            _ => Call::Other,
        }
    }
}

/// Calls on names and folders.
const FILES: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_readahead,
];

fn of_number(number: i64, arguments: [u64; 6]) -> Call {
    // A descriptor is an int, whatever the upper half of the register holds.
    let fd = |at: usize| arguments[at] as i32;
    let [first, second, third, ..] = arguments;
    match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_preadv => {
            Call::Read(fd(0))
        }
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_pwritev => {
            Call::Write(fd(0))
        }
        libc::SYS_preadv2 => Call::Read(fd(0)),
        libc::SYS_pwritev2 | libc::SYS_vmsplice => Call::Write(fd(0)),
        libc::SYS_splice => Call::Move { from: fd(0), to: fd(2) },
        libc::SYS_tee => Call::Move { from: fd(0), to: fd(1) },
        libc::SYS_copy_file_range => Call::Move { from: fd(0), to: fd(2) },
        libc::SYS_sendfile => Call::Move { from: fd(1), to: fd(0) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => Call::Poll { address: first, count: second },
        libc::SYS_ppoll => Call::Poll { address: first, count: second },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => Call::Select { count: first, readable: second, writable: third },
        libc::SYS_pselect6 => Call::Select { count: first, readable: second, writable: third },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => Call::Epoll(fd(0)),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Call::Epoll(fd(0)),
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Call::Sleep,
        libc::SYS_futex | libc::SYS_futex_waitv => Call::Futex,
        libc::SYS_wait4 | libc::SYS_waitid => Call::Child,
        libc::SYS_rt_sigsuspend | libc::SYS_rt_sigtimedwait => Call::Signal,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pause => Call::Signal,
        libc::SYS_recvfrom | libc::SYS_recvmsg | libc::SYS_recvmmsg => Call::Receive(fd(0)),
        libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg => Call::Send(fd(0)),
        libc::SYS_accept | libc::SYS_accept4 | libc::SYS_connect => Call::Socket,
        libc::SYS_flock | libc::SYS_fcntl => Call::FileLock,
        libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_msync | libc::SYS_sync_file_range => {
            Call::Sync
        }
        libc::SYS_sync | libc::SYS_syncfs => Call::Sync,
        libc::SYS_openat | libc::SYS_openat2 => Call::Open,
        _ if FILES.contains(&number) => Call::Files,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => Call::Open,
        _ => Call::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_syscall() {
        let line = |number: i64| format!("{number} 0x5 0x7ffd0 0x2 0x0 0x0 0x0 0x7ffe 0x7f12\n");
        for (text, call) in [
            ("running\n".to_owned(), Call::Running),
            ("-1 0x7ffe 0x7f12\n".to_owned(), Call::Fault),
            (line(libc::SYS_read), Call::Read(5)),
            (line(libc::SYS_write), Call::Write(5)),
            (line(libc::SYS_ppoll), Call::Poll { address: 5, count: 0x7ffd0 }),
            (line(libc::SYS_splice), Call::Move { from: 5, to: 2 }),
            (line(libc::SYS_sendfile), Call::Move { from: 0x7ffd0, to: 5 }),
            (line(libc::SYS_recvfrom), Call::Receive(5)),
            (line(libc::SYS_sendmsg), Call::Send(5)),
            (line(libc::SYS_accept4), Call::Socket),
            (line(libc::SYS_futex), Call::Futex),
            (line(libc::SYS_epoll_pwait), Call::Epoll(5)),
            (line(libc::SYS_getdents64), Call::Files),
            (line(libc::SYS_newfstatat), Call::Files),
            (line(libc::SYS_getpid), Call::Other),
        ] {
            assert_eq!(Call::parse(&text), Some(call), "{text}");
        }
        for damaged in ["", "read 0x5", "0 5"] {
            assert_eq!(Call::parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_kernel_function_tells_the_kind_of_wait() {
        for (function, call) in [
            ("0", Call::Running),
            ("anon_pipe_read", Call::Read(-1)),
            ("pipe_wait_writable", Call::Write(-1)),
            ("poll_schedule_timeout.constprop.0", Call::Poll { address: 0, count: 0 }),
            ("futex_wait_queue", Call::Futex),
            ("hrtimer_nanosleep", Call::Sleep),
            ("do_wait", Call::Child),
            ("folio_wait_bit_common", Call::Sync),
            ("balance_dirty_pages_ratelimited_flags", Call::Writeback),
            ("something_new", Call::Other),
        ] {
            assert_eq!(Call::of_wchan(function), call, "{function}");
        }
    }
}
