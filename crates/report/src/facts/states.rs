//! The states of members over time: the looks at processes, put together by member and by what the
//! pipes connect.
//!
//! A member's state at a moment comes from all its threads, and from what it started and is no
//! member. It is busy if any of them runs or could run; it waits at its pipes only if none does; and
//! it waits for something outside of the pipeline only if none waits for a neighbour.

mod accounts;

use pipeprof_profiler::states::{
    Account, PipeRef, Pressure, ProcessRef, ProcessSeen, ProcessState, Timeline, Why,
};
use pipeprof_runner::pipeline::{MemberId, Pipeline};
use rustc_hash::FxHashMap;
use serde::Serialize;

use accounts::hold_to_accounts;

/// Index into [`Scene::actors`].
pub type ActorId = usize;

/// Index into [`Scene::pipes`], which are those of the pipeline in its order.
pub type PipeAt = usize;

/// A member, with what it started and what is no member of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actor {
    /// Its place among the members of the pipeline.
    pub member: usize,
    /// Other members that are told as part of this one: short-lived ones that it started.
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
}

/// Who is at the ends of a pipe.
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
    AtPipes {
        /// Pipes that it waited at for data.
        data: Vec<PipeAt>,
        /// Pipes that it waited at for space.
        space: Vec<PipeAt>,
    },
    /// It waited for something outside of the pipeline.
    Outside(Outside),
    /// It waited for a child that is a member itself.
    Follows,
}

impl Doing {
    /// It waits at that pipe: for space in it, or for its data.
    pub(super) fn waits_at(&self, pipe: PipeAt, for_space: bool) -> bool {
        match self {
            Doing::AtPipes { space, .. } if for_space => space.contains(&pipe),
            Doing::AtPipes { data, .. } => data.contains(&pipe),
            _ => false,
        }
    }
}

/// A joint state, and how long it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Nanoseconds.
    pub ns: f64,
    /// By actor.
    pub doing: Vec<Doing>,
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
pub struct Scene {
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

/// Members that lived for less than this share of who started them are told as part of that.
const BRIEF: f64 = 0.5;

/// Accounts are read every few looks: a process that lived for less may have lost some of its own.
const LONG_ENOUGH_NS: u64 = 200_000_000;

impl Scene {
    /// Puts looks together.
    pub fn of(pipeline: &Pipeline, timeline: &Timeline) -> Scene {
        let roster = Roster::of(pipeline, timeline);
        let joints: Vec<Vec<Doing>> =
            timeline.joints.iter().map(|joint| roster.doing(timeline, joint)).collect();
        let spans = timeline.bins.iter().map(|bin| {
            let looks: f64 = bin.joints.iter().map(|&(_, looks)| f64::from(looks)).sum();
            let each = bin.until_ns.saturating_sub(bin.from_ns) as f64 / looks.max(1e-9);
            let mut moments: Vec<Moment> = Vec::new();
            for &(joint, looks) in &bin.joints {
                let doing = &joints[joint as usize];
                let ns = f64::from(looks) * each;
                match moments.iter_mut().find(|moment| moment.doing == *doing) {
                    Some(moment) => moment.ns += ns,
                    None => moments.push(Moment { ns, doing: doing.clone() }),
                }
            }
            let mut accounts = vec![Account::default(); roster.actors.len()];
            for &(process, account) in &bin.accounts {
                let Some(actor) = roster.actor_of[process.0 as usize] else { continue };
                accounts[actor].cpu_ns += account.cpu_ns;
                accounts[actor].run_delay_ns += account.run_delay_ns;
            }
            Span { from_ns: bin.from_ns, until_ns: bin.until_ns, looks, moments, accounts }
        });
        let mut spans: Vec<Span> = spans.filter(|span| span.until_ns > span.from_ns).collect();
        hold_to_accounts(&mut spans, roster.actors.len(), |actor, from_ns, until_ns| {
            roster.account_is_complete(timeline, actor, from_ns, until_ns)
        });
        let threads: f64 = timeline.processes.iter().map(|seen| f64::from(seen.threads)).sum();
        let blind_share =
            timeline.blind as f64 / (timeline.looks as f64 * threads.max(1.0)).max(1.0);
        Scene {
            actors: roster.actors,
            pipes: roster.pipes,
            spans,
            looks: timeline.looks,
            blind_share: blind_share.min(1.0),
            pressure: timeline.pressure,
            idle_cpus: timeline.idle_cpus,
            is_phase: false,
        }
    }

