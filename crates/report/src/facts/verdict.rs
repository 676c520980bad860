//! The verdict as data: who limits, how sure that is, what takes over, and what a remedy can buy.
//!
//! Bounds come from the time line: with one member costing nothing, each phase takes as long as the
//! next needs, who is busy or waits outside for so much of it. A larger pipe can at most let all
//! members work at the same time, so it buys nothing where one of them is busy all the time.

use pipeprof_profiler::states::Why;
use pipeprof_runner::pipeline::Pipeline;

use super::blame::{Blame, Limit, Use, blame, uses};
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
    /// One of its threads used a CPU all the time, and the others hardly any.
    OneThread,
    /// It used all the CPUs there are.
    AllCpus,
    /// Neither.
    Some,
    /// Only the sums of its threads are known.
    Summed,
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
    /// The thread that used most, where it has a name of its own.
    pub busiest_thread: Option<String>,
    /// What it started that is told as part of it, the longest-lived first.
    pub children: Vec<String>,
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
}

/// Fewer looks than this say nothing.
const FEWEST_LOOKS: u64 = 12;

/// Looks in a row are alike: so many count as one that is independent.
const ALIKE: f64 = 4.0;

/// From here on what a pipe itself costs is what limits, and where its ends alternate, that.
const MOSTLY: f64 = 0.5;

/// Both ends of a pipe wait for this share of the time where they alternate.
pub(crate) const LEAST_ALTERNATION: f64 = 0.1;

/// A gain below this is none: looks do not tell it from chance.
pub const LEAST_GAIN: f64 = 1.05;

/// Judges by states; `None` where nobody looked at a member.
pub fn judge(evidence: &Evidence, scene: &Scene, pipeline: &Pipeline) -> Option<Judged> {
    if scene.actors.is_empty() || scene.spans.is_empty() {
        return None;
    }
    Some(Judge::of(evidence, scene, pipeline).judged())
}

struct Judge<'a> {
    evidence: &'a Evidence,
    scene: &'a Scene,
    pipeline: &'a Pipeline,
    phases: Vec<Phase>,
    whole: Blame,
    uses: Vec<Use>,
    /// By actor, its place in the evidence.
    member_of: Vec<Option<usize>>,
    /// By pipe of the pipeline, its place in the evidence.
    pipe_of: Vec<Option<usize>>,
}

impl<'a> Judge<'a> {
    fn of(evidence: &'a Evidence, scene: &'a Scene, pipeline: &'a Pipeline) -> Self {
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
        Judge {
            phases: phases(scene, &blamed),
            whole: blamed.sum(all.clone()),
            uses: uses(scene, all),
            member_of: member_of.collect(),
            pipe_of: pipe_of.collect(),
            evidence,
            scene,
            pipeline,
        }
    }

    fn judged(&self) -> Judged {
        let limits = self.parties(&self.whole);
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

    /// Shares of the limit by member, by pipe, with what the members do on a CPU only because it is
    /// there, and of the CPUs that members wait for.
    fn parties(&self, blame: &Blame) -> Vec<(Party, f64)> {
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
                (Limit::Busy(_), Some(member)) => {
                    let in_pipe = self.pipe_work(member);
                    let of_pipe = in_pipe.map_or(0.0, |(_, part)| share * part);
                    if let Some((pipe, _)) = in_pipe {
                        add(Party::Pipe(pipe), of_pipe);
                    }
                    add(Party::Member(member), share - of_pipe);
                }
                (Limit::Outside(..), Some(member)) => add(Party::Member(member), share),
                (Limit::NoCpu(_), _) => add(Party::Cpus, share),
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
        if top == Party::Cpus {
            judged.finding = Finding::Starved;
            let mut waiting: Vec<(ActorId, f64)> = (0..self.scene.actors.len())
                .map(|actor| (actor, self.whole.share(|limit| limit == Limit::NoCpu(actor))))
                .filter(|(_, share)| *share >= 0.05)
                .collect();
            waiting.sort_by(|a, b| b.1.total_cmp(&a.1));
            judged.members =
                waiting.into_iter().filter_map(|(actor, _)| self.member_of[actor]).collect();
            return;
        }
        if let Some(pipe) = self.alternating(judged) {
            judged.finding = Finding::PipeBound(PipeCause::TooSmall);
            judged.pipe = Some(pipe);
            judged.members = self.evidence.ends(pipe);
            return;
        }
        match top {
            Party::Pipe(pipe) => {
                judged.finding = Finding::PipeBound(self.cause(pipe, elapsed));
                judged.pipe = Some(pipe);
                judged.members = self.evidence.ends(pipe);
            }
            Party::Member(member) => self.find_member(judged, member),
            Party::Cpus | Party::Unknown => {}
        }
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
        let busy = self.whole.share(|limit| of_member(limit) && matches!(limit, Limit::Busy(_)));
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
                let parallel = if used.cpu_ns >= 0.9 * cpus * alive && cpus > 1.0 {
                    Parallel::AllCpus
                } else if one.threads > 1
                    && one.busiest_thread.0 as f64 >= 0.8 * alive
                    && used.cpu_ns <= 1.3 * one.busiest_thread.0 as f64
                {
                    Parallel::OneThread
                } else {
                    Parallel::Some
                };
                Some(MemberFacts {
                    member,
                    outside: self.outside_of(actor),
                    cpus: while_busy,
                    parallel,
                    busiest_thread: one.busiest_thread.1.clone(),
                    children: one.children.iter().map(|(name, _)| name.clone()).collect(),
                    used,
                })
            })
            .collect()
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
        let parties = self.parties(&phase.blame);
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
        let mut whole = 0.0;
        let mut longest = vec![0.0; self.scene.actors.len()];
        for phase in &self.phases {
            let uses = uses(self.scene, phase.spans.clone());
            let others = (0..uses.len()).filter(|actor| !without.contains(actor));
            let cpu: f64 = others.clone().map(|actor| uses[actor].cpu_ns).sum();
            let needs = others.map(|actor| (actor, uses[actor].needs_ns()));
            let Some((actor, ns)) = needs.max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            longest[actor] += ns;
            whole += ns.max(cpu / self.evidence.cpus.max(1) as f64);
        }
        let next = (0..longest.len()).max_by(|&a, &b| longest[a].total_cmp(&longest[b]));
        (whole, next.filter(|&actor| longest[actor] > 0.0))
    }

    fn next(&self, judged: &Judged) -> Option<Next> {
        let blamed: Vec<ActorId> = (0..self.scene.actors.len())
            .filter(|&actor| self.member_of[actor].is_some_and(|m| judged.members.contains(&m)))
            .collect();
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
        if changes >= 2 && clear * 2 >= self.scene.spans.len() && changes * 3 <= clear {
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
            Why::Disk => Reason::Disk,
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
