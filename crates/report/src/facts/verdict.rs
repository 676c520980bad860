//! The verdict as data: who limits, how sure that is, what takes over, and what a remedy can buy.
//!
//! Bounds come from the time line: with one member costing nothing, each phase takes as long as the
//! next needs, who is busy or waits outside for so much of it. A larger pipe can at most let all
//! members work at the same time, so it buys nothing where one of them is busy all the time.

use pipeprof_profiler::states::Why;
use pipeprof_runner::pipeline::Pipeline;

use super::blame::{Blame, Blamed, Limit, Use, blame, uses};
use super::phases::{Phase, phases};
use super::states::{ActorId, Doing, Outside, PipeAt, Scene};
use crate::roles::{Reason, Role};
use crate::verdict::evidence::{Evidence, MemberEvidence, Work};
use crate::verdict::{Confidence, Finding, PipeCause, SHORTEST_NS};

/// Who or what limits, by place in the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A member.
    Member(usize),
    /// A pipe.
    Pipe(usize),
    /// The CPUs: members could run, and have none.
    Cpus,
    /// Nothing tells.
    Unknown,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unclear {
    /// Nanoseconds that are too short to tell.
    TooShort(u64),
    /// Looks that are too few.
    FewLooks(u64),
    /// Share of the time for which nothing tells who limits.
    Unexplained(f64),
    /// Context switches were not recorded.
    NoSwitches,
    /// Share of the records that were lost.
    Lost(f64),
    /// Kernel code was not measured.
    NoKernel,
    /// No member lived long enough.
    NoMember,
    /// Every member waited for a neighbour most of the time, this one least.
    AllWait {
        /// Place in the evidence.
        member: usize,
        /// Share of the time.
        share: f64,
    },
    /// No call chain tells why this member sleeps.
    NoCause(usize),
}

/// What speaks against a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doubt {
    /// So few looks that chance may have decided.
    FewLooks(u64),
    /// The next is nearly as large.
    NextIsNear(Party),
    /// For this share of the time nothing tells who limits.
    Unexplained(f64),
    /// Looks into this pipe found it otherwise than the waits of its ends say.
    FillDisagrees(usize),
    /// Only `/proc` was looked at: what members do on a CPU was not measured in the kernel.
    LooksOnly,
    /// No share is large.
    Scattered,
    /// Its neighbours do not wait as they should.
    Neighbours,
    /// Averages alone were recorded.
    Averages,
}

/// What takes over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Next {
    /// Who.
    pub member: usize,
    /// Share of the time that it needs even when nobody lets it wait.
    pub needs: f64,
    /// How many times as fast the pipeline can be at most, with the limit costing nothing.
    pub bound: f64,
}

/// What a larger pipe can buy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LargerPipe {
    /// Which, where its ends alternate.
    pub pipe: Option<usize>,
    /// At most so many times as fast.
    pub bound: f64,
    /// What goes through between two changes of who waits, in bytes.
    pub burst_bytes: Option<f64>,
    /// How long it takes to drain that much.
    pub drain_seconds: Option<f64>,
}

/// A stretch of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseFacts {
    /// Since the start of the looks.
    pub from_ns: u64,
    /// Likewise.
    pub until_ns: u64,
    /// Who limited it most.
    pub party: Party,
    /// For which share of it.
    pub share: f64,
}

/// How a member used the CPUs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parallel {
    /// One of its threads does nearly all of the work.
    OneThread,
    /// It used all the CPUs there are.
    AllCpus,
    /// Several of its threads worked, one at a time: they wait for a lock of its own.
    OneAtATime,
    /// None of these.
    Some,
    /// Only the sums of its threads are known.
    Summed,
}

/// What the CPU quota of its control group did to a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// CPUs that it allows.
    pub cpus: f64,
    /// Share of the member's life in which it kept it from running.
    pub held_back: f64,
}

/// A member by its states.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberFacts {
    /// Place in the evidence.
    pub member: usize,
    /// How it spent its time.
    pub used: Use,
    /// What it waited for outside, the longest first, in nanoseconds.
    pub outside: Vec<(Outside, f64)>,
    /// CPUs while busy.
    pub cpus: f64,
    /// How it used them.
    pub parallel: Parallel,
    /// Most threads that one of its processes had.
    pub threads: u32,
    /// Where a quota kept it from running.
    pub quota: Option<Quota>,
    /// CPU time of the thread that used most.
    pub busiest_thread_ns: u64,
    /// Its name, where that is not the process's.
    pub busiest_thread: Option<String>,
    /// What it started that is told as part of it, and the share of its life that these lived, the
    /// longest first.
    pub children: Vec<(String, f64)>,
}

