//! Bytes through one pipe, from what is counted at its two ends.
//!
//! The counters of a process sum over all its descriptors and miss what it splices, so either end
//! may count too much (it reads or writes elsewhere too) or too little (it splices). Where both
//! ends agree, neither did. Where they don't, an end that was seen splicing is set aside; of two
//! that were not, the smaller count is the pipe's: the other end moved bytes elsewhere as well.

use serde::Serialize;

/// What is known of one end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndCount {
    /// Bytes by read or write calls of all members at this end, over all descriptors.
    pub bytes: u64,
    /// Its calls.
    pub calls: u64,
    /// A member at this end was seen in a splicing call.
    pub splices: bool,
    /// A member at this end holds the same kind of end of another pipe as well.
    pub shared: bool,
}

/// Where a number of bytes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
}

impl Source {
    /// In words, for a table.
    pub fn describe(self) -> &'static str {
        match self {
            Source::Pair => "counted by the pair itself",
            Source::BothEnds => "/proc/PID/io of both ends",
            Source::Writer => "/proc/PID/io of the writer",
            Source::Reader => "/proc/PID/io of the reader",
        }
    }
}

/// Bytes through a pipe, or why they are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
        why: &'static str,
    },
}

impl Bytes {
    /// The number, where it is known.
    pub fn known(self) -> Option<u64> {
        match self {
            Bytes::Known { bytes, .. } => Some(bytes),
            Bytes::Unknown { .. } => None,
        }
    }
}

/// Puts the two ends together; `None` is an end that could not be read.
pub fn estimate(writer: Option<EndCount>, reader: Option<EndCount>) -> Bytes {
    let known = |bytes, source| Bytes::Known { bytes, source };
    let counts = |end: &EndCount| !end.splices && !end.shared;
    match (writer, reader) {
        (None, None) => Bytes::Unknown { why: "/proc/PID/io of neither end can be read" },
        (Some(w), Some(r)) if w.bytes.abs_diff(r.bytes) * 100 <= w.bytes.max(r.bytes) => {
            if w.bytes == 0 && (w.splices || r.splices) {
                return Bytes::Unknown { why: "both ends splice, which nothing counts" };
            }
            // The reader's count is what has gone through; the writer's may still be in the pipe.
            known(r.bytes, Source::BothEnds)
        }
        (w, r) => match (w.filter(counts), r.filter(counts)) {
            (Some(w), Some(r)) if w.bytes < r.bytes => known(w.bytes, Source::Writer),
            (_, Some(r)) => known(r.bytes, Source::Reader),
            (Some(w), None) => known(w.bytes, Source::Writer),
            (None, None) => {
                let splices = |end: Option<EndCount>| end.is_some_and(|end| end.splices);
                Bytes::Unknown {
                    why: if splices(w) && splices(r) {
                        "both ends splice, which nothing counts"
                    } else {
                        "its ends serve several pipes, and /proc/PID/io sums over them"
                    },
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: u64) -> EndCount {
        EndCount { bytes, calls: 1, splices: false, shared: false }
    }

    fn splicing(bytes: u64) -> EndCount {
        EndCount { splices: true, ..end(bytes) }
    }

    fn shared(bytes: u64) -> EndCount {
        EndCount { shared: true, ..end(bytes) }
    }

    #[test]
    fn the_two_ends_put_together() {
        let known = |bytes, source| Bytes::Known { bytes, source };
        let of = |w, r| estimate(Some(w), Some(r));
        assert_eq!(of(end(1000), end(995)), known(995, Source::BothEnds));
        // The writer writes a log too; the reader reads a dictionary too.
        assert_eq!(of(end(5000), end(1000)), known(1000, Source::Reader));
        assert_eq!(of(end(1000), end(5000)), known(1000, Source::Writer));
        assert_eq!(of(splicing(0), end(1000)), known(1000, Source::Reader));
        assert_eq!(of(end(1000), splicing(3)), known(1000, Source::Writer));
        assert_eq!(of(shared(3000), end(1000)), known(1000, Source::Reader));
        assert_eq!(of(end(1000), shared(3000)), known(1000, Source::Writer));
        assert_eq!(estimate(None, Some(end(7))), known(7, Source::Reader));
        for unknown in
            [of(splicing(0), splicing(0)), of(splicing(9), shared(2)), estimate(None, None)]
        {
            assert_eq!(unknown.known(), None);
        }
    }
}
