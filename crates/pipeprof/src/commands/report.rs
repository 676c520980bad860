//! `pipeprof report`: read a recording in the terminal.

use std::path::PathBuf;

use anyhow::Context;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::roles::Classification;
use pipeprof_report::summary::Summary;
use pipeprof_report::text::{self, Style};
use pipeprof_report::tree;

use crate::capture::{Captured, reopen};
use crate::commands::ls::has_utf8_locale;
use crate::output::write_stdout;
use crate::ui::{Exit, Ui, hinted};

/// Sum up a recording: where each member spent its time
///
/// Takes a folder of pipeprof record, or a perf.data file of perf record.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// What to read
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Print the call tree under a function, as perf report -g does
    #[arg(long, value_name = "FUNC")]
    tree: Vec<String>,
    /// Print the summary as JSON
    #[arg(long, conflicts_with = "tree")]
    json: bool,
}

pub(crate) fn run(args: &ReportArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let captured = reopen(&args.recording, ui)?;
    if captured.profile.quality.samples == 0 {
        ui.warn("the recording holds no sample");
    }
    write_stdout(&page(&captured, args, ui)?)?;
    Ok(Exit::Done)
}

fn page(captured: &Captured, args: &ReportArgs, ui: &Ui) -> anyhow::Result<String> {
    let profile = &captured.profile;
    let (highlights, view) = (Highlights::article(), View::default());
    let refused = |error: pipeprof_report::error::Error| hinted(&error, error.hint());
    let mut out = Vec::new();
    if args.tree.is_empty() {
        let roles = Classification::of(profile);
        let summary = Summary::build(
            profile,
            &roles,
            &highlights,
            &captured.caption(),
            view,
            Some(&captured.watched()),
        );
        if args.json {
            summary.write_json(&mut out).map_err(refused)?;
        } else {
            let style = Style { colour: ui.colours_stdout(), ascii: !has_utf8_locale() };
            text::render(&summary, style, &mut out).map_err(refused)?;
        }
    }
    for (index, function) in args.tree.iter().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        let limits = tree::Limits::default();
        tree::render(profile, &highlights, function, limits, view, &mut out).map_err(refused)?;
    }
    String::from_utf8(out).context("the summary is not UTF-8")
}
