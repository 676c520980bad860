//! `pipeprof diff`: compares two pipelines by the cost of a GiB in each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, ArgMatches, Args, FromArgMatches};
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::diff::{self, Diff};
use pipeprof_report::run::Run;
use pipeprof_runner::command::Spec;
use pipeprof_runner::stage::Stage;

use crate::args::json::{Json, JsonArgs, written};
use crate::args::open::OpenArgs;
use crate::args::pair::{self as pair_args, PairArgs};
use crate::args::recording;
use crate::args::sampling::SamplingArgs;
use crate::args::scope::Scope;
use crate::args::target::{Target, parse_duration};
use crate::capture::{capture, reopen};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::salvage::{Attempts, Taken, again};
use crate::terminal;
use crate::ui::{Exit, Ui, explained, wrong_usage};

/// Compare two pipelines: which is faster, and why
///
/// Compares two recordings, two shell lines (-c 'A | B' -c 'C | D') or two stages (--stage vmsplice
/// --stage huge-page). Prints the time per GiB of each role and function, and draws a differential
/// flame graph: each member before and after on one scale, red for higher cost, blue for lower.
/// Lines and stages run several times in turn, to tell change from noise.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// Two recordings, before and after
    #[arg(value_names = ["A", "B"], num_args = 2, value_parser = recording::parser(),
          conflicts_with_all = ["stage", "line", "runs", "event", "freq", "call_graph"])]
    recordings: Vec<PathBuf>,
    /// Shell line to run; give this option twice
    #[arg(short = 'c', long = "command", value_name = "LINE", conflicts_with = "stage")]
    line: Vec<OsString>,
    /// Shell for --command
    #[arg(long, value_name = "SHELL", requires = "line")]
    shell: Option<OsString>,
    /// Stop each run of a shell line after this time: 10s, 500ms, 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "line")]
    duration: Option<Duration>,
    /// How often to run each
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    // Last, because its help heading would go on above what follows.
    #[command(flatten)]
    stages: Stages,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// File for the picture
    #[arg(short, long, value_name = "FILE", default_value = "pipeprof-diff.svg")]
    output: PathBuf,
    /// Draw every frame, without folding runs of user code into one row
    #[arg(long)]
    no_collapse: bool,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    open: OpenArgs,
}

/// The pair's flags, with `--stage` given more than once.
#[derive(Debug)]
struct Stages {
    stages: Vec<Stage>,
    pair: PairArgs,
}

