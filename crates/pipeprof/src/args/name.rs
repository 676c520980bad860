//! `--name PATTERN`: processes by name, as `pgrep` finds them.

use std::fs;

use pipeprof_runner::discover::{Extent, Found, discover};
use regex::Regex;

use crate::ui::{as_usage, explained, hinted, wrong_usage};

/// A running process that a pattern matches.
struct Match {
    pid: i32,
    comm: String,
}

/// The pids of the one pipeline that has processes of this name.
///
/// # Errors
/// Wrong usage where no process has it, or those of several pipelines.
pub(crate) fn pids(pattern: &Regex) -> anyhow::Result<Vec<i32>> {
    let found = matches(pattern);
    let Some(first) = found.first() else {
        let error = format_args!("--name {pattern}: no process has a name that matches");
        return Err(as_usage(hinted(error, Some("pipeprof ls".to_owned()))));
    };
    let mut pipelines = vec![of(first)?];
    for other in &found {
        if !pipelines.iter().any(|known| holds(known, other.pid)) {
            pipelines.push(of(other)?);
        }
    }
    if pipelines.len() == 1 {
        return Ok(found.iter().map(|found| found.pid).collect());
    }
    let list = pipelines.iter().map(|pipeline| {
        let names: Vec<&str> =
            pipeline.pipeline.members.iter().map(|member| &member.comm[..]).collect();
        let pids = found.iter().filter(|found| holds(pipeline, found.pid));
        let pids: Vec<String> = pids.map(|found| found.pid.to_string()).collect();
        format!("{} (pid {})", names.join(" | "), pids.join(", "))
    });
    let error = format_args!(
        "--name {pattern}: {} processes in {} pipelines match: {}",
        found.len(),
        pipelines.len(),
        list.collect::<Vec<_>>().join("; ")
    );
    Err(as_usage(hinted(error, Some(format!("--pid {}", first.pid)))))
}

fn of(process: &Match) -> anyhow::Result<Found> {
    discover(&[process.pid], Extent::Whole).map_err(explained)
}

fn holds(pipeline: &Found, pid: i32) -> bool {
    pipeline.pipeline.members.iter().chain(&pipeline.wrappers).any(|member| member.pid == pid)
}

fn matches(pattern: &Regex) -> Vec<Match> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let Ok(folders) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = folders.flatten().filter_map(|folder| {
        let pid: i32 = folder.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(folder.path().join("comm")).ok()?;
        Some(Match { pid, comm: comm.trim_end_matches('\n').to_owned() })
    });
    let mut found: Vec<Match> =
        processes.filter(|of| of.pid != own && pattern.is_match(&of.comm)).collect();
    found.sort_by_key(|of| of.pid);
    found
}

/// Reads a pattern.
pub(crate) fn parse(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|_| wrong_usage("not a regular expression").to_string())
}
