//! The command line as the user types it.

use clap::{Args, Parser, Subcommand};

use crate::commands::cost::CostArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::end::{self, EndArgs};
use crate::commands::export::ExportArgs;
use crate::commands::flame::FlameArgs;
use crate::commands::html::HtmlArgs;
use crate::commands::ladder::LadderArgs;
use crate::commands::ls;
use crate::commands::read::ReadArgs;
use crate::commands::record::RecordArgs;
use crate::commands::report::ReportArgs;
use crate::commands::run::RunArgs;
use crate::commands::stages::StagesArgs;
use crate::commands::stat::StatArgs;
use crate::commands::tour::TourArgs;
use crate::commands::write::WriteArgs;

/// Why is this Unix pipeline not faster?
#[derive(Debug, Parser)]
#[command(name = "pipeprof", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Say nothing but errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr: what was tried, and what was chosen
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Flame(Box<FlameArgs>),
    Stat(Box<StatArgs>),
    Run(RunArgs),
    Record(Box<RecordArgs>),
    Report(ReportArgs),
    Export(ExportArgs),
    Html(Box<HtmlArgs>),
    Diff(Box<DiffArgs>),
    Write(WriteArgs),
    Read(ReadArgs),
    Ladder(Box<LadderArgs>),
    Stages(StagesArgs),
    Cost(CostArgs),
    Tour(TourArgs),
    Doctor(DoctorArgs),
    Ls(ls::LsArgs),
    #[command(name = end::NAME, hide = true)]
    End(EndArgs),
}
