//! The pipe pair: two processes of the same program, joined by a pipe, held at a gate until they
//! are released.
//!
//! ```text
//! PairPlan --launch--> Prepared --release--> Running --wait--> Outcome
//! ```

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, ftruncate, pipe2};

use crate::capacity::{capacity, set_capacity};
use crate::cpus;
use crate::discover::check_proc;
use crate::ends::{Configuration, Word, monotonic_ns};
use crate::error::Error;
use crate::machine;
use crate::outcome::{EndOutcome, Outcome};
use crate::pipeline::{End, Link, Member, Pipe, Pipeline};
use crate::plan::PairPlan;
use crate::stage::WriteWith;
use crate::sys::{self, Board, SharedBoard};

/// How to start this program again as an end: it must hand its last argument to
/// [`ends::main`](crate::ends::main).
#[derive(Clone, Debug)]
pub struct Reexec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before the last.
    pub arguments: Vec<OsString>,
}

impl Reexec {
    /// The program that is running, even where its file has been replaced meanwhile.
    pub fn this_program(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Reexec {
        Reexec {
            program: PathBuf::from("/proc/self/exe"),
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }
}

/// Starts both ends and waits until they stand at the gate: buffers in memory, pinned, nothing
/// left to do but their loops. The ends die with the calling thread.
///
/// # Errors
/// Whatever the kernel refuses: see [`Error`] and its hint.
pub fn launch(plan: &PairPlan, again: &Reexec) -> Result<Prepared, Error> {
    check_proc().map_err(Error::Proc)?;
    let mut notes = plan.notes();
    if plan.write_with == WriteWith::Vmsplice {
        notes.extend(machine::vmsplice_note());
    }
    let placement = cpus::place(plan.pin)?;
    if placement.only_one {
        notes.push("both ends are pinned to the only CPU that this process may use".to_owned());
    }

    let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("can't make a pipe"))?;
    if let Some(wanted) = plan.pipe_size {
        set_capacity(&inlet, wanted)?;
    }
    let capacity_bytes = capacity(&inlet);
    let status = nix::sys::stat::fstat(&inlet).map_err(Error::system("can't look at the pipe"))?;

    let memory = memfd_create(c"pipeprof-pair", MFdFlags::MFD_CLOEXEC)
        .and_then(|memory| ftruncate(&memory, size_of::<Board>() as i64).map(|()| memory))
        .and_then(|memory| SharedBoard::map(memory.as_fd()).map(|board| (memory, board)));
    let (memory, board) = memory.map_err(Error::system("can't share memory with the ends"))?;

    // Each takes its end of the pipe with it; this process keeps neither.
    let writer = EndProcess::spawn(End::Writer, plan, again, placement.writer, &memory, inlet)?;
    let reader = EndProcess::spawn(End::Reader, plan, again, placement.reader, &memory, outlet)?;
    let mut ends = [writer, reader];
    for end in &mut ends {
        notes.extend(end.wait_until_ready()?);
    }
    notes.dedup();

    let members = ends.each_ref().map(EndProcess::member);
    let [writer, reader] = members.each_ref().map(Member::id);
    let pipeline = Pipeline {
        members: members.to_vec(),
        pipes: vec![Pipe {
            link: Link::Pipe,
            inode: status.st_ino,
            device: status.st_dev,
            path: None,
            writers: vec![writer],
            readers: vec![reader],
            capacity_bytes,
        }],
    };
    Ok(Prepared { plan: plan.clone(), pipeline, board, ends, notes })
}

/// A pair at the gate. Dropping it ends both processes.
#[derive(Debug)]
pub struct Prepared {
    plan: PairPlan,
    pipeline: Pipeline,
    board: SharedBoard,
    ends: [EndProcess; 2],
    notes: Vec<String>,
}

impl Prepared {
    /// The two ends, with their final pids, and the pipe between them.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// What was planned.
    pub fn plan(&self) -> &PairPlan {
        &self.plan
    }

    /// What the user should know before the figures: what the kernel would not grant, and what
    /// the plan makes of it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Opens the gate.
    pub fn release(self) -> Running {
        let Prepared { plan, pipeline, board, ends, notes } = self;
        let opened_ns = monotonic_ns();
        sys::open(&board.gate.0);
        let board = Progress(Arc::new(board));
        Running { plan, pipeline, board, ends, notes, opened_ns, interrupted: false }
    }
}

/// A pair that moves bytes. Dropping it ends both processes.
#[derive(Debug)]
pub struct Running {
    plan: PairPlan,
    pipeline: Pipeline,
    board: Progress,
    ends: [EndProcess; 2],
    notes: Vec<String>,
    opened_ns: u64,
    interrupted: bool,
}

/// Bytes moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Into the pipe.
    pub written: u64,
    /// Out of it.
    pub read: u64,
}

/// The bytes that a pair has moved so far, readable from another thread.
#[derive(Clone, Debug)]
pub struct Progress(Arc<SharedBoard>);

impl Progress {
    /// Bytes moved so far, as the ends publish them; costs the pair almost nothing.
    pub fn moved(&self) -> Moved {
        Moved {
            written: self.0.written_bytes.0.load(Ordering::Relaxed),
            read: self.0.read_bytes.0.load(Ordering::Relaxed),
        }
    }
}

impl Running {
    /// The two ends and the pipe between them.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Bytes moved so far, as the ends publish them; costs the pair almost nothing.
    pub fn moved(&self) -> Moved {
        self.board.moved()
    }

    /// Who tells the same from another thread.
    pub fn progress(&self) -> Progress {
        self.board.clone()
    }

    /// `CLOCK_MONOTONIC` when the gate opened.
    pub fn opened_ns(&self) -> u64 {
        self.opened_ns
    }

