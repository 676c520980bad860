//! `pipeprof flame`: profile a pipeline and draw it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pipeprof_profiler::recording::STDIN;
use pipeprof_report::flamegraph::{self, Time, View};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::summary::Summary;
use pipeprof_report::{folded, tree};
use pipeprof_runner::pipeline::End;

use crate::args::open::OpenArgs;
use crate::args::pair::PairArgs;
use crate::args::recording;
use crate::args::sampling::SamplingArgs;
use crate::args::scope::Scope;
use crate::args::target::{Target, TargetArgs, refuse_knobs};
use crate::capture::{Captured, capture, reopen};
use crate::commands::answer::{Answer, AnswerArgs};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::salvage::{Attempts, again};
use crate::ui::{Exit, Ui, as_usage, explained, wrong_usage};

/// Profile a pipeline and draw a flame graph
///
/// Runs a pipeline, attaches to one that is running, or runs a built-in pair; samples every process
/// in it; draws an SVG with a tower for each process, coloured by role; and prints what limits the
/// pipeline and why.
#[derive(Debug, clap::Args)]
pub(crate) struct FlameArgs {
    /// Draw a recording: a folder of pipeprof record, a perf.data file, or - for one on stdin
    #[arg(value_name = "RECORDING", value_parser = recording::parser(),
          conflicts_with_all = ["stage", "line", "pid", "name", "program", "duration", "freq", "call_graph", "only_pids", "shell"])]
    recording: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pair: PairArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// File for the picture; - is stdout [default: pipeprof-NAME.svg]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the widths show [default: wall; with --stage: cpu]
    #[arg(long, value_enum, value_name = "WHAT")]
    time: Option<TimeArg>,
    /// Show widths as time per GiB of the pipeline's input
    #[arg(long)]
    per_byte: bool,
    /// Draw every frame, without folding runs of user code into one row
    #[arg(long)]
    no_collapse: bool,
    /// Show only one end of the built-in pair
    #[arg(long, value_enum, value_name = "END", conflicts_with_all = ["line", "pid", "program"])]
    end: Option<EndArg>,
    /// Highlight a function, by name or regular expression; repeat for several
    #[arg(long, value_name = "NAME|REGEX")]
    highlight: Vec<String>,
    /// Also write folded stacks, for inferno-flamegraph and speedscope
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
    /// Also print the call tree of a function, as perf report -g does
    #[arg(long, value_name = "FUNC", conflicts_with = "json")]
    tree: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    open: OpenArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TimeArg {
    /// Time on a CPU
    Cpu,
    /// Blocked time, by call chain
    Blocked,
    /// On CPU, blocked and runnable time of each member
    Wall,
}

