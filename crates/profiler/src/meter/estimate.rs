//! Bytes through one pipe, from what is counted at its two ends.
//!
//! The counters of a process sum over all its descriptors and miss what it splices, so either end
//! may count too much (it reads or writes elsewhere too) or too little (it splices). An end that
//! has nowhere else to read from, or to write to, cannot count too much: all it counts went through
//! the pipe. An end whose program has no call that splices cannot count too little. So:
//!
//! - Two ends that can have neither error must agree, except for what is still inside the pipe. If
//!   they don't, one of them did something unseen, and the bytes are unknown.
//! - If only one end can have neither error, its count is the pipe's.
//! - An end whose splices were counted by system call counts them too.
//! - If neither end is free of both errors, the bytes are unknown: a wrong number is worse than a
//!   missing one.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What is known of one end of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndCount {
    /// Bytes by read or write calls of all members at this end, over all descriptors.
    pub bytes: u64,
    /// Its calls.
    pub calls: u64,
    /// A member at this end can splice: its program has the call, or was seen in it.
    pub splices: bool,
    /// A member at this end reads, or writes, something else as well.
    pub elsewhere: bool,
    /// Bytes that its splices moved, where the system calls were counted.
    pub spliced: Option<u64>,
    /// How many processes at this end were counted from their birth: each has read its libraries
    /// and locales, too, before anybody could see it.
    pub born: u32,
}

/// What a program reads before its own code runs: `sleep` of Debian 12 8 KiB, bash 14 KiB.
pub(super) const START_UP_BYTES: u64 = 16 << 10;

/// How many times that much a reader has to have read for it not to matter: most programs read
/// half of it, a sixteenth of the whole then.
const START_UP_PARTS: u64 = 8;

impl EndCount {
    /// With its splices, where they are known.
    fn whole(self) -> Self {
        match self.spliced {
            Some(spliced) => EndCount { bytes: self.bytes + spliced, splices: false, ..self },
            None => self,
        }
    }
}

/// Where a number of bytes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Counted by the pair itself.
    Pair,
    /// `/proc/PID/io` of writer and reader, which agree within 1 %.
    BothEnds,
    /// `/proc/PID/io` of the writer.
    Writer,
    /// `/proc/PID/io` of the reader.
    Reader,
    /// The exits of the system calls that splice. While they are counted, every system call of the
    /// machine takes some 70 ns longer.
    Syscalls,
    /// `tcpi_bytes_received` of the socket that receives.
    TcpInfo,
}

impl Source {
    /// In words, for a table.
    pub fn describe(self) -> &'static str {
        match self {
            Source::Pair => "counted by the pair itself",
            Source::BothEnds => "/proc/PID/io of both ends",
            Source::Writer => "/proc/PID/io of the writer",
            Source::Reader => "/proc/PID/io of the reader",
            Source::TcpInfo => "tcp_info of the socket that receives",
            Source::Syscalls => {
                "splices counted by raw_syscalls:sys_exit, which adds some 70 ns to each system \
                 call of the machine"
            }
        }
    }
}

/// Bytes through a pipe, or why they are not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bytes {
    /// So many.
    Known {
        /// Bytes.
        bytes: u64,
        /// Of whom.
        source: Source,
    },
    /// Not measured.
    Unknown {
        /// Why.
        why: Cow<'static, str>,
    },
}

impl Bytes {
    /// The number, where it is known.
    pub fn known(&self) -> Option<u64> {
        match self {
            Bytes::Known { bytes, .. } => Some(*bytes),
            Bytes::Unknown { .. } => None,
        }
    }
}

