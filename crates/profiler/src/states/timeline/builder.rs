//! Adds looks to a [`Timeline`] one by one, in bounded memory.

use pipeprof_runner::pipeline::{PipeKey, Pipeline};
use rustc_hash::FxHashMap;

use super::super::connections::{Connection, MOST_TRAFFIC, Progress, Traffic};
use super::Timeline;
use super::coarsen::{MOST_BINS, MOST_JOINTS};
use super::{Account, Bin, PipeRef, Pressure, ProcessRef, ProcessSeen, ProcessState, StateRef};

/// Puts a [`Timeline`] together.
#[derive(Debug)]
pub(in crate::states) struct Builder {
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
pub(in crate::states) struct SocketLinks {
    /// What arrives at it.
    pub(in crate::states) arrives: Option<PipeKey>,
    /// What is sent from it.
    pub(in crate::states) leaves: Option<PipeKey>,
}

/// See [`Builder::crowded`].
const CROWDED: usize = 10_000;

/// Bins of a new watch: a few looks each.
const FIRST_WIDTH_NS: u64 = 20_000_000;

impl Builder {
    pub(in crate::states) fn new(start_ns: u64, keep_ns: Option<u64>) -> Self {
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

    pub(in crate::states) fn pipe(&mut self, name: PipeKey) -> PipeRef {
        let next = PipeRef(self.made.pipes.len() as u32);
        *self.pipes.entry(name).or_insert_with(|| {
            self.made.pipes.push(name);
            next
        })
    }

    /// Takes up the links of a pipeline that are sockets.
    pub(in crate::states) fn connect(&mut self, pipeline: &Pipeline) {
        for pipe in &pipeline.pipes {
            let Some(sender) = pipe.link.sender() else { continue };
            self.sockets.entry(pipe.inode).or_default().arrives = Some(pipe.key());
            self.sockets.entry(sender).or_default().leaves = Some(pipe.key());
        }
    }

    /// The link that a thread waits at which waits for data of a socket, or for space; `None` where
    /// that carries nothing for the pipeline.
    pub(in crate::states) fn link(&mut self, socket: u64, for_space: bool) -> Option<PipeRef> {
        let links = self.sockets.get(&socket)?;
        let key = if for_space { links.leaves } else { links.arrives };
        key.map(|key| self.pipe(key))
    }

    /// The link that a socket is an end of, and whether it is the sender's end.
    pub(in crate::states) fn link_of(&mut self, socket: u64) -> Option<(PipeRef, bool)> {
        let links = self.sockets.get(&socket)?;
        let (key, sends) =
            links.leaves.map(|key| (key, true)).or(links.arrives.map(|key| (key, false)))?;
        Some((self.pipe(key), sends))
    }

    pub(in crate::states) fn process(&mut self, seen: ProcessSeen) -> ProcessRef {
        self.made.processes.push(seen);
        ProcessRef(self.made.processes.len() as u32 - 1)
    }

    pub(in crate::states) fn process_mut(&mut self, process: ProcessRef) -> &mut ProcessSeen {
        &mut self.made.processes[process.0 as usize]
    }

    /// Notes how far a connection has come.
    pub(in crate::states) fn went_on(&mut self, connection: &Connection, point: Progress) {
        let Connection { local, remote, .. } = *connection;
        let known = &mut self.made.traffic;
        let is_it = |of: &&mut Traffic| (of.local, of.remote) == (local, remote);
        if let Some(traffic) = known.iter_mut().find(is_it) {
            traffic.add(point);
        } else if known.len() < MOST_TRAFFIC {
            let mut traffic = Traffic::of(local, remote);
            traffic.add(point);
            known.push(traffic);
        }
    }

    pub(in crate::states) fn pressed(&mut self, pressure: Pressure) {
        self.made.pressure = Some(pressure);
    }

    pub(in crate::states) fn idled(&mut self, cpus: f64) {
        self.made.idle_cpus = Some(cpus);
    }

    pub(in crate::states) fn was_blind(&mut self) {
        self.made.blind += 1;
    }

    /// Adds what all processes did at one moment.
    pub(in crate::states) fn look(&mut self, now_ns: u64, found: &[(ProcessRef, ProcessState)]) {
        self.made.looks += 1;
        self.made.end_ns = now_ns;
        let joint: Vec<(ProcessRef, StateRef)> =
            found.iter().map(|(process, state)| (*process, self.state(state))).collect();
        for &(process, _) in &joint {
            self.process_mut(process).last_ns = now_ns;
        }
        // First of all, as room is made by forgetting joint states that no bin has.
        let bin = self.bin_at(now_ns);
        let next = self.made.joints.len() as u32;
        let joint = match self.joints.get(&joint) {
            Some(&known) => known,
            None => {
                self.made.joints.push(joint.clone());
                self.joints.insert(joint, next);
                next
            }
        };
        let bin = &mut self.made.bins[bin];
        bin.until_ns = now_ns;
        bin.add_looks(joint, 1.0);
        if bin.joints.len() > 2 * MOST_JOINTS {
            bin.thin_out();
        }
        if self.made.joints.len() > self.crowded {
            self.forget_unused_joints();
        }
    }

    /// Adds what was charged to a process since the last time.
    pub(in crate::states) fn charge(&mut self, process: ProcessRef, account: Account) {
        // Before the first look there is no time to charge to.
        if let Some(bin) = self.made.bins.last_mut() {
            bin.charge(process, account);
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

    /// Where the bin of that moment is.
    fn bin_at(&mut self, now_ns: u64) -> usize {
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
        self.made.bins.len() - 1
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
    pub(in crate::states) fn take(&mut self, now_ns: u64) -> Timeline {
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

    pub(in crate::states) fn finish(mut self, now_ns: u64) -> Timeline {
        self.made.end_ns = now_ns;
        if let Some(bin) = self.made.bins.last_mut() {
            bin.until_ns = now_ns;
        }
        self.made.forget_unused_joints();
        self.made
    }

    pub(in crate::states) fn so_far(&self) -> &Timeline {
        &self.made
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

    /// It got the number of another one, or of none, which ended the thread that looks.
    #[test]
    fn a_joint_state_that_is_new_when_room_is_made_keeps_its_looks() {
        let mut builder = Builder::new(0, Some(1_000_000_000));
        let process = builder.process(seen(7));
        for look in 0..5_000 {
            builder.look(u64::from(look) * 21_000_000, &[(process, running(look))]);
        }
        let timeline = builder.finish(5_000 * 21_000_000);
        assert_eq!(timeline.check(), Ok(()));
        for (bin, look) in timeline.bins.iter().rev().zip((0..5_000).rev()) {
            let [(joint, looks)] = bin.joints[..] else { unreachable!("{bin:?}") };
            let state = timeline.joints[joint as usize][0].1;
            assert_eq!((timeline.states[state.0 as usize].running, looks), (look, 1.0));
        }
    }
}
