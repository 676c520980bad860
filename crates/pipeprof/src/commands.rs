//! One module a command: each takes its arguments and does the work through the three crates.

mod answer;
pub(crate) mod buffer;
mod completions;
pub(crate) mod cost;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod flame;
pub(crate) mod html;
pub(crate) mod ladder;
pub(crate) mod ls;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod stages;
pub(crate) mod stat;
pub(crate) mod top;
pub(crate) mod tour;
pub(crate) mod tune;
pub(crate) mod watch;
pub(crate) mod write;

use clap::Subcommand;

use crate::ui::{Exit, Ui};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Flame(Box<flame::FlameArgs>),
    Record(Box<record::RecordArgs>),
    Report(report::ReportArgs),
    Html(Box<html::HtmlArgs>),
    Diff(Box<diff::DiffArgs>),
    Top(top::TopArgs),
    Tune(Box<tune::TuneArgs>),
    Watch(Box<watch::WatchArgs>),
    Stat(Box<stat::StatArgs>),
    Ls(ls::LsArgs),
    Export(export::ExportArgs),
    Doctor(doctor::DoctorArgs),
    Tour(tour::TourArgs),
    Ladder(Box<ladder::LadderArgs>),
    Stages(stages::StagesArgs),
    Run(run::RunArgs),
    Write(write::WriteArgs),
    Read(read::ReadArgs),
    Cost(cost::CostArgs),
    Buffer(buffer::BufferArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Carries out one command. `program` is the whole command line, for its completion and manual.
pub(crate) fn run(command: Command, program: clap::Command, ui: &Ui) -> anyhow::Result<Exit> {
    match command {
        Command::Flame(args) => flame::run(&args, ui),
        Command::Stat(args) => stat::run(&args, ui),
        Command::Run(args) => run::run(&args, ui),
        Command::Record(args) => record::run(&args, ui),
        Command::Html(args) => html::run(&args, ui),
        Command::Report(args) => report::run(&args, ui),
        Command::Export(args) => export::run(&args, ui),
        Command::Diff(args) => diff::run(&args, ui),
        Command::Write(args) => write::run(&args, ui),
        Command::Read(args) => read::run(&args, ui),
        Command::Ladder(args) => ladder::run(&args, ui),
        Command::Cost(args) => cost::run(&args, ui),
        Command::Stages(args) => stages::run(&args, ui),
        Command::Top(args) => top::run(&args, ui),
        Command::Tour(args) => tour::run(&args, ui),
        Command::Tune(args) => tune::run(&args, ui),
        Command::Watch(args) => watch::run(&args, ui),
        Command::Buffer(args) => buffer::run(&args, ui),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Ls(args) => ls::run(&args, ui),
        Command::Completions(args) => completions::completions(&args, program),
        Command::Man(args) => completions::man(&args, program, ui),
    }
}

/// How this program ended as a helper process of its own, if it is one. This is handled before clap
/// sees the command line, so clap's messages never mention it.
pub(crate) fn as_helper() -> Option<anyhow::Result<Exit>> {
    let name = std::env::args_os().nth(1)?;
    (name == tune::guard::NAME).then(tune::guard::run)
}
