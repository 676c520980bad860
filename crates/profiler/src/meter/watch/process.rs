//! One process of a pipeline: its counts, look by look, and what it left at its end.

use std::path::PathBuf;

use pipeprof_runner::pipeline::MemberId;

use super::exits::Account;
use crate::meter::estimate::START_UP_BYTES;
use crate::meter::{Elsewhere, EndCount, IoCounts, IoWatch, LinkSockets, can_splice};

/// A new process is looked at in full this often before that: it may end soon.
const YOUNG: u32 = 4;

/// What was rounded off a count may be this part of it.
const ROUGH_PARTS: u64 = 64;

/// See the module.
pub(super) struct Process {
    pub(super) watch: Option<IoWatch>,
    /// The look that found it gone; 0 where it was never seen.
    pub(super) gone_at: Option<u64>,
    pub(super) first: IoCounts,
    pub(super) last: IoCounts,
    /// The most that it moved between two looks.
    pub(super) fastest: IoCounts,
    pub(super) splices: bool,
    pub(super) program: Option<PathBuf>,
    /// Looks at it.
    pub(super) age: u32,
    /// The pipes that it can read and write, where its splices are counted.
    pub(super) counted: Option<(usize, usize)>,
    pub(super) elsewhere: Elsewhere,
    pub(super) parent: Option<i32>,
    /// It has begun since the watch did, so that all its counts are of what was watched.
    pub(super) from_birth: bool,
    /// The kernel reports all that it has moved when it ends.
    pub(super) is_reported: bool,
    /// What the kernel told when it had ended.
    pub(super) account: Option<Account>,
    /// Which sides are known by it alone.
    pub(super) is_rounded: Elsewhere,
    /// How many pipes of the pipeline it writes to, and reads from.
    pub(super) writes_to: usize,
    pub(super) reads_from: usize,
}

/// What a look found of a process.
pub(super) enum Seen {
    Living,
    /// It has ended since the look before.
    Gone,
    GoneBefore,
}

impl Process {
    /// Counts from its birth where `from_birth` says so; else from `since`, what it had counted
    /// earlier, or from now.
    pub(super) fn meet(
        id: MemberId,
        parent: Option<i32>,
        from_birth: bool,
        since: Option<IoCounts>,
    ) -> Self {
        let watch = IoWatch::open(id.pid).ok();
        // Asked once its files are open: they stay those of the process that has the pid now.
        let watch = watch.filter(|_| id.is_there());
        let now = watch.as_ref().and_then(IoWatch::counts).unwrap_or_default();
        let first = if from_birth { IoCounts::default() } else { since.unwrap_or(now) };
        Process {
            program: watch.as_ref().and_then(IoWatch::program),
            age: 0,
            counted: None,
            splices: watch.is_some() && can_splice(id.pid),
            gone_at: watch.is_none().then_some(0),
            watch,
            first,
            last: now,
            fastest: now.since(first),
            elsewhere: Elsewhere::default(),
            parent,
            from_birth,
            is_reported: false,
            account: None,
            is_rounded: Elsewhere::default(),
            writes_to: 0,
            reads_from: 0,
        }
    }

    /// Counts from now.
    pub(super) fn begin(&mut self) {
        if let Some(counts) = self.watch.as_ref().and_then(IoWatch::counts) {
            (self.first, self.last) = (counts, counts);
        }
    }

    /// Looks at its counts; where it is to be thorough at what it does, and at its descriptors.
    pub(super) fn look(
        &mut self,
        id: MemberId,
        thorough: bool,
        descriptors: bool,
        links: &LinkSockets,
    ) -> Seen {
        let Some(watch) = &mut self.watch else { return Seen::GoneBefore };
        let Some(counts) = watch.counts() else {
            self.watch = None;
            return Seen::Gone;
        };
        self.fastest = self.fastest.most(counts.since(self.last));
        self.last = counts;
        if thorough {
            self.splices |= watch.is_splicing();
        }
        self.age += 1;
        if descriptors || self.age <= YOUNG {
            // What a shell forked has the program it is to run only from its exec on.
            let program = watch.program();
            if program != self.program {
                self.splices |= can_splice(id.pid);
                self.program = program;
            }
            let now = watch.elsewhere(self.from_birth, links);
            self.elsewhere.reads |= now.reads;
            self.elsewhere.writes |= now.writes;
        }
        Seen::Living
    }

    /// What it counts as a writer of a pipe.
    pub(super) fn written(&self) -> EndCount {
        let moved = self.last.since(self.first);
        let besides = self.elsewhere.writes || self.writes_to > 1;
        self.end(moved.written_bytes, moved.writes, besides, self.is_rounded.writes)
    }

    /// What it counts as a reader of a pipe.
    pub(super) fn read(&self) -> EndCount {
        let moved = self.last.since(self.first);
        let besides = self.elsewhere.reads || self.reads_from > 1;
        self.end(moved.read_bytes, moved.reads, besides, self.is_rounded.reads)
    }

    fn end(&self, bytes: u64, calls: u64, besides: bool, is_rounded: bool) -> EndCount {
        let elsewhere = besides || self.is_unchecked(bytes) || self.is_rough(is_rounded, bytes);
        let born = u32::from(self.from_birth);
        EndCount { bytes, calls, splices: self.splices, elsewhere, born, ..EndCount::default() }
    }

    /// What it had written before it was watched, with the calls.
    pub(super) fn written_before(&self) -> (u64, u64) {
        (self.first.written_bytes, self.first.writes)
    }

    /// What it had read before it was watched, with the calls.
    pub(super) fn read_before(&self) -> (u64, u64) {
        (self.first.read_bytes, self.first.reads)
    }

    /// The pipes on one side of a process whose splices are counted are just one.
    pub(super) fn one_pipe(&self, side: impl Fn((usize, usize)) -> usize) -> bool {
        self.counted.is_some_and(|pipes| side(pipes) == 1)
    }

    /// What the kernel told of it when it had ended, unless more was seen of it before.
    pub(super) fn ended_with(&mut self, account: Option<Account>) {
        let holds = |account: &Account| {
            let most = account.rounded_off();
            self.last.read_bytes <= account.moved.read_bytes.saturating_add(most)
                && self.last.written_bytes <= account.moved.written_bytes.saturating_add(most)
        };
        if let Some(account) = account.filter(holds) {
            // Of what moved less than is rounded off, the kernel says that it moved nothing.
            let is_rounded = |last: u64, told: u64| last < told || last == 0;
            self.is_rounded = Elsewhere {
                reads: is_rounded(self.last.read_bytes, account.moved.read_bytes),
                writes: is_rounded(self.last.written_bytes, account.moved.written_bytes),
            };
            self.last = self.last.most(account.moved);
            self.account = Some(account);
        }
    }

    /// Who waited for it tells what the kernel had rounded off: what is more is another's.
    pub(super) fn grew_by(&mut self, grown: IoCounts) {
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

    /// It moved so much before its open files were seen that the bytes cannot be assigned.
    fn is_unchecked(&self, moved: u64) -> bool {
        self.watch.is_none() && self.age < 2 && moved > START_UP_BYTES
    }
}
