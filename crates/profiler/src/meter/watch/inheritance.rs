//! What processes leave to the process that waits for them: its `/proc/PID/io` includes the counts
//! of the children that it waited for (`wait_task_zombie` in kernel/exit.c, v6.18), so its growth
//! shows what these moved after the last look at them.

use pipeprof_runner::discover::parent_of;
use pipeprof_runner::pipeline::MemberId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Watch;
use crate::meter::estimate::START_UP_BYTES;
use crate::meter::{IoCounts, IoWatch};

/// What a process moved unseen, as it ended, may be this part of what is known of it.
const SMALL_PART: u64 = 100;

/// And where it is not known which of several that ended did it, this part.
const DOUBTFUL_PART: u64 = 16;

/// A shell that started the members ends with them, and who started that shell has its counts then:
/// `timeout` of a shell of the process that launched it.
const GENERATIONS: usize = 4;

/// Stands for the waiting process, if that is unknown.
pub(super) const NOBODY: i32 = 0;

/// The processes that had ended by a look, by the process that waits for them.
pub(super) type Ended = FxHashMap<i32, Vec<MemberId>>;

/// A process that inherits the counts of those that it waits for.
pub(super) struct Parent {
    watch: IoWatch,
    /// Its counts when it was met, before any of those was.
    first: IoCounts,
    /// Its counts at the beginning of the latest look that found none of those gone.
    base: IoCounts,
    /// What of its growth since then was found to be by them.
    attributed: IoCounts,
    /// One of them was found gone at this look.
    inherits: bool,
    /// The process that waits for it.
    parent: Option<i32>,
    /// The look that found it gone.
    gone_at: Option<u64>,
}

impl Parent {
    /// Its growth since the base, while it is there.
    fn counted(&self) -> Option<IoCounts> {
        self.watch.counts().map(|now| now.since(self.base))
    }
}

/// What processes that ended left to who waited for them.
struct Growth {
    /// Whose account tells it.
    heir: i32,
    /// By how much that has grown since its base.
    counted: IoCounts,
    /// What of it is by these, and by those with them.
    grown: IoCounts,
    with_them: Vec<MemberId>,
}

impl Watch {
    /// Follows the account of this process, which waits for members, and of those that wait for it.
    pub(super) fn meet_parents(&mut self, parent: i32) {
        let mut waiting = Some(parent);
        for _ in 0..GENERATIONS {
            let Some(pid) = waiting.filter(|pid| !self.parents.contains_key(pid)) else {
                break;
            };
            let watch = IoWatch::open(pid).ok();
            let Some((watch, base)) = watch.and_then(|w| w.counts().map(|now| (w, now))) else {
                break;
            };
            waiting = parent_of(pid).filter(|parent| *parent != own_pid());
            let parent = Parent {
                watch,
                first: base,
                base,
                attributed: IoCounts::default(),
                inherits: false,
                parent: waiting,
                gone_at: None,
            };
            self.parents.insert(pid, parent);
        }
    }

    /// What this process had counted before any child of it was met.
    pub(super) fn before_children(&self, pid: i32) -> Option<IoCounts> {
        let parent = self.parents.get(&pid)?;
        parent.gone_at.is_none().then_some(parent.first)
    }

    /// The accounts of those that wait, at the beginning of a look: what ends from here on is in none.
    pub(super) fn sums_of_parents(&mut self) -> Vec<(i32, IoCounts)> {
        let mut sums: Vec<(i32, IoCounts)> = Vec::with_capacity(self.parents.len());
        for (&pid, parent) in &mut self.parents {
            match parent.watch.counts().filter(|_| parent.gone_at.is_none()) {
                Some(counts) => sums.push((pid, counts)),
                None => _ = parent.gone_at.get_or_insert(self.looks),
            }
        }
        sums
    }

    /// At the end of a look, what was an account at its beginning is what growth counts from.
    pub(super) fn settle(&mut self, sums: Vec<(i32, IoCounts)>) {
        for (pid, counts) in sums {
            if let Some(parent) = self.parents.get_mut(&pid)
                && !std::mem::take(&mut parent.inherits)
            {
                (parent.base, parent.attributed) = (counts, IoCounts::default());
            }
        }
    }

    /// A member that has waited for one that was found gone has its counts by now, but need not have
    /// had them when it was looked at.
    pub(super) fn read_parents_again(&mut self, ended_children: &Ended) {
        let waited = |id: &MemberId| ended_children.contains_key(&id.pid);
        for (_, process) in self.processes.iter_mut().filter(|(id, _)| waited(id)) {
            if let Some(counts) = process.watch.as_ref().and_then(IoWatch::counts) {
                process.fastest = process.fastest.most(counts.since(process.last));
                process.last = counts;
            }
        }
    }

