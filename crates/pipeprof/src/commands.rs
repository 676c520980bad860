//! One module a command: each takes its arguments and does the work through the three crates.

mod answer;
pub(crate) mod buffer;
pub(crate) mod cost;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod end;
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
pub(crate) mod tour;
pub(crate) mod tune;
pub(crate) mod write;

use clap::Subcommand;

use crate::args::pair::END;
use crate::ui::{Exit, Ui};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Flame(Box<flame::FlameArgs>),
    Stat(Box<stat::StatArgs>),
    Run(run::RunArgs),
    Record(Box<record::RecordArgs>),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Html(Box<html::HtmlArgs>),
    Diff(Box<diff::DiffArgs>),
    Write(write::WriteArgs),
    Read(read::ReadArgs),
    Ladder(Box<ladder::LadderArgs>),
    Stages(stages::StagesArgs),
    Cost(cost::CostArgs),
    Tour(tour::TourArgs),
    Tune(Box<tune::TuneArgs>),
    Buffer(buffer::BufferArgs),
    Doctor(doctor::DoctorArgs),
    Ls(ls::LsArgs),
    #[command(name = END, hide = true)]
    End(end::EndArgs),
    #[command(name = tune::guard::NAME, hide = true)]
    Guard,
}

/// Carries out one command.
pub(crate) fn run(command: Command, ui: &Ui) -> anyhow::Result<Exit> {
    match command {
        Command::End(args) => end::run(&args),
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
        Command::Tour(args) => tour::run(&args, ui),
        Command::Tune(args) => tune::run(&args, ui),
        Command::Buffer(args) => buffer::run(&args, ui),
        Command::Guard => tune::guard::run(),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Ls(args) => ls::run(&args, ui),
    }
}
