//! The verdict on two hosts: their evidence as one.

use pipeprof_runner::pipeline::{Link, Pipeline};

use super::connection::Shared;
use super::history::{Half, joined};
use crate::facts::states::StateHistory;
use crate::facts::verdict::{Judged, Places, judge_at};
use crate::verdict::{Between, Evidence, MemberEvidence, PipeEvidence};

/// What limits a pipeline over both hosts, with what that was drawn from.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) history: StateHistory,
    pub(super) evidence: Evidence,
    pub(super) judged: Judged,
}

/// Judges both as one pipeline; `None` if they have no time in common. The members of the host that
/// sends come first.
pub(super) fn judge(
    sender: &Half<'_>,
    receiver: &Half<'_>,
    seen: &Shared,
    ahead_ns: i64,
) -> Option<Judgement> {
    let history = joined(sender, receiver, seen, ahead_ns);
    let evidence = evidence(sender, receiver, seen, history.elapsed_ns());
    let pipeline = pipeline(sender, receiver);
    let judged = judge_at(&evidence, &history, &pipeline, places(sender, receiver))?;
    Some(Judgement { history, evidence, judged })
}

/// The evidence of both, the pipes of the second behind those of the first, and the connection last.
fn evidence(sender: &Half<'_>, receiver: &Half<'_>, seen: &Shared, elapsed_ns: u64) -> Evidence {
    let (first, second) = (&sender.evidence, &receiver.evidence);
    let moved = |pipes: &[usize]| pipes.iter().map(|pipe| pipe + first.pipes.len()).collect();
    let mut members = first.members.clone();
    members.iter_mut().for_each(|member| member.host = Some(sender.host.clone()));
    members.extend(second.members.iter().map(|member| MemberEvidence {
        host: Some(receiver.host.clone()),
        reads_from: moved(&member.reads_from),
        writes_to: moved(&member.writes_to),
        ..member.clone()
    }));
    let connection = PipeEvidence {
        link: Link::Tcp { sender: 0, from: seen.sender.local, to: seen.sender.remote },
        bytes: Some(seen.sender.sent_bytes),
        between: Some(Between {
            hosts: [sender.host.clone(), receiver.host.clone()],
            connection: seen.sender.clone(),
        }),
        ..PipeEvidence::default()
    };
    let mut pipes = first.pipes.clone();
    pipes.extend(second.pipes.iter().cloned().chain([connection]));
    Evidence {
        members,
        pipes,
        elapsed_ns,
        cpus: first.cpus + second.cpus,
        samples: first.samples.saturating_add(second.samples),
        foreign_samples: first.foreign_samples.saturating_add(second.foreign_samples),
        lost: first.lost.saturating_add(second.lost),
        kernel_visible: first.kernel_visible && second.kernel_visible,
        is_phase: false,
    }
}

/// The members of both, in the order of the evidence's history.
fn pipeline(sender: &Half<'_>, receiver: &Half<'_>) -> Pipeline {
    let [first, second] = [sender, receiver].map(|half| half.pipeline.clone());
    Pipeline {
        members: first.members.into_iter().chain(second.members).collect(),
        pipes: first.pipes.into_iter().chain(second.pipes).collect(),
    }
}

/// Where the actors and the pipes of both stand in the evidence of both.
fn places(sender: &Half<'_>, receiver: &Half<'_>) -> Places {
    let of = |half: &Half<'_>| Places::of(&half.evidence, &half.history, half.pipeline);
    let mut places = of(sender);
    let Places { members, pipes } = of(receiver);
    let (before, pipes_before) = (sender.evidence.members.len(), sender.evidence.pipes.len());
    places.members.extend(members.into_iter().map(|at| at.map(|at| at + before)));
    places.pipes.extend(pipes.into_iter().map(|at| at.map(|at| at + pipes_before)));
    places.pipes.push(Some(pipes_before + receiver.evidence.pipes.len()));
    places
}

#[cfg(test)]
mod tests;
