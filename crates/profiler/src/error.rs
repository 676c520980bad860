//! Everything that can go wrong between a pipeline and its profile.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::perfdata::read::FormatError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every way to sample was refused.
    #[error("the kernel lets no event sample: {}", describe_refusals(.refused))]
    NoEvent {
        /// What was tried, in words, with the answer, in order.
        refused: Vec<(String, Errno)>,
    },
    /// The event that samples elsewhere could not be opened on a task or CPU.
    #[error("opening {event} on {target}: {}", .errno.desc())]
    Open {
        /// The event.
        event: String,
        /// Which task and CPU.
        target: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Not even the smallest ring could be mapped.
    #[error("mapping a ring buffer of {bytes} bytes: {}", .errno.desc())]
    Ring {
        /// Its size.
        bytes: usize,
        /// The kernel's answer.
        errno: Errno,
    },
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

fn describe_refusals(refused: &[(String, Errno)]) -> String {
    let mut text = String::new();
    for (what, errno) in refused {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&format!("{what}: {}", errno.desc()));
    }
    text
}
