//! What was observed of a pipeline before any change, and the names of its parts.

use pipeprof_runner::size;
use pipeprof_runner::tuning::{CpuPlace, PipeLimits, cpus_text};

use super::treatment::{Placement, Treatment};
use crate::facts::blame::{Limit, blame};
use crate::facts::states::StateHistory;

/// Below this share of the looks a pipe was never full, or never empty: what could be gained would
/// be within the margin of "no effect".
pub(super) const SELDOM: f64 = 0.02;

/// Fewer looks than this tell no share as small as [`SELDOM`].
pub(super) const ENOUGH_LOOKS: u64 = 100;

/// What was observed of a pipeline before anything was changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// In pipeline order.
    pub members: Vec<ObservedMember>,
    /// In pipeline order.
    pub pipes: Vec<ObservedPipe>,
    /// The CPUs that members may be given.
    pub cpus: Vec<CpuPlace>,
    /// Limits of pipes; `None` where they are not known.
    pub limits: Option<PipeLimits>,
    /// A nice value that was raised can be lowered again (`CAP_SYS_NICE`).
    pub may_renice: bool,
    /// What limited it; `None` where the looks were too few to tell, or the kernel did not say what
    /// members wait for.
    pub blame: Option<ObservedBlame>,
    /// Try also what cannot matter, as far as it can be taken back.
    pub all: bool,
}

/// What limited a pipeline, as shares of the time, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedBlame {
    /// By member: it computed.
    pub busy: Vec<f64>,
    /// By member: it could have run, and had no CPU.
    pub no_cpu: Vec<f64>,
    /// By member: it waited for something outside of the pipeline.
    pub outside: Vec<f64>,
    /// By pipe: its ends woke each other up.
    pub wake_ups: Vec<f64>,
}

impl ObservedBlame {
    /// Of a history.
    pub fn of(history: &StateHistory, members: usize, pipes: usize) -> Option<ObservedBlame> {
        let blamed = blame(history).sum(0..history.spans.len());
        if history.looks < ENOUGH_LOOKS || history.blind_share > SELDOM || blamed.whole_ns <= 0.0 {
            return None;
        }
        let mut observed = ObservedBlame {
            busy: vec![0.0; members],
            no_cpu: vec![0.0; members],
            outside: vec![0.0; members],
            wake_ups: vec![0.0; pipes],
        };
        let member = |actor: usize| history.actors.get(actor).map_or(usize::MAX, |a| a.member);
        for &(limit, ns) in &blamed.limits {
            let slot = match limit {
                Limit::Busy(actor) => observed.busy.get_mut(member(actor)),
                Limit::NoCpu(actor) => observed.no_cpu.get_mut(member(actor)),
                Limit::Outside(actor, _) => observed.outside.get_mut(member(actor)),
                Limit::WakeUps(pipe) => observed.wake_ups.get_mut(pipe),
                Limit::Unknown => None,
            };
            if let Some(slot) = slot {
                *slot += ns / blamed.whole_ns;
            }
        }
        Some(observed)
    }

    /// All that a member limits.
    pub(super) fn member(&self, at: usize) -> f64 {
        [&self.busy, &self.no_cpu, &self.outside].iter().filter_map(|shares| shares.get(at)).sum()
    }
}

/// A member, by what it did while it was watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedMember {
    /// Its name.
    pub name: String,
    /// CPUs that it used, 1.9 for nearly two.
    pub cpus_used: f64,
    /// The same of its waiting for a CPU.
    pub cpus_missed: f64,
    /// Times a second that it went to sleep.
    pub sleeps_per_second: f64,
    /// CPUs that it may use.
    pub allowed: Vec<usize>,
}

/// A pipe, by what it held at the looks into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedPipe {
    /// Index of a member that writes.
    pub writer: usize,
    /// Index of a member that reads.
    pub reader: usize,
    /// `F_GETPIPE_SZ`; `None` where it may not be opened.
    pub capacity_bytes: Option<u64>,
    /// Looks into it.
    pub looks: u64,
    /// Share of them that found no byte, 0 to 1.
    pub empty: f64,
    /// Share of them that found no room for a page, 0 to 1.
    pub full: f64,
}

impl Observed {
    /// `yes → gzip`.
    pub fn pipe_name(&self, pipe: usize) -> String {
        let name = |at: usize| self.members.get(at).map_or("?", |member| member.name.as_str());
        let pipe = &self.pipes[pipe];
        format!("{} → {}", name(pipe.writer), name(pipe.reader))
    }

