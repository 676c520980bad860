//! The states of processes over time, in bounded memory.
//!
//! Time is cut into bins. A bin counts *joint* states, what all processes did at one look, as who
//! limits a pipeline shows only in what they did at the same moment. When there are too many bins,
//! neighbours are merged: a long watch gets coarser instead of larger.

use pipeprof_runner::cgroup::Container;
use pipeprof_runner::pipeline::{PipeKey, Pipeline};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::connections::Connection;

/// Index of a pipe in [`Timeline::pipes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PipeRef(pub u32);

impl PipeRef {
    /// Some pipe that the process holds on this side; the kernel did not tell which.
    pub const ANY: PipeRef = PipeRef(u32::MAX);
}

/// Index of a process in [`Timeline::processes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessRef(pub u32);

/// Index of a state in [`Timeline::states`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateRef(pub u32);

/// What a thread waits for that is no pipe; the more telling come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Pages that it wrote to have to go to the disk before it may write more.
    Writeback,
    /// A disk, or a file system that somebody else serves.
    Disk,
    /// A page that has to be read or freed first.
    Memory,
    /// A socket.
    Network,
    /// A time.
    Timer,
    /// A terminal.
    Terminal,
    /// A lock on a file.
    FileLock,
    /// The other end of a FIFO that it opens.
    Open,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// A child process.
    Child,
    /// A signal.
    Signal,
    /// In poll, select or epoll for something else.
    Poll,
    /// Something else.
    Other,
    /// Another thread of its own.
    Thread,
    /// Asleep; the kernel does not tell this user where.
    Unknown,
}

/// What one process does at a moment, by all its threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessState {
    /// Threads that run or wait for a CPU.
    #[serde(default, rename = "run", skip_serializing_if = "is_zero")]
    pub running: u16,
    /// Pipes that threads wait at for data, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<PipeRef>,
    /// Pipes that threads wait at for space, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub space: Vec<PipeRef>,
    /// The most telling of what else threads wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl ProcessState {
    /// A thread runs or could.
    pub(super) fn runs(&mut self) {
        self.running = self.running.saturating_add(1);
    }

    /// A thread waits for something that is no pipe.
    pub(super) fn waits(&mut self, why: Why) {
        self.why = Some(self.why.map_or(why, |known| known.min(why)));
    }

    /// A thread waits at a pipe.
    pub(super) fn waits_at(&mut self, pipe: PipeRef, for_space: bool) {
        let pipes = if for_space { &mut self.space } else { &mut self.data };
        if let Err(at) = pipes.binary_search(&pipe) {
            pipes.insert(at, pipe);
        }
    }
}

/// A process that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessSeen {
    /// Thread-group id.
    pub pid: i32,
    /// With the pid, its identity.
    pub start_time_ticks: Option<u64>,
    /// Who started it.
    pub parent: i32,
    /// Its name, latest; chosen by the process, so not to be trusted.
    pub comm: String,
    /// First look at it.
    pub first_ns: u64,
    /// Last look at it.
    pub last_ns: u64,
    /// Most threads it had at a time.
    pub threads: u32,
    /// CPU time of the thread that used most.
    pub busiest_thread_ns: u64,
    /// Its name, where that is not the process's.
    pub busiest_thread: Option<String>,
    /// CPU time of the thread that used most after it.
    #[serde(default)]
    pub second_thread_ns: u64,
    /// CPUs that the quota of its control group allows; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_cpus: Option<f64>,
    /// CPUs that its first thread may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_allowed: Option<u32>,
    /// The container that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// TCP connections at which its threads waited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// For so long that quota kept the group from running, on all CPUs together.
    #[serde(default)]
    pub throttled_ns: u64,
}

/// How long tasks of the whole machine were stalled, while it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some task waited for memory, in nanoseconds.
    pub memory_some_ns: u64,
    /// All that were not idle did.
    pub memory_full_ns: u64,
}

/// What the scheduler charged to a process within a bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// On a CPU, all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Waited for one, all threads, in nanoseconds.
    pub run_delay_ns: u64,
}

