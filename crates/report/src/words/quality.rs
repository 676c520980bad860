//! What limits trust in the numbers, in words.

use std::fmt::Write as _;

use pipeprof_profiler::effect::{Basis, Effect, Slowdown};
use pipeprof_profiler::profile::{Quality, Scope, Unwinding};

use crate::escape::printable;
use crate::roles::Role;
use crate::summary::{Absorber, Summary};
use crate::words::name;
use crate::words::units::{counted, share, thousands};

/// What limits trust in the numbers, a line each; one of level 1 belongs to the line of level 0
/// before it.
pub(crate) fn lines(summary: &Summary) -> Vec<(usize, String)> {
    let quality = &summary.quality.recorded;
    let mut lines: Vec<(usize, String)> =
        recorded(quality).into_iter().map(|line| (0, line)).collect();
    let samples: u64 = summary.members.iter().map(|member| member.samples).sum();
    match summary.quality.skid.as_deref() {
        Some([]) if quality.kernel_visible && samples > 0 => {
            let line = format!(
                "{} cannot see code that runs with interrupts disabled; there was little of it, as \
                 no sample was taken where interrupts are enabled again",
                sampling_by(quality)
            );
            lines.push((0, line));
        }
        Some(skid @ [_, ..]) => lines.extend(skidded(summary, skid)),
        _ => {}
    }
    if summary.quality.inferred_samples > 0 {
        let line = format!(
            "{} ({}) are wake-ups or ends of waits: both end in the sampled function, no other \
             call chain shows which was called, and the kernel's code cannot be read (/proc/kcore)",
            counted(summary.quality.inferred_samples, "sample", "samples"),
            share(summary.quality.inferred_samples, samples),
        );
        lines.push((0, line));
    }
    let roles = summary.members.iter().flat_map(|member| &member.roles);
    let watching = roles.filter(|share| share.role == Role::Profiling);
    let watching: u64 = watching.map(|share| share.samples).sum();
    if watching * 100 >= samples.max(1) {
        let line = format!(
            "{} ({}) are in code that counts and records events for a profiler: profiling \
             overhead, which no other role includes",
            counted(watching, "sample", "samples"),
            share(watching, samples),
        );
        lines.push((0, line));
    }
    lines
}

/// What the samples of a member are, so that a share is one `of CPU`.
pub(crate) fn whole(quality: &Quality) -> &'static str {
    match (quality.samples_cpu_time(), quality.kernel_visible) {
        (true, true) => "of CPU",
        (true, false) => "of user CPU",
        (false, _) => "of events",
    }
}

/// The warnings for the short screen, a few words each.
pub(crate) fn warnings(summary: &Summary) -> Vec<String> {
    let quality = &summary.quality.recorded;
    let mut warnings = Vec::new();
    // What was lost may be of other processes, as what was taken is.
    let all = quality.samples + quality.foreign_samples + quality.lost;
    if quality.lost.saturating_mul(100) > all {
        warnings.push(format!("{} of the samples were lost", share(quality.lost, all)));
    }
    if quality.throttled * 100 > quality.samples {
        warnings
            .push(format!("the kernel throttled sampling {} times", thousands(quality.throttled)));
    }
    if let Some(effect @ Effect::Measured { slowdown, .. }) = &quality.sampling_effect
        && slowdown.low_percent > NOTICED_PERCENT
    {
        warnings.push(sampling_effect(effect));
    }
    if !quality.kernel_visible {
        warnings.push("kernel code was not measured".to_owned());
    }
    if quality.cut_short {
        warnings.push("the recording is incomplete".to_owned());
    }
    warnings
}

/// What samples by an interrupt that waits while interrupts are off.
fn sampling_by(quality: &Quality) -> &'static str {
    if quality.timer_driven { "timer sampling" } else { "sampling by this CPU's counters" }
}

fn skidded(summary: &Summary, skid: &[Absorber]) -> Vec<(usize, String)> {
    let line = format!(
        "{} cannot see code that runs with interrupts disabled; its time is charged to the caller, \
         where interrupts are enabled again:",
        sampling_by(&summary.quality.recorded)
    );
    let mut lines = vec![(0, line)];
    for absorber in skid {
        let each: Vec<String> = summary
            .members
            .iter()
            .zip(&absorber.samples)
            .filter(|(_, samples)| **samples > 0)
            .map(|(of, samples)| {
                let who = name::short(of.end, &of.comm);
                format!("{who} {} ({})", thousands(*samples), share(*samples, of.samples))
            })
            .collect();
        lines.push((1, format!("{}: {}", printable(&absorber.function), each.join(", "))));
    }
    for of in &summary.members {
        let each: Vec<String> = of
            .roles
            .iter()
            .filter(|role| role.deferred_samples > 0)
            .map(|role| {
                format!("{} {}", role.role.label(), share(role.deferred_samples, role.samples))
            })
            .collect();
        if !each.is_empty() {
            let who = name::short(of.end, &of.comm);
            lines.push((1, format!("{who}, share of each role's samples: {}", each.join(", "))));
        }
    }
    lines
}

