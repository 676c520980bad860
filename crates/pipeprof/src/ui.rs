//! How pipeprof talks to a person: stderr for words, and the exit status.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::Global;

/// How a command ended; the documented exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: the arguments make no sense together.
    Usage,
    /// 130: stopped by Ctrl-C; what was recorded was still written.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Interrupted => 130,
        })
    }
}

/// The arguments make no sense, alone or together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUsage(String);

impl Exit {
    /// How a command ended that came back with an error.
    pub(crate) fn of(error: &anyhow::Error) -> Exit {
        if error.is::<WrongUsage>() { Exit::Usage } else { Exit::Failed }
    }
}

/// An error that ends the program with [`Exit::Usage`].
pub(crate) fn wrong_usage(error: impl Display) -> anyhow::Error {
    WrongUsage(error.to_string()).into()
}

/// An error with its hint on a line below.
pub(crate) fn hinted(error: impl Display, hint: Option<String>) -> anyhow::Error {
    match hint {
        Some(hint) => anyhow::anyhow!("{error}\nhint: {hint}"),
        None => anyhow::anyhow!("{error}"),
    }
}

/// What the user asked to hear, and on what kind of stream.
#[derive(Debug)]
pub(crate) struct Ui {
    quiet: bool,
    verbose: bool,
    colour: bool,
    colour_allowed: bool,
}

impl Ui {
    pub(crate) fn new(global: &Global) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ui {
            quiet: global.quiet,
            verbose: global.verbose,
            colour: !no_colour && std::io::stderr().is_terminal(),
            colour_allowed: !no_colour,
        }
    }

    /// Progress bars make sense: a terminal, and not `-q`.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Colour on standard output makes sense.
    pub(crate) fn colours_stdout(&self) -> bool {
        self.colour_allowed && std::io::stdout().is_terminal()
    }

    /// A line that the user should see unless they asked for quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.line("", &text);
        }
    }

    /// A line for `-v`.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbose {
            self.line("", &text);
        }
    }

    /// A warning, with an optional hint that can be pasted into a shell.
    pub(crate) fn warn(&self, text: impl Display) {
        if !self.quiet {
            let label = if self.colour { "\x1b[33mwarning:\x1b[0m " } else { "warning: " };
            self.line(label, &text);
        }
    }

    /// The error that ends the run: what failed, why, and its hint.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let label = if self.colour { "\x1b[31merror:\x1b[0m " } else { "error: " };
        self.line(label, &format_args!("{error:#}"));
    }

    fn line(&self, label: &str, text: &dyn Display) {
        // Nothing sensible is left to do where stderr itself is closed.
        let _ = writeln!(std::io::stderr().lock(), "{label}{text}");
    }
}
