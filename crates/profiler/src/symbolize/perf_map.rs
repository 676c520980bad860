//! `/tmp/perf-PID.map`: the names that a run-time compiler gives to what it made
//! (tools/perf/Documentation/jit-interface.txt).

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustc_hash::FxHashMap;

use super::{Function, Functions};
use crate::process::Process;
use crate::regular_file;

/// The largest map that is read; that of a busy JVM is some ten MB. Anybody can put a file there.
const MOST_BYTES: u64 = 64 << 20;

/// Processes that are looked at each time, ten times a second.
const LOOKS: usize = 32;

/// Times that a process is looked at each time, before it is looked at seldom.
const OFTEN: u32 = 10;

/// See [`PerfMaps::hold_some`].
const SELDOM: u32 = 16;

/// Functions by address.
#[derive(Debug, Default)]
pub struct PerfMap {
    text: String,
    /// Sorted by start; of several with one start the last written is in force.
    functions: Vec<Listed>,
}

#[derive(Debug)]
struct Listed {
    start: u64,
    size: u64,
    /// Where in the text.
    name: Range<u32>,
}

impl PerfMap {
    /// A map's lines. What is no function is passed over.
    pub fn parse(text: String) -> Self {
        let mut at = 0;
        let listed = |line: &str| {
            let listed = parse_line(line.trim_end_matches(['\n', '\r']), at);
            at += line.len();
            listed
        };
        let mut functions: Vec<Listed> = text.split_inclusive('\n').filter_map(listed).collect();
        functions.sort_by_key(|function| function.start);
        functions.dedup_by(|next, kept| {
            let same = next.start == kept.start;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
        PerfMap { text, functions }
    }

    /// The function at each address, if any.
    pub fn find(&self, addresses: &[u64]) -> Vec<Functions> {
        let function = |address: u64| {
            let after = self.functions.partition_point(|listed| listed.start <= address);
            let Listed { start, size, name } = &self.functions[after.checked_sub(1)?];
            let offset = address - start;
            let name = self.text[name.start as usize..name.end as usize].into();
            (offset < *size).then_some(Function { name, module: None, offset, inlined: false })
        };
        addresses.iter().map(|&address| function(address).into_iter().collect()).collect()
    }
}

/// The maps of the processes of a recording. Maps that were found while their processes lived are
/// held open: after its end, the `/tmp` of a container is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerfMaps {
    held: FxHashMap<i32, Arc<File>>,
    /// Where in a list of processes to look next.
    next: usize,
    /// How often each process was looked at in vain.
    in_vain: FxHashMap<i32, u32>,
    until: Option<SystemTime>,
}

impl PerfMaps {
    /// Of a recording that ended then.
    pub(crate) fn until(self, until: Option<SystemTime>) -> Self {
        PerfMaps { until, ..self }
    }

    /// Holds the maps of these processes, as far as they have begun any.
    pub(crate) fn hold(&mut self, pids: impl IntoIterator<Item = i32>) {
        for pid in pids {
            if !self.held.contains_key(&pid)
                && let Some(process) = Process::living(pid)
                && let Some(file) = open(Some(&process), pid)
            {
                self.held.insert(pid, Arc::new(file));
            }
        }
    }

    /// Likewise, for a few processes in turn: a look takes some 30 µs. A process that has no map
    /// within a second is looked at once in [`SELDOM`] times.
    pub(crate) fn hold_some(&mut self, pids: &[i32]) {
        let (before, after) = pids.split_at(self.next.min(pids.len()));
        let in_vain = &mut self.in_vain;
        let mut is_due = |pid: &i32| {
            let looks = in_vain.entry(*pid).or_default();
            *looks = looks.wrapping_add(1);
            *looks <= OFTEN || looks.is_multiple_of(SELDOM)
        };
        let due: Vec<i32> =
            after.iter().chain(before).copied().take(LOOKS).filter(|pid| is_due(pid)).collect();
        self.hold(due);
        self.next = if LOOKS < after.len() { self.next + LOOKS } else { 0 };
    }

    /// The map of a process; empty where there is none.
    pub(super) fn of(&self, pid: i32) -> PerfMap {
        let opened;
        let file = match self.held.get(&pid) {
            Some(file) => Some(&**file),
            None => {
                // Another process may have the number by now.
                let process = Process::living(pid).filter(|process| process.was_there(self.until));
                opened = open(process.as_ref(), pid);
                opened.as_ref()
            }
        };
        file.and_then(|file| read(file).ok()).map_or_else(PerfMap::default, PerfMap::parse)
    }
}

/// Opens the map of a process: as the process sees it, by its number there; else as we do.
fn open(process: Option<&Process>, pid: i32) -> Option<File> {
    let name = |pid| format!("tmp/perf-{pid}.map");
    let as_seen = process.and_then(|process| {
        regular_file::open_below(&process.root(), Path::new(&name(process.pid_within()))).ok()
    });
    let file =
        as_seen.or_else(|| regular_file::open_below(Path::new("/"), Path::new(&name(pid))).ok())?;
    // Anybody can put a file there.
    let owner = file.metadata().ok()?.uid();
    let is_trusted = owner == 0
        || owner == nix::unistd::geteuid().as_raw()
        || process.is_some_and(|process| process.owner() == Some(owner));
    is_trusted.then_some(file)
}

fn read(mut file: &File) -> std::io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `START SIZE name with spaces`, numbers in hexadecimal; the line begins at `at` in the text.
fn parse_line(line: &str, at: usize) -> Option<Listed> {
    let (start, rest) = line.split_once(' ')?;
    let (size, name) = rest.split_once(' ')?;
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (start, size) = (number(start)?, number(size)?);
    let end = at + line.len();
    let name = u32::try_from(end - name.len()).ok()?..u32::try_from(end).ok()?;
    (size > 0).then_some(Listed { start, size, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_last_written_at_an_address_and_nothing_between_functions() {
        let map = PerfMap::parse(
            "7f00 10 py::old:/a.py\n7f00 20 py::new name:/a.py\nbad line\n0x7e00 8 first\n"
                .to_owned(),
        );
        let found = map.find(&[0x7f05, 0x7f1f, 0x7f20, 0x7e07, 0x7e08, 0]);
        let names: Vec<Option<&str>> =
            found.iter().map(|functions| functions.first().map(|f| f.name.as_ref())).collect();
        let new = Some("py::new name:/a.py");
        assert_eq!(names, [new, new, None, Some("first"), None, None]);
        assert_eq!(found[0][0].offset, 5);
    }
}
