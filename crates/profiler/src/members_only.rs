//! Filters the rings on their way to disk: only records of members, and of no process in
//! particular, are written.
//!
//! An event on a CPU records every process that runs there. A recording must not contain the
//! stacks, call chains, names and addresses of processes outside the pipeline, least of all where
//! the kernel lets an ordinary user open such events. So these records are dropped between ring and
//! file, and only counted.
//!
//! Leftovers in a member's own record are dropped too: where a stack slice is shorter than its
//! space, the rest holds what was in the ring before, often the slice of another process.
//!
//! The members are known from the pipeline, from the FORK records of what members start, and from
//! the watch, which finds members that join. A child may be sampled on one CPU before the ring of
//! another is read in which its FORK is. So all rings are searched for FORKs before any of them is
//! written, and further ahead than they are written: by then, every record that precedes another in
//! time is in its ring.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::perfdata::layout::Layout;
use crate::perfdata::record::{Parsed, RECORD_HEADER, Record, Task, kind, parse, split_record};
use crate::ring::Ring;
use crate::tasks::threads;
use crate::wakeups::WakeFormat;

/// Processes that the watch found to be members.
pub(crate) type Joined = Arc<Mutex<Vec<i32>>>;

/// Symbols of the kernel and of BPF programs, which are no process's (`PERF_RECORD_KSYMBOL`,
/// `PERF_RECORD_BPF_EVENT`,
/// include/uapi/linux/perf_event.h, v6.18).
const KSYMBOL: u32 = 17;
const BPF_EVENT: u32 = 18;

/// Lets the members' records through.
#[derive(Debug)]
pub(crate) struct MembersOnly {
    layout: Layout,
    /// The layout of wake-ups, how to read them, and the ids of their events.
    wakeups: Option<(Layout, WakeFormat, FxHashSet<u64>)>,
    processes: FxHashMap<i32, Span>,
    threads: FxHashSet<i32>,
    joined: Joined,
    /// Ids of the event whose samples are counted.
    sampled: FxHashSet<u64>,
    left_out: u64,
    /// Space for a record that lies around the end of its ring, and for those that are kept.
    wrapped: Vec<u8>,
    kept: Vec<u8>,
}

/// When a process number was a member's, by the clock of the records.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    until: u64,
}

impl MembersOnly {
    /// The members are `pids` and the processes that are `joined` to them. All events have the
    /// fields of `layout` first, and those with `sampled` ids are the samples that are counted.
    pub(crate) fn new(layout: Layout, sampled: &[u64], pids: &[i32], joined: Joined) -> Self {
        let mut members = MembersOnly {
            layout,
            wakeups: None,
            processes: FxHashMap::default(),
            threads: FxHashSet::default(),
            joined,
            sampled: sampled.iter().copied().collect(),
            left_out: 0,
            wrapped: Vec::new(),
            kept: Vec::new(),
        };
        pids.iter().for_each(|&pid| members.join(pid));
        members
    }

    /// Records of these events are wake-ups: those that wake a member are kept, whichever process
    /// wakes it.
    pub(crate) fn with_wakeups(self, layout: Layout, format: WakeFormat, ids: &[u64]) -> Self {
        MembersOnly { wakeups: Some((layout, format, ids.iter().copied().collect())), ..self }
    }

    /// Samples of other processes, which were not written.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Empties the rings, has what is kept of each appended, and returns the bytes that were there.
    ///
    /// # Errors
    /// What `append` answers. The records of the later rings stay there then.
    pub(crate) fn drain(
        &mut self,
        rings: &mut [Ring],
        mut append: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let ends: Vec<u64> = rings.iter().map(Ring::head).collect();
        self.learn(rings)?;
        let mut drained = 0;
        for (ring, &end) in rings.iter_mut().zip(&ends) {
            self.kept.clear();
            let mut wrapped = std::mem::take(&mut self.wrapped);
            drained += ring.peek(end, |older, newer| {
                each_record(older, newer, &mut wrapped, |bytes, record| self.take(bytes, record));
                older.len() + newer.len()
            })?;
            self.wrapped = wrapped;
            ring.release(end);
            append(&self.kept)?;
        }
        Ok(drained)
    }

    /// How many records that would be kept wait in the rings.
    pub(crate) fn waiting(&self, rings: &[Ring]) -> u64 {
        let (mut count, mut wrapped) = (0, Vec::new());
        for ring in rings {
            // A ring that cannot be read has nothing that waits.
            let _ = ring.peek(ring.head(), |older, newer| {
                each_record(older, newer, &mut wrapped, |_, record| {
                    count += u64::from(self.may_be_kept(&record));
                });
            });
        }
        count
    }

