//! A table for spreadsheets: a row for each stack of each member, with the columns to group by.

use std::borrow::Cow;
use std::io::Write;

use pipeprof_profiler::profile::{FrameId, StackWeight, WeightUnit};

use super::{Source, pipe_name};
use crate::error::Error;
use crate::escape::{csv_cell, folded, printable};
use crate::flamegraph::Time;

/// Writes the rows of [`Time::Cpu`], [`Time::Blocked`] or, for [`Time::Wall`], both, and one for
/// the time that each member waited for a CPU.
///
/// # Errors
/// [`Error::Write`] where `out` fails.
pub fn render(source: &Source<'_>, time: Time, mut out: impl Write) -> Result<(), Error> {
    let (profile, roles) = (&source.run.profile, &source.run.roles);
    // Occurrences of an event are not time, so they get a column of their own.
    let event = match profile.quality.unit {
        WeightUnit::Nanoseconds => None,
        WeightUnit::Events => Some(printable(&profile.quality.event)),
    };
    let mut header = vec![
        "member", "pid", "end", "state", "role", "pipe", "function", "object", "samples", "time_ns",
    ];
    header.extend(event.as_deref());
    header.push("stack");
    row(&mut out, header.into_iter().map(Cow::Borrowed))?;
    for (index, member) in source.members() {
        let comm = printable(&member.comm);
        let mut put = |state: &str, role: &str, pipe: String, weight: &StackWeight| {
            let stack = profile.stack(weight.stack);
            let leaf = stack.first().map(|&leaf| profile.frame(leaf));
            let on_cpu = state == ON_CPU;
            let counted = event.is_some() && on_cpu;
            let mut cells: Vec<Cow<'_, str>> = vec![
                comm.clone(),
                member.pid.to_string().into(),
                member.end.map_or("", |end| end.as_str()).into(),
                state.into(),
                role.into(),
                pipe.into(),
                leaf.map_or("".into(), |leaf| printable(&leaf.name)),
                leaf.and_then(|leaf| leaf.module.as_deref()).map_or("".into(), printable),
                weight.samples.to_string().into(),
                if counted { "".into() } else { weight.weight.to_string().into() },
            ];
            if event.is_some() {
                cells.push(if counted { weight.weight.to_string().into() } else { "".into() });
            }
            cells.push(line(source, stack).into());
            row(&mut out, cells.into_iter())
        };
        if time != Time::Blocked {
            for weight in member.on_cpu.iter().filter(|weight| weight.samples > 0) {
                let pipe =
                    source.pipe_at_work(index, weight.stack).map_or(String::new(), pipe_name);
                put(ON_CPU, roles.role(weight.stack).label(), pipe, weight)?;
            }
        }
        if time != Time::Cpu {
            for weight in member.blocked.iter().filter(|weight| weight.weight > 0) {
                let reason = roles.reason(profile, profile.stack(weight.stack));
                let pipe = source.pipe_waited_for(index, reason).map_or(String::new(), pipe_name);
                put("blocked", reason.label(), pipe, weight)?;
            }
        }
        if let (Time::Wall, Some(split)) = (time, member.time) {
            let mut cells = [""; 12].map(Cow::Borrowed);
            cells[0] = comm.clone();
            cells[1] = member.pid.to_string().into();
            cells[2] = member.end.map_or("", |end| end.as_str()).into();
            cells[3] = "runnable".into();
            cells[9] = split.runnable_ns.to_string().into();
            let columns = if event.is_some() { 12 } else { 11 };
            row(&mut out, cells.into_iter().take(columns))?;
        }
    }
    Ok(())
}

const ON_CPU: &str = "on CPU";

fn line(source: &Source<'_>, stack: &[FrameId]) -> String {
    let names = stack.iter().rev().map(|&frame| folded(&source.run.profile.frame(frame).name));
    names.collect::<Vec<_>>().join(";")
}

/// Lines end as those of Unix do.
fn row<'a>(out: &mut impl Write, cells: impl Iterator<Item = Cow<'a, str>>) -> std::io::Result<()> {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        out.write_all(csv_cell(&cell).as_bytes())?;
    }
    out.write_all(b"\n")
}
