//! What is watched: how to wait for it, which processes belong to it, and how to end it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pipeprof_runner::command::Ending;
use pipeprof_runner::discover::{Extent, Found, Process, discover_again};
use pipeprof_runner::ends::Usage;
use pipeprof_runner::pipeline::MemberId;
use pipeprof_runner::{command, outcome, pair};

use super::process_events::ProcessEvents;
use crate::error::Error;

/// What is watched, once it runs.
#[derive(Debug)]
pub(super) enum Subject {
    /// The built-in pair.
    Pair(Box<pair::Running>),
    /// A command.
    Command {
        running: command::Running,
        /// Readable once the command has ended.
        pidfd: Option<OwnedFd>,
        status: Option<ExitStatus>,
    },
    /// Processes that ran before.
    Processes {
        extent: Extent,
        /// One that is there, and its pidfd: so one look tells that not all have ended.
        alive: Option<(MemberId, OwnedFd)>,
    },
}

/// The outcome of a subject.
#[derive(Debug)]
pub enum Came {
    /// The built-in pair.
    Pair(Box<outcome::Outcome>),
    /// A command.
    Command(LaunchedCommand),
    /// Processes, which go on or not.
    Processes,
}

/// A command that was watched. Dropping it waits for the end of what was told to end.
#[derive(Debug)]
pub struct LaunchedCommand {
    /// How it ended, where it did by itself.
    pub status: Option<ExitStatus>,
    /// What it and all that it waited for used, likewise.
    pub usage: Option<Usage>,
    _running: command::Running,
}

impl Subject {
    /// Waits until something ends or happens, or so long. Whether it has ended.
    pub(super) fn wait(
        &mut self,
        known: &[MemberId],
        events: Option<&ProcessEvents>,
        pause: Duration,
    ) -> Result<bool, Error> {
        let events = || events.into_iter().map(ProcessEvents::descriptor);
        match self {
            Subject::Pair(running) => Ok(running.wait_timeout(pause)?),
            Subject::Command { running, pidfd, status } => {
                sleep(pidfd.iter().map(AsFd::as_fd).chain(events()), pause)?;
                *status = running.try_wait()?;
                Ok(status.is_some())
            }
            Subject::Processes { alive, .. } => {
                if alive.as_ref().is_none_or(|(id, _)| !id.is_running()) {
                    *alive = known.iter().find_map(running);
                }
                let Some((_, pidfd)) = alive else { return Ok(true) };
                sleep(std::iter::once(pidfd.as_fd()).chain(events()), pause)?;
                Ok(false)
            }
        }
    }

    /// Which processes belong to it now, or did when a snapshot was taken; `None` if that is known
    /// from the start, or no process is there.
    pub(super) fn look(&self, known: &[MemberId], ended: Vec<Process>) -> Option<Found> {
        match self {
            Subject::Pair(_) => None,
            Subject::Command { running, .. } => running.pipeline_with(ended).ok(),
            Subject::Processes { extent, .. } => discover_again(known, *extent, ended).ok(),
        }
    }

    /// Asks it to come to its end.
    pub(super) fn ask(&mut self) {
        if let Subject::Pair(running) = self {
            running.interrupt();
        }
    }

    /// Bytes that have gone through, where it counts them itself.
    pub(super) fn moved(&self) -> Option<u64> {
        match self {
            Subject::Pair(running) => Some(running.moved().read),
            _ => None,
        }
    }

    /// Ends a command that has not ended, or one that is to end with everything that it left
    /// behind.
    pub(super) fn end(&mut self, is_asked: bool, how: Ending) {
        if let Subject::Command { running, status, .. } = self
            && (status.is_none() || is_asked)
        {
            running.end(how);
        }
    }

    /// Its outcome.
    pub(super) fn finish(self) -> Result<Came, Error> {
        match self {
            Subject::Pair(running) => Ok(Came::Pair(Box::new(running.wait()?))),
            Subject::Command { mut running, status, .. } => {
                // Of one that was stopped the shell can't have waited for all that it started.
                let usage = status.and_then(|_| running.usage());
                Ok(Came::Command(LaunchedCommand { status, usage, _running: running }))
            }
            Subject::Processes { .. } => Ok(Came::Processes),
        }
    }
}

fn running(id: &MemberId) -> Option<(MemberId, OwnedFd)> {
    id.is_running().then(|| Some((*id, id.pidfd().ok()?))).flatten()
}

/// Sleeps until one of these can be read, or so long.
fn sleep<'fd>(
    descriptors: impl Iterator<Item = BorrowedFd<'fd>>,
    pause: Duration,
) -> Result<(), Error> {
    let mut fds: Vec<PollFd<'_>> =
        descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // Rounded up, or the last millisecond would be spent spinning.
    let timeout = PollTimeout::try_from(pause + Duration::from_micros(999));
    match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::Control { action: "waiting for", errno }),
    }
}
