//! The hidden command by which the pipe pair starts this program again as one of its ends.

use pipeprof_runner::ends;

use crate::args::pair as pair_args;
use crate::ui::Exit;

/// Be one end of a pipe pair
#[derive(Debug, clap::Args)]
pub(crate) struct EndArgs {
    configuration: String,
}

pub(crate) fn run(args: &EndArgs) -> anyhow::Result<Exit> {
    let status = ends::main(&args.configuration).map_err(pair_args::refused)?;
    Ok(if status == 0 { Exit::Done } else { Exit::Failed })
}
