//! Members that are shown as part of what they started: wrapper scripts and subshells that started
//! others, never moved any payload, and ended.

use pipeprof_profiler::profile::{MemberProfile, StackId, StackWeight};
use pipeprof_profiler::wakeups::{Waker, Wakeups};
use pipeprof_runner::pipeline::{End, Member, MemberId, Pipe};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::facts::over_time::count_at;
use crate::facts::states::StateHistory;
use crate::index::Index;
use crate::run::Run;

/// A process that used more than this share of all CPU time did useful work, unless it held a pipe
/// and lived briefly.
const MOST_CPU: f64 = 0.05;

/// Who wrote less than this, in bytes, wrote a word or two; counts of bytes are read only every so
/// often, so that the beginning of what others write falls into short lives.
const A_PAGE: f64 = 4096.0;

/// A member with a pipe that lived for less than this share of the other one's life lived briefly.
const BRIEF: f64 = 0.5;

/// What is not settled after so many rounds, none of which is for nothing, is left as it is.
const MOST_ROUNDS: usize = 100;

/// Each with a parent as the first ancestor that has none.
fn roots(parents: &[Option<usize>]) -> Vec<Option<usize>> {
    ancestors(parents, |at| parents[at].is_none())
}

/// For each the first of its ancestors that is `wanted`. Each is passed once, however long the lines
/// of descent are; in a cycle, which damaged records can contain, no process has one.
fn ancestors(parents: &[Option<usize>], wanted: impl Fn(usize) -> bool) -> Vec<Option<usize>> {
    let mut found: Vec<Option<Option<usize>>> = vec![None; parents.len()];
    let mut line = Vec::new();
    for mut at in 0..parents.len() {
        let ancestor = loop {
            if let Some(known) = found[at] {
                break known;
            }
            // Until it is known; who comes by again walks in a circle.
            found[at] = Some(None);
            line.push(at);
            match parents[at] {
                Some(parent) if wanted(parent) => break Some(parent),
                Some(parent) => at = parent,
                None => break None,
            }
        };
        line.drain(..).for_each(|at| found[at] = Some(ancestor));
    }
    found.into_iter().map(Option::flatten).collect()
}

/// What is asked for each member.
struct Known {
    /// When it was there, by the clock of the recording.
    lives: Vec<Option<(u64, u64)>>,
    did_little: Vec<bool>,
    holds_pipe: Vec<bool>,
    /// By pipe, the member that all of its holders count as, if it is one.
    families: Vec<Option<usize>>,
}

impl Run {
    /// With members that only started others counted as part of those, and within a phase without
    /// those that did not live in it. Without states it is unknown which process started which.
    #[must_use]
    pub fn without_start_up(mut self) -> Run {
        let into = self.start_up();
        if into.iter().any(Option::is_some) {
            self.fold(&into);
        }
        if self.part.is_some() {
            self.leave_out_absent();
        }
        self
    }

    /// By member of the pipeline, the other member that it counts as.
    fn start_up(&self) -> Vec<Option<usize>> {
        let count = self.pipeline.members.len();
        let Some(states) = self.states.as_ref().filter(|_| self.profile.members.len() == count)
        else {
            return vec![None; count];
        };
        let started_by = self.profile.members.iter().map(|member| member.started_by);
        let mut parents: Vec<Option<usize>> =
            started_by.map(|by| by.map(|(parent, _)| parent)).collect();
        for actor in StateHistory::actors_of(&self.pipeline, states) {
            for at in actor.folded.into_iter().chain(actor.started) {
                parents[at] = parents[at].or(Some(actor.member)).filter(|&parent| parent != at);
            }
        }
        // A process without a pipe, such as the shell that started the pipeline, counts as no
        // member.
        let holds_pipe: Vec<bool> = (0..count).map(|at| self.holds_pipe(at)).collect();
        let mut parents = ancestors(&parents, |at| holds_pipe[at]);
        let cpu = |member: &MemberProfile| member.cpu_time_ns.unwrap_or(0) as f64;
        let all: f64 = self.profile.members.iter().map(cpu).sum();
        let did_little = |member: &MemberProfile| cpu(member) <= MOST_CPU * all;
        let mut known = Known {
            lives: self.lives(),
            did_little: self.profile.members.iter().map(did_little).collect(),
            holds_pipe,
            families: Vec::new(),
        };
        // One that turns out to have moved something can be what another one's pipe leads to.
        for _ in 0..MOST_ROUNDS {
            let into = roots(&parents);
            known.families = self.families(&into);
            let moved: Vec<usize> = (0..count)
                .filter(|&at| into[at].is_some_and(|root| !self.only_started(at, root, &known)))
                .collect();
            if moved.is_empty() {
                return into;
            }
            moved.into_iter().for_each(|member| parents[member] = None);
        }
        vec![None; count]
    }

