//! The recordings of two hosts as one pipeline.

use std::path::Path;

use pipeprof_profiler::recording::SUFFIX;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::joined::{Joined, Side};
use pipeprof_report::summary::Summary;

use crate::args::scope::Scope;
use crate::capture::reopen;
use crate::ui::{Ui, explained};

pub(super) fn join(paths: [&Path; 2], scope: &Scope, ui: &Ui) -> anyhow::Result<Joined> {
    let [first, second] = paths;
    let (one, other) =
        (reopen(first, None, scope.clone(), ui)?, reopen(second, None, scope.clone(), ui)?);
    let summaries = [&one, &other]
        .map(|captured| Summary::of(&captured.run, &Highlights::article(), View::default()));
    let names = names(paths);
    let side = |at: usize, run| Side { run, summary: &summaries[at], recording: &names[at] };
    Joined::of(side(0, &one.run), side(1, &other.run)).map_err(explained)
}

/// The names of two recordings: their paths, where the last part is the same.
fn names(paths: [&Path; 2]) -> [String; 2] {
    let ending = format!(".{SUFFIX}");
    let short = paths.map(|path| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        name.strip_suffix(&ending).unwrap_or(&name).to_owned()
    });
    if short[0] == short[1] { paths.map(|path| path.display().to_string()) } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_called_by_what_tells_them_apart() {
        let of = |one: &str, other: &str| names([Path::new(one), Path::new(other)]);
        assert_eq!(of("a/here.pipeprof", "/b/there.pipeprof/"), ["here", "there"]);
        assert_eq!(of("a/x.pipeprof", "b/x.pipeprof"), ["a/x.pipeprof", "b/x.pipeprof"]);
    }
}
