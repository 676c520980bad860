//! The looks at a pipeline's processes and pipes, one after the other, and what they add up to.

mod exits;
mod inheritance;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pipeprof_runner::discover::{Found, parent_of};
use pipeprof_runner::pipeline::{Link, MemberId, Pipe, PipeKey};
use pipeprof_runner::sock_diag::SockDiag;
use rustc_hash::{FxHashMap, FxHashSet};

use self::exits::{Account, ExitAccounts};
use self::inheritance::{Ended, NOBODY, Parent};
use super::estimate::START_UP_BYTES;
use super::segments::Segments;
use super::splices::Splices;
use super::{
    Bytes, Elsewhere, EndCount, Gauge, IoCounts, IoWatch, LinkSockets, PipeFlow, Point, Series,
    Source, Total, can_splice, estimate,
};

/// Every so many looks, fill is looked at too, some 15 microseconds a pipe.
const THOROUGH: u64 = 4;

/// And every so many, what else a process has open, some 5 microseconds a descriptor.
const DESCRIPTORS: u64 = 32;

/// Who is new is looked at in full this often before that: it may end soon.
const YOUNG: u32 = 4;

/// What was rounded off a count may be this part of it.
const ROUGH_PARTS: u64 = 64;

/// All looks so far, and what they add up to.
pub(super) struct Watch {
    start: Instant,
    from_birth: bool,
    /// Only the last while is of interest.
    keep: Option<Duration>,
    looks: u64,
    processes: FxHashMap<MemberId, Process>,
    /// Those of them that each has started, by its pid.
    children: FxHashMap<i32, Vec<MemberId>>,
    /// Whoever waits for the processes, and for those who do.
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

struct Process {
    watch: Option<IoWatch>,
    /// The look that found it gone; 0 where it was never seen.
    gone_at: Option<u64>,
    first: IoCounts,
    last: IoCounts,
    /// The most that it moved between two looks.
    fastest: IoCounts,
    splices: bool,
    program: Option<PathBuf>,
    /// Looks at it.
    age: u32,
    /// The pipes that it can read and write, where its splices are counted.
    counted: Option<(usize, usize)>,
    elsewhere: Elsewhere,
    parent: Option<i32>,
    /// It has begun since the watch did.
    is_young: bool,
    /// What the kernel told when it had ended.
    account: Option<Account>,
    /// Which sides are known by it alone.
    is_rounded: Elsewhere,
    /// How many pipes of the pipeline it writes to, and reads from.
    writes_to: usize,
    reads_from: usize,
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
        let (mut waiting, mut unseen): (Vec<i32>, Vec<MemberId>) = (Vec::new(), Vec::new());
        for member in &pipeline.members {
            let (writes_to, reads_from) = ends.get(&member.id()).copied().unwrap_or_default();
            let from_birth = self.from_birth;
            let is_young = from_birth || self.exits.is_young(member.id());
            let is_new = !self.processes.contains_key(&member.id());
            let process = self.processes.entry(member.id()).or_insert_with(|| {
                let watch = IoWatch::open(member.pid).ok();
                // Asked once its files are open: they stay those of whoever has the pid now.
                let watch = watch.filter(|_| member.id().is_there());
                let now = watch.as_ref().and_then(IoWatch::counts).unwrap_or_default();
                let first = if from_birth { IoCounts::default() } else { now };
                Process {
                    program: watch.as_ref().and_then(IoWatch::program),
                    age: 0,
                    counted: None,
                    splices: watch.is_some() && can_splice(member.pid),
                    gone_at: watch.is_none().then_some(0),
                    watch,
                    first,
                    last: now,
                    fastest: now.since(first),
                    elsewhere: Elsewhere::default(),
                    parent: parent_of(member.pid),
                    is_young,
                    account: None,
                    is_rounded: Elsewhere::default(),
                    writes_to,
                    reads_from,
                }
            });
            waiting.extend(process.parent);
            if is_new {
                unseen.extend(process.watch.is_none().then_some(member.id()));
                let siblings = self.children.entry(process.parent.unwrap_or(NOBODY)).or_default();
                siblings.push(member.id());
            }
            process.writes_to = process.writes_to.max(writes_to);
            process.reads_from = process.reads_from.max(reads_from);
        }
        waiting.into_iter().for_each(|pid| self.meet_parents(pid));
        self.read_exits_of_unseen(&unseen);
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

