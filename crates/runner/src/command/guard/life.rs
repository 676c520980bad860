//! What the guardian does: waits for the command, reports how it ended, and ends all its
//! descendants when pipeprof asks for it or has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgrp, getpid, setpgid};

use super::messages::{Answer, Request};
use super::sys::{self, Ended, Terminal};
use super::tree::{self, Process, Tree};
use super::{AFTER_INTERRUPT, GRACE};

/// How often everything that descends from the command is looked for while it ends. One pass takes
/// some 10 µs a process of the machine.
const LOOK: Duration = Duration::from_millis(20);

/// What can't be killed after so long (another user's, or stuck in the kernel) never will be.
const HOPELESS: Duration = Duration::from_secs(10);

/// Room for the processes that were asked to end.
const ROOM: usize = 64 * 1024;

/// What the guardian needs, all of it made before the fork.
pub(super) struct Guardian {
    tree: Tree,
    asked: Vec<(i32, u64)>,
    arguments: Option<(usize, usize)>,
}

impl Guardian {
    pub(super) fn prepare() -> Self {
        Guardian {
            tree: Tree::with_room(),
            asked: Vec::with_capacity(ROOM),
            arguments: sys::arguments(),
        }
    }

    /// In the forked child, with all signals blocked: makes it a guardian, and has `fork_command` fork
    /// the command. It returns in neither.
    pub(super) fn run(
        self,
        socket: RawFd,
        fork_command: &mut dyn FnMut() -> Result<i32, Errno>,
    ) -> ! {
        let group = getpgrp().as_raw();
        // So that whatever descends from the command is its child at the latest when all between
        // them have ended, whatever group or session it is in.
        let _ = nix::sys::prctl::set_child_subreaper(true);
        crate::access::give_up();
        // Ignored, it would have children vanish without their status.
        crate::signals::sys::set(libc::SIGCHLD, libc::SIG_DFL);
        let command = fork_command();
        // The command stays in pipeprof's process group. In one of its own no Ctrl-C and no `kill`
        // of that group reaches the guardian; but it stays in the session, or the command's group
        // would be without a parent there ("orphaned"), and the kernel would no longer stop it on
        // Ctrl-Z.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        // Not before the fork, or the command would have this name until it executes.
        let _ = nix::sys::prctl::set_name(c"pp-guard");
        sys::keep_only(socket);
        if let Some(arguments) = self.arguments {
            // SAFETY: asked of the same memory before the fork; this process only runs what follows.
            unsafe { sys::rename(arguments, b"pp-guard") };
        }
        let command = match command {
            Ok(command) => command,
            Err(errno) => {
                Answer::NotStarted(errno as i32).send(sys::kept());
                sys::exit()
            }
        };
        Answer::Started(command).send(sys::kept());
        let Ok(children) = sys::children_fd() else { sys::exit() };
        Life {
            socket: sys::kept(),
            children,
            group,
            command,
            terminal: Terminal::open(),
            tree: self.tree,
            asked: self.asked,
            phase: Phase::Watching,
            died_of_signal: false,
            looked: None,
        }
        .live();
        sys::exit()
    }
}

#[derive(Clone, Copy)]
enum Phase {
    /// It runs.
    Watching,
    /// Ctrl-C has told all of them; until then nothing is done.
    Interrupted { until: Instant },
    /// They were asked to end, and have until then.
    Asked { until: Instant },
    /// They are killed.
    Killing { since: Instant },
}

struct Life {
    socket: BorrowedFd<'static>,
    children: OwnedFd,
    /// The process group that the command was started in.
    group: i32,
    command: i32,
    terminal: Option<Terminal>,
    tree: Tree,
    asked: Vec<(i32, u64)>,
    phase: Phase,
    died_of_signal: bool,
    looked: Option<Instant>,
}

