//! The result of one run of a ladder, with a profiler or without.

use std::time::Duration;

use pipeprof_report::ladder::{CountedBy, EndCost, Profiled};
use pipeprof_runner::plan::PairPlan;

/// The result of one run.
pub(super) struct Measured {
    /// Of a stage.
    pub(super) plan: Option<PairPlan>,
    pub(super) bytes: Option<u64>,
    pub(super) elapsed: Duration,
    pub(super) gib_per_s: Option<f64>,
    pub(super) counted_by: CountedBy,
    pub(super) ends: Vec<EndCost>,
    pub(super) profile: Option<Profiled>,
}

/// One GiB.
pub(super) const GIB: f64 = (1u64 << 30) as f64;
