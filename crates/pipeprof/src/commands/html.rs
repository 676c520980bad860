//! `pipeprof html`: everything about a run as one page for a browser.

use std::path::PathBuf;

use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html::render;
use pipeprof_report::summary::Summary;

use crate::args::sampling::SamplingArgs;
use crate::args::target::TargetArgs;
use crate::capture::{Captured, capture, reopen};
use crate::commands::answer::{Answer, AnswerArgs};
use crate::commands::flame::{beside, default_path};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::salvage::{Attempts, again};
use crate::ui::{Exit, Ui, hinted};

/// Make a page for a browser of a recording, a pipe pair or a pipeline
///
/// One file with the verdict, the pipeline as a picture, throughput and fill over time, what each
/// member spent its life on, and flame graphs of the time on a CPU and asleep. It needs no network,
/// so that it can be mailed, and opened from a disk.
#[derive(Debug, clap::Args)]
pub(crate) struct HtmlArgs {
    /// Show what was recorded before: a folder of pipeprof record, or a perf.data file
    #[arg(value_name = "RECORDING",
          conflicts_with_all = ["stage", "line", "pid", "program", "duration"])]
    recording: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Where to write the page [default: pipeprof-STAGE.html, or the recording's name]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    #[command(flatten)]
    answer: AnswerArgs,
}

pub(crate) fn run(args: &HtmlArgs, ui: &Ui) -> anyhow::Result<Exit> {
    if let Some(path) = &args.recording {
        args.target.refuse_knobs()?;
        let page = Output::open(&args.output.clone().unwrap_or_else(|| beside(path, "html")))?;
        let answer = args.answer.open(&[&page])?;
        return write(reopen(path, args.sampling.event.as_deref(), ui)?, &page, &answer, ui);
    }
    let config = args.sampling.config(args.target.attaches())?;
    let config = CaptureConfig { switches: true, ..config };
    let target = args.target.target()?;
    let page = args.output.clone().unwrap_or_else(|| default_path(&target, "html"));
    let page = Output::open(&page)?;
    let answer = args.answer.open(&[&page])?;
    let diverted = answer.divert()?;
    let captured = capture(target, &config, &Interrupt::install()?, ui)?;
    drop(diverted);
    write(captured, &page, &answer, ui)
}

fn write(mut captured: Captured, page: &Output, answer: &Answer, ui: &Ui) -> anyhow::Result<Exit> {
    let mut attempts = Attempts::default();
    let highlights = Highlights::article();
    let refused = |error: pipeprof_report::error::Error| hinted(&error, error.hint());
    let written =
        attempts.note(page.write(|out| render(&captured.run, &highlights, out).map_err(refused)));
    let summary = Summary::of(&captured.run, &highlights, View::default());
    let nothing = || Ok(String::new());
    attempts.note(answer.print(&summary, nothing, ui));
    let exit = captured.exit(ui);
    if captured.run.profile.quality.samples == 0 {
        ui.warn("no sample was taken");
    }
    if written {
        page.note_written(ui);
    }
    Ok(attempts.conclude(exit, &mut [&mut captured.taken], again("html"), ui))
}
