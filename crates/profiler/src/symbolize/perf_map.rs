//! `/tmp/perf-PID.map`: the names that a run-time compiler gives to what it made
//! (tools/perf/Documentation/jit-interface.txt).

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::{Function, Functions};

/// The largest map that is read. Anybody can put a file there.
const MOST_BYTES: u64 = 256 << 20;

/// Functions by address.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    /// Sorted by start; of several with one start the last written is in force.
    functions: Vec<(u64, u64, String)>,
}

impl PerfMap {
    /// The map of a process: as it sees the file where it has a root of its own, else ours. Empty
    /// where there is none.
    pub(super) fn of(pid: i32) -> Self {
        let name = format!("tmp/perf-{pid}.map");
        let places = [PathBuf::from(format!("/proc/{pid}/root")).join(&name)];
        let places = places.into_iter().chain([PathBuf::from("/").join(&name)]);
        places.filter_map(read).next().map_or_else(PerfMap::default, |text| PerfMap::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut functions: Vec<_> = text.lines().filter_map(parse_line).collect();
        functions.sort_by_key(|&(start, ..)| start);
        functions.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
        PerfMap { functions }
    }

    pub(super) fn find(&self, addresses: &[u64]) -> Vec<Functions> {
        let function = |address: u64| {
            let after = self.functions.partition_point(|&(start, ..)| start <= address);
            let (start, size, name) = &self.functions[after.checked_sub(1)?];
            let offset = address - start;
            let name = name.as_str().into();
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

/// `START SIZE name with spaces`, numbers in hexadecimal.
fn parse_line(line: &str) -> Option<(u64, u64, String)> {
    let (start, rest) = line.split_once(' ')?;
    let (size, name) = rest.split_once(' ')?;
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    Some((number(start)?, number(size)?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_last_written_at_an_address_and_nothing_between_functions() {
        let map = PerfMap::parse(
            "7f00 10 py::old:/a.py\n7f00 20 py::new name:/a.py\nbad line\n0x7e00 8 first\n",
        );
        let found = map.find(&[0x7f05, 0x7f1f, 0x7f20, 0x7e07, 0x7e08, 0]);
        let names: Vec<Option<&str>> =
            found.iter().map(|functions| functions.first().map(|f| f.name.as_ref())).collect();
        let new = Some("py::new name:/a.py");
        assert_eq!(names, [new, new, None, Some("first"), None, None]);
        assert_eq!(found[0][0].offset, 5);
    }
}
