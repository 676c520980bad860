//! What can be tried on a pipeline.

use serde::Serialize;

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Treatment {
    /// A larger pipe.
    Capacity {
        /// Index of the pipe.
        pipe: usize,
        /// Its new capacity.
        bytes: u64,
    },
    /// Members each on CPUs of their own choice.
    Cpus {
        /// What for.
        why: Placement,
        /// Index of each member that moves, and where to.
        members: Vec<(usize, Vec<usize>)>,
    },
    /// A higher nice value for a member that competes with the busiest one.
    Nice {
        /// Index of the member.
        member: usize,
        /// By so much.
        by: i32,
    },
    /// Another command line, run anew.
    Line {
        /// The whole line.
        line: String,
    },
}

/// What CPUs are assigned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Writer and reader of a pipe on one CPU.
    SameCpu,
    /// Writer and reader of a pipe on two cores that share their last-level cache.
    DifferentCores,
    /// Writer and reader of a pipe on cores that do not share their last-level cache.
    DifferentCaches,
    /// Every member on a CPU of its own.
    Spread,
    /// The busiest member on a CPU that the others leave to it.
    Alone,
}
