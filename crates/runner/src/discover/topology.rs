//! From a table of processes to pipelines.

use std::collections::{BTreeMap, BTreeSet};

use super::ends::{Links, only_waits};
use super::table::{Access, ProcTable, Process};
use super::walk;
use crate::pipeline::order::along_pipes;
use crate::pipeline::{Member, MemberId, Pipe, PipeKey, Pipeline};

/// The descriptors by which the members hold a pipe, each a pid and a number of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) writers: Vec<(i32, i32)>,
    pub(super) readers: Vec<(i32, i32)>,
}

/// A pipeline that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its members and pipes.
    pub pipeline: Pipeline,
    /// Shells and the like around the members: each holds ends that a process it started holds too,
    /// and waits for that process. They move no data, but what they start next belongs to the
    /// pipeline.
    pub wrappers: Vec<Member>,
    /// Wrappers that have moved nothing so far: what an earlier look found in their hands, between
    /// two forks, was on its way to a child.
    pub handed_down: Vec<MemberId>,
    /// Processes whose descriptors may not be read, so that members may be missing.
    pub unreadable: usize,
    /// Members with connections that carry data and are not followed, because their holders also
    /// serve other clients; and how many those are.
    pub left_out: Vec<(MemberId, u32)>,
    /// For each pipe the descriptors that hold it, by which it can be opened.
    pub(super) ends: Vec<Ends>,
}

impl Found {
    /// Everyone in it: the members, and the wrappers behind them.
    pub fn everyone(&self) -> impl Iterator<Item = &Member> {
        self.pipeline.members.iter().chain(&self.wrappers)
    }
}

/// The pipeline that these processes belong to.
///
/// A process without pipes stands for those it started: so the pid of a shell finds the pipeline
/// that it runs. Pids that are not in the table are passed over.
pub fn pipeline_of(table: &ProcTable, pids: &[i32]) -> Found {
    let links = Links::find(table);
    let mut seeds = Vec::new();
    let mut wrappers = BTreeSet::new();
    for &pid in pids {
        let Some(at) = table.position(pid) else { continue };
        if has_ends(&links, at) {
            seeds.push(at);
            continue;
        }
        let started = positions(table).filter(|&other| {
            has_ends(&links, other) && table.descends(table.processes()[other].pid, pid)
        });
        let before = seeds.len();
        seeds.extend(started);
        if seeds.len() == before {
            seeds.push(at);
        } else {
            wrappers.insert(at);
        }
    }
    let members = walk::reach(table, &links, &seeds);
    build(table, &links, &members, wrappers)
}

/// A process and all that it started, and the pipes between them. Pipes to others don't count.
pub fn tree_of(table: &ProcTable, root: i32) -> Found {
    tree(table, |process| process.pid == root || table.descends(process.pid, root))
}

/// All that a process started, without itself, and the pipes between them.
pub(super) fn below(table: &ProcTable, root: i32) -> Found {
    tree(table, |process| table.descends(process.pid, root))
}

fn tree(table: &ProcTable, inside: impl Fn(&Process) -> bool) -> Found {
    let tree = table.clone().only(&inside);
    let links = Links::find(&tree);
    let parents: BTreeSet<i32> = tree.processes().iter().map(|process| process.parent).collect();
    let (wrappers, members) = positions(&tree)
        .filter(|&at| inside(&tree.processes()[at]) && !links.wrappers.contains_key(&at))
        .partition(|&at| {
            let process = &tree.processes()[at];
            !has_ends(&links, at) && process.waits_for_child && parents.contains(&process.pid)
        });
    build(&tree, &links, &members, wrappers)
}

/// Every pipeline, in the order in which their first members started. Processes that only `own`
/// feeds are left out with it: the user knows about `pipeprof ls | less`.
pub fn pipelines(table: &ProcTable, own: i32) -> Vec<Found> {
    let ours = fed_by_nobody_else(table, own);
    let table = &table.clone().hiding(ours);
    let links = Links::find(table);
    let mut order: Vec<usize> = positions(table).filter(|&at| has_ends(&links, at)).collect();
    // A supervisor can belong to several pipelines, and is no place to start from.
    order.sort_by_key(|&at| {
        let process = &table.processes()[at];
        (walk::is_supervisor(table, &links, at), process.start_time_ticks, process.pid)
    });
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut found = Vec::new();
    for at in order {
        if seen.contains(&at) {
            continue;
        }
        let members = walk::reach(table, &links, &[at]);
        seen.extend(&members);
        found.push(build(table, &links, &members, BTreeSet::new()));
    }
    found
}

fn fed_by_nobody_else(table: &ProcTable, own: i32) -> BTreeSet<i32> {
    let links = Links::find(table);
    let mut ours = BTreeSet::from([own]);
    loop {
        let next = table.processes().iter().enumerate().find(|&(at, process)| {
            let Some(read) = links.reads.get(&at) else { return false };
            let fed_by_us = |key: &PipeKey| {
                let mut writers = links.pipes[key].writers.iter();
                writers.all(|&writer| ours.contains(&table.processes()[writer].pid))
            };
            !ours.contains(&process.pid)
                && read.iter().all(fed_by_us)
                && !table.descends(own, process.pid)
        });
        match next {
            Some((_, process)) => ours.insert(process.pid),
            None => return ours,
        };
    }
}

