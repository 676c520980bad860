//! `/tmp/perf-PID.map`: the names that a run-time compiler gives to what it made
//! (tools/perf/Documentation/jit-interface.txt).

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;

use super::{Function, Functions};

/// The largest map that is read; that of a busy JVM is some ten MB. Anybody can put a file there.
const MOST_BYTES: u64 = 64 << 20;

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
    /// The map of a process: as it sees the file where it has a root of its own, else ours. Empty
    /// where there is none.
    pub(super) fn of(pid: i32) -> Self {
        let name = format!("tmp/perf-{pid}.map");
        let places = [PathBuf::from(format!("/proc/{pid}/root")).join(&name)];
        let places = places.into_iter().chain([PathBuf::from("/").join(&name)]);
        places.filter_map(read).next().map_or_else(PerfMap::default, PerfMap::parse)
    }

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

fn read(path: PathBuf) -> Option<String> {
    // A FIFO of that name would be waited for.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
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
