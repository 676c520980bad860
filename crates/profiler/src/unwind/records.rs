//! Writes a recording's records again, with callers in place of registers and stack slices.
//!
//! The output looks like a recording by frame pointer, so nothing after this needs to know how
//! callers were found: neither the analysis, nor `perf`, nor another machine without the programs.
//! It is also a fiftieth of the size, and holds no stack contents.

use std::io::{self, Write};
use std::time::SystemTime;

use super::StackUnwinder;
use crate::address_space::AddressSpaces;
use crate::members::Members;
use crate::paging::Paging;
use crate::perfdata::layout::{Layout, Sample};
use crate::perfdata::read::PerfDataFile;
use crate::perfdata::record::{CONTEXT_USER, Parsed, RECORD_HEADER, Record, kind, parse};
use crate::profile::Unwinding;
use crate::recording::meta::Meta;
use crate::time_order::each_in_time_order;

/// Records between two marks of a round, up to which a reader holds them back to sort them.
const ROUND: usize = 1 << 12;

/// Which machine was recorded, and whose stacks count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded<'a> {
    /// The members; without any, every process is one.
    pub(crate) meta: &'a Meta,
    /// Release of the kernel; empty where unknown.
    pub(crate) release: &'a str,
    /// Architecture of the machine, where known.
    pub(crate) arch: Option<&'a str>,
    /// When it ended, where that was not a moment ago.
    pub(crate) until: Option<SystemTime>,
}

/// Some event of the file has slices of the stack with its samples.
pub(crate) fn are_needed(file: &PerfDataFile) -> bool {
    file.events.iter().any(|event| event.layout.has_stack_slices())
}

/// Writes the records of a file in the order of time, its samples in
/// [the layout without slices](Layout::unwound).
///
/// # Errors
/// What `out` answers.
pub(crate) fn write(
    file: &PerfDataFile,
    bytes: &[u8],
    paging: Paging<'_>,
    recorded: Recorded<'_>,
    out: &mut impl Write,
) -> io::Result<Unwinding> {
    let mut rewriting = Rewriting {
        members: Members::new(recorded.meta),
        spaces: AddressSpaces::default(),
        unwinder: StackUnwinder::new(recorded, file.build_ids.clone()),
        chain: Vec::new(),
        bytes: Vec::new(),
        of_round: 0,
    };
    // A full disk ends the writing, and the pass goes on to its end in vain.
    let mut written = Ok(());
    each_in_time_order(file, bytes, paging, |record, event| {
        if written.is_ok() {
            written = rewriting.take(record, file.events[event].layout, out);
        }
    });
    written?;
    Ok(rewriting.unwinder.finish())
}

struct Rewriting {
    members: Members,
    spaces: AddressSpaces,
    unwinder: StackUnwinder,
    chain: Vec<u64>,
    bytes: Vec<u8>,
    of_round: usize,
}

impl Rewriting {
    fn take(
        &mut self,
        record: &Record<'_>,
        layout: Layout,
        out: &mut impl Write,
    ) -> io::Result<()> {
        match parse(record, layout) {
            Some(Parsed::Sample(sample)) if layout.has_stack_slices() => {
                self.sample(record, layout, &sample, out)?;
            }
            parsed => {
                match parsed {
                    Some(Parsed::Mapping(mapping)) => {
                        self.spaces.map(&mapping, layout.time(record));
                    }
                    Some(Parsed::Comm(comm)) if comm.exec => self.spaces.exec(comm.pid),
                    Some(Parsed::Fork(task)) => {
                        self.members.fork(task, layout.time(record));
                        self.spaces.fork(task.parent_pid, task.pid);
                    }
                    _ => {}
                }
                push(record, record.body, out)?;
            }
        }
        self.of_round += 1;
        if self.of_round == ROUND {
            self.of_round = 0;
            let (kind, misc) = (kind::FINISHED_ROUND, 0);
            push(&Record { kind, misc, body: &[] }, &[], out)?;
        }
        Ok(())
    }

    fn sample(
        &mut self,
        record: &Record<'_>,
        layout: Layout,
        sample: &Sample<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.chain.clear();
        // The kernel's half; of the other perf may note the first address.
        self.chain.extend(sample.chain().take_while(|&word| word != CONTEXT_USER));
        let pid = sample.id.pid.unwrap_or(-1);
        if let Some(user) = &sample.user
            && self.members.sampled(pid).is_some()
        {
            self.unwinder.unwind(&self.spaces, pid, user, &mut self.chain);
        }
        self.bytes.clear();
        layout.write_unwound(sample, &self.chain, &mut self.bytes);
        push(record, &self.bytes, out)
    }
}

/// Writes a record with another body. One that is too long for a record is left out; no chain is.
fn push(record: &Record<'_>, body: &[u8], out: &mut impl Write) -> io::Result<()> {
    let Ok(size) = u16::try_from(RECORD_HEADER + body.len()) else { return Ok(()) };
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&record.kind.to_ne_bytes());
    header[4..6].copy_from_slice(&record.misc.to_ne_bytes());
    header[6..].copy_from_slice(&size.to_ne_bytes());
    out.write_all(&header)?;
    out.write_all(body)
}
