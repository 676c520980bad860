//! How pipeprof talks to a person: stderr for words, and the exit status.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use pipeprof_report::escape::printable;

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

/// A sentence for a person, and a fix that can be pasted into a shell. Names from processes and
/// files are escaped in it: one line, without control characters.
#[derive(Debug, thiserror::Error)]
struct Said {
    message: String,
    hint: Option<String>,
    /// The arguments make no sense, alone or together.
    is_usage: bool,
}

impl Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Exit {
    /// How a command ended that came back with an error.
    pub(crate) fn of(error: &anyhow::Error) -> Exit {
        if error.is::<Stopped>() {
            return Exit::Interrupted;
        }
        let is_usage = error.downcast_ref::<Said>().is_some_and(|said| said.is_usage);
        if is_usage { Exit::Usage } else { Exit::Failed }
    }
}

/// The user asked to stop before there was anything to write.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(String);

/// An error that ends the program with [`Exit::Interrupted`].
pub(crate) fn stopped(error: impl Display) -> anyhow::Error {
    Stopped(error.to_string()).into()
}

/// An error that ends the program with [`Exit::Usage`].
pub(crate) fn wrong_usage(error: impl Display) -> anyhow::Error {
    as_usage(hinted(error, None))
}

/// Makes an error with a hint one that ends the program with [`Exit::Usage`].
pub(crate) fn as_usage(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Said>() {
        Ok(said) => Said { is_usage: true, ..said }.into(),
        Err(error) => wrong_usage(format_args!("{error:#}")),
    }
}

/// An error with its hint on a line below.
pub(crate) fn hinted(error: impl Display, hint: Option<String>) -> anyhow::Error {
    let harmless = |text: &dyn Display| printable(&text.to_string()).into_owned();
    let hint = hint.map(|hint| harmless(&hint));
    Said { message: harmless(&error), hint, is_usage: false }.into()
}

/// An error of a library, with what it says helps.
pub(crate) fn explained(error: impl Explains) -> anyhow::Error {
    hinted(&error, error.hint())
}

/// An error that may know what helps.
pub(crate) trait Explains: Display {
    fn hint(&self) -> Option<String>;
}

macro_rules! explains {
    ($($error:ty),+) => {
        $(impl Explains for $error {
            fn hint(&self) -> Option<String> {
                <$error>::hint(self)
            }
        })+
    };
}

explains!(
    pipeprof_profiler::Error,
    pipeprof_profiler::counters::CounterError,
    pipeprof_report::error::Error,
    pipeprof_runner::command::CommandError,
    pipeprof_runner::discover::DiscoverError
);

/// Says what is wrong with the command line, in clap's words; or the help that was asked for.
pub(crate) fn not_understood(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let harmless: Vec<_> = text.split('\n').map(printable).collect();
    let harmless = harmless.join("\n");
    // Nothing sensible is left to do where the stream is closed.
    let _ = if text == harmless {
        error.print()
    } else {
        std::io::stderr().lock().write_all(harmless.as_bytes())
    };
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    Always,
    Never,
}

/// What the user asked to hear, and on what kind of stream.
#[derive(Debug)]
pub(crate) struct Ui {
    quiet: bool,
    verbose: bool,
    colour: bool,
    colours_stdout: bool,
    /// What was launched may have left the cursor in the middle of a line.
    line_is_taken: AtomicBool,
}

impl Ui {
    pub(crate) fn new(quiet: bool, verbose: bool, colour: Colour) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let on = |is_terminal: bool| match colour {
            Colour::Auto => !no_colour && is_terminal,
            Colour::Always => true,
            Colour::Never => false,
        };
        Ui {
            quiet,
            verbose,
            colour: on(std::io::stderr().is_terminal()),
            colours_stdout: on(std::io::stdout().is_terminal()),
            line_is_taken: AtomicBool::new(false),
        }
    }

    /// Progress bars make sense: a terminal, and not `-q`.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Another process writes to the terminal, and may leave an unfinished line.
    pub(crate) fn leaves_line(&self) {
        self.line_is_taken.store(true, Ordering::Relaxed);
    }

    /// What comes next is drawn over its own line again and again, so that has to be a new one.
    pub(crate) fn begins_line(&self) {
        if self.line_is_taken.swap(false, Ordering::Relaxed) {
            let _ = std::io::stderr().lock().write_all(b"\n");
        }
    }

    /// Colour on standard output makes sense.
    pub(crate) fn colours_stdout(&self) -> bool {
        self.colours_stdout
    }

    /// A line that the user should see unless they asked for quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            say("", &text, None);
        }
    }

    /// A line for `-v`.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbose {
            say("", &text, None);
        }
    }

    /// A warning.
    pub(crate) fn warn(&self, text: impl Display) {
        if !self.quiet {
            say(self.warning(), &text, None);
        }
    }

    /// A warning of what went wrong, and its hint.
    pub(crate) fn warn_of(&self, error: &anyhow::Error) {
        if !self.quiet {
            tell(self.warning(), error);
        }
    }

    /// The error that ends the run: what failed, why, and its hint.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        tell(if self.colour { "\x1b[31merror:\x1b[0m " } else { "error: " }, error);
    }

    /// A line that belongs to an error, printed even with `-q`.
    pub(crate) fn remedy(&self, text: impl Display, hint: Option<&str>) {
        say("", &text, hint);
    }

    /// A text that does not go to standard output. Its names are escaped already.
    pub(crate) fn text(&self, text: &str) {
        if !self.quiet {
            // Nothing sensible is left to do where stderr itself is closed.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }

    fn warning(&self) -> &'static str {
        if self.colour { "\x1b[33mwarning:\x1b[0m " } else { "warning: " }
    }
}

/// What failed, with the causes behind it, and the hint of any of them.
fn tell(label: &str, error: &anyhow::Error) {
    let mut parts = Vec::new();
    let mut hint = None;
    for cause in error.chain() {
        match cause.downcast_ref::<Said>() {
            Some(said) => {
                parts.push(said.message.clone());
                hint = hint.or(said.hint.as_deref());
            }
            None => parts.push(cause.to_string()),
        }
    }
    say(label, &parts.join(": "), hint);
}

/// The one place that prints to stderr. It escapes characters that move the cursor, reorder text or
/// begin a line.
fn say(label: &str, text: &dyn Display, hint: Option<&str>) {
    let mut line = format!("{label}{}\n", printable(&text.to_string()));
    if let Some(hint) = hint {
        line += &format!("hint: {}\n", printable(hint));
    }
    // Nothing sensible is left to do where stderr itself is closed.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_hint_under_any_context() {
        let error = hinted("no room", Some("df".into())).context("writing x");
        assert_eq!(format!("{error:#}"), "writing x: no room\nhint: df");
        assert_eq!(Exit::of(&as_usage(hinted("bad", None))), Exit::Usage);
        assert_eq!(Exit::of(&hinted("bad", None)), Exit::Failed);
    }

    #[test]
    fn a_name_can_neither_add_a_hint_nor_move_the_cursor() {
        let error = hinted("a\nhint: rm -rf /\u{1b}[2J\u{9b}1m\u{202e}\u{7f}", Some("x\ny".into()));
        let text = format!("{error:#}");
        assert_eq!(text, "a\\nhint: rm -rf /\\u{1b}[2J\\u{9b}1m\\u{202e}\\u{7f}\nhint: x\\ny");
    }
}
