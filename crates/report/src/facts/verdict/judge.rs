//! Adds up what limits: shares of members, pipes and CPUs, for the whole run and by phase.

use pipeprof_runner::pipeline::Pipeline;
use rustc_hash::FxHashSet;

use super::{Judged, Limiter, PhaseFacts, Places, Unclear};
use crate::facts::blame::{Blame, Blamed, Limit, Use, blame, uses};
use crate::facts::phases::{Phase, phases};
use crate::facts::states::{ActorId, Doing, Outside, StateHistory};
use crate::ordered::OrderedMap;
use crate::roles::Role;
use crate::verdict::evidence::Evidence;
use crate::verdict::{Finding, SHORTEST_NS};

/// Fewer looks than this say nothing.
const FEWEST_LOOKS: u64 = 12;

/// From here on what a pipe itself costs is what limits, and where its ends alternate, that.
pub(super) const MOSTLY: f64 = 0.5;

/// Waiting for a CPU, or for memory, below this share is what every machine has now and then.
pub(super) const LEAST_PRESSURE: f64 = 0.1;

pub(in crate::facts) struct Judge<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) history: &'a StateHistory,
    pub(super) pipeline: &'a Pipeline,
    pub(super) phases: Vec<Phase>,
    pub(super) whole: Blame,
    pub(super) uses: Vec<Use>,
    /// By actor, its place in the evidence.
    pub(in crate::facts) member_of: Vec<Option<usize>>,
    /// By pipe of the pipeline, its place in the evidence.
    pub(in crate::facts) pipe_of: Vec<Option<usize>>,
    /// By actor, what it waited for outside, the longest first.
    pub(super) outside: Vec<Vec<(Outside, f64)>>,
    /// By member of the evidence, the pipe that it works at most, and the share of its CPU time that
    /// this takes.
    pipe_work: Vec<Option<(usize, f64)>>,
    /// By member of the evidence, its share of the limit, with its work for pipes.
    limits: Vec<f64>,
}

impl<'a> Judge<'a> {
    pub(in crate::facts) fn of(
        evidence: &'a Evidence,
        history: &'a StateHistory,
        pipeline: &'a Pipeline,
        places: Places,
    ) -> Self {
        let blamed = blame(history);
        let all = 0..history.spans.len();
        let Places { members: member_of, pipes: pipe_of } = places;
        let whole = blamed.sum(all.clone());
        let mut limits = vec![0.0; evidence.members.len()];
        for (limit, ns) in &whole.limits {
            if let Some(member) = limit.actor().and_then(|actor| member_of[actor]) {
                limits[member] += ns / whole.whole_ns.max(1.0);
            }
        }
        let members = 0..evidence.members.len();
        let mut judge = Judge {
            phases: phases(history, &blamed),
            whole,
            uses: uses(history, all),
            member_of,
            pipe_of,
            outside: outside(history),
            pipe_work: members.map(|member| pipe_work(evidence, member)).collect(),
            limits,
            evidence,
            history,
            pipeline,
        };
        judge.merge_phases(&blamed);
        judge
    }

    /// Ends of one pipe may take turns at limiting by what they do for it, which is one limit.
    /// But what a member waits for outside is another limit than what it does.
    pub(super) fn merge_phases(&mut self, blamed: &Blamed) {
        let mut merged: Vec<Phase> = Vec::new();
        for phase in std::mem::take(&mut self.phases) {
            let top = |phase: &Phase| {
                let (limiter, _) = *self.limiters(&phase.blame, false).first()?;
                Some((limiter, self.waits_outside(&phase.blame, limiter).is_some()))
            };
            match merged.last_mut() {
                Some(last) if top(last) == top(&phase) => {
                    last.spans.end = phase.spans.end;
                    last.until_ns = phase.until_ns;
                    last.blame = blamed.sum(last.spans.clone());
                }
                _ => merged.push(phase),
            }
        }
        self.phases = merged;
    }

    /// What a member waits for outside, where it limits by that more than by what it does.
    fn waits_outside(&self, blame: &Blame, limiter: Limiter) -> Option<Outside> {
        let (mut waited, mut rest) = (0.0, 0.0);
        let mut longest = None;
        for &(limit, ns) in &blame.limits {
            let member = limit.actor().and_then(|actor| self.member_of[actor]);
            match limit {
                _ if !member.is_some_and(|member| limiter == Limiter::Member(member)) => {}
                Limit::Outside(_, outside) => {
                    waited += ns;
                    // The largest come first.
                    longest.get_or_insert(outside);
                }
                _ => rest += ns,
            }
        }
        longest.filter(|_| waited > rest)
    }

    pub(super) fn judged(&self) -> Judged {
        let mut judged = Judged {
            limits: self.limiters(&self.whole, false),
            phases: self.phases.iter().map(|phase| self.phase(phase)).collect(),
            removable: self.removable(),
            cpus_are_idle: self.cpus_are_idle(),
            memory_pressure: self.memory_pressure(),
            ..Judged::open(self.lives(), self.larger_pipe())
        };
        if let Some(unclear) = self.too_thin(&judged) {
            judged.unclear = Some(unclear);
            return judged;
        }
        self.find(&mut judged);
        judged.next = self.next(&judged);
        if judged.finding != Finding::Idle {
            (judged.confidence, judged.doubt) = self.sure(&judged);
        }
        judged
    }

    pub(super) fn too_thin(&self, judged: &Judged) -> Option<Unclear> {
        let elapsed_ns = self.history.elapsed_ns();
        if elapsed_ns < SHORTEST_NS {
            return Some(Unclear::TooShort(elapsed_ns));
        }
        if self.history.looks < FEWEST_LOOKS {
            return Some(Unclear::FewLooks(self.history.looks));
        }
        match judged.limits.first() {
            Some(&(Limiter::Unknown, share)) => Some(Unclear::Unexplained(share)),
            None => Some(Unclear::Unexplained(1.0)),
            _ => None,
        }
    }