fn positions(table: &ProcTable) -> std::ops::Range<usize> {
    0..table.processes().len()
}

fn has_ends(links: &Links, at: usize) -> bool {
    links.reads.contains_key(&at) || links.writes.contains_key(&at)
}

fn build(
    table: &ProcTable,
    links: &Links,
    members: &BTreeSet<usize>,
    mut wrappers: BTreeSet<usize>,
) -> Found {
    let processes = table.processes();
    let mut members: Vec<usize> = members.iter().copied().collect();
    // Among those that could come next, the oldest does.
    members.sort_by_key(|&at| (processes[at].start_time_ticks, processes[at].pid));
    let place: BTreeMap<usize, usize> =
        members.iter().enumerate().map(|(place, &at)| (at, place)).collect();
    let inside = |holders: &[usize]| -> Vec<usize> {
        holders.iter().filter_map(|at| place.get(at).copied()).collect()
    };
    let joined: Vec<(PipeKey, Vec<usize>, Vec<usize>)> = links
        .pipes
        .iter()
        .map(|(&key, ends)| (key, inside(&ends.writers), inside(&ends.readers)))
        .filter(|(_, writers, readers)| !writers.is_empty() && !readers.is_empty())
        .collect();

    let pipes = joined.iter().map(|(_, writers, readers)| (&writers[..], &readers[..]));
    let order = along_pipes(members.len(), pipes);
    let mut stands = vec![0; members.len()];
    for (at, &place) in order.iter().enumerate() {
        stands[place] = at;
    }
    let in_order = |places: &[usize]| {
        let mut of: Vec<usize> = places.iter().map(|&place| stands[place]).collect();
        of.sort_unstable();
        of
    };
    let ids_of = |stands: &[usize]| -> Vec<MemberId> {
        stands.iter().map(|&at| processes[members[order[at]]].id()).collect()
    };

    let mut pipes: Vec<(Place, Pipe, Ends)> = joined
        .iter()
        .map(|(key, writers, readers)| {
            let place = (in_order(writers), in_order(readers));
            let pipe = Pipe {
                link: links.pipes[key].link,
                inode: key.inode,
                device: key.device,
                path: links.pipes[key].path.clone(),
                writers: ids_of(&place.0),
                readers: ids_of(&place.1),
                capacity_bytes: None,
            };
            let held = |places: &[usize], access| {
                let of = places.iter().map(|&place| &processes[members[place]]);
                of.flat_map(|process| handles(process, *key, access)).collect()
            };
            let ends = Ends {
                writers: held(writers, Access::Write),
                readers: held(readers, Access::Read),
            };
            (place, pipe, ends)
        })
        .collect();
    pipes.sort_by(|(a, one, _), (b, other, _)| (a, one.inode).cmp(&(b, other.inode)));
    let (pipes, ends) = pipes.into_iter().map(|(_, pipe, ends)| (pipe, ends)).unzip();

    let keys: BTreeSet<PipeKey> = joined.iter().map(|(key, ..)| *key).collect();
    wrappers.extend(links.wrappers.iter().filter_map(|(&at, held)| {
        let around = |&member: &usize| table.descends(processes[member].pid, processes[at].pid);
        let part = held.iter().any(|key| keys.contains(key));
        (part && members.iter().any(around)).then_some(at)
    }));
    // What is remembered of one that has ended may be from before it used its ends.
    let idle = |process: &&Process| !process.ended && only_waits(process);
    let idle = wrappers.iter().map(|&at| &processes[at]).filter(idle);
    let handed_down = idle.map(Process::id).collect();
    let in_order = order.iter().map(|&place| &processes[members[place]]);
    let left_out = in_order.filter(|process| process.left_out > 0);
    let left_out = left_out.map(|process| (process.id(), process.left_out)).collect();
    Found {
        pipeline: Pipeline {
            members: order.iter().map(|&place| member(&processes[members[place]])).collect(),
            pipes,
        },
        wrappers: wrappers.into_iter().map(|at| member(&processes[at])).collect(),
        handed_down,
        unreadable: table.unreadable,
        left_out,
        ends,
    }
}

/// Where a pipe's writers and its readers stand among the members.
type Place = (Vec<usize>, Vec<usize>);

fn handles(process: &Process, key: PipeKey, access: Access) -> impl Iterator<Item = (i32, i32)> {
    let held = process.descriptors.iter().filter(move |d| d.pipe == key);
    held.filter(move |d| d.access == access || d.access == Access::Both)
        .map(|d| (process.pid, d.fd))
}

fn member(process: &Process) -> Member {
    Member {
        pid: process.pid,
        start_time_ticks: Some(process.start_time_ticks),
        comm: process.comm.clone(),
        command_line: process.command_line.clone(),
        end: None,
    }
}
