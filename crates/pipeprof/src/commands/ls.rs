//! `pipeprof ls`: the pipelines of this machine.

use clap::Args;
use pipeprof_report::topology::{self, Page};
use pipeprof_runner::discover::{DiscoverError, Extent, Found, Level, discover, discover_all};
use pipeprof_runner::pipeline::{Member, MemberId};
use serde::Serialize;

use crate::args::json::JsonArgs;
use crate::terminal;
use crate::ui::{Exit, Ui, hinted};

/// Show the pipelines that run on this machine
///
/// Each with its processes and their command lines, and its pipes with inode, capacity and how full
/// they are now. Nothing is stopped, signalled or slowed.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only the pipeline that this process belongs to; can be given more than once
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pids: Vec<i32>,
    /// Only the processes given with --pid and the pipes between them
    #[arg(long, requires = "pids")]
    only_pids: bool,
    #[command(flatten)]
    json: JsonArgs,
}

pub(crate) fn run(args: &LsArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let (pipelines, unreadable) = find(args).map_err(|error| hinted(&error, error.hint()))?;
    args.json.open(&[])?.write(
        || Ok(json(&pipelines, unreadable)?),
        || Ok(pictures(&pipelines)),
        ui,
    )?;
    if args.pids.is_empty() && pipelines.is_empty() {
        ui.note("no pipeline runs on this machine");
    }
    if !args.pids.is_empty() && pipelines.iter().all(|found| found.pipeline.pipes.is_empty()) {
        ui.note("no pipe joins it to another process");
    }
    if unreadable > 0 {
        let processes = if unreadable == 1 { "process" } else { "processes" };
        ui.note(format_args!(
            "{unreadable} {processes} of other users could not be read; run as root to see them"
        ));
    }
    Ok(Exit::Done)
}

fn find(args: &LsArgs) -> Result<(Vec<Found>, usize), DiscoverError> {
    if args.pids.is_empty() {
        return discover_all();
    }
    let extent = if args.only_pids { Extent::OnlyThese } else { Extent::Whole };
    let found = discover(&args.pids, extent)?;
    let unreadable = found.unreadable;
    Ok((vec![found], unreadable))
}

fn pictures(pipelines: &[Found]) -> String {
    let page = page();
    let mut text = String::new();
    for found in pipelines {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &topology::picture(&found.pipeline, &found.levels(), page);
        for wrapper in &found.wrappers {
            // The label is cut to the page, of which these words take a part.
            let columns = page.columns.map(|columns| columns.saturating_sub("in ".len()));
            text += &format!("in {}\n", topology::label(wrapper, Page { columns, ..page }));
        }
    }
    text
}

fn page() -> Page {
    Page { columns: terminal::columns(), unicode: terminal::has_utf8_locale() }
}

#[derive(Serialize)]
struct Listing<'a> {
    pipelines: Vec<PipelineView<'a>>,
    /// Processes that may not be read, so that members may be missing.
    unreadable_processes: usize,
}

#[derive(Serialize)]
struct PipelineView<'a> {
    members: &'a [Member],
    pipes: Vec<PipeView>,
    /// Shells that wait around the members.
    wrappers: &'a [Member],
}

#[derive(Serialize)]
struct PipeView {
    inode: u64,
    device: u64,
    path: Option<String>,
    /// Places in `members`.
    writers: Vec<usize>,
    readers: Vec<usize>,
    capacity_bytes: Option<u64>,
    fill_bytes: Option<u64>,
}

fn json(pipelines: &[Found], unreadable_processes: usize) -> serde_json::Result<String> {
    let pipelines = pipelines.iter().map(PipelineView::new).collect();
    let listing = Listing { pipelines, unreadable_processes };
    serde_json::to_string_pretty(&listing).map(|text| text + "\n")
}

impl<'a> PipelineView<'a> {
    fn new(found: &'a Found) -> Self {
        let pipes = found.pipeline.pipes.iter().zip(found.levels());
        let places =
            |ids: &[MemberId]| ids.iter().filter_map(|&id| found.pipeline.position(id)).collect();
        let pipes = pipes.map(|(pipe, level): (_, Option<Level>)| PipeView {
            inode: pipe.inode,
            device: pipe.device,
            path: pipe.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            writers: places(&pipe.writers),
            readers: places(&pipe.readers),
            capacity_bytes: level.map(|level| level.capacity_bytes),
            fill_bytes: level.map(|level| level.fill_bytes),
        });
        PipelineView {
            members: &found.pipeline.members,
            pipes: pipes.collect(),
            wrappers: &found.wrappers,
        }
    }
}
