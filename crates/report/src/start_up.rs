//! Members that are told as part of what they became: wrapper scripts and subshells that started
//! others, never moved any payload, and ended.

use pipeprof_profiler::profile::MemberProfile;
use pipeprof_profiler::wakeups::{Waker, Wakeups};
use pipeprof_runner::pipeline::{Member, MemberId, Pipe};
use rustc_hash::FxHashMap;

use crate::facts::over_time::count_at;
use crate::facts::states::Scene;
use crate::index::Index;
use crate::run::Run;

/// Who used more of all CPU time than this did something that somebody asks for, unless it held a
/// pipe and lived briefly.
const MOST_CPU: f64 = 0.05;

/// Who wrote less than this, in bytes, wrote a word or two; counts of bytes are read only every so
/// often, so that the beginning of what others write falls into short lives.
const A_PAGE: f64 = 4096.0;

/// A member with a pipe that lived for less than this share of the other one's life lived briefly.
const BRIEF: f64 = 0.5;

/// Each with a parent as the first ancestor that has none.
fn roots(parents: &[Option<usize>]) -> Vec<Option<usize>> {
    let root = |parent: usize| {
        let line = std::iter::successors(Some(parent), |&at| parents[at]);
        // Who started whom is no circle, unless the records are damaged.
        line.take(parents.len()).last()
    };
    parents.iter().map(|parent| parent.and_then(root)).collect()
}

impl Run {
    /// With members that only started others told as part of those, and within a phase without
    /// those that did not live in it. Where nobody looked, nothing tells who started whom.
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

    /// By member of the pipeline, as which other one it is told.
    fn start_up(&self) -> Vec<Option<usize>> {
        let count = self.pipeline.members.len();
        let Some(states) = self.states.as_ref().filter(|_| self.profile.members.len() == count)
        else {
            return vec![None; count];
        };
        let started_by = self.profile.members.iter().map(|member| member.started_by);
        let mut parents: Vec<Option<usize>> =
            started_by.map(|by| by.map(|(parent, _)| parent)).collect();
        for actor in Scene::of(&self.pipeline, states).actors {
            for at in actor.folded.into_iter().chain(actor.started) {
                parents[at] = parents[at].or(Some(actor.member)).filter(|&parent| parent != at);
            }
        }
        // Somebody without a pipe, as the shell that started the pipeline, is told as nobody.
        let holds_pipe: Vec<bool> = (0..count).map(|at| self.holds_pipe(at)).collect();
        let with_pipe = |parent: usize| {
            let line = std::iter::successors(Some(parent), |&at| parents[at]);
            line.take(count).find(|&at| holds_pipe[at])
        };
        let mut parents: Vec<Option<usize>> =
            parents.iter().map(|parent| parent.and_then(with_pipe)).collect();
        // One that turns out to have moved something can be what another one's pipe leads to.
        let mut into = roots(&parents);
        loop {
            let moved: Vec<usize> = (0..count)
                .filter(|&at| into[at].is_some_and(|root| !self.only_started(at, root, &into)))
                .collect();
            if moved.is_empty() {
                return into;
            }
            moved.into_iter().for_each(|member| parents[member] = None);
            into = roots(&parents);
        }
    }

    /// When a member was there, by the clock of the recording.
    fn life(&self, member: usize) -> Option<(u64, u64)> {
        let id = self.pipeline.members[member].id();
        let seen = self.states.iter().flat_map(|states| &states.processes);
        let seen = seen.filter(|seen| seen.pid == id.pid && seen.start_time_ticks == id.start_time);
        let lives = seen.map(|seen| (seen.first_ns, seen.last_ns));
        let looked = lives.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        // One too short to be looked at.
        looked.or_else(|| {
            let profile = self.profile.members.get(member)?;
            let (_, began) = profile.started_by?;
            Some((began, began + profile.time?.lifetime_ns))
        })
    }