/// All that a verdict says.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What it is.
    pub finding: Finding,
    /// The members that it is about, by place in the evidence.
    pub members: Vec<usize>,
    /// The pipe that it is about, likewise.
    pub pipe: Option<usize>,
    /// How sure it is.
    pub confidence: Option<Confidence>,
    /// Why not more so.
    pub doubt: Option<Doubt>,
    /// Why there is none.
    pub unclear: Option<Unclear>,
    /// Share of the time in which what was found limits.
    pub share: f64,
    /// What its waits outside are for.
    pub outside: Option<Outside>,
    /// Shares of the limit, the largest first; they add up to 1.
    pub limits: Vec<(Party, f64)>,
    /// In the order of the pipeline.
    pub lives: Vec<MemberFacts>,
    /// Who takes over.
    pub next: Option<Next>,
    /// What a larger pipe buys.
    pub larger_pipe: LargerPipe,
    /// In the order of time.
    pub phases: Vec<PhaseFacts>,
    /// A member that only passes on what the next could read by itself.
    pub removable: Option<usize>,
    /// CPUs that the members may use were idle, so that they did not wait for want of one.
    pub cpus_are_idle: bool,
    /// Share of the time in which some task of the machine waited for memory, where that is much.
    pub memory_pressure: Option<f64>,
}

/// Fewer looks than this say nothing.
const FEWEST_LOOKS: u64 = 12;

/// Looks in a row are alike: so many count as one that is independent.
const ALIKE: f64 = 4.0;

/// From here on what a pipe itself costs is what limits, and where its ends alternate, that.
const MOSTLY: f64 = 0.5;

/// Both ends of a pipe wait for this share of the time where they alternate.
pub(crate) const LEAST_ALTERNATION: f64 = 0.1;

/// Waiting for a CPU, or for memory, below this share is what every machine has now and then.
const LEAST_PRESSURE: f64 = 0.1;

/// CPUs that were idle for this share of the time are not what members waited for.
const IDLE: f64 = 0.15;

/// A thread with this share of the CPU time of its process does the work.
const ONE_DOES_IT: f64 = 0.8;

/// With this much CPU time beside the busiest thread, a second one works too.
const SECOND_WORKS: f64 = 0.15;

/// A gain below this is none: looks do not tell it from chance.
pub const LEAST_GAIN: f64 = 1.05;

/// Judges by states; `None` where nobody looked at a member.
pub fn judge(evidence: &Evidence, scene: &Scene, pipeline: &Pipeline) -> Option<Judged> {
    if scene.actors.is_empty() || scene.spans.is_empty() {
        return None;
    }
    Some(Judge::of(evidence, scene, pipeline).judged())
}

pub(super) struct Judge<'a> {
    evidence: &'a Evidence,
    scene: &'a Scene,
    pipeline: &'a Pipeline,
    phases: Vec<Phase>,
    whole: Blame,
    uses: Vec<Use>,
    /// By actor, its place in the evidence.
    pub(super) member_of: Vec<Option<usize>>,
    /// By pipe of the pipeline, its place in the evidence.
    pub(super) pipe_of: Vec<Option<usize>>,
}

impl<'a> Judge<'a> {
    pub(super) fn of(evidence: &'a Evidence, scene: &'a Scene, pipeline: &'a Pipeline) -> Self {
        let blamed = blame(scene);
        let all = 0..scene.spans.len();
        let member_of = scene.actors.iter().map(|actor| {
            let pid = pipeline.members.get(actor.member)?.pid;
            evidence.members.iter().position(|member| member.pid == pid)
        });
        let pipe_of = pipeline
            .pipes
            .iter()
            .map(|pipe| evidence.pipes.iter().position(|known| known.inode == pipe.inode));
        let mut judge = Judge {
            phases: phases(scene, &blamed),
            whole: blamed.sum(all.clone()),
            uses: uses(scene, all),
            member_of: member_of.collect(),
            pipe_of: pipe_of.collect(),
            evidence,
            scene,
            pipeline,
        };
        judge.merge_phases(&blamed);
        judge
    }

