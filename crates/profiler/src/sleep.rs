//! Blocked time of each member, by the stack slept in: puts the lives of threads, the sampled
//! stacks and the scheduler's own account together.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::accounts::{Account, Charged};
use crate::address_space::SpaceId;
use crate::perfdata::layout::SampleId;
use crate::perfdata::record::Task;
use crate::profile::{Frame, FrameKind, Mode, Profile, StackWeight, TimeSplit};
use crate::raw_stacks::RawStacks;
use crate::recording::Meta;
use crate::states;
use crate::thread_time::{Activity, Interval, Start, ThreadTimes};
use crate::timeline::Blocked;
use crate::windows::Window;

/// What is known of where a thread slept.
#[derive(Clone, Copy, Debug)]
enum Slept {
    /// A call chain, and the switches it stands for.
    Sampled { stack: usize, period: u64 },
    /// The kernel function that `/proc` named when the capture began.
    Wchan { thread: usize },
}

/// What gathers as the records go by.
#[derive(Debug)]
pub(crate) struct Sleep<'a> {
    meta: &'a Meta,
    /// When lives end that go on.
    end_ns: u64,
    /// Only what happens within this time counts.
    part: Option<Window>,
    threads: ThreadTimes<Slept>,
    lives: FxHashMap<i32, Life>,
    /// Lives of threads whose ids were given to others.
    past: Vec<Life>,
    /// Weighted with the period of their samples: sleeps too short to be looked at.
    stacks: RawStacks,
    /// Nanoseconds of the sleeps that are known one by one, by stack.
    known: FxHashMap<usize, u64>,
    wchans: BTreeMap<(usize, &'a str), u64>,
    /// Sleeps that have ended and were not taken yet, where they are wanted one by one.
    kept: Option<Vec<Blocked>>,
    /// Where in the meta each thread stands that was there at the start.
    noted: FxHashMap<i32, usize>,
}

/// One thread's sums, in nanoseconds, by its switches.
#[derive(Clone, Copy, Debug)]
struct Life {
    pid: i32,
    member: usize,
    began: u64,
    ended: Option<u64>,
    on_cpu: u64,
    blocked: u64,
    /// The part of `blocked` that looks told, where no switches were recorded.
    looked: u64,
    preempted: u64,
    /// The parts of `on_cpu` and `preempted` after the latest reading of the thread's account.
    on_cpu_since: u64,
    preempted_since: u64,
    sleeps: u64,
    preemptions: u64,
}

impl Life {
    fn new(pid: i32, member: usize, began: u64) -> Self {
        Life {
            pid,
            member,
            began,
            ended: None,
            on_cpu: 0,
            blocked: 0,
            looked: 0,
            preempted: 0,
            on_cpu_since: 0,
            preempted_since: 0,
            sleeps: 0,
            preemptions: 0,
        }
    }

    /// What was seen of it for a share of the time, made whole.
    fn extrapolated(self, end_ns: u64) -> Self {
        let lifetime = self.ended.unwrap_or(end_ns).saturating_sub(self.began);
        let slept = self.blocked - self.looked;
        let seen = self.on_cpu + slept + self.preempted;
        let whole = |part| if seen == 0 { 0 } else { scale(part, lifetime, seen) };
        Life {
            on_cpu: whole(self.on_cpu),
            blocked: whole(slept),
            preempted: whole(self.preempted),
            sleeps: whole(self.sleeps),
            preemptions: whole(self.preemptions),
            ..self
        }
    }

    /// Its sleeps and preemptions, of which there is one before each run but the first. The windows
    /// tell the two apart; how many there were they tell badly, as the faster a thread switches the
    /// shorter they are.
    fn counted(self, account: Option<Charged>) -> Self {
        let seen = self.sleeps + self.preemptions;
        match account {
            Some(Charged { account: Account { runs, .. }, .. }) if runs > 0 && seen > 0 => {
                let sleeps = scale(self.sleeps, runs, seen);
                Life { sleeps, preemptions: runs - sleeps, ..self }
            }
            _ => self,
        }
    }

