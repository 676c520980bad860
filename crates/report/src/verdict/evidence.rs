//! The input of a verdict: numbers of members and pipes, and values derived from them.

use pipeprof_profiler::states::{Connection, GroupLimits};
use pipeprof_runner::pipeline::Link;
use rustc_hash::FxHashSet;

use super::{PipeCause, TINY_CALL};
use crate::roles::{Reason, Role};

/// A member below this does not limit the others.
pub(crate) const LEAST_DRIVE: f64 = 0.3;

/// Everything that a verdict may know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// In pipeline order.
    pub members: Vec<MemberEvidence>,
    /// In pipeline order.
    pub pipes: Vec<PipeEvidence>,
    /// How long the pipeline was watched.
    pub elapsed_ns: u64,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Samples of all members.
    pub samples: u64,
    /// Samples of processes outside the pipeline. What was lost may be theirs.
    pub foreign_samples: u64,
    /// Records lost.
    pub lost: u64,
    /// Kernel stacks were recorded.
    pub kernel_visible: bool,
    /// All this is of one phase of the run.
    pub is_phase: bool,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberEvidence {
    /// Thread-group id.
    pub pid: i32,
    /// Its name, safe to print.
    pub label: String,
    /// The host that it runs on, safe to print, where there are two.
    pub host: Option<String>,
    /// All its threads' lives; 0 where they are not known.
    pub lifetime_ns: u64,
    /// On a CPU.
    pub on_cpu_ns: u64,
    /// Ready, but not on a CPU.
    pub runnable_ns: u64,
    /// Asleep, by reason.
    pub blocked: Vec<(Reason, u64)>,
    /// On a CPU, by role.
    pub roles: Vec<(Role, u64)>,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Indices of the pipes that it reads.
    pub reads_from: Vec<usize>,
    /// Indices of the pipes that it writes.
    pub writes_to: Vec<usize>,
    /// The TCP connection that carried most of those that it had.
    pub connection: Option<Connection>,
    /// What its control group limits.
    pub limits: Option<GroupLimits>,
}

/// One pipe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipeEvidence {
    /// What it is.
    pub link: Link,
    /// Inode.
    pub inode: u64,
    /// The device of that inode.
    pub device: u64,
    /// Share of looks that found it empty, 0 to 1.
    pub empty: Option<f64>,
    /// Share of looks that found it full, 0 to 1.
    pub full: Option<f64>,
    /// Capacity.
    pub capacity_bytes: Option<u64>,
    /// Bytes that went through.
    pub bytes: Option<u64>,
    /// Mean of a write call.
    pub bytes_per_write: Option<f64>,
    /// Mean of a read call.
    pub bytes_per_read: Option<f64>,
    /// From wake-up to CPU, for the end that is woken most.
    pub latency: Option<WakeLatency>,
    /// The hosts at its ends, where it is a connection of two.
    pub between: Option<Between>,
}

/// A connection of two hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Between {
    /// The names of the one that sends and of the one that receives, safe to print.
    pub hosts: [String; 2],
    /// As the one that sends saw it.
    pub connection: Connection,
}

impl PipeEvidence {
    /// `pipe:[88121]`, `unix:[88121]`, `tcp:[88121]`, `the network from web1 to backup`.
    pub(crate) fn name(&self) -> String {
        match &self.between {
            Some(Between { hosts: [from, to], .. }) => format!("the network from {from} to {to}"),
            None => self.link.named(self.inode),
        }
    }
}

/// How long a thread woken through a pipe waits for a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeLatency {
    /// Its name, safe to show.
    pub woken: String,
    /// Half took less.
    pub median_ns: u64,
    /// One in a hundred took more.
    pub p99_ns: u64,
}

/// What a pipe makes the CPU do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Copy,
    PageAllocation,
    PagePinning,
    Lock,
    WakeUp,
    /// The ring itself, and the way into the kernel.
    Other,
}

impl Work {
    pub(crate) const ALL: [Work; 6] = [
        Work::Copy,
        Work::PageAllocation,
        Work::PagePinning,
        Work::Lock,
        Work::WakeUp,
        Work::Other,
    ];

    pub(crate) fn of(role: Role) -> Option<Work> {
        Some(match role {
            Role::CopyIn | Role::CopyOut => Work::Copy,
            Role::PageAlloc | Role::PageFree => Work::PageAllocation,
            Role::PagePin => Work::PagePinning,
            Role::PipeLock => Work::Lock,
            // Going to sleep and waking up again are the sleeper's half of a wake-up.
            Role::Wakeup | Role::WakeupOrWait | Role::WaitSpace | Role::WaitData => Work::WakeUp,
            Role::PipeWrite | Role::PipeRead | Role::Splice => Work::Other,
            _ => return None,
        })
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Work::Copy => "copy",
            Work::PageAllocation => "page allocation",
            Work::PagePinning => "page pinning",
            Work::Lock => "lock",
            Work::WakeUp => "wake-ups",
            Work::Other => "the ring itself",
        }
    }
}

