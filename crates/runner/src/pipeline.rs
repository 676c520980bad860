//! A pipeline: members, the pipes between them, and which member holds which end.

mod link;
pub mod order;
mod stored;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use link::Link;

/// Who a process is: its pid is given to another once it has ended, this pair is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId {
    /// Thread-group id.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot. `None` if it could not be read:
    /// then only the pid identifies it.
    pub start_time: Option<u64>,
}

/// Which pipe this is: the number of a FIFO is its own on its file system only. What arrives at a
/// socket is known by that socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PipeKey {
    /// `st_dev`: pipefs for an anonymous pipe, the file system of a named FIFO, sockfs for a socket.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// The processes of a pipeline, upstream first, and the pipes between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "stored::Pipeline")]
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
    /// The writer, then the reader.
    pub const BOTH: [End; 2] = [End::Writer, End::Reader];

    /// `writer` or `reader`.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Writer => "writer",
            End::Reader => "reader",
        }
    }
}

/// One kernel pipe, or one direction of a connection between two sockets, and the members at its
/// ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pipe {
    /// What it is.
    #[serde(flatten)]
    pub link: Link,
    /// Inode number, as in `pipe:[88121]`; of two sockets that of the one that receives.
    pub inode: u64,
    /// The device of that inode: pipefs for an anonymous pipe, the file system of a named FIFO.
    pub device: u64,
    /// Where a named FIFO lives; `None` for anything else.
    pub path: Option<PathBuf>,
    /// Members that hold the write end.
    pub writers: Vec<MemberId>,
    /// Members that hold the read end.
    pub readers: Vec<MemberId>,
    /// `F_GETPIPE_SZ` in bytes; `None` where it was not asked.
    pub capacity_bytes: Option<u64>,
}

impl Member {
    /// Who it is.
    pub fn id(&self) -> MemberId {
        MemberId { pid: self.pid, start_time: self.start_time_ticks }
    }
}

impl Pipe {
    /// Which pipe it is.
    pub fn key(&self) -> PipeKey {
        PipeKey { device: self.device, inode: self.inode }
    }

    /// `pipe:[88121]`, as `/proc/PID/fd` has it; `unix:[88121]` and `tcp:[88121]` of sockets.
    pub fn name(&self) -> String {
        self.link.named(self.inode)
    }

    /// One member alone holds both ends, for itself or for what it starts.
    pub fn is_internal(&self) -> bool {
        matches!((&self.writers[..], &self.readers[..]), ([a], [b]) if a == b)
    }

    /// The members at one of its ends.
    pub fn at(&self, end: End) -> &[MemberId] {
        match end {
            End::Writer => &self.writers,
            End::Reader => &self.readers,
        }
    }
}

impl Pipeline {
    /// The member with this id.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id() == id)
    }

    /// Where in [`Pipeline::members`] the member with this id stands.
    pub fn position(&self, id: MemberId) -> Option<usize> {
        self.members.iter().position(|member| member.id() == id)
    }

    /// Members with pipes first, each behind those that write to it; the others in their order.
    pub fn upstream_first(&self) -> Vec<usize> {
        let places = self.places();
        let at = |ids: &[MemberId]| -> Vec<usize> {
            ids.iter().filter_map(|id| places.get(id).copied()).collect()
        };
        let between = self.pipes.iter().filter(|pipe| !pipe.is_internal());
        let pipes: Vec<(Vec<usize>, Vec<usize>)> =
            between.map(|pipe| (at(&pipe.writers), at(&pipe.readers))).collect();
        let mut holds = vec![false; self.members.len()];
        for &member in pipes.iter().flat_map(|(writers, readers)| writers.iter().chain(readers)) {
            holds[member] = true;
        }
        let ends = pipes.iter().map(|(writers, readers)| (&writers[..], &readers[..]));
        let order = order::along_pipes(self.members.len(), ends);
        let (with_pipes, bare): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&member| holds[member]);
        with_pipes.into_iter().chain(bare).collect()
    }

    /// Adds the members and pipes of a later look, and `others` behind them; whether that changed
    /// the members, or which of them holds which end.
    pub fn merge(&mut self, later: &Pipeline, others: &[Member]) -> bool {
        let before = self.size();
        let mut places = self.places();
        for member in later.members.iter().chain(others) {
            let place = *places.entry(member.id()).or_insert_with(|| {
                self.members.push(member.clone());
                self.members.len() - 1
            });
            // What a shell forks gets its own name and command line only with its exec.
            let known = &mut self.members[place];
            known.comm.clone_from(&member.comm);
            if !member.command_line.is_empty() {
                known.command_line.clone_from(&member.command_line);
            }
        }
        let mut pipes: HashMap<PipeKey, usize> =
            self.pipes.iter().enumerate().map(|(at, pipe)| (pipe.key(), at)).collect();
        for pipe in &later.pipes {
            match pipes.get(&pipe.key()).and_then(|&at| self.pipes.get_mut(at)) {
                Some(known) => {
                    add_new(&mut known.writers, &pipe.writers);
                    add_new(&mut known.readers, &pipe.readers);
                    known.capacity_bytes = known.capacity_bytes.or(pipe.capacity_bytes);
                }
                None => {
                    pipes.insert(pipe.key(), self.pipes.len());
                    self.pipes.push(pipe.clone());
                }
            }
        }
        before != self.size()
    }

    /// Takes these from the ends of pipes: what they held, they were about to hand down. A pipe
    /// keeps at least one process at each end. Whether that changed anything.
    pub fn set_apart(&mut self, handed_down: &[MemberId]) -> bool {
        let before = self.size();
        let ends = self.pipes.iter_mut().flat_map(|pipe| [&mut pipe.writers, &mut pipe.readers]);
        for holders in ends {
            if holders.iter().any(|id| !handed_down.contains(id)) {
                holders.retain(|id| !handed_down.contains(id));
            }
        }
        before != self.size()
    }

    /// How many members, pipes and ends there are.
    fn size(&self) -> (usize, usize, usize) {
        let ends = self.pipes.iter().map(|pipe| pipe.writers.len() + pipe.readers.len()).sum();
        (self.members.len(), self.pipes.len(), ends)
    }

    /// The index of each member in [`Pipeline::members`], for many look-ups.
    pub fn places(&self) -> HashMap<MemberId, usize> {
        let members = self.members.iter().enumerate();
        members.rev().map(|(place, member)| (member.id(), place)).collect()
    }
}