    /// Its split. The scheduler's account comes first, as far as it goes: between the record of a
    /// switch-out and that of the switch-in lies the switch itself, which the scheduler charges as
    /// time on CPU, and only it knows how long a woken thread waited for a CPU.
    fn split(&self, account: Option<Charged>, end_ns: u64) -> TimeSplit {
        let lifetime_ns = self.ended.unwrap_or(end_ns).saturating_sub(self.began);
        let (sleeps, preemptions) = (self.sleeps, self.preemptions);
        let Some(Charged { account, .. }) = account else {
            return TimeSplit {
                lifetime_ns,
                on_cpu_ns: self.on_cpu,
                blocked_ns: self.blocked,
                runnable_ns: self.preempted,
                wake_delay_ns: None,
                sleeps,
                preemptions,
            };
        };
        let on_cpu_ns = (account.cpu_ns + self.on_cpu_since).min(lifetime_ns);
        let runnable_ns = account.run_delay_ns + self.preempted_since;
        // A wait that goes on is in no account yet, so of a thread that never slept the rest is that.
        let never_slept = self.blocked == 0 && self.looked == 0;
        let most = lifetime_ns - on_cpu_ns;
        let runnable_ns = if never_slept { most } else { runnable_ns.min(most) };
        TimeSplit {
            lifetime_ns,
            on_cpu_ns,
            blocked_ns: lifetime_ns - on_cpu_ns - runnable_ns,
            runnable_ns,
            wake_delay_ns: Some(runnable_ns.saturating_sub(self.preempted)),
            sleeps,
            preemptions,
        }
    }
}

/// The scheduler's account comes first, see [`Life::split`].
fn charge(split: &mut TimeSplit, account: states::Account) {
    let preempted = split.runnable_ns;
    split.on_cpu_ns = account.cpu_ns.min(split.lifetime_ns);
    let most = split.lifetime_ns - split.on_cpu_ns;
    split.runnable_ns = account.run_delay_ns.min(most);
    split.blocked_ns = most - split.runnable_ns;
    split.wake_delay_ns = Some(split.runnable_ns.saturating_sub(preempted));
}

/// The result, stacks weighted with nanoseconds.
pub(crate) struct SleptTimes {
    pub(crate) stacks: RawStacks,
    splits: Option<Vec<TimeSplit>>,
    wchans: Vec<(usize, String, u64)>,
    unsampled: Vec<(usize, u64)>,
}

impl<'a> Sleep<'a> {
    pub(crate) fn new(meta: &'a Meta, member_of: &FxHashMap<i32, usize>) -> Self {
        let mut sleep = Sleep {
            meta,
            end_ns: meta.end_ns,
            part: None,
            threads: ThreadTimes::new(),
            lives: FxHashMap::default(),
            past: Vec::new(),
            stacks: RawStacks::default(),
            known: FxHashMap::default(),
            wchans: BTreeMap::new(),
            kept: None,
            noted: meta.threads.iter().enumerate().rev().map(|(at, one)| (one.tid, at)).collect(),
        };
        for (index, thread) in meta.threads.iter().enumerate() {
            let Some(&member) = member_of.get(&thread.pid) else { continue };
            let start = if thread.asleep { Start::Asleep } else { Start::Running };
            let stack = thread.wchan.as_ref().map(|_| Slept::Wchan { thread: index });
            sleep.lives.insert(thread.tid, Life::new(thread.pid, member, meta.start_ns));
            sleep.threads.begin(thread.tid, meta.start_ns, start, stack);
        }
        sleep
    }

    /// A thread of a member began, and what it does is recorded from `recorded` on.
    pub(crate) fn born(&mut self, task: Task, member: usize, time: u64, recorded: u64) {
        let tid = task.tid;
        self.exit(tid, Some(time));
        self.past.extend(self.lives.insert(tid, Life::new(task.pid, member, time)));
        self.threads.begin(tid, recorded, Start::New, None);
    }