impl MemberEvidence {
    pub(crate) fn is_many(&self, elapsed_ns: u64) -> bool {
        self.lifetime_ns as f64 > 1.2 * elapsed_ns as f64
    }

    pub(crate) fn blocked_for(&self, reason: Reason) -> u64 {
        self.blocked.iter().filter(|(of, _)| *of == reason).map(|(_, ns)| ns).sum()
    }

    pub(crate) fn work(&self, work: Work) -> u64 {
        self.roles.iter().filter(|(role, _)| Work::of(*role) == Some(work)).map(|(_, ns)| ns).sum()
    }

    pub(crate) fn pipe_work(&self) -> u64 {
        Work::ALL.iter().map(|&work| self.work(work)).sum()
    }

    /// It neither worked at its pipes nor waited for them.
    fn is_idle(&self) -> bool {
        let waits = self.blocked_for(Reason::WaitSpace) + self.blocked_for(Reason::WaitData);
        waits == 0 && self.pipe_work() == 0 && self.on_cpu_ns.saturating_mul(20) < self.lifetime_ns
    }

    fn has_pipes(&self) -> bool {
        !self.reads_from.is_empty() || !self.writes_to.is_empty()
    }

    /// What a member that holds the others back spends most of its life on: `None` for a CPU, or for
    /// waiting for one.
    pub(crate) fn kind(&self, elapsed_ns: u64) -> Option<Reason> {
        let mut outside: Vec<(Reason, u64)> = Reason::ALL
            .into_iter()
            .filter(|&reason| !self.is_neighbours(reason))
            .map(|reason| (reason, self.blocked_for(reason)))
            .collect();
        // A process that waits for its own children or threads waits for what those do, as far as
        // that is in the sums: children may have been seen as members of their own, or not at all.
        if self.is_many(elapsed_ns) {
            let derived = [Reason::Child, Reason::Futex];
            let waits: u64 = derived.iter().map(|&reason| self.blocked_for(reason)).sum();
            if self.lifetime_ns.saturating_sub(waits) * 2 > elapsed_ns {
                outside.retain(|(reason, _)| !derived.contains(reason));
            }
        }
        let (reason, ns) = outside.into_iter().max_by_key(|(_, ns)| *ns)?;
        (ns > self.on_cpu_ns.max(self.runnable_ns)).then_some(reason)
    }

    /// The reason is one that a neighbour in the pipeline gives.
    pub(crate) fn is_neighbours(&self, reason: Reason) -> bool {
        match reason {
            Reason::WaitSpace => !self.writes_to.is_empty(),
            Reason::WaitData => !self.reads_from.is_empty(),
            Reason::PipeLock => self.has_pipes(),
            _ => false,
        }
    }
}

impl Evidence {
    /// The members that may be the bottleneck, the likeliest first.
    pub(crate) fn candidates(&self) -> Vec<usize> {
        let any_pipes = self.members.iter().any(MemberEvidence::has_pipes);
        let only_hold = self.only_hold();
        let mut candidates: Vec<usize> = (0..self.members.len())
            .filter(|&at| self.members[at].lifetime_ns > 0)
            .filter(|&at| !any_pipes || self.members[at].has_pipes())
            .filter(|&at| !only_hold[at])
            .collect();
        // A shell that waits for the others is not what they wait for.
        let waits = |at: &usize| {
            let member = &self.members[*at];
            member.blocked_for(Reason::Child) * 2 > member.lifetime_ns
        };
        if !any_pipes && !candidates.iter().all(waits) {
            candidates.retain(|at| !waits(at));
        }
        candidates.sort_by(|&a, &b| self.drive(b).total_cmp(&self.drive(a)));
        candidates
    }

