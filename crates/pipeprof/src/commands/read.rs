//! `pipeprof read`: the reader alone, on standard input.

use pipeprof_runner::ends::{Alone, Moved};
use pipeprof_runner::pipeline::End;

use crate::args::json::{JsonArgs, pretty};
use crate::args::pair::{self as pair_args, CommonArgs, ReaderArgs};
use crate::ui::{Exit, Ui};

/// Read stdin and print the throughput
///
/// For example: fizzbuzz | pipeprof read. Ends at the end of the data, or after --bytes. The time
/// counts from the first read to the last.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    reader: ReaderArgs,
    /// CPU to run on [default: any]
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    #[command(flatten)]
    json: JsonArgs,
}

pub(crate) fn run(args: &ReadArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let plan = args.reader.plan(&args.common)?;
    let alone = Alone::prepare(End::Reader, &plan, args.pin).map_err(pair_args::refused)?;
    for note in alone.notes() {
        ui.warn(note);
    }
    let moved = alone.run().map_err(pair_args::refused)?;
    args.json.open(&[])?.write(|| json(&moved), || Ok(moved.line() + "\n"), ui)?;
    Ok(if moved.interrupted { Exit::Interrupted } else { Exit::Done })
}

fn json(moved: &Moved) -> anyhow::Result<String> {
    let report = serde_json::json!({
        "gib_per_s": moved.gib_per_s(),
        "bytes": moved.tally.bytes,
        "elapsed_ns": moved.elapsed.as_nanos() as u64,
        "calls": moved.tally.calls,
        "retries": moved.tally.retries,
        "interrupted": moved.interrupted,
    });
    pretty(&report)
}
