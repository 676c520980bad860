//! The looks at a pipeline's processes and pipes, one after the other, and what they add up to.

mod exits;
mod inheritance;
mod process;
mod uncounted;

use std::time::{Duration, Instant};

use pipeprof_runner::discover::{Found, parent_of};
use pipeprof_runner::pipeline::{Link, MemberId, Pipe, PipeKey};
use pipeprof_runner::sock_diag::SockDiag;
use rustc_hash::{FxHashMap, FxHashSet};

use self::exits::ExitAccounts;
use self::inheritance::{Ended, NOBODY, Parent};
use self::process::{Process, Seen};
use super::segments::Segments;
use super::splices::Splices;
use super::{
    Bytes, EndCount, Gauge, LinkSockets, PipeFlow, Point, Series, Source, Total, estimate,
};
use crate::process::{ticks_a_second, ticks_since_boot};

/// Every so many looks, fill is looked at too, some 15 microseconds a pipe.
const THOROUGH: u64 = 4;

/// And every so many, what else a process has open, some 5 microseconds a descriptor.
const DESCRIPTORS: u64 = 32;

/// Counts of so many members are read so often until none of the others' time lies between them.
const TRIES: u32 = 5;

/// Reading the counts of a process takes a tenth of that.
const MOMENT: Duration = Duration::from_micros(100);

/// A scan of all processes takes less than this part of a second.
const SCANS_A_SECOND: u64 = 10;

/// All looks so far, and what they add up to.
pub(super) struct Watch {
    start: Instant,
    from_birth: bool,
    /// Who began later and was not found at first has moved nothing of the pipeline's before, as
    /// processes tell their start.
    since_ticks: u64,
    /// Only the last while is of interest.
    keep: Option<Duration>,
    looks: u64,
    processes: FxHashMap<MemberId, Process>,
    /// Those of them that each has started, by its pid.
    children: FxHashMap<i32, Vec<MemberId>>,
    /// The processes that wait for the members, and those that wait for them.
    parents: FxHashMap<i32, Parent>,
    /// What the kernel tells of those that have ended.
    exits: ExitAccounts,
    pipes: Vec<WatchedPipe>,
    /// Where in `pipes` each stands.
    places: FxHashMap<PipeKey, usize>,
    found: Found,
    /// The Unix sockets among its links.
    links: LinkSockets,
    /// The splices of members that count nothing else, or why they cannot be counted.
    splices: Option<Result<Splices, String>>,
    /// Asks for what arrived over TCP.
    sockets: Option<SockDiag>,
}

/// What an end is whose processes have all gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    AreNoEnd,
    Count,
}

struct WatchedPipe {
    pipe: Pipe,
    writers: Vec<MemberId>,
    readers: Vec<MemberId>,
    capacity_bytes: Option<u64>,
    gauge: Gauge,
    series: Series,
    segments: Segments,
    /// What had arrived over TCP when the watch began, and by now.
    arrived: Option<(u64, u64)>,
}

impl Watch {
    /// Members that began under our eyes count from zero. Of a pipe the counts of the last `keep`
    /// are kept in full.
    pub(super) fn new(from_birth: bool, keep: Option<Duration>) -> Self {
        Watch {
            start: Instant::now(),
            from_birth,
            since_ticks: ticks_since_boot().saturating_sub(ticks_a_second() / SCANS_A_SECOND),
            keep,
            looks: 0,
            processes: FxHashMap::default(),
            children: FxHashMap::default(),
            parents: FxHashMap::default(),
            exits: ExitAccounts::listen(),
            pipes: Vec::new(),
            places: FxHashMap::default(),
            found: Found::default(),
            links: LinkSockets::default(),
            splices: None,
            sockets: None,
        }
    }

