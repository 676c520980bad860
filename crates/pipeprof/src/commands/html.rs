//! `pipeprof html`: everything about a run as one page for a browser.

use std::path::PathBuf;

use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html::render;

use crate::capture::{Captured, capture, reopen};
use crate::commands::flame::{beside, default_path};
use crate::interrupt::Interrupt;
use crate::output::{check_writable, write_file};
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
        let page = args.output.clone().unwrap_or_else(|| beside(path, "html"));
        check_writable(&page)?;
        return write(&reopen(path, ui)?, page, ui);
    }
    let target = args.target.target()?;
    let page = args.output.clone().unwrap_or_else(|| default_path(&target, "html"));
    check_writable(&page)?;
    write(&capture(target, &config, &Interrupt::install()?, ui)?, page, ui)
}

fn write(captured: &Captured, page: PathBuf, ui: &Ui) -> anyhow::Result<Exit> {
    let written = write_file(&page, |out| {
        render(&captured.run, &Highlights::article(), out)
            .map_err(|error| hinted(&error, error.hint()))
    });
    let exit = captured.exit(ui);
    written?;
    if captured.run.profile.quality.samples == 0 {
        ui.warn("no sample was taken");
    }
    ui.note(format_args!("wrote {}", page.display()));
    Ok(exit)
}
