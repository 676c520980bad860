//! What `flame`, `html` and `record` print about a run: the answer on one screen, all tables, or
//! JSON.

use clap::Args;
use pipeprof_report::summary::Summary;
use pipeprof_report::text;

use crate::args::json::{Diverted, Json, JsonArgs, written};
use crate::output::Output;
use crate::terminal;
use crate::ui::Ui;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AnswerArgs {
    /// Print every table, not only the answer
    #[arg(long, help_heading = "Output")]
    full: bool,
    #[command(flatten)]
    json: JsonArgs,
}

impl AnswerArgs {
    /// Checks before a long run that its outputs can be written after it. `others` are the other
    /// outputs of the run.
    pub(crate) fn open(&self, others: &[&Output]) -> anyhow::Result<Answer> {
        Ok(Answer { full: self.full, json: self.json.open(others)? })
    }
}

/// Where the answer goes.
pub(crate) struct Answer {
    full: bool,
    json: Json,
}

impl Answer {
    /// See [`Json::divert`].
    pub(crate) fn divert(&self) -> anyhow::Result<Option<Diverted>> {
        self.json.divert()
    }

    /// Prints what was asked for, and `more` below the text.
    pub(crate) fn print(
        &self,
        summary: &Summary,
        more: impl FnOnce() -> anyhow::Result<String>,
        ui: &Ui,
    ) -> anyhow::Result<()> {
        let json = || written(|out| summary.write_json(out));
        let text = || {
            let style = terminal::style(ui);
            let text = match self.full {
                true => written(|out| text::full(summary, style, out)),
                false => written(|out| text::screen(summary, style, out)),
            };
            Ok(text? + &more()?)
        };
        self.json.write(json, text, ui)
    }
}
