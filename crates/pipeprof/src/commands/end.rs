//! The hidden command by which the pipe pair starts this program again as one of its ends.

use pipeprof_runner::ends;

use crate::pair_args;
use crate::ui::{Exit, Ui};

/// Its name.
pub(crate) const NAME: &str = "__end";

/// Be one end of a pipe pair
#[derive(Debug, clap::Args)]
pub(crate) struct EndArgs {
    configuration: String,
}

pub(crate) fn run(args: &EndArgs, ui: &Ui) -> anyhow::Result<Exit> {
    match ends::main(&args.configuration) {
        Ok(0) => Ok(Exit::Done),
        Ok(_) => Ok(Exit::Failed),
        Err(error) => pair_args::fail(error, ui),
    }
}