/// A stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// `CLOCK_MONOTONIC` ns.
    pub from_ns: u64,
    /// The start of the next, unless nothing was looked at in between.
    pub until_ns: u64,
    /// Joint states (index into [`Timeline::joints`]) with the looks that found each; fractions
    /// after merging.
    pub joints: Vec<(u32, f32)>,
    /// What was charged to each process.
    pub accounts: Vec<(ProcessRef, Account)>,
}

/// All that looks found. Times are `CLOCK_MONOTONIC` ns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// When looking began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// How many looks were taken.
    pub looks: u64,
    /// Looks at threads that found out nothing, as the kernel tells this user less.
    pub blind: u64,
    /// Who was looked at.
    pub processes: Vec<ProcessSeen>,
    /// The pipes that [`ProcessState`]s name.
    pub pipes: Vec<PipeKey>,
    /// Each state once.
    pub states: Vec<ProcessState>,
    /// Each joint state once: who was there, and how.
    pub joints: Vec<Vec<(ProcessRef, StateRef)>>,
    /// In the order of time.
    pub bins: Vec<Bin>,
    /// `None` where the kernel does not account for it.
    #[serde(default)]
    pub pressure: Option<Pressure>,
    /// CPUs of the machine that were idle, on average; `None` where that is not known.
    #[serde(default)]
    pub idle_cpus: Option<f64>,
}

/// Puts a [`Timeline`] together.
#[derive(Debug)]
pub(super) struct Builder {
    made: Timeline,
    width_ns: u64,
    keep_ns: Option<u64>,
    states: FxHashMap<ProcessState, StateRef>,
    joints: FxHashMap<Vec<(ProcessRef, StateRef)>, u32>,
    pipes: FxHashMap<PipeKey, PipeRef>,
    /// By the inode of a socket the links that it receives from and sends to.
    sockets: FxHashMap<u64, SocketLinks>,
    /// With more joint states than this it is time to forget those that were thinned out.
    crowded: usize,
}

/// The links of a pipeline that a socket is an end of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SocketLinks {
    /// What arrives at it.
    pub(super) arrives: Option<PipeKey>,
    /// What is sent from it.
    pub(super) leaves: Option<PipeKey>,
}

/// See [`Builder::crowded`].
const CROWDED: usize = 10_000;

/// Bins of a new watch: a few looks each.
const FIRST_WIDTH_NS: u64 = 20_000_000;

/// More bins than this are merged.
const MOST_BINS: usize = 2_048;

/// More joint states than this in a bin are thinned out.
const MOST_JOINTS: usize = 48;

impl Builder {
    pub(super) fn new(start_ns: u64, keep_ns: Option<u64>) -> Self {
        Builder {
            made: Timeline { start_ns, end_ns: start_ns, ..Timeline::default() },
            width_ns: FIRST_WIDTH_NS,
            keep_ns,
            states: FxHashMap::default(),
            joints: FxHashMap::default(),
            pipes: FxHashMap::default(),
            sockets: FxHashMap::default(),
            crowded: CROWDED,
        }
    }

    pub(super) fn pipe(&mut self, name: PipeKey) -> PipeRef {
        let next = PipeRef(self.made.pipes.len() as u32);
        *self.pipes.entry(name).or_insert_with(|| {
            self.made.pipes.push(name);
            next
        })
    }

    /// Takes up the links of a pipeline that are sockets.
    pub(super) fn connect(&mut self, pipeline: &Pipeline) {
        for pipe in &pipeline.pipes {
            let Some(sender) = pipe.link.sender() else { continue };
            self.sockets.entry(pipe.inode).or_default().arrives = Some(pipe.key());
            self.sockets.entry(sender).or_default().leaves = Some(pipe.key());
        }
    }

    /// The link that a thread waits at which waits for data of a socket, or for space; `None` where
    /// that carries nothing for the pipeline.
    pub(super) fn link(&mut self, socket: u64, for_space: bool) -> Option<PipeRef> {
        let links = self.sockets.get(&socket)?;
        let key = if for_space { links.leaves } else { links.arrives };
        key.map(|key| self.pipe(key))
    }