    /// What a treatment is, in a few words.
    pub fn name(&self, treatment: &Treatment) -> String {
        match treatment {
            Treatment::Capacity { pipe, bytes } => {
                format!("pipe {}: {}", self.pipe_name(*pipe), size::exact(*bytes))
            }
            Treatment::Cpus { why, members } => {
                let names: Vec<String> = members
                    .iter()
                    .map(|(at, cpus)| {
                        let word = if cpus.len() == 1 { "CPU" } else { "CPUs" };
                        format!("{} on {word} {}", self.members[*at].name, cpus_text(cpus))
                    })
                    .collect();
                match (why, &members[..]) {
                    (Placement::SameCpu, [(a, cpus), (b, _)]) => format!(
                        "{} and {} both on CPU {}",
                        self.members[*a].name,
                        self.members[*b].name,
                        cpus_text(cpus)
                    ),
                    _ => names.join(", "),
                }
            }
            Treatment::Nice { member, by } => {
                format!("{}: nice value {by} higher", self.members[*member].name)
            }
            Treatment::Line { line } => line.clone(),
        }
    }

    /// The member that limits most, or uses most of a CPU where that is not known.
    pub(super) fn limiting(&self) -> Option<usize> {
        let used = |at: usize| self.members[at].cpus_used + self.members[at].cpus_missed;
        let share = |&at: &usize| match &self.blame {
            Some(blame) => blame.busy[at] + blame.no_cpu[at],
            None => used(at),
        };
        (0..self.members.len()).max_by(|a, b| share(a).total_cmp(&share(b)))
    }

    /// What limits it most, in words; `None` where that is not known.
    pub fn limit_text(&self) -> Option<String> {
        let blame = self.blame.as_ref()?;
        let name = |at: usize| self.members[at].name.clone();
        let of_members = |shares: &[f64], how: &str| -> Vec<(f64, String)> {
            let text = |at: usize| format!("{} {how}", name(at));
            shares.iter().enumerate().map(|(at, &share)| (share, text(at))).collect()
        };
        let pipes = blame.wake_ups.iter().enumerate().map(|(at, &share)| {
            (share, format!("the ends of {} wake each other up", self.pipe_name(at)))
        });
        let mut all: Vec<(f64, String)> = pipes.collect();
        all.extend(of_members(&blame.busy, "is on a CPU"));
        all.extend(of_members(&blame.no_cpu, "waits for a CPU"));
        all.extend(of_members(&blame.outside, "waits for something other than these pipes"));
        let (share, what) = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
        (share >= SELDOM).then(|| format!("{what}, and limits the pipeline {}", percent(share)))
    }

    /// What the members before and behind a pipe limit, and its own wake-ups, where known.
    pub(super) fn sides(&self, pipe: usize) -> Option<Sides> {
        let blame = self.blame.as_ref()?;
        let ObservedPipe { writer, reader, .. } = self.pipes[pipe];
        let side = |from: usize, up: bool| {
            let mut found = vec![from];
            let mut at = 0;
            while let Some(&member) = found.get(at) {
                at += 1;
                for other in &self.pipes {
                    let (near, far) = match up {
                        true => (other.reader, other.writer),
                        false => (other.writer, other.reader),
                    };
                    if near == member && !found.contains(&far) {
                        found.push(far);
                    }
                }
            }
            found
        };
        let sum = |members: Vec<usize>| members.into_iter().map(|at| blame.member(at)).sum();
        Some(Sides {
            before: sum(side(writer, true)),
            behind: sum(side(reader, false)),
            ends: blame.member(writer) + blame.member(reader),
            no_cpu: blame.no_cpu[writer] + blame.no_cpu[reader],
            wake_ups: blame.wake_ups[pipe],
        })
    }

    /// All CPUs that both members may use.
    pub(super) fn shared_cpus(&self, a: usize, b: usize) -> Vec<&CpuPlace> {
        let may = |at: usize, cpu| self.members[at].allowed.contains(&cpu);
        self.cpus.iter().filter(|place| may(a, place.cpu) && may(b, place.cpu)).collect()
    }
}

/// Shares of the time that what lies around a pipe limits.
pub(super) struct Sides {
    pub(super) before: f64,
    pub(super) behind: f64,
    /// Its writer and its reader.
    pub(super) ends: f64,
    /// Waiting of these two for a CPU.
    pub(super) no_cpu: f64,
    pub(super) wake_ups: f64,
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} % of the time", 100.0 * share)
}
