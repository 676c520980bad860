//! What is computed once per run, on first use.

use std::sync::OnceLock;

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_profiler::states::ProcessSeen;
use pipeprof_runner::pipeline::{MemberId, Pipeline};
use rustc_hash::FxHashMap;

use crate::holding::Holding;
use crate::payload::Payload;

/// Which member holds which pipe of a run, and the divisor of figures per GiB, computed on first
/// use. A clone starts empty, so that the pipeline of a cloned run may be changed.
#[derive(Debug, Default)]
pub struct Index {
    holding: OnceLock<Holding>,
    payload: OnceLock<Result<Payload, String>>,
    seen: OnceLock<FxHashMap<MemberId, usize>>,
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Index::default()
    }
}

impl Index {
    pub(crate) fn of(&self, pipeline: &Pipeline, flows: &[PipeFlow]) -> &Holding {
        let holding = self.holding.get_or_init(|| Holding::of(pipeline, flows));
        debug_assert_eq!(holding.flows.len(), pipeline.pipes.len(), "pipes were changed");
        holding
    }

    /// Where among those that were looked at a process stands; the first of its pid where nothing
    /// is known of it but that.
    pub(crate) fn seen(&self, id: MemberId, processes: &[ProcessSeen]) -> Option<usize> {
        let seen = self.seen.get_or_init(|| {
            let mut places = FxHashMap::default();
            for (at, seen) in processes.iter().enumerate().rev() {
                for start_time in [seen.start_time_ticks, None] {
                    places.insert(MemberId { pid: seen.pid, start_time }, at);
                }
            }
            places
        });
        seen.get(&id).copied()
    }

    pub(crate) fn payload(
        &self,
        of: impl FnOnce() -> Result<Payload, String>,
    ) -> Result<Payload, String> {
        self.payload.get_or_init(of).clone()
    }
}
