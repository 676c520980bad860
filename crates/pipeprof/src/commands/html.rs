//! `pipeprof html`: writes everything about a run as one page for a browser.

use std::path::PathBuf;

use pipeprof_profiler::session::CaptureConfig;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html::render;
use pipeprof_report::summary::Summary;

use crate::args::open::OpenArgs;
use crate::args::pair::PairArgs;
use crate::args::recording;
use crate::args::sampling::SamplingArgs;
use crate::args::scope::Scope;
use crate::args::target::{TargetArgs, refuse_knobs};
use crate::capture::{Captured, capture, reopen};
use crate::commands::answer::{Answer, AnswerArgs};
use crate::commands::flame::{beside, default_path};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::salvage::{Attempts, again};
use crate::ui::{Exit, Ui, explained};

/// Profile a pipeline and write a report for a browser
///
/// One HTML file with the verdict, the pipeline as a picture, throughput and fill over time, what
/// each member spent its time on, and flame graphs on CPU and blocked. It needs no network.
#[derive(Debug, clap::Args)]
pub(crate) struct HtmlArgs {
    /// Show a recording: a folder of pipeprof record, a perf.data file, or - for one on stdin
    #[arg(value_name = "RECORDING", value_parser = recording::parser(),
          conflicts_with_all = ["stage", "line", "pid", "name", "program", "duration", "freq", "call_graph", "only_pids", "shell"])]
    recording: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    /// File for the page; - is stdout [default: pipeprof-NAME.html]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pair: PairArgs,
}

pub(crate) fn run(args: &HtmlArgs, ui: &Ui) -> anyhow::Result<Exit> {
    if let Some(path) = &args.recording {
        refuse_knobs(&args.pair)?;
        let page = Output::open(&args.output.clone().unwrap_or_else(|| beside(path, "html")))?;
        let answer = args.answer.open(&[&page])?;
        let event = args.sampling.event.as_deref();
        let captured = reopen(path, event, args.scope.clone(), ui)?;
        return write(captured, &page, &answer, args, ui);
    }
    let config = args.sampling.config()?;
    let mut config = CaptureConfig { switches: true, ..config };
    let mut target = args.target.target(&args.pair)?;
    config.enough = args.target.enough(&args.pair, &mut target);
    let page = args.output.clone().unwrap_or_else(|| default_path(&target, "html"));
    let page = Output::open(&page)?;
    let answer = args.answer.open(&[&page])?;
    let diverted = answer.divert()?;
    let interrupt = Interrupt::install()?;
    let captured = capture(target, &config, args.scope.clone(), &interrupt, ui)?;
    drop(diverted);
    write(captured, &page, &answer, args, ui)
}

fn write(
    mut captured: Captured,
    page: &Output,
    answer: &Answer,
    args: &HtmlArgs,
    ui: &Ui,
) -> anyhow::Result<Exit> {
    let mut attempts = Attempts::default();
    let highlights = Highlights::article();
    let written =
        attempts.note(page.write(|out| render(&captured.run, &highlights, out).map_err(explained)));
    let summary = Summary::of(&captured.run, &highlights, View::default());
    let nothing = || Ok(String::new());
    attempts.note(answer.print(&summary, nothing, ui));
    let exit = captured.exit(ui);
    if captured.run.profile.quality.samples == 0 {
        ui.warn("no sample was taken");
    }
    if written {
        page.note_written(ui);
        args.open.show(page, ui);
    }
    Ok(attempts.conclude(exit, &mut [&mut captured.taken], again("html"), ui))
}
