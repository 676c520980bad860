//! The summary: what each member spent its CPU time on, per role and function, and how far to
//! trust it. What the terminal shows and `--json` writes are two renderings of this.

use pipeprof_profiler::profile::{MemberProfile, Mode, Profile, Quality, StackWeight, WeightUnit};
use pipeprof_profiler::states::Connection;
use pipeprof_runner::cgroup::Container;
use pipeprof_runner::pipeline::{End, PipeKey};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use serde_json::Value;

use crate::escape::printable;
use crate::facts;
use crate::facts::lanes::{Cell, Lanes, PipeLane, lanes};
use crate::facts::states::Scene;
use crate::flamegraph::{View, members};
use crate::highlight::{HighlightShare, Highlights};
use crate::ledger::{self, BlockedShare, Life, PipeSummary};
use crate::part::Part;
use crate::roles::{Basis, Role, source_name};
use crate::run::Run;
use crate::verdict::{Evidence, Finding, MemberEvidence, PipeEvidence, Verdict, WakeLatency};
use crate::words;

/// Raised whenever a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 4;

/// So many members are told of one by one, however little they did, where there is no pipe.
const MOST_TOLD: usize = 8;

/// Functions listed a member.
const TOP: usize = 10;

/// A profile in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The stage, or the command line.
    pub subject: String,
    /// Release of the kernel that was profiled.
    pub kernel: Option<String>,
    /// The phase that all of this is of; `None` for the whole run.
    pub phase: Option<Part>,
    /// Throughput of the profiled run.
    pub bytes_per_second: Option<f64>,
    /// Bytes through the pipe while it was profiled.
    pub bytes_piped: Option<u64>,
    /// What every `ns_per_gib` is per, in words; `None` where that is not known.
    pub per_gib_of: Option<String>,
    /// What holds the pipeline back; `None` where blocked time was not asked for.
    pub verdict: Option<Verdict>,
    /// How long it was watched.
    pub elapsed_ns: Option<u64>,
    /// In pipeline order, those without a pipe last.
    pub members: Vec<MemberSummary>,
    /// In pipeline order.
    pub pipes: Vec<PipeSummary>,
    /// What limits trust in the numbers.
    pub quality: QualitySummary,
    /// What happened when, where that was [asked for](Self::add_timeline).
    #[serde(skip)]
    pub timeline: Option<Lanes>,
    /// Pids of those that the text has tables of; empty for all.
    #[serde(skip)]
    pub only: Vec<i32>,
}

/// One member in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberSummary {
    /// Thread-group id.
    pub pid: i32,
    /// Chosen by the process: untrusted text.
    pub comm: String,
    /// How many processes of that name it stands for.
    pub processes: usize,
    /// The container that it ran in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Which end, where the pipeline is a built-in pair.
    pub end: Option<End>,
    /// Samples taken of it.
    pub samples: u64,
    /// Sum of their periods, in the unit of [`Quality::unit`].
    pub weight: u64,
    /// CPU time: the scheduler's account where there is one, else that of the samples where they
    /// measure all of it.
    pub cpu_time_ns: Option<u64>,
    /// Share of that CPU time that the samples cover by their periods, in percent: far from
    /// 100 where the clock that samples misses, or favours, a member that switches often. `None`
    /// where the samples don't measure time or nobody else accounts for it.
    pub coverage_percent: Option<f64>,
    /// CPUs that it kept busy on average while it was profiled: more than 1 of several threads.
    /// `None` where CPU time or the time profiled is not known.
    pub cpus: Option<f64>,
    /// Its life; `None` where context switches were not recorded.
    pub life: Option<Life>,
    /// Bytes that it moved; `None` where they are not known.
    pub bytes_moved: Option<u64>,
    /// Which bytes those are, or why they are not known.
    pub bytes_moved_are: String,
    /// The pipes that it reads; written as inodes.
    #[serde(serialize_with = "inodes")]
    pub reads_from: Vec<PipeKey>,
    /// The pipes that it writes; written as inodes.
    #[serde(serialize_with = "inodes")]
    pub writes_to: Vec<PipeKey>,
    /// TCP connections at which it waited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// It holds the pipe ends of others and never uses them, as `timeout` does.
    pub only_holds: bool,
    /// What it slept for, longest first.
    pub blocked: Vec<BlockedShare>,
    /// Heaviest first.
    pub roles: Vec<RoleShare>,
    /// The heaviest by self weight.
    pub top_functions: Vec<FunctionShare>,
    /// The highlighted functions.
    pub highlights: Vec<HighlightShare>,
}

