//! Which member holds which pipe, and which flow belongs to which pipe, as a look-up table: a file
//! may have thousands of them.

use std::collections::{HashMap, HashSet};

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_runner::pipeline::{End, MemberId, PipeKey, Pipeline};

/// Of one pipeline and its flows.
#[derive(Debug)]
pub(crate) struct Holding {
    places: HashMap<MemberId, usize>,
    /// The pipes whose write and read end a member holds, in the order of the pipeline; without those
    /// that are its own affair.
    at: HashMap<MemberId, [Vec<usize>; 2]>,
    ends: HashSet<(usize, MemberId, End)>,
    pub(super) flows: Vec<Option<usize>>,
}

impl Holding {
    pub(crate) fn of(pipeline: &Pipeline, flows: &[PipeFlow]) -> Holding {
        let mut at: HashMap<MemberId, [Vec<usize>; 2]> = HashMap::new();
        let mut ends = HashSet::new();
        let between = pipeline.pipes.iter().enumerate().filter(|(_, pipe)| !pipe.is_internal());
        for (index, pipe) in between {
            for (place, end) in End::BOTH.into_iter().enumerate() {
                for &id in pipe.at(end) {
                    if ends.insert((index, id, end)) {
                        at.entry(id).or_default()[place].push(index);
                    }
                }
            }
        }
        let mut by_inode: HashMap<u64, Vec<usize>> = HashMap::new();
        // Several of one pipe: only the first counts.
        let mut known = HashSet::new();
        for (index, flow) in flows.iter().enumerate() {
            if known.insert((flow.inode, flow.device)) {
                by_inode.entry(flow.inode).or_default().push(index);
            }
        }
        let mut by_device: HashMap<PipeKey, usize> = HashMap::new();
        let flows = pipeline.pipes.iter().map(|pipe| {
            *by_device.entry(pipe.key()).or_insert_with(|| {
                let of = by_inode.get(&pipe.inode).into_iter().flatten().copied();
                of.into_iter().find(|&at| flows[at].is_of(pipe)).unwrap_or(usize::MAX)
            })
        });
        let flows = flows.map(|at| (at != usize::MAX).then_some(at)).collect();
        Holding { places: pipeline.places(), at, ends, flows }
    }

    /// Where a member stands in the pipeline.
    pub(crate) fn place(&self, id: MemberId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// The pipes to or from others that a member writes to, or reads from, in the order of the
    /// pipeline.
    pub(crate) fn pipes_at(&self, id: MemberId, end: End) -> &[usize] {
        let held = self.at.get(&id);
        held.map_or(&[], |held| &held[if end == End::Writer { 0 } else { 1 }])
    }

    /// Whether a member holds that end of a pipe to or from others.
    pub(crate) fn holds(&self, id: MemberId, pipe: usize, end: End) -> bool {
        self.ends.contains(&(pipe, id, end))
    }

    /// The flow of a pipe, where there is one.
    pub(crate) fn flow(&self, pipe: usize) -> Option<usize> {
        self.flows.get(pipe).copied().flatten()
    }

    /// The pipes through which one member writes and the other reads.
    pub(crate) fn between(&self, writer: MemberId, reader: MemberId) -> Vec<usize> {
        let written = self.pipes_at(writer, End::Writer);
        let read = self.pipes_at(reader, End::Reader);
        // One of the two may hold thousands.
        let (fewer, other, end) = if written.len() < read.len() {
            (written, reader, End::Reader)
        } else {
            (read, writer, End::Writer)
        };
        fewer.iter().copied().filter(|&pipe| self.ends.contains(&(pipe, other, end))).collect()
    }
}
