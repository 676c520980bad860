//! Which processes are looked at: those that were named, and those that they start.

mod process;
mod thread;
mod waits;

use std::time::{Duration, Instant};

use pipeprof_runner::cgroup::place_of;
use pipeprof_runner::pipeline::Pipeline;
use rustc_hash::{FxHashMap, FxHashSet};

use self::process::{Process, Stat, cpus_allowed};
use super::connections::{Connection, Connections};
use super::limits::Groups;
use super::pressure;
use super::quota::Quotas;
use super::timeline::{
    Account, Builder, Pressure, ProcessRef, ProcessSeen, ProcessState, Timeline,
};
use crate::process::{ticks_a_second, ticks_since_boot};

/// Looks at processes and remembers what it saw.
#[derive(Debug)]
pub struct Looker {
    builder: Builder,
    processes: FxHashMap<i32, Process>,
    quotas: Quotas,
    groups: Groups,
    connections: Connections,
    pressed: Option<Pressure>,
    /// Idle time of the machine when looking began.
    idle_ticks: Option<u64>,
    /// When looking began, as processes tell their start. Nothing is known of what is 0.
    began_ticks: u64,
    began_ns: u64,
    looks: u32,
    found: Vec<(ProcessRef, ProcessState)>,
}

impl Looker {
    /// Nothing is looked at yet. With `keep`, only about the last so much of the time is remembered.
    pub fn new(now_ns: u64, keep: Option<Duration>) -> Self {
        let keep_ns = keep.map(|keep| 2 * keep.as_nanos() as u64);
        Looker {
            builder: Builder::new(now_ns, keep_ns),
            processes: FxHashMap::default(),
            quotas: Quotas::read(),
            groups: Groups::read(),
            connections: Connections::default(),
            pressed: pressure::read(),
            idle_ticks: pressure::idle_ticks(),
            began_ticks: ticks_since_boot(),
            began_ns: now_ns,
            looks: 0,
            found: Vec::new(),
        }
    }

    /// These processes are looked at from now on, too, with all that they start.
    pub fn follow(&mut self, pids: &[i32]) {
        let now_ns = crate::accounts::now_ns();
        for &pid in pids {
            self.add(pid, now_ns);
        }
    }

    /// Waits at sockets that are links of this pipeline count as waits at those links.
    pub fn connect(&mut self, pipeline: &Pipeline) {
        self.builder.connect(pipeline);
    }

    /// How many threads there were at the last look.
    pub fn threads(&self) -> usize {
        self.processes.values().map(|process| process.threads.len()).sum()
    }

    /// What was found so far.
    pub fn so_far(&self) -> &Timeline {
        self.builder.so_far()
    }

    /// What was found since the last time, and looks on from here.
    pub fn take(&mut self, now_ns: u64) -> Timeline {
        self.charge();
        self.builder.take(now_ns)
    }

    /// What was found.
    pub fn finish(mut self, now_ns: u64) -> Timeline {
        self.charge();
        self.look_at_connections(now_ns);
        for process in self.processes.values_mut() {
            process.throttled(&mut self.quotas, &mut self.builder);
        }
        for (process, limits) in self.groups.finish(now_ns) {
            self.builder.process_mut(process).limits = Some(limits);
        }
        if let (Some(earlier), Some(now)) = (self.pressed, pressure::read()) {
            self.builder.pressed(pressure::since(earlier, now));
        }
        if let (Some(earlier), Some(now)) = (self.idle_ticks, pressure::idle_ticks()) {
            let ticks = now.saturating_sub(earlier) as f64;
            let elapsed = now_ns.saturating_sub(self.began_ns).max(1) as f64 / 1e9;
            self.builder.idled(ticks / ticks_a_second().max(1) as f64 / elapsed);
        }
        self.builder.finish(now_ns)
    }

    /// Looks at every thread once.
    pub fn look(&mut self, now_ns: u64) {
        self.looks = self.looks.wrapping_add(1);
        // First of all: who would run on the CPU that this takes is found runnable soon.
        self.found.clear();
        let (builder, looks) = (&mut self.builder, self.looks);
        self.processes.retain(|_, process| {
            let state = process.look(looks, builder);
            self.found.extend(state.map(|state| (process.id, state)));
            !process.threads.is_empty()
        });
        self.look_for_new_children();
        self.found.sort_unstable_by_key(|(process, _)| *process);
        self.builder.look(now_ns, &self.found);
        if self.connections.is_due(now_ns) {
            self.look_at_connections(now_ns);
        }
        if self.looks.is_multiple_of(4) {
            self.charge();
        }
        self.refresh(now_ns);
    }