    /// How long it was looked at, in nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        self.spans.iter().map(|span| span.until_ns - span.from_ns).sum()
    }

    /// The pipes that an actor reads from (or writes to), its own inner ones left out.
    pub fn pipes_of(&self, actor: ActorId, writes: bool) -> Vec<PipeAt> {
        let held = |ends: &Ends| if writes { ends.writers.clone() } else { ends.readers.clone() };
        (0..self.pipes.len())
            .filter(|&at| !self.pipes[at].is_internal() && held(&self.pipes[at]).contains(&actor))
            .collect()
    }
}

/// Who is who.
struct Roster {
    actors: Vec<Actor>,
    pipes: Vec<Ends>,
    /// By process of the timeline.
    actor_of: Vec<Option<ActorId>>,
    /// By pipe of the timeline.
    pipe_of: Vec<Option<PipeAt>>,
    /// By process: another actor descends from it.
    leads: Vec<bool>,
}

impl Roster {
    fn of(pipeline: &Pipeline, timeline: &Timeline) -> Roster {
        let held = Held::of(pipeline);
        let processes = &timeline.processes;
        let member_of: Vec<Option<usize>> = processes
            .iter()
            .map(|seen| {
                pipeline.members.iter().position(|member| {
                    member.pid == seen.pid
                        && (member.start_time_ticks == seen.start_time_ticks
                            || member.start_time_ticks.is_none())
                })
            })
            .collect();
        let parent_of = parents(processes);
        let counts = |member: usize| held.any.is_empty() || held.any.contains(&member);
        let is_member = |process: usize| member_of[process].is_some_and(counts);
        let ancestors = |process: usize| {
            // Pids that are given twice could close a loop; no line is so long.
            std::iter::successors(parent_of[process], |&at| parent_of[at]).take(processes.len())
        };
        let life = |process: usize| {
            processes[process].last_ns.saturating_sub(processes[process].first_ns) as f64
        };
        // Whom each process is told as: itself, or who started it.
        let root = |process: usize| {
            let mut at = process;
            for _ in 0..processes.len() {
                let outlives = |&above: &usize| {
                    is_member(above)
                        && (!is_member(at)
                            || processes[above].first_ns <= processes[at].first_ns
                                && life(at) < BRIEF * life(above))
                };
                let Some(above) = ancestors(at).find(outlives) else { break };
                at = above;
            }
            is_member(at).then_some(at)
        };
        let roots: Vec<Option<usize>> = (0..processes.len()).map(root).collect();

        let mut actors: Vec<Actor> = Vec::new();
        let mut actor_by_member: FxHashMap<usize, ActorId> = FxHashMap::default();
        // In the order of the pipeline.
        let mut order: Vec<usize> = roots.iter().flatten().copied().collect();
        order.sort_unstable_by_key(|&process| member_of[process]);
        order.dedup();
        for process in order {
            let Some(member) = member_of[process] else { continue };
            actor_by_member.entry(member).or_insert_with(|| {
                actors.push(Actor { member, ..Actor::default() });
                actors.len() - 1
            });
        }
        let mut actor_of = vec![None; processes.len()];
        for (process, seen) in processes.iter().enumerate() {
            let Some(root) = roots[process] else { continue };
            let Some(&id) = member_of[root].and_then(|member| actor_by_member.get(&member)) else {
                continue;
            };
            actor_of[process] = Some(id);
            let actor = &mut actors[id];
            actor.threads = actor.threads.max(seen.threads);
            if seen.busiest_thread_ns > actor.busiest_thread.0 {
                actor.busiest_thread = (seen.busiest_thread_ns, seen.busiest_thread.clone());
                actor.second_thread_ns = seen.second_thread_ns;
            }
            actor.cpus_allowed = actor.cpus_allowed.max(seen.cpus_allowed);
            if let Some(cpus) = seen.quota_cpus {
                let (known_cpus, known_ns) = actor.quota.unwrap_or((cpus, 0));
                actor.quota = Some((known_cpus.min(cpus), known_ns.max(seen.throttled_ns)));
            }
            if process != root {
                if let Some(member) = member_of[process] {
                    let told = if counts(member) { &mut actor.folded } else { &mut actor.started };
                    told.push(member);
                }
                match actor.children.iter_mut().find(|(name, _)| *name == seen.comm) {
                    Some((_, lived)) => *lived += seen.last_ns - seen.first_ns.min(seen.last_ns),
                    None => actor.children.push((seen.comm.clone(), seen.last_ns - seen.first_ns)),
                }
            }
        }
        for actor in &mut actors {
            actor.children.sort_by_key(|(_, lived)| std::cmp::Reverse(*lived));
        }
        let actors_at = |members: &[usize]| -> Vec<ActorId> {
            let of_member = |member: usize| {
                let process = member_of.iter().position(|&of| of == Some(member))?;
                actor_of[process]
            };
            let mut at: Vec<ActorId> =
                members.iter().filter_map(|&member| of_member(member)).collect();
            at.sort_unstable();
            at.dedup();
            at
        };
        let pipes: Vec<Ends> = held
            .pipes
            .iter()
            .map(|(writers, readers)| Ends {
                writers: actors_at(writers),
                readers: actors_at(readers),
            })
            .collect();
        let pipe_of = timeline
            .pipes
            .iter()
            .map(|name| pipeline.pipes.iter().position(|pipe| pipe.key() == *name));
        let mut leads = vec![false; processes.len()];
        for process in 0..processes.len() {
            let mut at = parent_of[process];
            for _ in 0..processes.len() {
                let Some(parent) = at else { break };
                leads[parent] |=
                    actor_of[process].is_some() && actor_of[process] != actor_of[parent];
                at = parent_of[parent];
            }
        }
        Roster { pipe_of: pipe_of.collect(), actors, pipes, actor_of, leads }
    }

