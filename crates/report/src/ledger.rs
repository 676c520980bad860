//! The ledger: how each member spent its life and what each pipe carried, per second and per GiB.
//! Every number of a verdict is in it.

use std::borrow::Cow;

use pipeprof_profiler::meter::{Bytes, Fill, PipeFlow, Point, Source};
use pipeprof_profiler::profile::{MemberProfile, TimeSplit};
use pipeprof_profiler::wakeups::{Latency, Waker, Wakeups};
use pipeprof_runner::pipeline::{End, Link, Member, MemberId, PipeKey};
use serde::Serialize;

use crate::moved::{Moved, moved};
use crate::ordered::OrderedMap;
use crate::payload::{LEAST_BYTES, Payload};
use crate::roles::{Reason, Role};
use crate::run::Run;
use crate::words::units::{GIB, duration};

/// The life of a member.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Life {
    /// In nanoseconds.
    #[serde(flatten)]
    pub split: TimeSplit,
    /// Share of the lifetime.
    pub on_cpu_percent: f64,
    /// Share of the lifetime.
    pub blocked_percent: f64,
    /// Share of the lifetime.
    pub runnable_percent: f64,
}

impl Life {
    pub(crate) fn of(split: TimeSplit) -> Life {
        let percent = |ns| percent(ns, split.lifetime_ns);
        Life {
            split,
            on_cpu_percent: percent(split.on_cpu_ns),
            blocked_percent: percent(split.blocked_ns),
            runnable_percent: percent(split.runnable_ns),
        }
    }
}

/// What one reason took of a member's life.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockedShare {
    /// Why it slept.
    pub reason: Reason,
    /// How long.
    pub ns: u64,
    /// Share of the member's lifetime.
    pub percent: f64,
    /// Per GiB of the pipeline's [input](crate::payload); `None` where that is not known.
    pub ns_per_gib: Option<f64>,
    /// The kernel function slept in longest, where the reason doesn't say it.
    pub kernel_function: Option<String>,
}

impl PipeSummary {
    /// Which pipe it is.
    pub fn key(&self) -> PipeKey {
        PipeKey { device: self.device, inode: self.inode }
    }
}

/// What one pipe carried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipeSummary {
    /// What it is.
    #[serde(flatten)]
    pub link: Link,
    /// Inode, as in `pipe:[88121]`; of two sockets that of the one that receives.
    pub inode: u64,
    /// The device of that inode: FIFOs of one number can lie on several file systems.
    pub device: u64,
    /// Where a named FIFO lives.
    pub path: Option<String>,
    /// Pids at the write end.
    pub writers: Vec<i32>,
    /// Pids at the read end.
    pub readers: Vec<i32>,
    /// Bytes that went through.
    pub bytes: Option<u64>,
    /// Who counted them.
    pub bytes_source: Option<Source>,
    /// Why they are not known.
    pub bytes_unknown: Option<Cow<'static, str>>,
    /// Over the whole time.
    pub bytes_per_second: Option<f64>,
    /// Bytes so far, over time.
    pub over_time: Vec<Point>,
    /// Bytes in it, over time.
    pub fill_over_time: Vec<Point>,
    /// `F_GETPIPE_SZ`.
    pub capacity_bytes: Option<u64>,
    /// How full it was at the looks that were taken.
    pub fill: Option<FillSummary>,
    /// Why it is not known how full it was.
    pub fill_unknown: Option<&'static str>,
    /// Write calls.
    pub writes: Option<u64>,
    /// Read calls.
    pub reads: Option<u64>,
    /// Mean.
    pub bytes_per_write: Option<f64>,
    /// Mean.
    pub bytes_per_read: Option<f64>,
    /// Write calls a second.
    pub writes_per_second: Option<f64>,
    /// Read calls a second.
    pub reads_per_second: Option<f64>,
    /// Why a number of calls is not known.
    pub calls_unknown: Option<&'static str>,
    /// How its ends wake each other, most often first.
    pub wakeups: Vec<PipeWakeups>,
    /// Why that is not known.
    pub wakeups_unknown: Option<String>,
    /// CPU time of both ends in the pipe's own code, per GiB; `None` without bytes or where an end
    /// works at several pipes.
    pub cpu_ns_per_gib: Option<f64>,
    /// Time that both ends waited for it, per GiB; likewise.
    pub blocked_ns_per_gib: Option<f64>,
}

/// How one end of a pipe wakes the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipeWakeups {
    /// Pid of the member that wakes.
    pub waker: i32,
    /// Pid of the member that is woken.
    pub woken: i32,
    /// Wake-ups a second, over the time in which they were recorded.
    pub per_second: f64,
    /// At that rate; `None` where the bytes are not known.
    pub per_gib: Option<f64>,
    /// From the wake-up to the CPU; `None` where no wake-up was seen from end to end.
    pub latency: Option<Latency>,
}

