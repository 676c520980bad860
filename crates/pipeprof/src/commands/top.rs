//! `pipeprof top`: shows every pipeline of the machine, live, from `/proc` alone.

mod app;
mod collect;
mod detail;
mod draw;
mod flame;
mod look;
mod screen;
mod text;
mod units;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use crate::args::target::parse_interval;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::ui::{Exit, Ui, as_usage, hinted};
use collect::{Collector, Detail, What};

/// Show every pipeline of this machine, live
///
/// For each: its members with the CPUs they use and what they wait for, its pipes with throughput
/// and fill, and the member that limits it. Needs no special rights. Press ? for the keys.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// Show only pipelines with this in a member's name or arguments
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// Show only the pipeline of this process; repeat for several
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Vec<i32>,
    /// Time between updates
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Print plain text, one block per interval
    #[arg(short, long, conflicts_with = "json")]
    batch: bool,
    /// Print JSON, one line per interval
    #[arg(long)]
    json: bool,
    /// Stop after the first interval
    #[arg(long)]
    once: bool,
    /// Do not measure how full pipes are
    #[arg(long)]
    no_fill: bool,
    /// Also print the members' threads, and their positions in open files
    #[arg(long)]
    detail: bool,
}

pub(crate) fn run(args: &TopArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let detail = if args.detail { Detail::Everybody } else { Detail::Nobody };
    let pattern = args.pattern.clone();
    let what = What { pids: args.pid.clone(), pattern, fill: !args.no_fill, detail };
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let on_screen = !(args.batch || args.json || args.once);
    if on_screen && (is_dumb || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal())
    {
        let hint = "print instead: pipeprof top --batch, or --json";
        let error = "top needs a terminal to draw on";
        return Err(as_usage(hinted(error, Some(hint.to_owned()))));
    }
    let interrupt = Interrupt::install()?;
    let mut collector = Collector::new(what)?;
    if on_screen {
        return screen::run(&mut collector, args.interval, &interrupt, ui);
    }
    let stdout = Output::open(Path::new("-"))?;
    while collector.wait(args.interval, || interrupt.is_set()) {
        let snapshot = collector.take();
        let block = match args.json {
            true => serde_json::to_string(&snapshot)? + "\n",
            false => text::block(&snapshot),
        };
        let mut gone = true;
        stdout.write(|out| {
            out.write_all(block.as_bytes())?;
            out.flush()?;
            gone = false;
            Ok(())
        })?;
        if args.once || gone {
            return Ok(Exit::Done);
        }
    }
    Ok(Exit::Interrupted)
}
