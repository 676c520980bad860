//! What is worked out of a run once, when somebody asks for it first.

use std::sync::OnceLock;

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_runner::pipeline::Pipeline;

use crate::holding::Holding;
use crate::payload::Payload;

/// Who holds which pipe of a run and what figures are per, once somebody has asked. Its copy knows
/// nothing yet, so that of the copy of a run the pipeline may be changed.
#[derive(Debug, Default)]
pub struct Index {
    holding: OnceLock<Holding>,
    payload: OnceLock<Result<Payload, String>>,
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

    pub(crate) fn payload(
        &self,
        of: impl FnOnce() -> Result<Payload, String>,
    ) -> Result<Payload, String> {
        self.payload.get_or_init(of).clone()
    }
}
