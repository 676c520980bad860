//! Launches a command so that it can be profiled from its first instruction.
//!
//! [`Spec::prepare`] forks a child that waits at a gate. Events attached to it now, with inherit, see
//! everything from its `exec` on. [`Prepared::release`] opens the gate, and returns when the
//! command runs or with the reason why it can't.
//!
//! The command runs in the same environment as without pipeprof: stdin, stdout and stderr,
//! environment, working directory, umask and limits are the caller's. Signals that the caller
//! handles have their default action, ignored ones stay ignored, and the mask is that of the thread
//! that calls [`Spec::prepare`]. `SIGPIPE` has its default action, because Rust ignores it without
//! the user asking for that. The command stays in the caller's process group, as with `perf record`
//! and `time`: Ctrl-C reaches it from the terminal, not through us.
//!
//! No command outlives its launcher unnoticed: dropping [`Running`] before the command has ended
//! ends it and all its descendants, and so does the end of the launcher, whatever its cause. A
//! process between the two ensures that (`guard.rs`); it is the command's parent.

mod error;
mod guard;
mod sys;

pub use error::CommandError;
pub(crate) use guard::socket_pair;
pub use guard::{AFTER_INTERRUPT, Ending, GRACE, kill_all};

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;

use self::guard::Guard;
use crate::discover::{DiscoverError, Found, Process, check_proc, discover_below};
use crate::ends::Usage;

/// Where a command is looked for when `PATH` is unset, as `execvp` does (glibc 2.24 and later).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    arguments: Vec<OsString>,
}

impl Spec {
    /// A line for a shell: `SHELL -c LINE`, by default `sh`.
    pub fn shell(line: &OsStr, shell: Option<&OsStr>) -> Self {
        let shell = shell.unwrap_or(OsStr::new("sh"));
        Spec { arguments: vec![shell.to_owned(), OsString::from("-c"), line.to_owned()] }
    }

    /// A program and its arguments, as they stand. The program is looked for in `PATH`.
    pub fn program(arguments: impl IntoIterator<Item = OsString>) -> Self {
        Spec { arguments: arguments.into_iter().collect() }
    }

    /// The line for a shell; `None` where it is another program.
    pub fn line(&self) -> Option<&OsStr> {
        let [_, option, line] = &self.arguments[..] else { return None };
        (option == "-c").then_some(line)
    }

    /// The same shell with another line; `None` where it is another program.
    pub fn with_line(&self, line: &OsStr) -> Option<Spec> {
        self.line()?;
        let [shell, option, _] = &self.arguments[..] else { return None };
        Some(Spec { arguments: vec![shell.clone(), option.clone(), line.to_owned()] })
    }

    /// Forks the child that will become the command, and leaves it waiting.
    ///
    /// # Errors
    ///
    /// No program was given, an argument holds a zero byte, or the kernel has no process left.
    pub fn prepare(self) -> Result<Prepared, CommandError> {
        let program = self.arguments.first().ok_or(CommandError::Empty)?.clone();
        check_proc()?;
        let paths = candidates(&program);
        let files = paths.iter().cloned().map(c_string).collect::<Result<_, _>>()?;
        let arguments = self.arguments.into_iter().map(c_string).collect::<Result<_, _>>()?;
        let start = |source| CommandError::Start { source };
        let (ours, theirs) = UnixStream::pair().map_err(start)?;
        let mut plan = sys::Plan::new(files, arguments);
        let guard = Guard::start(&mut plan, theirs.as_raw_fd(), ours.as_raw_fd());
        let guard = guard.map_err(|errno| start(errno.into()))?;
        Ok(Prepared { held: Some(Held { guard, gate: ours }), program, paths })
    }
}

/// A command that waits for its release, as a process that has not executed anything yet. Dropped, it
/// never will.
#[derive(Debug)]
pub struct Prepared {
    /// Until the release.
    held: Option<Held>,
    program: OsString,
    paths: Vec<OsString>,
}

#[derive(Debug)]
struct Held {
    guard: Guard,
    gate: UnixStream,
}

impl Prepared {
    /// The pid, which the command will keep.
    pub fn pid(&self) -> i32 {
        self.held.as_ref().map_or(0, |held| held.guard.pid())
    }

