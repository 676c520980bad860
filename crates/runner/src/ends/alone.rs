//! One end alone, in this process, on the pipe that a shell gave it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat};

use super::{Loop, Tally, monotonic_ns};
use crate::capacity::set_capacity;
use crate::cpus;
use crate::error::Error;
use crate::machine;
use crate::outcome;
use crate::pipeline::End;
use crate::plan::PairPlan;
use crate::stage::{ReadWith, WriteWith};
use crate::sys;

/// An end that is set up, on standard output or input.
#[derive(Debug)]
pub struct Alone {
    plan: PairPlan,
    body: Loop,
    notes: Vec<String>,
}

/// What an end alone moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Transfers.
    pub tally: Tally,
    /// From the first call to the last.
    pub elapsed: Duration,
    /// Stopped by SIGINT or SIGTERM.
    pub interrupted: bool,
    /// Bytes per buffer.
    pub buf_size: u64,
}

impl Moved {
    /// GiB per second; 0 where nothing was moved.
    pub fn gib_per_s(&self) -> f64 {
        outcome::gib_per_s(self.tally.bytes, self.elapsed)
    }

    /// The line of the article's program, as [`Outcome::line`](outcome::Outcome::line).
    pub fn line(&self) -> String {
        outcome::line(self.tally.bytes, self.elapsed, self.buf_size)
    }
}

impl Alone {
    /// Sets `end` up. From here on SIGPIPE is ignored, and the first SIGINT or SIGTERM makes
    /// [`Alone::run`] return.
    ///
    /// # Errors
    /// [`Error::NotAPipe`] where the plan needs a pipe and the stream is none, [`Error::Endless`]
    /// where nothing would end a write to a disk, and whatever the kernel refuses.
    pub fn prepare(end: End, plan: &PairPlan, cpu: Option<usize>) -> Result<Alone, Error> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let mut notes = plan.notes();
        let what = match end {
            End::Writer => "stdout",
            End::Reader => "stdin",
        };
        let stream = match end {
            End::Writer => stdout.as_fd(),
            End::Reader => stdin.as_fd(),
        };
        if !is_pipe(stream) {
            if let Some(why) = needs_pipe(end, plan) {
                return Err(Error::NotAPipe { what, why });
            }
            if end == End::Writer && plan.bytes.is_none() && is_on_disk(stream) {
                return Err(Error::Endless);
            }
        } else if let Some(wanted) = plan.pipe_size {
            set_capacity(&stream, wanted)?;
        }
        sys::ignore(Signal::SIGPIPE)
            .and_then(|()| sys::stop_on(Signal::SIGTERM))
            .and_then(|()| sys::stop_on(Signal::SIGINT))
            .map_err(Error::system("can't set up signals"))?;
        if end == End::Writer && plan.write_with == WriteWith::Vmsplice {
            notes.extend(machine::vmsplice_note());
        }
        if let Some(cpu) = cpu {
            cpus::check_allowed(cpu)?;
            cpus::pin_to(cpu, end)?;
        }
        let body = Loop::new(end, plan, &mut notes)?;
        Ok(Alone { plan: plan.clone(), body, notes })
    }

    /// What the user should know before the figures.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Moves bytes until there are no more, or enough, or the other end has no process.
    ///
    /// # Errors
    /// Where a transfer fails, or [`Error::Corrupt`].
    pub fn run(mut self) -> Result<Moved, Error> {
        let start_ns = monotonic_ns();
        let (tally, result) = self.body.run(&self.plan, &AtomicU64::new(0));
        let elapsed = Duration::from_nanos(monotonic_ns().saturating_sub(start_ns));
        result.map(|()| Moved {
            tally,
            elapsed,
            interrupted: sys::stopped(),
            buf_size: self.plan.buf_size,
        })
    }
}

/// Why this end needs a pipe, if it does.
fn needs_pipe(end: End, plan: &PairPlan) -> Option<&'static str> {
    match end {
        End::Writer if plan.write_with == WriteWith::Vmsplice => {
            Some("vmsplice writes to nothing else")
        }
        End::Writer if plan.write_with.is_fixed() => Some("tee writes to nothing else"),
        End::Reader if plan.read_with == ReadWith::Splice => {
            Some("splice to /dev/null reads from nothing else")
        }
        _ if plan.pipe_size.is_some() => Some("--pipe-size is for pipes"),
        End::Writer if nix::unistd::isatty(io::stdout()).unwrap_or(false) => {
            Some("a terminal is no place for what it writes")
        }
        _ => None,
    }
}

fn is_pipe(stream: BorrowedFd) -> bool {
    kind(stream) == Some(SFlag::S_IFIFO)
}

/// What is written stays, and takes room.
fn is_on_disk(stream: BorrowedFd) -> bool {
    matches!(kind(stream), Some(SFlag::S_IFREG | SFlag::S_IFBLK))
}

fn kind(stream: BorrowedFd) -> Option<SFlag> {
    let status = fstat(stream).ok()?;
    Some(SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT)
}
