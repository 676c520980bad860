//! The process that undoes changes when the one that made them has ended.
//!
//! It hears of each change before it is made, by a line of JSON through a pipe. When the pipe ends,
//! be it by an exit, a panic or `kill -9`, it undoes the remaining changes, last first, and keeps
//! trying where a pipe holds more than its old capacity. It has a session of its own and blocks
//! every signal, so that what ends pipeprof by its process group leaves it alone.
//!
//! While it lives it has a claim on the pipes and members of its pipeline: a second tuning would
//! take changed values for the original ones.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};

use super::change::{Change, Restored};
use crate::pair::Reexec;
use crate::pipeline::{Member, MemberId, Pipe, PipeKey, Pipeline};

/// A change that the guardian holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HoldId(u32);

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// The first message: what no other tuning may change meanwhile.
    Claim { pipes: Vec<PipeKey>, members: Vec<MemberId> },
    /// About to be made.
    Hold { id: HoldId, change: Change },
    /// Taken back already, or meant to stay.
    Release { id: HoldId },
}

/// The guardian as seen by the process that makes changes. Dropping it lets the guardian take back
/// what is held.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    tell: Option<ChildStdin>,
    next: u32,
}

impl Guardian {
    /// Starts one with a claim on the pipes and members of a pipeline, and waits until it is ready.
    ///
    /// # Errors
    /// It can't be started. [`io::ErrorKind::ResourceBusy`]: another one has a claim on one of them.
    pub fn start(again: &Reexec, pipeline: &Pipeline) -> io::Result<Self> {
        let mut child = Command::new(&again.program)
            .args(&again.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (tell, stdout) = (child.stdin.take(), child.stdout.take());
        let mut guardian = Guardian { child, tell, next: 0 };
        guardian.send(&Message::Claim {
            pipes: pipeline.pipes.iter().map(Pipe::key).collect(),
            members: pipeline.members.iter().map(Member::id).collect(),
        })?;
        let mut answer = [0];
        if let Some(mut stdout) = stdout {
            stdout.read_exact(&mut answer)?;
        }
        if answer != READY {
            guardian.finish(Duration::from_secs(1));
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(guardian)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Registers a change that is about to be made.
    ///
    /// # Errors
    /// It has gone: then the change must not be made.
    pub fn hold(&mut self, change: &Change) -> io::Result<HoldId> {
        let id = HoldId(self.next);
        self.next += 1;
        self.send(&Message::Hold { id, change: change.clone() })?;
        Ok(id)
    }

    /// Unregisters a change: it was undone, or is meant to stay.
    ///
    /// # Errors
    /// It has gone.
    pub fn release(&mut self, id: HoldId) -> io::Result<()> {
        self.send(&Message::Release { id })
    }

    fn send(&mut self, message: &Message) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let tell = self.tell.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        tell.write_all(&line)
    }

    /// Ends it and waits for up to `most` until it has taken back what it holds. Whether it has;
    /// if not, it goes on alone.
    pub fn finish(mut self, most: Duration) -> bool {
        drop(self.tell.take());
        let until = Instant::now() + most;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

/// The guardian's one-word answers: it is ready, or another tuning has a claim.
const READY: [u8; 1] = *b"!";
const TAKEN: [u8; 1] = *b"-";

/// Runs the guardian: reads changes from standard input until that ends, then undoes them.
///
/// # Errors
/// Signals can't be blocked, or it can't report that it is ready: then no change is made.
pub fn guard() -> io::Result<()> {
    SigSet::all().thread_block()?;
    // Fails only where it leads a process group already, and then it is out of reach as well.
    let _ = nix::unistd::setsid();
    // It may live long, and keeps no file system busy.
    let _ = nix::unistd::chdir("/");
    let mut messages = BufReader::new(io::stdin());
    let mut line = Vec::new();
    messages.read_until(b'\n', &mut line)?;
    let claims = match serde_json::from_slice(&line) {
        Ok(Message::Claim { pipes, members }) => claim(&pipes, &members),
        _ => None,
    };
    io::stdout().write_all(if claims.is_some() { &READY } else { &TAKEN })?;
    io::stdout().flush()?;
    restore_all(held_at_the_end(messages));
    drop(claims);
    Ok(())
}

/// An abstract socket for each, which the kernel gives to one process at a time; `None` where another
/// one has a claim on any of them.
fn claim(pipes: &[PipeKey], members: &[MemberId]) -> Option<Vec<UnixListener>> {
    let pipes = pipes.iter().map(|pipe| format!("pipe-{}-{}", pipe.device, pipe.inode));
    let members = members.iter().map(|member| format!("pid-{}", member.pid));
    let bind = |name: String| {
        let address = SocketAddr::from_abstract_name(format!("pipeprof-tune-{name}")).ok()?;
        UnixListener::bind_addr(&address).ok()
    };
    pipes.chain(members).map(bind).collect()
}

/// What is still held when the messages end. A last line without its end was cut by a kill before
/// the change was made.
fn held_at_the_end(mut messages: impl BufRead) -> Vec<Change> {
    let mut held: Vec<(HoldId, Change)> = Vec::new();
    let mut line = Vec::new();
    while messages.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        match serde_json::from_slice(&line) {
            Ok(Message::Hold { id, change }) => held.push((id, change)),
            Ok(Message::Release { id }) => held.retain(|(held, _)| *held != id),
            Ok(Message::Claim { .. }) | Err(_) => {}
        }
        line.clear();
    }
    held.into_iter().map(|(_, change)| change).collect()
}

/// A pipe that drains drains within milliseconds; one that does not is not worth a busy loop, and
/// one that did not for long may be hours away from its next pause.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(10);
const LATER_PAUSE: Duration = Duration::from_millis(200);

fn restore_all(held: Vec<Change>) {
    let mut left = held;
    let mut pause = FIRST_PAUSE;
    let began = Instant::now();
    loop {
        left.reverse();
        left.retain(|change| change.restore() == Restored::NotYet);
        if left.is_empty() {
            return;
        }
        left.reverse();
        std::thread::sleep(pause);
        let longest = if began.elapsed() < SOON { LONGEST_PAUSE } else { LATER_PAUSE };
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(to: i32) -> Change {
        let process = MemberId { pid: 1, start_time: Some(0) };
        Change::Nice { process, from: Vec::new(), to }
    }

    fn lines(messages: &[Message]) -> Vec<u8> {
        let mut text = Vec::new();
        for message in messages {
            text.extend(serde_json::to_vec(message).unwrap());
            text.push(b'\n');
        }
        text
    }

    #[test]
    fn what_was_released_is_not_restored() {
        let text = lines(&[
            Message::Hold { id: HoldId(0), change: change(1) },
            Message::Hold { id: HoldId(1), change: change(2) },
            Message::Release { id: HoldId(0) },
            Message::Hold { id: HoldId(2), change: change(3) },
        ]);
        assert_eq!(held_at_the_end(&text[..]), [change(2), change(3)]);
    }

    #[test]
    fn a_pipe_and_a_member_are_claimed_once_at_a_time() {
        // No pipe has this device.
        let pipe =
            |inode| PipeKey { device: u64::MAX, inode: u64::from(std::process::id()) + inode };
        let held = claim(&[pipe(0), pipe(1)], &[]).unwrap();
        assert!(claim(&[pipe(2), pipe(1)], &[]).is_none());
        drop(held);
        assert!(claim(&[pipe(2), pipe(1)], &[]).is_some());
        // A member may be in two pipelines.
        let member = |pid| MemberId { pid, start_time: None };
        let held = claim(&[], &[member(-7)]).unwrap();
        assert!(claim(&[], &[member(-8), member(-7)]).is_none());
        drop(held);
    }

    #[test]
    fn a_message_cut_by_a_kill_is_of_a_change_not_made() {
        let text = lines(&[
            Message::Hold { id: HoldId(0), change: change(1) },
            Message::Hold { id: HoldId(1), change: change(2) },
        ]);
        assert_eq!(held_at_the_end(&text[..text.len() - 5]), [change(1)]);
        assert_eq!(held_at_the_end(&b""[..]), []);
    }
}