    /// Looks up again what changes seldom, for the looks to come.
    fn refresh(&mut self, now_ns: u64) {
        let mut children = Vec::new();
        for process in self.processes.values_mut() {
            if process.is_due(now_ns) {
                process.refresh(now_ns, &mut self.builder, &mut children);
                if process.is_group_due() {
                    process.throttled(&mut self.quotas, &mut self.builder);
                }
            }
        }
        for pid in children {
            self.add(pid, now_ns);
        }
    }

    /// Reads TCP's statistics of the connections of all processes.
    fn look_at_connections(&mut self, now_ns: u64) {
        let began = Instant::now();
        let sockets: FxHashSet<u64> = self
            .processes
            .values()
            .flat_map(|process| process.descriptors.sockets())
            .copied()
            .collect();
        let found = self.connections.look(&sockets, now_ns);
        for (connection, progress) in found.values() {
            if let Some(progress) = progress {
                self.builder.went_on(connection, *progress);
            }
        }
        for process in self.processes.values() {
            for socket in process.descriptors.sockets() {
                let Some((connection, _)) = found.get(socket) else { continue };
                let known = &mut self.builder.process_mut(process.id).connections;
                let ends = |of: &Connection| (of.local, of.remote);
                match known.iter_mut().find(|known| ends(known) == ends(connection)) {
                    Some(known) => known.clone_from(connection),
                    None => known.push(connection.clone()),
                }
            }
        }
        self.connections.took(began.elapsed());
    }

    /// A process that waits for a child, without a known child, has started one since: it may be
    /// short-lived.
    fn look_for_new_children(&mut self) {
        let waiting = |process: &&mut Process| process.waits_for_child;
        if !self.processes.values().any(|process| process.waits_for_child) {
            return;
        }
        let parents: FxHashSet<i32> =
            self.processes.values().map(|process| process.parent).collect();
        for process in self.processes.values_mut().filter(waiting) {
            if !parents.contains(&process.pid) {
                process.refresh_soon();
            }
        }
    }

    fn add(&mut self, pid: i32, now_ns: u64) {
        if self.processes.contains_key(&pid) {
            return;
        }
        let Some(stat) = Stat::read(pid) else { return };
        if matches!(stat.state, 'Z' | 'X') {
            return;
        }
        let id = self.builder.process(ProcessSeen {
            pid,
            start_time_ticks: Some(stat.start_time_ticks),
            parent: stat.parent,
            comm: stat.comm,
            first_ns: now_ns,
            last_ns: now_ns,
            cpus_allowed: cpus_allowed(pid),
            container: place_of(pid).container,
            ..ProcessSeen::default()
        });
        let mut process = Process::new(pid, stat.parent, id, now_ns);
        // What it used before anybody looked is not of this time, unless it began since.
        let born_watched = self.began_ticks > 0 && stat.start_time_ticks > self.began_ticks;
        process.find_threads(born_watched);
        process.throttled(&mut self.quotas, &mut self.builder);
        self.groups.add(id, pid, now_ns);
        self.processes.insert(pid, process);
    }

