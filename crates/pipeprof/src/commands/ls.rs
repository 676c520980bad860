//! `pipeprof ls`: the pipelines of this machine.

use clap::Args;
use pipeprof_report::escape::printable;
use pipeprof_report::topology::{self, Page};
use pipeprof_runner::cgroup::{Container, place_of};
use pipeprof_runner::discover::{DiscoverError, Extent, Found, Level, discover, discover_all};
use pipeprof_runner::pipeline::{Link, Member, MemberId};
use regex::Regex;
use serde::Serialize;

use crate::args::json::{JsonArgs, pretty};
use crate::args::name;
use crate::terminal;
use crate::ui::{Exit, Ui, explained};

/// List the running pipelines
///
/// Shows the processes of each with their command lines, and its pipes and sockets with inode,
/// capacity and current fill. Does not stop or signal any process.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Show only pipelines with a process whose name or command line matches (a regular expression)
    #[arg(value_name = "PATTERN", value_parser = name::parse, conflicts_with = "pids")]
    pattern: Option<Regex>,
    /// Show only the pipeline of this process; repeat for several
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pids: Vec<i32>,
    /// Show only the processes given with --pid and the pipes between them
    #[arg(long, requires = "pids")]
    only_pids: bool,
    /// Show command lines in full, instead of cutting them to the width of the terminal
    #[arg(long, conflicts_with = "json")]
    wide: bool,
    #[command(flatten)]
    json: JsonArgs,
}

pub(crate) fn run(args: &LsArgs, ui: &Ui) -> anyhow::Result<Exit> {
    let (pipelines, unreadable) = find(args).map_err(explained)?;
    args.json.open(&[])?.write(
        || json(&pipelines, unreadable),
        || Ok(pictures(&pipelines, args.wide, ui)),
        ui,
    )?;
    if args.pids.is_empty() && pipelines.is_empty() {
        ui.note(if args.pattern.is_some() {
            "no pipeline matches"
        } else {
            "no pipeline is running"
        });
    }
    if !args.pids.is_empty() && pipelines.iter().all(|found| found.pipeline.pipes.is_empty()) {
        ui.note("no pipe joins it to another process");
    }
    // Processes that were not named are left out anyway.
    if !args.only_pids {
        for found in &pipelines {
            topology::left_out(&found.pipeline, &found.left_out).iter().for_each(|n| ui.note(n));
        }
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
        let (mut all, unreadable) = discover_all()?;
        if let Some(pattern) = &args.pattern {
            all.retain(|found| found.pipeline.members.iter().any(|of| is_match(pattern, of)));
        }
        return Ok((all, unreadable));
    }
    let extent = if args.only_pids { Extent::OnlyThese } else { Extent::Whole };
    let found = discover(&args.pids, extent)?;
    let unreadable = found.unreadable;
    Ok((vec![found], unreadable))
}

/// Name or command line match.
fn is_match(pattern: &Regex, member: &Member) -> bool {
    pattern.is_match(&member.comm) || pattern.is_match(&member.command_line.join(" "))
}

fn pictures(pipelines: &[Found], wide: bool, ui: &Ui) -> String {
    let columns = terminal::style(ui).columns;
    let columns = (!wide).then_some(columns);
    let page = Page { columns, unicode: terminal::has_utf8_locale() };
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
        for (container, members) in containers(found) {
            let names = members.iter().map(|of| format!("{} ({})", printable(&of.comm), of.pid));
            let names = names.collect::<Vec<_>>().join(", ");
            text += &format!("in {}: {names}\n", printable(&container.name()));
        }
    }
    text
}

/// The containers that members run in, with those.
fn containers(found: &Found) -> Vec<(Container, Vec<&Member>)> {
    let mut containers: Vec<(Container, Vec<&Member>)> = Vec::new();
    for member in &found.pipeline.members {
        let Some(container) = place_of(member.pid).container else { continue };
        match containers.iter_mut().find(|(known, _)| *known == container) {
            Some((_, members)) => members.push(member),
            None => containers.push((container, vec![member])),
        }
    }
    containers
}

#[derive(Serialize)]
struct Listing<'a> {
    pipelines: Vec<PipelineView<'a>>,
    /// Processes that may not be read, so that members may be missing.
    unreadable_processes: usize,
}

#[derive(Serialize)]
struct PipelineView<'a> {
    members: Vec<MemberView<'a>>,
    pipes: Vec<PipeView>,
    /// Shells that wait around the members.
    wrappers: &'a [Member],
}

#[derive(Serialize)]
struct MemberView<'a> {
    #[serde(flatten)]
    member: &'a Member,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container>,
}

#[derive(Serialize)]
struct PipeView {
    #[serde(flatten)]
    link: Link,
    inode: u64,
    device: u64,
    path: Option<String>,
    /// Places in `members`.
    writers: Vec<usize>,
    readers: Vec<usize>,
    capacity_bytes: Option<u64>,
    fill_bytes: Option<u64>,
}

fn json(pipelines: &[Found], unreadable_processes: usize) -> anyhow::Result<String> {
    let pipelines = pipelines.iter().map(PipelineView::new).collect();
    let listing = Listing { pipelines, unreadable_processes };
    pretty(&listing)
}

impl<'a> PipelineView<'a> {
    fn new(found: &'a Found) -> Self {
        let pipes = found.pipeline.pipes.iter().zip(found.levels());
        let places =
            |ids: &[MemberId]| ids.iter().filter_map(|&id| found.pipeline.position(id)).collect();
        let pipes = pipes.map(|(pipe, level): (_, Option<Level>)| PipeView {
            link: pipe.link,
            inode: pipe.inode,
            device: pipe.device,
            path: pipe.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            writers: places(&pipe.writers),
            readers: places(&pipe.readers),
            capacity_bytes: level.map(|level| level.capacity_bytes),
            fill_bytes: level.map(|level| level.fill_bytes),
        });
        let members = found
            .pipeline
            .members
            .iter()
            .map(|member| MemberView { member, container: place_of(member.pid).container });
        PipelineView {
            members: members.collect(),
            pipes: pipes.collect(),
            wrappers: &found.wrappers,
        }
    }
}