    pub(super) fn process(&mut self, seen: ProcessSeen) -> ProcessRef {
        self.made.processes.push(seen);
        ProcessRef(self.made.processes.len() as u32 - 1)
    }

    pub(super) fn process_mut(&mut self, process: ProcessRef) -> &mut ProcessSeen {
        &mut self.made.processes[process.0 as usize]
    }

    pub(super) fn pressed(&mut self, pressure: Pressure) {
        self.made.pressure = Some(pressure);
    }

    pub(super) fn idled(&mut self, cpus: f64) {
        self.made.idle_cpus = Some(cpus);
    }

    pub(super) fn was_blind(&mut self) {
        self.made.blind += 1;
    }

    /// Adds what all processes did at one moment.
    pub(super) fn look(&mut self, now_ns: u64, found: &[(ProcessRef, ProcessState)]) {
        self.made.looks += 1;
        self.made.end_ns = now_ns;
        let joint: Vec<(ProcessRef, StateRef)> =
            found.iter().map(|(process, state)| (*process, self.state(state))).collect();
        for &(process, _) in &joint {
            self.process_mut(process).last_ns = now_ns;
        }
        let next = self.made.joints.len() as u32;
        let joint = match self.joints.get(&joint) {
            Some(&known) => known,
            None => {
                self.made.joints.push(joint.clone());
                self.joints.insert(joint, next);
                next
            }
        };
        let bin = self.bin_at(now_ns);
        bin.until_ns = now_ns;
        match bin.joints.iter_mut().find(|(known, _)| *known == joint) {
            Some((_, looks)) => *looks += 1.0,
            None => bin.joints.push((joint, 1.0)),
        }
        if bin.joints.len() > 2 * MOST_JOINTS {
            bin.thin_out();
        }
        if self.made.joints.len() > self.crowded {
            self.forget_unused_joints();
        }
    }

    /// Adds what was charged to a process since the last time.
    pub(super) fn charge(&mut self, process: ProcessRef, account: Account) {
        // Before the first look there is no time to charge to.
        let Some(bin) = self.made.bins.last_mut() else { return };
        match bin.accounts.iter_mut().find(|(of, _)| *of == process) {
            Some((_, known)) => {
                known.cpu_ns += account.cpu_ns;
                known.run_delay_ns += account.run_delay_ns;
            }
            None => bin.accounts.push((process, account)),
        }
    }

    fn state(&mut self, state: &ProcessState) -> StateRef {
        if let Some(&known) = self.states.get(state) {
            return known;
        }
        let new = StateRef(self.made.states.len() as u32);
        self.made.states.push(state.clone());
        self.states.insert(state.clone(), new);
        new
    }

    fn bin_at(&mut self, now_ns: u64) -> &mut Bin {
        let is_over = match self.made.bins.last() {
            Some(bin) => now_ns >= bin.from_ns + self.width_ns,
            None => true,
        };
        if is_over {
            if self.made.bins.len() >= MOST_BINS {
                self.make_room(now_ns);
            }
            let from_ns = self.made.bins.last().map_or(self.made.start_ns, |bin| bin.until_ns);
            self.made.bins.push(Bin { from_ns, until_ns: now_ns, ..Bin::default() });
        }
        let last = self.made.bins.len() - 1;
        &mut self.made.bins[last]
    }

    fn make_room(&mut self, now_ns: u64) {
        if let Some(keep_ns) = self.keep_ns {
            let since = now_ns.saturating_sub(keep_ns);
            self.made.bins.retain(|bin| bin.until_ns >= since);
        }
        if self.made.bins.len() * 4 >= MOST_BINS * 3 {
            self.width_ns *= 2;
            self.made.merge_neighbours();
        }
        self.forget_unused_joints();
    }

    fn forget_unused_joints(&mut self) {
        self.made.forget_unused_joints();
        self.joints = self.made.joints.iter().cloned().zip(0..).collect();
        self.crowded = CROWDED.max(2 * self.made.joints.len());
    }