fn inodes<S: serde::Serializer>(pipes: &[PipeKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pipes.iter().map(|pipe| pipe.inode))
}

/// What one role took of a member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleShare {
    /// The role.
    pub role: Role,
    /// Samples in it.
    pub samples: u64,
    /// Their weight.
    pub weight: u64,
    /// Share of the member's weight, in percent.
    pub percent: f64,
    /// CPU nanoseconds for a GiB of the pipeline's input. `None` where bytes or CPU time are unknown, and where
    /// shares of the samples are not shares of CPU time.
    pub ns_per_gib: Option<f64>,
    /// Samples that a timer could only take once interrupts came on again.
    pub deferred_samples: u64,
    /// Samples of which no stack, and no code, shows what was called (see [`Basis::Inferred`]).
    pub inferred_samples: u64,
}

/// What one function took of a member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionShare {
    /// As the kernel, or the program's symbols, spell it.
    pub name: String,
    /// The name that people know it by, where that is another.
    pub known_as: Option<String>,
    /// Kernel or user.
    pub mode: Mode,
    /// Weight of the samples taken in the function itself.
    pub self_weight: u64,
    /// Weight of the stacks that hold it.
    pub total_weight: u64,
}

/// [`Quality`], and what follows from it for roles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualitySummary {
    /// As recorded.
    #[serde(flatten)]
    pub recorded: Quality,
    /// Where a timer samples: the functions that took those of code that ran with
    /// interrupts off. `None` where samples can be taken anywhere.
    pub skid: Option<Vec<Absorber>>,
    /// Samples in a role only by inference.
    pub inferred_samples: u64,
}

/// A function that turns interrupts on, and is sampled in place of what ran before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absorber {
    /// As the kernel spells it.
    pub function: String,
    /// Samples taken there, a member each, in the order of [`Summary::members`].
    pub samples: Vec<u64>,
}

impl MemberSummary {
    /// It has a pipe, and uses it.
    pub(crate) fn uses_pipes(&self) -> bool {
        let has = !self.reads_from.is_empty() || !self.writes_to.is_empty();
        has && !self.only_holds
    }
}

impl Summary {
    /// Adds a profile up.
    pub fn of(run: &Run, highlights: &Highlights, view: View) -> Self {
        let Run { profile, roles, .. } = run;
        let shown = members(run, view);
        let functions = functions(profile);
        let payload = run.payload();
        let gib = payload.as_ref().ok().map(|payload| payload.gib());
        let mut members: Vec<MemberSummary> = shown
            .iter()
            .map(|&(index, member)| {
                let moved = run.moved(index);
                MemberSummary {
                    pid: member.pid,
                    comm: member.comm.clone(),
                    processes: member.processes,
                    container: run.container(index).cloned(),
                    end: member.end,
                    samples: member.samples(),
                    weight: member.weight(),
                    cpu_time_ns: cpu_time_ns(profile, member),
                    coverage_percent: coverage_percent(&profile.quality, member),
                    cpus: cpu_time_ns(profile, member)
                        .filter(|_| run.elapsed_ns > 0)
                        .map(|ns| ns as f64 / run.elapsed_ns as f64),
                    life: ledger::life(member),
                    only_holds: false,
                    blocked: ledger::blocked_table(run, member, gib),
                    roles: role_table(run, member, gib),
                    bytes_moved: moved.bytes,
                    bytes_moved_are: moved.what,
                    reads_from: run.keys_at(index, End::Reader),
                    writes_to: run.keys_at(index, End::Writer),
                    connections: run.connections(index).to_vec(),
                    top_functions: top_functions(profile, &functions, highlights, &member.on_cpu),
                    highlights: highlights.highlight_shares(profile, roles, index),
                }
            })
            .collect();
        let pipes = run.pipe_table();
        let has_lives = members.iter().any(|member| member.life.is_some());
        let evidence = (has_lives || run.states.is_some()).then(|| evidence(&members, &pipes, run));
        if let Some(evidence) = evidence.as_ref().filter(|_| has_lives) {
            for (at, member) in members.iter_mut().enumerate() {
                member.only_holds = evidence.only_holds(at);
            }
        }
        let mut verdict = evidence.as_ref().map(|evidence| verdict(evidence, run));
        if let Some((verdict, target)) = verdict.as_mut().zip(run.tune.as_ref()) {
            not_proven(verdict, target);
        }
        let inferred = |member: &MemberSummary| -> u64 {
            member.roles.iter().map(|role| role.inferred_samples).sum()
        };
        Summary {
            schema_version: SCHEMA_VERSION,
            per_gib_of: payload.ok().map(|payload| payload.words(&run.pipeline)),
            subject: run.subject.clone(),
            kernel: (!run.kernel.is_empty()).then(|| run.kernel.clone()),
            phase: run.part,
            bytes_per_second: run.bytes_per_second(),
            bytes_piped: run.bytes_piped(),
            verdict,
            elapsed_ns: Some(run.elapsed_ns).filter(|ns| *ns > 0),
            pipes,
            quality: QualitySummary {
                recorded: profile.quality.clone(),
                skid: profile.quality.interrupts_wait.then(|| skid(run, &shown)),
                inferred_samples: members.iter().map(inferred).sum(),
            },
            members,
            timeline: None,
            only: Vec::new(),
        }
    }