    /// Shares of the limit by member, and by pipe, with the CPU time of members that mostly work for
    /// it. That a member waits for a CPU is its own share, or that of the CPUs.
    pub(in crate::facts) fn limiters(&self, blame: &Blame, apart: bool) -> Vec<(Limiter, f64)> {
        let mut limiters: OrderedMap<Limiter, f64> = OrderedMap::default();
        let mut add = |limiter: Limiter, share: f64| {
            if share > 0.0 {
                *limiters.entry(limiter).or_default() += share;
            }
        };
        for &(limit, ns) in &blame.limits {
            let share = ns / blame.whole_ns.max(1.0);
            let member = limit.actor().and_then(|actor| self.member_of[actor]);
            match (limit, member) {
                (Limit::WakeUps(pipe), _) => {
                    add(self.pipe_of[pipe].map_or(Limiter::Unknown, Limiter::Pipe), share);
                }
                (Limit::NoCpu(_), _) if apart => add(Limiter::Cpus, share),
                (Limit::Busy(_) | Limit::NoCpu(_), Some(member)) => {
                    // Who mostly does what is its own would limit without the pipe as well.
                    let in_pipe = self.pipe_work(member).filter(|(_, part)| *part >= MOSTLY);
                    let of_pipe = in_pipe.map_or(0.0, |(_, part)| share * part);
                    if let Some((pipe, _)) = in_pipe {
                        add(Limiter::Pipe(pipe), of_pipe);
                    }
                    add(Limiter::Member(member), share - of_pipe);
                }
                (Limit::Outside(..), Some(member)) => add(Limiter::Member(member), share),
                _ => add(Limiter::Unknown, share),
            }
        }
        let mut limiters: Vec<(Limiter, f64)> = limiters.into_iter().collect();
        limiters.sort_by(|a, b| b.1.total_cmp(&a.1));
        limiters
    }

    /// The pipe that a member works at most, and the share of its CPU time that this takes.
    pub(super) fn pipe_work(&self, member: usize) -> Option<(usize, f64)> {
        self.pipe_work[member]
    }

    pub(super) fn is_tiny(&self, member: usize, pipe: usize) -> bool {
        is_tiny(self.evidence, member, pipe)
    }

    pub(super) fn actors_of(&self, members: &[usize]) -> Vec<ActorId> {
        let members: FxHashSet<usize> = members.iter().copied().collect();
        let is_meant =
            |&actor: &ActorId| self.member_of[actor].is_some_and(|m| members.contains(&m));
        (0..self.history.actors.len()).filter(is_meant).collect()
    }

    pub(super) fn memory_pressure(&self) -> Option<f64> {
        let pressure = self.history.pressure?;
        let share = pressure.memory_some_ns as f64 / self.history.elapsed_ns().max(1) as f64;
        (share >= LEAST_PRESSURE).then_some(share.min(1.0))
    }

    /// Share of the limit that a member has, with its work for pipes.
    pub(super) fn limits_of(&self, member: usize) -> f64 {
        self.limits[member]
    }

    /// The members at a pipe, the one that limits most first.
    pub(super) fn ends_by_share(&self, pipe: usize) -> Vec<usize> {
        let mut ends = self.evidence.ends(pipe);
        ends.sort_by(|&a, &b| self.limits_of(b).total_cmp(&self.limits_of(a)));
        ends
    }

    pub(super) fn phase(&self, phase: &Phase) -> PhaseFacts {
        let start = self.history.spans.first().map_or(0, |span| span.from_ns);
        let limiters = self.limiters(&phase.blame, false);
        let (limiter, share) = limiters.first().copied().unwrap_or((Limiter::Unknown, 1.0));
        PhaseFacts {
            from_ns: phase.from_ns.saturating_sub(start),
            until_ns: phase.until_ns.saturating_sub(start),
            limiter,
            share,
            outside: self.waits_outside(&phase.blame, limiter),
        }
    }
}

fn pipe_work(evidence: &Evidence, member: usize) -> Option<(usize, f64)> {
    let one = &evidence.members[member];
    let pipe = evidence.busiest_pipe(member)?;
    let on_cpu = one.roles.iter().map(|(_, ns)| ns).sum::<u64>().max(1) as f64;
    if is_tiny(evidence, member, pipe) {
        let user: u64 =
            one.roles.iter().filter(|(role, _)| *role == Role::User).map(|(_, ns)| ns).sum();
        return Some((pipe, 1.0 - user as f64 / on_cpu));
    }
    Some((pipe, (one.pipe_work() as f64 / on_cpu).min(1.0)))
}

fn is_tiny(evidence: &Evidence, member: usize, pipe: usize) -> bool {
    let writes = evidence.members[member].writes_to.contains(&pipe);
    evidence.is_tiny(pipe, writes)
}

/// By actor, what it waited for outside, the longest first.
fn outside(history: &StateHistory) -> Vec<Vec<(Outside, f64)>> {
    let mut all: Vec<OrderedMap<Outside, f64>> = vec![OrderedMap::default(); history.actors.len()];
    for moment in history.spans.iter().flat_map(|span| &span.moments) {
        for (sums, doing) in all.iter_mut().zip(&*moment.doing) {
            let Doing::Outside(outside) = *doing else { continue };
            *sums.entry(outside).or_default() += moment.ns;
        }
    }
    let longest_first = |mut sums: OrderedMap<Outside, f64>| -> Vec<(Outside, f64)> {
        sums.sort_by(|_, a, _, b| b.total_cmp(a));
        sums.into_iter().collect()
    };
    all.into_iter().map(longest_first).collect()
}