    /// What was added since the last time. Processes, pipes and states keep their places.
    pub(super) fn take(&mut self, now_ns: u64) -> Timeline {
        let mut part = self.made.clone();
        part.end_ns = now_ns;
        if let Some(bin) = part.bins.last_mut() {
            bin.until_ns = now_ns;
        }
        self.joints.clear();
        let Timeline { start_ns, looks, blind, joints, bins, .. } = &mut self.made;
        (*start_ns, *looks, *blind) = (now_ns, 0, 0);
        joints.clear();
        bins.clear();
        part
    }

    pub(super) fn finish(mut self, now_ns: u64) -> Timeline {
        self.made.end_ns = now_ns;
        if let Some(bin) = self.made.bins.last_mut() {
            bin.until_ns = now_ns;
        }
        self.made.forget_unused_joints();
        self.made
    }

    pub(super) fn so_far(&self) -> &Timeline {
        &self.made
    }
}

impl Timeline {
    /// Whether every index refers to something and time goes forward, as it does in what a
    /// [`Looker`](super::Looker) made; else what is wrong. To be asked of what was read from a file.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        let within = |index: u32, length: usize| (index as usize) < length;
        let pipes_are_known = |state: &ProcessState| {
            let mut pipes = state.data.iter().chain(&state.space);
            pipes.all(|&pipe| pipe == PipeRef::ANY || within(pipe.0, self.pipes.len()))
        };
        if !self.states.iter().all(pipes_are_known) {
            return Err("a state names a pipe that is not listed");
        }
        let known = |&(process, state): &(ProcessRef, StateRef)| {
            within(process.0, self.processes.len()) && within(state.0, self.states.len())
        };
        if !self.joints.iter().flatten().all(known) {
            return Err("a joint state names a process or a state that is not listed");
        }
        if self.idle_cpus.is_some_and(|cpus| !cpus.is_finite()) {
            return Err("a number is none");
        }
        for bin in &self.bins {
            let joints_are_known = bin.joints.iter().all(|&(joint, looks)| {
                within(joint, self.joints.len()) && looks.is_finite() && looks >= 0.0
            });
            let accounts_are_known =
                bin.accounts.iter().all(|(process, _)| within(process.0, self.processes.len()));
            if !joints_are_known || !accounts_are_known {
                return Err("a bin names a joint state or a process that is not listed");
            }
        }
        let ends_after_its_start = |bin: &Bin| bin.from_ns <= bin.until_ns;
        let follows = |pair: &[Bin]| pair[0].until_ns <= pair[1].from_ns;
        let lives = |seen: &ProcessSeen| seen.first_ns <= seen.last_ns;
        if !self.bins.iter().all(ends_after_its_start)
            || !self.bins.windows(2).all(follows)
            || !self.processes.iter().all(lives)
        {
            return Err("time goes backwards");
        }
        Ok(())
    }

    /// With no more bins than a watch makes, however many a file tells of.
    pub(crate) fn coarsen(&mut self) {
        while self.bins.len() > MOST_BINS {
            self.merge_neighbours();
        }
    }

    /// Leaves out what was before.
    pub fn begin_at(&mut self, at_ns: u64) {
        self.bins.retain(|bin| bin.until_ns > at_ns);
        if let Some(first) = self.bins.first_mut() {
            first.from_ns = first.from_ns.max(at_ns);
        }
        self.start_ns = self.start_ns.max(at_ns);
        self.forget_unused_joints();
    }

    /// What was found between two times. Counts of looks and of CPU time are those of that part.
    #[must_use]
    pub fn within(&self, from_ns: u64, until_ns: u64) -> Timeline {
        let all = self.cpu_by_process();
        let mut part = self.clone();
        part.bins.retain(|bin| bin.until_ns > from_ns && bin.from_ns < until_ns);
        for bin in &mut part.bins {
            bin.from_ns = bin.from_ns.max(from_ns);
            bin.until_ns = bin.until_ns.min(until_ns);
        }
        let joints = part.bins.iter().flat_map(|bin| &bin.joints);
        let looks = joints.map(|&(_, looks)| f64::from(looks)).sum::<f64>().round() as u64;
        let share = looks as f64 / (self.looks as f64).max(1.0);
        part.blind = (self.blind as f64 * share.min(1.0)).round() as u64;
        part.looks = looks;
        (part.start_ns, part.end_ns) = (from_ns, until_ns);
        let kept = part.cpu_by_process();
        for ((seen, all), kept) in part.processes.iter_mut().zip(all).zip(kept) {
            let busiest = u128::from(seen.busiest_thread_ns) * u128::from(kept);
            seen.busiest_thread_ns = (busiest / u128::from(all.max(1))) as u64;
        }
        part.forget_unused_joints();
        part
    }

    fn cpu_by_process(&self) -> Vec<u64> {
        let mut sums = vec![0u64; self.processes.len()];
        for (process, account) in self.bins.iter().flat_map(|bin| &bin.accounts) {
            let sum = &mut sums[process.0 as usize];
            *sum = sum.saturating_add(account.cpu_ns);
        }
        sums
    }

    fn merge_neighbours(&mut self) {
        let bins = std::mem::take(&mut self.bins);
        let mut bins = bins.into_iter();
        while let Some(mut first) = bins.next() {
            if let Some(second) = bins.next() {
                first.absorb(second);
            }
            self.bins.push(first);
        }
    }

    fn forget_unused_joints(&mut self) {
        let mut new = vec![u32::MAX; self.joints.len()];
        let mut kept = Vec::new();
        for (joint, _) in self.bins.iter_mut().flat_map(|bin| &mut bin.joints) {
            let old = *joint as usize;
            if new[old] == u32::MAX {
                new[old] = kept.len() as u32;
                kept.push(std::mem::take(&mut self.joints[old]));
            }
            *joint = new[old];
        }
        self.joints = kept;
    }
}

