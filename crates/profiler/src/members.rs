//! Which process belongs to which member, as processes come and go.

use std::sync::Arc;

use pipeprof_runner::pipeline::{Member, MemberId};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::perfdata::record::Task;
use crate::recording::meta::{Meta, TICK_NS};

/// A FORK record is written a moment after the process was given its start time
/// (`copy_process` in kernel/fork.c, v6.18), which is cut off to whole ticks.
const LATE_NS: u64 = 50_000_000;

/// The members of a recording, with the processes that they start.
#[derive(Debug)]
pub(crate) struct Members {
    members: Vec<Named>,
    of_process: FxHashMap<i32, usize>,
    /// What each process calls itself now.
    comms: FxHashMap<i32, Arc<str>>,
    /// Places of the members that had, have or will have a pid.
    with_pid: FxHashMap<i32, Vec<usize>>,
    /// When the records begin: older processes existed before them.
    start_ns: u64,
    /// The members were not given, so all processes are members.
    takes_all: bool,
}

#[derive(Debug)]
struct Named {
    id: MemberId,
    began_ns: Option<u64>,
    /// What its process called itself last.
    comm: Option<Arc<str>>,
    /// Its process has begun: the pid can be given away from here on.
    is_born: bool,
    /// Which other member started it, and when, where records tell.
    started_by: Option<(usize, u64)>,
}

impl Members {
    /// The members as they were named; without names every process becomes one.
    pub(crate) fn new(meta: &Meta) -> Self {
        let there: FxHashSet<i32> = meta.threads.iter().map(|thread| thread.pid).collect();
        let members = &meta.pipeline.members;
        let mut made = Members {
            members: Vec::new(),
            of_process: FxHashMap::default(),
            comms: FxHashMap::default(),
            with_pid: FxHashMap::default(),
            start_ns: meta.start_ns,
            takes_all: members.is_empty(),
        };
        for (index, id) in members.iter().map(Member::id).enumerate() {
            let is_first = !made.of_process.contains_key(&id.pid);
            let began_ns = meta.began_ns(id);
            let is_born = is_first && was_there(began_ns, there.contains(&id.pid), meta.start_ns);
            made.members.push(Named { id, began_ns, comm: None, is_born, started_by: None });
            made.with_pid.entry(id.pid).or_default().push(index);
            // Of several with one pid the first has it until records say otherwise.
            made.of_process.entry(id.pid).or_insert(index);
        }
        made
    }

    /// Pid and name of each member, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = (i32, Option<&str>)> {
        self.members.iter().map(|member| (member.id.pid, member.comm.as_deref()))
    }

    /// Which other member started this one, and when.
    pub(crate) fn started_by(&self, index: usize) -> Option<(usize, u64)> {
        self.members[index].started_by
    }

    /// A process has a name from here on.
    pub(crate) fn comm(&mut self, pid: i32, name: &str) {
        self.call(pid, Arc::from(name));
    }

    fn call(&mut self, pid: i32, name: Arc<str>) {
        if self.takes_all {
            // Under another name it is another member from here on: what a shell forks is a shell
            // until it runs its program.
            let known = self.of_process.get(&pid).and_then(|&at| self.members[at].comm.as_ref());
            if known.is_some_and(|known| *known != name) {
                self.of_process.remove(&pid);
            }
        }
        if let Some(member) = self.of_process.get(&pid).map(|&index| &mut self.members[index])
            && member.id.pid == pid
        {
            member.comm = Some(Arc::clone(&name));
        }
        self.comms.insert(pid, name);
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
        match self.of(pid) {
            Some(index) => {
                self.has_begun(index, pid);
                Some(index)
            }
            None => self.takes_all.then(|| self.take(pid)),
        }
    }

    /// A process began. It is the member that began then, if one did; else it belongs to the member
    /// that made it. The previous owner of its pid has ended.
    pub(crate) fn fork(&mut self, task: Task, time: Option<u64>) {
        if task.pid == task.parent_pid {
            return;
        }
        let parent = self.of(task.parent_pid).filter(|_| !self.takes_all);
        if let Some(index) = parent {
            self.has_begun(index, task.parent_pid);
        }
        let member = match time {
            // What existed at the start is recorded as if it began then: that does not end an
            // earlier process.
            Some(time) if time <= self.start_ns => self.of(task.pid).or(parent),
            _ => {
                let named = self.named_at(task.pid, time);
                if let Some(((index, parent), time)) = named.zip(parent).zip(time)
                    && index != parent
                {
                    self.members[index].started_by = Some((parent, time));
                }
                named.or(parent)
            }
        };
        match member {
            Some(index) => {
                self.of_process.insert(task.pid, index);
                self.has_begun(index, task.pid);
            }
            None => {
                self.of_process.remove(&task.pid);
            }
        }
        if let Some(name) = self.comms.get(&task.parent_pid).cloned() {
            self.call(task.pid, name);
        }
    }

    fn has_begun(&mut self, index: usize, pid: i32) {
        let member = &mut self.members[index];
        member.is_born |= member.id.pid == pid;
    }

    /// The member with this pid that began at the time of a record.
    fn named_at(&self, pid: i32, time: Option<u64>) -> Option<usize> {
        let mut named = self.with_pid.get(&pid)?.iter().copied();
        named.find(|&index| {
            let member = &self.members[index];
            let began_then = match (member.began_ns, time) {
                (Some(began), Some(time)) => (began..began + TICK_NS + LATE_NS).contains(&time),
                _ => true,
            };
            began_then && !member.is_born
        })
    }

    fn take(&mut self, pid: i32) -> usize {
        let index = self.members.len();
        let id = MemberId { pid, start_time: None };
        let comm = self.comms.get(&pid).cloned();
        let named = Named { id, began_ns: None, comm, is_born: true, started_by: None };
        self.members.push(named);
        self.of_process.insert(pid, index);
        index
    }
}