fn recorded(quality: &Quality) -> Vec<String> {
    if !quality.has_event() {
        return vec!["no event: the kernel refused every one, so nothing was sampled".to_owned()];
    }
    let mut event = format!("event {}", printable(&quality.event));
    if let Some(hz) = quality.frequency_hz {
        let _ = match quality.frequency_range_hz {
            Some((lowest, highest)) => {
                write!(event, " at {lowest} to {highest} Hz, mostly {hz} Hz")
            }
            None => write!(event, " at {hz} Hz"),
        };
    }
    event.push_str(match quality.scope {
        Scope::PerCpu => " on each CPU",
        // Of the clocks alone (docs/measurement.md): what is counted goes on where it stopped.
        Scope::PerTask if quality.timer_driven => {
            " on each thread, which favours code near context switches"
        }
        Scope::PerTask => " on each thread",
    });
    if let Some(why) = &quality.fallback {
        let _ = write!(event, "; not the default event: {}", printable(why));
    }
    let mut counts = format!(
        "{}, {} lost, {} throttled, {} of frames unresolved, {} truncated",
        counted(quality.samples, "sample", "samples"),
        thousands(quality.lost),
        thousands(quality.throttled),
        share(quality.unresolved_frames, quality.frames.max(1)),
        counted(quality.truncated_stacks, "call chain", "call chains"),
    );
    if quality.foreign_samples > 0 {
        let _ = write!(
            counts,
            ", {} samples of other processes ignored",
            thousands(quality.foreign_samples)
        );
    }
    let mut lines = vec![event, counts];
    lines.extend(quality.sampling_effect.as_ref().map(sampling_effect));
    if !quality.kernel_visible {
        lines.push(
            "kernel code was not measured: the kernel allowed this event user code only".into(),
        );
    }
    if quality.cut_user_stacks > 0 {
        lines.push(format!(
            "{} truncated in user code built without frame pointers; --call-graph dwarf finds the \
             callers",
            counted(quality.cut_user_stacks, "call chain", "call chains")
        ));
    }
    lines.extend(quality.unwinding.as_ref().map(unwound));
    if quality.malformed_records > 0 {
        let records = counted(quality.malformed_records, "malformed record", "malformed records");
        lines.push(format!("{records} skipped"));
    }
    if quality.cut_short {
        lines.push("the recording is incomplete: it ends within a record".into());
    }
    lines.extend(quality.notes.iter().map(|note| printable(note).into_owned()));
    lines
}

/// A slowdown above this is worth a warning.
const NOTICED_PERCENT: f64 = 2.0;

/// What sampling did to the pipeline.
pub(crate) fn sampling_effect(effect: &Effect) -> String {
    match effect {
        Effect::Measured { slowdown, basis } => {
            let Slowdown { percent, low_percent, high_percent, .. } = slowdown;
            let what = match basis {
                Basis::Bytes => "slowed the pipeline",
                Basis::CpuTime => "raised the CPU time of the pipeline",
            };
            // No "-0.0".
            let percent = if percent.abs() < 0.05 { 0.0 } else { *percent };
            format!(
                "sampling {what} by {percent:.1} % (95 %: {low_percent:.1} to {high_percent:.1} %)"
            )
        }
        Effect::Unknown { why } => {
            format!("the slowdown by sampling is unknown: {}", printable(why))
        }
    }
}

/// How far user stacks could be unwound, and what stopped the others.
fn unwound(unwinding: &Unwinding) -> String {
    let stacks = unwinding.stacks.max(1);
    let mut line = format!(
        "{} user stacks unwound, {} of them completely",
        thousands(unwinding.stacks),
        share(unwinding.rooted, stacks)
    );
    let stopped = [
        (unwinding.short, "longer than the recorded slice (--call-graph dwarf,65528 records more)"),
        (unwinding.uninformed, "truncated in code without unwind information"),
        (unwinding.astray, "truncated where a return address is not in code"),
        (unwinding.deep, "too deep"),
        (unwinding.stackless, "more without a copy of the stack"),
    ];
    for (count, why) in stopped.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(line, ", {} {why}", thousands(count));
    }
    if !unwinding.uninformed_in.is_empty() {
        let names = unwinding.uninformed_in.iter().map(|(name, _)| printable(name));
        let names = names.collect::<Vec<_>>().join(", ");
        let _ = write!(line, "; without unwind information: {names}");
    }
    line
}
