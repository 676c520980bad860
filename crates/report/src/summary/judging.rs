//! The verdict of a summary, and the evidence for it.

use pipeprof_profiler::states::Connection;
use pipeprof_runner::pipeline::PipeKey;
use rustc_hash::FxHashMap;

use super::{ByPid, MemberSummary, RoleShare};
use crate::escape::printable;
use crate::facts;
use crate::facts::states::StateHistory;
use crate::facts::verdict::Judged;
use crate::ledger::PipeSummary;
use crate::roles::Reason;
use crate::run::Run;
use crate::verdict::{Evidence, Finding, MemberEvidence, PipeEvidence, Verdict, WakeLatency};

/// The connection that carried most.
fn heaviest(connections: &[Connection]) -> Option<&Connection> {
    connections.iter().max_by_key(|of| of.sent_bytes.max(of.received_bytes))
}

/// From the states of all threads if they were recorded, else from averages.
pub(super) fn judged(evidence: &Evidence, run: &Run) -> Judged {
    let by_states = run.states.as_ref().and_then(|timeline| {
        let history = StateHistory {
            is_phase: run.part.is_some(),
            ..StateHistory::of(&run.pipeline, timeline)
        };
        facts::verdict::judge(evidence, &history, &run.pipeline)
    });
    by_states.unwrap_or_else(|| facts::averages::judge(evidence))
}

/// How a remedy can be tried that settings of pipes or CPUs may bring about.
pub(super) fn not_proven(verdict: &mut Verdict, target: &str) {
    let is_of_pipes = matches!(verdict.finding, Finding::PipeBound(_) | Finding::Starved);
    let remedies = &mut verdict.remedies;
    let at = remedies.iter().position(|remedy| remedy.is_for_tune);
    let at = at.or((is_of_pipes && !remedies.is_empty()).then_some(0));
    if let Some(remedy) = at.and_then(|at| remedies.get_mut(at)) {
        let target = printable(target);
        remedy.buys += &format!("; not proven: `pipeprof tune {target} --time 40s` tries it");
    }
}

/// What the verdict is drawn from: what the tables say, and nothing else.
pub(super) fn evidence(members: &[MemberSummary], pipes: &[PipeSummary], run: &Run) -> Evidence {
    let quality = &run.profile.quality;
    let places: FxHashMap<PipeKey, usize> =
        pipes.iter().enumerate().rev().map(|(at, pipe)| (pipe.key(), at)).collect();
    let at = |keys: &[PipeKey]| -> Vec<usize> {
        keys.iter().filter_map(|key| places.get(key).copied()).collect()
    };
    let by_pid = ByPid::of(members);
    let member = |member: &MemberSummary| {
        let split = member.life.map(|life| life.split).unwrap_or_default();
        // Shares of page faults, say, are no shares of the time on a CPU.
        let shares = if quality.shares_are_of_cpu_time() { &member.roles[..] } else { &[] };
        let role_ns = |role: &RoleShare| (split.on_cpu_ns as f64 * role.percent / 100.0) as u64;
        let [reads_from, writes_to] = [&member.reads_from, &member.writes_to].map(|keys| at(keys));
        let joins = |links: &[usize]| links.iter().any(|&at| pipes[at].link.is_socket());
        // A neighbour's, where a socket leads to one.
        let reason = |reason: Reason| match reason {
            Reason::SocketSpace if joins(&writes_to) => Reason::WaitSpace,
            Reason::SocketData if joins(&reads_from) => Reason::WaitData,
            reason => reason,
        };
        MemberEvidence {
            pid: member.pid,
            label: printable(&member.comm).into_owned(),
            host: None,
            lifetime_ns: split.lifetime_ns,
            on_cpu_ns: split.on_cpu_ns,
            runnable_ns: split.runnable_ns,
            blocked: member.blocked.iter().map(|share| (reason(share.reason), share.ns)).collect(),
            roles: shares.iter().map(|share| (share.role, role_ns(share))).collect(),
            sleeps: split.sleeps,
            reads_from,
            writes_to,
            connection: heaviest(&member.connections).cloned(),
            limits: member.control_group.as_ref().map(|group| group.limits.clone()),
        }
    };
    let pipe = |pipe: &PipeSummary| PipeEvidence {
        link: pipe.link,
        inode: pipe.inode,
        device: pipe.device,
        empty: pipe.fill.map(|fill| fill.empty_percent / 100.0),
        full: pipe.fill.map(|fill| fill.full_percent / 100.0),
        capacity_bytes: pipe.capacity_bytes,
        bytes: pipe.bytes,
        bytes_per_write: pipe.bytes_per_write,
        bytes_per_read: pipe.bytes_per_read,
        latency: pipe.wakeups.iter().find_map(|wakeups| {
            let latency = wakeups.latency?;
            let woken = by_pid.get(wakeups.woken)?;
            Some(WakeLatency {
                woken: printable(&woken.comm).into_owned(),
                median_ns: latency.median_ns,
                p99_ns: latency.p99_ns,
            })
        }),
        between: None,
    };
    Evidence {
        is_phase: run.part.is_some(),
        members: members.iter().map(member).collect(),
        pipes: pipes.iter().map(pipe).collect(),
        elapsed_ns: run.elapsed_ns,
        cpus: run.cpus,
        samples: quality.samples,
        foreign_samples: quality.foreign_samples,
        lost: quality.lost,
        kernel_visible: quality.kernel_visible,
    }
}
