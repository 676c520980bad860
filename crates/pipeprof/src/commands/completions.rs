//! `pipeprof completions`, `pipeprof man`: what packages install beside the program.

use std::path::PathBuf;

use anyhow::Context;
use clap_complete::Shell;

use crate::output::write_stdout;
use crate::ui::{Exit, Ui};

/// Print the completion script for a shell
///
/// For bash: pipeprof completions bash >/etc/bash_completion.d/pipeprof
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete commands in
    shell: Shell,
}

/// Print the manual page, or write the pages of all commands into a folder
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder for pipeprof.1, pipeprof-flame.1 and so on
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(crate) fn completions(
    args: &CompletionsArgs,
    mut program: clap::Command,
) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "pipeprof", &mut script);
    write_stdout(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &ManArgs, program: clap::Command, ui: &Ui) -> anyhow::Result<Exit> {
    match &args.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(program).render(&mut page).context("writing the manual page")?;
            write_stdout(&String::from_utf8_lossy(&page))?;
        }
        Some(folder) => {
            let failed = || format!("writing manual pages into {}", folder.display());
            std::fs::create_dir_all(folder).with_context(failed)?;
            clap_mangen::generate_to(program, folder).with_context(failed)?;
            ui.note(format_args!("wrote {}", folder.join("pipeprof*.1").display()));
        }
    }
    Ok(Exit::Done)
}
