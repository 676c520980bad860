//! A pager for text that is longer than the terminal.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};

use crate::interrupt::Interrupt;
use crate::output::write_stdout;

/// What `sh` ends with where the pager can't be started.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Shows a text through `$PAGER`, or `less -FRX`, where standard output is a terminal; plainly
/// where it is none, where `wanted` is false, and where there is no such pager.
pub(crate) fn show(text: &str, wanted: bool) -> anyhow::Result<()> {
    if !wanted || !io::stdout().is_terminal() || !paged(text)? {
        return write_stdout(text);
    }
    Ok(())
}

/// Whether a pager took it.
fn paged(text: &str) -> anyhow::Result<bool> {
    let mut pager = match std::env::var_os("PAGER") {
        Some(line) if line.is_empty() || line == "cat" => return Ok(false),
        Some(line) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(&line);
            shell
        }
        None => {
            let mut less = Command::new("less");
            less.arg("-FRX");
            less
        }
    };
    // As git does: colours, and no pager for what fits on the screen.
    if std::env::var_os("LESS").is_none() {
        pager.env("LESS", OsStr::new("FRX"));
    }
    let Ok(mut child) = pager.stdin(Stdio::piped()).spawn() else { return Ok(false) };
    // Ctrl-C is for the pager.
    let _interrupt = Interrupt::leave_ctrl_c_to_another()?;
    if let Some(mut pipe) = child.stdin.take() {
        // Quitting the pager is no error.
        let _ = pipe.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    Ok(!matches!(status.code(), Some(NOT_FOUND | NOT_EXECUTABLE)))
}
