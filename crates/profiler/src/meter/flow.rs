//! The measurements of one pipe, for the whole watch and for its last stretch.

use pipeprof_runner::discover::Level;
use pipeprof_runner::pipeline::Pipe;
use serde::{Deserialize, Serialize};

use super::{Bytes, Fill, Point, series};

/// What was measured of one pipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipeFlow {
    /// Inode of the pipe.
    pub inode: u64,
    /// The device of that inode; 0 in recordings from before it was noted.
    #[serde(default)]
    pub device: u64,
    /// Bytes that went through while it was watched.
    pub bytes: Bytes,
    /// Write calls at its write end, where the members there write to no other pipe.
    pub writes: Option<u64>,
    /// Read calls at its read end, likewise.
    pub reads: Option<u64>,
    /// Bytes so far, over time.
    pub over_time: Vec<Point>,
    /// Bytes in it at the looks into it; fewer of them than [`Fill::looks`] after a long watch.
    /// Empty if it was not looked at, and in older recordings.
    #[serde(default)]
    pub fill_over_time: Vec<Point>,
    /// `F_GETPIPE_SZ`.
    pub capacity_bytes: Option<u64>,
    /// How full it was; `None` where it could not be opened (a named FIFO, another user's).
    pub fill: Option<Fill>,
}

impl PipeFlow {
    /// Whether it is of this pipe.
    pub fn is_of(&self, pipe: &Pipe) -> bool {
        self.inode == pipe.inode && (self.device == pipe.device || self.device == 0)
    }

    /// What is known of it from a time on, in nanoseconds since the watch began.
    pub fn since(self, from_ns: u64) -> PipeFlow {
        // More is remembered than is ever asked for, so a pipe with no count as old is younger.
        let is_younger = self.over_time.first().is_some_and(|first| first.at_ns > from_ns);
        let before = match is_younger {
            true => Some(0),
            false => series::count_at(&self.over_time, from_ns),
        };
        let bytes = match (self.bytes, before) {
            (Bytes::Known { bytes, source }, Some(before)) => {
                Bytes::Known { bytes: bytes.saturating_sub(before), source }
            }
            (Bytes::Known { .. }, None) => Bytes::Unknown { why: NOT_KEPT.into() },
            (unknown, _) => unknown,
        };
        let since = self.over_time.into_iter().filter(|point| point.at_ns >= from_ns);
        let since = since.map(|point| Point {
            at_ns: point.at_ns - from_ns,
            bytes: point.bytes.saturating_sub(before.unwrap_or(0)),
        });
        let levels = self.fill_over_time.into_iter().filter(|point| point.at_ns >= from_ns);
        let levels = levels.map(|point| Point { at_ns: point.at_ns - from_ns, ..point });
        PipeFlow {
            bytes,
            over_time: since.collect(),
            fill_over_time: levels.collect(),
            // These are sums over all of the watch.
            writes: None,
            reads: None,
            fill: None,
            ..self
        }
    }

    /// What is known of it between two times, in nanoseconds since the watch began.
    #[must_use]
    pub fn within(self, from_ns: u64, until_ns: u64) -> PipeFlow {
        let levels = self.fill_over_time.iter();
        let within = levels.filter(|point| (from_ns..until_ns).contains(&point.at_ns));
        let capacity = self.capacity_bytes;
        let fill = self.fill.and(capacity).map(|capacity| {
            let level = |point: &Point| Level { fill_bytes: point.bytes, capacity_bytes: capacity };
            Fill::of(within.map(level))
        });
        let after = match (&self.bytes, self.over_time.last()) {
            (Bytes::Known { bytes, .. }, Some(last)) if last.at_ns > until_ns => {
                let then = series::count_at(&self.over_time, until_ns).unwrap_or(0);
                bytes.saturating_sub(then)
            }
            _ => 0,
        };
        let mut part = self.since(from_ns);
        let length = until_ns.saturating_sub(from_ns);
        part.over_time.retain(|point| point.at_ns <= length);
        part.fill_over_time.retain(|point| point.at_ns <= length);
        if let Bytes::Known { bytes, .. } = &mut part.bytes {
            *bytes = bytes.saturating_sub(after);
        }
        PipeFlow { fill: fill.filter(|fill| fill.looks > 0), ..part }
    }
}

const NOT_KEPT: &str = "it was not counted at the beginning of the part that was kept";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Source;

    #[test]
    fn parts_of_a_flow_add_up_to_it() {
        let second = 1_000_000_000;
        let points = |bytes: &dyn Fn(u64) -> u64| -> Vec<Point> {
            (0..=100).map(|at| Point { at_ns: at * second / 10, bytes: bytes(at) }).collect()
        };
        let whole = PipeFlow {
            inode: 7,
            device: 1,
            bytes: Bytes::Known { bytes: 10_000, source: Source::BothEnds },
            writes: Some(1),
            reads: Some(1),
            // Four seconds at 1,000 bytes a tenth, then nothing.
            over_time: points(&|at| 250 * at.min(40)),
            fill_over_time: points(&|at| if at < 40 { 65_536 } else { 0 }),
            capacity_bytes: Some(65_536),
            fill: Some(Fill::default()),
        };
        let part = |from: u64, until: u64| whole.clone().within(from * second, until * second);
        let bytes = |flow: &PipeFlow| flow.bytes.known();
        let (first, rest) = (part(0, 2), part(2, 10));
        assert_eq!((bytes(&first), bytes(&rest)), (Some(5_000), Some(5_000)));
        assert_eq!(bytes(&part(5, 10)), Some(0));
        assert_eq!(first.fill.and_then(|fill| fill.full_share()), Some(1.0));
        assert_eq!(part(5, 10).fill.and_then(|fill| fill.empty_share()), Some(1.0));
        assert_eq!(first.over_time.last().map(|point| point.bytes), Some(5_000));
        assert_eq!(first.writes, None);
    }
}
