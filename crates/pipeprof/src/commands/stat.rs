//! `pipeprof stat`: counts events in each member, in total and per GiB piped.

use std::time::Duration;

use pipeprof_profiler::counters::{CounterSet, ExitUsage, MemberCounters, Target as Counted};
use pipeprof_profiler::environment::Environment;
use pipeprof_profiler::watcher::Came;
use pipeprof_report::counters::{CountedMember, CounterReport, write_json, write_text};
use pipeprof_report::payload::Payload;
use pipeprof_runner::ends::{Complaint, Usage};
use pipeprof_runner::pipeline::Member;

use crate::args::json::{JsonArgs, written};
use crate::args::pair::{self as pair_args, PairArgs};
use crate::args::target::{Target, TargetArgs};
use crate::capture::{self, standby};
use crate::interrupt::Interrupt;
use crate::progress::Watching;
use crate::terminal;
use crate::ui::{Exit, Ui, explained};

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
    let counts = count(target, &interrupt, ui)?;
    drop(diverted);
    let report = CounterReport {
        members: counts
            .members
            .iter()
            .map(|(label, bytes, counters)| CountedMember { label, bytes: *bytes, counters })
            .collect(),
        elapsed_ns: Some(counts.elapsed.as_nanos() as u64),
    };
    let text = || written(|out| write_text(&report, terminal::style(ui), out));
    to.write(|| written(|out| write_json(&report, out)), text, ui)?;
    for failure in &counts.failures {
        ui.error(&pair_args::complaint(failure));
    }
    Ok(match (interrupt.is_set(), counts.failures.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, false) => Exit::Failed,
        (false, true) => Exit::Done,
    })
}

fn count(target: Target, interrupt: &Interrupt, ui: &Ui) -> anyhow::Result<Counts> {
    let duration = target.duration();
    let is_pair = matches!(target, Target::Pair(_));
    let is_running = matches!(target, Target::Running { .. });
    let mut standby = standby(target, interrupt, ui)?;
    let pipeline = standby.found().pipeline.clone();
    let counted = |member: &Member| {
        if is_pair { Counted::alone(member.pid) } else { Counted::process(member.pid) }
    };
    let targets: Vec<Counted> = pipeline.members.iter().map(counted).collect();
    let title = standby.title().to_owned();
    let attached = CounterSet::attach(&targets, &Environment::read()).and_then(|mut counters| {
        counters.enable()?;
        Ok(counters)
    });
    let mut counters = attached.map_err(explained)?;
    if is_running {
        // A pair counts itself, and of a command the sum of all that it starts is counted.
        standby.count();
    }
    let mut bar = Watching::of(&standby, duration, ui);
    let mut watcher = standby.release().map_err(capture::refused)?;
    let ended = watcher.watch(duration, &mut [&mut bar]);
    bar.done();
    ended.map_err(capture::refused)?;
    // The ends of a pair have ended but are not reaped yet: their accounts are there, and final.
    counters.disable().map_err(explained)?;
    let seen = watcher.finish().map_err(capture::refused)?;
    if let Came::Command(command) = &seen.came
        && let Some(usage) = command.usage
        && let [root] = &pipeline.members[..]
    {
        counters.note_exit(root.pid, exit_usage(usage));
    }
    let failures = capture::failures(&seen.came);
    let payload = Payload::of(&seen.pipeline, &seen.flows).ok().map(|payload| payload.bytes);
    let of_member = |(member, counts): (&Member, MemberCounters)| match &seen.came {
        // One set of counters for the command and all that it starts.
        Came::Command(_) => (title.clone(), None, counts),
        Came::Pair(outcome) => (label(member), Some(outcome.bytes), counts),
        Came::Processes => (label(member), payload, counts),
    };
    let members = pipeline.members.iter().zip(counters.read()).map(of_member).collect();
    Ok(Counts { members, elapsed: seen.elapsed, failures })
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

fn label(member: &Member) -> String {
    match member.end {
        Some(end) => format!("{} {} ({})", end.as_str(), member.comm, member.pid),
        None => format!("{} ({})", member.comm, member.pid),
    }
}