    /// Learns the members from all FORK records so far.
    fn learn(&mut self, rings: &[Ring]) -> io::Result<()> {
        let joined =
            std::mem::take(&mut *self.joined.lock().unwrap_or_else(PoisonError::into_inner));
        joined.into_iter().for_each(|pid| self.join(pid));
        let mut forks: Vec<(u64, Task)> = Vec::new();
        let layout = self.layout;
        let mut wrapped = std::mem::take(&mut self.wrapped);
        for ring in rings {
            ring.peek(ring.head(), |older, newer| {
                each_record(older, newer, &mut wrapped, |_, record| {
                    if record.kind == kind::FORK
                        && let Some(Parsed::Fork(task)) = parse(&record, layout)
                    {
                        forks.push((layout.time(&record).unwrap_or(0), task));
                    }
                });
            })?;
        }
        self.wrapped = wrapped;
        // The parent of a child's child has to be known first.
        forks.sort_by_key(|&(time, _)| time);
        forks.into_iter().for_each(|(time, task)| self.fork(task, time));
        Ok(())
    }

    fn join(&mut self, pid: i32) {
        let known = self.processes.get(&pid).is_some_and(|span| span.until == u64::MAX);
        if !known {
            self.processes.insert(pid, Span { from: 0, until: u64::MAX });
            self.threads.insert(pid);
            self.threads.extend(threads(pid));
        }
    }

    fn fork(&mut self, task: Task, time: u64) {
        let is_thread = task.pid == task.parent_pid;
        if self.is_member(task.parent_pid, time) {
            self.threads.insert(task.tid);
            let span = self.processes.get(&task.pid);
            // A round may be learnt from twice: what was there to be read is there still.
            if !is_thread && span.is_none_or(|span| span.until <= time) {
                self.processes.insert(task.pid, Span { from: time, until: u64::MAX });
            }
            return;
        }
        // A child of a non-member, which may have the pid of a member that has ended.
        self.threads.remove(&task.tid);
        if let Some(span) = self.processes.get_mut(&task.pid).filter(|span| span.from < time) {
            span.until = span.until.min(time);
        }
    }

    fn is_member(&self, pid: i32, time: u64) -> bool {
        self.processes.get(&pid).is_some_and(|span| (span.from..span.until).contains(&time))
    }

    /// Keeps a record, or counts it.
    fn take(&mut self, bytes: &[u8], record: Record<'_>) {
        if self.may_be_kept(&record) {
            let start = self.kept.len() + RECORD_HEADER;
            self.kept.extend_from_slice(bytes);
            if record.kind == kind::SAMPLE
                && let Some(unfilled) = self.layout.unfilled_stack(record.body)
                && let Some(body) = self.kept.get_mut(start..)
                && let Some(unfilled) = body.get_mut(unfilled)
            {
                unfilled.fill(0);
            }
        } else if record.kind == kind::SAMPLE {
            let id = self.layout.event_id(&record);
            self.left_out += u64::from(id.is_some_and(|id| self.sampled.contains(&id)));
        }
    }

    fn may_be_kept(&self, record: &Record<'_>) -> bool {
        let time = self.layout.time(record).unwrap_or(0);
        match record.kind {
            kind::LOST | kind::LOST_SAMPLES | kind::THROTTLE | kind::UNTHROTTLE => true,
            KSYMBOL | BPF_EVENT => true,
            kind::FORK => match parse(record, self.layout) {
                // Only pids and tids; and that a member's pid was given to another process.
                Some(Parsed::Fork(task)) => {
                    self.is_member(task.parent_pid, time) || self.processes.contains_key(&task.pid)
                }
                _ => false,
            },
            kind::SAMPLE => self.is_sample_of_member(record, time),
            kind::MMAP | kind::MMAP2 | kind::COMM | kind::EXIT => {
                // Their own first word. It is -1 for the kernel.
                let pid = record.body.first_chunk::<4>().map(|pid| i32::from_ne_bytes(*pid));
                pid.is_some_and(|pid| pid == -1 || self.is_member(pid, time))
            }
            _ => self.layout.sample_id(record).pid.is_some_and(|pid| self.is_member(pid, time)),
        }
    }

