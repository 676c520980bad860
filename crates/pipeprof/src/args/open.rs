//! `--open`: opens the file that was written.

use std::process::{Command, Stdio};

use clap::Args;

use crate::output::Output;
use crate::ui::{Ui, hinted};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OpenArgs {
    /// Open the file in a browser or viewer when it is written (xdg-open)
    #[arg(long, help_heading = "Output")]
    open: bool,
}

impl OpenArgs {
    /// Opens a file, where that was asked for.
    pub(crate) fn show(&self, file: &Output, ui: &Ui) {
        if !self.open || file.is_stdout() {
            return;
        }
        let mut viewer = Command::new("xdg-open");
        viewer.arg(file.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = viewer.spawn() {
            let hint = "install xdg-utils, or open the file yourself".to_owned();
            ui.warn_of(&hinted(format_args!("--open: xdg-open: {error}"), Some(hint)));
        }
    }
}
