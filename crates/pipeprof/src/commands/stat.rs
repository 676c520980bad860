//! `pipeprof stat`: count events at each end, in all and for each GiB piped.

use std::time::{Duration, Instant};

use pipeprof_profiler::counters::{
    CounterError, CounterSet, ExitUsage, MemberCounters, Target as Counted,
};
use pipeprof_profiler::environment::Environment;
use pipeprof_profiler::meter::{Meter, PipeFlow};
use pipeprof_report::counters::{CountedMember, CounterReport, write_json, write_text};
use pipeprof_runner::command;
use pipeprof_runner::discover::{Extent, discover};
use pipeprof_runner::ends::{Complaint, Usage};
use pipeprof_runner::pair::launch;
use pipeprof_runner::pipeline::{End, Member, MemberId, Pipeline};
use pipeprof_runner::plan::PairPlan;

use crate::args::json::JsonArgs;
use crate::args::pair::{self as pair_args, PairArgs};
use crate::args::target::{Target, TargetArgs};
use crate::interrupt::Interrupt;
use crate::progress::Watching;
use crate::ui::{Exit, Ui, hinted};

/// Count events in every process of a pipeline
///
/// Counts without sampling: cycles, instructions and misses of caches, TLB and branch prediction
/// where there is a PMU; CPU time, context switches, migrations and page faults everywhere. Counts
/// that shared a hardware counter are marked as estimates.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    pair: PairArgs,
}

/// The counts of a run.
struct Counts {
    /// Label, bytes and counters of each member.
    members: Vec<(String, Option<u64>, MemberCounters)>,
    elapsed: Duration,
    failures: Vec<Complaint>,
}

pub(crate) fn run(args: &StatArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let target = args.target.target(&args.pair)?;
    let to = args.json.open(&[])?;
    let diverted = to.divert()?;
    let interrupt = Interrupt::install()?;
    let counts = match target {
        Target::Pair(plan) => pair(&plan, &interrupt, ui),
        Target::Command { spec, title, duration } => {
            launched(spec, title, duration, &interrupt, ui)
        }
        Target::Running { pids, extent, duration } => {
            running(&pids, extent, duration, &interrupt, ui)
        }
    }?;
    drop(diverted);
    let report = CounterReport {
        members: counts
            .members
            .iter()
            .map(|(label, bytes, counters)| CountedMember { label, bytes: *bytes, counters })
            .collect(),
        elapsed_ns: Some(counts.elapsed.as_nanos() as u64),
    };
    let json = || {
        let mut out = Vec::new();
        write_json(&report, &mut out)?;
        Ok(String::from_utf8(out)?)
    };
    let text = || {
        let mut out = Vec::new();
        write_text(&report, &mut out)?;
        Ok(String::from_utf8(out)?)
    };
    to.write(json, text, ui)?;
    for failure in &counts.failures {
        ui.error(&pair_args::complaint(failure));
    }
    Ok(match (interrupt.is_set(), counts.failures.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, false) => Exit::Failed,
        (false, true) => Exit::Done,
    })
}

fn attach(targets: &[Counted]) -> anyhow::Result<CounterSet> {
    let attached = CounterSet::attach(targets, &Environment::read()).and_then(|mut counters| {
        counters.enable()?;
        Ok(counters)
    });
    attached.map_err(|error| refused(&error))
}

fn refused(error: &CounterError) -> anyhow::Error {
    hinted(error, error.hint())
}

fn pair(plan: &PairPlan, interrupt: &Interrupt, ui: &Ui) -> anyhow::Result<Counts> {
    let failed = |error: pipeprof_runner::error::Error| hinted(&error, error.hint());
    let prepared = launch(plan, &pair_args::reexec()).map_err(failed)?;
    for note in prepared.notes() {
        ui.warn(note);
    }
    let pipeline = prepared.pipeline().clone();
    let targets: Vec<Counted> = pipeline.members.iter().map(|m| Counted::alone(m.pid)).collect();
    let mut counters = attach(&targets)?;
    let mut running = prepared.release();
    crate::progress::watch(&mut running, plan, interrupt, ui).map_err(failed)?;
    // Both have ended and neither is reaped: their accounts are still there, and final.
    counters.disable().map_err(|error| refused(&error))?;
    let outcome = running.wait().map_err(failed)?;
    let labels = pipeline.members.iter().map(label);
    let members = labels.zip(counters.read()).map(|(l, c)| (l, Some(outcome.bytes), c)).collect();
    Ok(Counts { members, elapsed: outcome.elapsed, failures: outcome.failures() })
}

