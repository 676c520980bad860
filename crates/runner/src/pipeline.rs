//! What a pipeline is: members, the pipes between them, and who holds which end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Index of a [`Member`] in [`Pipeline::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub usize);

/// Index of a [`Pipe`] in [`Pipeline::pipes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PipeId(pub usize);

/// The processes of a pipeline, upstream first, and the pipes between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Upstream first: where the pipes form no cycle, a member stands after all that write to it.
    pub members: Vec<Member>,
    /// In the order of their first writer.
    pub pipes: Vec<Pipe>,
}

/// One process of a pipeline, with its threads and the children that it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Pipeline {
    /// Adds the members and pipes of a later look, and `others` behind them; whether any was new.
    /// A member is known by pid and start time, a pipe by device and inode.
    pub fn merge(&mut self, later: &Pipeline, others: &[Member]) -> bool {
        let before = (self.members.len(), self.pipes.len());
        let mut ids = Vec::with_capacity(later.members.len());
        for member in later.members.iter().chain(others) {
            let same = |known: &&Member| {
                (known.pid, known.start_time_ticks) == (member.pid, member.start_time_ticks)
            };
            let position = self.members.iter().position(|known| same(&known));
            let id = position.unwrap_or_else(|| {
                self.members.push(member.clone());
                self.members.len() - 1
            });
            // What a shell forks gets its own name and command line only with its exec.
            self.members[id].comm.clone_from(&member.comm);
            if !member.command_line.is_empty() {
                self.members[id].command_line.clone_from(&member.command_line);
            }
            ids.push(MemberId(id));
        }
        let mapped = |held: &[MemberId]| -> Vec<MemberId> {
            held.iter().filter_map(|id| ids.get(id.0).copied()).collect()
        };
        for pipe in &later.pipes {
            let (writers, readers) = (mapped(&pipe.writers), mapped(&pipe.readers));
            let known = self
                .pipes
                .iter_mut()
                .find(|known| (known.device, known.inode) == (pipe.device, pipe.inode));
            match known {
                Some(known) => {
                    add_new(&mut known.writers, writers);
                    add_new(&mut known.readers, readers);
                    known.capacity_bytes = known.capacity_bytes.or(pipe.capacity_bytes);
                }
                None => self.pipes.push(Pipe { writers, readers, ..pipe.clone() }),
            }
        }
        before != (self.members.len(), self.pipes.len())
    }
}

fn add_new(ids: &mut Vec<MemberId>, more: Vec<MemberId>) {
    for id in more {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, start: u64) -> Member {
        Member {
            pid,
            start_time_ticks: Some(start),
            comm: format!("c{pid}"),
            command_line: Vec::new(),
            end: None,
        }
    }

    fn pipe(inode: u64, writer: usize, reader: usize) -> Pipe {
        Pipe {
            inode,
            device: 1,
            path: None,
            writers: vec![MemberId(writer)],
            readers: vec![MemberId(reader)],
            capacity_bytes: None,
        }
    }

    #[test]
    fn looks_add_up_and_ids_follow() {
        let first =
            Pipeline { members: vec![member(1, 0), member(2, 0)], pipes: vec![pipe(7, 0, 1)] };
        // A reused pid is another member, and the order of a look is its own.
        let later = Pipeline {
            members: vec![member(3, 5), member(2, 9), member(1, 0)],
            pipes: vec![pipe(7, 2, 1), pipe(8, 1, 0)],
        };
        let mut all = Pipeline::default();
        assert!(all.merge(&first, &[member(9, 0)]));
        assert!(!all.merge(&first, &[member(9, 0)]));
        assert!(all.merge(&later, &[]));
        let pids: Vec<i32> = all.members.iter().map(|member| member.pid).collect();
        assert_eq!(pids, [1, 2, 9, 3, 2]);
        assert_eq!(all.pipes[0].readers, [MemberId(1), MemberId(4)]);
        assert_eq!(
            (&all.pipes[1].writers[..], &all.pipes[1].readers[..]),
            (&[MemberId(4)][..], &[MemberId(3)][..])
        );
    }
}
