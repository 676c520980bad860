//! Where the actors and the pipes of a history stand in the evidence.

use pipeprof_runner::pipeline::{PipeKey, Pipeline};
use rustc_hash::FxHashMap;

use crate::facts::states::StateHistory;
use crate::verdict::evidence::{Evidence, PipeEvidence};

/// Where the actors and the pipes of a history stand in the evidence; `None` of what is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// By actor, the place of its member.
    pub members: Vec<Option<usize>>,
    /// By pipe of the pipeline.
    pub pipes: Vec<Option<usize>>,
}

impl Places {
    /// Of one host, where pids and inodes tell.
    pub fn of(evidence: &Evidence, history: &StateHistory, pipeline: &Pipeline) -> Places {
        let by_pid: FxHashMap<i32, usize> =
            evidence.members.iter().enumerate().rev().map(|(at, one)| (one.pid, at)).collect();
        let members = history
            .actors
            .iter()
            .map(|actor| by_pid.get(&pipeline.members.get(actor.member)?.pid).copied())
            .collect();
        let key = |pipe: &PipeEvidence| PipeKey { device: pipe.device, inode: pipe.inode };
        let by_key: FxHashMap<PipeKey, usize> =
            evidence.pipes.iter().enumerate().rev().map(|(at, pipe)| (key(pipe), at)).collect();
        let pipes = pipeline.pipes.iter().map(|pipe| by_key.get(&pipe.key()).copied()).collect();
        Places { members, pipes }
    }
}
