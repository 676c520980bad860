//! Errors of launching a command.

use std::io;
use std::path::PathBuf;

use crate::discover::DiscoverError;
use crate::open_files;

/// Why a command could not be launched or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Nothing was given to run.
    #[error("no command was given")]
    Empty,
    /// An argument holds a zero byte, which no program can be passed.
    #[error("the argument {argument:?} holds a zero byte")]
    ZeroByte {
        /// As given.
        argument: String,
    },
    /// No such file, or none of that name in `PATH`.
    #[error("{program:?} was not found{}", if *.searched { " in PATH" } else { "" })]
    NotFound {
        /// As given.
        program: String,
        /// It was looked for in `PATH`.
        searched: bool,
    },
    /// The file is there but could not be executed.
    #[error("{} could not be executed: {source}", .path.display())]
    Exec {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a process, or something else that launching one takes.
    #[error("no process could be started: {source}")]
    Start {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Its descendants could not be found.
    #[error(transparent)]
    Proc(#[from] DiscoverError),
    /// The command could not be waited for.
    #[error("pid {pid} could not be waited for: {source}")]
    Wait {
        /// Of the command.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl CommandError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            CommandError::Proc(error) => error.hint(),
            CommandError::Start { source } | CommandError::Wait { source, .. } => {
                open_files::hint(source)
            }
            CommandError::NotFound { program, .. } if program.contains(char::is_whitespace) => {
                Some("a whole command line is passed with -c: -c 'zcat big.gz | sort'".to_owned())
            }
            CommandError::Exec { path, source }
                if source.kind() == io::ErrorKind::PermissionDenied && path.is_file() =>
            {
                // In single quotes, so that the path can be pasted whatever it holds.
                let path = path.display().to_string().replace('\'', r"'\''");
                Some(format!("chmod +x '{path}'"))
            }
            _ => None,
        }
    }
}
