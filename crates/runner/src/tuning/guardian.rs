//! The process that takes changes back when the one that made them has gone.
//!
//! It is told of each change before it is made, by a line of JSON through a pipe. When the pipe
//! ends, be it by an exit, a panic or `kill -9`, it takes back what is still held, last first, and
//! keeps trying where a pipe holds more than its old capacity. It has a session of its own and
//! blocks every signal, so that what ends pipeprof by its process group leaves it alone.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};

use super::change::{Change, Restored};
use crate::pair::Reexec;

/// A change that the guardian holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HoldId(u32);

#[derive(Debug, Serialize, Deserialize)]
enum Message {
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
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(again: &Reexec) -> io::Result<Self> {
        let mut child = Command::new(&again.program)
            .args(&again.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut ready = [0];
        if let Some(stdout) = &mut child.stdout {
            stdout.read_exact(&mut ready)?;
        }
        let tell = child.stdin.take();
        Ok(Guardian { child, tell, next: 0 })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it hold a change that is about to be made.
    ///
    /// # Errors
    /// It has gone: then the change must not be made.
    pub fn hold(&mut self, change: &Change) -> io::Result<HoldId> {
        let id = HoldId(self.next);
        self.next += 1;
        self.send(&Message::Hold { id, change: change.clone() })?;
        Ok(id)
    }

    /// Has it forget a change: it was taken back, or is meant to stay.
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

/// Is the guardian: reads what it is to hold from standard input until that ends, then takes it
/// back.
///
/// # Errors
/// Signals can't be blocked or its readiness not be told: then nobody relies on it.
pub fn guard() -> io::Result<()> {
    SigSet::all().thread_block()?;
    // Fails only where it leads a process group already, and then it is out of reach as well.
    let _ = nix::unistd::setsid();
    io::stdout().write_all(b"!")?;
    io::stdout().flush()?;
    restore_all(held_at_the_end(BufReader::new(io::stdin())));
    Ok(())
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
            Err(_) => {}
        }
        line.clear();
    }
    held.into_iter().map(|(_, change)| change).collect()
}

/// A pipe that drains drains within milliseconds; one that does not is not worth a busy loop.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

fn restore_all(held: Vec<Change>) {
    let mut left = held;
    let mut pause = FIRST_PAUSE;
    loop {
        left.reverse();
        left.retain(|change| change.restore() == Restored::NotYet);
        if left.is_empty() {
            return;
        }
        left.reverse();
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::MemberId;

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
    fn a_message_cut_by_a_kill_is_of_a_change_not_made() {
        let text = lines(&[
            Message::Hold { id: HoldId(0), change: change(1) },
            Message::Hold { id: HoldId(1), change: change(2) },
        ]);
        assert_eq!(held_at_the_end(&text[..text.len() - 5]), [change(1)]);
        assert_eq!(held_at_the_end(&b""[..]), []);
    }
}