    /// When each member was there, by the clock of the recording.
    fn lives(&self) -> Vec<Option<(u64, u64)>> {
        let mut looked: FxHashMap<MemberId, (u64, u64)> = FxHashMap::default();
        for seen in self.states.iter().flat_map(|states| &states.processes) {
            let id = MemberId { pid: seen.pid, start_time: seen.start_time_ticks };
            let life = looked.entry(id).or_insert((seen.first_ns, seen.last_ns));
            *life = (life.0.min(seen.first_ns), life.1.max(seen.last_ns));
        }
        let members = self.pipeline.members.iter().zip(&self.profile.members);
        let life = |(member, profile): (&Member, &MemberProfile)| {
            // One too short to be looked at.
            looked.get(&member.id()).copied().or_else(|| {
                let (_, began) = profile.started_by?;
                Some((began, began.saturating_add(profile.time?.lifetime_ns)))
            })
        };
        members.map(life).collect()
    }

    /// By pipe, the member that all of its holders count as, if it is one.
    fn families(&self, into: &[Option<usize>]) -> Vec<Option<usize>> {
        let family = |pipe: &Pipe| {
            let told = |id: &MemberId| {
                let at = self.holding().place(*id)?;
                Some(into[at].unwrap_or(at))
            };
            let mut all = pipe.writers.iter().chain(&pipe.readers).map(told);
            let first = all.next()??;
            all.all(|other| other == Some(first)).then_some(first)
        };
        self.pipeline.pipes.iter().map(family).collect()
    }

    /// It ended before the other one, lived briefly or did not do much, and no byte went through a
    /// pipe to others while it lived.
    fn only_started(&self, member: usize, root: usize, known: &Known) -> bool {
        let Some((life, of_root)) = known.lives[member].zip(known.lives[root]) else {
            return false;
        };
        let length = |(from, until): (u64, u64)| until.saturating_sub(from) as f64;
        let is_brief = length(life) < BRIEF * length(of_root);
        // A long sleep before the program that it leads to is start-up as well.
        let may_be = known.did_little[member] || is_brief && known.holds_pipe[member];
        if !may_be || life.1 >= of_root.1 {
            return false;
        }
        let id = self.pipeline.members[member].id();
        // What a reader does not take goes in until the pipe is full.
        let most = |pipe: usize| match self.holding().holds(id, pipe, End::Writer) {
            true => A_PAGE,
            false => self.pipeline.pipes[pipe].capacity_bytes.unwrap_or(65_536) as f64,
        };
        End::BOTH.into_iter().all(|end| {
            self.pipes_at(member, end).iter().all(|&pipe| {
                let is_own = known.families[pipe] == Some(root);
                is_own || self.went_through(pipe, life) <= most(pipe)
            })
        })
    }

    /// Bytes that went through a pipe between two times, by the clock of the recording.
    fn went_through(&self, pipe: usize, (from_ns, until_ns): (u64, u64)) -> f64 {
        let flow = self.flow(pipe).filter(|flow| flow.bytes.known().is_some());
        // If that is unknown, it may have been much.
        let Some(flow) = flow else {
            return f64::INFINITY;
        };
        let points = &flow.over_time;
        let last = points.last().map_or(0.0, |point| point.bytes as f64);
        let by = |ns: u64| {
            let at = ns.saturating_sub(self.start_ns) as f64;
            count_at(points, at).unwrap_or(last)
        };
        by(until_ns) - by(from_ns)
    }

    /// Within a phase: members that had ended before it, or began after it, and pipes that carried
    /// nothing for want of one end.
    fn leave_out_absent(&mut self) {
        let is_there = |member: &MemberProfile| {
            !member.on_cpu.is_empty() || member.time.is_none_or(|time| time.lifetime_ns > 0)
        };
        let there: Vec<bool> = self.profile.members.iter().map(is_there).collect();
        let kept = |id: &MemberId| {
            let at = self.holding().place(*id);
            at.is_none_or(|at| there.get(at).is_none_or(|there| *there))
        };
        let mut pipes = self.pipeline.pipes.clone();
        for pipe in &mut pipes {
            pipe.writers.retain(kept);
            pipe.readers.retain(kept);
        }
        let is_left = |(at, pipe): (usize, &Pipe)| {
            let carried = || self.flow(at).and_then(|flow| flow.bytes.known());
            let has_ends = !pipe.writers.is_empty() && !pipe.readers.is_empty();
            has_ends || carried().is_some_and(|bytes| bytes > 0)
        };
        let left: Vec<bool> = pipes.iter().enumerate().map(is_left).collect();
        let flows = self.flows_of(|at| left[at]);
        retain(&mut self.flows, &flows);
        retain(&mut pipes, &left);
        self.pipeline.pipes = pipes;
        self.keep(&there);
    }

