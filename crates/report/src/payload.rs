//! The payload of a pipeline: the bytes that every figure per GiB is divided by.
//!
//! All members share one divisor. The neighbours of a compressor move different amounts, so costs
//! per GiB moved by each would not compare.

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_runner::pipeline::{MemberId, Pipeline};

use crate::escape::printable;
use crate::holding::Holding;
use crate::words::units::{GIB, bytes as size};

/// Less than this says nothing of a GiB.
pub(crate) const LEAST_BYTES: u64 = 1 << 20;

/// What went into a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Bytes through `pipe`.
    pub bytes: u64,
    /// The first pipe that carried 1 MiB or more, by position in the pipeline.
    pub pipe: usize,
}

impl Payload {
    /// The payload of a pipeline, or why it isn't known.
    ///
    /// # Errors
    ///
    /// A sentence without its end, where no pipe is known to have carried 1 MiB.
    pub fn of(pipeline: &Pipeline, flows: &[PipeFlow]) -> Result<Payload, String> {
        Payload::find(pipeline, flows, &Holding::of(pipeline, flows))
    }

    pub(crate) fn find(
        pipeline: &Pipeline,
        flows: &[PipeFlow],
        holding: &Holding,
    ) -> Result<Payload, String> {
        let pipes = &pipeline.pipes;
        let order = pipeline.upstream_first();
        let mut place_of = vec![usize::MAX; order.len()];
        order.iter().enumerate().for_each(|(place, &member)| place_of[member] = place);
        let place = |&id: &MemberId| Some(place_of[holding.place(id)?]);
        let mut upstream: Vec<usize> = (0..pipes.len()).collect();
        upstream.sort_by_cached_key(|&at| {
            pipes[at].writers.iter().filter_map(place).min().unwrap_or(usize::MAX)
        });
        let bytes = |at: usize| flows.get(holding.flow(at)?)?.bytes.known();
        let first = upstream
            .iter()
            .find_map(|&pipe| Some((bytes(pipe).filter(|bytes| *bytes >= LEAST_BYTES)?, pipe)));
        match first {
            Some((bytes, pipe)) => Ok(Payload { bytes, pipe }),
            None if pipes.is_empty() => Err("the pipeline has no pipe".to_owned()),
            None if upstream.iter().any(|&pipe| bytes(pipe).is_none()) => {
                Err("the bytes of its pipes are not known".to_owned())
            }
            None => Err("less than 1 MiB went through its pipes".to_owned()),
        }
    }

    /// What figures are per: `per GiB of input (8.2 GiB from zcat to sort)`.
    pub fn words(self, pipeline: &Pipeline) -> String {
        let places = pipeline.places();
        let names = |ids: &[MemberId]| -> String {
            let members = ids.iter().filter_map(|id| pipeline.members.get(*places.get(id)?));
            let mut names: Vec<_> = members.map(|member| printable(&member.comm)).collect();
            names.dedup();
            names.truncate(3);
            names.join(", ")
        };
        let Some(pipe) = pipeline.pipes.get(self.pipe) else { return "per GiB".to_owned() };
        let (from, to) = (names(&pipe.writers), names(&pipe.readers));
        format!("per GiB of input ({} from {from} to {to})", size(self.bytes as f64))
    }

    /// In GiB.
    pub fn gib(self) -> f64 {
        self.bytes as f64 / GIB
    }
}
