//! Running pipelines in one interval, as `pipeprof top` shows them.

use pipeprof_profiler::live::Interval;
use pipeprof_runner::cgroup::Container;
use pipeprof_runner::pipeline::{Link, MemberId};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::facts::blame::{Limit, blame, uses};
use crate::facts::states::StateHistory;

/// All pipelines at the end of an interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The busiest first.
    pub pipelines: Vec<PipelineNow>,
    /// Processes of others that may not be read, so that members may be missing.
    pub unreadable_processes: usize,
}

/// One pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PipelineNow {
    /// Upstream first.
    pub members: Vec<MemberNow>,
    /// In the order of their first writer.
    pub pipes: Vec<PipeNow>,
    /// Through the pipe that carries most; `None` where no pipe's bytes are known.
    pub bytes_per_second: Option<f64>,
    /// CPUs that all members used together.
    pub cpus_used: f64,
    /// What limits it most; `None` where nothing moves or nothing tells.
    pub limit: Option<LimitNow>,
    /// Length of the interval, in seconds.
    pub elapsed_s: f64,
}

/// One member. Shares are of the interval, 0 to 1, by looks at all its threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemberNow {
    /// Thread-group id.
    pub pid: i32,
    /// Its name. Untrusted text.
    pub name: String,
    /// Its arguments. Untrusted text.
    pub command_line: Vec<String>,
    /// Whose rights it has: a name, or a number where the machine has no name for it.
    pub user: Option<String>,
    /// The container that it runs in.
    pub container: Option<Container>,
    /// The innermost systemd unit that it runs in.
    pub unit: Option<String>,
    /// The regular files that it has open; `None` if not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileNow>>,
    /// Its threads; `None` if not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Vec<ThreadNow>>,
    /// CPUs that it used, 1.9 for nearly two.
    pub cpus_used: f64,
    /// A thread ran or could have.
    pub busy: f64,
    /// All waited, one of them for data of a pipe.
    pub waits_for_data: f64,
    /// All waited, one of them for space in a pipe.
    pub waits_for_space: f64,
    /// All waited, for something that is no pipe of the pipeline.
    pub outside: f64,
    /// Share of the time in which it limited the pipeline.
    pub limits: f64,
    /// It has ended since; `false` if not asked for.
    #[serde(skip)]
    pub has_ended: bool,
}

/// A thread of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ThreadNow {
    /// Its id.
    pub tid: i32,
    /// Its name. Untrusted text.
    pub name: String,
    /// CPUs that it used; `None` where it was not seen before.
    pub cpus_used: Option<f64>,
}

/// A regular file that a member has open.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FileNow {
    /// The number of its descriptor.
    pub fd: i32,
    /// Where it is. Untrusted text.
    pub path: String,
    /// It was opened for writing.
    pub writes: bool,
    /// How far the next read or write is from its beginning.
    pub position_bytes: u64,
    /// How large it is.
    pub size_bytes: u64,
    /// How fast the position moved in the interval; `None` where it was not seen before.
    pub bytes_per_second: Option<f64>,
}

impl FileNow {
    /// How far a reader is in it, 0 to 1; `None` of a file that is written or has no size.
    pub fn progress(&self) -> Option<f64> {
        (!self.writes && self.size_bytes > 0)
            .then(|| (self.position_bytes as f64 / self.size_bytes as f64).min(1.0))
    }

    /// Seconds until a reader is at its end, at the present rate.
    pub fn seconds_left(&self) -> Option<f64> {
        self.progress()?;
        let rate = self.bytes_per_second.filter(|&rate| rate > 0.0)?;
        let left = self.size_bytes.saturating_sub(self.position_bytes);
        (left > 0).then(|| left as f64 / rate)
    }
}

/// One pipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PipeNow {
    /// What it is.
    #[serde(flatten)]
    pub link: Link,
    /// Device of its inode.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Places in `members`.
    pub writers: Vec<usize>,
    /// Places in `members`.
    pub readers: Vec<usize>,
    /// `None` where neither end's counts can be trusted.
    pub bytes_per_second: Option<f64>,
    /// At the end of the interval.
    pub fill_bytes: Option<u64>,
    /// `F_GETPIPE_SZ`.
    pub capacity_bytes: Option<u64>,
}