impl Bin {
    /// Takes over the bin that follows.
    fn absorb(&mut self, next: Bin) {
        self.until_ns = next.until_ns;
        for (joint, looks) in next.joints {
            match self.joints.iter_mut().find(|(known, _)| *known == joint) {
                Some((_, sum)) => *sum += looks,
                None => self.joints.push((joint, looks)),
            }
        }
        for (process, account) in next.accounts {
            match self.accounts.iter_mut().find(|(known, _)| *known == process) {
                Some((_, sum)) => {
                    sum.cpu_ns += account.cpu_ns;
                    sum.run_delay_ns += account.run_delay_ns;
                }
                None => self.accounts.push((process, account)),
            }
        }
        self.thin_out();
    }

    /// Systematic sampling: what is kept stands for the same share of the looks as before, in the
    /// mean.
    fn thin_out(&mut self) {
        if self.joints.len() <= MOST_JOINTS {
            return;
        }
        let whole: f32 = self.joints.iter().map(|(_, looks)| looks).sum();
        let step = whole / MOST_JOINTS as f32;
        let mut kept: Vec<(u32, f32)> = Vec::with_capacity(MOST_JOINTS);
        let (mut sum, mut next) = (0.0, step / 2.0);
        for &(joint, looks) in &self.joints {
            sum += looks;
            let mut weight = 0.0;
            while next < sum {
                weight += step;
                next += step;
            }
            if weight > 0.0 {
                kept.push((joint, weight));
            }
        }
        self.joints = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: i32) -> ProcessSeen {
        ProcessSeen {
            pid,
            parent: 1,
            comm: "c".into(),
            first_ns: 0,
            last_ns: 0,
            threads: 1,
            ..ProcessSeen::default()
        }
    }

    fn running(threads: u16) -> ProcessState {
        ProcessState { running: threads, ..ProcessState::default() }
    }

    /// Share of the looks in which the process had so many threads running.
    fn share(timeline: &Timeline, threads: u16) -> f32 {
        let joints = timeline.bins.iter().flat_map(|bin| &bin.joints);
        let (mut found, mut all) = (0.0, 0.0);
        for &(joint, looks) in joints {
            let state = timeline.joints[joint as usize][0].1;
            all += looks;
            if timeline.states[state.0 as usize].running == threads {
                found += looks;
            }
        }
        found / all
    }

