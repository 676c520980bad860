//! How large the pipes of a pipeline are, and how full.
//!
//! Only a descriptor for the pipe tells, so one is opened and closed again within microseconds:
//!
//! - The path is first taken with `O_PATH`, which touches no pipe, and compared with the pipe that
//!   was found. So nothing else that has meanwhile got the number is ever opened.
//! - Named FIFOs are left alone: opening one completes another's `open` that waits for a partner.
//! - The read end is opened, not the write end: a held write end would hide end of file from the
//!   reader, which every pipeline comes to. A held read end hides a reader's death from the writer, which
//!   is rarer, and both end with `close`: it wakes the sleeper (`pipe_release`, `fs/pipe.c`, v6.18).
//!   What the members then see is what they would have seen had the other end closed those
//!   microseconds later.
//! - `SIGTSTP` (Ctrl-Z) is held back meanwhile, so that we are not stopped with the pipe in hand.
//! - Both questions take the pipe's mutex, which a member that splices to a slow file can hold for
//!   long. That member is itself at the pipe's end, so nothing is hidden while it has the mutex.
//!
//! `pidfd_getfd` is no milder: the copy keeps the end open just the same, and asks for more rights.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::stat::{Mode, fstat};
use serde::Serialize;

use super::sys;
use super::topology::Found;
use crate::pipeline::Pipe;

/// How large a pipe is, and how full it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    /// `F_GETPIPE_SZ`: its slots times the page size.
    pub capacity_bytes: u64,
    /// `FIONREAD`: bytes waiting in it. Can exceed the capacity where huge pages were spliced, and
    /// is less than the capacity of a full pipe whose slots hold less than a page each.
    pub fill_bytes: u64,
}

impl Found {
    /// The level of each pipe, in the order of the pipeline's; `None` for a named FIFO, a pipe that is
    /// gone, and one that belongs to another user.
    pub fn levels(&self) -> Vec<Option<Level>> {
        let pipes = self.pipeline.pipes.iter().zip(&self.handles);
        pipes.map(|(pipe, &(pid, fd))| measure(pipe, pid, fd)).collect()
    }
}

fn measure(pipe: &Pipe, pid: i32, fd: i32) -> Option<Level> {
    if pipe.path.is_some() {
        return None;
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let path =
        openat(AT_FDCWD, format!("/proc/{pid}/fd/{fd}").as_str(), flags, Mode::empty()).ok()?;
    let stat = fstat(&path).ok()?;
    if (stat.st_dev, stat.st_ino) != (pipe.device, pipe.inode) {
        return None;
    }
    let _unstopped = Unstopped::begin();
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let own = format!("/proc/self/fd/{}", path.as_raw_fd());
    let end = File::from(openat(AT_FDCWD, own.as_str(), flags, Mode::empty()).ok()?);
    let capacity = fcntl(&end, FcntlArg::F_GETPIPE_SZ).ok();
    let fill_bytes = sys::bytes_in_pipe(end.as_fd()).ok();
    drop(end);
    Some(Level { capacity_bytes: u64::try_from(capacity?).ok()?, fill_bytes: fill_bytes? })
}

/// Holds `SIGTSTP` back in this thread until dropped.
struct Unstopped(Option<SigSet>);

impl Unstopped {
    fn begin() -> Self {
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTSTP);
        Unstopped(stop.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Unstopped {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            // The mask was a thread's mask before, so it can be one again.
            let _ = before.thread_set_mask();
        }
    }
}