fn add_new(ids: &mut Vec<MemberId>, more: &[MemberId]) {
    if more.iter().zip(&*ids).all(|(new, known)| new == known) && more.len() <= ids.len() {
        return;
    }
    let mut known: HashSet<MemberId> = ids.iter().copied().collect();
    ids.extend(more.iter().filter(|id| known.insert(**id)));
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

    fn id(pid: i32, start: u64) -> MemberId {
        member(pid, start).id()
    }

    fn pipe(inode: u64, writer: MemberId, reader: MemberId) -> Pipe {
        Pipe {
            link: Link::Pipe,
            inode,
            device: 1,
            path: None,
            writers: vec![writer],
            readers: vec![reader],
            capacity_bytes: None,
        }
    }

    #[test]
    fn looks_add_up_and_a_reused_pid_is_another_member() {
        let first = Pipeline {
            members: vec![member(1, 0), member(2, 0)],
            pipes: vec![pipe(7, id(1, 0), id(2, 0))],
        };
        // The order of a look is its own.
        let later = Pipeline {
            members: vec![member(3, 5), member(2, 9), member(1, 0)],
            pipes: vec![pipe(7, id(1, 0), id(2, 9)), pipe(8, id(2, 9), id(3, 5))],
        };
        let mut all = Pipeline::default();
        assert!(all.merge(&first, &[member(9, 0)]));
        assert!(!all.merge(&first, &[member(9, 0)]));
        assert!(all.merge(&later, &[]));
        let pids: Vec<i32> = all.members.iter().map(|member| member.pid).collect();
        assert_eq!(pids, [1, 2, 9, 3, 2]);
        assert_eq!(all.pipes[0].readers, [id(2, 0), id(2, 9)]);
        assert_eq!(
            (&all.pipes[1].writers[..], &all.pipes[1].readers[..]),
            (&[id(2, 9)][..], &[id(3, 5)][..])
        );
        assert_eq!(all.upstream_first(), [0, 1, 4, 3, 2]);
    }

    #[test]
    fn what_a_shell_handed_down_is_its_childs() {
        let [shell, head, cat] = [9, 1, 2].map(|pid| id(pid, 0));
        // Seen between two forks, the shell alone held the end that is for `cat`.
        let mut all = Pipeline {
            members: vec![member(1, 0), member(9, 0)],
            pipes: vec![pipe(7, head, shell)],
        };
        assert!(!all.set_apart(&[shell]), "a pipe has somebody at each end");
        let later =
            Pipeline { members: vec![member(1, 0), member(2, 0)], pipes: vec![pipe(7, head, cat)] };
        assert!(all.merge(&later, &[member(9, 0)]));
        assert!(all.set_apart(&[shell]));
        assert_eq!((&all.pipes[0].writers, &all.pipes[0].readers), (&vec![head], &vec![cat]));
        assert!(!all.set_apart(&[shell]));
        assert!(!all.merge(&later, &[]));
    }

    #[test]
    fn a_second_process_at_a_known_end_is_news() {
        let members = vec![member(1, 0), member(2, 0), member(3, 0)];
        let mut all = Pipeline { members, pipes: vec![pipe(7, id(1, 0), id(2, 0))] };
        let later = Pipeline { members: Vec::new(), pipes: vec![pipe(7, id(1, 0), id(3, 0))] };
        assert!(all.merge(&later, &[]));
        assert!(!all.merge(&later, &[]));
    }

    #[test]
    fn fifos_of_one_number_on_two_file_systems_are_two_pipes() {
        let here = pipe(7, id(1, 0), id(2, 0));
        let there = Pipe { device: 2, ..pipe(7, id(2, 0), id(3, 0)) };
        let mut all = Pipeline::default();
        let members = vec![member(1, 0), member(2, 0), member(3, 0)];
        all.merge(&Pipeline { members, pipes: vec![here, there] }, &[]);
        assert_eq!(all.pipes.len(), 2);
        assert_eq!(all.upstream_first(), [0, 1, 2]);
    }

    #[test]
    fn ends_that_were_written_down_as_positions_are_read_as_ids() {
        let old = r#"{
            "members": [
                {"pid": 4, "start_time_ticks": 40, "comm": "a", "command_line": [], "end": null},
                {"pid": 5, "start_time_ticks": null, "comm": "b", "command_line": [], "end": null}
            ],
            "pipes": [{
                "inode": 7, "device": 1, "path": null, "writers": [0], "readers": [1, 9],
                "capacity_bytes": 65536
            }]
        }"#;
        let read: Pipeline = serde_json::from_str(old).unwrap();
        assert_eq!(read.pipes[0].writers, [id(4, 40)]);
        assert_eq!(read.pipes[0].readers, [MemberId { pid: 5, start_time: None }]);
        let again = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Pipeline>(&again).unwrap(), read);
    }
}
