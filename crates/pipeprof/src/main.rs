//! The `pipeprof` command: turns arguments into a plan, runs the plan with the three crates, and
//! writes their answers as files, text and an exit status.
#![forbid(unsafe_code)]

mod args;
mod capture;
mod commands;
mod interrupt;
mod output;
mod pager;
mod progress;
mod salvage;
mod terminal;
mod ui;
mod who;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{CommandFactory, Parser};
use pipeprof_runner::{access, discover};

/// Why is this Unix pipeline not faster?
#[derive(Debug, Parser)]
#[command(name = "pipeprof", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: args::global::Global,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    // Before anything is opened, and before there is a second thread.
    access::lower();
    outlive_the_file_size_limit();
    if let Some(status) = args::pair::as_end() {
        return status;
    }
    let (ui, done) = match commands::as_helper() {
        Some(done) => (ui::Ui::new(false, false, ui::Colour::Auto), done),
        None => {
            let cli = match Cli::try_parse() {
                Ok(cli) => cli,
                Err(error) => return ui::not_understood(&error),
            };
            if cli.global.no_fill {
                discover::never_look();
            }
            let ui = cli.global.ui();
            let done = commands::run(cli.command, Cli::command(), &ui);
            (ui, done)
        }
    };
    let exit = done.unwrap_or_else(|error| {
        ui.error(&error);
        ui::Exit::of(&error)
    });
    exit.into()
}

/// A file that would exceed `ulimit -f` should be an error like others (EFBIG): by default the
/// signal for it ends a program silently. A handler, as it is not passed on to what is launched.
fn outlive_the_file_size_limit() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Where it is ignored, what is launched is to find it so.
    if ignored.is_none_or(|mask| mask & 1 << (libc::SIGXFSZ - 1) == 0) {
        let came = Arc::new(AtomicBool::new(false));
        // Without it the limit is as deadly as it was.
        let _ = signal_hook::flag::register(libc::SIGXFSZ, came);
    }
}
