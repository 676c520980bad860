//! The summary: what each member spent its CPU time on, per role and function, and the quality of
//! the data. The terminal's text and `--json` are two renderings of it.

mod by_pid;
mod json;
mod judging;
mod states;
mod tables;

use pipeprof_profiler::profile::{Mode, Quality};
use pipeprof_profiler::states::Connection;
use pipeprof_runner::cgroup::Container;
use pipeprof_runner::pipeline::{End, PipeKey};
use serde::Serialize;

pub(crate) use self::by_pid::ByPid;
use self::judging::{evidence, judged, not_proven};
pub use self::states::StateShares;
pub(crate) use self::tables::cpu_time_ns;
use self::tables::{coverage_percent, functions, role_table, skid, top_functions};
use crate::control_group::ControlGroup;
use crate::facts::lanes::{Lanes, lanes};
use crate::facts::states::StateHistory;
use crate::flamegraph::{View, members};
use crate::highlight::{HighlightShare, Highlights};
use crate::ledger::{self, BlockedShare, Life, PipeSummary};
use crate::part::Part;
use crate::roles::Role;
use crate::run::Run;
use crate::verdict::{Evidence, PhaseSummary, Verdict};
use crate::words::verdict as words;

/// Raised whenever a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 4;

/// Without pipes, this many members are listed individually, however little they did.
const MOST_TOLD: usize = 8;

/// Roles, and reasons to sleep, below this share are left to `--json`.
pub(crate) const LEAST_PERCENT: f64 = 0.05;

/// A profile in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The stage, or the command line.
    pub subject: String,
    /// Release of the kernel that was profiled.
    pub kernel: Option<String>,
    /// The phase that all of this is of; `None` for the whole run.
    pub phase: Option<Part>,
    /// Throughput of the profiled run.
    pub bytes_per_second: Option<f64>,
    /// Bytes through the pipe while it was profiled.
    pub bytes_piped: Option<u64>,
    /// What every `ns_per_gib` is per, in words; `None` where that is not known.
    pub per_gib_of: Option<String>,
    /// What holds the pipeline back; `None` where blocked time was not asked for.
    pub verdict: Option<Verdict>,
    /// How long it was watched.
    pub elapsed_ns: Option<u64>,
    /// In pipeline order, those without a pipe last.
    pub members: Vec<MemberSummary>,
    /// In pipeline order.
    pub pipes: Vec<PipeSummary>,
    /// What limits trust in the numbers.
    pub quality: QualitySummary,
    /// What happened when, where that was [asked for](Self::add_timeline).
    #[serde(skip)]
    pub timeline: Option<Lanes>,
    /// Pids of those that the text has tables of; empty for all.
    #[serde(skip)]
    pub only: Vec<i32>,
}

/// One member in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberSummary {
    /// Thread-group id.
    pub pid: i32,
    /// Chosen by the process: untrusted text.
    pub comm: String,
    /// How many processes of that name it stands for.
    pub processes: usize,
    /// The container that it ran in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// What its control group limits; `None` where that is nothing, or is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_group: Option<ControlGroup>,
    /// Which end, where the pipeline is a built-in pair.
    pub end: Option<End>,
    /// Samples taken of it.
    pub samples: u64,
    /// Sum of their periods, in the unit of [`Quality::unit`].
    pub weight: u64,
    /// CPU time: the scheduler's account where there is one, else that of the samples where they
    /// measure all of it.
    pub cpu_time_ns: Option<u64>,
    /// Share of that CPU time that the samples cover by their periods, in percent: far from 100
    /// where the clock that samples misses, or favours, a member that switches often. `None` if the
    /// samples don't measure time or there is no other account of it.
    pub coverage_percent: Option<f64>,
    /// CPUs that it kept busy on average while it was profiled: more than 1 of several threads.
    /// `None` where CPU time or the time profiled is not known.
    pub cpus: Option<f64>,
    /// Its life; `None` where context switches were not recorded.
    pub life: Option<Life>,
    /// What it did, by all of its threads; `None` in recordings without states.
    pub states: Option<StateShares>,
    /// Bytes that it moved; `None` where they are not known.
    pub bytes_moved: Option<u64>,
    /// Which bytes those are, or why they are not known.
    pub bytes_moved_are: String,
    /// The pipes that it reads; written as inodes.
    #[serde(serialize_with = "inodes")]
    pub reads_from: Vec<PipeKey>,
    /// The pipes that it writes; written as inodes.
    #[serde(serialize_with = "inodes")]
    pub writes_to: Vec<PipeKey>,
    /// TCP connections that it had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// It holds the pipe ends of others and never uses them, as `timeout` does.
    pub only_holds: bool,
    /// What it slept for, longest first.
    pub blocked: Vec<BlockedShare>,
    /// Heaviest first.
    pub roles: Vec<RoleShare>,
    /// The heaviest by self weight.
    pub top_functions: Vec<FunctionShare>,
    /// The highlighted functions.
    pub highlights: Vec<HighlightShare>,
}

