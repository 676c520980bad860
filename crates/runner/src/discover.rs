//! Finds any pipeline from one of its processes.
//!
//! Data flows from the process that holds a pipe's write end to the one that holds its read end.
//! But descriptors are inherited, so many processes hold an end that they never use. A pipe joins
//! two processes only where **distinct processes hold distinct ends**, and these rules say who
//! counts.
//!
//! At one end of a pipe:
//!
//! - *Both ends in one process count as none.* Self-pipes of event loops, job servers, a shell
//!   between two forks, a server that keeps a "parent is alive" pipe: no flow can be told from it.
//! - *Stderr is a log, not a flow.* A writer that has the pipe as descriptor 2 only doesn't count:
//!   members of unrelated pipelines write their complaints to one log. The exception is the only
//!   writer of a pipe whose reader did not start it: `a 2>&1 >/dev/null | grep …`.
//! - *A descriptor is meant or it leaked.* It is meant as stdin of a reader, stdout of a writer,
//!   named on the command line (`/dev/fd/63`, what `>(…)` becomes), or close-on-exec where no
//!   ancestor has it under the same number. Beside a holder that means it, one that doesn't is
//!   left out (bash leaks the pipe of a first `<(…)` to the second). Where nobody means it, whoever
//!   has it from an ancestor under the same number is left out.
//! - *A process that only waits is a wrapper.* A shell that sleeps until its child ends, while a
//!   descendant holds every end that it holds, and that has itself read and written no more than
//!   start-up needs (a subshell nothing), is not a member: `x | sh -c 'a | b' | y` is x, a, b,
//!   y. It is listed in [`Found::wrappers`], because what it starts next belongs to the pipeline.
//!   Without that proof both holders are listed: a loop `while read x; do cmd; done` reads by
//!   itself, between its commands.
//!
//! A connection between two sockets is a link only where it carries a payload, and that one way; the
//! rules are in `discover/sockets.rs`. From there on it is treated like a pipe.
//!
//! From process to process:
//!
//! - *A link is followed wherever it leads*, up and down. What shares an end is followed within the
//!   job only: the same process group as this process or as the other end, or started by one of
//!   those. So all workers of `xargs -P8` feed one `sort`, and two jobs of a terminal whose output
//!   goes through one `tee` stay two pipelines. A named FIFO is opened on purpose, so there all count.
//! - *A supervisor passes a flow on but does not join unrelated processes.* A process that captures
//!   the output of what it started (an ancestor whose end is close-on-exec, as libraries make it:
//!   cargo, a CI runner, Python's `subprocess`) reads the data, so it is a member. From one of its
//!   children the walk goes on along its own pipes, and straight on (`pg_dump`, a script, `gzip`),
//!   but neither turns round to another child whose output it captures, nor passes to or from a
//!   child that it talks to both ways (a language server, a shell behind an editor). The
//!   supervisor's own pid finds them all.
//!
//! One pass sees processes come and go: those that vanish are skipped, and those of other users
//! that may not be read are counted ([`Found::unreadable`]).

mod ends;
mod error;
mod files;
mod level;
mod looker;
mod mounted;
mod process;
pub(crate) mod resize;
mod scan;
mod sockets;
pub(crate) mod sys;
mod table;
mod topology;
mod walk;

pub use error::DiscoverError;
pub use files::{OpenFile, open_files};
pub use level::never_look;
pub use looker::{Level, Look};
pub use mounted::check_proc;
pub use process::{parent_of, threads, user_of};
pub use scan::ProcessReader;
pub use table::{Access, Calls, Descriptor, HeldSocket, ProcTable, Process};
pub use topology::{Found, pipeline_of, pipelines, tree_of};

use crate::proc_file;
use std::collections::HashSet;

use crate::pipeline::{Member, MemberId};

pub use crate::pipeline::PipeKey;

/// How far a pipeline is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Wherever data flows from or to.
    #[default]
    Whole,
    /// The processes that were named, and the pipes between them. Processes that were not named
    /// don't exist for the rules, so that even a shared log joins two that were.
    OnlyThese,
}

