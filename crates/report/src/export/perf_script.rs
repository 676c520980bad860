//! Text as `perf script` prints it, which stackcollapse-perf.pl and many others read: a block for
//! each sample on a CPU, in the order of time.

use std::collections::HashSet;
use std::io::Write;

use pipeprof_profiler::profile::{Frame, FrameKind, Mode, Profile};
use pipeprof_profiler::timeline::{Doing, Moment, Timeline};

use super::Source;
use crate::error::Error;
use crate::escape::folded;

/// Writes the samples one by one; memory doesn't grow with their number.
///
/// # Errors
/// [`Error::Write`] where `out` fails.
pub fn render(source: &Source<'_>, timeline: &Timeline, mut out: impl Write) -> Result<(), Error> {
    let lines = lines(&source.run.profile);
    let event: String = folded(&source.run.profile.quality.event).replace(' ', "_");
    let shown: HashSet<usize> = source.members.iter().copied().collect();
    let comms: Vec<String> =
        source.run.profile.members.iter().map(|member| folded(&member.comm)).collect();
    for moment in timeline.moments().filter(|moment| shown.contains(&moment.member)) {
        let Moment { time_ns, member, pid, tid, cpu, .. } = moment;
        let (Doing::Running { period }, Some(stack)) = (moment.doing, moment.stack) else {
            continue;
        };
        let comm = comms.get(member).map_or("", String::as_str);
        write!(out, "{comm} {pid}/{tid} ")?;
        if let Some(cpu) = cpu {
            write!(out, "[{cpu:03}] ")?;
        }
        let (seconds, nanos) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
        writeln!(out, "{seconds}.{nanos:09}: {period:>10} {event}: ")?;
        for frame in source.run.profile.stack(stack) {
            out.write_all(lines[frame.index()].as_bytes())?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A line for each frame of the profile.
fn lines(profile: &Profile) -> Vec<String> {
    let ids = profile.stack_ids().flat_map(|stack| profile.stack(stack));
    let mut lines = vec![String::new(); profile.frames().len()];
    for &id in ids {
        let line = &mut lines[id.index()];
        if line.is_empty() {
            let address = profile.address(id).unwrap_or(0);
            *line = format!("\t{address:16x} {}\n", place(profile.frame(id)));
        }
    }
    lines
}

/// `anon_pipe_write+0x3b2 ([kernel.kallsyms])`.
fn place(frame: &Frame) -> String {
    let module = frame.module.as_deref().map_or("[unknown]".to_owned(), |module| {
        // Readers take the last word for the object.
        folded(module).replace(' ', "_")
    });
    match (frame.kind, frame.mode) {
        (FrameKind::Inlined, _) => format!("{} (inlined)", folded(&frame.name)),
        (FrameKind::Symbol, _) => format!("{}+{:#x} ({module})", folded(&frame.name), frame.offset),
        // Readers put the object in its place.
        (FrameKind::Unresolved, Mode::User) => format!("[unknown] ({module})"),
        (FrameKind::Unresolved, Mode::Kernel) => format!("{} ({module})", folded(&frame.name)),
    }
}