    /// By member, whether it holds the ends of others and never uses them: `timeout` and its like,
    /// and what a shell starts inside a loop. If none uses them, the one that lived longest is
    /// assumed to.
    pub(crate) fn only_hold(&self) -> Vec<bool> {
        let rank = |at: usize| {
            let member = &self.members[at];
            (!member.is_idle(), member.lifetime_ns, std::cmp::Reverse(at))
        };
        // By pipe, who comes first at each end.
        let mut first = [vec![None; self.pipes.len()], vec![None; self.pipes.len()]];
        for (at, member) in self.members.iter().enumerate() {
            for (first, pipes) in first.iter_mut().zip([&member.reads_from, &member.writes_to]) {
                for &pipe in pipes {
                    if first[pipe].is_none_or(|known| rank(at) > rank(known)) {
                        first[pipe] = Some(at);
                    }
                }
            }
        }
        let only_holds = |(at, member): (usize, &MemberEvidence)| {
            let is_first = |first: &[Option<usize>], pipes: &[usize]| {
                pipes.iter().any(|&p| first[p] == Some(at))
            };
            member.has_pipes()
                && member.is_idle()
                && !is_first(&first[0], &member.reads_from)
                && !is_first(&first[1], &member.writes_to)
        };
        self.members.iter().enumerate().map(only_holds).collect()
    }

    pub(crate) fn share(&self, ns: u64) -> f64 {
        ns as f64 / self.elapsed_ns.max(1) as f64
    }

    /// Time that a member waited for its neighbours, in nanoseconds.
    pub(crate) fn waited(&self, at: usize) -> u64 {
        let member = &self.members[at];
        let pipes: u64 = [Reason::WaitSpace, Reason::WaitData, Reason::PipeLock]
            .into_iter()
            .filter(|&reason| member.is_neighbours(reason))
            .map(|reason| member.blocked_for(reason))
            .sum();
        (pipes + self.waited_untold(at) as u64).min(self.elapsed_ns)
    }

    /// The part of it in poll, or where no stack was sampled: as much as its pipes were found empty,
    /// or full, as nothing else tells what it waited for.
    pub(crate) fn waited_untold(&self, member: usize) -> f64 {
        let member = &self.members[member];
        let untold = member.blocked_for(Reason::Poll) + member.blocked_for(Reason::Unknown);
        untold as f64 * self.polls_for_neighbours(member)
    }

    fn polls_for_neighbours(&self, member: &MemberEvidence) -> f64 {
        let empty = member.reads_from.iter().filter_map(|&at| self.pipes[at].empty);
        let full = member.writes_to.iter().filter_map(|&at| self.pipes[at].full);
        empty.chain(full).fold(0.0, f64::max)
    }

    /// Share of the time in which a member lived and did not wait for a neighbour.
    pub(crate) fn drive(&self, member: usize) -> f64 {
        let alive = self.members[member].lifetime_ns.min(self.elapsed_ns);
        self.share(alive.saturating_sub(self.waited(member)))
    }

    /// The members that waited for a CPU as much as they had one, where that held them back.
    pub(crate) fn starved(&self) -> Vec<usize> {
        let candidates = self.candidates();
        let sum = |field: fn(&MemberEvidence) -> u64| -> u64 {
            candidates.iter().map(|&at| field(&self.members[at])).sum()
        };
        let (on_cpu, runnable) = (sum(|m| m.on_cpu_ns), sum(|m| m.runnable_ns));
        let waiting: Vec<usize> = candidates
            .iter()
            .copied()
            .filter(|&at| self.share(self.members[at].runnable_ns) >= 0.2)
            .collect();
        let of_one = |at: usize| self.members[at].runnable_ns > self.members[at].on_cpu_ns;
        let held_back = match waiting[..] {
            [] => false,
            [one] => self.drive(one) >= LEAST_DRIVE && candidates[0] == one && of_one(one),
            // Where the members themselves fill the CPUs, less waiting shows that they don't suffice.
            _ => {
                let fill_cpus = self.share(on_cpu) >= 0.85 * self.cpus as f64;
                let least = if fill_cpus { 0.3 } else { 0.8 };
                runnable as f64 >= least * on_cpu as f64 && waiting.contains(&candidates[0])
            }
        };
        let mostly_cpu =
            candidates.first().is_some_and(|&at| self.members[at].kind(self.elapsed_ns).is_none());
        if held_back && mostly_cpu { waiting } else { Vec::new() }
    }

    /// The pipe whose work a member mostly does, and which work that is.
    pub(crate) fn pipe_work_of(&self, member: usize) -> Option<(usize, PipeCause)> {
        let one = &self.members[member];
        if one.kind(self.elapsed_ns).is_some() || !one.has_pipes() {
            return None;
        }
        let pipe = self.busiest_pipe(member)?;
        let user: u64 = one.roles.iter().filter(|(r, _)| *r == Role::User).map(|(_, ns)| ns).sum();
        let tiny = self.is_tiny(pipe, !one.writes_to.is_empty() && one.writes_to[0] == pipe);
        if tiny && user * 2 <= one.on_cpu_ns {
            return Some((pipe, PipeCause::TinyCalls));
        }
        if one.pipe_work() * 2 < one.on_cpu_ns {
            return None;
        }
        let heaviest = Work::ALL.into_iter().max_by_key(|&work| match work {
            Work::Other => 0,
            work => one.work(work),
        })?;
        Some((pipe, PipeCause::of(heaviest)?))
    }