    /// Takes new members and pipes up. Those that have gone keep what was counted.
    pub(super) fn follow(&mut self, found: Found) {
        let pipeline = &found.pipeline;
        let mut ends: FxHashMap<MemberId, (usize, usize)> = FxHashMap::default();
        for pipe in &pipeline.pipes {
            pipe.writers.iter().for_each(|&id| ends.entry(id).or_default().0 += 1);
            pipe.readers.iter().for_each(|&id| ends.entry(id).or_default().1 += 1);
        }
        let mut unseen: Vec<MemberId> = Vec::new();
        let mut running: Vec<MemberId> = Vec::new();
        for member in &pipeline.members {
            let id = member.id();
            if !self.processes.contains_key(&id) {
                // Before it is counted: what it leaves as it ends is to be in the growth of who waits
                // for it.
                let parent = parent_of(member.pid);
                parent.into_iter().for_each(|parent| self.meet_parents(parent));
                let has_begun_since =
                    || id.start_time.is_some_and(|start| start > self.since_ticks);
                let from_birth = self.from_birth || self.looks > 0 && has_begun_since();
                let since = self.before_children(member.pid);
                let is_reported = self.from_birth || self.exits.reports(id);
                let process =
                    Process { is_reported, ..Process::meet(id, parent, from_birth, since) };
                unseen.extend(process.watch.is_none().then_some(id));
                running.extend((!from_birth && since.is_none()).then_some(id));
                self.children.entry(parent.unwrap_or(NOBODY)).or_default().push(id);
                self.processes.insert(id, process);
            }
            if let Some(process) = self.processes.get_mut(&id) {
                let (writes_to, reads_from) = ends.get(&id).copied().unwrap_or_default();
                process.writes_to = process.writes_to.max(writes_to);
                process.reads_from = process.reads_from.max(reads_from);
            }
        }
        self.read_exits_of_unseen(&unseen);
        self.begin_together(&running);
        for pipe in &pipeline.pipes {
            let index = match self.places.get(&pipe.key()) {
                Some(&index) => index,
                None => {
                    self.places.insert(pipe.key(), self.pipes.len());
                    self.pipes.push(WatchedPipe {
                        pipe: pipe.clone(),
                        writers: Vec::new(),
                        readers: Vec::new(),
                        capacity_bytes: pipe.capacity_bytes,
                        gauge: Gauge::default(),
                        // The files keep up to a quarter more, and end a moment later.
                        series: self.keep.map_or_else(Series::default, |keep| {
                            Series::of_last(2 * keep.as_nanos() as u64)
                        }),
                        segments: match pipe.link {
                            Link::Unix { .. } => Segments::of_socket(pipe.capacity_bytes),
                            _ => Segments::new(pipe.capacity_bytes),
                        },
                        arrived: None,
                    });
                    self.pipes.len() - 1
                }
            };
            let watched = &mut self.pipes[index];
            merge(&mut watched.writers, &pipe.writers);
            merge(&mut watched.readers, &pipe.readers);
        }
        self.links = LinkSockets::of(&found.pipeline.pipes);
        self.found = found;
    }

    /// Members that already run count from the same moment: while one was met, which takes reading
    /// its program, the others went on.
    fn begin_together(&mut self, running: &[MemberId]) {
        for _ in 0..TRIES {
            let start = Instant::now();
            for id in running {
                if let Some(process) = self.processes.get_mut(id) {
                    process.begin();
                }
            }
            // Else somebody else had the CPU in between.
            if start.elapsed() < MOMENT * running.len() as u32 {
                break;
            }
        }
    }

