//! `pipeprof write`: the writer alone, on standard output.

use pipeprof_runner::cpus::Pin;
use pipeprof_runner::ends::Alone;
use pipeprof_runner::pipeline::End;

use crate::pair_args::{self, CommonArgs, WriterArgs};
use crate::ui::{Exit, Ui};

/// Be the writer alone, on standard output
///
/// For example `pipeprof write --stage vmsplice | pv >/dev/null`. Writes until nobody reads any
/// more, or --bytes are written.
#[derive(Debug, clap::Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    writer: WriterArgs,
    /// CPU to run on
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
}

pub(crate) fn run(args: &WriteArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let prepared = args
        .writer
        .plan(&args.common, Pin::None)
        .and_then(|plan| Alone::prepare(End::Writer, &plan, args.pin));
    let alone = match prepared {
        Ok(alone) => alone,
        Err(error) => return pair_args::fail(error, ui),
    };
    for note in alone.notes() {
        ui.warn(note);
    }
    match alone.run() {
        Ok(moved) => {
            ui.detail(moved.line());
            Ok(if moved.interrupted { Exit::Interrupted } else { Exit::Done })
        }
        Err(error) => pair_args::fail(error, ui),
    }
}