    /// A member that has waited for one that was at other ends has its counts, which are no part of
    /// what went through its own.
    pub(super) fn pass_on_elsewhere(&mut self, ended_children: &Ended) {
        if ended_children.is_empty() {
            return;
        }
        // By process, the pipes that it reads, and those that it writes, by their places.
        let mut ends: FxHashMap<MemberId, [Vec<usize>; 2]> = FxHashMap::default();
        for (at, pipe) in self.pipes.iter().enumerate() {
            for (side, ids) in [&pipe.readers, &pipe.writers].into_iter().enumerate() {
                ids.iter().for_each(|id| ends.entry(*id).or_default()[side].push(at));
            }
        }
        let of_pid: FxHashMap<i32, MemberId> =
            self.processes.keys().map(|id| (id.pid, *id)).collect();
        for (parent, children) in ended_children {
            let Some(parent) = of_pid.get(parent) else { continue };
            for child in children {
                let Some(process) = self.processes.get(child) else { continue };
                let moved = process.last.since(process.first);
                let [reads, writes] = ends.get(parent).cloned().unwrap_or_default();
                let [child_reads, child_writes] = ends.get(child).cloned().unwrap_or_default();
                let reads_other = moved.read_bytes > START_UP_BYTES
                    && (process.elsewhere.reads || child_reads != reads);
                let writes_other = moved.written_bytes > START_UP_BYTES
                    && (process.elsewhere.writes || child_writes != writes);
                if let Some(parent) = self.processes.get_mut(parent) {
                    parent.elsewhere.reads |= reads_other;
                    parent.elsewhere.writes |= writes_other;
                }
            }
        }
    }

    /// What the kernel told of those that were found gone.
    pub(super) fn read_exits(&mut self, ended_children: &Ended) {
        self.exits.look();
        for id in ended_children.values().flatten() {
            let Some(process) = self.processes.get_mut(id).filter(|it| it.is_reported) else {
                continue;
            };
            let children = ended_children.get(&id.pid).into_iter().flatten().map(|child| child.pid);
            process.ended_with(self.exits.of(*id, children));
        }
    }

    /// What the kernel told of members that had gone before anybody looked at them.
    pub(super) fn read_exits_of_unseen(&mut self, ids: &[MemberId]) {
        self.exits.look();
        for id in ids {
            let has_gone = |child: &&MemberId| {
                self.processes.get(*child).is_some_and(|process| process.watch.is_none())
            };
            let children = self.children.get(&id.pid).into_iter().flatten().filter(has_gone);
            let account = self.exits.of(*id, children.map(|child| child.pid));
            if let Some(process) = self.processes.get_mut(id).filter(|it| it.is_reported) {
                process.ended_with(account);
            }
        }
    }