    pub(super) fn look(&mut self) {
        let thorough = self.looks.is_multiple_of(THOROUGH);
        let descriptors = self.looks.is_multiple_of(DESCRIPTORS);
        self.looks += 1;
        // Before the children: a child that is still there afterwards is in no sum of these.
        let sums = self.sums_of_parents();
        let mut ended_children = Ended::default();
        for (&id, process) in &mut self.processes {
            match process.look(id, thorough, descriptors, &self.links) {
                Seen::Living | Seen::GoneBefore => {}
                Seen::Gone => {
                    process.gone_at = Some(self.looks);
                    ended_children.entry(process.parent.unwrap_or(NOBODY)).or_default().push(id);
                }
            }
        }
        self.read_parents_again(&ended_children);
        self.read_exits(&ended_children);
        self.pass_on_elsewhere(&ended_children);
        for &parent in ended_children.keys() {
            self.inherit(parent, &ended_children);
        }
        self.settle(sums);
        if let Some(Ok(splices)) = &mut self.splices {
            splices.look();
        }
        if thorough {
            self.look_into_pipes();
        }
        if descriptors {
            self.count_splices_where_nothing_else_counts();
        }
        self.count_arrivals();
        let at_ns = self.start.elapsed().as_nanos() as u64;
        for index in 0..self.pipes.len() {
            let (writer, reader) = self.ends(&self.pipes[index], Gone::AreNoEnd);
            let last_word = self.ends(&self.pipes[index], Gone::Count);
            let pipe = &mut self.pipes[index];
            let (had_writer, had_reader) = pipe.segments.ends_since(last_word.0, last_word.1);
            if (had_writer, had_reader) != (writer.is_some(), reader.is_some()) {
                let (writer, reader) = last_word;
                pipe.segments.look(writer.filter(|_| had_writer), reader.filter(|_| had_reader));
            }
            pipe.segments.look(writer, reader);
            pipe.segments.counted(last_word.0, last_word.1);
            if let Some(bytes) = pipe.total().known() {
                // Who is believed may change, and with it the count, by what the pipe holds.
                let before = pipe.series.points().last().map_or(0, |point| point.bytes);
                pipe.series.add(Point { at_ns, bytes: bytes.max(before) });
            }
        }
    }

    fn look_into_pipes(&mut self) {
        let levels = self.found.levels();
        let at_ns = self.start.elapsed().as_nanos() as u64;
        for (pipe, level) in self.found.pipeline.pipes.iter().zip(levels) {
            let place = self.places.get(&pipe.key()).copied();
            let watched = place.and_then(|place| self.pipes.get_mut(place));
            if let (Some(watched), Some(level)) = (watched, level) {
                watched.capacity_bytes = Some(level.capacity_bytes);
                watched.segments.holds(level.capacity_bytes);
                watched.gauge.add(at_ns, level);
            }
        }
    }

    fn ends(&self, pipe: &WatchedPipe, gone: Gone) -> (Option<EndCount>, Option<EndCount>) {
        let is_there = |id: &MemberId| self.processes.get(id).is_some_and(|p| p.watch.is_some());
        let sum = |ids: &[MemberId],
                   count: &dyn Fn(MemberId, &Process) -> EndCount,
                   before: fn(&Process) -> (u64, u64)| {
            if gone == Gone::AreNoEnd && !ids.iter().any(is_there) {
                return None;
            }
            // By pid, when each was found gone.
            let lives: FxHashMap<i32, Option<u64>> = ids
                .iter()
                .filter_map(|id| Some((id.pid, self.processes.get(id)?.gone_at)))
                .collect();
            // A process that waited for another inherited its counts (wait_task_zombie in
            // kernel/exit.c, v6.18), if it still existed at a look.
            let has_inherited = |parent: i32, gone_at: u64| {
                let parent_gone_at = lives.get(&parent);
                parent_gone_at.is_some_and(|of_parent| of_parent.is_none_or(|at| at > gone_at))
            };
            let mut sum = EndCount { spliced: Some(0), ..EndCount::default() };
            let (mut before_bytes, mut before_calls) = (0, 0);
            for &id in ids {
                let Some(process) = self.processes.get(&id) else { continue };
                let one = count(id, process);
                sum.splices |= one.splices;
                let ended = process.parent.zip(process.gone_at);
                if ended.is_some_and(|(parent, gone_at)| has_inherited(parent, gone_at)) {
                    // The whole of it, also what it had moved before it was watched.
                    let (bytes, calls) = before(process);
                    (before_bytes, before_calls) = (before_bytes + bytes, before_calls + calls);
                } else {
                    sum.bytes += one.bytes;
                    sum.calls += one.calls;
                    sum.elsewhere |= one.elsewhere;
                }
                sum.born += one.born;
                if one.splices {
                    sum.spliced = sum.spliced.zip(one.spliced).map(|(sum, one)| sum + one);
                }
            }
            sum.bytes = sum.bytes.saturating_sub(before_bytes);
            sum.calls = sum.calls.saturating_sub(before_calls);
            sum.spliced = sum.spliced.filter(|_| sum.splices);
            Some(sum)
        };
        let spliced = |id: MemberId, process: &Process| match &self.splices {
            Some(Ok(splices)) => {
                let (reads, writes) = process.counted?;
                splices.of(id.pid, reads > 0, writes > 0)
            }
            _ => None,
        };
        let writer = |id, process: &Process| EndCount {
            spliced: spliced(id, process).filter(|_| process.one_pipe(|p| p.1)).map(|s| s.written),
            ..process.written()
        };
        let reader = |id, process: &Process| EndCount {
            spliced: spliced(id, process).filter(|_| process.one_pipe(|p| p.0)).map(|s| s.read),
            ..process.read()
        };
        (
            sum(&pipe.writers, &writer, Process::written_before),
            sum(&pipe.readers, &reader, Process::read_before),
        )
    }

