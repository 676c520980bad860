//! `pipeprof record`: profiles a pipeline and keeps the recording.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeprof_profiler::recording::{RecordingDir, SUFFIX};
use pipeprof_profiler::segments::Limits;
use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::summary::Summary;
use pipeprof_runner::size;

use crate::args::pair::PairArgs;
use crate::args::recording::with_suffix;
use crate::args::sampling::SamplingArgs;
use crate::args::scope::Scope;
use crate::args::target::{TargetArgs, WATCH, parse_duration};
use crate::capture::capture_into;
use crate::commands::answer::AnswerArgs;
use crate::interrupt::Interrupt;
use crate::output::{Output, quoted};
use crate::salvage::{Attempts, Taken};
use crate::ui::{Exit, Ui, as_usage, explained, hinted};

/// Record a pipeline for later analysis
///
/// Writes a folder NAME.pipeprof with a perf.data file, which perf opens too, and what perf.data
/// cannot hold: the members, the bytes through each pipe, and the names of all functions. It reads
/// the same on any machine. Every command that takes a RECORDING opens it.
#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Name of the folder; .pipeprof is added. With -, perf.data alone goes to stdout
    #[arg(short, long, value_name = "NAME", default_value = "recording", help_heading = "Output")]
    output: PathBuf,
    /// Keep only the last TIME of a long recording (up to a quarter more)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Output")]
    keep: Option<Duration>,
    /// Stop at this size; with --keep, drop the oldest records instead (up to 2 MiB per CPU more)
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Output")]
    max_size: Option<u64>,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pair: PairArgs,
}

pub(crate) fn run(args: &RecordArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let config = args.sampling.config()?;
    let limits = Limits { keep: args.keep, max_bytes: args.max_size };
    // Blocked time is always recorded, as it can't be added later.
    let mut config = CaptureConfig { switches: true, limits, ..config };
    // A limit is what a long watch is given: its pipeline ends it, Ctrl-C, or the limit.
    let watch = (limits == Limits::default()).then_some(WATCH);
    let mut target = args.target.target_for(&args.pair, watch)?;
    config.enough = args.target.enough(&args.pair, &mut target);
    let stdout = stdout(&args.output)?;
    let answer = args.answer.open(&stdout.iter().collect::<Vec<_>>())?;
    let dir = match stdout {
        Some(_) => RecordingDir::temporary(),
        None => RecordingDir::create(&folder(&args.output)),
    };
    let dir = dir.map_err(explained)?;
    let begun = Begun(dir.path().to_owned());
    let diverted = answer.divert()?;
    let mut captured =
        capture_into(dir, target, &config, Scope::default(), &Interrupt::install()?, ui)?;
    drop(diverted);
    let Taken { recording, symbols } = &mut captured.taken;
    let notes = recording.meta.notes.len();
    let completed = recording.complete(symbols);
    drop(begun);
    let (highlights, view) = (Highlights::article(), View::default());
    let summary = Summary::of(&captured.run, &highlights, view);
    let mut attempts = Attempts::default();
    attempts.note(completed.map_err(explained));
    let records = recording.perf_data();
    if let Some(stdout) = &stdout {
        let copy = |out: &mut dyn Write| io::copy(&mut File::open(&records)?, out);
        attempts.note(stdout.write(|out| Ok(copy(out).map(drop)?)));
    }
    let kept = !attempts.failed();
    attempts.note(answer.print(&summary, || Ok(String::new()), ui));
    let exit = captured.exit(ui);
    for note in &captured.run.profile.quality.notes {
        ui.warn(note);
    }
    let recording = &captured.taken.recording;
    for note in recording.meta.notes.iter().skip(notes) {
        ui.warn(note);
    }
    let samples = captured.run.profile.quality.samples;
    let name = stdout.as_ref().map_or(recording.path().display().to_string(), Output::to_string);
    let recorded = format!("wrote {name}: {samples} samples");
    let report = |kept: &str| format!("pipeprof report {kept}");
    if kept {
        ui.note(recorded);
    } else if stdout.is_none() {
        let again = report(&quoted(recording.path()));
        ui.remedy(recorded + ", an incomplete recording that still opens", Some(&again));
    }
    Ok(attempts.conclude(exit, &mut [&mut captured.taken], report, ui))
}

/// Standard output, where the records are to go there, as those of perf record can.
fn stdout(output: &Path) -> anyhow::Result<Option<Output>> {
    if output != Path::new("-") {
        return Ok(None);
    }
    if io::stdout().is_terminal() {
        let error = "perf.data is a binary format, and standard output is a terminal";
        return Err(as_usage(hinted(error, Some("-o NAME".to_owned()))));
    }
    Output::open(output).map(Some)
}

/// Removes the folder of a recording that failed before anything was recorded.
struct Begun(PathBuf);

impl Drop for Begun {
    fn drop(&mut self) {
        // Refuses where there is anything in it, and where it has got its name.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Where a recording of that name is to be.
fn folder(name: &Path) -> PathBuf {
    let has_suffix = name.extension().is_some_and(|extension| extension == SUFFIX);
    if has_suffix { name.to_owned() } else { with_suffix(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_the_suffix_once() {
        for (given, made) in [
            ("a", "a.pipeprof"),
            ("a.pipeprof", "a.pipeprof"),
            ("v1.2", "v1.2.pipeprof"),
            ("dir/a", "dir/a.pipeprof"),
        ] {
            assert_eq!(folder(Path::new(given)), Path::new(made));
        }
    }
}
