//! `pipeprof ladder`: runs every stage many times, and explains the differences.

mod checks;
mod commands;
mod files;
mod measured;
mod rounds;
mod runs;
mod schedule;
mod sweep;

use std::path::PathBuf;

use pipeprof_report::ladder::{Axis, Ending, Sweep, render, render_sweep};
use pipeprof_runner::cpus::Pin;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::size;
use pipeprof_runner::stage::Stage;

use self::files::{Files, Results};
use self::rounds::Rounds;
use self::runs::Candidate;
use crate::args::json::{Json, JsonArgs, written};
use crate::args::pair::{self as pair_args, parse_stage};
use crate::interrupt::Interrupt;
use crate::salvage::again;
use crate::terminal;
use crate::ui::{Exit, Ui, wrong_usage};

/// Rounds without a profiler.
const ROUNDS: u32 = 10;

/// Rounds of a sweep.
const SWEEP_ROUNDS: u32 = 3;

/// Benchmark all stages in shuffled rounds, and explain the differences
///
/// Runs every stage in each round, unprofiled for throughput and profiled for costs. Prints a
/// table, and for each stage what it spends its time on, what the next stage is meant to remove,
/// and whether it did on this machine. Writes ladder.svg, ladder.html, ladder.csv and ladder.json.
/// Ctrl-C keeps the results so far.
#[derive(Debug, clap::Args)]
pub(crate) struct LadderArgs {
    /// Stages to run [default: the article's five, tee and tee-large]
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',', value_parser = parse_stage)]
    stages: Vec<Stage>,
    /// Rounds; stops early when every median is known within ±2.5 % [default: 10; with --sweep: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Bytes per run [default: about a second's worth for each stage; with --sweep a quarter]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    bytes: Option<u64>,
    /// Also run this shell line in every round; repeat for several
    ///
    /// Its throughput is the one that it prints (12.7GiB/s, or the CSV row of the article's
    /// program), or else the bytes through its last pipe. It is stopped after two seconds. Pin it
    /// like the stages: 'taskset -c 0 ./write | taskset -c 1 ./read'.
    #[arg(long, value_name = "CMD")]
    against: Vec<String>,
    /// Measure one stage at every power of two of a size: buf-size=16K..4M or pipe-size=4K..1M; give
    /// both for a heat map
    #[arg(long, value_name = "SIZE=A..B", value_parser = sweep::parse,
          conflicts_with = "against")]
    sweep: Vec<sweep::Range>,
    /// CPUs of writer and reader: auto (two cores), none, or two numbers as in 0,1
    #[arg(long, value_name = "auto|none|W,R", default_value = "auto")]
    pin: Pin,
    /// Seed of the order of runs, to repeat an earlier one
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Base name of the files
    #[arg(short, long, value_name = "NAME", default_value = "ladder", help_heading = "Output")]
    output: PathBuf,
    #[command(flatten)]
    json: JsonArgs,
}

impl LadderArgs {
    fn stages(&self) -> Vec<Stage> {
        if self.stages.is_empty() { Stage::LADDER.to_vec() } else { self.stages.clone() }
    }

    fn plan(&self, stage: Stage) -> anyhow::Result<PairPlan> {
        let knobs = Knobs { bytes: self.bytes, pin: self.pin, ..Knobs::default() };
        PairPlan::new(stage, &knobs).map_err(pair_args::refused)
    }

    fn rounds(&self) -> u32 {
        self.runs.unwrap_or(if self.sweep.is_empty() { ROUNDS } else { SWEEP_ROUNDS })
    }

    fn seed(&self) -> u64 {
        // Short enough to be typed.
        self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000))
    }
}

pub(crate) fn run(args: &LadderArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let (candidates, axes) = candidates(args)?;
    let files = Files::open(&args.output, !axes.is_empty())?;
    let json = args.json.open(&[])?;
    let interrupt = Interrupt::install()?;
    let mut rounds = Rounds::new(args, candidates, axes, &interrupt, ui)?;
    rounds.run(&files);
    finish(rounds, &json, &files, ui)
}

/// What is measured, and in a sweep the sizes that vary.
fn candidates(args: &LadderArgs) -> anyhow::Result<(Vec<Candidate>, Vec<Axis>)> {
    let axes: Vec<Axis> = args.sweep.iter().map(sweep::Range::axis).collect();
    match &args.sweep[..] {
        [] => {
            let mut candidates = Vec::new();
            for stage in args.stages() {
                let plan = Box::new(args.plan(stage)?);
                candidates.push(Candidate::Stage { name: stage.to_string(), plan });
            }
            candidates.extend(args.against.iter().cloned().map(Candidate::command));
            Ok((candidates, axes))
        }
        [_, _, _, ..] => Err(wrong_usage("--sweep: at most two sizes")),
        [one, other] if one.clashes(other) => Err(wrong_usage("--sweep: the same size twice")),
        ranges => {
            let stage = match args.stages[..] {
                [] => Stage::Write,
                [stage] => stage,
                _ => return Err(wrong_usage("--sweep: give one stage with --stages")),
            };
            // An error without any size would be an error in every cell.
            args.plan(stage)?;
            Ok((sweep::candidates(stage, args.bytes, args.pin, ranges), axes))
        }
    }
}

fn finish(rounds: Rounds<'_>, json: &Json, files: &Files, ui: &Ui) -> anyhow::Result<Exit> {
    let Rounds { ladder, kept: seen, axes, .. } = rounds;
    let (ending, is_sweep) = (ladder.ending, !axes.is_empty());
    let refused = !is_sweep && ladder.entries.iter().any(|entry| entry.refused.is_some());
    let results = if is_sweep {
        let stages = ladder.entries.iter().filter_map(|entry| entry.plan.as_ref());
        let subject = stages.map(|plan| plan.stage.to_string()).next().unwrap_or_default();
        Results::Sweep(Sweep { subject, axes, ladder })
    } else {
        Results::Ladder { ladder, seen }
    };
    let numbers = || written(|out| results.write_json(out));
    let text = || {
        let style = terminal::style(ui);
        match &results {
            Results::Ladder { ladder, .. } => written(|out| render(ladder, style, out)),
            Results::Sweep(sweep) => written(|out| render_sweep(sweep, style, out)),
        }
    };
    // What is printed needs no room on a disk.
    let printed = json.write(numbers, text, ui);
    let mut attempts = files.finish(&results, ui);
    attempts.note(printed);
    let exit = match (ending, refused) {
        (Ending::Interrupted, _) => Exit::Interrupted,
        (_, true) => Exit::Failed,
        (_, false) => Exit::Done,
    };
    Ok(attempts.conclude(exit, &mut [], again("ladder"), ui))
}
