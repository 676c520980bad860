//! What the control group of a member limits, in numbers.

use pipeprof_profiler::states::{GroupLimits, ProcessSeen};
use serde::Serialize;

/// What the control group of a member limits, with those above it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ControlGroup {
    /// CPUs that `cpu.max` (of version 1 `cpu.cfs_quota_us`) allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<f64>,
    /// For how long that kept it from running, on all CPUs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_ns: Option<u64>,
    /// Of version 2 alone.
    #[serde(flatten)]
    pub limits: GroupLimits,
}

impl ControlGroup {
    /// `None` where nothing is limited, or nothing is known.
    pub(crate) fn of(seen: &ProcessSeen) -> Option<Self> {
        let group = ControlGroup {
            cpu_quota: seen.quota_cpus,
            throttled_ns: seen.quota_cpus.map(|_| seen.throttled_ns),
            limits: seen.limits.clone().unwrap_or_default(),
        };
        (group != ControlGroup::default()).then_some(group)
    }
}