/// [`Fill`] in shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FillSummary {
    /// As counted.
    #[serde(flatten)]
    pub counted: Fill,
    /// Share of looks that found nothing.
    pub empty_percent: f64,
    /// Share of looks that found no room for another page.
    pub full_percent: f64,
    /// Mean of what was found.
    pub mean_bytes: f64,
}

/// Why it is unknown how the ends of a pipe wake each other.
const SHARED: &str =
    "its ends share other pipes too, and no record shows through which one of them wakes the other";

/// GiB to divide by, where there is enough.
pub(crate) fn gib(bytes: Option<u64>) -> Option<f64> {
    bytes.filter(|bytes| *bytes >= LEAST_BYTES).map(|bytes| bytes as f64 / GIB)
}

/// Share of the whole, in percent; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// The life of a member, where context switches were recorded.
pub(crate) fn life(member: &MemberProfile) -> Option<Life> {
    member.time.map(Life::of)
}

/// What a member slept for, longest first. What no stack accounts for is unknown.
pub(crate) fn blocked_table(
    run: &Run,
    member: &MemberProfile,
    gib: Option<f64>,
) -> Vec<BlockedShare> {
    let Some(split) = member.time else { return Vec::new() };
    let mut sums = [0u64; Reason::ALL.len()];
    let mut functions: OrderedMap<&str, u64> = OrderedMap::default();
    for weight in &member.blocked {
        let stack = run.profile.stack(weight.stack);
        let reason = run.roles.reason(&run.profile, stack);
        sums[reason as usize] += weight.weight;
        if reason == Reason::Other
            && let Some(name) = run.roles.slept_in(&run.profile, stack)
        {
            *functions.entry(name).or_default() += weight.weight;
        }
    }
    let accounted: u64 = sums.iter().sum();
    sums[Reason::Unknown as usize] += split.blocked_ns.saturating_sub(accounted);
    let mut table: Vec<BlockedShare> = Reason::ALL
        .into_iter()
        .filter(|&reason| sums[reason as usize] > 0)
        .map(|reason| {
            let ns = sums[reason as usize];
            let function = functions.iter().filter(|_| reason == Reason::Other).max_by_key(|f| f.1);
            BlockedShare {
                reason,
                ns,
                percent: percent(ns, split.lifetime_ns),
                ns_per_gib: gib.map(|gib| ns as f64 / gib),
                kernel_function: function.map(|(name, _)| (*name).to_owned()),
            }
        })
        .collect();
    table.sort_by_key(|share| std::cmp::Reverse(share.ns));
    table
}

impl Run {
    /// What went through a pipe, where that was counted.
    pub(crate) fn flow(&self, pipe: usize) -> Option<&PipeFlow> {
        self.holding().flow(pipe).and_then(|at| self.flows.get(at))
    }

    /// Members with pipes first, each behind those that write to it; the others in their order.
    pub fn order(&self) -> Vec<usize> {
        self.pipeline.upstream_first()
    }

    /// A member has a pipe of the pipeline.
    pub(crate) fn holds_pipe(&self, member: usize) -> bool {
        End::BOTH.iter().any(|&end| !self.pipes_at(member, end).is_empty())
    }

    /// Which pipes a member reads from, or writes to.
    pub(crate) fn keys_at(&self, member: usize, end: End) -> Vec<PipeKey> {
        self.pipes_at(member, end).iter().map(|&at| self.pipeline.pipes[at].key()).collect()
    }

    /// The pipes that a member reads from, or writes to.
    pub(crate) fn pipes_at(&self, member: usize, end: End) -> &[usize] {
        let member = self.pipeline.members.get(member);
        member.map_or(&[], |member| self.holding().pipes_at(member.id(), end))
    }

    /// What every figure per GiB is divided by, or why that is not known.
    ///
    /// # Errors
    ///
    /// As [`Payload::of`].
    pub fn payload(&self) -> Result<Payload, String> {
        self.index.payload(|| Payload::find(&self.pipeline, &self.flows, self.holding()))
    }

    /// What a member moved.
    pub fn moved(&self, member: usize) -> Moved {
        match self.pipeline.members.get(member) {
            Some(member) => moved(&self.pipeline, &self.flows, self.holding(), member.id()),
            None => Moved { bytes: None, what: "it has no pipe".to_owned() },
        }
    }

