//! Everything that can go wrong between a pipeline and its profile.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use pipeprof_runner::open_files;

use crate::environment::Explanation;
use crate::perfdata::read::FormatError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every way to sample was refused.
    #[error("the kernel refused every sampling event: {}", .0.message)]
    NoEvent(Explanation),
    /// The chosen event could not be opened on one task or CPU.
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
    #[error("every process of the pipeline has ended")]
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
    /// The file is not a recording.
    #[error("{}: {source}", .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A folder without a recording.
    #[error("{} is a folder, but not a recording: it holds neither the pipeprof.json of pipeprof \
             record nor the data of perf record --threads", .path.display())]
    NoRecording {
        /// Which.
        path: PathBuf,
    },
    /// The recording has no event of the name that is asked for.
    #[error("{} has no event {name}", .path.display())]
    NoEventOfName {
        /// Which recording.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names that it has, with their samples.
        known: String,
    },
    /// A file beside the records cannot be understood.
    #[error("{} is damaged: {source}", .path.display())]
    Sidecar {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A number in a file beside the records is impossible in a recording.
    #[error("{} is damaged: {field} is {number}", .path.display())]
    Implausible {
        /// Which file.
        path: PathBuf,
        /// Where in it: `capture.start_ns`.
        field: String,
        /// What it says.
        number: u64,
    },
    /// A file beside the records was written by another version of this program.
    #[error("{} has format version {version}, and this pipeprof reads version {known}",
            .path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version that is read.
        known: u32,
    },
    /// A file or folder with the name of the new recording exists.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// A recording could be made in a folder, and not be given its name.
    #[error("{} is append-only (chattr +a), so a finished recording cannot be renamed in it",
            .folder.display())]
    NoRenaming {
        /// The folder.
        folder: PathBuf,
    },
    /// A recording of that name is being made, or its maker was killed.
    #[error("{} exists: a recording of that name is in progress, or was interrupted; pipeprof \
             report can read it", .path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The built-in pair could not be launched or waited for.
    #[error(transparent)]
    Pair(#[from] pipeprof_runner::error::Error),
    /// A command could not be launched or waited for.
    #[error(transparent)]
    Command(#[from] pipeprof_runner::command::CommandError),
    /// A pipeline could not be found.
    #[error(transparent)]
    Discover(#[from] pipeprof_runner::discover::DiscoverError),
    /// The user asked to stop before the watch began.
    #[error("stopped before anything was recorded")]
    Stopped,
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
            Error::NoRenaming { folder } => Some(format!("sudo chattr -a {}", quoted(folder))),
            Error::File { action: "naming", path, .. } => Some(format!(
                "it is complete under another name: pipeprof report {}",
                quoted(&path.with_extension("pipeprof.partial"))
            )),
            Error::Format { path, source } => source.hint(&quoted(path)),
            Error::NoEventOfName { known, .. } => Some(format!("its events are {known}")),
            Error::File { action: "making a folder in", path, source }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some(format!("mkdir -p {}", quoted(path)))
            }
            Error::File { action: "making", path, source }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some(folder_hint(path))
            }
            Error::File { path, source, .. } => {
                room_hint(path, source).or_else(|| open_files::hint(source))
            }
            Error::Control { errno, .. } => open_files::hint(&(*errno).into()),
            Error::Pair(error) => error.hint(),
            Error::Command(error) => error.hint(),
            Error::Discover(error) => error.hint(),
            Error::Exists { path } => Some(format!("rm -r {}", quoted(path))),
            Error::Unfinished { path } => Some(format!("rm -r {}", quoted(path))),
            _ => None,
        }
    }
}

/// What to do where there is no folder for what is to be made.
fn folder_hint(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if open_files::is_deleted(folder) {
        return "this folder was deleted: cd /a/folder/that/exists".to_owned();
    }
    format!("mkdir -p {}", quoted(folder))
}

/// What to do where a disk is full, or a file as large as it may be.
pub(crate) fn room_hint(path: &Path, error: &io::Error) -> Option<String> {
    match error.raw_os_error()? {
        libc::EFBIG => Some("ulimit -f unlimited".to_owned()),
        libc::ENOSPC | libc::EDQUOT if path.starts_with(std::env::temp_dir()) => {
            Some("TMPDIR=/a/folder/with/room pipeprof …".to_owned())
        }
        libc::ENOSPC | libc::EDQUOT => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = quoted(folder.unwrap_or(Path::new(".")));
            Some(format!("df -h {folder}; or -o /a/folder/with/room/NAME"))
        }
        _ => None,
    }
}

/// As a shell reads it back.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
