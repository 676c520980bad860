//! The looker: a process of ours that opens other processes' pipes for microseconds, to read their
//! fill or to change their capacity.
//!
//! It is in a session of its own with all signals blocked, so what stops pipeprof (Ctrl-Z, `kill
//! -STOP`) does not stop it while it has an end open. It runs at real-time priority if its user
//! may, so that ordinary processes do not preempt it either. It ends with pipeprof. If it is held
//! up (by `SIGSTOP` sent to it alone, or by a member that holds the pipe's mutex for long), it is
//! killed, which closes its descriptors, and looks pause for a while.

mod sys;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::Serialize;

/// A look that takes longer is held up. On a busy machine it may wait this long before it looks.
const PATIENCE: Duration = Duration::from_millis(500);

/// Questions that wait for the looker together, so that it and we change places less often: a
/// hundredth of what its socket holds.
pub(super) const AT_ONCE: usize = 16;

/// How long looks are left then.
const PAUSE: Duration = Duration::from_secs(5);

/// Which pipe, and by whose descriptor it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) pid: i32,
    pub(super) fd: i32,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// The capacity that it is to have; 0 leaves it as it is.
    pub(super) set_bytes: u32,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The pipe, after it got the capacity that was asked for.
    Look(Look),
    /// The descriptor is another file's, or has gone.
    NotFound,
    /// The kernel refuses: to open the pipe, or to change it.
    Refused(Errno),
    /// There is no looker: the last one was held up.
    NoLooker,
}

impl Answer {
    pub(super) fn look(self) -> Option<Look> {
        match self {
            Answer::Look(look) => Some(look),
            _ => None,
        }
    }
}

/// How large a pipe is, and how full it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    /// `F_GETPIPE_SZ`: its slots times the page size.
    pub capacity_bytes: u64,
    /// `FIONREAD`: bytes waiting in it. Can exceed the capacity where huge pages were spliced, and
    /// is less than the capacity of a full pipe whose slots hold less than a page each.
    pub fill_bytes: u64,
}

/// A look into a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it saw.
    pub level: Level,
    /// Nanoseconds for which the pipe had one read end more.
    pub held_ns: u64,
}

#[derive(Debug)]
struct Looker {
    socket: OwnedFd,
    pid: Pid,
}

enum State {
    /// None is there.
    None,
    Ready(Looker),
    /// The last one was held.
    Paused {
        until: Instant,
    },
}

static STATE: Mutex<State> = Mutex::new(State::None);

/// The looker's pid; 0 where there is none.
static PID: AtomicI32 = AtomicI32::new(0);

/// For callers that look for the holders of a pipe.
pub(super) fn pid() -> i32 {
    PID.load(Ordering::Relaxed)
}

/// An answer for each question.
pub(super) fn ask(questions: &[Question]) -> Vec<Answer> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let State::Paused { until } = *state
        && Instant::now() >= until
    {
        *state = State::None;
    }
    if let State::None = *state
        && let Ok(looker) = Looker::start()
    {
        PID.store(looker.pid.as_raw(), Ordering::Relaxed);
        *state = State::Ready(looker);
    }
    let State::Ready(looker) = &*state else { return vec![Answer::NoLooker; questions.len()] };
    let mut answers = Vec::with_capacity(questions.len());
    for some in questions.chunks(AT_ONCE) {
        if looker.answer(some, &mut answers).is_err() {
            PID.store(0, Ordering::Relaxed);
            *state = State::Paused { until: Instant::now() + PAUSE };
            break;
        }
    }
    answers.resize(questions.len(), Answer::NoLooker);
    answers
}

impl Looker {
    fn start() -> Result<Self, Errno> {
        let (ours, theirs) = crate::command::socket_pair()?;
        let pid = sys::fork(theirs.as_raw_fd())?;
        Ok(Looker { socket: ours, pid: Pid::from_raw(pid) })
    }

    /// Asks, and appends the answers in that order.
    fn answer(&self, questions: &[Question], answers: &mut Vec<Answer>) -> Result<(), Errno> {
        for &question in questions {
            sys::send(self.socket.as_fd(), &sys::encode(question))?;
        }
        for _ in questions {
            answers.push(self.next_answer()?);
        }
        Ok(())
    }

    fn next_answer(&self) -> Result<Answer, Errno> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut entry = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut entry, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return Err(Errno::ETIMEDOUT),
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let [capacity_bytes, fill_bytes, held_ns, errno] = sys::receive(self.socket.as_fd())?;
        if errno != 0 {
            return Ok(Answer::Refused(Errno::from_raw(errno as i32)));
        }
        let level = Level { capacity_bytes, fill_bytes };
        // No pipe has no capacity.
        Ok(match capacity_bytes {
            0 => Answer::NotFound,
            _ => Answer::Look(Look { level, held_ns }),
        })
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        // One that sleeps in the kernel ends later, and no process waits for it.
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}