/// What limits a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LimitNow {
    /// Which kind.
    pub kind: LimitKind,
    /// Place in `members`.
    pub member: Option<usize>,
    /// Place in `pipes`.
    pub pipe: Option<usize>,
    /// Share of the time, 0 to 1.
    pub share: f64,
}

/// How it limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// A member computes.
    Busy,
    /// A member waits for something outside of the pipeline.
    Outside,
    /// A member could run, and has no CPU.
    NoCpu,
    /// The ends of a pipe wait for each other to wake up.
    WakeUps,
}

impl PipelineNow {
    /// What an interval comes to.
    pub fn of(interval: &Interval) -> PipelineNow {
        let pipeline = &interval.pipeline;
        let seconds = (interval.elapsed_ns as f64 / 1e9).max(1e-9);
        let history = StateHistory::of(pipeline, &interval.states);
        let blamed = blame(&history).sum(0..history.spans.len());
        let mut members: Vec<MemberNow> = pipeline
            .members
            .iter()
            .map(|member| MemberNow {
                pid: member.pid,
                name: member.comm.clone(),
                command_line: member.command_line.clone(),
                ..MemberNow::default()
            })
            .collect();
        let mut by_actor: FxHashMap<usize, f64> = FxHashMap::default();
        for &(limit, ns) in &blamed.limits {
            if let Some(actor) = limit.actor() {
                *by_actor.entry(actor).or_default() += ns;
            }
        }
        let place = |actor: usize| history.actors.get(actor).map(|actor| actor.member);
        for (actor, spent) in uses(&history, 0..history.spans.len()).into_iter().enumerate() {
            let Some(member) = place(actor).and_then(|at| members.get_mut(at)) else { continue };
            let share = |ns: f64| ns / spent.alive_ns.max(1.0);
            member.cpus_used = spent.cpu_ns / interval.elapsed_ns.max(1) as f64;
            member.busy = share(spent.busy_ns);
            member.waits_for_data = share(spent.data_ns);
            member.waits_for_space = share(spent.space_ns);
            member.outside = share(spent.outside_ns + spent.follows_ns);
            member.limits = by_actor.get(&actor).map_or(0.0, |ns| ns / blamed.whole_ns.max(1.0));
        }
        let place_of = pipeline.places();
        let places =
            |ids: &[MemberId]| ids.iter().filter_map(|id| place_of.get(id).copied()).collect();
        let pipes: Vec<PipeNow> = pipeline
            .pipes
            .iter()
            .zip(&interval.pipes)
            .map(|(pipe, now)| PipeNow {
                link: pipe.link,
                device: pipe.device,
                inode: pipe.inode,
                writers: places(&pipe.writers),
                readers: places(&pipe.readers),
                bytes_per_second: now.bytes.map(|bytes| bytes as f64 / seconds),
                fill_bytes: now.level.map(|level| level.fill_bytes),
                capacity_bytes: now.level.map(|level| level.capacity_bytes),
            })
            .collect();
        let rates = pipes.iter().filter_map(|pipe| pipe.bytes_per_second);
        let bytes_per_second = rates.max_by(f64::total_cmp);
        let cpus_used = members.iter().map(|member| member.cpus_used).sum();
        // If nothing flows and no member computes, a member that waits outside limits nothing.
        let moves = bytes_per_second.is_none_or(|rate| rate > 0.0) || cpus_used > IDLE_CPUS;
        // A member that could run, and waits for a CPU, limits as one that runs does.
        let alike = |limit: Limit| match limit {
            Limit::NoCpu(actor) => Limit::Busy(actor),
            limit => limit,
        };
        let mut whole: FxHashMap<Limit, f64> = FxHashMap::default();
        for &(limit, ns) in &blamed.limits {
            *whole.entry(alike(limit)).or_default() += ns / blamed.whole_ns.max(1.0);
        }
        let limits = blamed.limits.iter().map(|&(limit, _)| (limit, whole[&alike(limit)]));
        // Of two alike the first: the larger part of what a member does.
        let largest = limits.rev().max_by(|a, b| a.1.total_cmp(&b.1));
        let limit = largest.filter(|_| moves).and_then(|(limit, share)| {
            let kind = match limit {
                Limit::Busy(_) => LimitKind::Busy,
                Limit::Outside(..) => LimitKind::Outside,
                Limit::NoCpu(_) => LimitKind::NoCpu,
                Limit::WakeUps(_) => LimitKind::WakeUps,
                Limit::Unknown => return None,
            };
            let pipe = if let Limit::WakeUps(pipe) = limit { Some(pipe) } else { None };
            Some(LimitNow { kind, member: limit.actor().and_then(place), pipe, share })
        });
        PipelineNow { members, pipes, bytes_per_second, cpus_used, limit, elapsed_s: seconds }
    }