    /// The pipe that a member works at most.
    pub(crate) fn busiest_pipe(&self, member: usize) -> Option<usize> {
        let one = &self.members[member];
        let (first, second) = match self.side(one, true) >= self.side(one, false) {
            true => (&one.writes_to, &one.reads_from),
            false => (&one.reads_from, &one.writes_to),
        };
        first.first().or_else(|| second.first()).copied()
    }

    pub(crate) fn is_tiny(&self, pipe: usize, writes: bool) -> bool {
        let pipe = &self.pipes[pipe];
        let mean = if writes { pipe.bytes_per_write } else { pipe.bytes_per_read };
        mean.is_some_and(|mean| mean < TINY_CALL)
    }

    fn side(&self, member: &MemberEvidence, writes: bool) -> u64 {
        let is_side = |role: Role| match role {
            Role::PipeWrite | Role::CopyIn | Role::PageAlloc | Role::PagePin => writes,
            Role::PipeRead | Role::CopyOut | Role::PageFree => !writes,
            _ => false,
        };
        member.roles.iter().filter(|(role, _)| is_side(*role)).map(|(_, ns)| ns).sum()
    }

    /// The pipe at which writer and reader wait for each other most, and the share of the time in
    /// which both do.
    pub(crate) fn alternation(&self) -> Option<(usize, f64)> {
        // By pipe, how long those waited that write to it, and those that read from it.
        let mut waits = vec![[0.0f64; 2]; self.pipes.len()];
        for member in &self.members {
            let ends =
                [(&member.writes_to, Reason::WaitSpace), (&member.reads_from, Reason::WaitData)];
            for (end, (pipes, reason)) in ends.into_iter().enumerate() {
                let share = self.share(member.blocked_for(reason));
                pipes.iter().for_each(|&pipe| waits[pipe][end] = waits[pipe][end].max(share));
            }
        }
        let both = waits.iter().map(|[space, data]| space.min(*data)).enumerate();
        both.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// That pipe, if no member does much else.
    pub(crate) fn taking_turns(&self) -> Option<(usize, PipeCause)> {
        let (pipe, _) = self.alternation().filter(|(_, waits)| *waits >= 0.15)?;
        let idle = self.nobody();
        let cause = if idle >= 0.1 { PipeCause::WakeUps } else { PipeCause::TooSmall };
        Some((pipe, cause))
    }

    /// Share of the time in which, at the least, every member waited for another.
    pub(crate) fn nobody(&self) -> f64 {
        let driven: f64 = self.candidates().iter().map(|&member| self.drive(member)).sum();
        (1.0 - driven).max(0.0)
    }

    /// The members at the ends of a pipe.
    pub(crate) fn ends(&self, pipe: usize) -> Vec<usize> {
        let holds =
            |m: &MemberEvidence| m.writes_to.contains(&pipe) || m.reads_from.contains(&pipe);
        (0..self.members.len()).filter(|&at| holds(&self.members[at])).collect()
    }

    /// A member that writes to a bottleneck waits for space, and one that reads from it for data.
    pub(crate) fn neighbours_agree(&self, member: usize) -> bool {
        let one = &self.members[member];
        let waits = |at: usize, reason: Reason| {
            let other = &self.members[at];
            let poll = other.blocked_for(Reason::Poll) + other.blocked_for(Reason::Unknown);
            let gone = other.lifetime_ns < self.elapsed_ns / 2;
            gone || (other.blocked_for(reason) + poll) * 2 >= other.lifetime_ns
        };
        let [read, written] = [&one.reads_from, &one.writes_to]
            .map(|pipes| pipes.iter().copied().collect::<FxHashSet<usize>>());
        let shares = |a: &[usize], b: &FxHashSet<usize>| a.iter().any(|pipe| b.contains(pipe));
        let only_hold = self.only_hold();
        let mut others = (0..self.members.len()).filter(|&at| at != member && !only_hold[at]);
        others.all(|at| {
            let other = &self.members[at];
            (!shares(&other.writes_to, &read) || waits(at, Reason::WaitSpace))
                && (!shares(&other.reads_from, &written) || waits(at, Reason::WaitData))
        })
    }
}
