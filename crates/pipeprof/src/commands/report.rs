//! `pipeprof report`: shows a recording in the terminal.

mod joined;

use std::path::PathBuf;

use pipeprof_report::flamegraph::View;
use pipeprof_report::flat::{self, Key, Table};
use pipeprof_report::highlight::Highlights;
use pipeprof_report::summary::Summary;
use pipeprof_report::text;
use pipeprof_report::tree::{self, Limits};

use crate::args::json::{JsonArgs, pretty, written};
use crate::args::recording;
use crate::args::scope::Scope;
use crate::capture::{Captured, reopen};
use crate::pager;
use crate::terminal;
use crate::ui::{Exit, Ui, as_usage, explained};

/// Show a recording: the verdict, and where each member spent its time
///
/// Two recordings of one pipeline, made at the same time on the two hosts of a TCP connection, are
/// joined: one pipeline over both hosts, one verdict. Uses $PAGER, or less, on a terminal.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// A folder of pipeprof record, a perf.data file, or - for one on stdin
    #[arg(value_name = "RECORDING", value_parser = recording::parser())]
    recording: PathBuf,
    /// The recording of the other host
    #[arg(value_name = "OTHER", value_parser = recording::parser(),
          conflicts_with_all = ["event", "member", "sort", "tree", "timeline", "phase",
                                "percent_limit"])]
    other: Option<PathBuf>,
    /// Event to show, of a perf.data file with several
    #[arg(short, long, value_name = "NAME")]
    event: Option<String>,
    /// Show only this member, by name or pid; repeat for several
    #[arg(long, value_name = "NAME|PID")]
    member: Vec<String>,
    /// Print a flat table by member, role, function or object (library, kernel); with total, sort by
    /// time including callees
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KEYS",
          conflicts_with_all = ["tree", "json"])]
    sort: Vec<SortArg>,
    /// Print the call tree of a function, as perf report -g does; repeat for several
    #[arg(long, value_name = "FUNC", conflicts_with = "json")]
    tree: Vec<String>,
    /// Show a timeline: the states of each member, fill and throughput of each pipe, and what
    /// limited the pipeline; with --json, as arrays
    #[arg(long, conflicts_with_all = ["tree", "sort"])]
    timeline: bool,
    #[command(flatten)]
    scope: Scope,
    /// Show callers instead of callees
    #[arg(long, requires = "tree")]
    callers: bool,
    /// Hide rows with a smaller share, in percent [default: tree: 0.5, tables: 0.05]
    #[arg(long, value_name = "P", conflicts_with = "json", value_parser = parse_percent)]
    percent_limit: Option<f64>,
    #[command(flatten)]
    json: JsonArgs,
    /// Do not use a pager
    #[arg(long)]
    no_pager: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SortArg {
    Member,
    Role,
    Function,
    Object,
    #[value(name = "self")]
    Itself,
    Total,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("give a number from 0 to 100".to_owned()),
    }
}

/// Columns of the JSON timeline: each is half a percent of the run.
const JSON_COLUMNS: usize = 200;

/// Half of the last digit that a table shows.
const LEAST_PERCENT: f64 = 0.05;

pub(crate) fn run(args: &ReportArgs, ui: &Ui) -> anyhow::Result<Exit> {
    if let Some(other) = &args.other {
        let joined = joined::join([&args.recording, other], &args.scope, ui)?;
        let json = args.json.open(&[])?;
        if json.is_asked_for() {
            json.write(|| pretty(&joined), || Ok(String::new()), ui)?;
        } else {
            let style = terminal::style(ui);
            pager::show(
                &written(|out| text::joined(&joined, style, out).map_err(explained))?,
                !args.no_pager,
            )?;
        }
        return Ok(Exit::Done);
    }
    let captured = reopen(&args.recording, args.event.as_deref(), args.scope.clone(), ui)?;
    if captured.run.profile.quality.samples == 0 {
        ui.warn("the recording has no samples");
    }
    let run = &captured.run;
    let only = run.members_called(&args.member);
    let only = only.map_err(|error| as_usage(explained(error)))?;
    let pids = |at: &usize| run.profile.members[*at].pid;
    let only = if args.member.is_empty() { Vec::new() } else { only.iter().map(pids).collect() };
    let json = args.json.open(&[])?;
    if json.is_asked_for() {
        let nothing = || Ok(String::new());
        json.write(|| page(&captured, &only, args, true, ui), nothing, ui)?;
    } else {
        pager::show(&page(&captured, &only, args, false, ui)?, !args.no_pager)?;
    }
    Ok(Exit::Done)
}

fn page(
    captured: &Captured,
    only: &[i32],
    args: &ReportArgs,
    json: bool,
    ui: &Ui,
) -> anyhow::Result<String> {
    let run = &captured.run;
    let (highlights, view) = (Highlights::article(), View::default());
    let style = terminal::style(ui);
    let mut out = Vec::new();
    if !args.sort.is_empty() {
        let table = table(&args.sort, args.percent_limit.unwrap_or(LEAST_PERCENT), only);
        flat::render(run, &table, style, &mut out).map_err(explained)?;
    } else if args.tree.is_empty() {
        let mut summary = Summary::of(run, &highlights, view);
        match (only.is_empty(), json) {
            (true, _) => {}
            (false, true) => summary.keep_members(only),
            (false, false) => summary.show_members(only),
        }
        if let Some(percent) = args.percent_limit {
            summary.keep_shares(percent);
        }
        if args.timeline {
            let columns = if json { JSON_COLUMNS } else { text::timeline_columns(&summary, style) };
            summary.add_timeline(run, columns);
        }
        if json {
            summary.write_json(&mut out).map_err(explained)?;
        } else if args.timeline {
            text::timeline(&summary, style, &mut out).map_err(explained)?;
        } else {
            text::full(&summary, style, &mut out).map_err(explained)?;
        }
    }
    for (index, function) in args.tree.iter().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        let limits = Limits {
            percent: args.percent_limit.unwrap_or(Limits::default().percent),
            callers: args.callers,
            only: only.to_vec(),
        };
        tree::render(run, &highlights, function, limits, view, &mut out).map_err(explained)?;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// As perf's `--sort`: the keys are the columns. Without any it is by member and function.
fn table(sort: &[SortArg], percent_limit: f64, only: &[i32]) -> Table {
    let mut keys = Vec::new();
    for arg in sort {
        let key = match arg {
            SortArg::Member => Key::Member,
            SortArg::Role => Key::Role,
            SortArg::Function => Key::Function,
            SortArg::Object => Key::Object,
            SortArg::Itself | SortArg::Total => continue,
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        keys = vec![Key::Member, Key::Function];
    }
    Table { keys, by_total: sort.contains(&SortArg::Total), percent_limit, only: only.to_vec() }
}
