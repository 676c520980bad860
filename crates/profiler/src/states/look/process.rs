//! One process: what all its threads do at a moment.

use std::fs::{self, File};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use pipeprof_runner::cgroup::place_of;
use pipeprof_runner::proc_file;
use pipeprof_runner::stat_line::StatLine;
use rustc_hash::FxHashMap;

use super::thread::{Doing, Thread};
use super::waits::Wait;
use crate::states::descriptors::Descriptors;
use crate::states::quota::Quotas;
use crate::states::timeline::{Account, Builder, ProcessRef, ProcessSeen, ProcessState, Why};

/// Threads, children, names and descriptors are looked up again this often.
const REFRESH_NS: u64 = 100_000_000;

/// And no more often than this, as it costs as much as ten looks.
const LOOKS_A_REFRESH: u32 = 16;

/// A new process soon starts threads and children, or another program.
const FIRST_REFRESH_NS: u64 = 4_000_000;

/// Of a process with more threads than this, those that keep waiting are looked at by turns.
const FEW_THREADS: usize = 16;

/// Looks that found a thread in the same wait before it is looked at by turns, and how many turns
/// there are.
const TURNS: u32 = 16;

/// The control group of a process and its sockets are looked up at every so many refreshes, once it
/// is settled.
const REFRESHES_A_GROUP: u32 = 8;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) id: ProcessRef,
    pub(super) threads: FxHashMap<i32, Thread>,
    pub(super) descriptors: Descriptors,
    refreshed_ns: u64,
    refresh_after_ns: u64,
    /// Looks since it was refreshed.
    looks: u32,
    refreshes: u32,
    /// What its control group had been throttled when it was first looked at.
    throttled_before_ns: Option<u64>,
    is_stopped: bool,
    pub(super) waits_for_child: bool,
}

impl Process {
    pub(super) fn new(pid: i32, parent: i32, id: ProcessRef, now_ns: u64) -> Self {
        Process {
            pid,
            parent,
            id,
            threads: FxHashMap::default(),
            descriptors: Descriptors::default(),
            refreshed_ns: now_ns,
            looks: 0,
            refreshes: 0,
            throttled_before_ns: None,
            refresh_after_ns: FIRST_REFRESH_NS,
            is_stopped: false,
            waits_for_child: false,
        }
    }

