//! `pipeprof read`: the reader alone, on standard input.

use pipeprof_runner::ends::{Alone, Moved};
use pipeprof_runner::pipeline::End;

use crate::output::write_stdout;
use crate::pair_args::{self, CommonArgs, ReaderArgs};
use crate::ui::{Exit, Ui};

/// Be the reader alone, on standard input, and print the throughput
///
/// For example `fizzbuzz | pipeprof read`. Reads until there is no more, or --bytes are read. Time
/// runs from its first call to its last.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    reader: ReaderArgs,
    /// CPU to run on
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ReadArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let plan = args.reader.plan(&args.common)?;
    let alone = Alone::prepare(End::Reader, &plan, args.pin).map_err(pair_args::refused)?;
    for note in alone.notes() {
        ui.warn(note);
    }
    let moved = alone.run().map_err(pair_args::refused)?;
    write_stdout(&if args.json { json(&moved)? } else { moved.line() + "\n" })?;
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
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}