impl FromArgMatches for Stages {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let stages = matches.get_many("stage").map(|all| all.copied().collect());
        let pair = PairArgs::from_arg_matches(matches)?;
        Ok(Stages { stages: stages.unwrap_or_default(), pair })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Stages {
    fn augment_args(command: clap::Command) -> clap::Command {
        PairArgs::augment_args(command).mut_arg("stage", |stage| {
            stage
                .action(ArgAction::Append)
                .help("Compare built-in stages (see pipeprof stages); give it twice")
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Where the comparison goes.
struct To {
    picture: Output,
    json: Json,
}

/// What to compare.
enum Sides {
    Recordings([PathBuf; 2]),
    Launched { names: [String; 2], runs: u32 },
}

pub(crate) fn run(args: &DiffArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let sides = sides(args)?;
    let picture = Output::open(&args.output.output)?;
    let json = args.output.json.open(&[&picture])?;
    let to = To { picture, json };
    match sides {
        Sides::Recordings([a, b]) => {
            let event = args.sampling.event.as_deref();
            let open = |path| reopen(path, event, Scope::default(), ui);
            let pair = (open(&a)?.run, open(&b)?.run);
            let names = [&a, &b].map(|path| name_of(path));
            let names = if names[0] == names[1] {
                [&a, &b].map(|path| path.display().to_string())
            } else {
                names
            };
            let attempts = report(&[pair], &names, &to, args, ui)?;
            Ok(attempts.conclude(Exit::Done, &mut [], again("diff"), ui))
        }
        Sides::Launched { names, runs } => {
            let mut config = args.sampling.config()?;
            // As in a flame graph: members that wait cost something to watch.
            config.switches = !args.line.is_empty();
            for side in 0..2 {
                target(args, side)?;
            }
            launched(&names, runs, &config, &to, args, ui)
        }
    }
}

fn sides(args: &DiffArgs) -> anyhow::Result<Sides> {
    let stages = &args.stages.stages;
    if stages.is_empty() && !args.stages.pair.is_empty() {
        return Err(wrong_usage(KNOBS_WITHOUT_STAGES));
    }
    let two = |names: Vec<String>, flag: &str| -> anyhow::Result<Sides> {
        let count = names.len();
        let names = names
            .try_into()
            .map_err(|_| wrong_usage(format_args!("{flag}: give it twice, not {count} times")))?;
        Ok(Sides::Launched { names, runs: args.runs })
    };
    match (&args.recordings[..], stages.is_empty(), args.line.is_empty()) {
        ([a, b], ..) => Ok(Sides::Recordings([a.clone(), b.clone()])),
        (_, false, _) => two(stages.iter().map(|s| s.as_str().to_owned()).collect(), "--stage"),
        (_, _, false) => {
            two(args.line.iter().map(|l| l.to_string_lossy().into_owned()).collect(), "-c")
        }
        _ => Err(wrong_usage(NOTHING_TO_COMPARE)),
    }
}

/// Where the pair's flags come with something else to compare.
const KNOBS_WITHOUT_STAGES: &str = "the options of the built-in pair (--bytes, --fill, …) need \
                                    --stage, given twice";

/// Where nothing was given to compare.
const NOTHING_TO_COMPARE: &str =
    "nothing to compare: give two recordings, -c twice, or --stage twice";

/// `before` for `some/where/before.pipeprof`.
fn name_of(path: &Path) -> String {
    let name = path.file_stem().unwrap_or(path.as_os_str());
    if name == "perf" { path.display().to_string() } else { name.to_string_lossy().into_owned() }
}

/// What to launch for one side.
fn target(args: &DiffArgs, side: usize) -> anyhow::Result<Target> {
    if let Some(line) = args.line.get(side) {
        return Ok(Target::Command {
            spec: Spec::shell(line, args.shell.as_deref()),
            title: line.to_string_lossy().into_owned(),
            duration: args.duration,
        });
    }
    let mut pair = args.stages.pair.clone();
    pair.common.stage = args.stages.stages.get(side).copied();
    Ok(Target::Pair(Box::new(pair.plan()?)))
}

fn launched(
    names: &[String; 2],
    runs: u32,
    config: &CaptureConfig,
    to: &To,
    args: &DiffArgs,
    ui: &Ui,
) -> anyhow::Result<Exit> {
    let interrupt = Interrupt::install()?;
    let diverted = to.json.divert()?;
    let mut pairs = Vec::new();
    // Of the last round; those of all would fill a disk.
    let mut taken = [None, None];
    let mut exit = Exit::Done;
    'runs: for round in 0..runs {
        let mut pair = [None, None];
        // A B, B A, A B: a machine that slows down or speeds up favours neither.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let target = target(args, side)?;
            let captured = capture(target, config, Scope::default(), &interrupt, ui)?;
            // Also where it ended by itself before it could be stopped.
            if interrupt.is_set() {
                exit = Exit::Interrupted;
                break 'runs;
            }
            for failure in &captured.failures {
                ui.error(&pair_args::complaint(failure));
                exit = Exit::Failed;
            }
            let rate = captured.run.bytes_per_second().map_or_else(String::new, |rate| {
                format!(": {:.2} GiB/s", rate / f64::from(1u32 << 30))
            });
            let letter = ['A', 'B'][side];
            ui.note(format_args!("run {} of {runs} of {letter}{rate}", round + 1));
            pair[side] = Some(captured.run);
            taken[side] = Some(captured.taken);
        }
        if let [Some(a), Some(b)] = pair {
            pairs.push((a, b));
        }
    }
    drop(diverted);
    if pairs.is_empty() {
        ui.note("stopped before both had run once: nothing to compare");
        return Ok(exit);
    }
    let attempts = report(&pairs, names, to, args, ui)?;
    let mut taken: Vec<&mut Taken> = taken.iter_mut().flatten().collect();
    Ok(attempts.conclude(exit, &mut taken, again("diff"), ui))
}

fn report(
    pairs: &[(Run, Run)],
    names: &[String; 2],
    to: &To,
    args: &DiffArgs,
    ui: &Ui,
) -> anyhow::Result<Attempts> {
    let runs: Vec<(&Run, &Run)> = pairs.iter().map(|(a, b)| (a, b)).collect();
    let diff = Diff::of(&runs, [&names[0], &names[1]]).map_err(explained)?;
    let json = || written(|out| diff.write_json(out));
    let text = || written(|out| diff::render_text(&diff, terminal::style(ui), out));
    let mut attempts = Attempts::default();
    attempts.note(to.json.write(json, text, ui));
    let drawn = to
        .picture
        .write(|out| diff::render_picture(&diff, args.output.no_collapse, out).map_err(explained));
    if attempts.note(drawn) {
        to.picture.note_written(ui);
        args.output.open.show(&to.picture, ui);
    }
    Ok(attempts)
}
