//! Attributes the processes of a timeline to members: which pipes each member holds, and what it
//! does in a joint state.

use std::sync::Arc;

use pipeprof_profiler::states::{
    PipeRef, ProcessRef, ProcessSeen, ProcessState, StateRef, Timeline, Why,
};
use pipeprof_runner::pipeline::{MemberId, PipeKey, Pipeline};
use rustc_hash::{FxHashMap, FxHashSet};

use super::circles::break_circles;
use super::descent::Descent;
use super::{Actor, ActorId, Doing, Ends, Outside, PipeAt, Waits};
use crate::ordered::OrderedMap;

/// Accounts are read every few looks: a process that lived for less may have lost some of its own.
const LONG_ENOUGH_NS: u64 = 200_000_000;

/// Maps processes to members.
pub(super) struct Attribution {
    pub(super) actors: Vec<Actor>,
    pub(super) pipes: Vec<Ends>,
    /// By process of the timeline.
    pub(super) actor_of: Vec<Option<ActorId>>,
    /// By process: another actor descends from it.
    leads: Vec<bool>,
    /// By actor: the pipes that it reads from, and those that it writes to.
    held: Vec<[Vec<PipeAt>; 2]>,
    /// By state of the timeline.
    states: Vec<Known>,
}

impl Attribution {
    pub(super) fn of(pipeline: &Pipeline, timeline: &Timeline) -> Attribution {
        let ends = MembersAt::of(pipeline);
        let processes = &timeline.processes;
        let places = pipeline.places();
        let member_of: Vec<Option<usize>> = processes
            .iter()
            .map(|seen| {
                let ids = [seen.start_time_ticks, None]
                    .map(|start_time| MemberId { pid: seen.pid, start_time });
                ids.iter().filter_map(|id| places.get(id).copied()).min()
            })
            .collect();
        let counts = |member: usize| ends.any.is_empty() || ends.any.contains(&member);
        let is_member: Vec<bool> =
            member_of.iter().map(|member| member.is_some_and(counts)).collect();
        let descent = Descent::of(processes);
        let roots = descent.roots(processes, &is_member);

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
        let mut children: OrderedMap<(ActorId, &str), u64> = OrderedMap::default();
        for (process, seen) in processes.iter().enumerate() {
            let Some(root) = roots[process] else { continue };
            let Some(&id) = member_of[root].and_then(|member| actor_by_member.get(&member)) else {
                continue;
            };
            actor_of[process] = Some(id);
            let actor = &mut actors[id];
            add_process(actor, seen);
            if process != root {
                if let Some(member) = member_of[process] {
                    let told = if counts(member) { &mut actor.folded } else { &mut actor.started };
                    told.push(member);
                }
                let lived = children.entry((id, &seen.comm)).or_default();
                *lived = lived.saturating_add(seen.last_ns.saturating_sub(seen.first_ns));
            }
        }
        children.sort_by_key(|_, lived| std::cmp::Reverse(*lived));
        for ((id, comm), lived) in children {
            actors[id].children.push((comm.to_owned(), lived));
        }
        // Of several processes of a member, the first.
        let processes_of = member_of.iter().enumerate().rev();
        let process_of: FxHashMap<usize, usize> =
            processes_of.filter_map(|(process, member)| Some(((*member)?, process))).collect();
        let actors_at = |members: &[usize]| -> Vec<ActorId> {
            let of_member = |member: &usize| actor_of[*process_of.get(member)?];
            let mut at: Vec<ActorId> = members.iter().filter_map(of_member).collect();
            at.sort_unstable();
            at.dedup();
            at
        };
        let pipes: Vec<Ends> = ends
            .pipes
            .iter()
            .map(|(writers, readers)| Ends {
                writers: actors_at(writers),
                readers: actors_at(readers),
            })
            .collect();
        let known = pipeline.pipes.iter().enumerate().rev();
        let known: FxHashMap<PipeKey, PipeAt> = known.map(|(at, pipe)| (pipe.key(), at)).collect();
        let pipe_of: Vec<Option<PipeAt>> =
            timeline.pipes.iter().map(|name| known.get(name).copied()).collect();
        let states = timeline.states.iter().map(|state| Known::of(state, &pipe_of, &pipes));
        Attribution {
            leads: descent.leads(&actor_of),
            held: held(actors.len(), &pipes),
            states: states.collect(),
            actors,
            pipes,
            actor_of,
        }
    }

