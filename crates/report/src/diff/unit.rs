//! The unit of costs: nanoseconds per GiB where bytes are known, else shares of time.

use pipeprof_profiler::profile::{MemberProfile, Quality};
use serde::Serialize;

use super::cost::{Scale, Series};
use super::matching::Matched;
use super::{NotCompared, Which};
use crate::error::Error;
use crate::run::Run;
use crate::summary::cpu_time_ns;
use crate::words::units::duration;

/// What every cost of a comparison is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds per GiB of the pipeline's input, for all members alike.
    NsPerGib,
    /// Percent of what all compared members' samples weigh.
    Percent,
}

impl Unit {
    /// A cost for a person: `12.3 ms`, `4.5 %`.
    pub(crate) fn show(self, cost: f64) -> String {
        match self {
            Unit::NsPerGib => duration(cost),
            Unit::Percent => format!("{cost:.1} %"),
        }
    }

    /// A difference for a person, with its sign.
    pub(crate) fn show_signed(self, cost: f64) -> String {
        let shown = self.show(cost.abs());
        if cost == 0.0 {
            return shown;
        }
        if cost < 0.0 { format!("−{shown}") } else { format!("+{shown}") }
    }

    /// What a cost is, in a heading.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Unit::NsPerGib => "CPU time per GiB",
            Unit::Percent => "share of samples",
        }
    }
}

/// Refuses to compare what measured different things.
pub(super) fn check(a: &[&Run], b: &[&Run]) -> Result<(), Error> {
    let not = |why: String| Err(Error::NotComparable { why });
    let all = || a.iter().chain(b).map(|run| &run.profile.quality);
    let Some(first) = all().next() else { return Ok(()) };
    if all().any(|quality| quality.kernel_visible != first.kernel_visible) {
        return not("one has kernel code and the other user code only".to_owned());
    }
    if all().all(Quality::shares_are_of_cpu_time) {
        return Ok(());
    }
    match all().find(|quality| quality.event != first.event) {
        None => Ok(()),
        Some(other) => not(format!("one sampled {}, the other {}", first.event, other.event)),
    }
}

/// CPU nanoseconds of a member per GiB of its pipeline's input in one run, or why they are not
/// known.
fn ns_per_gib(run: &Run, member: usize) -> Result<f64, String> {
    let profiled = &run.profile.members[member];
    if !run.profile.quality.shares_are_of_cpu_time() {
        return Err(format!("{} doesn't measure CPU time", run.profile.quality.event));
    }
    let gib = run.payload()?.gib();
    // A shell around the pipeline.
    if !run.holds_pipe(member) {
        return Err("it has no pipe".to_owned());
    }
    let ns = cpu_time_ns(&run.profile, profiled).ok_or("its CPU time is not known")?;
    Ok(ns as f64 / gib)
}

fn in_all_runs(a: &[&Run], b: &[&Run], matched: &Matched) -> Result<(), String> {
    let sides = [(a, &matched.a), (b, &matched.b)];
    sides
        .into_iter()
        .flat_map(|(runs, members)| runs.iter().zip(members))
        .try_for_each(|(run, &member)| ns_per_gib(run, member).map(|_| ()))
}

/// Nanoseconds per GiB where that is known of anybody, else shares, and why.
pub(super) fn choose(a: &[&Run], b: &[&Run], matched: &[Matched]) -> (Unit, Option<String>) {
    let mut why = None;
    for matched in matched {
        match in_all_runs(a, b, matched) {
            Ok(()) => return (Unit::NsPerGib, None),
            Err(reason) => why = why.or(Some(reason)),
        }
    }
    let bare = a.iter().chain(b).any(|run| run.pipeline.pipes.is_empty());
    let why =
        if bare { Some("a file without a pipeline has no byte counts".to_owned()) } else { why };
    (Unit::Percent, why)
}

/// Leaves those out whose CPU time is not known where others' is.
pub(super) fn drop_unknown(
    unit: Unit,
    a: &[&Run],
    b: &[&Run],
    matched: Vec<Matched>,
    not_compared: &mut Vec<NotCompared>,
) -> Vec<Matched> {
    if unit == Unit::Percent {
        return matched;
    }
    let mut kept = Vec::with_capacity(matched.len());
    for matched in matched {
        match in_all_runs(a, b, &matched) {
            Ok(()) => kept.push(matched),
            Err(why) => {
                let side = (a.first().zip(matched.a.first())).map(|(run, &at)| (run, at));
                if let Some((run, at)) = side {
                    let mut out = NotCompared::of(Which::Both, run, at, &why);
                    let cpu = |runs: &[&Run], members: &[usize]| {
                        let first = runs.first().zip(members.first())?;
                        first.0.profile.members[*first.1].cpu_time_ns
                    };
                    out.cpu_time_ns = cpu(a, &matched.a).max(cpu(b, &matched.b));
                    not_compared.push(out);
                }
            }
        }
    }
    kept
}

impl NotCompared {
    pub(super) fn of(side: Which, run: &Run, at: usize, why: &str) -> Self {
        let member: &MemberProfile = &run.profile.members[at];
        NotCompared {
            side,
            comm: member.comm.clone(),
            pid: member.pid,
            why: why.to_owned(),
            cpu_time_ns: cpu_time_ns(&run.profile, member),
        }
    }
}

/// What the samples of a member stand for, in each run of A and of B.
pub(super) struct Scales {
    pub(super) a: Vec<Scale>,
    pub(super) b: Vec<Scale>,
}

pub(super) fn scales(unit: Unit, a: &[&Run], b: &[&Run], matched: &[Matched]) -> Vec<Scales> {
    let wholes = |runs: &[&Run], of: &dyn Fn(&Matched) -> &Vec<usize>| -> Vec<u64> {
        let whole = |(at, run): (usize, &&Run)| {
            matched.iter().map(|m| run.profile.members[of(m)[at]].weight()).sum()
        };
        runs.iter().enumerate().map(whole).collect()
    };
    let (whole_a, whole_b) = (wholes(a, &|m| &m.a), wholes(b, &|m| &m.b));
    let side = |runs: &[&Run], wholes: &[u64], members: &[usize]| {
        let scale = |(at, run): (usize, &&Run)| {
            let member = &run.profile.members[members[at]];
            let (samples, weight) = (member.samples(), member.weight());
            let cost = match unit {
                Unit::NsPerGib => ns_per_gib(run, members[at]).unwrap_or(0.0),
                Unit::Percent => 100.0 * weight as f64 / wholes[at].max(1) as f64,
            };
            Scale { cost, samples, weight }
        };
        runs.iter().enumerate().map(scale).collect::<Vec<Scale>>()
    };
    matched
        .iter()
        .map(|this| Scales { a: side(a, &whole_a, &this.a), b: side(b, &whole_b, &this.b) })
        .collect()
}

impl Scales {
    /// All that the member costs. It has no sampling error where it is the scheduler's account.
    pub(super) fn whole(&self) -> Series {
        let costs = |scales: &[Scale]| scales.iter().map(|scale| scale.cost).collect::<Vec<_>>();
        Series::exact(&costs(&self.a), &costs(&self.b))
    }
}

/// What all compared members cost together.
pub(super) fn total(scales: &[Scales]) -> Series {
    let mut all = scales.iter().map(Scales::whole);
    let mut sum = all.next().unwrap_or_else(|| Series::exact(&[], &[]));
    all.for_each(|series| sum.add(&series));
    sum
}
