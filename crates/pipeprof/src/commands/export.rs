//! `pipeprof export`: a recording in the format of another viewer.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use pipeprof_profiler::analyse::{analyse_part, analyse_with_timeline};
use pipeprof_profiler::timeline::Timeline;
use pipeprof_report::export::{Source, csv, firefox, perf_script, pprof, speedscope};
use pipeprof_report::flamegraph::Time;
use pipeprof_report::folded;
use pipeprof_report::run::Run;

use crate::args::recording;
use crate::args::scope::PhaseArgs;
use crate::capture;
use crate::commands::flame::beside;
use crate::output::{Output, quoted};
use crate::ui::{Exit, Ui, as_usage, explained, hinted};

/// Convert a recording to the format of another viewer
///
/// See docs/export.md for what opens each format.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// A folder of pipeprof record, a perf.data file, or - for one on stdin
    #[arg(value_name = "RECORDING", value_parser = recording::parser())]
    recording: PathBuf,
    /// Format to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// Event to export, of a perf.data file with several
    #[arg(short, long, value_name = "NAME")]
    event: Option<String>,
    /// File to write; - is stdout [default: -]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Time to write, in folded, speedscope and csv [default: wall; cpu if nothing else was
    /// recorded]
    #[arg(long, value_enum, value_name = "WHAT")]
    time: Option<TimeArg>,
    #[command(flatten)]
    phase: PhaseArgs,
    /// Export only this member, by name or pid; repeat for several
    #[arg(long, value_name = "NAME|PID")]
    member: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line for each stack: flamegraph.pl, inferno-flamegraph, speedscope
    Folded,
    /// profile.proto, gzipped: go tool pprof, Pyroscope, Parca
    Pprof,
    /// JSON with a time line: profiler.firefox.com, samply load
    Firefox,
    /// JSON: www.speedscope.app
    Speedscope,
    /// Text as perf script prints it: stackcollapse-perf.pl, FlameScope
    PerfScript,
    /// A table with a row for each stack: spreadsheets, pandas, SQL
    Csv,
}

impl Format {
    /// Shows samples one by one.
    fn has_time_line(self) -> bool {
        matches!(self, Format::Firefox | Format::PerfScript)
    }

    /// Holds one kind of time, which the user can choose.
    fn has_one_time(self) -> bool {
        matches!(self, Format::Folded | Format::Speedscope | Format::Csv)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TimeArg {
    /// Time on a CPU
    Cpu,
    /// Blocked time, by call chain
    Blocked,
    /// Both
    Wall,
}

pub(crate) fn run(args: &ExportArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let to = args.output.as_deref().unwrap_or(Path::new("-"));
    check(args, to)?;
    let to = Output::open(to)?;
    let event = args.event.as_deref();
    let recording = capture::open(&args.recording, event)?;
    let of = args.phase.part(&recording)?;
    let part = of.map(|part| part.clock_ns);
    let mut symbolizer = recording.symbolizer();
    let (profile, timeline) = if args.format.has_time_line() {
        analyse_with_timeline(&recording, part, symbolizer.as_mut()).map_err(explained)?
    } else {
        let profile = analyse_part(&recording, part, symbolizer.as_mut(), &mut |_| {});
        (profile.map_err(explained)?, Timeline::default())
    };
    let recorded = if recording.meta.setup.switches { Time::Wall } else { Time::Cpu };
    let time = match args.time {
        None => recorded,
        Some(TimeArg::Cpu) => Time::Cpu,
        Some(TimeArg::Blocked | TimeArg::Wall) if !recording.meta.setup.switches => {
            let error = "the recording has no blocked time: it does not record when threads left \
                         and regained their CPUs";
            let hint =
                "leave --time out, or record with pipeprof record or perf record --switch-events";
            return Err(hinted(error, Some(hint.into())));
        }
        Some(TimeArg::Blocked) => Time::Blocked,
        Some(TimeArg::Wall) => Time::Wall,
    };
    let run = match of {
        Some(part) => Run::of_part(&recording, profile, part),
        None => Run::of(&recording, profile),
    };
    let members = run.members_called(&args.member);
    let members = members.map_err(|error| as_usage(explained(error)))?;
    let source = Source { run: &run, members };
    if run.profile.quality.samples == 0 {
        ui.warn("the recording has no samples");
    }
    if run.profile.quality.cut_short {
        ui.warn("the recording is incomplete; its complete records are exported");
    }
    let write = |out: &mut dyn Write| write(&source, args.format, time, &timeline, out);
    to.write(write)?;
    to.note_written(ui);
    Ok(Exit::Done)
}

/// Refuses what is wrong with the arguments before anything is read.
fn check(args: &ExportArgs, to: &Path) -> anyhow::Result<()> {
    if args.time.is_some() && !args.format.has_one_time() {
        let why = match args.format {
            Format::PerfScript => "--time: perf-script holds only samples on a CPU",
            _ => "--time: this format always has time on CPU and blocked time",
        };
        return Err(as_usage(hinted(why, Some("leave --time out".into()))));
    }
    if args.format == Format::Pprof && to == Path::new("-") && std::io::stdout().is_terminal() {
        let name = beside(&args.recording, "pb.gz");
        return Err(as_usage(hinted(
            "pprof is a binary format, and standard output is a terminal",
            Some(format!("-o {}", quoted(&name))),
        )));
    }
    Ok(())
}

fn write(
    source: &Source<'_>,
    format: Format,
    time: Time,
    timeline: &Timeline,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match format {
        Format::Folded => {
            let members = source.members().map(|(_, member)| member);
            folded::render_members(&source.run.profile, members, time, out)?;
        }
        Format::Pprof => pprof::render(source, out)?,
        Format::Firefox => firefox::render(source, timeline, out)?,
        Format::Speedscope => speedscope::render(source, time, out)?,
        Format::PerfScript => perf_script::render(source, timeline, out)?,
        Format::Csv => csv::render(source, time, out)?,
    }
    Ok(())
}