    /// How much is known of all actors at one moment.
    pub(super) fn known(&self) -> usize {
        let held: usize = self.held.iter().flatten().map(Vec::len).sum();
        self.actors.len() + self.pipes.len() + held
    }

    /// By actor, when those of its processes lived that were too short-lived for their accounts to
    /// be read.
    pub(super) fn brief(&self, timeline: &Timeline) -> Vec<Vec<(u64, u64)>> {
        let mut brief = vec![Vec::new(); self.actors.len()];
        for (seen, of) in timeline.processes.iter().zip(&self.actor_of) {
            let is_brief = seen.last_ns.saturating_sub(seen.first_ns) < LONG_ENOUGH_NS;
            if let Some(actor) = of.filter(|_| is_brief) {
                brief[actor].push((seen.first_ns, seen.last_ns));
            }
        }
        brief
    }

    /// What each actor did, by what its processes did.
    pub(super) fn doing(
        &self,
        timeline: &Timeline,
        joint: &[(ProcessRef, StateRef)],
    ) -> Vec<Doing> {
        let mut sums: Vec<Option<Sum>> = vec![None; self.actors.len()];
        for &(process, state) in joint {
            let Some(actor) = self.actor_of[process.0 as usize] else { continue };
            let sum = sums[actor].get_or_insert_with(Sum::default);
            let why = timeline.states[state.0 as usize].why;
            sum.add(&self.states[state.0 as usize], why, self.leads[process.0 as usize]);
        }
        let at_socket: Vec<Option<Why>> =
            sums.iter().map(|sum| sum.as_ref().and_then(|sum| sum.at_socket)).collect();
        let sums = sums.into_iter().zip(&self.held);
        let doing = sums.map(|(sum, held)| sum.map_or(Doing::Absent, |sum| sum.doing(held)));
        let mut doing: Vec<Doing> = doing.collect();
        break_circles(&mut doing, &at_socket, &self.pipes);
        doing
    }
}

fn add_process(actor: &mut Actor, seen: &ProcessSeen) {
    actor.threads = actor.threads.max(seen.threads);
    if seen.busiest_thread_ns > actor.busiest_thread.0 {
        actor.busiest_thread = (seen.busiest_thread_ns, seen.busiest_thread.clone());
        actor.second_thread_ns = seen.second_thread_ns;
    }
    actor.connections.extend_from_slice(&seen.connections);
    actor.cpus_allowed = actor.cpus_allowed.max(seen.cpus_allowed);
    if let Some(cpus) = seen.quota_cpus {
        let (known_cpus, known_ns) = actor.quota.unwrap_or((cpus, 0));
        actor.quota = Some((known_cpus.min(cpus), known_ns.max(seen.throttled_ns)));
    }
}

/// For each actor the pipes that it reads from, and those that it writes to, its own inner ones left
/// out.
pub(super) fn held(actors: usize, pipes: &[Ends]) -> Vec<[Vec<PipeAt>; 2]> {
    let mut held = vec![[Vec::new(), Vec::new()]; actors];
    for (at, ends) in pipes.iter().enumerate().filter(|(_, ends)| !ends.is_internal()) {
        for (place, actors) in [&ends.readers, &ends.writers].into_iter().enumerate() {
            actors.iter().for_each(|&actor| held[actor][place].push(at));
        }
    }
    held
}

/// A state of a process, with the pipes of the pipeline that it names.
struct Known {
    running: u32,
    waits: Arc<Waits>,
    /// It waits for data, and for space, of some pipe that the kernel did not tell.
    any: [bool; 2],
    outside: Option<Outside>,
}