    /// The pipes, in the order of the pipeline.
    pub(crate) fn pipe_table(&self) -> Vec<PipeSummary> {
        let mut wakeups = self.wakeups();
        let waits = self.waits();
        let gib = self.payload().ok().map(Payload::gib);
        let pipes = self.pipeline.pipes.iter().enumerate();
        let between = pipes.filter(|(_, pipe)| !pipe.is_internal());
        between
            .map(|(at, _)| {
                let wakeups = match &mut wakeups {
                    Ok(of) => std::mem::replace(&mut of[at], Ok(Vec::new())),
                    Err(why) => Err(why.clone()),
                };
                self.pipe(at, gib, wakeups, &waits)
            })
            .collect()
    }

    /// `gib` is what each figure per GiB is divided by.
    fn pipe(
        &self,
        at: usize,
        gib: Option<f64>,
        wakeups: Result<Vec<PipeWakeups>, String>,
        waits: &[[[u64; 2]; 2]],
    ) -> PipeSummary {
        let pipe = &self.pipeline.pipes[at];
        let flow = self.flow(at);
        let seconds = self.elapsed_ns as f64 / 1e9;
        let (bytes, bytes_source, bytes_unknown) = match flow.map(|flow| flow.bytes.clone()) {
            Some(Bytes::Known { bytes, source }) => (Some(bytes), Some(source), None),
            Some(Bytes::Unknown { why }) => (None, None, Some(why)),
            None => (None, None, Some(Cow::Borrowed("the pipe was not metered"))),
        };
        let fill = flow.and_then(|flow| flow.fill).filter(|fill| fill.looks > 0);
        // No calls, for bytes, are calls that were made after the last look.
        let seen = |calls: &u64| *calls > 0 || bytes == Some(0);
        let writes = flow.and_then(|flow| flow.writes).filter(seen);
        let reads = flow.and_then(|flow| flow.reads).filter(seen);
        let per_second = |count: Option<u64>| {
            count.filter(|_| seconds > 0.0).map(|count| count as f64 / seconds)
        };
        let mean = |calls: Option<u64>| {
            let calls = calls.filter(|calls| *calls > 0)?;
            Some(bytes? as f64 / calls as f64)
        };
        let cost = self.cost(at, waits);
        let (wakeups, wakeups_unknown) = match wakeups {
            Ok(wakeups) => (wakeups, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let pids = |ids: &[MemberId]| -> Vec<i32> { ids.iter().map(|id| id.pid).collect() };
        PipeSummary {
            link: pipe.link,
            inode: pipe.inode,
            device: pipe.device,
            path: pipe.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            writers: pids(&pipe.writers),
            readers: pids(&pipe.readers),
            bytes,
            bytes_source,
            bytes_unknown,
            bytes_per_second: per_second(bytes),
            over_time: flow.map(|flow| flow.over_time.clone()).unwrap_or_default(),
            fill_over_time: flow.map(|flow| flow.fill_over_time.clone()).unwrap_or_default(),
            capacity_bytes: flow.and_then(|flow| flow.capacity_bytes).or(pipe.capacity_bytes),
            fill: fill.map(FillSummary::of),
            fill_unknown: match (fill, &pipe.path) {
                (Some(_), _) => None,
                (None, Some(_)) => {
                    Some("pipeprof does not open named FIFOs, as that could unblock a writer")
                }
                (None, None) => Some("pipeprof did not look into it"),
            },
            writes,
            reads,
            bytes_per_write: mean(writes),
            bytes_per_read: mean(reads),
            writes_per_second: per_second(writes),
            reads_per_second: per_second(reads),
            calls_unknown: (writes.is_none() || reads.is_none())
                .then_some("an end uses other pipes or files too, or ended before it was counted"),
            wakeups,
            wakeups_unknown,
            cpu_ns_per_gib: cost.zip(gib).map(|((cpu, _), gib)| cpu as f64 / gib),
            blocked_ns_per_gib: cost.zip(gib).map(|((_, blocked), gib)| blocked as f64 / gib),
        }
    }

    /// For each pipe how its ends wake each other, or why that is unknown.
    fn wakeups(&self) -> Result<Vec<Result<Vec<PipeWakeups>, String>>, String> {
        let (edges, watched_ns) = match &self.profile.wakeups {
            Wakeups::Unknown { why } => return Err(why.clone()),
            Wakeups::Known { watched_ns: 0, .. } => {
                return Err("no time was left to record them".to_owned());
            }
            Wakeups::Known { edges, watched_ns } => (edges, *watched_ns),
        };
        let watched = duration(watched_ns as f64);
        let none = format!("none occurred in the {watched} that were recorded");
        let mut of: Vec<Result<Vec<PipeWakeups>, String>> =
            vec![Err(none); self.pipeline.pipes.len()];
        let gib = self.payload().ok().map(Payload::gib);
        for edge in edges {
            let Waker::Member(waker) = edge.waker else { continue };
            let id = |at: usize| self.pipeline.members.get(at).map(Member::id);
            let Some((a, b)) = id(waker).zip(id(edge.woken_member)) else { continue };
            if waker == edge.woken_member {
                continue;
            }
            let mut joined = self.holding().between(a, b);
            joined.extend(self.holding().between(b, a));
            joined.sort_unstable();
            joined.dedup();
            if let [at] = joined[..] {
                let per_second = edge.count as f64 * 1e9 / watched_ns as f64;
                let wakeups = PipeWakeups {
                    waker: a.pid,
                    woken: b.pid,
                    per_second,
                    per_gib: gib.map(|gib| per_second * self.elapsed_ns as f64 / 1e9 / gib),
                    latency: edge.latency,
                };
                match &mut of[at] {
                    Ok(seen) => seen.push(wakeups),
                    Err(why) if why.as_str() == SHARED => {}
                    none => *none = Ok(vec![wakeups]),
                }
            } else {
                joined.into_iter().for_each(|at| of[at] = Err(SHARED.to_owned()));
            }
        }
        Ok(of)
    }

    /// For each member how long it waited for space, and for data, at pipes and at sockets.
    fn waits(&self) -> Vec<[[u64; 2]; 2]> {
        let wait = |member: &MemberProfile| {
            let table = blocked_table(self, member, None);
            let of = |reason: Reason| {
                table.iter().filter(|share| share.reason == reason).map(|share| share.ns).sum()
            };
            [
                [Reason::WaitSpace, Reason::WaitData].map(of),
                [Reason::SocketSpace, Reason::SocketData].map(of),
            ]
        };
        self.profile.members.iter().map(wait).collect()
    }

    /// CPU time in the pipe's code and time blocked on it, of both ends. `None` where an end works
    /// at several pipes, as no stack says at which, and where samples don't measure CPU time.
    fn cost(&self, at: usize, waits: &[[[u64; 2]; 2]]) -> Option<(u64, u64)> {
        if !self.profile.quality.shares_are_of_cpu_time() {
            return None;
        }
        let pipe = &self.pipeline.pipes[at];
        let mut cost = (0, 0);
        for (ids, end) in [(&pipe.writers, End::Writer), (&pipe.readers, End::Reader)] {
            for &id in ids {
                let at = self.holding().place(id)?;
                if self.pipes_at(at, end).len() > 1 {
                    return None;
                }
                let member = self.profile.members.get(at)?;
                member.time?;
                let other = if end == End::Writer { End::Reader } else { End::Writer };
                let only_end = self.pipes_at(at, other).is_empty();
                cost.0 += work_for(self, member, pipe.link, end, only_end);
                let [space, data] = waits.get(at)?[usize::from(pipe.link.is_socket())];
                cost.1 += if end == End::Writer { space } else { data };
            }
        }
        Some(cost)
    }
}

impl FillSummary {
    fn of(fill: Fill) -> Self {
        FillSummary {
            counted: fill,
            empty_percent: percent(fill.empty, fill.looks),
            full_percent: percent(fill.full, fill.looks),
            mean_bytes: fill.sum_bytes as f64 / fill.looks.max(1) as f64,
        }
    }
}

/// CPU nanoseconds of a member in the code of what carries the bytes, at one of its ends.
fn work_for(run: &Run, member: &MemberProfile, link: Link, end: End, only_end: bool) -> u64 {
    let Run { profile, roles, .. } = run;
    let weight: u64 = member
        .on_cpu
        .iter()
        .filter(|weight| is_work_for(roles.role(weight.stack), link))
        .filter(|weight| only_end || roles.end_at_work(profile.stack(weight.stack)) == Some(end))
        .map(|weight| weight.weight)
        .sum();
    on_cpu_ns(member, weight)
}

/// Weight of a member's samples as nanoseconds of the scheduler's account.
pub(crate) fn on_cpu_ns(member: &MemberProfile, weight: u64) -> u64 {
    let whole = member.weight();
    match member.time {
        Some(split) if whole > 0 => {
            (u128::from(weight) * u128::from(split.on_cpu_ns) / u128::from(whole)) as u64
        }
        _ => 0,
    }
}

/// The role is work that is there only because there is such a link.
pub(crate) fn is_work_for(role: Role, link: Link) -> bool {
    if link.is_socket() { role.is_socket_work() } else { is_pipe_work(role) }
}

fn is_pipe_work(role: Role) -> bool {
    matches!(
        role,
        Role::PipeWrite
            | Role::PipeRead
            | Role::CopyIn
            | Role::CopyOut
            | Role::PageAlloc
            | Role::PageFree
            | Role::PagePin
            | Role::Splice
            | Role::PipeLock
            | Role::WaitSpace
            | Role::WaitData
            | Role::Wakeup
            | Role::WakeupOrWait
    )
}