    /// `yes | gzip | sha256sum`.
    pub fn title(&self) -> String {
        let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        names.join(" | ")
    }

    /// Bytes flow, or a member computes.
    pub fn moves(&self) -> bool {
        self.bytes_per_second.unwrap_or(0.0) > 0.0 || self.cpus_used > IDLE_CPUS
    }

    /// A name or an argument of a member has this in it.
    pub fn matches(&self, pattern: &str) -> bool {
        self.members.iter().any(|member| {
            member.name.contains(pattern)
                || member.command_line.iter().any(|word| word.contains(pattern))
                || member.pid.to_string() == pattern
        })
    }
}

/// Members that use less than this together do nothing to speak of.
const IDLE_CPUS: f64 = 0.01;

/// What pipelines are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The busiest first.
    #[default]
    Cpu,
    /// Most bytes a second first.
    Throughput,
    /// By name.
    Name,
}

impl Order {
    /// The next one.
    pub fn next(self) -> Order {
        match self {
            Order::Cpu => Order::Throughput,
            Order::Throughput => Order::Name,
            Order::Name => Order::Cpu,
        }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Order::Cpu => "CPU",
            Order::Throughput => "throughput",
            Order::Name => "name",
        }
    }

    /// Sorts.
    pub fn sort(self, pipelines: &mut [PipelineNow]) {
        let rate = |pipeline: &PipelineNow| pipeline.bytes_per_second.unwrap_or(0.0);
        pipelines.sort_by(|a, b| match self {
            Order::Cpu => b.cpus_used.total_cmp(&a.cpus_used),
            Order::Throughput => rate(b).total_cmp(&rate(a)),
            Order::Name => a.title().cmp(&b.title()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str, cpus_used: f64, rate: Option<f64>) -> PipelineNow {
        let member = MemberNow { name: name.into(), pid: 7, ..MemberNow::default() };
        PipelineNow {
            members: vec![member],
            bytes_per_second: rate,
            cpus_used,
            ..Default::default()
        }
    }

    #[test]
    fn a_reader_has_a_way_left_and_a_writer_has_none() {
        let file = FileNow {
            position_bytes: 250,
            size_bytes: 1000,
            bytes_per_second: Some(50.0),
            ..FileNow::default()
        };
        assert_eq!((file.progress(), file.seconds_left()), (Some(0.25), Some(15.0)));
        let written = FileNow { writes: true, ..file.clone() };
        assert_eq!((written.progress(), written.seconds_left()), (None, None));
        let still = FileNow { bytes_per_second: Some(0.0), ..file.clone() };
        assert_eq!((still.progress(), still.seconds_left()), (Some(0.25), None));
        let done = FileNow { position_bytes: 1000, ..file };
        assert_eq!((done.progress(), done.seconds_left()), (Some(1.0), None));
    }

    #[test]
    fn pipelines_are_ordered_and_found() {
        let mut all = [
            pipeline("a", 0.1, Some(9.0)),
            pipeline("c", 0.9, None),
            pipeline("b", 0.0, Some(0.0)),
        ];
        let names = |all: &[PipelineNow]| all.iter().map(PipelineNow::title).collect::<String>();
        for (order, expected) in
            [(Order::Cpu, "cab"), (Order::Throughput, "acb"), (Order::Name, "abc")]
        {
            order.sort(&mut all);
            assert_eq!(names(&all), expected, "{}", order.name());
        }
        assert!(all[0].matches("a") && !all[0].matches("x") && all[0].matches("7"));
        assert_eq!(all.each_ref().map(PipelineNow::moves), [true, false, true]);
    }
}
