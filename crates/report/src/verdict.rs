//! The verdict, as every output uses it: which member, pipe or resource limits a pipeline, the
//! evidence, and what to try.
//!
//! [`crate::facts`] computes it from states over time, or from averages in recordings without
//! states.

pub(crate) mod evidence;

use pipeprof_runner::pipeline::Link;
use serde::Serialize;

pub use evidence::{Between, Evidence, MemberEvidence, PipeEvidence, WakeLatency};

use crate::facts::states::Outside;
use crate::roles::Reason;
use evidence::Work;

/// What holds the pipeline back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "cause", rename_all = "snake_case")]
pub enum Finding {
    /// One member needs all the CPU time that it can use.
    CpuBound,
    /// One member waits for something that is no pipe of the pipeline.
    Outside(Reason),
    /// The pipe itself.
    PipeBound(PipeCause),
    /// The network between two hosts.
    Network,
    /// Members that could run waited for a CPU.
    Starved,
    /// Several members are busy without waiting for each other: none limits alone.
    Balanced,
    /// Nothing went through the pipes.
    Idle,
    /// The evidence doesn't say.
    Unclear,
}

/// What it is about a pipe that takes the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PipeCause {
    /// Copying into and out of the pipe's pages.
    Copies,
    /// Getting and giving back the pages.
    PageAllocation,
    /// Pinning the writer's pages.
    PagePinning,
    /// The pipe's lock.
    Lock,
    /// Waking the other end, and waiting until it runs.
    WakeUps,
    /// It is smaller than one batch of its ends, so that they alternate.
    TooSmall,
    /// Calls so small that the calls take the time, not the bytes.
    TinyCalls,
}

/// How well the neighbours of a bottleneck confirm it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// All other members wait as expected.
    High,
    /// Most do.
    Medium,
    /// The runner-up is near, or the neighbours show something else.
    Low,
}

/// The first paragraph of every report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What it is.
    #[serde(flatten)]
    pub finding: Finding,
    /// Pids of the members that hold the others back.
    pub members: Vec<i32>,
    /// Inode of the pipe, where the pipe does.
    pub pipe: Option<u64>,
    /// How sure the verdict is; `None` where nothing was found.
    pub confidence: Option<Confidence>,
    /// The reason for less than high confidence; `None` with high confidence.
    pub doubt: Option<String>,
    /// What limited the pipeline, the largest share of the time first; empty in recordings without
    /// states.
    pub limits: Vec<LimitShare>,
    /// Phases, cut where the limit changes for good; one if it never does, none in recordings
    /// without states.
    pub phases: Vec<PhaseSummary>,
    /// One sentence.
    pub headline: String,
    /// The evidence for it.
    pub evidence: Vec<Fact>,
    /// What to do about it, and what that gains.
    pub remedies: Vec<Remedy>,
}

/// The evidence for a verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Fact {
    /// What a member did most of the time.
    Member {
        /// Thread-group id.
        pid: i32,
        /// Its name, safe to show.
        name: String,
        /// What it did.
        state: State,
        /// What for, where it waited for something outside of the pipeline.
        waits_for: Option<Outside>,
        /// Share of its life.
        percent: f64,
        /// The level of the pipe that it waited at.
        pipe: Option<PipeLevel>,
    },
    /// Tasks of the machine waited for memory.
    MemoryPressure {
        /// Share of the time in which some task did.
        percent: f64,
    },
    /// What the pipes cost.
    PipeCode {
        /// Share of all CPU time.
        percent: f64,
        /// By kind of work, the largest first.
        work: Vec<WorkShare>,
    },
}

/// What a member did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It ran, or could have.
    Busy,
    /// It waited for data of its neighbours.
    WaitsForData,
    /// It waited for space.
    WaitsForSpace,
    /// It waited for something outside of the pipeline.
    WaitsOutside,
    /// It waited for a child that is a member.
    WaitsForChildren,
}

/// How often a pipe was full, or empty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PipeLevel {
    /// What it is.
    #[serde(skip)]
    pub link: Link,
    /// Which.
    pub inode: u64,
    /// Full; else empty.
    pub is_full: bool,
    /// Share of the looks.
    pub percent: f64,
}

/// A kind of work in pipes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WorkShare {
    /// What it is called.
    pub what: &'static str,
    /// Share of all CPU time.
    pub percent: f64,
}

/// The highest bound that is given as a figure. Above it, what is left of the time is what members
/// need that mostly wait while another limits. Sleeping, waking up and refilling caches is half of
/// what such members use, and changes with the limit. Of gains above four, experiments found 0.3 to
/// 11 times what the time line says (docs/measurement.md).
pub(crate) const HIGHEST_BOUND: f64 = 4.0;

/// Something to try.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remedy {
    /// What to do.
    pub what: String,
    /// What that gains at most.
    pub buys: String,
    /// The bound: at most this many times as fast. `None` where the evidence gives no bound, or a
    /// bound of several times.
    pub at_most: Option<f64>,
    /// `pipeprof tune` can try it on the running pipeline.
    #[serde(skip)]
    pub is_for_tune: bool,
}

impl Remedy {
    pub(crate) fn new(
        what: impl Into<String>,
        buys: impl Into<String>,
        at_most: Option<f64>,
    ) -> Self {
        let at_most = at_most.filter(|bound| *bound <= HIGHEST_BOUND);
        Remedy { what: what.into(), buys: buys.into(), at_most, is_for_tune: false }
    }

    /// Marks it as one that `pipeprof tune` can try.
    pub(crate) fn for_tune(self) -> Self {
        Remedy { is_for_tune: true, ..self }
    }
}

/// Who or what limited the pipeline for a share of the time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitShare {
    /// `member`, `pipe`, `network`, `cpus` or `unknown`.
    pub kind: &'static str,
    /// Of the member.
    pub pid: Option<i32>,
    /// Likewise; of a socket, `unix:[88121]`.
    pub name: Option<String>,
    /// The host that it runs on, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of the pipe.
    pub inode: Option<u64>,
    /// Of all of the time; the shares of a run add up to 100.
    pub percent: f64,
}

/// A stretch of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseSummary {
    /// Since the start of the run.
    pub from_ns: u64,
    /// Likewise.
    pub until_ns: u64,
    /// Who limited it most.
    pub limit: LimitShare,
    /// What that one waits for meanwhile, as a predicate, where that is outside of the pipeline.
    pub waits: Option<&'static str>,
}

impl PhaseSummary {
    /// `: it sleeps on a timer`, behind what limits.
    pub(crate) fn and_waits(&self) -> String {
        self.waits.map_or_else(String::new, |waits| format!(": it {waits}"))
    }
}

/// A run shorter than this shows little besides its start and end.
pub(crate) const SHORTEST_NS: u64 = 100_000_000;

/// Bytes per call below which the call costs far more than its copy.
pub(crate) const TINY_CALL: f64 = 1024.0;

impl PipeCause {
    pub(crate) fn of(work: Work) -> Option<PipeCause> {
        Some(match work {
            Work::Copy => PipeCause::Copies,
            Work::PageAllocation => PipeCause::PageAllocation,
            Work::PagePinning => PipeCause::PagePinning,
            Work::Lock => PipeCause::Lock,
            Work::WakeUp => PipeCause::WakeUps,
            Work::Other => return None,
        })
    }
}