fn inodes<S: serde::Serializer>(pipes: &[PipeKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pipes.iter().map(|pipe| pipe.inode))
}

/// What one role took of a member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleShare {
    /// The role.
    pub role: Role,
    /// Samples in it.
    pub samples: u64,
    /// Their weight.
    pub weight: u64,
    /// Share of the member's weight, in percent.
    pub percent: f64,
    /// CPU nanoseconds for a GiB of the pipeline's input. `None` where bytes or CPU time are unknown, and where
    /// shares of the samples are not shares of CPU time.
    pub ns_per_gib: Option<f64>,
    /// Samples that a timer could only take once interrupts came on again.
    pub deferred_samples: u64,
    /// Samples of which no stack, and no code, shows what was called (see [`Basis::Inferred`](crate::roles::Basis::Inferred)).
    pub inferred_samples: u64,
}

/// What one function took of a member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionShare {
    /// As the kernel, or the program's symbols, spell it.
    pub name: String,
    /// The name that people know it by, where that is another.
    pub known_as: Option<String>,
    /// Kernel or user.
    pub mode: Mode,
    /// Weight of the samples taken in the function itself.
    pub self_weight: u64,
    /// Weight of the stacks that hold it.
    pub total_weight: u64,
}

/// [`Quality`], and what follows from it for roles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualitySummary {
    /// As recorded.
    #[serde(flatten)]
    pub recorded: Quality,
    /// Where a timer samples: the functions that took those of code that ran with
    /// interrupts off. `None` where samples can be taken anywhere.
    pub skid: Option<Vec<Absorber>>,
    /// Samples in a role only by inference.
    pub inferred_samples: u64,
}

/// A function that turns interrupts on, and is sampled in place of what ran before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absorber {
    /// As the kernel spells it.
    pub function: String,
    /// Samples taken there, a member each, in the order of [`Summary::members`].
    pub samples: Vec<u64>,
}

impl MemberSummary {
    /// Its life, of a member with several threads that of the member as one: added up, the lives of
    /// a pool of idle threads would show it as one that sleeps.
    pub(crate) fn life_as_one(&self) -> Option<Life> {
        let as_one = self.states.filter(|states| states.is_several);
        as_one.map(|states| Life::of(states.split())).or(self.life)
    }

    /// It has a pipe, and uses it.
    pub(crate) fn uses_pipes(&self) -> bool {
        let has = !self.reads_from.is_empty() || !self.writes_to.is_empty();
        has && !self.only_holds
    }
}

