//! The verdict as data: what limits, how sure that is, the next limit, and what a remedy can gain.
//!
//! [`judge`] makes it from the states over time. `verdict/judge.rs` adds up the limits,
//! `verdict/finding.rs` decides the kind of limit, `verdict/bounds.rs` bounds the gain of a remedy,
//! `verdict/confidence.rs` says how sure it is, `verdict/lives.rs` how each member spent its time.

use pipeprof_runner::pipeline::Pipeline;

use super::blame::Use;
use super::states::{Outside, StateHistory};
use crate::verdict::evidence::Evidence;
use crate::verdict::{Confidence, Finding};

mod bounds;
mod confidence;
mod finding;
mod judge;
mod lives;
mod places;
mod removable;

pub(crate) use bounds::LEAST_ALTERNATION;
pub(super) use judge::Judge;
pub use places::Places;
pub use removable::{Redundant, Removable};

/// Who or what limits, by place in the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limiter {
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
    /// Share of the time for which the limit is unknown.
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
    NextIsNear(Limiter),
    /// For this share of the time the limit is unknown.
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
    /// Nothing but the wall clocks tells what two hosts did at the same time.
    Clocks,
}

/// What takes over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Next {
    /// Who.
    pub member: usize,
    /// Share of the time that it needs even if it never waits for another.
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
    /// With which the share of the time that it saves is known, in 19 of 20 cases.
    pub error: f64,
    /// Bytes that go through between two changes of which end waits.
    pub burst_bytes: Option<f64>,
    /// How long it takes to drain that much.
    pub drain_seconds: Option<f64>,
}

impl LargerPipe {
    /// What it saves is more than the error of what was seen.
    pub fn is_shown(&self) -> bool {
        1.0 - 1.0 / self.bound - self.error >= 1.0 - 1.0 / LEAST_GAIN
    }
}

/// A stretch of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseFacts {
    /// Since the start of the looks.
    pub from_ns: u64,
    /// Likewise.
    pub until_ns: u64,
    /// Who limited it most.
    pub limiter: Limiter,
    /// For which share of it.
    pub share: f64,
    /// What that one waits for while it limits, where it does so most of the time.
    pub outside: Option<Outside>,
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
    /// Its children that count as part of it, and the share of its life that these lived, the
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
    pub limits: Vec<(Limiter, f64)>,
    /// In the order of the pipeline.
    pub lives: Vec<MemberFacts>,
    /// Who takes over.
    pub next: Option<Next>,
    /// What a larger pipe buys.
    pub larger_pipe: LargerPipe,
    /// In the order of time.
    pub phases: Vec<PhaseFacts>,
    /// A member that only passes on what the next could read by itself.
    pub removable: Option<Removable>,
    /// CPUs that the members may use were idle, so that they did not wait for want of one.
    pub cpus_are_idle: bool,
    /// Share of the time in which some task of the machine waited for memory, where that is much.
    pub memory_pressure: Option<f64>,
}

/// A gain below this is none: looks do not tell it from chance.
pub const LEAST_GAIN: f64 = 1.05;

/// Judges by states; `None` if no member was observed.
pub fn judge(evidence: &Evidence, history: &StateHistory, pipeline: &Pipeline) -> Option<Judged> {
    judge_at(evidence, history, pipeline, Places::of(evidence, history, pipeline))
}

/// Judges by states of which it is known where they stand in the evidence.
pub(crate) fn judge_at(
    evidence: &Evidence,
    history: &StateHistory,
    pipeline: &Pipeline,
    places: Places,
) -> Option<Judged> {
    if history.actors.is_empty() || history.spans.is_empty() {
        return None;
    }
    Some(Judge::of(evidence, history, pipeline, places).judged())
}

impl Judged {
    /// Nothing was judged yet.
    pub(super) fn open(lives: Vec<MemberFacts>, larger_pipe: LargerPipe) -> Self {
        Judged {
            finding: Finding::Unclear,
            members: Vec::new(),
            pipe: None,
            confidence: None,
            doubt: None,
            unclear: None,
            share: 0.0,
            outside: None,
            limits: Vec::new(),
            lives,
            next: None,
            larger_pipe,
            phases: Vec::new(),
            removable: None,
            cpus_are_idle: false,
            memory_pressure: None,
        }
    }

    /// The facts of a member.
    pub fn life(&self, member: usize) -> Option<&MemberFacts> {
        self.lives.iter().find(|life| life.member == member)
    }

    /// CPUs that all members used, on average.
    pub fn cpus_used(&self, elapsed_ns: f64) -> f64 {
        self.lives.iter().map(|life| life.used.cpu_ns).sum::<f64>() / elapsed_ns.max(1.0)
    }
}

#[cfg(test)]
mod tests;