    /// Adds what happened when, in so many columns; nothing where nobody looked.
    pub fn add_timeline(&mut self, run: &Run, columns: usize) {
        let Some(states) = &run.states else { return };
        let evidence = evidence(&self.members, &self.pipes, run);
        let scene = Scene { is_phase: run.part.is_some(), ..Scene::of(&run.pipeline, states) };
        let start_ns = run.start_ns;
        // As the verdict has it.
        let limits = self.verdict.iter().flat_map(|verdict| &verdict.limits);
        let apart = limits.into_iter().any(|limit| limit.kind == "cpus");
        self.timeline =
            lanes(&evidence, &scene, &run.pipeline, &run.flows, start_ns, columns, apart);
    }

    /// The members that a person is told of one by one, and the others: shells that wait, and what
    /// they start for a moment. Where members were asked for, those, and nobody else.
    pub(crate) fn main_members(&self) -> (Vec<&MemberSummary>, Vec<&MemberSummary>) {
        let is_asked_for = |m: &&MemberSummary| self.only.is_empty() || self.only.contains(&m.pid);
        let all: u64 = self.members.iter().filter_map(|member| member.cpu_time_ns).sum();
        let weights: u64 = self.members.iter().map(|member| member.weight).sum();
        // A file of perf has all that ran, and no pipe tells what belongs together.
        let are_few = self.pipes.is_empty() && self.members.len() <= MOST_TOLD;
        let is_main = |member: &&MemberSummary| {
            let is_busy = match member.cpu_time_ns {
                Some(ns) => ns.saturating_mul(50) >= all,
                None => member.weight.saturating_mul(50) >= weights,
            };
            !self.only.is_empty() || are_few || member.uses_pipes() || is_busy
        };
        self.members.iter().filter(is_asked_for).partition(is_main)
    }

    /// Some figure is per GiB.
    pub(crate) fn has_rates(&self) -> bool {
        let rates = |member: &MemberSummary| {
            let roles = member.roles.iter().map(|share| share.ns_per_gib);
            roles.chain(member.blocked.iter().map(|share| share.ns_per_gib)).any(|ns| ns.is_some())
        };
        self.members.iter().any(rates)
    }

    /// Leaves out all members but these, and the pipes of others. The verdict stays that of the
    /// whole pipeline.
    pub fn keep_members(&mut self, pids: &[i32]) {
        let shown: Vec<bool> = self.members.iter().map(|m| pids.contains(&m.pid)).collect();
        for absorber in self.quality.skid.iter_mut().flatten() {
            let mut shown = shown.iter();
            absorber.samples.retain(|_| shown.next() == Some(&true));
        }
        self.members.retain(|member| pids.contains(&member.pid));
        self.pipes.retain(|pipe| is_held(pipe, pids));
    }

    /// Has the text show these members alone, with their pipes; the others are still named where
    /// they are at the other end of one.
    pub fn show_members(&mut self, pids: &[i32]) {
        self.only = pids.to_vec();
        self.pipes.retain(|pipe| is_held(pipe, pids));
    }

    /// Leaves out what has less than this share of its member, in percent: roles, functions, and
    /// reasons to sleep.
    pub fn keep_shares(&mut self, percent: f64) {
        for member in &mut self.members {
            let least = percent / 100.0 * member.weight as f64;
            member.roles.retain(|role| role.percent >= percent);
            member.top_functions.retain(|function| function.self_weight as f64 >= least);
            member.blocked.retain(|share| share.percent >= percent);
        }
    }

