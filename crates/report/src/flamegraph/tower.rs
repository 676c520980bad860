//! Towers: the stacks above the label of each member, and their widths.
//!
//! Many short processes of one name are one tower. Towers too narrow to read are merged into the
//! last one.

use pipeprof_profiler::profile::{MemberProfile, StackId, StackWeight, TimeSplit};
use pipeprof_runner::pipeline::End;

use super::{Time, View, member_label, members};
use crate::escape::printable;
use crate::payload::Payload;
use crate::run::Run;
use crate::words::units::{share, thousands};

/// A member of the picture, or several.
pub(super) struct Tower {
    /// Who it is, without a pid: `writer pp-write`, `cc1 ×5,000`.
    pub(super) name: String,
    /// The same with the pid, and in a picture of lives what they went to.
    pub(super) label: String,
    pub(super) end: Option<End>,
    /// One without a label where the picture shows nothing else of the member.
    pub(super) parts: Vec<Part>,
    pub(super) weight: u64,
    comm: String,
    processes: usize,
    /// All of the life.
    split: Option<TimeSplit>,
}

/// Stacks of one kind, side by side.
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) stacks: Vec<(StackId, u64)>,
    /// Width that no stack accounts for.
    pub(super) rest: u64,
}

/// What a part of a tower shows; the order in which the parts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OnCpu,
    Blocked,
    Runnable,
}

impl Kind {
    /// How a picture calls it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Kind::OnCpu => "on CPU",
            Kind::Blocked => "blocked",
            Kind::Runnable => "runnable, waiting for a CPU",
        }
    }

    /// The kind at this place of a tower.
    pub(super) fn at(position: usize) -> Kind {
        match position {
            1 => Kind::Blocked,
            2 => Kind::Runnable,
            _ => Kind::OnCpu,
        }
    }
}

impl Part {
    pub(super) fn weight(&self) -> u64 {
        self.stacks.iter().map(|(_, weight)| weight).sum::<u64>() + self.rest
    }

    /// The stacks of a member, made to weigh what the scheduler says they do.
    fn scaled(kind: Kind, stacks: &[(StackId, u64)], whole: u64) -> Part {
        let sampled: u64 = stacks.iter().map(|(_, weight)| weight).sum();
        if sampled == 0 {
            return Part { kind, stacks: Vec::new(), rest: whole };
        }
        let scale = |weight| (u128::from(weight) * u128::from(whole) / u128::from(sampled)) as u64;
        let stacks = stacks.iter().map(|&(stack, weight)| (stack, scale(weight))).collect();
        Part { kind, stacks, rest: 0 }
    }
}

/// Narrower than this share of the picture a tower is grouped with others of its name: its label
/// could not be read.
const NARROW: f64 = 0.01;
/// Narrower than this it is only one of the others.
const NARROWEST: f64 = 0.004;

/// The towers in view, upstream first.
pub(super) fn towers(run: &Run, view: View, payload: Option<Payload>) -> Vec<Tower> {
    let mut shown = members(run, view);
    // A shell that waits for the pipeline would be as wide as the pipeline.
    if view.time != Time::Cpu && shown.iter().any(|&(member, _)| run.holds_pipe(member)) {
        shown.retain(|&(member, _)| run.holds_pipe(member));
    }
    let mut towers: Vec<Tower> = shown
        .into_iter()
        .map(|(_, member)| Tower::of(member, view.time))
        .filter(|tower| tower.weight > 0)
        .collect();
    if let Some(payload) = payload {
        towers.iter_mut().for_each(|tower| tower.scale(1.0 / payload.gib()));
    }
    let mut towers = grouped(towers);
    towers.iter_mut().for_each(|tower| tower.name_it(view.time));
    towers
}

/// Merges narrow towers: first those of one name, then all that still can't be read.
fn grouped(towers: Vec<Tower>) -> Vec<Tower> {
    let whole: u64 = towers.iter().map(|tower| tower.weight).sum();
    let is_below = |tower: &Tower, share: f64| (tower.weight as f64) < share * whole as f64;
    let mut groups: Vec<Tower> = Vec::with_capacity(towers.len());
    for tower in towers {
        let alike = |known: &&mut Tower| {
            known.comm == tower.comm && (known.processes > 1 || is_below(known, NARROW))
        };
        match groups.iter_mut().find(alike).filter(|_| is_below(&tower, NARROW)) {
            Some(group) => group.merge(tower),
            None => groups.push(tower),
        }
    }
    let (others, mut shown): (Vec<Tower>, Vec<Tower>) =
        groups.into_iter().partition(|tower| is_below(tower, NARROWEST));
    let mut others = others.into_iter();
    match (others.next(), others.len()) {
        (Some(mut first), more) if more > 0 => {
            others.for_each(|tower| first.merge(tower));
            first.comm = String::new();
            shown.push(first);
        }
        (first, _) => shown.extend(first),
    }
    shown
}

