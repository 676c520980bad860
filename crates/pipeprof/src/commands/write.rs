//! `pipeprof write`: the writer alone, on standard output.

use pipeprof_runner::ends::Alone;
use pipeprof_runner::pipeline::End;

use crate::args::pair::{self as pair_args, CommonArgs, WriterArgs};
use crate::ui::{Exit, Ui};

/// Write test data to stdout
///
/// For example: pipeprof write --stage vmsplice | pv >/dev/null. Ends when the reader does, or
/// after --bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    writer: WriterArgs,
    /// CPU to run on [default: any]
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
}

pub(crate) fn run(args: &WriteArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let plan = args.writer.plan(&args.common)?;
    let alone = Alone::prepare(End::Writer, &plan, args.pin).map_err(pair_args::refused)?;
    for note in alone.notes() {
        ui.warn(note);
    }
    let moved = alone.run().map_err(pair_args::refused)?;
    ui.detail(moved.line());
    Ok(if moved.interrupted { Exit::Interrupted } else { Exit::Done })
}