    /// The summary as JSON, for a program to read.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Write`] where `out` fails.
    pub fn write_json(&self, mut out: impl std::io::Write) -> Result<(), crate::error::Error> {
        let mut json = serde_json::to_value(self).map_err(std::io::Error::from)?;
        if let Some(lanes) = &self.timeline {
            json["timeline"] = self.timeline_json(lanes);
        }
        // Who it is, not only a pid to look up.
        if let Some(Value::Array(members)) = json.pointer_mut("/verdict/members") {
            let places = self.places();
            for member in members.iter_mut() {
                if let Some(pid) = member.as_i64() {
                    *member = self.named(&places, pid);
                }
            }
        }
        serde_json::to_writer_pretty(&mut out, &json).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    fn timeline_json(&self, lanes: &Lanes) -> Value {
        let percents = |shares: &[f64]| -> Vec<Value> {
            shares.iter().map(|share| tenth(100.0 * share)).collect()
        };
        let places = self.places();
        let is_kept = |pid: i32| places.contains_key(&i64::from(pid));
        let members = lanes.members.iter().filter(|lane| is_kept(lane.pid)).map(|lane| {
            let mut json = self.named(&places, i64::from(lane.pid));
            let of_cells = |share: &dyn Fn(&Cell) -> f64| -> Value {
                percents(&lane.cells.iter().map(share).collect::<Vec<_>>()).into()
            };
            for (at, name) in STATE_FIELDS.into_iter().enumerate() {
                json[name] = of_cells(&|cell| cell.shares[at]);
            }
            json["limits_percent"] = of_cells(&|cell| cell.limits);
            json
        });
        let is_held =
            |lane: &&PipeLane| lane.writers.iter().chain(&lane.readers).any(|&p| is_kept(p));
        let pipes = lanes.pipes.iter().filter(is_held).map(|lane| {
            let rates: Vec<Option<f64>> =
                lane.bytes_per_second.iter().map(|rate| rate.map(f64::round)).collect();
            let fill: Vec<Value> = lane
                .fill
                .iter()
                .map(|fill| fill.map_or(Value::Null, |f| tenth(100.0 * f)))
                .collect();
            serde_json::json!({
                "inode": lane.inode,
                "bytes_per_second": rates,
                "fill_percent": fill,
                "limits_percent": percents(&lane.limits),
            })
        });
        serde_json::json!({
            "column_ns": lanes.column_ns.round(),
            "columns": lanes.columns,
            "members": members.collect::<Vec<_>>(),
            "pipes": pipes.collect::<Vec<_>>(),
            "cpus_limit_percent": percents(&lanes.cpus),
            "unknown_limit_percent": percents(&lanes.unknown),
        })
    }

    /// Where in [`Summary::members`] the member with each pid stands.
    fn places(&self) -> FxHashMap<i64, usize> {
        let members = self.members.iter().enumerate().rev();
        members.map(|(at, member)| (i64::from(member.pid), at)).collect()
    }

    /// A member by pid, name and place in the pipeline.
    fn named(&self, places: &FxHashMap<i64, usize>, pid: i64) -> Value {
        let place = places.get(&pid).copied();
        let name = place.map_or("", |at| self.members[at].comm.as_str());
        serde_json::json!({ "pid": pid, "name": name, "place": place })
    }
}

/// Fields of the JSON, by [`State::ALL`](crate::facts::lanes::State::ALL).
const STATE_FIELDS: [&str; 5] = [
    "busy_percent",
    "runnable_percent",
    "waits_for_data_percent",
    "waits_for_space_percent",
    "outside_percent",
];

/// Rounded to a tenth, as more says nothing.
fn tenth(value: f64) -> Value {
    ((10.0 * value).round() / 10.0).into()
}

/// The connection that carried most.
fn heaviest(connections: &[Connection]) -> Option<&Connection> {
    connections.iter().max_by_key(|of| of.sent_bytes.max(of.received_bytes))
}

fn is_held(pipe: &PipeSummary, pids: &[i32]) -> bool {
    pipe.writers.iter().chain(&pipe.readers).any(|pid| pids.contains(pid))
}

/// From the states of all threads where somebody looked, else from averages.
fn verdict(evidence: &Evidence, run: &Run) -> Verdict {
    let by_states = run.states.as_ref().and_then(|timeline| {
        let scene = Scene { is_phase: run.part.is_some(), ..Scene::of(&run.pipeline, timeline) };
        facts::verdict::judge(evidence, &scene, &run.pipeline)
    });
    let judged = by_states.unwrap_or_else(|| facts::averages::judge(evidence));
    words::verdict::verdict(evidence, &judged)
}

/// How a remedy can be tried that settings of pipes or CPUs may bring about.
fn not_proven(verdict: &mut Verdict, target: &str) {
    let is_of_pipes = matches!(verdict.finding, Finding::PipeBound(_) | Finding::Starved);
    let remedies = &mut verdict.remedies;
    let at = remedies.iter().position(|remedy| remedy.is_for_tune);
    let at = at.or((is_of_pipes && !remedies.is_empty()).then_some(0));
    if let Some(remedy) = at.and_then(|at| remedies.get_mut(at)) {
        let target = printable(target);
        remedy.buys += &format!("; not proven: `pipeprof tune {target} --time 40s` tries it");
    }
}

/// What the verdict is drawn from: what the tables say, and nothing else.
fn evidence(members: &[MemberSummary], pipes: &[PipeSummary], run: &Run) -> Evidence {
    let quality = &run.profile.quality;
    let places: FxHashMap<PipeKey, usize> =
        pipes.iter().enumerate().rev().map(|(at, pipe)| (pipe.key(), at)).collect();
    let at = |keys: &[PipeKey]| -> Vec<usize> {
        keys.iter().filter_map(|key| places.get(key).copied()).collect()
    };
    let by_pid: FxHashMap<i32, &MemberSummary> =
        members.iter().rev().map(|member| (member.pid, member)).collect();
    let member = |member: &MemberSummary| {
        let split = member.life.map(|life| life.split).unwrap_or_default();
        // Shares of page faults, say, are no shares of the time on a CPU.
        let shares = if quality.shares_are_of_cpu_time() { &member.roles[..] } else { &[] };
        let role_ns = |role: &RoleShare| (split.on_cpu_ns as f64 * role.percent / 100.0) as u64;
        MemberEvidence {
            pid: member.pid,
            label: printable(&member.comm).into_owned(),
            lifetime_ns: split.lifetime_ns,
            on_cpu_ns: split.on_cpu_ns,
            runnable_ns: split.runnable_ns,
            blocked: member.blocked.iter().map(|share| (share.reason, share.ns)).collect(),
            roles: shares.iter().map(|share| (share.role, role_ns(share))).collect(),
            sleeps: split.sleeps,
            reads_from: at(&member.reads_from),
            writes_to: at(&member.writes_to),
            connection: heaviest(&member.connections).cloned(),
        }
    };
    let pipe = |pipe: &PipeSummary| PipeEvidence {
        link: pipe.link,
        inode: pipe.inode,
        device: pipe.device,
        empty: pipe.fill.map(|fill| fill.empty_percent / 100.0),
        full: pipe.fill.map(|fill| fill.full_percent / 100.0),
        capacity_bytes: pipe.capacity_bytes,
        bytes: pipe.bytes,
        bytes_per_write: pipe.bytes_per_write,
        bytes_per_read: pipe.bytes_per_read,
        latency: pipe.wakeups.iter().find_map(|wakeups| {
            let latency = wakeups.latency?;
            let woken = by_pid.get(&wakeups.woken)?;
            Some(WakeLatency {
                woken: printable(&woken.comm).into_owned(),
                median_ns: latency.median_ns,
                p99_ns: latency.p99_ns,
            })
        }),
    };
    Evidence {
        members: members.iter().map(member).collect(),
        pipes: pipes.iter().map(pipe).collect(),
        elapsed_ns: run.elapsed_ns,
        cpus: run.cpus,
        samples: quality.samples,
        foreign_samples: quality.foreign_samples,
        lost: quality.lost,
        kernel_visible: quality.kernel_visible,
    }
}

pub(crate) fn cpu_time_ns(profile: &Profile, member: &MemberProfile) -> Option<u64> {
    let quality = &profile.quality;
    let measures_all = quality.unit == WeightUnit::Nanoseconds && quality.kernel_visible;
    member.cpu_time_ns.or_else(|| measures_all.then(|| member.weight()))
}

fn coverage_percent(quality: &Quality, member: &MemberProfile) -> Option<f64> {
    let account = member.cpu_time_ns.filter(|ns| *ns > 0)?;
    (quality.unit == WeightUnit::Nanoseconds).then(|| ledger::percent(member.weight(), account))
}

fn role_table(run: &Run, member: &MemberProfile, gib: Option<f64>) -> Vec<RoleShare> {
    let Run { profile, roles, .. } = run;
    #[derive(Clone, Copy, Default)]
    struct Sum {
        samples: u64,
        weight: u64,
        deferred: u64,
        inferred: u64,
    }
    let mut sums = [Sum::default(); Role::ALL.len()];
    for weight in &member.on_cpu {
        let sum = &mut sums[roles.role(weight.stack).index()];
        sum.samples += weight.samples;
        sum.weight += weight.weight;
        if profile.quality.interrupts_wait && roles.absorber(profile.stack(weight.stack)).is_some()
        {
            sum.deferred += weight.samples;
        }
        if roles.basis(weight.stack) == Basis::Inferred {
            sum.inferred += weight.samples;
        }
    }
    let whole = member.weight();
    let ns_per_gib = cpu_time_ns(profile, member)
        .filter(|_| profile.quality.shares_are_of_cpu_time())
        .zip(gib)
        .map(|(ns, gib)| ns as f64 / gib);
    let mut table: Vec<RoleShare> = Role::ALL
        .into_iter()
        .map(|role| (role, sums[role.index()]))
        .filter(|(_, sum)| sum.samples > 0)
        .map(|(role, sum)| {
            let share = if whole == 0 { 0.0 } else { sum.weight as f64 / whole as f64 };
            RoleShare {
                role,
                samples: sum.samples,
                weight: sum.weight,
                percent: 100.0 * share,
                ns_per_gib: ns_per_gib.map(|ns| ns * share),
                deferred_samples: sum.deferred,
                inferred_samples: sum.inferred,
            }
        })
        .collect();
    table.sort_by_key(|share| std::cmp::Reverse(share.weight));
    table
}

/// For each frame of a profile the first one of its function: frames of one function at different
/// addresses are one function.
fn functions(profile: &Profile) -> Vec<usize> {
    let mut first: FxHashMap<(&str, Mode), usize> = FxHashMap::default();
    let frames = profile.frames().iter().enumerate();
    frames.map(|(at, frame)| *first.entry((&*frame.name, frame.mode)).or_insert(at)).collect()
}

/// The heaviest functions of these stacks.
fn top_functions(
    profile: &Profile,
    function_of: &[usize],
    highlights: &Highlights,
    stacks: &[StackWeight],
) -> Vec<FunctionShare> {
    // Of the functions of a profile a member has a few.
    let mut sums: FxHashMap<usize, (u64, u64)> = FxHashMap::default();
    let mut counted = FxHashSet::default();
    for weight in stacks {
        counted.clear();
        for (depth, frame) in profile.stack(weight.stack).iter().enumerate() {
            let function = function_of[frame.index()];
            let sum = sums.entry(function).or_default();
            if depth == 0 {
                sum.0 += weight.weight;
            }
            if counted.insert(function) {
                sum.1 += weight.weight;
            }
        }
    }
    let name_of = |function: usize| &profile.frames()[function];
    let mut heaviest: Vec<(usize, (u64, u64))> =
        sums.into_iter().filter(|(_, (own, _))| *own > 0).collect();
    heaviest.sort_by(|&(a, sum_a), &(b, sum_b)| {
        let by_name = || (&name_of(a).name, a).cmp(&(&name_of(b).name, b));
        sum_b.cmp(&sum_a).then_with(by_name)
    });
    heaviest.truncate(TOP);
    heaviest
        .into_iter()
        .map(|(function, (self_weight, total_weight))| {
            let frame = name_of(function);
            let classic = highlights.list().iter().find(|h| h.matches(frame)).map(|h| &h.classic);
            FunctionShare {
                name: frame.name.to_string(),
                known_as: classic.filter(|c| **c != *source_name(&frame.name)).cloned(),
                mode: frame.mode,
                self_weight,
                total_weight,
            }
        })
        .collect()
}

fn skid(run: &Run, shown: &[(usize, &MemberProfile)]) -> Vec<Absorber> {
    let Run { profile, roles, .. } = run;
    let mut absorbers: Vec<Absorber> = Vec::new();
    for (column, (_, member)) in shown.iter().enumerate() {
        for weight in &member.on_cpu {
            let Some(leaf) = roles.absorber(profile.stack(weight.stack)) else { continue };
            let name = &profile.frame(leaf).name;
            let at = absorbers.iter().position(|a| *a.function == **name).unwrap_or_else(|| {
                absorbers
                    .push(Absorber { function: name.to_string(), samples: vec![0; shown.len()] });
                absorbers.len() - 1
            });
            absorbers[at].samples[column] += weight.samples;
        }
    }
    absorbers.sort_by_key(|a| std::cmp::Reverse(a.samples.iter().sum::<u64>()));
    absorbers
}