    pub(super) fn look(&mut self) {
        let thorough = self.looks.is_multiple_of(THOROUGH);
        let descriptors = self.looks.is_multiple_of(DESCRIPTORS);
        self.looks += 1;
        // Before the children: a child that is still there afterwards is in no sum of these.
        let sums = self.sums_of_parents();
        let mut gone = Ended::default();
        for (&id, process) in &mut self.processes {
            let Some(watch) = &mut process.watch else { continue };
            match watch.counts() {
                Some(counts) => {
                    process.fastest = process.fastest.most(counts.since(process.last));
                    process.last = counts;
                }
                None => {
                    process.watch = None;
                    process.gone_at = Some(self.looks);
                    gone.entry(process.parent.unwrap_or(NOBODY)).or_default().push(id);
                    continue;
                }
            }
            if thorough {
                process.splices |= watch.is_splicing();
            }
            process.age += 1;
            if descriptors || process.age <= YOUNG {
                // What a shell forked has the program it is to run only from its exec on.
                let program = watch.program();
                if program != process.program {
                    process.splices |= can_splice(id.pid);
                    process.program = program;
                }
                let now = watch.elsewhere(self.from_birth, &self.links);
                process.elsewhere.reads |= now.reads;
                process.elsewhere.writes |= now.writes;
            }
        }
        self.read_parents_again(&gone);
        self.read_exits(&gone);
        self.pass_on_elsewhere(&gone);
        for &parent in gone.keys() {
            self.inherit(parent, &gone);
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
            if let Some(bytes) = pipe.total().known() {
                pipe.series.add(Point { at_ns, bytes });
            }
        }
    }

    fn count_splices_where_nothing_else_counts(&mut self) {
        for index in 0..self.pipes.len() {
            let (writer, reader) = self.ends(&self.pipes[index], Gone::AreNoEnd);
            let uncounted = |end: EndCount| end.splices && end.spliced.is_none();
            if !(writer.is_some_and(uncounted) && reader.is_some_and(uncounted))
                || estimate(writer, reader, 0).known().is_some()
            {
                continue;
            }
            let pipe = &self.pipes[index];
            // One end is enough: the reader's, where it can tell, as what it takes has gone through.
            let ends = [(&pipe.readers, true), (&pipe.writers, false)];
            let Some(members) = ends.iter().find_map(|&(ids, reads)| self.unambiguous(ids, reads))
            else {
                continue;
            };
            let splices = self.splices.get_or_insert_with(Splices::new);
            for (id, pipes) in members {
                let Ok(counting) = splices else { break };
                match counting.add(id.pid) {
                    Ok(()) => {
                        if let Some(process) = self.processes.get_mut(&id) {
                            process.counted = Some(pipes);
                        }
                    }
                    Err(why) => *splices = Err(why),
                }
            }
        }
    }

    /// The processes of an end that splice, with the pipes that they have, where a splice of theirs
    /// can only be of this pipe: they have no other on this side, and nothing else to splice there.
    fn unambiguous(
        &self,
        ids: &[MemberId],
        reads: bool,
    ) -> Option<Vec<(MemberId, (usize, usize))>> {
        let mut counted = Vec::new();
        for &id in ids {
            let process = self.processes.get(&id)?;
            let Some(watch) = &process.watch else { continue };
            let pipes = watch.pipes();
            let (ends, elsewhere) = if reads {
                (pipes.0, process.elsewhere.reads)
            } else {
                (pipes.1, process.elsewhere.writes)
            };
            if ends > 1 || elsewhere {
                return None;
            }
            counted.push((id, pipes));
        }
        Some(counted)
    }

