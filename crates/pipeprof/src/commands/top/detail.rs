//! Threads and open files of one pipeline's members, as lines.

use pipeprof_report::escape::printable;
use pipeprof_report::live::{FileNow, MemberNow, PipelineNow};
use pipeprof_runner::cgroup::Container;

use super::units::{size, throughput, time_left};

/// Threads of a member that are listed, those that use most first.
const MOST_THREADS: usize = 8;

/// Files of a member that are listed.
const MOST_FILES: usize = 8;

/// What is known of the members' threads and files; nothing if the user did not ask for it.
pub(super) fn lines(pipeline: &PipelineNow) -> Vec<String> {
    let mut lines = Vec::new();
    let threads: Vec<String> = pipeline.members.iter().flat_map(thread_lines).collect();
    let files: Vec<String> = pipeline.members.iter().flat_map(file_lines).collect();
    let places: Vec<String> = pipeline.members.iter().filter_map(place_line).collect();
    for (title, rows) in [("threads", threads), ("open files", files), ("runs in", places)] {
        if !rows.is_empty() {
            lines.push(String::new());
            lines.push(title.to_owned());
            lines.extend(rows);
        }
    }
    lines
}

/// Of a member with more than one.
fn thread_lines(member: &MemberNow) -> Vec<String> {
    let mut threads = member.threads.clone().unwrap_or_default();
    if threads.len() < 2 {
        return Vec::new();
    }
    threads.sort_by(|a, b| b.cpus_used.unwrap_or(0.0).total_cmp(&a.cpus_used.unwrap_or(0.0)));
    let row = |name: &str, tid: i32, cpus: Option<f64>| {
        let cpus = cpus.map_or("-".to_owned(), |cpus| format!("{cpus:.2} CPU"));
        format!("  {:<15} {tid:>7}  {cpus:>8}  {}", printable(&member.name), printable(name))
    };
    let mut rows: Vec<String> = threads
        .iter()
        .take(MOST_THREADS)
        .map(|thread| row(&thread.name, thread.tid, thread.cpus_used))
        .collect();
    if threads.len() > MOST_THREADS {
        rows.push(format!("  {:<15} and {} more", "", threads.len() - MOST_THREADS));
    }
    rows
}

fn file_lines(member: &MemberNow) -> Vec<String> {
    let mut files = member.files.clone().unwrap_or_default();
    // Those that move first.
    let rate = |file: &FileNow| file.bytes_per_second.unwrap_or(0.0);
    files.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    let mut rows: Vec<String> =
        files.iter().take(MOST_FILES).map(|file| file_line(member, file)).collect();
    if files.len() > MOST_FILES {
        rows.push(format!("  {:<15} and {} more", "", files.len() - MOST_FILES));
    }
    rows
}

/// `gzip  reads  42 %, 1 min 3 s left, 2.1 GiB of 5.0 GiB, 46 MiB/s  /data/x`: what may be cut at the
/// edge of the screen is the path.
fn file_line(member: &MemberNow, file: &FileNow) -> String {
    let mut parts = Vec::new();
    let at = size(file.position_bytes as f64);
    match file.progress() {
        Some(progress) => {
            parts.push(format!("{:.0} %", 100.0 * progress));
            parts.extend(file.seconds_left().map(|seconds| time_left(seconds) + " left"));
            parts.push(format!("{at} of {}", size(file.size_bytes as f64)));
        }
        None => parts.push(at),
    }
    parts.extend(file.bytes_per_second.filter(|&rate| rate > 0.0).map(throughput));
    let does = if file.writes { "writes" } else { "reads" };
    let (name, path) = (printable(&member.name), printable(&file.path));
    format!("  {name:<15} {does:<6}  {}  {path}", parts.join(", "))
}

/// Of a member in a container or a unit.
fn place_line(member: &MemberNow) -> Option<String> {
    let container = member.container.as_ref().map(Container::name);
    let place = container.or_else(|| member.unit.clone())?;
    Some(format!("  {:<15} {}", printable(&member.name), printable(&place)))
}

#[cfg(test)]
mod tests {
    use pipeprof_report::live::ThreadNow;
    use pipeprof_runner::cgroup::Container;

    use super::*;

    #[test]
    fn files_tell_how_far_their_reader_is_and_when_it_ends() {
        let file = FileNow {
            fd: 0,
            path: "/data/x\u{1b}[2J".into(),
            position_bytes: 256 << 20,
            size_bytes: 1 << 30,
            bytes_per_second: Some((8 << 20) as f64),
            writes: false,
        };
        let written = FileNow { path: "/out".into(), writes: true, fd: 1, ..file.clone() };
        let thread = |tid, cpus_used| ThreadNow { tid, name: format!("t{tid}"), cpus_used };
        let member = MemberNow {
            name: "gzip".into(),
            files: Some(vec![file, written]),
            threads: Some(vec![thread(1, Some(0.1)), thread(2, Some(0.9)), thread(3, None)]),
            container: Some(Container {
                engine: Some("docker".into()),
                id: "web".into(),
                pod: Some("7".into()),
            }),
            ..MemberNow::default()
        };
        let pipeline = PipelineNow { members: vec![member], ..PipelineNow::default() };
        insta::assert_snapshot!("detail", lines(&pipeline).join("\n"));
        assert!(lines(&PipelineNow::default()).is_empty());
    }
}