impl Summary {
    /// Adds a profile up.
    pub fn of(run: &Run, highlights: &Highlights, view: View) -> Self {
        let Run { profile, roles, .. } = run;
        let shown = members(run, view);
        let functions = functions(profile);
        let payload = run.payload();
        let gib = payload.as_ref().ok().map(|payload| payload.gib());
        let mut members: Vec<MemberSummary> = shown
            .iter()
            .map(|&(index, member)| {
                let moved = run.moved(index);
                MemberSummary {
                    pid: member.pid,
                    comm: member.comm.clone(),
                    processes: member.processes,
                    container: run.container(index).cloned(),
                    control_group: run.seen(index).and_then(ControlGroup::of),
                    end: member.end,
                    samples: member.samples(),
                    weight: member.weight(),
                    cpu_time_ns: cpu_time_ns(profile, member),
                    coverage_percent: coverage_percent(&profile.quality, member),
                    cpus: cpu_time_ns(profile, member)
                        .filter(|_| run.elapsed_ns > 0)
                        .map(|ns| ns as f64 / run.elapsed_ns as f64),
                    life: ledger::life(member),
                    states: None,
                    only_holds: false,
                    blocked: ledger::blocked_table(run, member, gib),
                    roles: role_table(run, member, gib),
                    bytes_moved: moved.bytes,
                    bytes_moved_are: moved.what,
                    reads_from: run.keys_at(index, End::Reader),
                    writes_to: run.keys_at(index, End::Writer),
                    connections: run.connections(index).to_vec(),
                    top_functions: top_functions(profile, &functions, highlights, &member.on_cpu),
                    highlights: highlights.highlight_shares(profile, roles, index),
                }
            })
            .collect();
        let pipes = run.pipe_table();
        let has_lives = members.iter().any(|member| member.life.is_some());
        let evidence = (has_lives || run.states.is_some()).then(|| evidence(&members, &pipes, run));
        if let Some(evidence) = evidence.as_ref().filter(|_| has_lives) {
            for (member, only_holds) in members.iter_mut().zip(evidence.only_hold()) {
                member.only_holds = only_holds;
            }
        }
        let judged = evidence.as_ref().map(|evidence| judged(evidence, run));
        for life in judged.iter().flat_map(|judged| &judged.lives) {
            if let Some(member) = members.get_mut(life.member) {
                member.states = Some(StateShares::of(life));
            }
        }
        let judged = evidence.as_ref().zip(judged.as_ref());
        let mut verdict = judged.map(|(evidence, judged)| words::verdict(evidence, judged));
        if let Some((verdict, target)) = verdict.as_mut().zip(run.tune.as_ref()) {
            not_proven(verdict, target);
        }
        let inferred = |member: &MemberSummary| -> u64 {
            member.roles.iter().map(|role| role.inferred_samples).sum()
        };
        Summary {
            schema_version: SCHEMA_VERSION,
            per_gib_of: payload.ok().map(|payload| payload.words(&run.pipeline)),
            subject: run.subject.clone(),
            kernel: (!run.kernel.is_empty()).then(|| run.kernel.clone()),
            phase: run.part,
            bytes_per_second: run.bytes_per_second(),
            bytes_piped: run.bytes_piped(),
            verdict,
            elapsed_ns: Some(run.elapsed_ns).filter(|ns| *ns > 0),
            pipes,
            quality: QualitySummary {
                recorded: profile.quality.clone(),
                skid: profile.quality.interrupts_wait.then(|| skid(run, &shown)),
                inferred_samples: members.iter().map(inferred).sum(),
            },
            members,
            timeline: None,
            only: Vec::new(),
        }
    }

    /// What its verdict is drawn from.
    pub(crate) fn evidence(&self, run: &Run) -> Evidence {
        evidence(&self.members, &self.pipes, run)
    }