impl From<TimeArg> for Time {
    fn from(time: TimeArg) -> Time {
        match time {
            TimeArg::Cpu => Time::Cpu,
            TimeArg::Blocked => Time::Blocked,
            TimeArg::Wall => Time::Wall,
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EndArg {
    Writer,
    Reader,
}

impl From<EndArg> for End {
    fn from(end: EndArg) -> End {
        match end {
            EndArg::Writer => End::Writer,
            EndArg::Reader => End::Reader,
        }
    }
}

pub(crate) fn run(args: &FlameArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let output = &args.output;
    // Errors in the arguments are reported before anything is launched.
    let mut highlights = Highlights::article();
    for highlight in &output.highlight {
        highlights.add(highlight).map_err(|error| as_usage(explained(error)))?;
    }
    if let Some(path) = &args.recording {
        refuse_knobs(&args.pair)?;
        let files = output.open(|| beside(path, "svg"))?;
        let captured = reopen(path, args.sampling.event.as_deref(), output.scope.clone(), ui)?;
        let is_pair = captured.run.pipeline.members.iter().any(|member| member.end.is_some());
        refuse_end(output, is_pair)?;
        let recorded =
            if captured.taken.recording.meta.setup.switches { Time::Wall } else { Time::Cpu };
        let time = output.time.map_or(recorded, Time::from);
        let view = view(output, time);
        return Drawing { captured, highlights, view }.write(&files, output, ui);
    }
    let mut config = args.sampling.config()?;
    let mut target = args.target.target(&args.pair)?;
    refuse_end(output, matches!(target, Target::Pair(_)))?;
    config.enough = args.target.enough(&args.pair, &mut target);
    let time = output.time.map_or_else(|| default_time(&target), Time::from);
    // Members that wait cost something to watch; the classic picture shows only the CPU.
    config.switches = time != Time::Cpu || !matches!(target, Target::Pair(_));
    let files = output.open(|| default_path(&target, "svg"))?;
    let diverted = files.answer.divert()?;
    let interrupt = Interrupt::install()?;
    let captured = capture(target, &config, output.scope.clone(), &interrupt, ui)?;
    drop(diverted);
    let view = view(output, time);
    Drawing { captured, highlights, view }.write(&files, output, ui)
}

/// Only the built-in pair has a writer and a reader end.
fn refuse_end(output: &OutputArgs, is_pair: bool) -> anyhow::Result<()> {
    match output.end {
        Some(_) if !is_pair => Err(wrong_usage(
            "--end: only the built-in pair has a writer and a \
            reader",
        )),
        _ => Ok(()),
    }
}

/// Where all of it goes.
struct Files {
    picture: Output,
    folded: Option<Output>,
    answer: Answer,
}

impl OutputArgs {
    fn open(&self, default: impl FnOnce() -> PathBuf) -> anyhow::Result<Files> {
        let picture = Output::open(&self.output.clone().unwrap_or_else(default))?;
        let folded = self.folded.as_deref().map(Output::open).transpose()?;
        if let Some(folded) = &folded {
            picture.must_differ(folded, ["-o", "--folded"])?;
        }
        let others: Vec<&Output> = std::iter::once(&picture).chain(&folded).collect();
        let answer = self.answer.open(&others)?;
        Ok(Files { picture, folded, answer })
    }
}

fn view(output: &OutputArgs, time: Time) -> View {
    let OutputArgs { per_byte, no_collapse, .. } = *output;
    View { end: output.end.map(End::from), time, per_byte, unfolded: no_collapse }
}

fn default_time(target: &Target) -> Time {
    match target {
        Target::Pair(_) => Time::Cpu,
        Target::Command { .. } | Target::Running { .. } => Time::Wall,
    }
}

/// `pipeprof-vmsplice.svg`, in the current folder.
pub(crate) fn default_path(target: &Target, extension: &str) -> PathBuf {
    let name = match target {
        Target::Pair(plan) => plan.stage.to_string(),
        Target::Command { .. } => "command".to_owned(),
        Target::Running { pids, .. } => {
            pids.iter().map(i32::to_string).collect::<Vec<_>>().join("-")
        }
    };
    PathBuf::from(format!("pipeprof-{name}.{extension}"))
}

/// The name of a recording, in the current folder.
pub(crate) fn beside(recording: &Path, extension: &str) -> PathBuf {
    if recording == Path::new("-") {
        return Path::new(STDIN).with_extension(extension);
    }
    let name = recording.canonicalize().unwrap_or_else(|_| recording.to_owned());
    PathBuf::from(name.file_stem().unwrap_or(name.as_os_str())).with_extension(extension)
}

struct Drawing {
    captured: Captured,
    highlights: Highlights,
    view: View,
}

impl Drawing {
    fn write(mut self, files: &Files, output: &OutputArgs, ui: &Ui) -> anyhow::Result<Exit> {
        let Drawing { captured, highlights, view } = &self;
        let summary = Summary::of(&captured.run, highlights, *view);
        let headline = summary.verdict.as_ref().map(|verdict| &*verdict.headline);
        let mut attempts = Attempts::default();
        // If the kernel refuses every event, there is still an answer, but no call chain.
        let sampled = captured.run.profile.quality.has_event();
        let drawn = sampled
            && attempts.note(files.picture.write(|out| {
                flamegraph::render(&captured.run, highlights, *view, headline, out)
                    .map_err(explained)
            }));
        let folded = files.folded.as_ref().filter(|_| sampled).filter(|file| {
            let render = |out: &mut dyn Write| folded::render(&captured.run, *view, out);
            attempts.note(file.write(|out| render(out).map_err(explained)))
        });
        let trees = || self.trees(output, ui);
        attempts.note(files.answer.print(&summary, trees, ui));
        let exit = captured.exit(ui);
        if !sampled {
            // The first note of such a recording says what refused the events, and what helps.
            let notes = &captured.run.profile.quality.notes;
            let why = notes.first().map_or("the kernel refused every event", |note| &**note);
            ui.warn(format_args!("no picture: {why}"));
        }
        let written = [drawn.then_some(&files.picture), folded];
        written.into_iter().flatten().for_each(|file| file.note_written(ui));
        if drawn {
            output.open.show(&files.picture, ui);
        }
        Ok(attempts.conclude(exit, &mut [&mut self.captured.taken], again("flame"), ui))
    }

    /// The call trees that were asked for.
    fn trees(&self, output: &OutputArgs, ui: &Ui) -> anyhow::Result<String> {
        let Drawing { captured, highlights, view } = self;
        let mut out = Vec::new();
        for function in &output.tree {
            out.push(b'\n');
            let limits = tree::Limits::default();
            match tree::render(&captured.run, highlights, function, limits, *view, &mut out) {
                Ok(()) => {}
                Err(error) => ui.warn_of(&explained(error)),
            }
        }
        String::from_utf8(out).context("the call tree is not UTF-8")
    }
}
