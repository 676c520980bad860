//! Words for lanes over time: the states, the times of an axis, and what limits a phase.

use super::name;
use super::units::{duration, percent};
use crate::facts::lanes::{Cell, Lanes, MemberLane, PipeLane, State};
use crate::summary::{MemberSummary, Summary};
use crate::verdict::{LimitShare, PhaseSummary};

/// What a state is called.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Busy => "busy",
        State::NoCpu => "runnable",
        State::Data => "waits for data",
        State::Space => "waits for space",
        State::Outside => "outside",
    }
}

/// What each state means, for a legend with room.
pub(crate) fn meaning(state: State) -> &'static str {
    match state {
        State::Busy => "busy: a thread has a CPU",
        State::NoCpu => "runnable: a thread waits for a CPU",
        State::Data => "waits for data in its pipe",
        State::Space => "waits for space in its pipe",
        State::Outside => "outside: waits for something other than these pipes",
    }
}

/// `busy 97 %, waits for data 3 %` of the stretch that these cells are.
pub(crate) fn cells(cells: &[Cell]) -> String {
    let count = cells.len().max(1) as f64;
    let mean = |at: usize| cells.iter().map(|cell| cell.shares[at]).sum::<f64>() / count;
    let shown = State::ALL.into_iter().enumerate().map(|(at, of)| (of, mean(at)));
    let words: Vec<String> = shown
        .filter(|(_, share)| *share >= 0.005)
        .map(|(of, share)| format!("{} {}", state(of), percent(100.0 * share)))
        .collect();
    words.join(", ")
}

/// The members that have lanes, each with its lane: if there are more than `most`, those that limit
/// most and are busiest.
pub(crate) fn shown<'a>(
    lanes: &'a Lanes,
    summary: &'a Summary,
    most: usize,
) -> Vec<(&'a MemberLane, &'a MemberSummary)> {
    let by_pid = summary.by_pid();
    let all = lanes.members.iter().filter_map(|lane| {
        let is_asked_for = summary.only.is_empty() || summary.only.contains(&lane.pid);
        let member = by_pid.get(lane.pid)?;
        is_asked_for.then_some((lane, member))
    });
    let mut all: Vec<_> = all.collect();
    if all.len() > most {
        let weight = |lane: &MemberLane| {
            let busy: f64 = lane.cells.iter().map(|cell| cell.shares[0]).sum();
            lane.limits + busy / lanes.columns as f64
        };
        let mut weights: Vec<f64> = all.iter().map(|(lane, _)| weight(lane)).collect();
        weights.sort_by(|a, b| b.total_cmp(a));
        let least = weights[most - 1];
        all.retain(|(lane, _)| weight(lane) >= least);
        all.truncate(most);
    }
    all
}

/// The pipes that join these members.
pub(crate) fn pipes_between<'a>(
    lanes: &'a Lanes,
    members: &[(&MemberLane, &MemberSummary)],
) -> Vec<&'a PipeLane> {
    let is_shown = |pid: &i32| members.iter().any(|(lane, _)| lane.pid == *pid);
    let joins =
        |pipe: &&PipeLane| pipe.writers.iter().any(is_shown) && pipe.readers.iter().any(is_shown);
    lanes.pipes.iter().filter(joins).collect()
}

/// `rev 93 %`: what limits a phase, and for which share of it.
pub(crate) fn phase(summary: &Summary, phase: &PhaseSummary) -> String {
    format!("{} {}", limit(summary, &phase.limit), percent(phase.limit.percent))
}

/// Who or what limits, by name.
pub(crate) fn limit(summary: &Summary, limit: &LimitShare) -> String {
    let member = limit.pid.and_then(|pid| summary.members.iter().find(|m| m.pid == pid));
    match (limit.kind, member, limit.inode) {
        (_, Some(member), _) => name::short(member.end, &member.comm),
        (_, _, Some(inode)) => limit.name.clone().unwrap_or_else(|| format!("pipe:[{inode}]")),
        ("cpus", ..) => "the CPUs".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Times of an axis, at most so many, with their words: steps of 1, 2 or 5.
pub(crate) fn ticks(until_ns: f64, most: usize) -> Vec<(f64, String)> {
    if until_ns <= 0.0 || most == 0 {
        return Vec::new();
    }
    let least = until_ns / most as f64;
    let scale = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|of| of * scale).find(|step| *step >= least);
    let step = step.unwrap_or(until_ns);
    let count = (until_ns / step).floor() as usize;
    (0..=count).map(|at| (at as f64 * step, at_time(at as f64 * step, step, until_ns))).collect()
}

/// A moment on an axis with steps of that length: `0`, `250 ms`, `1.5 s`.
fn at_time(ns: f64, step: f64, until_ns: f64) -> String {
    let (scale, unit) = if until_ns >= 1e9 { (1e9, "s") } else { (1e6, "ms") };
    if ns == 0.0 {
        return format!("0 {unit}");
    }
    let decimals = (-(step / scale).log10().floor()).max(0.0) as usize;
    format!("{:.decimals$} {unit}", ns / scale)
}

/// `phase 2, 3.20 s to 6.10 s (48 % of the time): sort limits 99 % of it`.
pub(crate) fn phase_line(summary: &Summary, at: usize, of: &PhaseSummary, whole_ns: u64) -> String {
    let ns = of.until_ns.saturating_sub(of.from_ns);
    let verb = if of.limit.kind == "cpus" { "limit" } else { "limits" };
    format!(
        "phase {}, {} to {} ({} of the time): {} {verb} {} of it{}",
        at + 1,
        duration(of.from_ns as f64),
        duration(of.until_ns as f64),
        super::units::share(ns, whole_ns),
        limit(summary, &of.limit),
        percent(of.limit.percent),
        of.and_waits()
    )
}

/// `2 (3.20 s to 6.10 s: sort 97 %)`, of those that can be asked for.
pub(crate) fn described(summary: &Summary, at: usize, of: &PhaseSummary) -> String {
    let (from, until) = (duration(of.from_ns as f64), duration(of.until_ns as f64));
    format!("{} ({from} to {until}: {})", at + 1, phase(summary, of))
}

/// A line for each phase, where there are several.
pub(crate) fn phase_lines(summary: &Summary) -> Vec<String> {
    let phases = summary.phases();
    if phases.len() < 2 {
        return Vec::new();
    }
    let whole = phases.iter().map(|phase| phase.until_ns.saturating_sub(phase.from_ns)).sum();
    let line = |(at, phase)| phase_line(summary, at, phase, whole);
    phases.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_steps() {
        let words = |until_ns: f64, most: usize| -> Vec<String> {
            ticks(until_ns, most).into_iter().map(|(_, word)| word).collect()
        };
        assert_eq!(words(6.1e9, 4), ["0 s", "2 s", "4 s", "6 s"]);
        assert_eq!(words(2.4e9, 5), ["0 s", "0.5 s", "1.0 s", "1.5 s", "2.0 s"]);
        assert_eq!(words(180e6, 4), ["0 ms", "50 ms", "100 ms", "150 ms"]);
        assert_eq!(words(3_700e9, 4), ["0 s", "1000 s", "2000 s", "3000 s"]);
        assert!(words(0.0, 4).is_empty() && words(1e9, 0).is_empty());
    }
}