/// Puts the two ends together; `None` is an end that could not be read. `capacity_bytes` is what the
/// pipe may hold: so far either end may be ahead of the other, as a reader is that found it full.
pub fn estimate(writer: Option<EndCount>, reader: Option<EndCount>, capacity_bytes: u64) -> Bytes {
    let by_calls = |end: Option<EndCount>| end.is_some_and(|end| end.spliced.is_some());
    let (w, r) = (writer.map(EndCount::whole), reader.map(EndCount::whole));
    match put_together(w, r, capacity_bytes) {
        Bytes::Known { bytes, source } => {
            let counted = match source {
                Source::Writer => by_calls(writer),
                Source::Reader => by_calls(reader),
                _ => by_calls(writer) || by_calls(reader),
            };
            Bytes::Known { bytes, source: if counted { Source::Syscalls } else { source } }
        }
        unknown => unknown,
    }
}

fn put_together(writer: Option<EndCount>, reader: Option<EndCount>, capacity_bytes: u64) -> Bytes {
    let known = |bytes, source| Bytes::Known { bytes, source };
    let (w, r) = match (writer, reader) {
        (None, None) => {
            return Bytes::Unknown { why: "/proc/PID/io cannot be read at either end".into() };
        }
        ends => ends,
    };
    let alone = |end: Option<EndCount>| end.filter(|end| !end.elsewhere);
    // Without the writer it is unknown how much of what a program read was its own libraries.
    let by_reader = |r: EndCount| {
        if r.bytes < u64::from(r.born) * START_UP_BYTES * START_UP_PARTS {
            Bytes::Unknown { why: START_UP_COUNTS.into() }
        } else {
            known(r.bytes, Source::Reader)
        }
    };
    match (alone(w), alone(r)) {
        (Some(w), Some(r)) => {
            let start_up = u64::from(r.born) * START_UP_BYTES;
            let slack = capacity_bytes + if r.bytes > w.bytes { start_up } else { 0 };
            let apart = w.bytes.abs_diff(r.bytes).saturating_sub(slack);
            let agree = apart * 100 <= w.bytes.max(r.bytes);
            match (w.splices, r.splices) {
                (true, true) => Bytes::Unknown { why: BOTH_SPLICE.into() },
                (false, true) => known(w.bytes, Source::Writer),
                (true, false) => by_reader(r),
                // Nothing was in the pipe before: what was never written went through no pipe.
                (false, false) if agree && r.born > 0 && r.bytes > w.bytes => {
                    known(w.bytes, Source::BothEnds)
                }
                // The reader's count is what has gone through; the writer's may still be inside.
                (false, false) if agree => known(r.bytes, Source::BothEnds),
                (false, false) => Bytes::Unknown {
                    why: format!("{DISAGREE} ({} written, {} read)", w.bytes, r.bytes).into(),
                },
            }
        }
        (Some(w), None) if !w.splices => known(w.bytes, Source::Writer),
        (None, Some(r)) if !r.splices => by_reader(r),
        _ => {
            let splices = |end: Option<EndCount>| end.is_some_and(|end| end.splices);
            let why = if splices(w) && splices(r) { BOTH_SPLICE } else { BOTH_ELSEWHERE };
            Bytes::Unknown { why: why.into() }
        }
    }
}

/// Likewise of a Unix socket, of which the kernel counts what `read` and `write` move and not what
/// `recv` and `send` do (`sock_recvmsg` in net/socket.c, v6.18, never calls `add_rchar`). So neither
/// end can be trusted alone: both must have used the former, which shows in that they agree.
pub fn estimate_socket(
    writer: Option<EndCount>,
    reader: Option<EndCount>,
    capacity_bytes: u64,
) -> Bytes {
    let alone = |end: Option<EndCount>| end.filter(|end| !end.elsewhere);
    let (Some(w), Some(r)) = (alone(writer), alone(reader)) else {
        return Bytes::Unknown { why: NO_COUNTER.into() };
    };
    let (less, more) = (w.bytes.min(r.bytes), w.bytes.max(r.bytes));
    let apart = (more - less).saturating_sub(capacity_bytes);
    if less > 0 && more <= 2 * less && apart * 100 <= more {
        Bytes::Known { bytes: r.bytes, source: Source::BothEnds }
    } else {
        Bytes::Unknown { why: NO_COUNTER.into() }
    }
}

const NO_COUNTER: &str = "the kernel does not count what recv and send move through a Unix socket, \
                          and its two ends disagree on what read and write moved";