    /// Counts a look; whether what changes seldom is to be read again after it.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        self.looks += 1;
        now_ns.saturating_sub(self.refreshed_ns) >= self.refresh_after_ns
            && (self.looks >= LOOKS_A_REFRESH || self.is_young())
    }

    /// Its control group is to be looked up at this refresh.
    pub(super) fn is_group_due(&self) -> bool {
        self.throttled_before_ns.is_some()
            || self.refreshes.is_multiple_of(REFRESHES_A_GROUP)
            || self.is_young()
    }

    pub(super) fn refresh_soon(&mut self) {
        self.refresh_after_ns = self.refresh_after_ns.min(2 * FIRST_REFRESH_NS);
    }

    /// Reads the accounts of its threads. What was charged since the last time.
    pub(super) fn charge(&mut self, seen: &mut ProcessSeen) -> Account {
        let mut sum = Account::default();
        for (&tid, thread) in &mut self.threads {
            let Some(grown) = thread.charge() else { continue };
            sum.cpu_ns += grown.cpu_ns;
            sum.run_delay_ns += grown.run_delay_ns;
            if thread.cpu_ns > seen.busiest_thread_ns {
                seen.busiest_thread_ns = thread.cpu_ns;
                let name = proc_file::read_to_string(format!("/proc/{}/task/{tid}/comm", self.pid));
                let name = name.map(|name| name.trim_end().to_owned()).unwrap_or_default();
                seen.busiest_thread = (name != seen.comm && !name.is_empty()).then_some(name);
            }
        }
        seen.second_thread_ns = seen.second_thread_ns.max(self.second_thread_ns());
        sum
    }

    pub(super) fn find_threads(&mut self, born_watched: bool) {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return };
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            self.threads.entry(tid).or_insert_with(|| {
                let open = |name| File::open(task.path().join(name)).ok();
                Thread::new(open("syscall"), open("schedstat"), born_watched)
            });
        }
    }

    pub(super) fn refresh(&mut self, now_ns: u64, builder: &mut Builder, children: &mut Vec<i32>) {
        (self.refreshed_ns, self.looks) = (now_ns, 0);
        self.refreshes = self.refreshes.wrapping_add(1);
        self.refresh_after_ns = (2 * self.refresh_after_ns).min(REFRESH_NS);
        self.descriptors.forget();
        if self.is_young() || self.refreshes.is_multiple_of(REFRESHES_A_GROUP) {
            self.descriptors.find_sockets(self.pid);
        }
        // Threads that it did not have before.
        self.find_threads(true);
        let seen = builder.process_mut(self.id);
        seen.threads = seen.threads.max(self.threads.len() as u32);
        if self.is_young() {
            seen.cpus_allowed = cpus_allowed(self.pid);
            // The container engine moves the first process there.
            seen.container = place_of(self.pid).container.or(seen.container.take());
        }
        if let Some(stat) = Stat::read(self.pid) {
            self.is_stopped = matches!(stat.state, 'T' | 't');
            seen.comm = stat.comm;
            seen.parent = stat.parent;
        }
        for tid in self.threads.keys() {
            // Where the kernel was built without CONFIG_PROC_CHILDREN, discovery finds them later.
            let path = format!("/proc/{}/task/{tid}/children", self.pid);
            let Ok(text) = proc_file::read_to_string(path) else { continue };
            children
                .extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }

    /// It may still start threads or move to another control group.
    fn is_young(&self) -> bool {
        self.refresh_after_ns < REFRESH_NS
    }

    /// CPU time of the thread that used most but one.
    fn second_thread_ns(&self) -> u64 {
        let (mut first, mut second) = (0, 0);
        for thread in self.threads.values() {
            if thread.cpu_ns > first {
                (first, second) = (thread.cpu_ns, first);
            } else {
                second = second.max(thread.cpu_ns);
            }
        }
        second
    }

    /// Notes what the quota of its control group did since it was first looked at.
    pub(super) fn throttled(&mut self, quotas: &mut Quotas, builder: &mut Builder) {
        let Some(now) = quotas.of(self.pid) else { return };
        let before = *self.throttled_before_ns.get_or_insert(now.throttled_ns);
        let seen = builder.process_mut(self.id);
        seen.quota_cpus = Some(now.cpus);
        // Of another group, the count may be smaller.
        seen.throttled_ns = seen.throttled_ns.max(now.throttled_ns.saturating_sub(before));
    }

    /// What the process does; `None` once it has ended.
    pub(super) fn look(&mut self, looks: u32, builder: &mut Builder) -> Option<ProcessState> {
        let many = self.threads.len() > FEW_THREADS;
        let (pid, descriptors) = (self.pid, &mut self.descriptors);
        let mut state = ProcessState::default();
        self.threads.retain(|&tid, thread| {
            let rests = many && thread.same >= TURNS && looks % TURNS != tid as u32 % TURNS;
            if !rests {
                thread.look(pid, tid, descriptors, builder);
            }
            match &thread.doing {
                Doing::Running => state.runs(),
                Doing::Waiting(waits) => {
                    for wait in waits {
                        match *wait {
                            Wait::Data(pipe) => state.waits_at(pipe, false),
                            Wait::Space(pipe) => state.waits_at(pipe, true),
                            Wait::For(why) => state.waits(why),
                        }
                    }
                }
                Doing::Ended => {}
            }
            thread.doing != Doing::Ended
        });
        if self.threads.is_empty() {
            return None;
        }
        let waits_for_child = state.why == Some(Why::Child);
        if waits_for_child && !self.waits_for_child {
            // A new child, which may not live until the next refresh.
            self.refresh_after_ns = FIRST_REFRESH_NS;
        }
        self.waits_for_child = waits_for_child;
        if self.is_stopped {
            return Some(ProcessState { why: Some(Why::Stopped), ..ProcessState::default() });
        }
        Some(state)
    }
}

/// CPUs that a thread may run on.
pub(super) fn cpus_allowed(tid: i32) -> Option<u32> {
    let set = sched_getaffinity(Pid::from_raw(tid)).ok()?;
    let is_in = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    u32::try_from((0..CpuSet::count()).filter(is_in).count()).ok()
}

/// Fields of `/proc/PID/stat`.
pub(super) struct Stat {
    pub(super) comm: String,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) start_time_ticks: u64,
}

impl Stat {
    pub(super) fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&proc_file::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &[u8]) -> Option<Stat> {
        let line = StatLine::parse(line)?;
        Some(Stat {
            comm: String::from_utf8_lossy(line.name).into_owned(),
            state: line.state()?,
            parent: line.parent()?,
            start_time_ticks: line.start_time_ticks()?,
        })
    }
}
