//! Towers: what stands above the label of each member, and how wide.

use pipeprof_profiler::profile::{MemberProfile, Profile, StackId};

use super::mark::{self, Mark};
use super::{Time, View, member_label, members};
use crate::error::Error;
use crate::highlight::Highlights;
use crate::ledger::percent;
use crate::roles::{Classification, Role};
use crate::run::Run;
use crate::words::units::GIB;

/// A member of the picture.
pub(super) struct Tower {
    pub(super) label: String,
    /// One without a label where the picture shows nothing else of the member.
    pub(super) parts: Vec<Part>,
    pub(super) weight: u64,
}

/// Stacks of one kind, side by side.
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) stacks: Vec<(StackId, u64)>,
    /// Width that no stack accounts for.
    rest: u64,
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
    fn label(self) -> &'static str {
        match self {
            Kind::OnCpu => "on CPU",
            Kind::Blocked => "blocked",
            Kind::Runnable => "runnable, waiting for a CPU",
        }
    }

    /// The part at this place of a mark.
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

/// The towers in view, in pipeline order.
pub(super) fn towers(run: &Run, view: View) -> Result<Vec<Tower>, Error> {
    let mut shown = members(run, view);
    // A shell that waits for the pipeline would be as wide as the pipeline.
    if view.time != Time::Cpu && shown.iter().any(|&(member, _)| run.holds_pipe(member)) {
        shown.retain(|&(member, _)| run.holds_pipe(member));
    }
    let mut towers = Vec::with_capacity(shown.len());
    let mut unknown = None;
    for (index, member) in shown {
        let mut tower = tower(member, view.time);
        if view.per_byte {
            let moved = run.moved(index);
            let Some(bytes) = moved.bytes.filter(|bytes| *bytes > 0) else {
                unknown = unknown.or(Some(moved.what));
                continue;
            };
            tower.scale(GIB / bytes as f64);
        }
        if tower.weight > 0 {
            towers.push(tower);
        }
    }
    if towers.is_empty() && view.per_byte {
        let why = unknown.unwrap_or_else(|| "nothing was metered".to_owned());
        return Err(Error::NoBytes { why });
    }
    Ok(towers)
}

fn tower(member: &MemberProfile, time: Time) -> Tower {
    let pairs = |stacks: &[pipeprof_profiler::profile::StackWeight]| -> Vec<(StackId, u64)> {
        stacks.iter().filter(|w| w.weight > 0).map(|w| (w.stack, w.weight)).collect()
    };
    let mut label = member_label(member);
    let on_cpu = pairs(&member.on_cpu);
    let parts = match (time, member.time) {
        // Where no switch was recorded nobody knows who slept, and time on a CPU is not it.
        (Time::Blocked, None) => Vec::new(),
        (Time::Cpu, _) | (Time::Wall, None) => {
            vec![Part { kind: Kind::OnCpu, stacks: on_cpu, rest: 0 }]
        }
        (Time::Blocked, Some(split)) => {
            vec![Part::scaled(Kind::Blocked, &pairs(&member.blocked), split.blocked_ns)]
        }
        (Time::Wall, Some(split)) => {
            let share = |ns| percent(ns, split.lifetime_ns);
            label += &format!(
                ": {:.0}% cpu, {:.0}% blocked, {:.0}% runnable",
                share(split.on_cpu_ns),
                share(split.blocked_ns),
                share(split.runnable_ns)
            );
            vec![
                Part::scaled(Kind::OnCpu, &on_cpu, split.on_cpu_ns),
                Part::scaled(Kind::Blocked, &pairs(&member.blocked), split.blocked_ns),
                Part { kind: Kind::Runnable, stacks: Vec::new(), rest: split.runnable_ns },
            ]
        }
    };
    let weight = parts.iter().map(Part::weight).sum();
    Tower { label, parts, weight }
}

impl Tower {
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
}

/// One line a stack, root first, each name followed by its mark.
pub(super) fn lines(
    profile: &Profile,
    roles: &Classification,
    highlights: &Highlights,
    towers: &[Tower],
) -> Vec<String> {
    let highlighted = highlights.of_frames(profile);
    let names: Vec<String> = profile.frames().iter().map(|f| mark::guard(&f.name)).collect();
    let mut lines = Vec::new();
    for (position, tower) in towers.iter().enumerate() {
        for part in &tower.parts {
            let mut label = mark::tower(position, &tower.label);
            if tower.parts.len() > 1 || part.kind != Kind::OnCpu {
                label.push(';');
                label.push_str(&mark::part(part.kind as usize, part.kind.label()));
            }
            if part.rest > 0 {
                lines.push(format!("{label} {}", part.rest));
            }
            for &(stack, weight) in part.stacks.iter().filter(|(_, weight)| *weight > 0) {
                let stack = profile.stack(stack);
                let mut line = String::with_capacity(stack.len() * 24 + 64);
                line.push_str(&label);
                let mut role_below: Option<Role> = None;
                for depth in (0..stack.len()).rev() {
                    let role = match part.kind {
                        Kind::Blocked => roles.blocked_role(&stack[depth..]),
                        _ => roles.prefix_role(&stack[depth..]),
                    };
                    let frame = stack[depth].index();
                    let opens = role_below != Some(role);
                    line.push(';');
                    line.push_str(&names[frame]);
                    line.push(Mark { role, opens, highlight: highlighted[frame] }.to_char());
                    role_below = Some(role);
                }
                line.push(' ');
                line.push_str(&weight.to_string());
                lines.push(line);
            }
        }
    }
    lines
}
