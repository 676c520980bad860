//! What was measured of one pipe, and of the last stretch of it.

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
    /// Empty where nobody looked, and in recordings from before it was kept.
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
}

const NOT_KEPT: &str = "it was not counted where what was kept begins";
