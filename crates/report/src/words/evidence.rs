//! The evidence for a verdict, as facts and as lines of text.

use super::units::{duration, percent};
use super::verdict::{Words, outside};
use crate::facts::verdict::MemberFacts;
use crate::verdict::evidence::Work;
use crate::verdict::{
    Fact, Finding, LimitShare, PhaseSummary, PipeLevel, State, Verdict, WorkShare,
};

/// The most members listed besides the limiting one.
const MOST_LINES: usize = 8;

impl Words<'_> {
    /// What each member did most of the time, and what the pipes cost. The headline covers a member
    /// that limits alone.
    pub(super) fn facts(&self) -> Vec<Fact> {
        if self.judged.finding == Finding::Unclear {
            return Vec::new();
        }
        let is_sole = matches!(self.judged.finding, Finding::CpuBound | Finding::Outside(_));
        let is_told = |life: &&MemberFacts| is_sole && self.judged.members.contains(&life.member);
        let mut shown: Vec<&MemberFacts> =
            self.judged.lives.iter().filter(|life| !is_told(life)).collect();
        shown.sort_by_key(|life| life.member);
        shown
            .into_iter()
            .map(|life| self.member(life))
            .chain(self.pressure())
            .chain(self.pipe_code())
            .collect()
    }

    fn member(&self, life: &MemberFacts) -> Fact {
        let member = &self.evidence.members[life.member];
        let used = &life.used;
        let states = [
            (used.busy_ns, State::Busy),
            (used.data_ns, State::WaitsForData),
            (used.space_ns, State::WaitsForSpace),
            (used.outside_ns, State::WaitsOutside),
            (used.follows_ns, State::WaitsForChildren),
        ];
        let most = states.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let (ns, state) = most.unwrap_or((0.0, State::Busy));
        let pipe = match state {
            State::WaitsForData => self.level(&member.reads_from, false),
            State::WaitsForSpace => self.level(&member.writes_to, true),
            _ => None,
        };
        let outside = life.outside.first().map(|(outside, _)| *outside);
        Fact::Member {
            pid: member.pid,
            name: member.label.clone(),
            state,
            waits_for: outside.filter(|_| state == State::WaitsOutside),
            percent: 100.0 * ns / used.alive_ns.max(1.0),
            pipe,
        }
    }

    /// The fullest, or emptiest, of some pipes.
    fn level(&self, pipes: &[usize], is_full: bool) -> Option<PipeLevel> {
        let level = |at: &usize| {
            let pipe = &self.evidence.pipes[*at];
            let share = if is_full { pipe.full } else { pipe.empty }?;
            let (link, inode) = (pipe.link, pipe.inode);
            Some(PipeLevel { link, inode, is_full, percent: 100.0 * share })
        };
        pipes.iter().filter_map(level).max_by(|a, b| a.percent.total_cmp(&b.percent))
    }

    fn pressure(&self) -> Option<Fact> {
        let share = self.judged.memory_pressure?;
        Some(Fact::MemoryPressure { percent: 100.0 * share })
    }

    /// What the pipes themselves cost.
    fn pipe_code(&self) -> Option<Fact> {
        if self.evidence.pipes.is_empty() {
            return None;
        }
        let members = &self.evidence.members;
        let on_cpu = members.iter().map(|member| member.on_cpu_ns).sum::<u64>().max(1) as f64;
        let mut work = Vec::from(Work::ALL.map(|work| {
            let ns: u64 = members.iter().map(|member| member.work(work)).sum();
            WorkShare { what: work.label(), percent: 100.0 * ns as f64 / on_cpu }
        }));
        let percent = work.iter().map(|share| share.percent).sum();
        work.retain(|share| share.percent >= 0.5);
        work.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        Some(Fact::PipeCode { percent, work })
    }
}

/// A line of evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The member that the line is about; empty in other lines.
    pub(crate) who: String,
    pub(crate) what: String,
    /// The pipe that shows it.
    pub(crate) pipe: String,
}

