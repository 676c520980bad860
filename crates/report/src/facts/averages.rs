//! The verdict for recordings without states: from how each member spent its life on average.
//!
//! A member that does not wait for a neighbour is the one that the others wait for. So the member
//! that spends the least of its life waiting for space and for data limits, unless
//!
//! - the recording has nothing that could show it: then the verdict says so and names no member;
//! - several members waited for a CPU as long as they had one: then the CPUs limit;
//! - its work is mostly pipe code, or both ends wait in turn: then the pipe limits.
//!
//! The expected picture of a limiting member (full pipes before it, empty ones after it) is the
//! check on that: if the neighbours don't show it, the confidence is lower.

use pipeprof_profiler::states::Why;
use rustc_hash::FxHashSet;

use super::blame::Use;
use super::states::Outside;
use super::verdict::{
    Doubt, Judged, LEAST_ALTERNATION, LargerPipe, Limiter, MemberFacts, Next, Parallel, Unclear,
};
use crate::roles::Reason;
use crate::verdict::evidence::{Evidence, LEAST_DRIVE, MemberEvidence};
use crate::verdict::{Confidence, Finding, SHORTEST_NS};

/// Records lost beyond this share may be those that mattered.
const MOST_LOST: f64 = 0.05;

/// Members this near to each other limit together.
const NEAR: f64 = 0.08;

/// A member above this is limited by its own work.
const MOSTLY: f64 = 0.5;

/// If no member is above this, members alternate.
const TURNS: f64 = 0.65;

/// Judges.
pub fn judge(evidence: &Evidence) -> Judged {
    let mut judged = Judged::open(lives(evidence), larger_pipe(evidence));
    match too_thin(evidence) {
        Some(why) => judged.unclear = Some(why),
        None => find(evidence, &mut judged),
    }
    judged.next = next(evidence, &judged.members);
    judged
}

fn too_thin(evidence: &Evidence) -> Option<Unclear> {
    if !evidence.members.iter().any(|member| member.lifetime_ns > 0) {
        return Some(Unclear::NoSwitches);
    }
    if evidence.elapsed_ns < SHORTEST_NS {
        return Some(Unclear::TooShort(evidence.elapsed_ns));
    }
    let taken = evidence.samples + evidence.foreign_samples;
    let lost = evidence.lost as f64 / (evidence.lost + taken).max(1) as f64;
    if lost > MOST_LOST {
        return Some(Unclear::Lost(lost));
    }
    (!evidence.kernel_visible).then_some(Unclear::NoKernel)
}

fn find(evidence: &Evidence, judged: &mut Judged) {
    let candidates = evidence.candidates();
    let drive = |member: usize| evidence.drive(member);
    let Some(&first) = candidates.first() else {
        judged.unclear = Some(Unclear::NoMember);
        return;
    };
    judged.share = drive(first);
    let starved = evidence.starved();
    if !starved.is_empty() {
        judged.finding = Finding::Starved;
        judged.share = evidence.share(evidence.members[first].runnable_ns);
        judged.members = starved;
        judged.confidence = Some(Confidence::High);
        return;
    }
    let is_sure = drive(first) >= TURNS;
    let by_work = evidence.pipe_work_of(first).filter(|_| drive(first) >= MOSTLY);
    let by_turns = || evidence.taking_turns().filter(|_| drive(first) <= TURNS);
    if let Some((pipe, cause)) = by_work.or_else(by_turns) {
        judged.finding = Finding::PipeBound(cause);
        judged.members = evidence.ends(pipe);
        judged.pipe = Some(pipe);
        (judged.confidence, judged.doubt) = match by_work.is_some() && is_sure {
            true => (Some(Confidence::High), None),
            false => (Some(Confidence::Medium), Some(Doubt::Averages)),
        };
        return;
    }
    if drive(first) < LEAST_DRIVE {
        judged.unclear = Some(Unclear::AllWait { member: first, share: 1.0 - drive(first) });
        return;
    }
    let is_near = |member: &usize| drive(first) - drive(*member) < NEAR;
    let near: Vec<usize> = candidates.iter().copied().filter(is_near).collect();
    if near.len() > 1 {
        judged.finding = Finding::Balanced;
        judged.members = near;
        (judged.confidence, judged.doubt) = (Some(Confidence::Medium), Some(Doubt::Averages));
        return;
    }
    judged.finding = match evidence.members[first].kind(evidence.elapsed_ns) {
        None => Finding::CpuBound,
        Some(Reason::Unknown) => {
            judged.unclear = Some(Unclear::NoCause(first));
            return;
        }
        Some(reason) => {
            judged.outside = Some(outside(reason));
            Finding::Outside(reason)
        }
    };
    judged.members = vec![first];
    (judged.confidence, judged.doubt) = sure(evidence, first, candidates.get(1).copied());
}

fn sure(
    evidence: &Evidence,
    first: usize,
    second: Option<usize>,
) -> (Option<Confidence>, Option<Doubt>) {
    let drive = evidence.drive(first);
    let is_clear = second.is_none_or(|second| drive - evidence.drive(second) >= 0.2);
    let is_consistent = evidence.neighbours_agree(first);
    let confidence = match [drive >= 0.7, is_consistent, is_clear].map(u8::from).iter().sum() {
        3 => Confidence::High,
        2 => Confidence::Medium,
        0u8.. => Confidence::Low,
    };
    let doubt = match (confidence, second) {
        (Confidence::High, _) => None,
        (_, Some(second)) if !is_clear => Some(Doubt::NextIsNear(Limiter::Member(second))),
        _ if !is_consistent => Some(Doubt::Neighbours),
        _ => Some(Doubt::Averages),
    };
    (Some(confidence), doubt)
}