    /// What has arrived over TCP, by the kernel's own count.
    fn count_arrivals(&mut self) {
        for pipe in &mut self.pipes {
            let Link::Tcp { from, to, .. } = pipe.pipe.link else { continue };
            if self.sockets.is_none() {
                self.sockets = SockDiag::open().ok();
            }
            let socket = self.sockets.as_mut().and_then(|sockets| sockets.tcp_with(to, from));
            // One that has been closed says nothing more.
            let socket = socket.filter(|socket| socket.inode == pipe.pipe.inode);
            if let Some(now) = socket.and_then(|socket| socket.received_bytes) {
                let first = if self.from_birth { 0 } else { now };
                let (first, _) = pipe.arrived.unwrap_or((first, now));
                pipe.arrived = Some((first, now));
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
        let sum = |ids: &[MemberId], count: &dyn Fn(MemberId, &Process) -> EndCount| {
            if gone == Gone::AreNoEnd && !ids.iter().any(is_there) {
                return None;
            }
            // By pid, when each was found gone.
            let lives: FxHashMap<i32, Option<u64>> = ids
                .iter()
                .filter_map(|id| Some((id.pid, self.processes.get(id)?.gone_at)))
                .collect();
            // Who has waited for a process has inherited its counts (wait_task_zombie in
            // kernel/exit.c, v6.18), where it was still there to be looked at.
            let has_inherited = |parent: i32, gone_at: u64| {
                let parent_gone_at = lives.get(&parent);
                parent_gone_at.is_some_and(|of_parent| of_parent.is_none_or(|at| at > gone_at))
            };
            let mut sum = EndCount { spliced: Some(0), ..EndCount::default() };
            for &id in ids {
                let Some(process) = self.processes.get(&id) else { continue };
                let one = count(id, process);
                sum.splices |= one.splices;
                let ended = process.parent.zip(process.gone_at);
                if !ended.is_some_and(|(parent, gone_at)| has_inherited(parent, gone_at)) {
                    sum.bytes += one.bytes;
                    sum.calls += one.calls;
                    sum.elsewhere |= one.elsewhere;
                }
                sum.born += one.born;
                if one.splices {
                    sum.spliced = sum.spliced.zip(one.spliced).map(|(sum, one)| sum + one);
                }
            }
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
        let writer = sum(&pipe.writers, &|id, process| {
            let moved = process.last.since(process.first);
            EndCount {
                bytes: moved.written_bytes,
                calls: moved.writes,
                splices: process.splices,
                elsewhere: process.elsewhere.writes
                    || process.writes_to > 1
                    || process.is_unchecked(|counts| counts.written_bytes)
                    || process.is_rough(process.is_rounded.writes, moved.written_bytes),
                born: u32::from(self.from_birth),
                spliced: spliced(id, process)
                    .filter(|_| one_pipe(process, |p| p.1))
                    .map(|s| s.written),
            }
        });
        let reader = sum(&pipe.readers, &|id, process| {
            let moved = process.last.since(process.first);
            EndCount {
                bytes: moved.read_bytes,
                calls: moved.reads,
                splices: process.splices,
                elsewhere: process.elsewhere.reads
                    || process.reads_from > 1
                    || process.is_unchecked(|counts| counts.read_bytes)
                    || process.is_rough(process.is_rounded.reads, moved.read_bytes),
                born: u32::from(self.from_birth),
                spliced: spliced(id, process)
                    .filter(|_| one_pipe(process, |p| p.0))
                    .map(|s| s.read),
            }
        });
        (writer, reader)
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

impl Process {
    /// What the kernel told of it when it had ended, unless more was seen of it before.
    fn ended_with(&mut self, account: Option<Account>) {
        let holds = |account: &Account| {
            let most = account.rounded_off();
            self.last.read_bytes <= account.moved.read_bytes.saturating_add(most)
                && self.last.written_bytes <= account.moved.written_bytes.saturating_add(most)
        };
        if let Some(account) = account.filter(holds) {
            self.is_rounded = Elsewhere {
                reads: self.last.read_bytes < account.moved.read_bytes,
                writes: self.last.written_bytes < account.moved.written_bytes,
            };
            self.last = self.last.most(account.moved);
            self.account = Some(account);
        }
    }

    /// Who waited for it tells what the kernel had rounded off: what is more is another's.
    fn grew_by(&mut self, grown: IoCounts) {
        let most = self.account.map_or(0, Account::rounded_off);
        let is_its = |grown: u64, last: u64| (last..=last.saturating_add(most)).contains(&grown);
        if is_its(grown.read_bytes, self.last.read_bytes) {
            self.last.read_bytes = grown.read_bytes;
            self.is_rounded.reads = false;
        }
        if is_its(grown.written_bytes, self.last.written_bytes) {
            self.last.written_bytes = grown.written_bytes;
            self.is_rounded.writes = false;
        }
    }

    /// What was rounded off may be much of what it moved.
    fn is_rough(&self, is_rounded: bool, moved: u64) -> bool {
        let most = self.account.map_or(0, Account::rounded_off);
        is_rounded && moved < most.saturating_mul(ROUGH_PARTS)
    }

    /// It moved so much before anybody could see what else it had open that nobody knows where.
    fn is_unchecked(&self, side: impl Fn(IoCounts) -> u64) -> bool {
        self.watch.is_none() && self.age < 2 && side(self.last.since(self.first)) > START_UP_BYTES
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

/// The pipes on one side of a process whose splices are counted are just one.
fn one_pipe(process: &Process, side: impl Fn((usize, usize)) -> usize) -> bool {
    process.counted.is_some_and(|pipes| side(pipes) == 1)
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