    /// Reads the accounts of all threads.
    fn charge(&mut self) {
        for process in self.processes.values_mut() {
            let sum = process.charge(self.builder.process_mut(process.id));
            if sum != Account::default() {
                self.builder.charge(process.id, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::process::{Child, Command, Stdio};

    use pipeprof_runner::pipeline::{Link, Pipe};

    use super::*;
    use crate::accounts::now_ns;
    use crate::states::timeline::Why;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Looks at a process until it is found as wanted.
    fn looked_until(pid: i32, wanted: impl Fn(&Timeline, &ProcessState) -> bool) {
        let mut looker = Looker::new(now_ns(), None);
        looker.follow(&[pid]);
        let mut found = Vec::new();
        for _ in 0..2_000 {
            looker.look(now_ns());
            found = looker.found.iter().map(|(_, state)| state.clone()).collect();
            if looker.found.iter().any(|(_, state)| wanted(looker.so_far(), state)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("never: {found:?}");
    }

    fn piped(program: &str, arguments: &[&str]) -> Killed {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Killed(child.unwrap())
    }

    #[test]
    fn a_reader_of_an_empty_pipe_waits_for_its_data() {
        let cat = piped("cat", &[]);
        let pid = cat.0.id() as i32;
        let stdin = fs::metadata(format!("/proc/{pid}/fd/0")).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&stdin);
        looked_until(pid, |timeline, state| {
            state.data.first().is_some_and(|&pipe| timeline.pipes[pipe.0 as usize].inode == inode)
        });
    }

    #[test]
    fn a_wait_at_a_socket_is_one_at_the_link_that_it_is_an_end_of() {
        use std::os::fd::OwnedFd;
        use std::os::unix::net::UnixStream;

        let inode = |fd: &UnixStream| {
            let file = File::from(OwnedFd::from(fd.try_clone().unwrap()));
            std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (near, far) = (inode(&theirs), inode(&ours));
        let link = |inode: u64, sender: u64| Pipe {
            link: Link::Unix { sender },
            inode,
            device: 9,
            path: None,
            writers: Vec::new(),
            readers: Vec::new(),
            capacity_bytes: None,
        };
        let pipeline = |pipe| Pipeline { members: Vec::new(), pipes: vec![pipe] };
        let start = |program: &str| {
            let end = || OwnedFd::from(theirs.try_clone().unwrap());
            let child = Command::new(program).stdin(end()).stdout(end()).spawn();
            Killed(child.unwrap())
        };
        let looked = |child: &Killed, pipeline: &Pipeline, wanted: fn(&ProcessState) -> bool| {
            let mut looker = Looker::new(now_ns(), None);
            looker.follow(&[child.0.id() as i32]);
            looker.connect(pipeline);
            for _ in 0..2_000 {
                looker.look(now_ns());
                if looker.found.iter().any(|(_, state)| wanted(state)) {
                    return looker.so_far().pipes.clone();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            panic!("never: {:?}", looker.found);
        };
        let cat = start("cat");
        // What it reads is a link of the pipeline; or the answers to what it sends through one, for
        // which the other end is to act; or neither, and then it waits for a peer outside of it.
        let (reads, other) = (pipeline(link(near, far)), pipeline(link(far, near)));
        let at = looked(&cat, &reads, |state| state.data.len() == 1 && state.why.is_none());
        assert_eq!(at, [reads.pipes[0].key()]);
        let at = looked(&cat, &other, |state| state.space.len() == 1 && state.why.is_none());
        assert_eq!(at, [other.pipes[0].key()]);
        let none = Pipeline::default();
        looked(&cat, &none, |state| state.data.is_empty() && state.why == Some(Why::SocketData));
        drop(cat);
        let yes = start("yes");
        let at = looked(&yes, &other, |state| state.space.len() == 1);
        assert_eq!(at, [other.pipes[0].key()]);
    }

    #[test]
    fn a_writer_to_a_full_pipe_waits_for_space() {
        let yes = piped("yes", &[]);
        looked_until(yes.0.id() as i32, |_, state| state.space.len() == 1 && state.running == 0);
    }

    #[test]
    fn sleepers_spinners_and_parents_are_told_apart() {
        let sleep = piped("sleep", &["60"]);
        looked_until(sleep.0.id() as i32, |_, state| state.why == Some(Why::Timer));
        let spin = piped("sh", &["-c", "while :; do :; done"]);
        looked_until(spin.0.id() as i32, |_, state| state.running == 1);
        let parent = piped("sh", &["-c", "sleep 60; :"]);
        // The child is found without being named.
        looked_until(parent.0.id() as i32, |_, state| state.why == Some(Why::Child));
        looked_until(parent.0.id() as i32, |_, state| state.why == Some(Why::Timer));
    }

    #[test]
    fn what_is_charged_is_what_the_scheduler_charged() {
        let spin = piped("sh", &["-c", "while :; do :; done"]);
        let pid = spin.0.id() as i32;
        let on_cpu_ns = || -> u64 {
            let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
            text.split_ascii_whitespace().next().unwrap().parse().unwrap()
        };
        let mut looker = Looker::new(now_ns(), None);
        let before = on_cpu_ns();
        looker.follow(&[pid]);
        let begun = on_cpu_ns();
        while on_cpu_ns() < begun + 300_000_000 {
            std::thread::sleep(Duration::from_millis(4));
            looker.look(now_ns());
        }
        let until = on_cpu_ns();
        let timeline = looker.finish(now_ns());
        let accounts = timeline.bins.iter().flat_map(|bin| &bin.accounts);
        let charged: u64 = accounts.map(|(_, account)| account.cpu_ns).sum();
        assert!((until - begun..=on_cpu_ns() - before).contains(&charged), "{charged} ns");
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_waited_for_is_no_longer_there() {
        let mut ended = piped("true", &[]);
        let pid = ended.0.id() as i32;
        let zombie = || Stat::read(pid).is_some_and(|stat| stat.state == 'Z');
        while !zombie() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut looker = Looker::new(now_ns(), None);
        looker.follow(&[pid]);
        looker.look(now_ns());
        assert_eq!(looker.found, []);
        let _ = ended.0.wait();
    }
}
