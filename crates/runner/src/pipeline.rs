//! What a pipeline is: members, the pipes between them, and who holds which end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Index of a [`Member`] in [`Pipeline::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct MemberId(pub usize);

/// Index of a [`Pipe`] in [`Pipeline::pipes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PipeId(pub usize);

/// The processes of a pipeline, upstream first, and the pipes between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pipeline {
    /// Upstream first: where the pipes form no cycle, a member stands after all that write to it.
    pub members: Vec<Member>,
    /// In the order of their first writer.
    pub pipes: Vec<Pipe>,
}

/// One process of a pipeline, with its threads and the children that it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Thread-group id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`): with the pid, the
    /// identity of a process. `None` where it could not be read.
    pub start_time_ticks: Option<u64>,
    /// `/proc/PID/comm`: up to 15 bytes, chosen by the process, so not to be trusted.
    pub comm: String,
    /// The argument vector; empty where it could not be read.
    pub command_line: Vec<String>,
    /// The part this member plays where the pipeline is a built-in pair.
    pub end: Option<End>,
}

/// The two ends of a built-in pipe pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Writes into the pipe.
    Writer,
    /// Reads from the pipe.
    Reader,
}

impl End {
    /// `writer` or `reader`.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Writer => "writer",
            End::Reader => "reader",
        }
    }
}

/// One kernel pipe and the members at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pipe {
    /// Inode number, as in `pipe:[88121]`.
    pub inode: u64,
    /// The device of that inode: pipefs for an anonymous pipe, the file system of a named FIFO.
    pub device: u64,
    /// Where a named FIFO lives; `None` for an anonymous pipe.
    pub path: Option<PathBuf>,
    /// Members that hold the write end.
    pub writers: Vec<MemberId>,
    /// Members that hold the read end.
    pub readers: Vec<MemberId>,
    /// `F_GETPIPE_SZ` in bytes; `None` where it was not asked.
    pub capacity_bytes: Option<u64>,
}