    /// It ended before the other one, lived briefly or did not do much, and no byte went through a
    /// pipe to others while it lived.
    fn only_started(&self, member: usize, root: usize, into: &[Option<usize>]) -> bool {
        let id = self.pipeline.members[member].id();
        let holds =
            |pipe: &Pipe, id: MemberId| pipe.writers.contains(&id) || pipe.readers.contains(&id);
        let Some((life, of_root)) = self.life(member).zip(self.life(root)) else { return false };
        let length = |(from, until): (u64, u64)| until.saturating_sub(from) as f64;
        let cpu = |member: &MemberProfile| member.cpu_time_ns.unwrap_or(0) as f64;
        let all: f64 = self.profile.members.iter().map(cpu).sum();
        let is_brief = length(life) < BRIEF * length(of_root);
        let did_little = cpu(&self.profile.members[member]) <= MOST_CPU * all;
        // A long sleep before the program that it leads to is start-up as well.
        let may_be = did_little || is_brief && self.holds_pipe(member);
        if !may_be || life.1 >= of_root.1 {
            return false;
        }
        let is_family = |id: &MemberId| {
            let at = self.pipeline.position(*id);
            at.is_some_and(|at| at == root || into[at] == Some(root))
        };
        self.pipeline.pipes.iter().filter(|pipe| holds(pipe, id)).all(|pipe| {
            let is_own = pipe.writers.iter().all(is_family) && pipe.readers.iter().all(is_family);
            // What a reader does not take goes in until the pipe is full.
            let most = match pipe.writers.contains(&id) {
                true => A_PAGE,
                false => pipe.capacity_bytes.unwrap_or(65_536) as f64,
            };
            is_own || self.went_through(pipe, life) <= most
        })
    }

    /// Bytes that went through a pipe between two times, by the clock of the recording.
    fn went_through(&self, pipe: &Pipe, (from_ns, until_ns): (u64, u64)) -> f64 {
        let flow = self.flows.iter().find(|flow| flow.is_of(pipe));
        // Where nobody knows, it may have been much.
        let Some(flow) = flow.filter(|flow| flow.bytes.known().is_some()) else {
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
            let at = self.pipeline.members.iter().position(|member| member.id() == *id);
            at.is_none_or(|at| there.get(at).is_none_or(|there| *there))
        };
        let mut pipes = self.pipeline.pipes.clone();
        for pipe in &mut pipes {
            pipe.writers.retain(kept);
            pipe.readers.retain(kept);
        }
        let carried = |pipe: &Pipe| {
            let flow = self.flows.iter().find(|flow| flow.is_of(pipe));
            flow.and_then(|flow| flow.bytes.known()).is_some_and(|bytes| bytes > 0)
        };
        pipes.retain(|pipe| !pipe.writers.is_empty() && !pipe.readers.is_empty() || carried(pipe));
        self.flows.retain(|flow| pipes.iter().any(|pipe| flow.is_of(pipe)));
        self.pipeline.pipes = pipes;
        self.keep(&there);
    }

    /// Leaves out the members that are not kept, by their place.
    fn keep(&mut self, kept: &[bool]) {
        let is_kept = |at: usize| kept.get(at).is_none_or(|kept| *kept);
        let place = |at: usize| is_kept(at).then(|| (0..at).filter(|&at| is_kept(at)).count());
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
        let mut at = 0..;
        self.profile.members.retain(|_| at.next().is_none_or(is_kept));
        let mut at = 0..;
        self.pipeline.members.retain(|_| at.next().is_none_or(is_kept));
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
                let mut kept: Vec<MemberId> = Vec::new();
                for id in end.iter().map(|id| *told_as.get(id).unwrap_or(id)) {
                    if !kept.contains(&id) {
                        kept.push(id);
                    }
                }
                *end = kept;
            }
        }
        for (member, root) in into.iter().enumerate() {
            if let Some(root) = *root {
                let part = std::mem::replace(
                    &mut self.profile.members[member],
                    MemberProfile::new(0, String::new(), None),
                );
                absorb(&mut self.profile.members[root], part);
            }
        }
        let kept: Vec<bool> = into.iter().map(Option::is_none).collect();
        self.keep(&kept);
        // Pipes within one member stay known: who waits at one waits for nobody else.
        let pipes = &self.pipeline.pipes;
        self.flows.retain(|flow| !pipes.iter().any(|pipe| flow.is_of(pipe) && pipe.is_internal()));
        self.index = Index::default();
    }
}

fn absorb(root: &mut MemberProfile, part: MemberProfile) {
    for (sum, more) in [(&mut root.on_cpu, part.on_cpu), (&mut root.blocked, part.blocked)] {
        for weight in more {
            match sum.iter_mut().find(|known| known.stack == weight.stack) {
                Some(known) => {
                    known.samples += weight.samples;
                    known.weight = known.weight.saturating_add(weight.weight);
                }
                None => sum.push(weight),
            }
        }
    }
    root.cpu_time_ns = match (root.cpu_time_ns, part.cpu_time_ns) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    if let (Some(sum), Some(more)) = (&mut root.time, part.time) {
        sum.lifetime_ns += more.lifetime_ns;
        sum.on_cpu_ns += more.on_cpu_ns;
        sum.blocked_ns += more.blocked_ns;
        sum.runnable_ns += more.runnable_ns;
        sum.wake_delay_ns = sum.wake_delay_ns.zip(more.wake_delay_ns).map(|(a, b)| a + b);
        sum.sleeps += more.sleeps;
        sum.preemptions += more.preemptions;
    }
}