/// The pipeline that the processes with these pids belong to. A thread's id stands for its process.
///
/// A process in no pipeline is one of a single member without pipes.
///
/// # Errors
///
/// A pid that no process has, whose descriptors may not be read, or that is the caller's own; and
/// `/proc` not being there.
pub fn discover(pids: &[i32], extent: Extent) -> Result<Found, DiscoverError> {
    check_proc()?;
    let mut wanted = Vec::with_capacity(pids.len());
    for &pid in pids {
        wanted.push(process::thread_group(pid)?);
    }
    let mut table = scan::scan()?.hiding([own_pid(), looker::pid()]);
    for &pid in &wanted {
        if table.get(pid).is_none() {
            return Err(DiscoverError::NoSuchProcess { pid });
        }
        process::check_readable(pid)?;
    }
    if extent == Extent::OnlyThese {
        table = table.only(|process| wanted.contains(&process.pid));
    }
    Ok(completed(pipeline_of(&table, &wanted)))
}

/// As [`discover`], for processes that were found before: those that have ended are skipped, even
/// if their pids are in use again. With those that were read in between and may have ended.
///
/// # Errors
///
/// None of them is there any more, or may be read; and `/proc` not being there.
pub fn discover_again(
    known: &[MemberId],
    extent: Extent,
    ended: Vec<Process>,
) -> Result<Found, DiscoverError> {
    let table = scan::scan()?;
    let ids: HashSet<MemberId> = known.iter().copied().collect();
    let is_known = |process: &&Process| {
        let MemberId { pid, .. } = process.id();
        ids.contains(&process.id()) || ids.contains(&MemberId { pid, start_time: None })
    };
    let wanted: Vec<i32> = table.processes().iter().filter(is_known).map(|p| p.pid).collect();
    let Some(&first) = wanted.first() else {
        let pid = known.first().map_or(0, |id| id.pid);
        return Err(DiscoverError::NoSuchProcess { pid });
    };
    process::check_readable(first)?;
    let mut table = table.with_ended(ended).hiding([own_pid(), looker::pid()]);
    if extent == Extent::OnlyThese {
        table = table.only(|process| wanted.contains(&process.pid));
    }
    Ok(completed(pipeline_of(&table, &wanted)))
}

/// All that the process `root` started, without itself, and the pipes between them, while `command`,
/// one of them, has not been waited for; or, with processes that were seen and may have ended, what
/// these make with those that are there.
pub(crate) fn discover_below(
    root: i32,
    command: i32,
    seen: Vec<Process>,
) -> Result<Found, DiscoverError> {
    let nobody_was_seen = seen.is_empty();
    let table = scan::scan_tree(root).map_or_else(scan::scan, Ok)?.with_ended(seen);
    if table.get(command).is_none() && nobody_was_seen {
        return Err(DiscoverError::NoSuchProcess { pid: command });
    }
    Ok(completed(topology::below(&table, root)))
}

/// Every pipeline of the machine, in the order in which their first members started, without the
/// caller and what only the caller feeds; and how many processes may not be read.
///
/// # Errors
///
/// `/proc` is not there.
pub fn discover_all() -> Result<(Vec<Found>, usize), DiscoverError> {
    let table = scan::scan()?.hiding([looker::pid()]);
    Ok((pipelines(&table, own_pid()), table.unreadable))
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// The scan asks only those that hold pipes for their command line.
fn completed(mut found: Found) -> Found {
    let Found { pipeline, wrappers, .. } = &mut found;
    for member in pipeline.members.iter_mut().chain(wrappers) {
        if member.command_line.is_empty() {
            member.command_line = command_line(member);
        }
    }
    found
}

fn command_line(member: &Member) -> Vec<String> {
    let bytes = proc_file::read(format!("/proc/{}/cmdline", member.pid)).unwrap_or_default();
    let same = scan::start_time(member.pid).ok() == member.start_time_ticks;
    if same { scan::split_arguments(&bytes) } else { Vec::new() }
}
