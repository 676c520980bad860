//! Keeps the recording when an output can't be written.

use pipeprof_profiler::recording::Recording;
use pipeprof_profiler::symbolize::SymbolTable;

use crate::output::quoted;
use crate::ui::{Exit, Ui, explained};

/// A recording, and the names of its addresses.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) recording: Recording,
    pub(crate) symbols: SymbolTable,
}

/// The outputs of a run: each is tried, even if others failed.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Vec<anyhow::Error>);

impl Attempts {
    /// Notes the result of one, and returns whether it was written.
    pub(crate) fn note(&mut self, result: anyhow::Result<()>) -> bool {
        result.map_err(|error| self.0.push(error)).is_ok()
    }

    /// Whether any failed.
    pub(crate) fn failed(&self) -> bool {
        !self.0.is_empty()
    }

    /// The first failure.
    ///
    /// # Errors
    /// That, where there is one.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        self.0.into_iter().next().map_or(Ok(()), Err)
    }

    /// The exit status of the command. If an output failed, temporary recordings are kept, and
    /// `render` turns their names into a command that tries again.
    pub(crate) fn conclude(
        self,
        exit: Exit,
        recordings: &mut [&mut Taken],
        render: impl FnOnce(&str) -> String,
        ui: &Ui,
    ) -> Exit {
        for error in &self.0 {
            ui.error(error);
        }
        if !self.failed() {
            return exit;
        }
        let mut kept = Vec::new();
        for Taken { recording, symbols } in recordings {
            kept.extend(keep(recording, Some(symbols), ui));
        }
        say_kept(&kept, render, ui);
        Exit::Failed
    }
}

/// Keeps a recording whose analysis failed.
pub(crate) fn keep_unread(mut recording: Recording, ui: &Ui) {
    let kept: Vec<String> = keep(&mut recording, None, ui).into_iter().collect();
    say_kept(&kept, |kept| format!("pipeprof report {kept}"), ui);
}

/// The name for a temporary recording that is kept.
fn keep(recording: &mut Recording, symbols: Option<&SymbolTable>, ui: &Ui) -> Option<String> {
    match recording.keep(symbols) {
        Ok(path) => path.map(|path| quoted(&path)),
        Err(error) => {
            ui.error(&explained(error));
            None
        }
    }
}

fn say_kept(kept: &[String], render: impl FnOnce(&str) -> String, ui: &Ui) {
    if !kept.is_empty() {
        let text = format!("the recording is kept in {}", kept.join(" and "));
        ui.remedy(text, Some(&render(&kept.join(" "))));
    }
}

/// The hint for a command that makes one file of recordings.
pub(crate) fn again(command: &str) -> impl FnOnce(&str) -> String {
    move |kept| format!("pipeprof {command} {kept} -o FILE")
}
