//! What an end of the pair does, in its own process: set itself up, wait at the gate, move bytes,
//! report.

mod alone;
mod buffer;
mod fixed;
mod pattern;
mod read;
mod write;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use self::alone::{Alone, Moved};
use self::buffer::Buffer;
use self::fixed::Fixed;
pub use self::fixed::try_fragment;
use self::read::Reading;
use self::write::Writing;
use crate::access;
use crate::capacity::capacity;
use crate::cpus;
use crate::error::Error;
use crate::pipeline::End;
use crate::plan::PairPlan;
use crate::stage::{ReadWith, WriteWith};
use crate::sys::{self, SharedBoard};

/// Exit status of an end that said on its channel why it failed.
pub(crate) const FAILED: u8 = 1;

/// All that an end has to know, as the one argument that it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) end: End,
    /// The process that launched it.
    pub(crate) parent: i32,
    pub(crate) plan: PairPlan,
    pub(crate) cpu: Option<usize>,
    /// Descriptor of the shared [`sys::Board`].
    pub(crate) board: RawFd,
    /// Descriptor of the pipe that takes [`Word`]s to the parent, a line each.
    pub(crate) channel: RawFd,
}

/// What an end says to its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It stands at the gate.
    Ready { notes: Vec<String> },
    /// It could not get that far.
    NotReady(Complaint),
    /// It left its loop.
    Done(Report),
}

/// An [`Error`] in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// What failed and why.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Complaint {
        Complaint { message: error.to_string(), hint: error.hint() }
    }
}

/// What an end did after the gate opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Transfers, and their result.
    #[serde(flatten)]
    pub tally: Tally,
    /// What it cost.
    #[serde(flatten)]
    pub usage: Usage,
    /// Why it ended early, if it did.
    pub complaint: Option<Complaint>,
}

/// Transfers of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Bytes moved.
    pub bytes: u64,
    /// Calls of `write`, `vmsplice`, `tee`, `read` or `splice`, those that moved nothing included.
    pub calls: u64,
    /// Calls that came back with `EAGAIN`.
    pub retries: u64,
    /// It stopped because the other end had no process any more.
    pub other_end_gone: bool,
}

/// `getrusage(2)` between gate and end of loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user space.
    pub user_ns: u64,
    /// CPU time in the kernel.
    pub system_ns: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// Times it slept.
    pub voluntary_switches: u64,
    /// Times it was preempted.
    pub involuntary_switches: u64,
}

impl Usage {
    fn now() -> Usage {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Usage::default() };
        let ns = |time: nix::sys::time::TimeVal| {
            (time.tv_sec() as u64) * 1_000_000_000 + (time.tv_usec() as u64) * 1_000
        };
        Usage {
            user_ns: ns(usage.user_time()),
            system_ns: ns(usage.system_time()),
            minor_faults: usage.minor_page_faults() as u64,
            major_faults: usage.major_page_faults() as u64,
            voluntary_switches: usage.voluntary_context_switches() as u64,
            involuntary_switches: usage.involuntary_context_switches() as u64,
        }
    }

    fn since(self, start: Usage) -> Usage {
        let (now, start) = (self.to_words(), start.to_words());
        Usage::from_words(std::array::from_fn(|at| now[at].saturating_sub(start[at])))
    }

    /// Its numbers, in the order of the fields.
    pub(crate) fn to_words(self) -> [u64; 6] {
        [
            self.user_ns,
            self.system_ns,
            self.minor_faults,
            self.major_faults,
            self.voluntary_switches,
            self.involuntary_switches,
        ]
    }

    /// Likewise.
    pub(crate) fn from_words(words: [u64; 6]) -> Usage {
        let [user_ns, system_ns, minor_faults, major_faults, voluntary, involuntary] = words;
        Usage {
            user_ns,
            system_ns,
            minor_faults,
            major_faults,
            voluntary_switches: voluntary,
            involuntary_switches: involuntary,
        }
    }

    /// CPU time in user space and kernel.
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// Is an end of a pair: call this where the program was started again by
/// [`launch`](crate::pair::launch). Returns the process's exit status.
///
/// # Errors
/// [`Error::Configuration`] where `configuration` was not made by `launch`. What goes wrong later
/// is told to the parent, which reports it.
pub fn main(configuration: &str) -> Result<u8, Error> {
    let Configuration { end, parent, plan, cpu, board, channel } =
        serde_json::from_str(configuration)
            .map_err(|error| Error::Configuration(error.to_string()))?;
    // The launcher has asked for this before the exec already, but executing a file that has
    // capabilities takes it back (begin_new_exec in fs/exec.c, v6.18).
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(Error::system("can't follow pipeprof"))?;
    if nix::unistd::getppid().as_raw() != parent {
        return Err(Error::Configuration("pipeprof ended meanwhile".to_owned()));
    }
    let inherited = |error: Errno| Error::Configuration(format!("inherited descriptor: {error}"));
    let mut channel = std::fs::File::from(sys::adopt(channel).map_err(inherited)?);
    let memory = sys::adopt(board).map_err(inherited)?;
    let board = SharedBoard::map(memory.as_fd()).map_err(inherited)?;

    let name = match end {
        End::Writer => c"pp-write",
        End::Reader => c"pp-read",
    };
    let mut notes = Vec::new();
    let ready = nix::sys::prctl::set_name(name)
        .and_then(|()| sys::ignore(Signal::SIGPIPE))
        .and_then(|()| sys::stop_on(Signal::SIGTERM))
        .map_err(Error::system("can't set up the process"))
        .and_then(|()| cpu.map_or(Ok(()), |cpu| cpus::pin_to(cpu, end)))
        .and_then(|()| Loop::new(end, &plan, &mut notes));
    let mut body = match ready {
        Ok(body) => body,
        Err(error) => {
            say(&mut channel, &Word::NotReady(error.into()));
            return Ok(FAILED);
        }
    };
    // What its buffers and its pipe took is taken, and the profiler has to look at it.
    access::give_up();
    say(&mut channel, &Word::Ready { notes });

    let published = match end {
        End::Writer => &board.written_bytes.0,
        End::Reader => &board.read_bytes.0,
    };
    sys::wait_at(&board.gate.0);
    let start = Usage::now();
    let (tally, result) = body.run(&plan, published);
    if end == End::Reader {
        board.finished_ns.0.store(monotonic_ns(), Ordering::Release);
    }
    let usage = Usage::now().since(start);
    let complaint = result.err().map(Complaint::from);
    let status = if complaint.is_some() { FAILED } else { 0 };
    say(&mut channel, &Word::Done(Report { tally, usage, complaint }));
    Ok(status)
}