    /// A thread that was not noted at the start is on a CPU: its life begins here, as far as it is
    /// known. Where its process has become another member, the life goes on as that one's.
    pub(crate) fn seen(&mut self, pid: i32, tid: i32, member: usize, time: u64) {
        self.end_ns = self.end_ns.max(time);
        match self.lives.get_mut(&tid) {
            Some(life) if life.ended.is_none() && life.member == member => return,
            Some(life) if life.ended.is_none() => {
                if let Some(interval) = self.threads.cut(tid, time) {
                    self.lived(interval);
                }
            }
            _ => self.threads.begin(tid, time, Start::Running, None),
        }
        if let Some(mut life) = self.lives.insert(tid, Life::new(pid, member, time)) {
            life.ended.get_or_insert(time);
            self.past.push(life);
        }
    }

    /// A thread of what a member started was there at the start.
    pub(crate) fn found(&mut self, task: Task, member: usize) {
        let tid = task.tid;
        let Some(&index) = self.noted.get(&tid) else { return };
        let thread = &self.meta.threads[index];
        let start = if thread.asleep { Start::Asleep } else { Start::Running };
        let stack = thread.wchan.as_ref().map(|_| Slept::Wchan { thread: index });
        self.lives.insert(tid, Life::new(task.pid, member, self.meta.start_ns));
        self.threads.begin(tid, self.meta.start_ns, start, stack);
    }

    /// Has only what happens within this time count.
    pub(crate) fn only(&mut self, part: Window) {
        self.part = Some(part);
    }

    /// The part of a stretch of time that counts.
    fn counted(&self, from: u64, until: u64) -> (u64, u64) {
        let (first, last) = self.part.unwrap_or((0, u64::MAX));
        (from.clamp(first, last), until.clamp(first, last))
    }

    /// Keeps each sleep until it is [taken](Self::take_sleeps).
    pub(crate) fn keep_sleeps(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// The sleeps that ended since the last time.
    pub(crate) fn take_sleeps(&mut self) -> impl Iterator<Item = Blocked> + '_ {
        self.kept.iter_mut().flat_map(|kept| kept.drain(..))
    }

    /// A thread of no member began: the previous owner of its tid has ended.
    pub(crate) fn given_away(&mut self, tid: i32, time: Option<u64>) {
        self.exit(tid, time);
        self.past.extend(self.lives.remove(&tid));
    }

    /// A thread ended.
    pub(crate) fn exit(&mut self, tid: i32, time: Option<u64>) {
        let Some(time) = time else { return };
        if self.lives.get(&tid).is_none_or(|life| life.ended.is_some()) {
            return;
        }
        if let Some(interval) = self.threads.end(tid, time) {
            self.lived(interval);
        }
        if let Some(life) = self.lives.get_mut(&tid) {
            life.ended = Some(time);
        }
    }

    /// A thread is about to be switched out.
    pub(crate) fn sampled(
        &mut self,
        tid: i32,
        member: usize,
        space: SpaceId,
        chain: &[u64],
        period: u64,
    ) {
        let stack = self.stacks.add(member, space, chain, 0, 0);
        self.threads.sampled(tid, Slept::Sampled { stack, period });
    }

    /// A thread was switched out or in.
    pub(crate) fn switch(&mut self, id: SampleId, out: bool, preempted: bool) {
        let (Some(tid), Some(time)) = (id.tid, id.time) else { return };
        // Switches of a later thread with the same number are not its.
        let life = self.lives.get_mut(&tid).filter(|life| life.ended.is_none());
        let Some(life) = life else { return };
        let counts = self.part.is_none_or(|(from, until)| (from..until).contains(&time));
        let interval = if out {
            if preempted {
                life.preemptions += u64::from(counts);
            } else {
                life.sleeps += u64::from(counts);
            }
            self.threads.switched_out(tid, time, preempted)
        } else {
            self.threads.switched_in(tid, time)
        };
        if let Some(interval) = interval {
            self.lived(interval);
        }
    }

    /// Nothing was recorded from `from` to `until`, so looks have to tell.
    pub(crate) fn gap(&mut self, from: u64, until: u64) {
        let meta = self.meta;
        for tid in self.threads.alive() {
            let Some(life) = self.lives.get_mut(&tid) else { continue };
            let (first, last) = self.part.unwrap_or((0, u64::MAX));
            let (from, until) = (from.max(life.began).clamp(first, last), until.clamp(first, last));
            for (wchan, ns) in meta.sleepers.between(tid, from, until) {
                life.blocked += ns;
                life.looked += ns;
                *self.wchans.entry((life.member, wchan)).or_default() += ns;
            }
        }
        for interval in self.threads.skip(from, until) {
            self.lived(interval);
        }
    }

