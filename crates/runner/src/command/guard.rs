//! The guardian of a launched command: a small process of ours between pipeprof and the command.
//!
//! It is the command's parent and the *subreaper* of all its descendants (prctl(2)), so no process
//! escapes it by leaving the process group or the session, or by forking twice. It ends when the
//! command has ended. It ends the command in an orderly way when pipeprof asks for that, or when
//! pipeprof has ended for any reason: the kernel then closes pipeprof's end of the socket between
//! them.
//!
//! ```text
//! pipeprof ── guardian (own process group, all signals blocked)
//!                └── the command, in pipeprof's process group ── all that it starts
//! ```
//!
//! It ends processes like `init`: `SIGTERM` to each, [`GRACE`], `SIGKILL` to those that are left.
//! Then it restores the terminal's settings and its foreground process group, so that a killed
//! pager leaves no raw terminal. It does not do that if the command ended by itself, which may have
//! changed the settings on purpose (`stty`).
//!
//! Should the guardian itself be killed, the kernel kills the command (`PR_SET_PDEATHSIG`), and what
//! the command started runs on.

mod life;
mod messages;
mod sys;
mod tree;

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use self::life::Guardian;
use self::messages::{Answer, Request};
pub(crate) use self::sys::socket_pair;
use super::sys::Plan;
use crate::ends::Usage;

/// How long what was asked to end by `SIGTERM` has before `SIGKILL`.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long what a Ctrl-C has reached has before `SIGTERM`.
pub const AFTER_INTERRUPT: Duration = Duration::from_millis(300);

/// How a launched command and all that descends from it is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// `SIGTERM`, and `SIGKILL` after [`GRACE`].
    #[default]
    Asked,
    /// Likewise, [`AFTER_INTERRUPT`] later: a Ctrl-C on the terminal has told them all.
    Interrupted,
    /// `SIGKILL`.
    Killed,
}

/// How the command ended, and what it and all that it waited for used.
pub(super) type End = (ExitStatus, Usage);

/// The guardian, as its launcher sees it. Dropping it ends what it guards, unless it was let go.
#[derive(Debug)]
pub(super) struct Guard {
    socket: Arc<OwnedFd>,
    guardian: Pid,
    command: i32,
    end: Option<End>,
    /// Asked to end, or let go: nothing is left to be said.
    is_told: bool,
    /// The guardian has ended.
    is_over: bool,
}

/// The guardians that there are, for [`kill_all`].
static ALL: Mutex<Vec<Weak<OwnedFd>>> = Mutex::new(Vec::new());

impl Guard {
    /// Forks the guardian, which forks what `plan` says. `gate` and `our_end` are the two ends of
    /// the gate at which the command waits.
    pub(super) fn start(plan: &mut Plan, gate: RawFd, our_end: RawFd) -> Result<Self, Errno> {
        let (ours, theirs) = socket_pair()?;
        let guardian = Guardian::prepare();
        let socket = theirs.as_raw_fd();
        let guardian = plan.spawn(gate, our_end, |fork| guardian.run(socket, fork))?;
        drop(theirs);
        let socket = Arc::new(ours);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|socket| socket.strong_count() > 0);
        all.push(Arc::downgrade(&socket));
        drop(all);
        let mut guard = Guard {
            socket,
            guardian: Pid::from_raw(guardian),
            command: 0,
            end: None,
            is_told: false,
            is_over: false,
        };
        match guard.receive(true)? {
            Some(Answer::Started(pid)) => {
                guard.command = pid;
                Ok(guard)
            }
            Some(Answer::NotStarted(errno)) => Err(Errno::from_raw(errno)),
            _ => Err(Errno::ECHILD),
        }
    }

    /// Of the command.
    pub(super) fn pid(&self) -> i32 {
        self.command
    }

    /// Of the guardian.
    pub(super) fn guardian(&self) -> i32 {
        self.guardian.as_raw()
    }

    /// How the command ended, if it has.
    ///
    /// # Errors
    /// `ECHILD` where the guardian was killed before it could tell.
    pub(super) fn look(&mut self, block: bool) -> Result<Option<End>, Errno> {
        while self.end.is_none() {
            match self.receive(block) {
                Ok(Some(_)) => {}
                Ok(None) => return Err(Errno::ECHILD),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(self.end)
    }

    fn receive(&mut self, block: bool) -> Result<Option<Answer>, Errno> {
        let received = loop {
            match Answer::receive(self.socket.as_fd(), block) {
                Err(Errno::EINTR) => {}
                received => break received?,
            }
        };
        match received {
            Some(Answer::Ended { status, usage }) => {
                self.end = Some((ExitStatus::from_raw(status), usage));
            }
            None => self.is_over = true,
            Some(_) => {}
        }
        Ok(received)
    }

    /// Asks for the end, and does not wait for it.
    pub(super) fn end(&mut self, how: Ending) {
        self.is_told = true;
        let request = match how {
            Ending::Asked => Request::End,
            Ending::Interrupted => Request::EndAfterInterrupt,
            Ending::Killed => Request::Kill,
        };
        // Fails where the guardian has gone.
        let _ = request.send(self.socket.as_fd());
    }

    /// Lets what is left run on.
    pub(super) fn let_go(&mut self) {
        if !self.is_told {
            self.is_told = true;
            let _ = Request::LetGo.send(self.socket.as_fd());
        }
    }

    /// Waits until the guardian has done what it was told, for as long as that can take.
    pub(super) fn join(&mut self) {
        let until = Instant::now() + GRACE + AFTER_INTERRUPT + Duration::from_secs(1);
        while !self.is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // A process can't be killed. The guardian keeps trying.
                return;
            }
            let mut entry = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut entry, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            while !self.is_over && self.receive(false).is_ok() {}
        }
        // It is about to exit: closing its end of the socket was part of that. Where children are
        // reaped by themselves (`SIGCHLD` ignored), this fails, and nothing is left to be done.
        let _ = waitpid(self.guardian, None::<WaitPidFlag>);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_told {
            self.end(Ending::Asked);
        }
        self.join();
    }
}

/// Kills whatever this process has launched and not let go, at once, and waits until it has gone, for a
/// second at most. For a caller that is about to end this process from another thread.
pub fn kill_all() {
    let all: Vec<Arc<OwnedFd>> = {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    for socket in &all {
        let _ = Request::Kill.send(socket.as_fd());
    }
    let until = Instant::now() + Duration::from_secs(1);
    for socket in &all {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Nothing is asked for, so that only the hang-up of a guardian that has ended is told.
            let mut entry = [PollFd::new(socket.as_fd(), PollFlags::empty())];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut entry, timeout) {
                Err(Errno::EINTR) => {}
                _ => break,
            }
        }
    }
}
