//! The `pipeprof` command: arguments to plan, plan to the three crates, their answers to files,
//! text and an exit status.
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

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pipeprof_runner::access;

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
    if let Some(status) = args::pair::as_end() {
        return status;
    }
    let (ui, done) = match commands::as_helper() {
        Some(done) => (ui::Ui::new(false, false, ui::Colour::Auto), done),
        None => {
            let cli = Cli::parse();
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