    fn is_sample_of_member(&self, record: &Record<'_>, time: u64) -> bool {
        if let Some((layout, format, ids)) = &self.wakeups
            && self.layout.event_id(record).is_some_and(|id| ids.contains(&id))
        {
            let woken = layout.sample(record.body).and_then(|sample| format.woken(sample.raw));
            return woken.is_some_and(|tid| self.threads.contains(&tid));
        }
        self.layout.sample_pid(record.body).is_some_and(|pid| self.is_member(pid, time))
    }
}

/// Hands out each whole record of two pieces that follow each other, with its bytes.
fn each_record(
    older: &[u8],
    newer: &[u8],
    wrapped: &mut Vec<u8>,
    mut take: impl FnMut(&[u8], Record<'_>),
) {
    let mut at = 0;
    while let Some((record, size)) = split_record(&older[at..]) {
        take(&older[at..at + size], record);
        at += size;
    }
    let mut rest = newer;
    // What is left of the older piece begins a record that the newer one ends. Its header is whole,
    // as records are whole words.
    if let Some(header) = older[at..].first_chunk::<RECORD_HEADER>() {
        let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        let missing = size.saturating_sub(older.len() - at);
        let Some((head, tail)) = newer.split_at_checked(missing) else { return };
        wrapped.clear();
        wrapped.extend_from_slice(&older[at..]);
        wrapped.extend_from_slice(head);
        if let Some((record, size)) = split_record(wrapped) {
            take(&wrapped[..size], record);
        }
        rest = tail;
    }
    while let Some((record, size)) = split_record(rest) {
        take(&rest[..size], record);
        rest = &rest[size..];
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::attr::{SAMPLE_TYPE, sample_type};
    use crate::perfdata::synthesizer::Synthesizer;
    use crate::ring::page_bytes;
    use crate::tracepoints::Field;

    const SAMPLED: u64 = 5;
    const WAKING: u64 = 6;
    const WAKING_TYPE: u64 = SAMPLE_TYPE | sample_type::RAW;
    /// Numbers that no process of this machine has.
    const MEMBER: i32 = 2_000_000_001;
    const CHILD: i32 = 2_000_000_002;
    const STRANGER: i32 = 2_000_000_009;

    fn sample(pid: i32, time: u64, said: &[u8]) -> Vec<u8> {
        let mut body = [SAMPLED, 0].map(u64::to_ne_bytes).concat();
        body.extend([pid, pid].map(i32::to_ne_bytes).concat());
        body.extend([time, 0, 1].map(u64::to_ne_bytes).concat());
        body.extend(said);
        record(kind::SAMPLE, &body)
    }

    fn waking(waker: i32, woken: i32) -> Vec<u8> {
        let mut body = [WAKING, 0].map(u64::to_ne_bytes).concat();
        body.extend([waker, waker].map(i32::to_ne_bytes).concat());
        body.extend([9u64, 0, 1].map(u64::to_ne_bytes).concat());
        // The length of the data, then flags and the woken thread.
        body.extend([12u32, 0].map(u32::to_ne_bytes).concat());
        body.extend([woken, 0].map(i32::to_ne_bytes).concat());
        record(kind::SAMPLE, &body)
    }

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut record = kind.to_ne_bytes().to_vec();
        record.extend(0u16.to_ne_bytes());
        record.extend((RECORD_HEADER as u16 + body.len() as u16).to_ne_bytes());
        record.extend(body);
        record.resize(record.len().next_multiple_of(8), 0);
        record
    }

    fn made(time: u64) -> Synthesizer {
        Synthesizer::new(SAMPLE_TYPE, time, SAMPLED)
    }

    fn fork(parent: i32, child: i32, time: u64) -> Vec<u8> {
        made(time).fork(parent, child, child)
    }

    struct Rings {
        files: Vec<File>,
        rings: Vec<Ring>,
        members: MembersOnly,
    }

    impl Rings {
        fn new(count: usize) -> Self {
            let layout = Layout::new(SAMPLE_TYPE, 0, true);
            let files: Vec<File> = (0..count).map(|_| tempfile::tempfile().unwrap()).collect();
            let rings = files.iter().map(|file| Ring::over_file(file, page_bytes())).collect();
            let format = WakeFormat::at(
                Field { offset: 4, size: 4, signed: true },
                Field { offset: 0, size: 1, signed: false },
            );
            let members = MembersOnly::new(layout, &[SAMPLED], &[MEMBER], Joined::default())
                .with_wakeups(Layout::new(WAKING_TYPE, 0, true), format, &[WAKING]);
            Rings { files, rings, members }
        }

        fn put(&self, ring: usize, bytes: &[u8]) -> &Self {
            self.rings[ring].produce(&self.files[ring], bytes);
            self
        }

        fn drained(&mut self) -> Vec<u8> {
            let mut out = Vec::new();
            let append = |records: &[u8]| {
                out.extend_from_slice(records);
                Ok(())
            };
            self.members.drain(&mut self.rings, append).unwrap();
            out
        }
    }

    #[test]
    fn records_of_strangers_are_left_out_and_their_samples_counted() {
        let mut rings = Rings::new(1);
        let mut secret = made(4).comm(STRANGER, STRANGER, b"/home/secret", false);
        secret[..4].copy_from_slice(&kind::MMAP2.to_ne_bytes());
        rings
            .put(0, &sample(STRANGER, 1, b"secret.."))
            .put(0, &sample(MEMBER, 2, b"a member"))
            .put(0, &made(3).comm(STRANGER, STRANGER, b"secret", true))
            .put(0, &secret)
            .put(0, &fork(STRANGER, STRANGER + 1, 5))
            .put(0, &waking(STRANGER, STRANGER + 1));
        let kept = [sample(MEMBER, 2, b"a member"), waking(STRANGER, MEMBER)].concat();
        rings.put(0, &waking(STRANGER, MEMBER));
        assert_eq!(rings.drained(), kept);
        assert_eq!(rings.members.left_out(), 1);
        assert!(rings.drained().is_empty());
    }

    /// The ring in which the birth is comes after the one in which the child was sampled.
    #[test]
    fn what_a_member_starts_is_a_member_from_its_birth_on_whatever_ring_tells_of_it() {
        let mut rings = Rings::new(2);
        let (early, late) = (sample(CHILD, 5, b"stranger"), sample(CHILD, 20, b"a child."));
        let grandchild = sample(CHILD + 1, 40, b"grandson");
        rings.put(0, &early).put(0, &late).put(0, &fork(CHILD, CHILD + 1, 30));
        rings.put(0, &grandchild).put(1, &fork(MEMBER, CHILD, 10));
        let drained = rings.drained();
        let expected =
            [late, fork(CHILD, CHILD + 1, 30), grandchild, fork(MEMBER, CHILD, 10)].concat();
        assert_eq!(drained, expected);
    }

    #[test]
    fn a_stranger_with_the_number_of_a_dead_member_is_no_member() {
        let mut rings = Rings::new(1);
        let (before, after) = (sample(MEMBER, 5, b"a member"), sample(MEMBER, 20, b"stranger"));
        rings.put(0, &before).put(0, &fork(STRANGER, MEMBER, 10)).put(0, &after);
        assert_eq!(rings.drained(), [before, fork(STRANGER, MEMBER, 10)].concat());
    }

    #[test]
    fn a_process_that_joins_is_recorded_from_then_on() {
        let mut rings = Rings::new(1);
        rings.put(0, &sample(CHILD, 5, b"stranger"));
        assert!(rings.drained().is_empty());
        rings.members.joined.lock().unwrap().push(CHILD);
        rings.put(0, &sample(CHILD, 6, b"a member"));
        assert_eq!(rings.drained(), sample(CHILD, 6, b"a member"));
    }

    /// Records around the end of the ring, of any length.
    #[test]
    fn records_that_wrap_are_kept_whole() {
        let mut rings = Rings::new(1);
        for round in 0..500usize {
            let said = vec![round as u8; 8 * (round % 37)];
            let (ours, theirs) = (sample(MEMBER, 9, &said), sample(STRANGER, 9, &said));
            rings.put(0, &theirs).put(0, &ours).put(0, &theirs);
            assert_eq!(rings.drained(), ours, "round {round}");
        }
    }

    #[test]
    fn where_a_write_fails_the_members_records_in_the_other_rings_are_counted() {
        let mut rings = Rings::new(2);
        let (ours, theirs) = (sample(MEMBER, 9, b"a member"), sample(STRANGER, 9, b"stranger"));
        rings.put(0, &ours).put(1, &ours).put(1, &theirs).put(1, &ours);
        let full = |_: &[u8]| Err(io::ErrorKind::StorageFull.into());
        assert!(rings.members.drain(&mut rings.rings, full).is_err());
        assert_eq!(rings.members.waiting(&rings.rings), 2);
    }
}
