//! The states of members over time: combines the looks at processes by member, along the pipes.
//!
//! A member's state at a moment comes from all its threads, and from its children that are no
//! members themselves. It is busy if any of them runs or could run; it waits at its pipes only if
//! none does; and it waits for something outside of the pipeline only if none waits for a
//! neighbour.

mod accounts;
mod attribution;
mod circles;
mod descent;
mod room;

use std::sync::Arc;

use pipeprof_profiler::states::{Account, Connection, Pressure, Timeline, Why};
use pipeprof_runner::pipeline::Pipeline;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::ordered::{OrderedMap, OrderedSet};
use accounts::hold_to_accounts;
use attribution::Attribution;
use room::{Room, thinned};

/// Index into [`StateHistory::actors`].
pub type ActorId = usize;

/// Index into [`StateHistory::pipes`], which are those of the pipeline in its order.
pub type PipeAt = usize;

/// A member, with what it started and what is no member of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actor {
    /// Its place among the members of the pipeline.
    pub member: usize,
    /// Other members that count as part of this one: short-lived ones that it started.
    pub folded: Vec<usize>,
    /// What it started that the pipeline knows as members without pipes.
    pub started: Vec<usize>,
    /// Most threads that one of its processes had.
    pub threads: u32,
    /// CPU time of the thread that used most, and its name where that is not the process's.
    pub busiest_thread: (u64, Option<String>),
    /// CPU time of the thread that used most after it, in the same process.
    pub second_thread_ns: u64,
    /// CPUs that the quota of its control group allows, and how long that kept it from running, on
    /// all CPUs together.
    pub quota: Option<(f64, u64)>,
    /// CPUs that it may run on; `None` where that is not known.
    pub cpus_allowed: Option<u32>,
    /// Names of the processes that it started and that used a CPU, the busiest first.
    pub children: Vec<(String, u64)>,
    /// TCP connections that it had.
    pub connections: Vec<Connection>,
}

/// The processes at the ends of a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Actors at the write end.
    pub writers: Vec<ActorId>,
    /// Actors at the read end.
    pub readers: Vec<ActorId>,
}

impl Ends {
    /// Both ends are one member's.
    pub(super) fn is_internal(&self) -> bool {
        match (&self.writers[..], &self.readers[..]) {
            ([writer], [reader]) => writer == reader,
            _ => false,
        }
    }
}

/// What a member waits for that is no pipe of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// Data of a pipe whose writer is no member.
    ForeignData,
    /// Space in a pipe whose reader is no member.
    ForeignSpace,
    /// Something else.
    #[serde(untagged)]
    For(Why),
}

/// What a member did at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Doing {
    /// It was not there.
    #[default]
    Absent,
    /// So many threads ran, or could have.
    Busy(u32),
    /// It waited at its pipes, for data or for space.
    AtPipes(Arc<Waits>),
    /// It waited for something outside of the pipeline.
    Outside(Outside),
    /// It waited for a child that is a member itself.
    Follows,
}

/// The pipes that a member waits at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Waits {
    /// For data, ascending.
    pub data: Vec<PipeAt>,
    /// For space, ascending.
    pub space: Vec<PipeAt>,
}

impl Doing {
    /// It waits at these pipes.
    pub fn at_pipes(data: Vec<PipeAt>, space: Vec<PipeAt>) -> Doing {
        Doing::AtPipes(Arc::new(Waits { data, space }))
    }

    /// It waits at that pipe: for space in it, or for its data.
    pub(super) fn waits_at(&self, pipe: PipeAt, for_space: bool) -> bool {
        let Doing::AtPipes(waits) = self else { return false };
        let pipes = if for_space { &waits.space } else { &waits.data };
        pipes.binary_search(&pipe).is_ok()
    }
}

/// A joint state, and how long it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Nanoseconds.
    pub ns: f64,
    /// By actor.
    pub doing: Arc<[Doing]>,
}

/// A stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// `CLOCK_MONOTONIC` ns.
    pub from_ns: u64,
    /// Likewise.
    pub until_ns: u64,
    /// How many looks it stands for.
    pub looks: f64,
    /// What was found, adding up to its length.
    pub moments: Vec<Moment>,
    /// What the scheduler charged, by actor.
    pub accounts: Vec<Account>,
}