    /// The member that a thread belongs to.
    pub(crate) fn member_of(&self, tid: i32) -> Option<usize> {
        self.lives.get(&tid).map(|life| life.member)
    }

    fn lived(&mut self, interval: Interval<Slept>) {
        let (from, until) =
            self.counted(interval.until.saturating_sub(interval.ns), interval.until);
        if from >= until && self.part.is_some() {
            return;
        }
        let interval = Interval { ns: until - from, until, ..interval };
        let Some(life) = self.lives.get_mut(&interval.tid) else { return };
        let read_at = self.meta.accounts.of(interval.tid).map_or(u64::MAX, |c| c.read_at_ns);
        let since = interval.until.saturating_sub(read_at).min(interval.ns);
        match interval.activity {
            Activity::OnCpu => {
                life.on_cpu += interval.ns;
                life.on_cpu_since += since;
            }
            Activity::Runnable => {
                life.preempted += interval.ns;
                life.preempted_since += since;
            }
            Activity::Blocked => {
                life.blocked += interval.ns;
                if let Some(kept) = &mut self.kept {
                    let stack = match interval.stack {
                        Some(Slept::Sampled { stack, .. }) => Some(stack),
                        _ => None,
                    };
                    let (pid, member) = (life.pid, life.member);
                    let Interval { tid, until, ns, .. } = interval;
                    kept.push(Blocked { pid, tid, member, until, ns, stack });
                }
                let from = interval.until.saturating_sub(interval.ns);
                let looked = self.meta.sleepers.within(interval.tid, from, interval.until);
                match (interval.stack, looked) {
                    (Some(Slept::Sampled { stack, .. }), Some(_)) => {
                        self.stacks.count(stack);
                        *self.known.entry(stack).or_default() += interval.ns;
                    }
                    (Some(Slept::Sampled { stack, period }), None) => {
                        self.stacks.count(stack);
                        let weight = self.stacks.weight_mut(stack);
                        *weight = weight.saturating_add(interval.ns.saturating_mul(period));
                    }
                    (Some(Slept::Wchan { thread }), _) => {
                        if let Some(wchan) = &self.meta.threads[thread].wchan {
                            *self.wchans.entry((life.member, wchan)).or_default() += interval.ns;
                        }
                    }
                    (None, Some(wchan)) => {
                        *self.wchans.entry((life.member, wchan)).or_default() += interval.ns;
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// Ends the lives that go on.
    pub(crate) fn end_lives(&mut self) {
        if !self.meta.setup.switches {
            return;
        }
        for tid in self.threads.alive() {
            if let Some(interval) = self.threads.end(tid, self.end_ns) {
                self.lived(interval);
            }
        }
    }

    /// Turns weights into nanoseconds, once all lives have [ended](Self::end_lives).
    /// `charged` is what the scheduler charged to each member within the time that counts, where
    /// that is a part.
    pub(crate) fn finish(
        mut self,
        members: usize,
        charged: &[Option<states::Account>],
    ) -> SleptTimes {
        if !self.meta.setup.switches {
            let (wchans, unsampled) = (Vec::new(), Vec::new());
            return SleptTimes { stacks: RawStacks::default(), splits: None, wchans, unsampled };
        }
        let (mut splits, raw_blocked) = self.add_up(members);
        for (split, account) in splits.iter_mut().zip(charged) {
            if let Some(account) = account {
                charge(split, *account);
            }
        }
        let mut wchans = Vec::new();
        let mut found_asleep = vec![0; splits.len()];
        for (&(member, wchan), &ns) in &self.wchans {
            found_asleep[member] += ns;
            let ns = scale(ns, splits[member].blocked_ns, raw_blocked[member]);
            wchans.push((member, wchan.to_owned(), ns));
        }
        for (&stack, ns) in &self.known {
            found_asleep[self.stacks.member(stack)] += ns;
        }
        let mut estimated = vec![0u64; splits.len()];
        for index in 0..self.stacks.len() {
            let sum = &mut estimated[self.stacks.member(index)];
            *sum = sum.saturating_add(*self.stacks.weight_mut(index));
        }
        // Sampled stacks share what is not known, in proportion to what they stand for.
        let shares: Vec<u64> = (0..splits.len())
            .map(|member| {
                let unfound = raw_blocked[member].saturating_sub(found_asleep[member]);
                scale(unfound, splits[member].blocked_ns, raw_blocked[member])
            })
            .collect();
        for index in 0..self.stacks.len() {
            let member = self.stacks.member(index);
            let known = self.known.get(&index).copied().unwrap_or(0);
            let known = scale(known, splits[member].blocked_ns, raw_blocked[member]);
            let weight = self.stacks.weight_mut(index);
            *weight = known + scale(*weight, shares[member], estimated[member]);
        }
        let unsampled = (0..splits.len())
            .filter(|&member| estimated[member] == 0 && shares[member] > 0)
            .map(|member| (member, shares[member]))
            .collect();
        SleptTimes { stacks: self.stacks, splits: Some(splits), wchans, unsampled }
    }

    /// The splits of the members, and their blocked time before the scheduler's account corrects
    /// it, which is what the stacks were weighted with.
    fn add_up(&self, members: usize) -> (Vec<TimeSplit>, Vec<u64>) {
        let mut splits = vec![TimeSplit { wake_delay_ns: Some(0), ..Default::default() }; members];
        let mut raw_blocked = vec![0; members];
        let past = self.past.iter().map(|life| (None, life));
        for (tid, life) in self.lives.iter().map(|(&tid, life)| (Some(tid), life)).chain(past) {
            // The account belongs to the last thread with this tid.
            let account = tid.and_then(|tid| self.meta.accounts.of(tid));
            // It is one of all the time.
            let account = account.filter(|_| self.part.is_none());
            let (began, end_ns) = self.counted(life.began, self.end_ns);
            let ended = life.ended.map(|ended| self.counted(began, ended.max(began)).1);
            let life = Life { began, ended, ..*life };
            let whole = match self.meta.windows[..] {
                [] => life,
                _ => life.extrapolated(end_ns).counted(account),
            };
            let one = whole.split(account, end_ns);
            let sum = &mut splits[life.member];
            *sum = sum.plus(one);
            raw_blocked[life.member] += life.blocked;
        }
        (splits, raw_blocked)
    }
}

impl SleptTimes {
    /// Adds what has no call chain of its own, and the splits.
    pub(crate) fn put_into(self, profile: &mut Profile) {
        for (member, wchan, ns) in self.wchans {
            put_named(profile, member, &wchan, FrameKind::Symbol, ns);
        }
        for (member, ns) in self.unsampled {
            put_named(profile, member, "[stack not sampled]", FrameKind::Unresolved, ns);
        }
        for (member, split) in self.splits.into_iter().flatten().enumerate() {
            profile.members[member].cpu_time_ns = Some(split.on_cpu_ns);
            profile.members[member].time = Some(split);
        }
    }
}

/// Adds a kernel stack that is known by name, leaf first, its functions joined by `;`.
fn put_named(profile: &mut Profile, member: usize, stack: &str, kind: FrameKind, ns: u64) {
    let module: Arc<str> = Arc::from("[kernel.kallsyms]");
    let frame = |name: &str| Frame {
        name: name.into(),
        module: Some(Arc::clone(&module)),
        mode: Mode::Kernel,
        kind,
        offset: 0,
    };
    let frames: Vec<_> = stack.split(';').map(|name| profile.intern_frame(frame(name))).collect();
    let stack = profile.intern_stack(&frames);
    profile.members[member].blocked.push(StackWeight { stack, samples: 1, weight: ns });
}

/// `part` of `whole`, with `whole` made `target`.
fn scale(part: u64, target: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    (u128::from(part) * u128::from(target) / u128::from(whole)) as u64
}
