//! Folded stacks: one line a stack, as `inferno-flamegraph`, `flamegraph.pl` and speedscope read them.
//!
//! `member;frame;frame… weight`, root first, in byte order. Kernel frames end in `_[k]` and inlined
//! ones in `_[i]`, as `inferno-collapse-perf --annotate-kernel` and its kin have it: the viewers
//! take those off again and colour by them. Where blocked time is in view too, `on CPU` or `blocked`
//! follows the member.

use std::collections::BTreeMap;
use std::io::Write;

use pipeprof_profiler::profile::{FrameKind, MemberProfile, Mode, Profile};

use crate::error::Error;
use crate::escape::folded;
use crate::flamegraph::{Time, View, member_label, members};
use crate::run::Run;

/// Writes the stacks of a profile. Their weights add up to the profile's.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render(run: &Run, view: View, out: impl Write) -> Result<(), Error> {
    let shown = members(run, view).into_iter().map(|(_, member)| member);
    render_members(&run.profile, shown, view.time, out)
}

/// Writes the stacks of these members.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render_members<'a>(
    profile: &Profile,
    members: impl Iterator<Item = &'a MemberProfile>,
    time: Time,
    mut out: impl Write,
) -> Result<(), Error> {
    let names: Vec<String> = profile
        .frames()
        .iter()
        .map(|frame| {
            let mut name = folded(&frame.name);
            name.push_str(match (frame.mode, frame.kind) {
                (Mode::Kernel, _) => "_[k]",
                (Mode::User, FrameKind::Inlined) => "_[i]",
                (Mode::User, _) => "",
            });
            name
        })
        .collect();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for member in members {
        let label = folded(&member_label(member));
        let on_cpu = member.on_cpu.iter().filter(|_| time != Time::Blocked);
        let blocked = member.blocked.iter().filter(|_| time != Time::Cpu);
        let both = on_cpu.map(|weight| (weight, "on CPU")).chain(blocked.map(|w| (w, "blocked")));
        for (weight, part) in both.filter(|(weight, _)| weight.weight > 0) {
            let mut line = label.clone();
            if time != Time::Cpu {
                line.push(';');
                line.push_str(part);
            }
            for frame in profile.stack(weight.stack).iter().rev() {
                line.push(';');
                line.push_str(&names[frame.index()]);
            }
            *lines.entry(line).or_default() += weight.weight;
        }
    }
    for (stack, weight) in lines {
        writeln!(out, "{stack} {weight}")?;
    }
    Ok(())
}