/// A pipeline over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateHistory {
    /// Members that hold pipes; all members where there are none.
    pub actors: Vec<Actor>,
    /// The pipes of the pipeline, in its order.
    pub pipes: Vec<Ends>,
    /// In the order of time.
    pub spans: Vec<Span>,
    /// How many looks were taken.
    pub looks: u64,
    /// Share of the waits that the kernel did not tell this user about.
    pub blind_share: f64,
    /// How long tasks of the whole machine waited for memory; `None` where that is not known.
    pub pressure: Option<Pressure>,
    /// CPUs of the machine that were idle, on average; `None` where that is not known.
    pub idle_cpus: Option<f64>,
    /// It is one phase, which is not cut again.
    pub is_phase: bool,
}

impl StateHistory {
    /// Puts looks together.
    pub fn of(pipeline: &Pipeline, timeline: &Timeline) -> StateHistory {
        let attribution = Attribution::of(pipeline, timeline);
        let actors = attribution.actors.len();
        let bins = thinned(&timeline.bins, Room::of(actors, attribution.known()));
        let mut joints = Joints::default();
        let spans = bins.iter().filter(|bin| bin.until_ns > bin.from_ns).map(|bin| {
            let looks: f64 = bin.joints.iter().map(|&(_, looks)| f64::from(looks)).sum();
            let each = (bin.until_ns - bin.from_ns) as f64 / looks.max(1e-9);
            let mut found: OrderedMap<usize, f64> = OrderedMap::default();
            for &(joint, looks) in &bin.joints {
                let joint = joints.place(&attribution, timeline, joint);
                *found.entry(joint).or_default() += f64::from(looks) * each;
            }
            let moment =
                |(joint, ns): (usize, f64)| Moment { ns, doing: Arc::clone(&joints.all[joint]) };
            let moments = found.into_iter().map(moment).collect();
            let mut accounts = vec![Account::default(); actors];
            for &(process, account) in &bin.accounts {
                let Some(actor) = attribution.actor_of[process.0 as usize] else { continue };
                accounts[actor].add(account);
            }
            Span { from_ns: bin.from_ns, until_ns: bin.until_ns, looks, moments, accounts }
        });
        let mut spans: Vec<Span> = spans.collect();
        hold_to_accounts(&mut spans, actors, &attribution.brief(timeline));
        let threads: f64 = timeline.processes.iter().map(|seen| f64::from(seen.threads)).sum();
        let blind_share =
            timeline.blind as f64 / (timeline.looks as f64 * threads.max(1.0)).max(1.0);
        StateHistory {
            actors: attribution.actors,
            pipes: attribution.pipes,
            spans,
            looks: timeline.looks,
            blind_share: blind_share.min(1.0),
            pressure: timeline.pressure,
            idle_cpus: timeline.idle_cpus,
            is_phase: false,
        }
    }

    /// Which process counts as which member, without what they did.
    pub(crate) fn actors_of(pipeline: &Pipeline, timeline: &Timeline) -> Vec<Actor> {
        Attribution::of(pipeline, timeline).actors
    }

    /// How long it was looked at, in nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        self.spans.iter().map(|span| span.until_ns - span.from_ns).sum()
    }

    /// For each actor the pipes that it reads from, and those that it writes to, its own inner ones
    /// left out.
    pub(super) fn held(&self) -> Vec<[Vec<PipeAt>; 2]> {
        attribution::held(self.actors.len(), &self.pipes)
    }
}

/// What all actors did, each once.
#[derive(Default)]
struct Joints {
    all: OrderedSet<Arc<[Doing]>>,
    /// By joint state of the time line.
    known: FxHashMap<u32, usize>,
}

impl Joints {
    fn place(&mut self, attribution: &Attribution, timeline: &Timeline, joint: u32) -> usize {
        if let Some(&place) = self.known.get(&joint) {
            return place;
        }
        let doing = attribution.doing(timeline, &timeline.joints[joint as usize]);
        let (place, _) = self.all.insert_full(doing.into());
        self.known.insert(joint, place);
        place
    }
}

#[cfg(test)]
mod tests;