    /// Bytes of a pipe, unless its splices were counted for a part of the time only.
    fn total(&self, pipe: &WatchedPipe) -> Bytes {
        let total = pipe.total();
        match (&total, &self.splices) {
            (Bytes::Known { source: Source::Syscalls, .. }, Some(Ok(splices))) => {
                let since = pipe.readers.iter().chain(&pipe.writers);
                let late = since.filter_map(|id| splices.since(id.pid)).max();
                let late = late.map_or(Duration::ZERO, |since| since.duration_since(self.start));
                if late * 100 > self.start.elapsed() {
                    Bytes::Unknown { why: COUNTED_LATE.into() }
                } else {
                    total
                }
            }
            (Bytes::Unknown { why }, Some(Err(_))) if *why == estimate::BOTH_SPLICE => {
                Bytes::Unknown { why: UNCOUNTED.into() }
            }
            _ => total,
        }
    }

    pub(super) fn totals(&self) -> Vec<Total> {
        let total = |pipe: &WatchedPipe| Total {
            device: pipe.pipe.device,
            inode: pipe.pipe.inode,
            // What is counted late is counted from then on, which is all that a difference takes.
            bytes: match pipe.total() {
                known @ Bytes::Known { .. } => known,
                Bytes::Unknown { .. } => self.total(pipe),
            },
        };
        self.pipes.iter().map(total).collect()
    }

    pub(super) fn flows(self) -> Vec<PipeFlow> {
        let totals: Vec<Bytes> = self.pipes.iter().map(|pipe| self.total(pipe)).collect();
        let flow = |(pipe, bytes): (WatchedPipe, Bytes)| PipeFlow {
            inode: pipe.pipe.inode,
            device: pipe.pipe.device,
            bytes,
            writes: pipe.segments.writes(),
            reads: pipe.segments.reads(),
            over_time: pipe.series.points().to_vec(),
            fill_over_time: pipe.gauge.points().to_vec(),
            capacity_bytes: pipe.capacity_bytes,
            fill: pipe.gauge.fill(),
        };
        self.pipes.into_iter().zip(totals).map(flow).collect()
    }
}

impl WatchedPipe {
    /// What went through since the watch began.
    fn total(&self) -> Bytes {
        match (self.pipe.link, self.arrived) {
            (Link::Pipe | Link::Fifo | Link::Unix { .. }, _) => self.segments.total(),
            (Link::Tcp { .. }, Some((first, now))) => {
                Bytes::Known { bytes: now.saturating_sub(first), source: Source::TcpInfo }
            }
            (Link::Tcp { .. }, None) => Bytes::Unknown { why: NOT_SEEN.into() },
        }
    }
}

const COUNTED_LATE: &str = "both ends splice, and the system calls could be counted for less than \
     99 % of the time; watch for longer";

const NOT_SEEN: &str =
    "its connection is in another network namespace, or ended before it was seen";

const UNCOUNTED: &str = "both ends can splice, which /proc/PID/io does not count, and the system \
     calls cannot be traced; hint: as root, mount -t tracefs tracefs /sys/kernel/tracing";

fn merge(into: &mut Vec<MemberId>, ids: &[MemberId]) {
    if into.starts_with(ids) {
        return;
    }
    let mut known: FxHashSet<MemberId> = into.iter().copied().collect();
    into.extend(ids.iter().filter(|id| known.insert(**id)));
}