    /// No process of an actor in that time was too short-lived for its account to be read.
    fn account_is_complete(
        &self,
        timeline: &Timeline,
        actor: ActorId,
        from_ns: u64,
        until_ns: u64,
    ) -> bool {
        timeline.processes.iter().zip(&self.actor_of).all(|(seen, of)| {
            let is_meant = *of == Some(actor) && seen.first_ns < until_ns && seen.last_ns > from_ns;
            !is_meant || seen.last_ns - seen.first_ns >= LONG_ENOUGH_NS
        })
    }

    /// What each actor did, by what its processes did.
    fn doing(
        &self,
        timeline: &Timeline,
        joint: &[(ProcessRef, pipeprof_profiler::states::StateRef)],
    ) -> Vec<Doing> {
        let mut sums: Vec<Option<Sum>> = vec![None; self.actors.len()];
        for &(process, state) in joint {
            let Some(actor) = self.actor_of[process.0 as usize] else { continue };
            let state = &timeline.states[state.0 as usize];
            let sum = sums[actor].get_or_insert_with(Sum::default);
            self.add(sum, actor, process, state);
        }
        sums.into_iter().map(|sum| sum.map_or(Doing::Absent, Sum::doing)).collect()
    }

    fn add(&self, sum: &mut Sum, actor: ActorId, process: ProcessRef, state: &ProcessState) {
        sum.running += u32::from(state.running);
        for (pipes, writes) in [(&state.data, false), (&state.space, true)] {
            let mut at = Vec::new();
            for &pipe in pipes {
                if pipe == PipeRef::ANY {
                    at.extend(self.held(actor, writes));
                    continue;
                }
                match self.pipe_of[pipe.0 as usize] {
                    Some(pipe) if self.pipes[pipe].is_internal() => {
                        sum.outside(Outside::For(Why::Thread));
                    }
                    Some(pipe) => at.push(pipe),
                    None if writes => sum.outside(Outside::ForeignSpace),
                    None => sum.outside(Outside::ForeignData),
                }
            }
            let waits = if writes { &mut sum.space } else { &mut sum.data };
            waits.extend(at);
        }
        match state.why {
            Some(Why::Child | Why::Signal) if self.leads[process.0 as usize] => sum.follows = true,
            Some(Why::Child) => sum.waits_for_child = true,
            Some(why) => sum.outside(Outside::For(why)),
            None => {}
        }
    }

