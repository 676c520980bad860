//! Errors before, during and after the start of a pipe pair.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::discover::DiscoverError;
use crate::open_files;
use crate::pipeline::End;
use crate::size;

/// Why a pair could not be planned, started or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings that make no sense together. The text names the flag to change.
    #[error("{0}")]
    Refused(String),
    /// The ends could not be identified in `/proc`.
    #[error(transparent)]
    Proc(DiscoverError),
    /// `F_SETPIPE_SZ` was refused.
    #[error("the kernel refused a pipe of {}: {source}{}", size::exact(*wanted), limit(*max))]
    PipeSize {
        /// Bytes asked for.
        wanted: u64,
        /// `/proc/sys/fs/pipe-max-size`, where it could be read.
        max: Option<u64>,
        /// The kernel's answer.
        source: Errno,
    },
    /// An end could not be pinned to the CPU that was asked for.
    #[error("can't pin the {} to CPU {cpu}: {source}", end.as_str())]
    Pin {
        /// Which end.
        end: End,
        /// The CPU asked for.
        cpu: usize,
        /// The kernel's answer.
        source: Errno,
    },
    /// `mlock` was refused.
    #[error("can't lock {} of memory, probably above what `ulimit -l` allows: {source}", size::exact(*bytes))]
    LockMemory {
        /// Bytes to lock.
        bytes: u64,
        /// The kernel's answer.
        source: Errno,
    },
    /// `--check-huge-page` found an ordinary page.
    #[error("the buffer is not in huge pages: the page at byte {offset} is an ordinary one")]
    NotHuge {
        /// Offset into the buffer.
        offset: u64,
    },
    /// `--check-huge-page` could not look.
    #[error("can't tell whether the buffer is in huge pages: {what}")]
    HugeUnknown {
        /// Which file, and why.
        what: String,
    },
    /// A stage needs larger slots than the kernel makes.
    #[error(
        "the kernel put only {} into one fragment of a socket buffer; {} are needed",
        size::exact(*found), size::exact(*wanted)
    )]
    Fragments {
        /// Bytes of a whole fragment.
        wanted: u64,
        /// Bytes in the last one that was tried.
        found: u64,
    },
    /// An end alone was given something other than a pipe.
    #[error("{what} is not a pipe, and {why}")]
    NotAPipe {
        /// `stdin` or `stdout`.
        what: &'static str,
        /// What needs one.
        why: &'static str,
    },
    /// A writer alone would write until the disk is full.
    #[error("standard output is a file, and the writer would write forever")]
    Endless,
    /// An end could not be started.
    #[error("can't start the {} ({}): {source}", end.as_str(), program.display())]
    Spawn {
        /// Which end.
        end: End,
        /// The program that was to be it.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An end gave up while it set itself up.
    #[error("the {} could not get ready: {message}", end.as_str())]
    Setup {
        /// Which end.
        end: End,
        /// Its own words.
        message: String,
        /// Its own hint.
        hint: Option<String>,
    },
    /// An end was started with a configuration that can't be read.
    #[error("an end of the pair was started with a configuration that can't be read: {0}")]
    Configuration(String),
    /// The bytes that arrived are not the bytes that were sent.
    #[error(
        "corrupt data at byte {offset}: found {found:#04x}, but the writer wrote {expected:#04x}"
    )]
    Corrupt {
        /// Offset in the stream of the first wrong byte.
        offset: u64,
        /// What the writer filled in there.
        expected: u8,
        /// What was read.
        found: u8,
    },
    /// Any other system call that failed.
    #[error("{doing}: {source}")]
    System {
        /// What was being done, as in "can't make a pipe".
        doing: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
}

impl Error {
    pub(crate) fn system(doing: &'static str) -> impl Fn(Errno) -> Error {
        move |source| Error::System { doing, source }
    }

    /// Whether the arguments are at fault rather than the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Refused(_) | Error::NotAPipe { .. } | Error::Endless)
    }

    /// A fix that can be pasted into a shell, or the flag to change.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Proc(error) => error.hint(),
            Error::PipeSize { wanted, max: Some(max), .. } if wanted > max => {
                Some(format!("sudo sysctl fs.pipe-max-size={}", wanted.next_power_of_two()))
            }
            Error::PipeSize { source: Errno::EPERM, .. } => Some(
                "this user's pipes hold too much already: close some, or \
                 sudo sysctl fs.pipe-user-pages-soft=0"
                    .to_owned(),
            ),
            Error::Pin { .. } => {
                Some("see `taskset -p $$` for the CPUs allowed, or use --pin none".to_owned())
            }
            Error::LockMemory { .. } => {
                Some("ulimit -l unlimited (as root), or leave out --lock-memory".to_owned())
            }
            Error::NotHuge { .. } => Some(
                "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled; if that is \
                 set already, memory is too fragmented: echo 1 | sudo tee \
                 /proc/sys/vm/compact_memory"
                    .to_owned(),
            ),
            Error::Fragments { .. } => Some(
                "memory is too fragmented: echo 1 | sudo tee /proc/sys/vm/compact_memory; or use \
                 --stage tee"
                    .to_owned(),
            ),
            Error::HugeUnknown { .. } => {
                Some("run as root, or leave out --check-huge-page".to_owned())
            }
            Error::Endless => Some("limit it: pipeprof write --bytes 1G … >FILE".to_owned()),
            Error::NotAPipe { what: "stdout", .. } => {
                Some("pipeprof write … | pv >/dev/null".to_owned())
            }
            Error::NotAPipe { .. } => Some("yes | pipeprof read …".to_owned()),
            Error::Setup { hint, .. } => hint.clone(),
            Error::System { source, .. } => open_files::hint(&(*source).into()),
            Error::Corrupt { offset: 0, .. } => Some(
                "only what --fill sends can be verified: pipeprof write --fill … | pipeprof read \
                 --verify"
                    .to_owned(),
            ),
            Error::Corrupt { .. } => Some(
                "a buffer was reused before it was read: the pipe must not hold more than one \
                 buffer; leave out --pipe-size or raise --buf-size"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn limit(max: Option<u64>) -> String {
    max.map(|max| format!(" (fs.pipe-max-size is {})", size::exact(max))).unwrap_or_default()
}