impl Known {
    fn of(state: &ProcessState, pipe_of: &[Option<PipeAt>], pipes: &[Ends]) -> Known {
        let mut outside = None;
        let mut any = [false; 2];
        let mut waits = Waits::default();
        let sides = [
            (&state.data, &mut waits.data, Outside::ForeignData),
            (&state.space, &mut waits.space, Outside::ForeignSpace),
        ];
        for (any, (named, at, foreign)) in any.iter_mut().zip(sides) {
            for &pipe in named {
                if pipe == PipeRef::ANY {
                    *any = true;
                    continue;
                }
                match pipe_of[pipe.0 as usize] {
                    Some(pipe) if pipes[pipe].is_internal() => {
                        outside = telling(outside, Outside::For(Why::Thread));
                    }
                    Some(pipe) => at.push(pipe),
                    None => outside = telling(outside, foreign),
                }
            }
            at.sort_unstable();
            at.dedup();
        }
        Known { running: u32::from(state.running), waits: Arc::new(waits), any, outside }
    }
}

/// The more telling of two.
fn telling(known: Option<Outside>, other: Outside) -> Option<Outside> {
    let rank = |outside: Outside| match outside {
        Outside::For(why) => 2 + why as u32,
        Outside::ForeignData => 0,
        Outside::ForeignSpace => 1,
    };
    known.filter(|&known| rank(known) <= rank(other)).or(Some(other))
}

/// What the processes of an actor did together.
#[derive(Clone, Debug, Default)]
struct Sum {
    running: u32,
    waits: Arc<Waits>,
    any: [bool; 2],
    outside: Option<Outside>,
    at_socket: Option<Why>,
    waits_for_child: bool,
    follows: bool,
}

impl Sum {
    fn add(&mut self, known: &Known, why: Option<Why>, leads: bool) {
        self.running = self.running.saturating_add(known.running);
        if self.waits.is_empty() {
            self.waits = Arc::clone(&known.waits);
        } else if !known.waits.is_empty() && self.waits != known.waits {
            Arc::make_mut(&mut self.waits).add(&known.waits);
        }
        for (any, more) in self.any.iter_mut().zip(known.any) {
            *any |= more;
        }
        if let Some(outside) = known.outside {
            self.outside = telling(self.outside, outside);
        }
        self.at_socket = self.at_socket.or(why.filter(|why| why.is_at_socket()));
        match why {
            Some(Why::Child | Why::Signal) if leads => self.follows = true,
            Some(Why::Child) => self.waits_for_child = true,
            Some(why) => self.outside = telling(self.outside, Outside::For(why)),
            None => {}
        }
    }

    /// `held` is what the actor reads from, and what it writes to.
    fn doing(mut self, held: &[Vec<PipeAt>; 2]) -> Doing {
        if self.running > 0 {
            return Doing::Busy(self.running);
        }
        let [data, space] = self.any;
        let any = |is_any: bool, held: &[PipeAt]| if is_any { held.to_vec() } else { Vec::new() };
        if data || space {
            let some = Waits { data: any(data, &held[0]), space: any(space, &held[1]) };
            Arc::make_mut(&mut self.waits).add(&some);
        }
        if !self.waits.is_empty() {
            return Doing::AtPipes(self.waits);
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

impl Waits {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.space.is_empty()
    }

    fn add(&mut self, more: &Waits) {
        for (pipes, more) in [(&mut self.data, &more.data), (&mut self.space, &more.space)] {
            pipes.extend(more);
            pipes.sort_unstable();
            pipes.dedup();
        }
    }
}

/// The members at each pipe, by their places.
struct MembersAt {
    pipes: Vec<(Vec<usize>, Vec<usize>)>,
    any: FxHashSet<usize>,
}

impl MembersAt {
    fn of(pipeline: &Pipeline) -> MembersAt {
        let members = pipeline.places();
        let places = |ids: &[MemberId]| -> Vec<usize> {
            ids.iter().filter_map(|id| members.get(id).copied()).collect()
        };
        let pipes: Vec<_> = pipeline
            .pipes
            .iter()
            .map(|pipe| (places(&pipe.writers), places(&pipe.readers)))
            .collect();
        let any = pipes.iter().flat_map(|(writers, readers)| writers.iter().chain(readers));
        let any = any.copied().collect();
        MembersAt { pipes, any }
    }
}
