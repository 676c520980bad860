//! `--json[=FILE]`: numbers for a program, kept apart from text for people and the output of
//! commands.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use nix::unistd::{dup, dup2_stdout};
use pipeprof_report::escape::json as harmless;
use serde::Serialize;

use crate::output::{Output, print_beside};
use crate::ui::{Ui, as_usage, hinted};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON on stdout (output of launched commands then goes to stderr), or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "-", help_heading = "Output")]
    json: Option<PathBuf>,
}

impl JsonArgs {
    /// Checks before a long run that the JSON can be written after it. `others` are the other
    /// outputs of the run.
    pub(crate) fn open(&self, others: &[&Output]) -> anyhow::Result<Json> {
        let json = self.json.as_deref().map(Output::open).transpose()?;
        for other in others {
            if json.as_ref().is_some_and(|json| json.is_stdout() && other.is_stdout()) {
                let error = "--json: another output already goes to standard output";
                return Err(as_usage(hinted(error, Some("--json=FILE".to_owned()))));
            }
        }
        let others_take_stdout = others.iter().any(|other| other.is_stdout());
        Ok(Json { to: json, others_take_stdout })
    }
}

/// Where JSON goes.
#[derive(Debug)]
pub(crate) struct Json {
    to: Option<Output>,
    others_take_stdout: bool,
}

impl Json {
    /// Whether the user asked for it.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.to.is_some()
    }

    fn is_stdout(&self) -> bool {
        self.to.as_ref().is_some_and(Output::is_stdout)
    }

    /// If standard output is for data, the output of launched commands goes to standard error until
    /// this is dropped.
    pub(crate) fn divert(&self) -> anyhow::Result<Option<Diverted>> {
        (self.is_stdout() || self.others_take_stdout).then(Diverted::new).transpose()
    }

    /// Writes JSON where it was asked for, and prints the text where it does not go to stdout.
    pub(crate) fn write(
        &self,
        json: impl FnOnce() -> anyhow::Result<String>,
        text: impl FnOnce() -> anyhow::Result<String>,
        ui: &Ui,
    ) -> anyhow::Result<()> {
        if let Some(to) = &self.to {
            let json = json()?;
            // A terminal is to obey no name in it, and every reader of JSON reads the same.
            to.write(|out| Ok(out.write_all(harmless(&json).as_bytes())?))?;
        }
        if self.is_stdout() { Ok(()) } else { print_beside(&text()?, self.others_take_stdout, ui) }
    }
}

/// A value as JSON for a program to read.
pub(crate) fn pretty(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// What a renderer writes, as text.
pub(crate) fn written<E: Into<anyhow::Error>>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> anyhow::Result<String> {
    let mut out = Vec::new();
    write(&mut out).map_err(Into::into)?;
    Ok(String::from_utf8(out)?)
}

/// Standard output, set aside while launched commands print.
pub(crate) struct Diverted(OwnedFd);

impl Diverted {
    fn new() -> anyhow::Result<Self> {
        let divert = || -> nix::Result<Diverted> {
            let kept = dup(std::io::stdout())?;
            dup2_stdout(std::io::stderr())?;
            Ok(Diverted(kept))
        };
        divert().context("keeping standard output apart from what the command prints")
    }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        // A closed standard output is found out by what is written to it.
        let _ = dup2_stdout(&self.0);
    }
}