    /// Sleeps until both ends have finished or `timeout` has passed, or a signal arrives. Whether
    /// both have finished.
    ///
    /// # Errors
    /// Where `poll` fails.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        let until = Instant::now() + timeout;
        for end in &self.ends {
            // No event is asked for, so that only the hang-up of a dead end is reported.
            let mut entry = [PollFd::new(end.channel.get_ref().as_fd(), PollFlags::empty())];
            // Rounded up, or the last millisecond would be spent spinning.
            let left = until.saturating_duration_since(Instant::now());
            let left = left + Duration::from_micros(999);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut entry, timeout) {
                Ok(0) | Err(Errno::EINTR) => return Ok(false),
                Ok(_) => {}
                Err(error) => return Err(Error::system("can't wait for the ends")(error)),
            }
        }
        Ok(true)
    }

    /// Asks the pair to stop: the writer ends, the reader drains the pipe and ends too. Both still
    /// report; follow with [`Running::wait`].
    pub fn interrupt(&mut self) {
        self.interrupted = true;
        // It is not reaped before `wait`, so the pid can't be another's. Gone already is as well.
        let _ = kill(self.ends[0].pid(), Signal::SIGTERM);
    }

    /// Waits until both ends have finished, and returns the outcome.
    ///
    /// # Errors
    /// Where waiting itself fails. A pair that failed is an [`Outcome`].
    pub fn wait(mut self) -> Result<Outcome, Error> {
        while !self.wait_timeout(Duration::from_secs(3600))? {}
        let noticed_ns = monotonic_ns();
        let [writer, reader] = &mut self.ends;
        let (writer, reader) = (writer.finish()?, reader.finish()?);
        let moved = self.moved();
        let finished_ns = match self.board.0.finished_ns.0.load(Ordering::Acquire) {
            0 => noticed_ns,
            finished_ns => finished_ns,
        };
        Ok(Outcome {
            bytes: moved.read,
            written_bytes: moved.written,
            elapsed: Duration::from_nanos(finished_ns.saturating_sub(self.opened_ns)),
            interrupted: self.interrupted,
            writer,
            reader,
            notes: std::mem::take(&mut self.notes),
            plan: self.plan.clone(),
        })
    }
}

/// One end, as seen from here. Killed and reaped on drop.
#[derive(Debug)]
struct EndProcess {
    end: End,
    child: Child,
    channel: BufReader<fs::File>,
}

impl EndProcess {
    fn spawn(
        end: End,
        plan: &PairPlan,
        again: &Reexec,
        cpu: Option<usize>,
        memory: &OwnedFd,
        pipe: OwnedFd,
    ) -> Result<EndProcess, Error> {
        let (channel, speech) =
            pipe2(OFlag::O_CLOEXEC).map_err(Error::system("can't make a pipe"))?;
        let configuration = Configuration {
            end,
            parent: nix::unistd::getpid().as_raw(),
            plan: plan.clone(),
            cpu,
            board: memory.as_raw_fd(),
            channel: speech.as_raw_fd(),
        };
        let configuration = serde_json::to_string(&configuration)
            .map_err(|error| Error::Configuration(error.to_string()))?;
        let mut command = Command::new(&again.program);
        command.args(&again.arguments).arg(configuration);
        match end {
            End::Writer => command.arg0("pp-write").stdin(Stdio::null()).stdout(pipe),
            End::Reader => command.arg0("pp-read").stdin(pipe).stdout(Stdio::null()),
        };
        let kept = [memory.as_raw_fd(), speech.as_raw_fd()];
        let child = sys::spawn_tied(&mut command, kept).map_err(|source| Error::Spawn {
            end,
            program: again.program.clone(),
            source,
        })?;
        Ok(EndProcess { end, child, channel: BufReader::new(channel.into()) })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn next_word(&mut self) -> Option<Word> {
        let mut line = String::new();
        self.channel.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Returns its notes.
    fn wait_until_ready(&mut self) -> Result<Vec<String>, Error> {
        let end = self.end;
        match self.next_word() {
            Some(Word::Ready { notes }) => Ok(notes),
            Some(Word::NotReady(complaint)) => {
                Err(Error::Setup { end, message: complaint.message, hint: complaint.hint })
            }
            Some(Word::Done(_)) | None => {
                let status = self
                    .child
                    .wait()
                    .map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(Error::Setup {
                    end,
                    message: format!("it died before it was ready ({status})"),
                    hint: None,
                })
            }
        }
    }

    fn member(&self) -> Member {
        let pid = self.pid().as_raw();
        let file = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let command_line = file("cmdline");
        let mut arguments: Vec<String> = command_line.split(|&byte| byte == 0).map(text).collect();
        // The list ends with a NUL.
        arguments.pop();
        Member {
            pid,
            start_time_ticks: start_time_ticks(&text(&file("stat"))),
            comm: text(file("comm").trim_ascii_end()),
            command_line: arguments,
            end: Some(self.end),
        }
    }

    fn finish(&mut self) -> Result<EndOutcome, Error> {
        let mut report = None;
        while let Some(word) = self.next_word() {
            if let Word::Done(done) = word {
                report = Some(done);
            }
        }
        let status = self.child.wait().map_err(|error| {
            Error::system("can't wait for an end")(Errno::from_raw(
                error.raw_os_error().unwrap_or(0),
            ))
        })?;
        Ok(EndOutcome::new(self.end, self.pid().as_raw(), status, report))
    }
}

impl Drop for EndProcess {
    fn drop(&mut self) {
        // Does nothing to a child that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Field 22 of `/proc/PID/stat`, counted from behind the name, which may hold anything.
fn start_time_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(start_time_ticks(stat), Some(4242));
        assert_eq!(start_time_ticks("7 (x) S 1 2"), None);
    }
}