pub(super) const BOTH_SPLICE: &str = "both ends can splice, which /proc/PID/io does not count";
const START_UP_COUNTS: &str = "only its reader can be counted, and it has read little more than a \
                               program reads at its start";
const DISAGREE: &str =
    "the two ends disagree: one of them also read or wrote something that was not seen";
const BOTH_ELSEWHERE: &str =
    "no end uses this pipe alone, and /proc/PID/io sums over all descriptors";

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: u64) -> EndCount {
        EndCount { bytes, calls: 1, ..EndCount::default() }
    }

    fn splicing(bytes: u64) -> EndCount {
        EndCount { splices: true, ..end(bytes) }
    }

    fn elsewhere(bytes: u64) -> EndCount {
        EndCount { elsewhere: true, ..end(bytes) }
    }

    #[test]
    fn a_socket_is_known_where_both_ends_agree() {
        let of = |w, r| estimate_socket(Some(w), Some(r), 700).known();
        assert_eq!(of(end(1000), end(900)), Some(900));
        // That a program could splice says nothing of one that reads.
        assert_eq!(of(splicing(90_000), end(90_500)), Some(90_500));
        // One end, or both, used recv and send, for all or for a part.
        for (w, r) in [(0, 0), (0, 600), (1000, 400), (90_000, 60_000)] {
            assert_eq!(of(end(w), end(r)), None, "{w} {r}");
        }
        assert_eq!(of(elsewhere(1000), end(1000)), None);
        assert_eq!(estimate_socket(None, Some(end(9)), 700).known(), None);
    }

    #[test]
    fn the_two_ends_put_together() {
        let known = |bytes, source| Bytes::Known { bytes, source };
        let of = |w, r| estimate(Some(w), Some(r), 700);
        assert_eq!(of(end(1000), end(995)), known(995, Source::BothEnds));
        // The writer writes a log too; the reader reads a dictionary too.
        assert_eq!(of(elsewhere(5000), end(1000)), known(1000, Source::Reader));
        assert_eq!(of(end(1000), elsewhere(5000)), known(1000, Source::Writer));
        // pv at one end.
        assert_eq!(of(splicing(3), end(1000)), known(1000, Source::Reader));
        assert_eq!(of(end(1000), splicing(3)), known(1000, Source::Writer));
        // What is still in the pipe has not gone through; what was in it at first has.
        assert_eq!(of(end(0), end(700)), known(700, Source::BothEnds));
        assert_eq!(of(end(1000), end(400)), known(400, Source::BothEnds));
        assert_eq!(estimate(None, Some(end(7)), 700), known(7, Source::Reader));
        // Twelve children of a shell have read their libraries, but no more than that.
        let born = |bytes| EndCount { born: 12, ..end(bytes) };
        assert_eq!(of(end(1000), born(100_000)), known(1000, Source::BothEnds));
        assert_eq!(of(end(1000), born(900)), known(900, Source::BothEnds));
        assert_eq!(of(end(1000), born(300_000)).known(), None);
        // Splices counted by call, at one end.
        let counted = EndCount { spliced: Some(900), ..splicing(7) };
        assert_eq!(of(splicing(0), counted), known(907, Source::Syscalls));
        assert_eq!(
            of(counted, EndCount { elsewhere: true, ..splicing(1) }),
            known(907, Source::Syscalls)
        );
        assert_eq!(
            of(end(1000), EndCount { elsewhere: true, ..counted }),
            known(1000, Source::Writer)
        );
        for unknown in [
            of(splicing(0), splicing(0)),
            of(splicing(9), elsewhere(2)),
            of(elsewhere(9), elsewhere(9)),
            // More than fits into a pipe; and more read than was ever written.
            of(end(9 << 20), end(400)),
            of(end(1000), end(1720)),
            of(EndCount { elsewhere: true, ..splicing(9) }, splicing(9)),
            estimate(None, None, 700),
        ] {
            assert_eq!(unknown.known(), None);
        }
    }
}