/// Who takes over when what limits costs nothing.
fn next(evidence: &Evidence, limiting: &[usize]) -> Option<Next> {
    let limiting: FxHashSet<usize> = limiting.iter().copied().collect();
    let member = evidence.candidates().into_iter().find(|at| !limiting.contains(at))?;
    let needs = evidence.drive(member);
    Some(Next { member, needs, bound: 1.0 / needs.max(0.001) })
}

fn larger_pipe(evidence: &Evidence) -> LargerPipe {
    let most = evidence.candidates().first().map_or(0.0, |&at| evidence.drive(at));
    let alternation = evidence.alternation().filter(|(_, waits)| *waits >= LEAST_ALTERNATION);
    let Some((pipe, waits)) = alternation else {
        let (burst_bytes, drain_seconds) = (None, None);
        return LargerPipe { pipe: None, bound: 1.0, error: 0.0, burst_bytes, drain_seconds };
    };
    let readers = evidence.members.iter().filter(|member| member.reads_from.contains(&pipe));
    let sleeps: u64 = readers.map(|member| member.sleeps).sum();
    let bytes = evidence.pipes[pipe].bytes.map(|bytes| bytes as f64);
    let burst_bytes = bytes.filter(|_| sleeps > 0).map(|bytes| bytes / sleeps as f64);
    let seconds = evidence.elapsed_ns as f64 / 1e9;
    let saved = (1.0 - most).clamp(0.0, waits);
    LargerPipe {
        pipe: Some(pipe),
        bound: 1.0 / (1.0 - saved).max(0.001),
        // The accounts of the whole run are exact.
        error: 0.0,
        burst_bytes,
        drain_seconds: burst_bytes.map(|burst| burst / (bytes.unwrap_or(0.0) / seconds).max(1.0)),
    }
}

fn lives(evidence: &Evidence) -> Vec<MemberFacts> {
    let mut shown = evidence.candidates();
    shown.sort_unstable();
    shown.into_iter().map(|at| life(evidence, at)).collect()
}

fn life(evidence: &Evidence, at: usize) -> MemberFacts {
    let member = &evidence.members[at];
    let busy_ns = (member.on_cpu_ns + member.runnable_ns) as f64;
    let waits = |reason: Reason| match member.is_neighbours(reason) {
        true => member.blocked_for(reason) as f64,
        false => 0.0,
    };
    let (mut data_ns, mut space_ns) = (waits(Reason::WaitData), waits(Reason::WaitSpace));
    let untold = evidence.waited_untold(at);
    if member.reads_from.is_empty() {
        space_ns += untold;
    } else {
        data_ns += untold;
    }
    let outside: Vec<(Outside, f64)> = outside_of(member);
    let used = Use {
        alive_ns: member.lifetime_ns as f64,
        busy_ns,
        threads_ns: busy_ns,
        data_ns,
        space_ns,
        outside_ns: (outside.iter().map(|(_, ns)| ns).sum::<f64>() - untold).max(0.0),
        follows_ns: 0.0,
        cpu_ns: member.on_cpu_ns as f64,
        run_delay_ns: member.runnable_ns as f64,
    };
    let is_many = member.is_many(evidence.elapsed_ns);
    MemberFacts {
        member: at,
        cpus: match is_many {
            true => member.on_cpu_ns as f64 / evidence.elapsed_ns.max(1) as f64,
            false => used.cpu_ns / busy_ns.max(1.0),
        },
        used,
        outside,
        parallel: if is_many { Parallel::Summed } else { Parallel::Some },
        threads: 0,
        quota: None,
        busiest_thread_ns: 0,
        busiest_thread: None,
        children: Vec::new(),
    }
}

/// What a member waited for that is no pipe of the pipeline, the longest first.
fn outside_of(member: &MemberEvidence) -> Vec<(Outside, f64)> {
    let others = Reason::ALL.into_iter().filter(|&reason| !member.is_neighbours(reason));
    let mut waits: Vec<(Outside, f64)> =
        others.map(|reason| (outside(reason), member.blocked_for(reason) as f64)).collect();
    waits.retain(|(_, ns)| *ns > 0.0);
    waits.sort_by(|a, b| b.1.total_cmp(&a.1));
    waits
}

fn outside(reason: Reason) -> Outside {
    Outside::For(match reason {
        Reason::WaitSpace => return Outside::ForeignSpace,
        Reason::WaitData => return Outside::ForeignData,
        Reason::Disk => Why::Disk,
        Reason::SocketSpace => Why::SocketSpace,
        Reason::SocketData => Why::SocketData,
        Reason::Network => Why::Network,
        Reason::Sleep => Why::Timer,
        Reason::FileLock => Why::FileLock,
        Reason::Child => Why::Child,
        Reason::Poll => Why::Poll,
        Reason::Futex => Why::Thread,
        Reason::PipeLock | Reason::Other => Why::Other,
        Reason::Unknown => Why::Unknown,
    })
}

#[cfg(test)]
mod tests;
