//! `--phase` and `--all-members`: how much of a recording is shown.

use clap::Args;
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::recording::Recording;
use pipeprof_report::part::Part;
use pipeprof_report::run::Run;

use crate::ui::{as_usage, explained};

// How much of a recording.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Scope {
    #[command(flatten)]
    phase: PhaseArgs,
    /// Also show members that only start others and move no data: wrapper scripts, subshells
    #[arg(long, help_heading = "Output")]
    all_members: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PhaseArgs {
    /// Show only this phase of the run, by its number
    #[arg(long, value_name = "N", help_heading = "Output")]
    phase: Option<usize>,
}

impl PhaseArgs {
    /// The phase that the user asked for.
    ///
    /// # Errors
    /// Where no phase has that number.
    pub(crate) fn part(&self, recording: &Recording) -> anyhow::Result<Option<Part>> {
        let Some(number) = self.phase else { return Ok(None) };
        // Which phases there are follows from the whole recording.
        let whole = analyse(recording, recording.symbolizer().as_mut());
        let whole = whole.map_err(explained)?;
        let part = Part::of(recording, whole, number);
        part.map(Some).map_err(|error| as_usage(explained(error)))
    }
}

impl Scope {
    /// See [`PhaseArgs::part`].
    pub(crate) fn part(&self, recording: &Recording) -> anyhow::Result<Option<Part>> {
        self.phase.part(recording)
    }

    /// Without the members that are not to be shown.
    pub(crate) fn folded(&self, run: Run) -> Run {
        if self.all_members { run } else { run.without_start_up() }
    }
}
