//! The `pipeprof` command: arguments to plan, plan to the three crates, their answers to files,
//! text and an exit status.
#![forbid(unsafe_code)]

mod capture;
mod cli;
mod commands;
mod interrupt;
mod output;
mod pager;
mod pair_args;
mod progress;
mod sampling_args;
mod target_args;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ui = ui::Ui::new(&cli.global);
    match commands::run(cli.command, &ui) {
        Ok(exit) => exit.into(),
        Err(error) => {
            ui.error(&error);
            ui::Exit::Failed.into()
        }
    }
}
