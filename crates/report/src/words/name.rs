//! What a member is called.

use pipeprof_runner::pipeline::End;

use crate::escape::printable;
use crate::words::units::thousands;

/// `gzip (4121)`, `writer pp-write (4121)` where it is an end of the built-in pair, `cc1 ×5,000`
/// where it stands for so many processes.
pub(crate) fn label(end: Option<End>, comm: &str, pid: i32, processes: usize) -> String {
    let comm = printable(comm);
    match end {
        _ if processes > 1 => format!("{comm} ×{}", thousands(processes as u64)),
        Some(end) => format!("{} {comm} ({pid})", end.as_str()),
        None => format!("{comm} ({pid})"),
    }
}

/// `gzip`, or `writer`.
pub(crate) fn short(end: Option<End>, comm: &str) -> String {
    end.map_or_else(|| printable(comm).into_owned(), |end| end.as_str().to_owned())
}

/// Whether this is how a person named it: by pid, by name, or by the end that it is.
pub(crate) fn is_called(name: &str, pid: i32, comm: &str, end: Option<End>) -> bool {
    comm == name || end.is_some_and(|end| end.as_str() == name) || pid.to_string() == name
}
