//! What one pipeline's members have open, and their threads.

use pipeprof_report::escape::printable;
use pipeprof_report::live::PipelineNow;

use super::text;

/// Threads and open files of one pipeline's members.
#[derive(Debug, Default)]
pub(super) struct Detail {
    threads: Vec<String>,
    files: Vec<String>,
}

/// More than these fit no screen.
const MOST: usize = 12;

impl Detail {
    pub(super) fn of(pipeline: &PipelineNow) -> Detail {
        let mut detail = Detail::default();
        for member in &pipeline.members {
            let name = printable(&member.name);
            let threads = pipeprof_runner::discover::threads(member.pid).unwrap_or_default();
            if threads.len() > 1 {
                detail.threads.push(format!("  {name:<15}  {} threads", threads.len()));
            }
            for file in files(member.pid) {
                detail.files.push(format!("  {name:<15}  {file}"));
            }
        }
        detail
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (title, rows) in [("threads", &self.threads), ("open files", &self.files)] {
            if rows.is_empty() {
                continue;
            }
            lines.push(String::new());
            lines.push(title.to_owned());
            lines.extend(rows.iter().take(MOST).cloned());
            if rows.len() > MOST {
                lines.push(format!("  and {} more", rows.len() - MOST));
            }
        }
        lines
    }
}

/// The regular files that a process has open, with how far it is in each.
fn files(pid: i32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| -> Option<String> {
        let target = std::fs::read_link(entry.path()).ok()?;
        let meta = std::fs::metadata(entry.path()).ok().filter(std::fs::Metadata::is_file)?;
        let fd = entry.file_name().to_string_lossy().into_owned();
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let at: u64 =
            info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()?;
        let percent = match meta.len() {
            0 => String::new(),
            size => {
                format!(" {:.0} % of {}", 100.0 * at as f64 / size as f64, text::size(size as f64))
            }
        };
        let name = target.to_string_lossy();
        Some(format!("{}  {}{percent}", printable(&name), text::size(at as f64)))
    };
    folder.filter_map(file).collect()
}