/// If the parent has ended, the message goes nowhere, and this process is about to be killed.
fn say(channel: &mut std::fs::File, word: &Word) {
    if let Ok(mut line) = serde_json::to_string(word) {
        line.push('\n');
        let _ = channel.write_all(line.as_bytes());
    }
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| (time.tv_sec() as u64) * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A loop with all that it needs, ready to start.
#[derive(Debug)]
enum Loop {
    Write(Buffer),
    /// Two buffers, or one whose halves take turns.
    Vmsplice(Buffer, Option<Buffer>),
    Tee(Fixed),
    Read(Buffer),
    Splice(std::fs::File),
}

impl Loop {
    fn new(end: End, plan: &PairPlan, notes: &mut Vec<String>) -> Result<Loop, Error> {
        Ok(match end {
            End::Writer => match plan.write_with {
                WriteWith::Write => {
                    unblock(io::stdout().as_fd(), plan)?;
                    Loop::Write(Buffer::copied(plan, notes)?)
                }
                WriteWith::Vmsplice => {
                    let first = Buffer::lent(plan, notes)?;
                    let second = if plan.same_buffer {
                        None
                    } else {
                        // A second note on the same shortage says nothing new.
                        Some(Buffer::lent(plan, &mut Vec::new())?)
                    };
                    Loop::Vmsplice(first, second)
                }
                WriteWith::Tee | WriteWith::TeeLarge => {
                    let capacity = capacity(&io::stdout());
                    Loop::Tee(Fixed::new(plan, capacity.or(plan.pipe_size).unwrap_or_default())?)
                }
            },
            End::Reader => match plan.read_with {
                ReadWith::Read => {
                    unblock(io::stdin().as_fd(), plan)?;
                    Loop::Read(Buffer::read(plan, notes)?)
                }
                ReadWith::Splice => {
                    let sink = OpenOptions::new().write(true).open("/dev/null");
                    Loop::Splice(sink.map_err(|error| {
                        Error::system("can't open /dev/null")(Errno::from_raw(
                            error.raw_os_error().unwrap_or(0),
                        ))
                    })?)
                }
            },
        })
    }

    fn run(&mut self, plan: &PairPlan, published: &AtomicU64) -> (Tally, Result<(), Error>) {
        let mut tally = Tally::default();
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let writing = || Writing::new(plan, stdout.as_fd(), published);
        let reading = || Reading::new(plan, stdin.as_fd(), published);
        let result = match self {
            Loop::Write(buffer) => write::write_loop(&writing(), buffer.as_mut_slice(), &mut tally)
                .map_err(Error::system("write to the pipe failed")),
            Loop::Vmsplice(first, second) => {
                let first = first.as_mut_slice();
                let buffers = match second {
                    Some(second) => [first, second.as_mut_slice()],
                    None => first.split_at_mut(first.len() / 2).into(),
                };
                write::vmsplice_loop(&writing(), buffers, &mut tally)
                    .map_err(Error::system("vmsplice to the pipe failed"))
            }
            Loop::Tee(fixed) => write::tee_loop(&writing(), fixed, &mut tally)
                .map_err(Error::system("tee to the pipe failed")),
            Loop::Read(buffer) => read::read_loop(&reading(), buffer.as_mut_slice(), &mut tally),
            Loop::Splice(sink) => read::splice_loop(&reading(), sink.as_fd(), &mut tally),
        };
        (tally, result)
    }
}

/// `O_NONBLOCK`, which is what `write` and `read` have instead of `SPLICE_F_NONBLOCK`.
fn unblock(pipe: BorrowedFd, plan: &PairPlan) -> Result<(), Error> {
    if plan.busy_loop {
        let flags = fcntl(pipe, FcntlArg::F_GETFL)
            .map(OFlag::from_bits_retain)
            .and_then(|flags| fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
        flags.map_err(Error::system("can't make the pipe non-blocking"))?;
    }
    Ok(())
}

/// Waits until the pipe has space or data: asleep, or by asking again and again.
#[inline(always)]
fn wait_for(pipe: BorrowedFd, event: i16, busy_loop: bool) -> Result<(), Errno> {
    while !sys::stopped() {
        match sys::poll(pipe, event, !busy_loop) {
            Ok(true) => break,
            Ok(false) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