impl Tower {
    fn of(member: &MemberProfile, time: Time) -> Tower {
        let pairs = |stacks: &[StackWeight]| -> Vec<(StackId, u64)> {
            stacks.iter().filter(|w| w.weight > 0).map(|w| (w.stack, w.weight)).collect()
        };
        let on_cpu = pairs(&member.on_cpu);
        let parts = match (time, member.time) {
            // If no switch was recorded, it is unknown which thread slept, and time on a CPU is no
            // substitute.
            (Time::Blocked, None) => Vec::new(),
            (Time::Cpu, _) | (Time::Wall, None) => {
                vec![Part { kind: Kind::OnCpu, stacks: on_cpu, rest: 0 }]
            }
            (Time::Blocked, Some(split)) => {
                vec![Part::scaled(Kind::Blocked, &pairs(&member.blocked), split.blocked_ns)]
            }
            (Time::Wall, Some(split)) => vec![
                Part::scaled(Kind::OnCpu, &on_cpu, split.on_cpu_ns),
                Part::scaled(Kind::Blocked, &pairs(&member.blocked), split.blocked_ns),
                Part { kind: Kind::Runnable, stacks: Vec::new(), rest: split.runnable_ns },
            ],
        };
        let label = member_label(member);
        let name = label.rsplit_once(" (").map_or(&*label, |(name, _)| name).to_owned();
        Tower {
            name,
            label,
            end: member.end,
            weight: parts.iter().map(Part::weight).sum(),
            parts,
            comm: member.comm.clone(),
            processes: 1,
            split: member.time,
        }
    }

    fn scale(&mut self, by: f64) {
        let scaled = |weight: u64| (weight as f64 * by).round() as u64;
        for part in &mut self.parts {
            part.rest = scaled(part.rest);
            for (_, weight) in &mut part.stacks {
                *weight = scaled(*weight);
            }
        }
        self.weight = self.parts.iter().map(Part::weight).sum();
    }

    fn merge(&mut self, other: Tower) {
        for part in other.parts {
            match self.parts.iter_mut().find(|known| known.kind == part.kind) {
                Some(known) => {
                    known.stacks.extend(part.stacks);
                    known.rest += part.rest;
                }
                None => self.parts.push(part),
            }
        }
        self.parts.sort_by_key(|part| part.kind as usize);
        self.weight += other.weight;
        self.processes += other.processes;
        self.end = None;
        self.split = self.split.zip(other.split).map(|(a, b)| a.plus(b));
    }

    fn name_it(&mut self, time: Time) {
        if self.processes > 1 {
            let processes = thousands(self.processes as u64);
            self.name = match self.comm.as_str() {
                "" => format!("{processes} other processes"),
                comm => format!("{} ×{processes}", printable(comm)),
            };
            self.label.clone_from(&self.name);
        }
        if let (Time::Wall, Some(split)) = (time, self.split) {
            let share = |ns| share(ns, split.lifetime_ns);
            self.label += &format!(
                ": {} cpu, {} blocked, {} runnable",
                share(split.on_cpu_ns),
                share(split.blocked_ns),
                share(split.runnable_ns)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tower(comm: &str, weight: u64) -> Tower {
        let part = Part { kind: Kind::OnCpu, stacks: Vec::new(), rest: weight };
        Tower {
            name: comm.into(),
            label: comm.into(),
            end: None,
            parts: vec![part],
            weight,
            comm: comm.into(),
            processes: 1,
            split: None,
        }
    }

    fn shown(towers: Vec<Tower>) -> Vec<String> {
        let mut towers = grouped(towers);
        towers.iter_mut().for_each(|tower| tower.name_it(Time::Cpu));
        towers.iter().map(|tower| format!("{} {}", tower.label, tower.weight)).collect()
    }

    #[test]
    fn many_short_processes_of_one_name_are_one_tower() {
        let compilers = (0..5000).map(|_| tower("cc1", 2));
        let all = [tower("make", 900)].into_iter().chain(compilers).chain([tower("ld", 100)]);
        assert_eq!(
            shown(all.collect()),
            ["make 900", "cc1 ×5,000 10000", "ld 100"].map(String::from)[..]
        );
    }

    #[test]
    fn what_is_too_narrow_to_read_is_the_last_tower() {
        let all = vec![
            tower("a", 1),
            tower("sort", 500),
            tower("b", 2),
            tower("uniq", 500),
            tower("c", 1),
        ];
        assert_eq!(shown(all), ["sort 500", "uniq 500", "3 other processes 4"]);
        assert_eq!(shown(vec![tower("a", 1), tower("sort", 999)]), ["sort 999", "a 1"]);
    }

    #[test]
    fn two_members_of_one_name_that_can_be_read_stay_two() {
        assert_eq!(shown(vec![tower("cat", 40), tower("gzip", 9), tower("cat", 51)]).len(), 3);
    }
}
