//! `pipeprof html`: everything about a run as one page for a browser.

use std::path::PathBuf;

use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html::render;
use pipeprof_report::summary::Summary;
use pipeprof_report::text::{self, Style};

use crate::capture::{Captured, capture, reopen};
use crate::commands::flame::{beside, default_path};
use crate::commands::ls::has_utf8_locale;
use crate::interrupt::Interrupt;
use crate::output::{Output, write_stdout};
use crate::salvage::{Attempts, again};
use crate::sampling_args::SamplingArgs;
use crate::target_args::TargetArgs;
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
          conflicts_with_all = ["stage", "line", "pid", "program", "duration", "event"])]
    recording: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Where to write the page [default: pipeprof-STAGE.html, or the recording's name]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &HtmlArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let config = args.sampling.config(args.target.attaches())?;
    let config = CaptureConfig { switches: true, ..config };
    if let Some(path) = &args.recording {
        args.target.refuse_knobs()?;
        let page = Output::open(&args.output.clone().unwrap_or_else(|| beside(path, "html")))?;
        return write(reopen(path, ui)?, &page, ui);
    }
    let target = args.target.target()?;
    let page = args.output.clone().unwrap_or_else(|| default_path(&target, "html"));
    let page = Output::open(&page)?;
    write(capture(target, &config, &Interrupt::install()?, ui)?, &page, ui)
}

fn write(mut captured: Captured, page: &Output, ui: &Ui) -> anyhow::Result<Exit> {
    let mut attempts = Attempts::default();
    let highlights = Highlights::article();
    let refused = |error: pipeprof_report::error::Error| hinted(&error, error.hint());
    let written =
        attempts.note(page.write(|out| render(&captured.run, &highlights, out).map_err(refused)));
    let exit = captured.exit(ui);
    if captured.run.profile.quality.samples == 0 {
        ui.warn("no sample was taken");
    }
    if written {
        page.note_written(ui);
    } else {
        // Without a page it is all that there is to see.
        let summary = Summary::of(&captured.run, &highlights, View::default());
        let style = Style { colour: ui.colours_stdout(), ascii: !has_utf8_locale() };
        let mut out = Vec::new();
        text::render(&summary, style, &mut out).map_err(refused)?;
        attempts.note(write_stdout(&String::from_utf8_lossy(&out)));
    }
    Ok(attempts.conclude(exit, &mut [&mut captured.taken], again("html"), ui))
}
