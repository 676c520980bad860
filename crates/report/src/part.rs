//! The part of a recording that a run covers.

use serde::Serialize;

/// A stretch of a recording in which one and the same limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// From 1.
    pub number: usize,
    /// How many phases there are.
    pub of: usize,
    /// Since the looks began, in nanoseconds, as the verdict's phases have it.
    pub from_ns: u64,
    /// Likewise.
    pub until_ns: u64,
    /// Start and end by the clock of the recording.
    #[serde(skip)]
    pub clock_ns: (u64, u64),
}
