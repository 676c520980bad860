//! Everything that can go wrong between a pipeline and its profile.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::environment::Explanation;
use crate::perfdata::read::FormatError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every way to sample was refused.
    #[error("the kernel lets no event sample: {}", .0.message)]
    NoEvent(Explanation),
    /// The event that samples elsewhere could not be opened on some task or CPU.
    #[error("{}", .0.message)]
    Open(Explanation),
    /// Not even the smallest ring could be mapped.
    #[error("{}", .0.message)]
    Ring(Explanation),
    /// An ioctl on an open event failed.
    #[error("{action} an event: {}", .errno.desc())]
    Control {
        /// What was asked.
        action: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// None of the members is alive.
    #[error("no process of the pipeline is there any more")]
    NoTasks,
    /// The recording could not be written or read.
    #[error("{action} {}: {source}", .path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no recording.
    #[error("{}: {source}", .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The thread that drains the rings ended without an answer.
    #[error("the thread that drains the ring buffers died")]
    DrainDied,
}

impl Error {
    /// A fix that can be pasted into a shell.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoEvent(explanation) | Error::Open(explanation) | Error::Ring(explanation) => {
                explanation.hint.clone()
            }
            Error::File { action, .. } if action.starts_with("making a temporary") => {
                Some("TMPDIR=/a/folder/with/room pipeprof …".to_owned())
            }
            _ => None,
        }
    }
}
