//! Errors of finding a pipeline.

use std::io;

use crate::open_files;

/// Why a pipeline could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// No process has this pid, or it ended before it was looked at.
    #[error("no process has pid {pid}")]
    NoSuchProcess {
        /// As asked for.
        pid: i32,
    },
    /// The descriptors of the process may not be read.
    #[error("the descriptors of {comm} (pid {pid}) may not be read: it belongs to another user")]
    NotAllowed {
        /// As asked for.
        pid: i32,
        /// The name of the process.
        comm: String,
    },
    /// The process is pipeprof itself.
    #[error("pid {pid} is pipeprof itself")]
    Ourselves {
        /// As asked for.
        pid: i32,
    },
    /// Another process has the pid now.
    #[error("pid {pid} was given to another process while pipeprof looked at it")]
    Replaced {
        /// As asked for.
        pid: i32,
    },
    /// `/proc` shows the processes of another PID namespace, where the same numbers are others.
    #[error("/proc belongs to another PID namespace: this process is {own} here and {} there",
            there.as_deref().unwrap_or("unknown"))]
    ForeignProc {
        /// Our own pid.
        own: i32,
        /// Our pid as `/proc/self` has it; `None` where it is unknown there.
        there: Option<String>,
    },
    /// `/proc` itself cannot be read.
    #[error("{what} cannot be read: {source}")]
    Proc {
        /// The file or directory.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl DiscoverError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            DiscoverError::NoSuchProcess { .. } => {
                Some("`pipeprof ls` shows the pipelines that run now".to_owned())
            }
            DiscoverError::NotAllowed { .. } => {
                Some("run the same command as root: sudo pipeprof …".to_owned())
            }
            DiscoverError::Ourselves { .. } | DiscoverError::Replaced { .. } => None,
            DiscoverError::ForeignProc { .. } => Some(
                "start the namespace with a /proc of its own: unshare -pf --mount-proc; or in it: \
                 mount -t proc proc /proc"
                    .to_owned(),
            ),
            DiscoverError::Proc { source, .. } => Some(
                open_files::hint(source)
                    .unwrap_or_else(|| "mount it: mount -t proc proc /proc".to_owned()),
            ),
        }
    }
}