    /// Ends of one pipe may take turns at limiting by what they do for it, which is one limit.
    fn merge_phases(&mut self, blamed: &Blamed) {
        let mut merged: Vec<Phase> = Vec::new();
        for phase in std::mem::take(&mut self.phases) {
            let top =
                |phase: &Phase| self.parties(&phase.blame, false).first().map(|(party, _)| *party);
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

    fn judged(&self) -> Judged {
        let limits = self.parties(&self.whole, false);
        let phases = self.phases.iter().map(|phase| self.phase(phase)).collect();
        let larger_pipe = self.larger_pipe();
        let mut judged = Judged {
            finding: Finding::Unclear,
            members: Vec::new(),
            pipe: None,
            confidence: None,
            doubt: None,
            unclear: None,
            share: 0.0,
            outside: None,
            lives: self.lives(),
            next: None,
            removable: self.removable(),
            cpus_are_idle: self.cpus_are_idle(),
            memory_pressure: self.memory_pressure(),
            larger_pipe,
            limits,
            phases,
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

    fn too_thin(&self, judged: &Judged) -> Option<Unclear> {
        let elapsed_ns = self.scene.elapsed_ns();
        if elapsed_ns < SHORTEST_NS {
            return Some(Unclear::TooShort(elapsed_ns));
        }
        if self.scene.looks < FEWEST_LOOKS {
            return Some(Unclear::FewLooks(self.scene.looks));
        }
        match judged.limits.first() {
            Some(&(Party::Unknown, share)) => Some(Unclear::Unexplained(share)),
            None => Some(Unclear::Unexplained(1.0)),
            _ => None,
        }
    }

    /// Shares of the limit by member, and by pipe, with the CPU time of members that mostly work for
    /// it. That a member waits for a CPU is its own share, or that of the CPUs.
    pub(super) fn parties(&self, blame: &Blame, apart: bool) -> Vec<(Party, f64)> {
        let mut parties: Vec<(Party, f64)> = Vec::new();
        let mut add = |party: Party, share: f64| {
            if share <= 0.0 {
                return;
            }
            match parties.iter_mut().find(|(known, _)| *known == party) {
                Some((_, sum)) => *sum += share,
                None => parties.push((party, share)),
            }
        };
        for &(limit, ns) in &blame.limits {
            let share = ns / blame.whole_ns.max(1.0);
            let member = limit.actor().and_then(|actor| self.member_of[actor]);
            match (limit, member) {
                (Limit::WakeUps(pipe), _) => {
                    add(self.pipe_of[pipe].map_or(Party::Unknown, Party::Pipe), share);
                }
                (Limit::NoCpu(_), _) if apart => add(Party::Cpus, share),
                (Limit::Busy(_) | Limit::NoCpu(_), Some(member)) => {
                    // Who mostly does what is its own would limit without the pipe as well.
                    let in_pipe = self.pipe_work(member).filter(|(_, part)| *part >= MOSTLY);
                    let of_pipe = in_pipe.map_or(0.0, |(_, part)| share * part);
                    if let Some((pipe, _)) = in_pipe {
                        add(Party::Pipe(pipe), of_pipe);
                    }
                    add(Party::Member(member), share - of_pipe);
                }
                (Limit::Outside(..), Some(member)) => add(Party::Member(member), share),
                _ => add(Party::Unknown, share),
            }
        }
        parties.sort_by(|a, b| b.1.total_cmp(&a.1));
        parties
    }

    /// The pipe that a member works at most, and the share of its CPU time that this takes.
    fn pipe_work(&self, member: usize) -> Option<(usize, f64)> {
        let one = &self.evidence.members[member];
        let writes = self.evidence.side(one, true) >= self.evidence.side(one, false);
        let (first, second) = if writes {
            (&one.writes_to, &one.reads_from)
        } else {
            (&one.reads_from, &one.writes_to)
        };
        let pipe = *first.first().or_else(|| second.first())?;
        let on_cpu = one.roles.iter().map(|(_, ns)| ns).sum::<u64>().max(1) as f64;
        if self.is_tiny(member, pipe) {
            let user: u64 =
                one.roles.iter().filter(|(role, _)| *role == Role::User).map(|(_, ns)| ns).sum();
            return Some((pipe, 1.0 - user as f64 / on_cpu));
        }
        Some((pipe, (one.pipe_work() as f64 / on_cpu).min(1.0)))
    }

    fn is_tiny(&self, member: usize, pipe: usize) -> bool {
        let writes = self.evidence.members[member].writes_to.contains(&pipe);
        self.evidence.is_tiny(pipe, writes)
    }

    fn find(&self, judged: &mut Judged) {
        let elapsed = self.scene.elapsed_ns() as f64;
        let Some(&(top, share)) = judged.limits.first() else { return };
        judged.share = share;
        if let Some((member, outside)) = self.idle(top) {
            (judged.finding, judged.members) = (Finding::Idle, vec![member]);
            judged.outside = Some(outside);
            return;
        }
        if self.is_starved(top) {
            self.find_starved(judged);
            return;
        }
        if let Some(pipe) = self.alternating(judged) {
            judged.finding = Finding::PipeBound(PipeCause::TooSmall);
            judged.pipe = Some(pipe);
            judged.members = self.ends_by_share(pipe);
            return;
        }
        match top {
            Party::Pipe(pipe) => {
                judged.finding = Finding::PipeBound(self.cause(pipe, elapsed));
                judged.pipe = Some(pipe);
                judged.members = self.ends_by_share(pipe);
                if judged.finding == Finding::PipeBound(PipeCause::TinyCalls) {
                    // Whose calls are small is to blame, and all that it does is for them.
                    judged.members.sort_by_key(|&member| !self.is_tiny(member, pipe));
                    let own = judged.members.first().map(|&member| self.limits_of(member));
                    judged.share = own.unwrap_or(0.0).max(judged.share);
                }
            }
            Party::Member(member) => self.find_member(judged, member),
            Party::Cpus | Party::Unknown => {}
        }
    }

    /// Whether CPUs would make the pipeline faster than anything could that is done to whoever
    /// limits, or that mostly waits for one.
    fn is_starved(&self, top: Party) -> bool {
        let no_cpu = self.whole.share(|limit| matches!(limit, Limit::NoCpu(_)));
        let is_throttled = self.lives().iter().any(|life| {
            matches!((life.quota, top), (Some(quota), Party::Member(member))
                if life.member == member && quota.held_back >= LEAST_PRESSURE)
        });
        if no_cpu < LEAST_PRESSURE || self.cpus_are_idle() && !is_throttled {
            return false;
        }
        let share_of = |parties: Vec<(Party, f64)>| {
            parties.iter().find(|(party, _)| *party == top).map_or(0.0, |(_, share)| *share)
        };
        let own = share_of(self.parties(&self.whole, true));
        let with_waits = share_of(self.parties(&self.whole, false));
        if with_waits - own > own {
            return true;
        }
        let Party::Member(member) = top else { return false };
        let blamed: Vec<ActorId> = self.actors_of(&[member]);
        let (without, _) = self.time_without(&blamed);
        self.time_with_cpus() < 0.9 * without
    }

    fn find_starved(&self, judged: &mut Judged) {
        judged.finding = Finding::Starved;
        // Who limits comes first, though all wait for the same CPUs.
        let mut members: Vec<usize> = self.member_of.iter().filter_map(|member| *member).collect();
        members.sort_by(|&a, &b| self.limits_of(b).total_cmp(&self.limits_of(a)));
        members.retain(|&member| self.limits_of(member) >= 0.05);
        judged.members = members;
        judged.limits = self.parties(&self.whole, true);
        let of_cpus = judged.limits.iter().find(|(party, _)| *party == Party::Cpus);
        judged.share = of_cpus.map_or(0.0, |(_, share)| *share);
    }

    fn actors_of(&self, members: &[usize]) -> Vec<ActorId> {
        let is_meant =
            |&actor: &ActorId| self.member_of[actor].is_some_and(|m| members.contains(&m));
        (0..self.scene.actors.len()).filter(is_meant).collect()
    }

    /// How long the phases take if nobody ever waits for a CPU or a neighbour.
    fn time_with_cpus(&self) -> f64 {
        let longest = |phase: &Phase| {
            let uses = uses(self.scene, phase.spans.clone());
            uses.iter().map(|used| used.least_needs_ns(0.0)).fold(0.0, f64::max)
        };
        self.phases.iter().map(longest).sum()
    }

    fn memory_pressure(&self) -> Option<f64> {
        let pressure = self.scene.pressure?;
        let share = pressure.memory_some_ns as f64 / self.scene.elapsed_ns().max(1) as f64;
        (share >= LEAST_PRESSURE).then_some(share.min(1.0))
    }

    fn find_member(&self, judged: &mut Judged, member: usize) {
        judged.members = vec![member];
        let error = self.error(judged.share);
        let near = judged.limits.iter().skip(1).filter_map(|&(party, share)| match party {
            Party::Member(other) if judged.share - share <= error.max(0.05) => Some(other),
            _ => None,
        });
        let near: Vec<usize> = near.collect();
        if !near.is_empty() && judged.phases.len() <= 1 {
            judged.finding = Finding::Balanced;
            judged.members.extend(near);
            return;
        }
        let of_member =
            |limit: Limit| limit.actor().and_then(|actor| self.member_of[actor]) == Some(member);
        let outside = self.whole.limits.iter().find_map(|&(limit, ns)| match limit {
            Limit::Outside(_, outside) if of_member(limit) => Some((outside, ns)),
            _ => None,
        });
        let busy = self
            .whole
            .share(|limit| of_member(limit) && matches!(limit, Limit::Busy(_) | Limit::NoCpu(_)));
        let waits =
            self.whole.share(|limit| of_member(limit) && matches!(limit, Limit::Outside(..)));
        match outside {
            Some((outside, _)) if waits > busy => {
                judged.outside = Some(outside);
                judged.finding = Finding::Outside(reason(outside));
            }
            _ => judged.finding = Finding::CpuBound,
        }
    }

    /// Nothing went through any pipe, and nobody did anything: who waits for what.
    fn idle(&self, top: Party) -> Option<(usize, Outside)> {
        let pipes = &self.evidence.pipes;
        let nothing = !pipes.is_empty() && pipes.iter().all(|pipe| pipe.bytes == Some(0));
        let cpu: f64 = self.uses.iter().map(|used| used.cpu_ns.max(used.busy_ns)).sum();
        if !nothing || cpu > 0.05 * self.scene.elapsed_ns() as f64 {
            return None;
        }
        let Party::Member(member) = top else { return None };
        let life = self.lives().into_iter().find(|life| life.member == member)?;
        Some((member, life.outside.first()?.0))
    }

    /// The pipe whose ends take turns, where that is what the time goes to.
    fn alternating(&self, judged: &Judged) -> Option<usize> {
        let pipe = judged.larger_pipe.pipe?;
        let ends = self.evidence.ends(pipe);
        let of_ends = judged.limits.iter().filter_map(|&(party, share)| match party {
            Party::Member(member) if ends.contains(&member) => Some(share),
            Party::Pipe(at) if at == pipe => Some(share),
            _ => None,
        });
        let mut shares: Vec<f64> = of_ends.collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        let [largest, second, ..] = shares[..] else { return None };
        let matters = judged.larger_pipe.bound >= 1.2 && judged.phases.len() <= 1;
        let is_even = largest <= MOSTLY + self.error(largest) && second >= 0.6 * largest;
        (matters && is_even && shares.iter().sum::<f64>() >= 0.7).then_some(pipe)
    }

    /// Share of the limit that a member has, with its work for pipes.
    fn limits_of(&self, member: usize) -> f64 {
        let actors = self.actors_of(&[member]);
        self.whole.share(|limit| limit.actor().is_some_and(|actor| actors.contains(&actor)))
    }

    /// The members at a pipe, the one that limits most first.
    fn ends_by_share(&self, pipe: usize) -> Vec<usize> {
        let mut ends = self.evidence.ends(pipe);
        ends.sort_by(|&a, &b| self.limits_of(b).total_cmp(&self.limits_of(a)));
        ends
    }

    fn cause(&self, pipe: usize, elapsed: f64) -> PipeCause {
        let ends = self.evidence.ends(pipe);
        let tiny = ends.iter().any(|&member| {
            self.is_tiny(member, pipe)
                && self.pipe_work(member).is_some_and(|(at, part)| at == pipe && part >= MOSTLY)
        });
        if tiny {
            return PipeCause::TinyCalls;
        }
        let circles: f64 = self.whole.share(|limit| match limit {
            Limit::WakeUps(at) => self.pipe_of[at] == Some(pipe),
            _ => false,
        });
        let work = |work: Work| -> u64 {
            ends.iter().map(|&member| self.evidence.members[member].work(work)).sum()
        };
        let heaviest =
            Work::ALL.into_iter().filter(|work| *work != Work::Other).max_by_key(|&kind| {
                work(kind) + if kind == Work::WakeUp { (circles * elapsed) as u64 } else { 0 }
            });
        heaviest.and_then(PipeCause::of).unwrap_or(PipeCause::WakeUps)
    }

    /// With which the share of a limit is known, in 19 of 20 cases.
    fn error(&self, share: f64) -> f64 {
        let looks = (self.scene.looks as f64 / ALIKE).max(1.0);
        2.0 * (share * (1.0 - share) / looks).sqrt().max(0.5 / looks)
    }

    fn sure(&self, judged: &Judged) -> (Option<Confidence>, Option<Doubt>) {
        let share = judged.share;
        let next = judged.limits.iter().find(|(party, _)| match party {
            Party::Member(member) => !judged.members.contains(member),
            Party::Pipe(pipe) => judged.pipe != Some(*pipe),
            Party::Cpus => judged.finding != Finding::Starved,
            Party::Unknown => false,
        });
        let (next, second) = next.map_or((Party::Unknown, 0.0), |&(party, share)| (party, share));
        let unknown = self.whole.share(|limit| limit == Limit::Unknown);
        let error = self.error(share);
        let gap = share - second;
        if gap <= error {
            let few = self.scene.looks < 100;
            let doubt =
                if few { Doubt::FewLooks(self.scene.looks) } else { Doubt::NextIsNear(next) };
            return (Some(Confidence::Low), Some(doubt));
        }
        let doubt = if unknown > 0.1 {
            Some(Doubt::Unexplained(unknown))
        } else if let Some(pipe) = self.fill_disagrees(judged) {
            Some(Doubt::FillDisagrees(pipe))
        } else if self.scene.looks < 40 {
            Some(Doubt::FewLooks(self.scene.looks))
        } else if gap < 0.2 + error {
            Some(Doubt::NextIsNear(next))
        } else if share < MOSTLY {
            Some(Doubt::Scattered)
        } else if !self.evidence.kernel_visible || self.scene.blind_share > 0.2 {
            Some(Doubt::LooksOnly)
        } else {
            None
        };
        (Some(if doubt.is_some() { Confidence::Medium } else { Confidence::High }), doubt)
    }

    /// A pipe before the limiting member that was found empty most of the time, or one after it that
    /// was found full.
    fn fill_disagrees(&self, judged: &Judged) -> Option<usize> {
        let member = match (judged.finding, &judged.members[..]) {
            (Finding::CpuBound | Finding::Outside(_), [member]) if judged.share > MOSTLY => *member,
            _ => return None,
        };
        let one = &self.evidence.members[member];
        let pipe = |at: &usize| &self.evidence.pipes[*at];
        let starved =
            one.reads_from.iter().find(|at| pipe(at).empty.is_some_and(|share| share > 0.9));
        let blocked =
            one.writes_to.iter().find(|at| pipe(at).full.is_some_and(|share| share > 0.9));
        // One that reads faster than it is fed, and yet limits: a source of its own, or a lazy one.
        let feeds = !one.reads_from.is_empty() && one.reads_from.len() == 1;
        starved.filter(|_| feeds).or(blocked).copied()
    }

    fn lives(&self) -> Vec<MemberFacts> {
        let cpus = self.evidence.cpus.max(1) as f64;
        (0..self.scene.actors.len())
            .filter_map(|actor| {
                let member = self.member_of[actor]?;
                let used = self.uses[actor];
                let one = &self.scene.actors[actor];
                let while_busy = used.cpu_ns / used.busy_ns.max(1.0);
                let alive = used.alive_ns.max(1.0);
                // While one hands over to the next, none runs.
                let handing_over = self.time_in(actor, Outside::For(Why::Thread));
                let takes_turns = one.second_thread_ns as f64 >= SECOND_WORKS * used.cpu_ns
                    && used.busy_ns + handing_over >= 0.75 * alive
                    && used.busy_ns >= 0.5 * alive
                    && used.threads_ns <= 1.15 * used.busy_ns
                    && used.cpu_ns <= 1.05 * used.busy_ns;
                let held_back = |(cpus, throttled): (f64, u64)| Quota {
                    cpus,
                    // Of all CPUs together; no thread waits longer than it waits for a CPU.
                    held_back: (throttled as f64).min(used.run_delay_ns).min(used.busy_ns) / alive,
                };
                let parallel = if used.cpu_ns >= 0.9 * cpus * alive && cpus > 1.0 {
                    Parallel::AllCpus
                } else if one.threads > 1
                    && one.busiest_thread.0 as f64 >= ONE_DOES_IT * used.cpu_ns
                    && used.busy_ns >= 0.5 * alive
                {
                    Parallel::OneThread
                } else if takes_turns {
                    Parallel::OneAtATime
                } else {
                    Parallel::Some
                };
                Some(MemberFacts {
                    member,
                    outside: self.outside_of(actor),
                    cpus: while_busy,
                    parallel,
                    threads: one.threads,
                    quota: one.quota.map(held_back).filter(|quota| quota.held_back >= 0.02),
                    busiest_thread_ns: one.busiest_thread.0,
                    busiest_thread: one.busiest_thread.1.clone(),
                    children: one
                        .children
                        .iter()
                        .map(|(name, lived)| (name.clone(), *lived as f64 / alive))
                        .collect(),
                    used,
                })
            })
            .collect()
    }

    fn time_in(&self, actor: ActorId, outside: Outside) -> f64 {
        let sums = self.outside_of(actor);
        sums.iter().find(|(known, _)| *known == outside).map_or(0.0, |(_, ns)| *ns)
    }

    fn outside_of(&self, actor: ActorId) -> Vec<(Outside, f64)> {
        let mut sums: Vec<(Outside, f64)> = Vec::new();
        for moment in self.scene.spans.iter().flat_map(|span| &span.moments) {
            let Doing::Outside(outside) = moment.doing[actor] else { continue };
            match sums.iter_mut().find(|(known, _)| *known == outside) {
                Some((_, sum)) => *sum += moment.ns,
                None => sums.push((outside, moment.ns)),
            }
        }
        sums.sort_by(|a, b| b.1.total_cmp(&a.1));
        sums
    }

    fn phase(&self, phase: &Phase) -> PhaseFacts {
        let start = self.scene.spans.first().map_or(0, |span| span.from_ns);
        let parties = self.parties(&phase.blame, false);
        let (party, share) = parties.first().copied().unwrap_or((Party::Unknown, 1.0));
        PhaseFacts {
            from_ns: phase.from_ns.saturating_sub(start),
            until_ns: phase.until_ns.saturating_sub(start),
            party,
            share,
        }
    }

    /// How long the phases take if each member but `without` needs what it needed, and nobody ever
    /// waits for a neighbour: the longest need of each, added up, and who that is most.
    fn time_without(&self, without: &[ActorId]) -> (f64, Option<ActorId>) {
        // Who is removed no longer lets the others fall asleep and wake up.
        let spared = |actor: ActorId| {
            let member = self.member_of[actor].filter(|_| !without.is_empty());
            let member = member.map(|member| &self.evidence.members[member]);
            member.map_or(0.0, |member| {
                member.work(Work::WakeUp) as f64 / member.on_cpu_ns.max(1) as f64
            })
        };
        let mut whole = 0.0;
        let mut longest = vec![0.0; self.scene.actors.len()];
        for phase in &self.phases {
            let uses = uses(self.scene, phase.spans.clone());
            let others = (0..uses.len()).filter(|actor| !without.contains(actor));
            let cpu: f64 =
                others.clone().map(|actor| uses[actor].cpu_ns * (1.0 - spared(actor))).sum();
            let cpus = self.cpus_in(&uses, (phase.until_ns - phase.from_ns) as f64);
            let needs = others.map(|actor| match without {
                [] => (actor, uses[actor].needs_ns()),
                _ => (actor, uses[actor].least_needs_ns(spared(actor))),
            });
            let Some((actor, ns)) = needs.max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            longest[actor] += ns;
            whole += ns.max(cpu / cpus);
        }
        let next = (0..longest.len()).max_by(|&a, &b| longest[a].total_cmp(&longest[b]));
        (whole, next.filter(|&actor| longest[actor] > 0.0))
    }

    /// CPUs that the members can have: all of the machine's, unless others took their part, so that
    /// members waited for one often.
    fn cpus_in(&self, uses: &[Use], elapsed_ns: f64) -> f64 {
        let sum = |part: fn(&Use) -> f64| uses.iter().map(part).sum::<f64>();
        let (cpu, delay) = (sum(|used| used.cpu_ns), sum(|used| used.run_delay_ns));
        let of_machine = self.evidence.cpus.max(1) as f64;
        // Who sleeps and wakes up often is always delayed, by little.
        let waited = delay >= 0.25 * (cpu + delay) && delay >= 0.25 * elapsed_ns;
        if !waited || cpu <= 0.0 || self.cpus_are_idle() {
            return of_machine;
        }
        (cpu / elapsed_ns.max(1.0)).clamp(0.01, of_machine)
    }

    /// Members that waited for a CPU had a free one: of all that they may use, some were idle.
    fn cpus_are_idle(&self) -> bool {
        let Some(idle) = self.scene.idle_cpus else { return false };
        let allowed = self.scene.actors.iter().filter_map(|actor| actor.cpus_allowed).max();
        let of_machine = self.evidence.cpus.max(1) as f64;
        // Bound to fewer CPUs than there are, they may wait beside idle ones.
        let is_bound = allowed.is_some_and(|allowed| f64::from(allowed) < of_machine);
        !is_bound && idle >= IDLE * of_machine
    }

    fn next(&self, judged: &Judged) -> Option<Next> {
        let blamed = self.actors_of(&judged.members);
        let (rest, next) = self.time_without(&blamed);
        let elapsed = self.scene.elapsed_ns() as f64;
        let actor = next?;
        Some(Next {
            member: self.member_of[actor]?,
            needs: self.uses[actor].needs_ns() / elapsed,
            bound: elapsed / rest.max(elapsed / 1000.0),
        })
    }

    fn larger_pipe(&self) -> LargerPipe {
        let elapsed = self.scene.elapsed_ns() as f64;
        let (together, _) = self.time_without(&[]);
        let (mut best, mut waits) = (None, 0.0);
        for pipe in 0..self.scene.pipes.len() {
            let (space, data) = self.waits_at(pipe);
            if space.min(data) > waits {
                (best, waits) = (Some(pipe), space.min(data));
            }
        }
        let alternates = waits >= LEAST_ALTERNATION * elapsed;
        let saved = (elapsed - together).max(0.0).min(waits);
        let bound = if alternates { elapsed / (elapsed - saved).max(1.0) } else { 1.0 };
        let at = best.filter(|_| alternates);
        let pipe = at.and_then(|at| self.pipe_of[at]);
        let burst_bytes = at.and_then(|at| self.burst(at));
        let rate = pipe.and_then(|pipe| self.evidence.pipes[pipe].bytes);
        let rate = rate.map(|bytes| bytes as f64 / (elapsed / 1e9));
        let drain_seconds = burst_bytes.zip(rate).map(|(burst, rate)| burst / rate.max(1.0));
        LargerPipe { pipe, bound, burst_bytes, drain_seconds }
    }

    /// Time that a writer waited for space in a pipe, and that a reader waited for its data.
    fn waits_at(&self, pipe: PipeAt) -> (f64, f64) {
        let ends = &self.scene.pipes[pipe];
        let mut sums = (0.0, 0.0);
        for moment in self.scene.spans.iter().flat_map(|span| &span.moments) {
            let waits = |actor: &ActorId, for_space: bool| match &moment.doing[*actor] {
                Doing::AtPipes { data, space } => {
                    if for_space {
                        space.contains(&pipe)
                    } else {
                        data.contains(&pipe)
                    }
                }
                _ => false,
            };
            if ends.writers.iter().any(|actor| waits(actor, true)) {
                sums.0 += moment.ns;
            }
            if ends.readers.iter().any(|actor| waits(actor, false)) {
                sums.1 += moment.ns;
            }
        }
        sums
    }

    /// Bytes that go through a pipe between two changes of which end waits. Seen in the time line
    /// where the changes are slow, else as what goes through between two sleeps of its reader.
    fn burst(&self, pipe: PipeAt) -> Option<f64> {
        let at = self.pipe_of[pipe]?;
        let bytes = self.evidence.pipes[at].bytes? as f64;
        let ends = &self.scene.pipes[pipe];
        let (mut changes, mut clear, mut before) = (0, 0, None);
        for span in &self.scene.spans {
            let length = (span.until_ns - span.from_ns) as f64;
            let share = |for_space: bool| -> f64 {
                let actors = if for_space { &ends.writers } else { &ends.readers };
                let waits = |doing: &Doing| match doing {
                    Doing::AtPipes { data, space } => {
                        if for_space {
                            space.contains(&pipe)
                        } else {
                            data.contains(&pipe)
                        }
                    }
                    _ => false,
                };
                let waiting = span
                    .moments
                    .iter()
                    .filter(|moment| actors.iter().any(|&actor| waits(&moment.doing[actor])));
                waiting.map(|moment| moment.ns).sum::<f64>() / length
            };
            let now = match (share(true), share(false)) {
                (space, _) if space > 0.8 => true,
                (_, data) if data > 0.8 => false,
                _ => continue,
            };
            clear += 1;
            changes += usize::from(before.is_some_and(|before| before != now));
            before = Some(now);
        }
        // Where members wait for a CPU, the changes are the scheduler's.
        let is_free = self.whole.share(|limit| matches!(limit, Limit::NoCpu(_))) < LEAST_PRESSURE;
        if is_free && changes >= 2 && clear * 2 >= self.scene.spans.len() && changes * 3 <= clear {
            return Some(bytes / (changes as f64 / 2.0));
        }
        let sleeps: u64 = ends
            .readers
            .iter()
            .filter_map(|&actor| self.member_of[actor])
            .map(|member| self.evidence.members[member].sleeps)
            .sum();
        (sleeps > 0).then(|| bytes / sleeps as f64)
    }

    /// `cat FILE |` at the start, `cat` in between, and a second `pv`.
    fn removable(&self) -> Option<usize> {
        let members = self.scene.actors.iter().enumerate().filter_map(|(actor, one)| {
            Some((actor, self.member_of[actor]?, self.pipeline.members.get(one.member)?))
        });
        let mut seen_pv = false;
        for (actor, member, of) in members {
            let arguments = of.command_line.get(1..).unwrap_or_default();
            let files = arguments.iter().filter(|argument| !argument.starts_with('-')).count();
            let has_options = files != arguments.len();
            let reads = !self.scene.pipes_of(actor, false).is_empty();
            let writes = !self.scene.pipes_of(actor, true).is_empty();
            let is_cat = of.comm == "cat"
                && writes
                && !has_options
                && if reads { files == 0 } else { files == 1 };
            let again = of.comm == "pv" && std::mem::replace(&mut seen_pv, true);
            if is_cat || again {
                return Some(member);
            }
        }
        None
    }
}

/// What a wait outside is called in the tables.
fn reason(outside: Outside) -> Reason {
    match outside {
        Outside::ForeignData => Reason::WaitData,
        Outside::ForeignSpace => Reason::WaitSpace,
        Outside::For(why) => match why {
            Why::Disk | Why::Writeback => Reason::Disk,
            Why::Network => Reason::Network,
            Why::Timer => Reason::Sleep,
            Why::FileLock => Reason::FileLock,
            Why::Child => Reason::Child,
            Why::Poll => Reason::Poll,
            Why::Thread => Reason::Futex,
            Why::Memory | Why::Terminal | Why::Open | Why::Stopped | Why::Signal | Why::Other => {
                Reason::Other
            }
            Why::Unknown => Reason::Unknown,
        },
    }
}

impl Judged {
    /// The facts of a member.
    pub fn life(&self, member: usize) -> Option<&MemberFacts> {
        self.lives.iter().find(|life| life.member == member)
    }

    /// CPUs that all members used, on average.
    pub fn cpus_used(&self, elapsed_ns: f64) -> f64 {
        self.lives.iter().map(|life| life.used.cpu_ns).sum::<f64>() / elapsed_ns.max(1.0)
    }

    /// Share of a member's CPU time that goes to pipes.
    pub fn pipe_share(member: &MemberEvidence) -> f64 {
        let on_cpu = member.roles.iter().map(|(_, ns)| ns).sum::<u64>().max(1);
        member.pipe_work() as f64 / on_cpu as f64
    }
}

#[cfg(test)]
mod tests;