    /// Lets the command run, and returns as soon as it does.
    ///
    /// # Errors
    ///
    /// The file is not there or can't be executed.
    pub fn release(mut self) -> Result<Running, CommandError> {
        let Some(Held { guard, mut gate }) = self.held.take() else {
            return Err(CommandError::Empty);
        };
        // Where the child was killed at the gate, waiting for it tells by what.
        let _ = gate.write_all(&[1]);
        let mut report = [0; sys::Report::BYTES];
        // Executing closes the child's end, so no answer is the good one.
        match gate.read_exact(&mut report) {
            Ok(()) => Err(self.failure(sys::Report::decode(report))),
            Err(_) => Ok(Running { guard }),
        }
    }

    fn failure(&self, report: sys::Report) -> CommandError {
        let source = io::Error::from_raw_os_error(report.errno);
        let path = self.paths.get(report.path).unwrap_or(&self.program);
        let path = PathBuf::from(path);
        // A script whose interpreter is missing gives ENOENT, though the script itself is there.
        if source.kind() == io::ErrorKind::NotFound && !path.exists() {
            let program = self.program.to_string_lossy().into_owned();
            return CommandError::NotFound { searched: !program.contains('/'), program };
        }
        CommandError::Exec { path, source }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(held) = &mut self.held {
            held.guard.end(Ending::Killed);
        }
    }
}

/// A command that runs. Dropped before it has ended, it is ended with all that descends from it
/// ([`Ending::Asked`]); afterwards, what it left in the background runs on.
#[derive(Debug)]
pub struct Running {
    guard: Guard,
}

impl Running {
    /// The pid of the command.
    pub fn pid(&self) -> i32 {
        self.guard.pid()
    }

    /// Waits until the command itself has ended; what it left in the background runs on.
    ///
    /// # Errors
    ///
    /// Its guardian was killed.
    pub fn wait(&mut self) -> Result<ExitStatus, CommandError> {
        loop {
            if let Some(status) = self.look(true)? {
                return Ok(status);
            }
        }
    }

    /// Whether the command has ended, and how.
    ///
    /// # Errors
    ///
    /// Its guardian was killed.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, CommandError> {
        self.look(false)
    }

    fn look(&mut self, block: bool) -> Result<Option<ExitStatus>, CommandError> {
        let pid = self.guard.pid();
        let end = self.guard.look(block);
        let end = end.map_err(|errno| CommandError::Wait { pid, source: errno.into() })?;
        Ok(end.map(|(status, _)| status))
    }

    /// What the command and all that it waited for used, once it has ended.
    pub fn usage(&mut self) -> Option<Usage> {
        self.guard.look(false).ok().flatten().map(|(_, usage)| usage)
    }

    /// Has the command and all that descends from it end, also where the command itself has ended
    /// already. It does not wait for that: dropping it does.
    pub fn end(&mut self, how: Ending) {
        self.guard.end(how);
    }

    /// The command, all that it has started so far, and the pipes between them.
    ///
    /// # Errors
    ///
    /// It has ended and was waited for, or `/proc` is not there.
    pub fn pipeline(&self) -> Result<Found, DiscoverError> {
        self.pipeline_with(Vec::new())
    }

    /// Likewise, with processes that were seen in between and may have ended.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn pipeline_with(&self, seen: Vec<Process>) -> Result<Found, DiscoverError> {
        discover_below(self.guard.guardian(), self.guard.pid(), seen)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.guard.look(false) {
            self.guard.let_go();
        }
    }
}

/// The files that a program's name may stand for, in the order in which they are tried.
fn candidates(program: &OsStr) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') || program.is_empty() {
        return vec![program.to_owned()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .map(|directory| {
            // An empty entry is the working directory.
            if directory.as_os_str().is_empty() {
                PathBuf::from(".").join(program).into_os_string()
            } else {
                directory.join(program).into_os_string()
            }
        })
        .collect()
}

fn c_string(text: OsString) -> Result<CString, CommandError> {
    let argument = text.to_string_lossy().into_owned();
    CString::new(text.into_vec()).map_err(|_| CommandError::ZeroByte { argument })
}