/// The evidence for a verdict: a line for each phase if there are several, for each member besides
/// the limiting one, and for the pipes.
pub(crate) fn lines(verdict: &Verdict) -> Vec<Line> {
    let sentence = |what: String| Line { what, ..Line::default() };
    let mut lines: Vec<Line> = phases(verdict).into_iter().map(sentence).collect();
    let names = |name: &str| {
        let same = |fact: &&Fact| matches!(fact, Fact::Member { name: other, .. } if other == name);
        verdict.evidence.iter().filter(same).count()
    };
    let mut left_out = 0;
    for fact in &verdict.evidence {
        match fact {
            Fact::Member { .. }
                if lines.iter().filter(|l: &&Line| !l.who.is_empty()).count() >= MOST_LINES =>
            {
                left_out += 1;
            }
            Fact::Member { pid, name, state, waits_for, percent: share, pipe } => {
                let who = if names(name) > 1 { format!("{name} ({pid})") } else { name.clone() };
                let what = match (state, waits_for) {
                    (State::Busy, _) => "busy",
                    (State::WaitsForData, _) => "waits for data",
                    (State::WaitsForSpace, _) => "waits for space",
                    (State::WaitsOutside, Some(of)) => outside(*of),
                    (State::WaitsOutside, None) => "waits",
                    (State::WaitsForChildren, _) => "waits for its children",
                };
                let pipe = pipe.map_or_else(String::new, |pipe| {
                    let level = if pipe.is_full { "full" } else { "empty" };
                    format!("{} {level} {}", pipe.link.named(pipe.inode), percent(pipe.percent))
                });
                lines.push(Line { who, what: format!("{what} {}", percent(*share)), pipe });
            }
            Fact::MemoryPressure { percent: share } => lines.push(sentence(format!(
                "memory pressure: at least one task on this machine waited for memory {} of the \
                 time",
                percent(*share)
            ))),
            Fact::PipeCode { percent: share, work } => {
                if left_out > 0 {
                    lines.push(sentence(format!("and {left_out} more")));
                }
                let each: Vec<String> = work
                    .iter()
                    .map(|one| format!("{} {}", one.what, percent(one.percent)))
                    .collect();
                let each = match &each[..] {
                    [] => String::new(),
                    each => format!(" ({})", each.join(", ")),
                };
                lines.push(sentence(format!(
                    "pipe code: {} of all CPU time{each}",
                    percent(*share)
                )));
            }
        }
    }
    lines
}

/// A sentence for each phase if there are several.
pub(crate) fn phases(verdict: &Verdict) -> Vec<String> {
    let phases = &verdict.phases;
    if phases.len() < 2 || verdict.finding == Finding::Unclear {
        return Vec::new();
    }
    let whole = phases.iter().map(|phase| phase.until_ns - phase.from_ns).sum::<u64>();
    let sentence = |(at, phase): (usize, &PhaseSummary)| {
        format!(
            "phase {}, {} to {} ({} of the time): {} {} of it{}",
            at + 1,
            duration(phase.from_ns as f64),
            duration(phase.until_ns as f64),
            super::units::share(phase.until_ns - phase.from_ns, whole),
            limited_by(&phase.limit),
            percent(phase.limit.percent),
            phase.and_waits()
        )
    };
    phases.iter().enumerate().map(sentence).collect()
}

fn limited_by(limit: &LimitShare) -> String {
    match (limit.kind, &limit.name, limit.pid, limit.inode) {
        ("network", Some(name), ..) => format!("{name} limits"),
        (_, Some(name), Some(pid), _) => match &limit.host {
            Some(host) => format!("{name} (pid {pid} on {host}) limits"),
            None => format!("{name} (pid {pid}) limits"),
        },
        (_, Some(name), None, Some(_)) => format!("{name} limits"),
        (_, _, _, Some(inode)) => format!("pipe:[{inode}] limits"),
        ("cpus", ..) => "the CPUs limit".to_owned(),
        _ => "the cause is unknown for".to_owned(),
    }
}
