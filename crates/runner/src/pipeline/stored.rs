//! How a pipeline was written down before members had ids of their own: the ends of a pipe were
//! positions in the list of members. Both forms are read.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Link, Member, MemberId, Pipe};

#[derive(Deserialize)]
pub(super) struct Pipeline {
    members: Vec<Member>,
    pipes: Vec<StoredPipe>,
}

#[derive(Deserialize)]
struct StoredPipe {
    /// Absent in what was written before sockets were links.
    #[serde(flatten)]
    link: Option<Link>,
    inode: u64,
    device: u64,
    path: Option<PathBuf>,
    writers: Vec<Holder>,
    readers: Vec<Holder>,
    capacity_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Holder {
    Id(MemberId),
    Position(usize),
}

impl From<Pipeline> for super::Pipeline {
    fn from(stored: Pipeline) -> Self {
        let Pipeline { members, pipes } = stored;
        let ids = |held: Vec<Holder>| -> Vec<MemberId> {
            let id = |holder| match holder {
                Holder::Id(id) => Some(id),
                Holder::Position(at) => members.get(at).map(Member::id),
            };
            let mut known = HashSet::new();
            held.into_iter().filter_map(id).filter(|id| known.insert(*id)).collect()
        };
        let pipe = |pipe: StoredPipe| Pipe {
            link: pipe.link.unwrap_or(if pipe.path.is_some() { Link::Fifo } else { Link::Pipe }),
            inode: pipe.inode,
            device: pipe.device,
            path: pipe.path,
            writers: ids(pipe.writers),
            readers: ids(pipe.readers),
            capacity_bytes: pipe.capacity_bytes,
        };
        let pipes = pipes.into_iter().map(pipe).collect();
        super::Pipeline { members, pipes }
    }
}
