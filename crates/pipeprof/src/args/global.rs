//! The options that every command takes.

use clap::Args;

use crate::ui::{Colour, Ui};

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,
    /// Print on stderr what pipeprof tries and chooses
    #[arg(short, long, global = true, help_heading = "Global options")]
    verbose: bool,
    /// Never measure how full pipes are; measuring opens a pipe's read end for some microseconds
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_fill: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colour::Auto,
          hide_possible_values = true, help = "When to use colours: auto, always or never",
          help_heading = "Global options")]
    color: Colour,
}

impl Global {
    pub(crate) fn ui(&self) -> Ui {
        Ui::new(self.quiet, self.verbose, self.color)
    }
}