/// A process that began then did so before the records. `seen` says that one with its pid was there.
fn was_there(began_ns: Option<u64>, seen: bool, start_ns: u64) -> bool {
    match began_ns {
        Some(began) => began + TICK_NS <= start_ns || (seen && began <= start_ns),
        None => seen,
    }
}

#[cfg(test)]
mod tests {
    use pipeprof_runner::pipeline::Pipeline;

    use super::*;
    use crate::recording::ThreadStart;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 100 * SECOND;

    /// Members by pid and second of their start, those before 100 seen when the records began.
    fn members(named: &[(i32, u64)]) -> Members {
        let member = |&(pid, second): &(i32, u64)| Member {
            pid,
            start_time_ticks: Some((second + 7) * 100),
            comm: "old".to_owned(),
            command_line: Vec::new(),
            end: None,
        };
        let there = named.iter().filter(|(_, second)| *second < 100);
        let thread =
            |&(pid, _): &(i32, u64)| ThreadStart { pid, tid: pid, asleep: false, wchan: None };
        let mut meta = Meta {
            pipeline: Pipeline { members: named.iter().map(member).collect(), pipes: Vec::new() },
            start_ns: START,
            threads: there.map(thread).collect(),
            ..crate::recording::tests::meta()
        };
        meta.setup.boot_offset_ns = Some(7 * SECOND);
        Members::new(&meta)
    }

    fn fork(members: &mut Members, parent_pid: i32, pid: i32, second: u64) {
        let task = Task { pid, tid: pid, parent_pid, parent_tid: parent_pid };
        members.fork(task, Some(second * SECOND + 300_000));
    }

    #[test]
    fn who_takes_over_the_pid_of_a_dead_member_is_nobody() {
        let mut members = members(&[(10, 90), (11, 91)]);
        members.comm(10, "first");
        fork(&mut members, 1, 10, 105);
        members.comm(10, "stranger");
        assert_eq!((members.of(10), members.of(11)), (None, Some(1)));
        let names: Vec<_> = members.names().collect();
        assert_eq!(names, [(10, Some("first")), (11, None)]);
    }

    #[test]
    fn of_two_members_with_one_pid_each_has_its_own_time() {
        let mut members = members(&[(10, 90), (10, 105), (10, 108)]);
        let mut at = Vec::new();
        for second in [105, 106, 108] {
            at.push(members.of(10));
            fork(&mut members, 1, 10, second);
        }
        at.push(members.of(10));
        assert_eq!(at, [Some(0), Some(1), None, Some(2)]);
    }

    #[test]
    fn a_member_that_joined_later_is_itself_whoever_made_it() {
        let mut members = members(&[(10, 90), (12, 103), (13, 104)]);
        // By a stranger, and by a member.
        fork(&mut members, 1, 12, 103);
        fork(&mut members, 10, 13, 104);
        assert_eq!((members.of(12), members.of(13)), (Some(1), Some(2)));
        let started = |index| members.started_by(index).map(|(by, _)| by);
        assert_eq!([0, 1, 2].map(started), [None, None, Some(0)]);
        // A child of a member that nobody named belongs to it, also with a pid used before.
        fork(&mut members, 12, 14, 106);
        fork(&mut members, 12, 13, 107);
        assert_eq!((members.of(14), members.of(13)), (Some(1), Some(1)));
    }

    #[test]
    fn what_was_there_at_the_start_is_told_as_a_birth_and_ends_no_life() {
        let mut members = members(&[(10, 90), (11, 91)]);
        let task = Task { pid: 11, tid: 11, parent_pid: 10, parent_tid: 10 };
        members.fork(task, Some(START - 1));
        assert_eq!(members.of(11), Some(1));
    }
}