    /// Adds what the children of a process moved after the last look at them.
    pub(super) fn inherit(&mut self, parent: i32, ended_children: &Ended) {
        let members = ended_children.get(&parent).map_or(&[][..], Vec::as_slice);
        let Some(Growth { heir, counted, grown, with_them }) = self.grown(parent, ended_children)
        else {
            // What they moved after the last look at them is unknown, unless the kernel reported
            // it.
            for id in members {
                let process = self.processes.get_mut(id);
                let Some(process) = process.filter(|it| it.account.is_none()) else { continue };
                let (fastest, last) = (process.fastest, process.last);
                let is_much = |late: u64, known: u64| {
                    process.age < 2 || late > START_UP_BYTES.max(known / SMALL_PART)
                };
                process.elsewhere.reads |= is_much(fastest.read_bytes, last.read_bytes);
                process.elsewhere.writes |= is_much(fastest.written_bytes, last.written_bytes);
            }
            return;
        };
        if let Some(heir) = self.parents.get_mut(&heir) {
            // What it grows by from here on is by others.
            (heir.attributed, heir.inherits) = (counted, true);
        }
        let all: Vec<MemberId> = members.iter().chain(&with_them).copied().collect();
        let total = |ids: &[MemberId], field: fn(&IoCounts) -> u64| -> u64 {
            ids.iter().filter_map(|id| self.processes.get(id)).map(|it| field(&it.last)).sum()
        };
        let late = grown.since(IoCounts {
            read_bytes: total(&all, |counts| counts.read_bytes),
            written_bytes: total(&all, |counts| counts.written_bytes),
            ..IoCounts::default()
        });
        let is_told =
            |id: &MemberId| self.processes.get(id).is_some_and(|process| process.account.is_some());
        let (told, sharers): (Vec<MemberId>, Vec<MemberId>) = all.into_iter().partition(is_told);
        if let ([id], []) = (&told[..], &sharers[..]) {
            self.processes.entry(*id).and_modify(|process| process.grew_by(grown));
            return;
        }
        // What is new is by those that the kernel did not tell of. With several of them, the larger
        // part goes to who moved more.
        let read = total(&sharers, |counts| counts.read_bytes);
        let written = total(&sharers, |counts| counts.written_bytes);
        let is_shared = sharers.len() > 1;
        for id in &sharers {
            let Some(process) = self.processes.get_mut(id) else { continue };
            // If there are several, it cannot be assigned, so it must be small; but it hardly
            // belongs to one that has lived for a while and moved nothing, such as one that waits
            // for its child.
            let age = process.age;
            let is_doubtful = |late: u64, known: u64| {
                is_shared && late > known / DOUBTFUL_PART && (known > 0 || age < 2)
            };
            process.elsewhere.reads |= is_doubtful(late.read_bytes, process.last.read_bytes);
            process.elsewhere.writes |= is_doubtful(late.written_bytes, process.last.written_bytes);
            let late_read = share(late.read_bytes, process.last.read_bytes, read);
            let late_written = share(late.written_bytes, process.last.written_bytes, written);
            // So much more than ever before may be another's growth, as that of a child which the
            // parent waited for at the same time: then this process's own count is not known.
            let (fastest, elsewhere) = (process.fastest, &mut process.elsewhere);
            if is_plausible(late_read, fastest.read_bytes) {
                process.last.read_bytes += late_read;
            } else {
                elsewhere.reads = true;
            }
            if is_plausible(late_written, fastest.written_bytes) {
                process.last.written_bytes += late_written;
            } else {
                elsewhere.writes = true;
            }
        }
    }

    /// What these left to who waited for them.
    fn grown(&self, pid: i32, ended_children: &Ended) -> Option<Growth> {
        let parent = self.parents.get(&pid)?;
        if let Some(counted) = parent.counted() {
            let grown = counted.since(parent.attributed);
            let with_them = with_them(pid, &[pid], &[], ended_children);
            return Some(Growth { heir: pid, counted, grown, with_them });
        }
        // Of those that have ended since the latest look, their parents have inherited all.
        let mut ended = vec![pid];
        let mut known = parent.base.plus(parent.attributed);
        let mut last = parent;
        let (heir, counted) = loop {
            let ended_now = last.gone_at.is_none_or(|look| look == self.looks);
            let above = last.parent.filter(|pid| ended_now && !ended.contains(pid))?;
            last = self.parents.get(&above)?;
            match last.counted() {
                Some(counted) => break (above, counted),
                None => {
                    ended.push(above);
                    known = known.plus(last.base).plus(last.attributed);
                }
            }
        };
        let grown = counted.since(last.attributed).since(known);
        let beside: Vec<i32> = ended.iter().copied().chain([heir]).collect();
        Some(Growth {
            heir,
            counted,
            grown,
            with_them: with_them(pid, &beside, &ended, ended_children),
        })
    }
}

/// Whose counts came with those of the children of `pid`: what these, and the other children of
/// `parents`, waited for themselves since they were looked at; but for those who `ended` between.
fn with_them(pid: i32, parents: &[i32], ended: &[i32], ended_children: &Ended) -> Vec<MemberId> {
    let mut seen: FxHashSet<i32> = parents.iter().copied().collect();
    let mut parents = parents.to_vec();
    let mut found = Vec::new();
    while let Some(parent) = parents.pop() {
        for &id in ended_children.get(&parent).into_iter().flatten() {
            if parent != pid && !ended.contains(&id.pid) {
                found.push(id);
            }
            // Pids go round.
            if seen.insert(id.pid) {
                parents.push(id.pid);
            }
        }
    }
    found
}

/// Whether a process can have moved that much after the last look at it.
fn is_plausible(late: u64, fastest: u64) -> bool {
    late <= 4 * fastest + (64 << 10)
}

/// `part / whole` of an amount.
fn share(amount: u64, part: u64, whole: u64) -> u64 {
    let whole = u128::from(whole.max(1));
    (u128::from(amount) * u128::from(part) / whole) as u64
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}
