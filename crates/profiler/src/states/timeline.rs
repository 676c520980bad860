//! The states of processes over time.
//!
//! Time is cut into bins. A bin counts *joint* states, what all processes did at one look, because
//! what limits a pipeline shows only in what they did at the same moment. When there are too many
//! bins, neighbours are merged: a long watch gets coarser instead of larger.

mod builder;
mod coarsen;
mod part;

use pipeprof_runner::cgroup::Container;
use pipeprof_runner::pipeline::PipeKey;
use serde::{Deserialize, Serialize};

pub(super) use self::builder::Builder;
use super::connections::{Connection, Progress, Traffic};

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
    /// A disk, or a network file system.
    Disk,
    /// A page that has to be read or freed first.
    Memory,
    /// The peer of a socket has to read.
    SocketSpace,
    /// The peer of a socket has to send.
    SocketData,
    /// A socket, which does not tell for what, or a connection.
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

impl Why {
    /// At a socket that is no link of the pipeline.
    pub fn is_at_socket(self) -> bool {
        matches!(self, Why::SocketSpace | Why::SocketData | Why::Network)
    }
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
    /// TCP connections that it had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// For so long that quota kept the group from running, on all CPUs together.
    #[serde(default)]
    pub throttled_ns: u64,
    /// What else its control group limits; `None` where that is nothing, or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<GroupLimits>,
}

/// What a control group of version 2 allows its processes; the tightest of its own limits and those
/// of the groups above it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupLimits {
    /// `memory.high`: with more than that, its tasks are slowed down, and have to free memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high_bytes: Option<u64>,
    /// `memory.max`: more than that it never gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// `io.max`, by device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io: Vec<IoLimit>,
    /// `cpuset.cpus.effective`, a list like `0-3,8`, where a group is bound to CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// For how long its tasks waited; `None` where the kernel does not account for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled: Option<Stalls>,
}

/// What `io.max` allows of a device; `None` where that is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimit {
    /// Its numbers, `8:16`.
    pub device: String,
    /// `rbps`.
    pub read_bytes_per_second: Option<u64>,
    /// `wbps`.
    pub write_bytes_per_second: Option<u64>,
    /// `riops`.
    pub reads_per_second: Option<u64>,
    /// `wiops`.
    pub writes_per_second: Option<u64>,
}

/// For how long some task of a control group was stalled while it was looked at (`cpu.pressure`,
/// `memory.pressure`, `io.pressure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// How long it was looked at.
    pub watched_ns: u64,
    /// It waited for a CPU.
    pub cpu_ns: u64,
    /// For memory: to be freed, read again from the disk, or because of `memory.high`.
    pub memory_ns: u64,
    /// For a disk.
    pub io_ns: u64,
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

impl Account {
    /// Adds what was charged besides.
    pub fn add(&mut self, more: Account) {
        self.cpu_ns = self.cpu_ns.saturating_add(more.cpu_ns);
        self.run_delay_ns = self.run_delay_ns.saturating_add(more.run_delay_ns);
    }
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
    /// What went through the TCP connections of the processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
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
        let is_count = |cpus: f64| cpus.is_finite() && cpus >= 0.0;
        let quotas = self.processes.iter().filter_map(|seen| seen.quota_cpus);
        if !quotas.chain(self.idle_cpus).all(is_count) {
            return Err("a number of CPUs is invalid");
        }
        let looks = self.bins.iter().flat_map(|bin| &bin.joints).map(|(_, looks)| *looks);
        if !looks.into_iter().all(|looks| looks.is_finite() && looks >= 0.0) {
            return Err("a number of looks is invalid");
        }
        for bin in &self.bins {
            let joints_are_known =
                bin.joints.iter().all(|&(joint, _)| within(joint, self.joints.len()));
            let accounts_are_known =
                bin.accounts.iter().all(|(process, _)| within(process.0, self.processes.len()));
            if !joints_are_known || !accounts_are_known {
                return Err("a bin names a joint state or a process that is not listed");
            }
        }
        let ends_after_its_start = |bin: &Bin| bin.from_ns <= bin.until_ns;
        let follows = |pair: &[Bin]| pair[0].until_ns <= pair[1].from_ns;
        let lives = |seen: &ProcessSeen| seen.first_ns <= seen.last_ns;
        let points = self.traffic.iter().map(|traffic| &traffic.over_time);
        let is_later = |pair: &[Progress]| pair[0].at_ns <= pair[1].at_ns;
        if !self.bins.iter().all(ends_after_its_start)
            || !self.bins.windows(2).all(follows)
            || !self.processes.iter().all(lives)
            || !points.flat_map(|points| points.windows(2)).all(is_later)
        {
            return Err("time goes backwards");
        }
        Ok(())
    }
}