    /// By flow, whether it is of a pipe that is `wanted`.
    fn flows_of(&self, wanted: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut of = vec![false; self.flows.len()];
        for pipe in (0..self.pipeline.pipes.len()).filter(|&pipe| wanted(pipe)) {
            if let Some(flow) = self.holding().flow(pipe) {
                of[flow] = true;
            }
        }
        of
    }

    /// Leaves out the members that are not kept, by their place.
    fn keep(&mut self, kept: &[bool]) {
        let mut places = 0..;
        let places: Vec<Option<usize>> =
            kept.iter().map(|kept| kept.then(|| places.next()).flatten()).collect();
        let place = |at: usize| places.get(at).copied().flatten();
        if let Wakeups::Known { edges, .. } = &mut self.profile.wakeups {
            edges.retain_mut(|edge| {
                let waker = match edge.waker {
                    Waker::Member(at) => place(at).map(Waker::Member),
                    other => Some(other),
                };
                let Some((waker, woken)) = waker.zip(place(edge.woken_member)) else {
                    return false;
                };
                (edge.waker, edge.woken_member) = (waker, woken);
                true
            });
        }
        for member in &mut self.profile.members {
            member.started_by = member.started_by.and_then(|(by, at_ns)| Some((place(by)?, at_ns)));
        }
        retain(&mut self.profile.members, kept);
        retain(&mut self.pipeline.members, kept);
        self.index = Index::default();
    }

    fn fold(&mut self, into: &[Option<usize>]) {
        let ids: Vec<MemberId> = self.pipeline.members.iter().map(Member::id).collect();
        let told_as: FxHashMap<MemberId, MemberId> = into
            .iter()
            .enumerate()
            .filter_map(|(member, root)| Some((ids[member], ids[(*root)?])))
            .collect();
        for pipe in &mut self.pipeline.pipes {
            for end in [&mut pipe.writers, &mut pipe.readers] {
                let mut known = FxHashSet::default();
                end.iter_mut().for_each(|id| *id = *told_as.get(id).unwrap_or(id));
                end.retain(|id| known.insert(*id));
            }
        }
        let mut parts: FxHashMap<usize, Vec<MemberProfile>> = FxHashMap::default();
        for (member, root) in into.iter().enumerate() {
            if let Some(root) = *root {
                let nobody = MemberProfile::new(0, String::new(), None);
                let part = std::mem::replace(&mut self.profile.members[member], nobody);
                parts.entry(root).or_default().push(part);
            }
        }
        for (root, parts) in parts {
            absorb(&mut self.profile.members[root], parts);
        }
        let kept: Vec<bool> = into.iter().map(Option::is_none).collect();
        self.keep(&kept);
        // Pipes within one member stay known: a thread that waits at one waits for no other member.
        let internal = self.flows_of(|pipe| self.pipeline.pipes[pipe].is_internal());
        let others: Vec<bool> = internal.into_iter().map(|internal| !internal).collect();
        retain(&mut self.flows, &others);
        self.index = Index::default();
    }
}

/// Leaves out those of which `kept` says so.
fn retain<T>(all: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    all.retain(|_| kept.next().is_none_or(|kept| *kept));
}

fn absorb(root: &mut MemberProfile, mut parts: Vec<MemberProfile>) {
    let stacks: [fn(&mut MemberProfile) -> &mut Vec<StackWeight>; 2] =
        [|member| &mut member.on_cpu, |member| &mut member.blocked];
    for of in stacks {
        let sum = of(root);
        let mut places: FxHashMap<StackId, usize> =
            sum.iter().enumerate().rev().map(|(at, weight)| (weight.stack, at)).collect();
        for weight in parts.iter_mut().flat_map(|part| std::mem::take(of(part))) {
            match places.get(&weight.stack) {
                Some(&at) => {
                    sum[at].samples += weight.samples;
                    sum[at].weight = sum[at].weight.saturating_add(weight.weight);
                }
                None => {
                    places.insert(weight.stack, sum.len());
                    sum.push(weight);
                }
            }
        }
    }
    parts.iter().for_each(|part| absorb_times(root, part));
}

fn absorb_times(root: &mut MemberProfile, part: &MemberProfile) {
    root.cpu_time_ns = match (root.cpu_time_ns, part.cpu_time_ns) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    };
    if let (Some(sum), Some(more)) = (&mut root.time, part.time) {
        sum.lifetime_ns = sum.lifetime_ns.saturating_add(more.lifetime_ns);
        sum.on_cpu_ns = sum.on_cpu_ns.saturating_add(more.on_cpu_ns);
        sum.blocked_ns = sum.blocked_ns.saturating_add(more.blocked_ns);
        sum.runnable_ns = sum.runnable_ns.saturating_add(more.runnable_ns);
        let delays = sum.wake_delay_ns.zip(more.wake_delay_ns);
        sum.wake_delay_ns = delays.map(|(a, b)| a.saturating_add(b));
        sum.sleeps += more.sleeps;
        sum.preemptions += more.preemptions;
    }
}
