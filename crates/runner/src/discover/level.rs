//! How large the pipes of a pipeline are, and how full.
//!
//! The kernel reports the fill of sockets to any process ([`sock_diag`](crate::sock_diag)). The
//! fill of a pipe can only be read through a descriptor for it, so one is opened and closed again
//! within microseconds. An open descriptor counts as one more end of the pipe, so a process of its
//! own that nothing can stop meanwhile does this (`looker.rs`), and only while it makes no
//! difference:
//!
//! - Named FIFOs are left alone: opening one completes another's `open` that waits for a partner.
//! - The read end is opened, not the write end: a held write end would hide end of file from the
//!   reader, which every pipeline comes to. A held read end hides a reader's death from the writer,
//!   which is rarer, and both end with `close`: it wakes the sleeper (`pipe_release`, `fs/pipe.c`,
//!   v6.18). What the members then see is what they would have seen had the other end closed those
//!   microseconds later.
//! - A writer and a reader must still hold their ends. Once one side has gone, each `close` of ours
//!   would wake the other, and send it `SIGIO` if it asked for that.
//! - A pipe with a reader or a writer that asked for `SIGIO` (`O_ASYNC`) is left alone.
//!
//! `pidfd_getfd` is no milder: the copy keeps the end open just the same, and asks for more rights.
//! [`never_look`] turns all of this off.

use crate::proc_file;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::fstatat;

use super::looker::{self, Answer, Level, Look, Question};
use super::topology::{Ends, Found};
use crate::pipeline::{Link, Pipe};
use crate::sock_diag::SockDiag;

static NEVER: AtomicBool = AtomicBool::new(false);

/// From here on this process opens no pipe of another: all levels are unknown.
pub fn never_look() {
    NEVER.store(true, Ordering::Relaxed);
}

impl Found {
    /// The level of each pipe, in the order of the pipeline's; `None` for a named FIFO, a pipe whose
    /// writers or readers are gone, one of another user, and one that may not be looked at unnoticed.
    pub fn levels(&self) -> Vec<Option<Level>> {
        self.looks().into_iter().map(|look| look.map(|look| look.level)).collect()
    }

    /// Likewise, with what each look took.
    pub fn looks(&self) -> Vec<Option<Look>> {
        let pipes: Vec<(&Pipe, &Ends)> = self.pipeline.pipes.iter().zip(&self.ends).collect();
        // Who holds a pipe must still be true when the looker comes to it, so not all are asked first.
        let looks = pipes.chunks(looker::AT_ONCE).flat_map(|some| {
            let questions: Vec<_> = some.iter().map(|(pipe, ends)| question(pipe, ends)).collect();
            looks_at(&questions)
        });
        looks.zip(self.sockets()).map(|(pipe, socket)| pipe.or(socket)).collect()
    }

    /// The looks at those links that are sockets.
    fn sockets(&self) -> Vec<Option<Look>> {
        let pipes = &self.pipeline.pipes;
        if !pipes.iter().any(|pipe| pipe.link.is_socket()) {
            return vec![None; pipes.len()];
        }
        let Ok(mut diag) = SockDiag::open() else { return vec![None; pipes.len()] };
        let level = |pipe: &Pipe| {
            let level = socket_level(pipe, &mut diag)?;
            Some(Look { level, held_ns: 0 })
        };
        pipes.iter().map(level).collect()
    }
}

fn looks_at(questions: &[Option<Question>]) -> Vec<Option<Look>> {
    let asked: Vec<Question> = questions.iter().copied().flatten().collect();
    if asked.is_empty() {
        return vec![None; questions.len()];
    }
    let mut answers = looker::ask(&asked).into_iter().map(Answer::look);
    questions.iter().map(|question| question.and_then(|_| answers.next().flatten())).collect()
}

/// By the memory of what was sent and not taken: a writer waits for space by that, and not by bytes.
fn socket_level(pipe: &Pipe, diag: &mut SockDiag) -> Option<Level> {
    let (used, limit) = match pipe.link {
        Link::Pipe | Link::Fifo => return None,
        Link::Unix { sender } => {
            let memory = diag.unix_with(sender)?.memory;
            (memory.sent, memory.send_limit)
        }
        // What was sent waits on both sides.
        Link::Tcp { sender, from, to } => {
            let near = diag.tcp_with(from, to).filter(|socket| socket.inode == sender)?;
            let far = diag.tcp_with(to, from).filter(|socket| socket.inode == pipe.inode)?;
            let (near, far) = (near.memory, far.memory);
            let limit = near.send_limit + far.receive_limit;
            // A writer waits while less is free than half of what is queued
            // (`sk_stream_is_writeable`, include/net/sock.h, v6.18), whatever the reader's side holds.
            let is_writable = near.send_limit.saturating_sub(near.sent) >= near.sent / 2;
            (if is_writable { near.sent + far.received } else { limit }, limit)
        }
    };
    (limit > 0).then_some(Level { capacity_bytes: limit, fill_bytes: used.min(limit) })
}

/// `None` where the pipe is better left alone.
fn question(pipe: &Pipe, ends: &Ends) -> Option<Question> {
    if pipe.path.is_some() || pipe.link.is_socket() || NEVER.load(Ordering::Relaxed) {
        return None;
    }
    let holds = |&&(pid, fd): &&(i32, i32)| {
        fstatat(AT_FDCWD, format!("/proc/{pid}/fd/{fd}").as_str(), AtFlags::empty())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (pipe.device, pipe.inode))
    };
    ends.writers.iter().find(holds)?;
    let &(pid, fd) = ends.readers.iter().find(holds)?;
    let wants_signals = |&(pid, fd): &(i32, i32)| {
        proc_file::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))
            .is_ok_and(|info| is_async(&info))
    };
    let is_noticed = ends.writers.iter().chain(&ends.readers).any(wants_signals);
    let Pipe { device, inode, .. } = *pipe;
    (!is_noticed).then_some(Question { pid, fd, device, inode, set_bytes: 0 })
}

/// Whether the flags of a descriptor have `O_ASYNC`.
pub(super) fn is_async(fdinfo: &str) -> bool {
    flags(fdinfo).is_some_and(|flags| flags & libc::O_ASYNC != 0)
}

/// The flags with which a descriptor's file was opened, from its `fdinfo`.
pub(super) fn flags(fdinfo: &str) -> Option<i32> {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_raises_signals_is_known_by_its_flags() {
        assert!(is_async("pos:\t0\nflags:\t02020000\nmnt_id:\t15\n"));
        assert!(!is_async("pos:\t0\nflags:\t02004000\nmnt_id:\t15\n"));
        assert!(!is_async(""));
    }
}
