//! `pipeprof buffer`: runs between two members and holds what the second is not ready for.

use std::fs::File;
use std::io::{stdin, stdout};
use std::os::fd::AsFd;

use anyhow::Context;
use pipeprof_runner::buffer::pass;
use pipeprof_runner::size;
use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

use crate::ui::{Exit, Ui, hinted};

/// Hold a burst between two members of a pipeline
///
/// For example: producer | pipeprof buffer -m 64M | consumer. A pipe holds 64 KiB, or 1 MiB at
/// most. With a buffer, a producer that delivers more than that at a time and then pauses does not
/// block. If the consumer is always slower, the buffer only fills up. While the consumer keeps up,
/// bytes are passed on by splice.
#[derive(Debug, clap::Args)]
pub(crate) struct BufferArgs {
    /// Maximum memory; K, M, G are powers of 1024
    #[arg(short, long, value_name = "SIZE", default_value = "64M", value_parser = parse_memory)]
    memory: usize,
}

fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes = size::parse(text).map_err(|error| error.to_string())?;
    match usize::try_from(bytes) {
        Ok(bytes @ 65_536..) => Ok(bytes),
        _ => Err("it must be 64K or more".to_owned()),
    }
}

pub(crate) fn run(args: &BufferArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let file = |fd: std::os::fd::BorrowedFd| fd.try_clone_to_owned().map(File::from);
    let input = file(stdin().as_fd()).context("standard input")?;
    let output = file(stdout().as_fd()).context("standard output")?;
    let passed = pass(&input, &output, args.memory)
        .map_err(|error| hinted(format!("passing data on: {error}"), None))?;
    ui.detail(format_args!(
        "{} bytes passed on; at most {} held",
        passed.bytes,
        size::exact(passed.most_held)
    ));
    if passed.reader_gone {
        // As any other program in a pipeline ends; the writer before it learns it the same way.
        emulate_default_handler(SIGPIPE)?;
    }
    Ok(Exit::Done)
}
