//! Running the program as a user does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, dead_code)]

use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn pipeprof() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pipeprof"))
}

/// Runs `pipeprof ARGS` in a folder of its own.
pub(crate) fn run_in(folder: &Path, args: &[&str]) -> Output {
    pipeprof().args(args).current_dir(folder).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether the kernel lets us profile its side; says why a test is skipped where it does not.
pub(crate) fn may_profile_kernel() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &["flame", "--stage", "write", "--bytes", "8M", "--json"]);
    let text = stdout(&output);
    let visible = text.contains("\"kernel_visible\": true");
    if !visible {
        eprintln!("skipped: the kernel half may not be profiled here: {}", stderr(&output));
    }
    visible
}