    #[test]
    fn a_long_watch_gets_coarser_and_keeps_its_shares_and_sums() {
        let mut builder = Builder::new(0, None);
        let process = builder.process(seen(7));
        for look in 0..100_000u64 {
            let threads = if look % 4 == 0 { 1 } else { 2 };
            builder.look(look * 5_000_000, &[(process, running(threads))]);
            let account = Account { cpu_ns: 3, run_delay_ns: 1 };
            builder.charge(process, account);
        }
        let timeline = builder.finish(500_000_000_000);
        assert!(timeline.bins.len() <= MOST_BINS, "{}", timeline.bins.len());
        assert!((share(&timeline, 1) - 0.25).abs() < 0.001);
        let accounts = timeline.bins.iter().flat_map(|bin| &bin.accounts);
        assert_eq!(accounts.map(|(_, account)| account.cpu_ns).sum::<u64>(), 300_000);
        let joined = timeline.bins.windows(2).all(|pair| pair[0].until_ns == pair[1].from_ns);
        assert!(joined && timeline.bins[0].from_ns == 0);
    }

    #[test]
    fn many_different_states_are_thinned_out_without_changing_their_shares() {
        let mut builder = Builder::new(0, None);
        let process = builder.process(seen(7));
        for look in 0..200_000u64 {
            let threads = if look % 5 == 0 { 1_000 } else { (look % 997) as u16 };
            builder.look(look * 5_000_000, &[(process, running(threads))]);
        }
        let timeline = builder.finish(1_000_000_000_000);
        assert!(timeline.bins.iter().all(|bin| bin.joints.len() <= 2 * MOST_JOINTS));
        assert!((share(&timeline, 1_000) - 0.2).abs() < 0.02, "{}", share(&timeline, 1_000));
    }

    #[test]
    fn a_part_has_the_looks_and_the_accounts_of_its_own_time() {
        let mut builder = Builder::new(0, None);
        let process = builder.process(seen(7));
        for look in 0..1_000u64 {
            let threads = if look < 400 { 1 } else { 2 };
            builder.look(look * 5_000_000, &[(process, running(threads))]);
            builder.charge(process, Account { cpu_ns: u64::from(threads), run_delay_ns: 0 });
        }
        builder.process_mut(process).busiest_thread_ns = 1_600;
        let whole = builder.finish(5_000_000_000);
        let first = whole.within(0, 2_000_000_000);
        assert!(share(&first, 1) > 0.99 && first.looks.abs_diff(400) <= 4, "{}", first.looks);
        let rest = whole.within(2_000_000_000, 5_000_000_000);
        // Looks at both sides of the cut may share a bin, which is in both parts.
        assert!(share(&rest, 2) > 0.98, "{}", share(&rest, 2));
        assert!((first.looks + rest.looks).abs_diff(1_000) <= 20, "{}", rest.looks);
        assert_eq!(rest.bins[0].from_ns, 2_000_000_000);
        let cpu = |part: &Timeline| part.cpu_by_process()[0];
        assert!((cpu(&first) + cpu(&rest)).abs_diff(1_600) <= 20, "{}", cpu(&rest));
        assert_eq!(rest.processes[0].busiest_thread_ns, cpu(&rest));
        assert_eq!((first.check(), rest.check()), (Ok(()), Ok(())));
    }

    #[test]
    fn only_the_last_while_is_kept_where_that_is_asked() {
        let mut builder = Builder::new(0, Some(10_000_000_000));
        let process = builder.process(seen(7));
        for look in 0..100_000u64 {
            builder.look(look * 5_000_000, &[(process, running(1))]);
        }
        let mut timeline = builder.finish(500_000_000_000);
        assert!(timeline.bins[0].until_ns > 400_000_000_000);
        let width = timeline.bins[0].until_ns - timeline.bins[0].from_ns;
        assert!(width <= 2 * FIRST_WIDTH_NS, "{width}");
        timeline.begin_at(495_000_000_000);
        assert!(timeline.bins[0].until_ns > 495_000_000_000);
    }
}
