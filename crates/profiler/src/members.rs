//! Which process belongs to which member, as processes come and go.

use pipeprof_runner::pipeline::Pipeline;
use rustc_hash::FxHashMap;

use crate::perfdata::record::Task;

/// The members of a recording, with the processes that they start.
#[derive(Debug)]
pub(crate) struct Members {
    /// The process of each member.
    pids: Vec<i32>,
    of_process: FxHashMap<i32, usize>,
    /// Nobody said who the members are, so all are.
    takes_all: bool,
}

impl Members {
    /// The members as they were named; without names every process becomes one.
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        let pids: Vec<i32> = pipeline.members.iter().map(|member| member.pid).collect();
        let of_process = pids.iter().enumerate().map(|(index, &pid)| (pid, index)).collect();
        Members { takes_all: pids.is_empty(), pids, of_process }
    }

    /// The process of each member, in order.
    pub(crate) fn pids(&self) -> &[i32] {
        &self.pids
    }

    /// The member that a process belongs to.
    pub(crate) fn of(&self, pid: i32) -> Option<usize> {
        self.of_process.get(&pid).copied()
    }

    /// By process.
    pub(crate) fn by_process(&self) -> &FxHashMap<i32, usize> {
        &self.of_process
    }

    /// The member that a sampled process belongs to; a new one, where all are taken.
    pub(crate) fn sampled(&mut self, pid: i32) -> Option<usize> {
        let known = self.of(pid);
        if known.is_some() || !self.takes_all {
            return known;
        }
        self.pids.push(pid);
        self.of_process.insert(pid, self.pids.len() - 1);
        Some(self.pids.len() - 1)
    }

    /// A child belongs to the member that made it. A stranger's child that got the number of a
    /// member that has died does not.
    pub(crate) fn fork(&mut self, task: Task) {
        if task.pid == task.parent_pid {
            return;
        }
        match self.of(task.parent_pid).filter(|_| !self.takes_all) {
            Some(member) => {
                self.of_process.entry(task.pid).or_insert(member);
            }
            None => {
                self.of_process.remove(&task.pid);
            }
        }
    }
}