    fn held(&self, actor: ActorId, writes: bool) -> Vec<PipeAt> {
        let holds = |ends: &Ends| {
            let held = if writes { &ends.writers } else { &ends.readers };
            held.contains(&actor) && !ends.is_internal()
        };
        (0..self.pipes.len()).filter(|&at| holds(&self.pipes[at])).collect()
    }
}

/// What the processes of an actor did together.
#[derive(Clone, Debug, Default)]
struct Sum {
    running: u32,
    data: Vec<PipeAt>,
    space: Vec<PipeAt>,
    outside: Option<Outside>,
    waits_for_child: bool,
    follows: bool,
}

impl Sum {
    fn outside(&mut self, outside: Outside) {
        let telling = |outside: &Outside| match outside {
            Outside::For(why) => 2 + *why as u32,
            Outside::ForeignData => 0,
            Outside::ForeignSpace => 1,
        };
        let known = self.outside.map_or(u32::MAX, |known| telling(&known));
        if telling(&outside) < known {
            self.outside = Some(outside);
        }
    }

    fn doing(mut self) -> Doing {
        if self.running > 0 {
            return Doing::Busy(self.running);
        }
        for pipes in [&mut self.data, &mut self.space] {
            pipes.sort_unstable();
            pipes.dedup();
        }
        if !self.data.is_empty() || !self.space.is_empty() {
            return Doing::AtPipes { data: self.data, space: self.space };
        }
        match self.outside {
            // Its other processes tell what the child that it waits for does.
            Some(outside) => Doing::Outside(outside),
            None if self.follows => Doing::Follows,
            None if self.waits_for_child => Doing::Outside(Outside::For(Why::Child)),
            None => Doing::Outside(Outside::For(Why::Unknown)),
        }
    }
}

/// The members at each pipe, by their places.
struct Held {
    pipes: Vec<(Vec<usize>, Vec<usize>)>,
    any: Vec<usize>,
}

impl Held {
    fn of(pipeline: &Pipeline) -> Held {
        let places = |ids: &[MemberId]| -> Vec<usize> {
            ids.iter().filter_map(|&id| pipeline.position(id)).collect()
        };
        let pipes: Vec<_> = pipeline
            .pipes
            .iter()
            .map(|pipe| (places(&pipe.writers), places(&pipe.readers)))
            .collect();
        let any = pipes.iter().flat_map(|(writers, readers)| writers.iter().chain(readers));
        let any = any.copied().collect();
        Held { pipes, any }
    }
}

/// The process that started each, where that was looked at too.
fn parents(processes: &[ProcessSeen]) -> Vec<Option<usize>> {
    processes
        .iter()
        .map(|seen| {
            let is_parent = |(_, other): &(usize, &ProcessSeen)| {
                other.pid == seen.parent && other.first_ns <= seen.first_ns
            };
            // Of several with its pid, the latest.
            processes.iter().enumerate().rfind(is_parent).map(|(at, _)| at)
        })
        .collect()
}

#[cfg(test)]
mod tests;
