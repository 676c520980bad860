//! From a few processes to every process that data flows from or to.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::ends::{Ends, Links};
use super::table::ProcTable;
use crate::pipeline::PipeKey;

/// How the walk came to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Arrival {
    /// Asked for, or joined as another writer or reader of an end.
    Here,
    /// Across a pipe, which it does not cross back.
    Across(PipeKey),
    /// Across a pipe that joins a supervisor to what it started.
    FromChild { pipe: PipeKey, branch: i32, downstream: bool },
}

/// The processes, as positions in the table, that `seeds` make a pipeline with.
pub(super) fn reach(table: &ProcTable, links: &Links, seeds: &[usize]) -> BTreeSet<usize> {
    let mut walk = Walk { table, links, whole: HashSet::new(), partly: HashSet::new() };
    let mut queue: VecDeque<(usize, Arrival)> =
        seeds.iter().map(|&seed| (seed, Arrival::Here)).collect();
    let mut reached = BTreeSet::new();
    while let Some((at, arrival)) = queue.pop_front() {
        reached.insert(at);
        if walk.is_new(at, arrival) {
            queue.extend(walk.neighbours(at, arrival));
        }
    }
    reached
}

/// Whether a process supervises another across one of its pipes.
pub(super) fn is_supervisor(table: &ProcTable, links: &Links, at: usize) -> bool {
    let walk = Walk { table, links, whole: HashSet::new(), partly: HashSet::new() };
    walk.links_of(at)
        .any(|link| link.other_end.iter().any(|&far| walk.branch(at, far, link.pipe).is_some()))
}

struct Walk<'a> {
    table: &'a ProcTable,
    links: &'a Links,
    whole: HashSet<usize>,
    partly: HashSet<(usize, i32, bool)>,
}

/// One of a process's pipes, from its own side.
struct Link<'a> {
    pipe: PipeKey,
    /// It writes, and what it writes flows to the other end.
    downstream: bool,
    same_end: &'a [usize],
    other_end: &'a [usize],
}

impl Walk<'_> {
    fn is_new(&mut self, at: usize, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Here | Arrival::Across(_) => self.whole.insert(at),
            Arrival::FromChild { branch, downstream, .. } => {
                !self.whole.contains(&at) && self.partly.insert((at, branch, downstream))
            }
        }
    }

    fn neighbours(&self, at: usize, arrival: Arrival) -> Vec<(usize, Arrival)> {
        let came_by = match arrival {
            Arrival::Here => None,
            Arrival::Across(pipe) | Arrival::FromChild { pipe, .. } => Some(pipe),
        };
        let mut found = Vec::new();
        for link in self.links_of(at) {
            let free = link.other_end.iter().all(|&far| self.may_turn(at, arrival, &link, far));
            for &other in link.same_end {
                if other != at && free && self.shares_job(at, other, &link) {
                    found.push((other, self.sideways(&link, other)));
                }
            }
            if came_by == Some(link.pipe) {
                continue;
            }
            for far in self.of_this_job(at, &link) {
                if self.may_turn(at, arrival, &link, far) {
                    found.push((far, self.arrival(at, &link, far)));
                }
            }
        }
        found
    }

    fn links_of(&self, at: usize) -> impl Iterator<Item = Link<'_>> {
        let pipes = |of: &HashMap<usize, Vec<PipeKey>>| of.get(&at).cloned().unwrap_or_default();
        let written = pipes(&self.links.writes).into_iter().map(|pipe| {
            let Ends { writers, readers, .. } = &self.links.pipes[&pipe];
            Link { pipe, downstream: true, same_end: writers, other_end: readers }
        });
        let read = pipes(&self.links.reads).into_iter().map(|pipe| {
            let Ends { writers, readers, .. } = &self.links.pipes[&pipe];
            Link { pipe, downstream: false, same_end: readers, other_end: writers }
        });
        written.chain(read)
    }

    /// Whether another holder of the same end belongs to the same job: the process group of this
    /// one or of the other end, or what a process of that group started in a group of its own.
    fn shares_job(&self, at: usize, other: usize, link: &Link) -> bool {
        let processes = self.table.processes();
        let (this, that) = (&processes[at], &processes[other]);
        let across = |group: i32| link.other_end.iter().any(|&far| processes[far].group == group);
        self.is_named(link.pipe)
            || this.group == that.group
            || across(that.group)
            || (across(this.group) && self.table.descends(that.pid, this.pid))
    }

    /// The holders of the other end; if some are in this process's job, only those.
    fn of_this_job(&self, at: usize, link: &Link) -> Vec<usize> {
        let processes = self.table.processes();
        let ours = |far: &usize| processes[*far].group == processes[at].group;
        if self.is_named(link.pipe) || !link.other_end.iter().any(ours) {
            return link.other_end.to_vec();
        }
        link.other_end
            .iter()
            .filter(|&far| {
                ours(far)
                    || link.other_end.iter().any(|&near| {
                        ours(&near) && self.table.descends(processes[*far].pid, processes[near].pid)
                    })
            })
            .copied()
            .collect()
    }

    /// Whether the walk may leave `at` for `far`: always, but from a supervisor reached from one
    /// of its children to another of them, which takes a flow that goes straight on.
    fn may_turn(&self, at: usize, arrival: Arrival, link: &Link, far: usize) -> bool {
        let Arrival::FromChild { branch: from, downstream, .. } = arrival else { return true };
        let Some(to) = self.branch(at, far, link.pipe) else { return true };
        let one_way = |branch: i32| !self.is_coprocess(at, branch);
        from == to || (link.downstream == downstream && one_way(from) && one_way(to))
    }

    fn arrival(&self, from: usize, link: &Link, to: usize) -> Arrival {
        let pipe = link.pipe;
        match self.branch(to, from, pipe) {
            Some(branch) => Arrival::FromChild { pipe, branch, downstream: link.downstream },
            None => Arrival::Across(pipe),
        }
    }

    /// The arrival at another holder of the same end, as it would be from the other end.
    fn sideways(&self, link: &Link, to: usize) -> Arrival {
        let pipe = link.pipe;
        match link.other_end.iter().find_map(|&far| self.branch(to, far, pipe)) {
            Some(branch) => Arrival::FromChild { pipe, branch, downstream: !link.downstream },
            None => Arrival::Across(pipe),
        }
    }

    /// The child of `supervisor` that is, or that started, `member`, where the supervisor keeps its
    /// end of the pipe to itself: close-on-exec, as every library that captures output does.
    fn branch(&self, supervisor: usize, member: usize, pipe: PipeKey) -> Option<i32> {
        let processes = self.table.processes();
        let (above, below) = (&processes[supervisor], &processes[member]);
        let mut own = above.descriptors.iter().filter(|d| d.pipe == pipe);
        if self.is_named(pipe) || !own.all(|d| d.close_on_exec) {
            return None;
        }
        std::iter::once(below.pid)
            .chain(self.table.ancestors(below.pid))
            .find(|&pid| self.table.get(pid).is_some_and(|process| process.parent == above.pid))
    }

    /// Whether a child both reads from and writes to its supervisor.
    fn is_coprocess(&self, supervisor: usize, child: i32) -> bool {
        let joins = |downstream: bool| {
            self.links_of(supervisor).filter(|link| link.downstream == downstream).any(|link| {
                let mut far = link.other_end.iter();
                far.any(|&far| self.branch(supervisor, far, link.pipe) == Some(child))
            })
        };
        joins(true) && joins(false)
    }

    fn is_named(&self, pipe: PipeKey) -> bool {
        self.links.pipes[&pipe].path.is_some()
    }
}
