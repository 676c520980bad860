//! The verdict: which member, pipe or resource holds a pipeline back.
//!
//! Whoever doesn't wait for a neighbour is what the others wait for. So the member that spends the
//! least of its life waiting for space and for data is the bottleneck, unless
//!
//! - nothing was recorded that could show it: then that is said, and no name;
//! - several members waited for a CPU as much as they had one: then the CPUs are;
//! - what it does is mostly the pipe's own work, or both ends wait in turn: then the pipe is.
//!
//! What a pipeline does when one member holds it back (full pipes before it, empty ones after) is
//! the check on that: where the neighbours don't show it, the confidence is low.

pub(crate) mod evidence;
pub(crate) mod remedy;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use serde::Serialize;

pub use evidence::{Evidence, MemberEvidence, PipeEvidence, WakeLatency};
pub use remedy::Remedy;

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
    /// Members that could run waited for a CPU.
    Starved,
    /// Several members do without waiting for each other: none alone holds the others back.
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
    /// It holds less than its ends work off at a time, so that they take turns.
    TooSmall,
    /// So few bytes a call that the calls take the time.
    TinyCalls,
}

/// How well the neighbours of a bottleneck bear it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Everyone else waits as one would expect.
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
    /// How sure that is; `None` where nothing was found.
    pub confidence: Option<Confidence>,
    /// What speaks against it; `None` where nothing does.
    pub doubt: Option<String>,
    /// Who and what limited the pipeline, the largest share of the time first; empty where nobody
    /// looked.
    pub limits: Vec<LimitShare>,
    /// Where who limits changes for good; one where it does not, none where nobody looked.
    pub phases: Vec<PhaseSummary>,
    /// One sentence.
    pub headline: String,
    /// What bears it out, a line each.
    pub evidence: Vec<String>,
    /// What to do about it, and what that would and would not buy.
    pub remedies: Vec<Remedy>,
}

/// Who or what limited the pipeline for a share of the time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitShare {
    /// `member`, `pipe`, `cpus` or `unknown`.
    pub kind: &'static str,
    /// Of the member.
    pub pid: Option<i32>,
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
}

/// A run shorter than this shows little but its start and end.
pub(crate) const SHORTEST_NS: u64 = 100_000_000;

/// Records lost beyond this share may be those that mattered.
const MOST_LOST: f64 = 0.05;

/// Whoever is below this does not hold anybody back.
const LEAST_DRIVE: f64 = 0.3;

/// Members this near to each other hold the pipeline back together.
const NEAR: f64 = 0.08;

/// Whoever is above this is held back by what it does itself.
const MOSTLY: f64 = 0.5;

/// Where nobody is above this, members take turns.
const TURNS: f64 = 0.65;

/// Bytes a call below which the call costs more than its copy, by far.
pub(crate) const TINY_CALL: f64 = 1024.0;

/// Judges.
pub fn judge(evidence: &Evidence) -> Verdict {
    let finding = find(evidence);
    let remedies = remedy::remedies(evidence, &finding);
    words::verdict(evidence, finding, remedies)
}

/// A finding with what it is about, by index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    pub(crate) members: Vec<usize>,
    pub(crate) pipe: Option<usize>,
    pub(crate) confidence: Option<Confidence>,
    /// Why it is unclear.
    pub(crate) why: Option<String>,
}

impl Found {
    fn unclear(why: String) -> Found {
        let finding = Finding::Unclear;
        Found { finding, members: Vec::new(), pipe: None, confidence: None, why: Some(why) }
    }
}

fn find(evidence: &Evidence) -> Found {
    if let Some(why) = too_thin(evidence) {
        return Found::unclear(why);
    }
    let candidates = evidence.candidates();
    let Some(&first) = candidates.first() else {
        return Found::unclear("no member lived long enough to be judged".to_owned());
    };
    let drive = |member: usize| evidence.drive(member);
    let second = candidates.get(1).map_or(0.0, |&member| drive(member));

    let starved = evidence.starved();
    if !starved.is_empty() {
        let confidence = Some(Confidence::High);
        return Found {
            finding: Finding::Starved,
            members: starved,
            pipe: None,
            confidence,
            why: None,
        };
    }
    let pipe_bound = |(pipe, cause), confidence| Found {
        finding: Finding::PipeBound(cause),
        members: evidence.ends(pipe),
        pipe: Some(pipe),
        confidence: Some(confidence),
        why: None,
    };
    if drive(first) >= MOSTLY
        && let Some(found) = evidence.pipe_work_of(first)
    {
        let is_sure = drive(first) >= TURNS;
        return pipe_bound(found, if is_sure { Confidence::High } else { Confidence::Medium });
    }
    if drive(first) <= TURNS
        && let Some(found) = evidence.taking_turns()
    {
        return pipe_bound(found, Confidence::Medium);
    }
    if drive(first) < LEAST_DRIVE {
        return Found::unclear(format!(
            "every member waited for a neighbour most of the time ({}: {:.0} %)",
            evidence.members[first].label,
            100.0 * (1.0 - drive(first)),
        ));
    }
    let near: Vec<usize> =
        candidates.iter().copied().filter(|&member| drive(first) - drive(member) < NEAR).collect();
    let one = evidence.members[first].kind(evidence.elapsed_ns);
    if near.len() > 1 {
        let confidence = Some(Confidence::Medium);
        let finding = Finding::Balanced;
        return Found { finding, members: near, pipe: None, confidence, why: None };
    }
    let finding = match one {
        None => Finding::CpuBound,
        Some(Reason::Unknown) => {
            return Found::unclear(format!(
                "{} sleeps, cause unknown: no call chain was sampled",
                evidence.members[first].label
            ));
        }
        Some(reason) => Finding::Outside(reason),
    };
    let gap = drive(first) - second;
    let consistent = evidence.neighbours_agree(first);
    let confidence = match (drive(first) >= 0.7, consistent, gap >= 0.2) {
        (true, true, true) => Confidence::High,
        (_, true, true) | (true, _, true) | (true, true, _) => Confidence::Medium,
        _ => Confidence::Low,
    };
    Found { finding, members: vec![first], pipe: None, confidence: Some(confidence), why: None }
}

/// Why nothing can be said.
fn too_thin(evidence: &Evidence) -> Option<String> {
    if !evidence.members.iter().any(|member| member.lifetime_ns > 0) {
        return Some("context switches were not recorded, so waiting is unknown".to_owned());
    }
    if evidence.elapsed_ns < SHORTEST_NS {
        return Some(format!("only {} ms were recorded", evidence.elapsed_ns / 1_000_000));
    }
    let taken = evidence.samples + evidence.foreign_samples;
    let lost = evidence.lost as f64 / (evidence.lost + taken).max(1) as f64;
    if lost > MOST_LOST {
        return Some(format!("{:.0} % of the records were lost", 100.0 * lost));
    }
    if !evidence.kernel_visible {
        return Some("kernel code was not measured, and members wait there".to_owned());
    }
    None
}

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