fn launched(
    spec: command::Spec,
    title: String,
    duration: Option<Duration>,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Counts> {
    let failed = |error: command::CommandError| hinted(&error, error.hint());
    let prepared = spec.prepare().map_err(failed)?;
    let root = prepared.pid();
    let mut counters = attach(&[Counted::process(root)])?;
    let started = Instant::now();
    let mut running = prepared.release().map_err(failed)?;
    let mut watching = Watching::beside(&[root], duration, ui);
    let status = loop {
        if let Some(status) = running.try_wait().map_err(failed)? {
            break Some(status);
        }
        if interrupt.is_set() || duration.is_some_and(|most| started.elapsed() >= most) {
            break None;
        }
        watching.elapsed(started.elapsed());
        std::thread::sleep(TICK);
    };
    watching.done();
    let elapsed = started.elapsed();
    counters.disable().map_err(|error| refused(&error))?;
    if status.is_none() || interrupt.is_set() {
        running.end(interrupt.ending());
    } else if let Some(usage) = running.usage() {
        counters.note_exit(root, exit_usage(usage));
    }
    let failures = match status {
        Some(status) if !status.success() => {
            vec![Complaint { message: format!("the command ended with {status}"), hint: None }]
        }
        _ => Vec::new(),
    };
    let members = counters.read().into_iter().map(|counts| (title.clone(), None, counts)).collect();
    Ok(Counts { members, elapsed, failures })
}

/// What the command and all that it waited for used.
fn exit_usage(usage: Usage) -> ExitUsage {
    ExitUsage {
        cpu_ns: usage.cpu_ns(),
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
        minor_faults: usage.minor_faults,
        major_faults: usage.major_faults,
    }
}

fn running(
    pids: &[i32],
    extent: Extent,
    duration: Option<Duration>,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<Counts> {
    let found = discover(pids, extent).map_err(|error| hinted(&error, error.hint()))?;
    let pipeline = found.pipeline.clone();
    let targets: Vec<Counted> =
        pipeline.members.iter().map(|member| Counted::process(member.pid)).collect();
    let mut counters = attach(&targets)?;
    let meter = Meter::start(found, false).map_err(|error| hinted(&error, error.hint()))?;
    let started = Instant::now();
    let left = || duration.unwrap_or(Duration::MAX).saturating_sub(started.elapsed());
    let mut watching = Watching::beside(pids, duration, ui);
    while !left().is_zero() && !interrupt.is_set() {
        watching.elapsed(started.elapsed());
        std::thread::sleep(TICK.min(left()));
    }
    watching.done();
    counters.disable().map_err(|error| refused(&error))?;
    let elapsed = started.elapsed();
    let flows = meter.finish().map_err(|error| hinted(&error, error.hint()))?;
    let members = pipeline
        .members
        .iter()
        .zip(counters.read())
        .map(|(member, counts)| (label(member), bytes_of(member.id(), &pipeline, &flows), counts))
        .collect();
    Ok(Counts { members, elapsed, failures: Vec::new() })
}

/// What a member wrote into its pipes, or, where it writes to none, read from them.
fn bytes_of(member: MemberId, pipeline: &Pipeline, flows: &[PipeFlow]) -> Option<u64> {
    let sum = |end: End| -> Option<u64> {
        let mine = pipeline.pipes.iter().filter(|pipe| pipe.at(end).contains(&member));
        let bytes = mine.map(|pipe| {
            flows.iter().find(|flow| flow.is_of(pipe)).and_then(|flow| flow.bytes.known())
        });
        let bytes: Vec<Option<u64>> = bytes.collect();
        (!bytes.is_empty()).then(|| bytes.into_iter().sum::<Option<u64>>()).flatten()
    };
    sum(End::Writer).or_else(|| sum(End::Reader))
}

fn label(member: &Member) -> String {
    match member.end {
        Some(end) => format!("{} {} ({})", end.as_str(), member.comm, member.pid),
        None => format!("{} ({})", member.comm, member.pid),
    }
}

const TICK: Duration = Duration::from_millis(100);