impl Life {
    fn live(&mut self) {
        // The launcher has gone, or has said its last word.
        let mut is_alone = false;
        loop {
            let any_left = self.reap();
            match self.phase {
                Phase::Watching if is_alone => break,
                Phase::Watching => {}
                _ if !any_left => break,
                Phase::Killing { since } if since.elapsed() > HOPELESS => break,
                _ => self.end(),
            }
            self.sleep(is_alone);
            if is_alone {
                continue;
            }
            match Request::receive(self.socket) {
                None => {}
                Some(Request::End) => self.begin_to_end(Duration::ZERO),
                Some(Request::EndAfterInterrupt) => self.begin_to_end(AFTER_INTERRUPT),
                Some(Request::Kill) => self.phase = Phase::Killing { since: Instant::now() },
                Some(Request::LetGo) => is_alone = true,
                Some(Request::Disconnected) => {
                    is_alone = true;
                    self.begin_to_end(Duration::ZERO);
                }
            }
        }
        let ended_it = !matches!(self.phase, Phase::Watching);
        if (ended_it || self.died_of_signal)
            && let Some(terminal) = &self.terminal
        {
            terminal.restore(self.group);
        }
        Answer::Done.send(self.socket);
    }

    /// Whether there are children left.
    fn reap(&mut self) -> bool {
        // Emptied, or it would stay readable.
        let _ = nix::unistd::read(&self.children, &mut [0; 1024]);
        loop {
            match sys::reap() {
                Ok(Some(Ended { pid, status, usage })) if pid == self.command => {
                    self.died_of_signal = libc::WIFSIGNALED(status);
                    Answer::Ended { status, usage }.send(self.socket);
                }
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn sleep(&self, is_alone: bool) {
        let now = Instant::now();
        let timeout = match self.phase {
            Phase::Watching => PollTimeout::NONE,
            Phase::Interrupted { until } => {
                let left = until.saturating_duration_since(now).min(LOOK);
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO)
            }
            Phase::Asked { .. } | Phase::Killing { .. } => {
                PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO)
            }
        };
        let mut entries = [
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.socket, PollFlags::POLLIN),
        ];
        // A socket whose other end has gone is readable for ever.
        let entries = if is_alone { &mut entries[..1] } else { &mut entries[..] };
        let _ = poll(entries, timeout);
    }

    fn begin_to_end(&mut self, after: Duration) {
        if let Phase::Watching = self.phase {
            self.phase = Phase::Interrupted { until: Instant::now() + after };
        }
    }

    /// Goes one step on.
    fn end(&mut self) {
        let now = Instant::now();
        match self.phase {
            Phase::Interrupted { until } if now >= until => {
                self.phase = Phase::Asked { until: now + GRACE };
                self.looked = Some(now);
                self.ask(true);
            }
            Phase::Asked { until } if now >= until => {
                self.phase = Phase::Killing { since: now };
                self.kill();
            }
            Phase::Asked { .. } if self.looked.is_none_or(|looked| now >= looked + LOOK) => {
                self.looked = Some(now);
                self.ask(false);
            }
            Phase::Killing { .. } => self.kill(),
            _ => {}
        }
    }

    /// Asks everyone to end, once. Processes that a trap starts meanwhile are left alone while
    /// their starter lives; a process that was missed during its fork is found when its parent has
    /// ended.
    fn ask(&mut self, all: bool) {
        let own = getpid().as_raw();
        let Life { tree, asked, .. } = self;
        let before = asked.len();
        for process in tree.below(own) {
            let known = (process.pid, process.start_ticks);
            let is_due = all || process.parent == own;
            if is_due && !contains(asked, before, known) && asked.len() < asked.capacity() {
                asked.push(known);
                // One that is stopped could not act on it.
                send(process, &[Signal::SIGTERM, Signal::SIGCONT]);
            }
        }
        asked.sort_unstable();
    }

    fn kill(&mut self) {
        let own = getpid().as_raw();
        for process in self.tree.below(own) {
            send(process, &[Signal::SIGKILL]);
        }
    }
}

/// Of the first `sorted` ones.
fn contains(asked: &[(i32, u64)], sorted: usize, one: (i32, u64)) -> bool {
    asked.get(..sorted).is_some_and(|asked| asked.binary_search(&one).is_ok())
}

fn send(process: Process, signals: &[Signal]) {
    sys::signal(process.pid, signals, || tree::is_there(process));
}
