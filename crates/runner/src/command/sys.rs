//! The child between `fork` and `exec`, where only async-signal-safe calls are allowed.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;

use crate::{access, signals};

/// What a shell returns for a command that it couldn't execute. Seen only where the launcher ended
/// before the gate opened.
const NOT_EXECUTED: c_int = 127;

const SHELL: &CStr = c"/bin/sh";

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// All that the child needs, made before the fork because it may not allocate.
pub(super) struct Plan {
    paths: Vec<CString>,
    argv: Vec<*const c_char>,
    /// For a script without `#!`: `sh`, a place for its path, its arguments.
    script_argv: Vec<*const c_char>,
    /// Keeps what `argv` points to.
    _arguments: Vec<CString>,
}

/// The child's last words where it could not execute: an errno, and which of the paths it concerns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) errno: i32,
    pub(super) path: usize,
}

impl Report {
    pub(super) const BYTES: usize = 8;

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.errno.to_ne_bytes());
        bytes[4..].copy_from_slice(&(self.path as u32).to_ne_bytes());
        bytes
    }

    pub(super) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Report {
            errno: i32::from_ne_bytes([a, b, c, d]),
            path: u32::from_ne_bytes([e, f, g, h]) as usize,
        }
    }
}

impl Plan {
    /// `paths` are tried in turn, as `execvp` tries the directories of `PATH`.
    pub(super) fn new(paths: Vec<CString>, arguments: Vec<CString>) -> Self {
        let pointers = || arguments.iter().map(|argument| argument.as_ptr());
        let argv = pointers().chain([ptr::null()]).collect();
        let script_argv = [SHELL.as_ptr(), ptr::null()].into_iter();
        let script_argv = script_argv.chain(pointers().skip(1)).chain([ptr::null()]).collect();
        Plan { paths, argv, script_argv, _arguments: arguments }
    }

    /// Forks a process that is to be the command's guardian: there `guard` runs, which gets what
    /// forks the command, and never returns. The command waits at `gate` for one byte and then
    /// executes. It never returns without executing: it ends when the other end of `gate` is closed,
    /// or with its guardian. The pid of the guardian.
    pub(super) fn spawn(
        &mut self,
        gate: RawFd,
        our_end: RawFd,
        guard: impl FnOnce(&mut dyn FnMut() -> Result<i32, Errno>) -> Infallible,
    ) -> Result<i32, Errno> {
        let private = close_on_exec();
        // SAFETY: all-zero bytes are a valid `sigset_t`, which is made of integers.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { zeroed() };
        // No handler of ours may run in a child, so signals wait until it has reset them.
        // SAFETY: both sets are valid and ours.
        let blocked = unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before)
        };
        if blocked != 0 {
            return Err(Errno::from_raw(blocked));
        }
        // SAFETY: the child calls only `guard`, which keeps to async-signal-safe calls.
        let pid = Errno::result(unsafe { libc::fork() });
        if pid == Ok(0) {
            // SAFETY: getpid has no preconditions.
            let guardian = unsafe { libc::getpid() };
            let mut fork = || {
                // SAFETY: as above; the grandchild calls only `run`.
                let pid = Errno::result(unsafe { libc::fork() })?;
                if pid == 0 {
                    // SAFETY: this is the child just forked, with all signals blocked; the
                    // descriptors and sets are valid in it.
                    unsafe { self.run(gate, our_end, &private, guardian, &before) }
                }
                Ok(pid)
            };
            guard(&mut fork);
        }
        // SAFETY: `before` was filled in above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
        pid
    }

    /// # Safety
    ///
    /// To be called in a child right after `fork`, with all signals blocked.
    unsafe fn run(
        &mut self,
        gate: RawFd,
        our_end: RawFd,
        private: &[RawFd],
        parent: libc::pid_t,
        mask: &libc::sigset_t,
    ) -> ! {
        // SAFETY: plain system calls on descriptors and memory that this child owns; none
        // allocates or takes a lock.
        unsafe {
            // With our copy of the other end open the gate would never see it close.
            libc::close(our_end);
            // Nor may it keep anything else of ours open while it waits: a pipe's end, a file that
            // is to be executed.
            for &fd in private {
                if fd != gate {
                    libc::close(fd);
                }
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent {
                libc::_exit(NOT_EXECUTED);
            }
            // The command won't have them, and the profiler has to look at this child.
            access::give_up();
            signals::sys::restore();
            libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut());

            let mut byte = 0_u8;
            loop {
                match libc::read(gate, (&raw mut byte).cast(), 1) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    _ => libc::_exit(NOT_EXECUTED),
                }
            }
            let report = self.execute().encode();
            libc::send(gate, report.as_ptr().cast(), report.len(), libc::MSG_NOSIGNAL);
            libc::_exit(NOT_EXECUTED)
        }
    }

    /// Executes the first path that can be, as `execvp` does; returns only on failure.
    ///
    /// # Safety
    ///
    /// To be called in a child after `fork`.
    unsafe fn execute(&mut self) -> Report {
        let mut report = Report { errno: libc::ENOENT, path: 0 };
        for (index, path) in self.paths.iter().enumerate() {
            // SAFETY: `argv` and `environ` end in NULL and point to C strings that live on.
            let errno = unsafe {
                libc::execve(path.as_ptr(), self.argv.as_ptr(), environ);
                *libc::__errno_location()
            };
            match errno {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => report = Report { errno, path: index },
                libc::ENOEXEC => {
                    if let Some(place) = self.script_argv.get_mut(1) {
                        *place = path.as_ptr();
                    }
                    // SAFETY: as above.
                    let errno = unsafe {
                        libc::execve(SHELL.as_ptr(), self.script_argv.as_ptr(), environ);
                        *libc::__errno_location()
                    };
                    return Report { errno, path: index };
                }
                _ => return Report { errno, path: index },
            }
        }
        report
    }
}

/// The descriptors that the command would not get anyway; none where `/proc` is not there.
fn close_on_exec() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // SAFETY: F_GETFD passes no memory, and fails for a descriptor that is closed by now.
    let flags = |fd: RawFd| unsafe { libc::fcntl(fd, libc::F_GETFD) };
    open.filter(|&fd| flags(fd) > 0).collect()
}
