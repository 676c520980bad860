//! The line of `/proc/PID/stat` (proc(5)).

use std::str::FromStr;

/// `PID (NAME) STATE PPID PGRP …`. Reading it takes no memory from the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatLine<'a> {
    /// The name of the process, which may hold anything: parentheses, spaces, bytes that are no text.
    pub name: &'a [u8],
    /// From the state on, which is field 3.
    fields: &'a str,
}

impl<'a> StatLine<'a> {
    /// `None` where it is no such line.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        Some(StatLine { name: line.get(open + 1..close)?, fields })
    }

    /// A field by its number in proc(5), where the name is the second.
    pub fn field<T: FromStr>(&self, number: usize) -> Option<T> {
        self.fields.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
    }

    /// What the process does: `R`, `S`, `D`, `Z`, …
    pub fn state(&self) -> Option<char> {
        self.field(3)
    }

    /// The process that started it, or adopted it.
    pub fn parent(&self) -> Option<i32> {
        self.field(4)
    }

    /// When it started, in clock ticks since the machine did.
    pub fn start_time_ticks(&self) -> Option<u64> {
        self.field(22)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_fields_is_a_name() {
        let line = b"7 (a) b \xff (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n";
        let stat = StatLine::parse(line).unwrap();
        assert_eq!(stat.name, b"a) b \xff (c");
        assert_eq!((stat.state(), stat.parent()), (Some('S'), Some(1)));
        assert_eq!((stat.field(5), stat.start_time_ticks()), (Some(2), Some(4242)));
        assert_eq!(stat.field::<u64>(2), None);
        assert_eq!(stat.field::<u64>(99), None);
        assert_eq!(StatLine::parse(b"7 (x) Z 1 2").unwrap().start_time_ticks(), None);
        for line in [&b""[..], b"7 x", b"7 )(", b"7 ()"] {
            assert_eq!(StatLine::parse(line).and_then(|stat| stat.state()), None, "{line:?}");
        }
    }
}