    /// Adds the timeline, in this many columns; nothing for recordings without states.
    pub fn add_timeline(&mut self, run: &Run, columns: usize) {
        let Some(states) = &run.states else { return };
        let evidence = self.evidence(run);
        let history = StateHistory {
            is_phase: run.part.is_some(),
            ..StateHistory::of(&run.pipeline, states)
        };
        let start_ns = run.start_ns;
        // As the verdict has it.
        let limits = self.verdict.iter().flat_map(|verdict| &verdict.limits);
        let apart = limits.into_iter().any(|limit| limit.kind == "cpus");
        self.timeline =
            lanes(&evidence, &history, &run.pipeline, &run.flows, start_ns, columns, apart);
    }

    /// The members that are listed individually, and the others: shells that wait, and their
    /// short-lived children. If members were asked for, only those.
    pub(crate) fn main_members(&self) -> (Vec<&MemberSummary>, Vec<&MemberSummary>) {
        let is_asked_for = |m: &&MemberSummary| self.only.is_empty() || self.only.contains(&m.pid);
        let all: u64 = self.members.iter().filter_map(|member| member.cpu_time_ns).sum();
        let weights: u64 = self.members.iter().map(|member| member.weight).sum();
        // A file of perf has all that ran, and no pipe tells what belongs together.
        let are_few = self.pipes.is_empty() && self.members.len() <= MOST_TOLD;
        let is_main = |member: &&MemberSummary| {
            let is_busy = match member.cpu_time_ns {
                Some(ns) => ns.saturating_mul(50) >= all,
                None => member.weight.saturating_mul(50) >= weights,
            };
            !self.only.is_empty() || are_few || member.uses_pipes() || is_busy
        };
        self.members.iter().filter(is_asked_for).partition(is_main)
    }

    /// Where who limits changes for good; empty where nobody looked.
    pub(crate) fn phases(&self) -> &[PhaseSummary] {
        self.verdict.as_ref().map_or(&[], |verdict| &verdict.phases)
    }

    /// Pids of the members that hold the others back.
    pub(crate) fn limiting(&self) -> &[i32] {
        self.verdict.as_ref().map_or(&[], |verdict| &verdict.members)
    }

    /// Its members by pid.
    pub(crate) fn by_pid(&self) -> ByPid<'_> {
        ByPid::of(&self.members)
    }

    /// Some figure is per GiB.
    pub(crate) fn has_rates(&self) -> bool {
        let rates = |member: &MemberSummary| {
            let roles = member.roles.iter().map(|share| share.ns_per_gib);
            roles.chain(member.blocked.iter().map(|share| share.ns_per_gib)).any(|ns| ns.is_some())
        };
        self.members.iter().any(rates)
    }

    /// Leaves out all members but these, and the pipes of others. The verdict stays that of the
    /// whole pipeline.
    pub fn keep_members(&mut self, pids: &[i32]) {
        let shown: Vec<bool> = self.members.iter().map(|m| pids.contains(&m.pid)).collect();
        for absorber in self.quality.skid.iter_mut().flatten() {
            let mut shown = shown.iter();
            absorber.samples.retain(|_| shown.next() == Some(&true));
        }
        self.members.retain(|member| pids.contains(&member.pid));
        self.pipes.retain(|pipe| is_held(pipe, pids));
    }

    /// Has the text show these members alone, with their pipes; the others are still named where
    /// they are at the other end of one.
    pub fn show_members(&mut self, pids: &[i32]) {
        self.only = pids.to_vec();
        self.pipes.retain(|pipe| is_held(pipe, pids));
    }

    /// Leaves out what has less than this share of its member, in percent: roles, functions, and
    /// reasons to sleep.
    pub fn keep_shares(&mut self, percent: f64) {
        for member in &mut self.members {
            let least = percent / 100.0 * member.weight as f64;
            member.roles.retain(|role| role.percent >= percent);
            member.top_functions.retain(|function| function.self_weight as f64 >= least);
            member.blocked.retain(|share| share.percent >= percent);
        }
    }
}

fn is_held(pipe: &PipeSummary, pids: &[i32]) -> bool {
    pipe.writers.iter().chain(&pipe.readers).any(|pid| pids.contains(pid))
}
