//! How many bytes a member moved: the divisor of every "per GiB" figure of that member.

use pipeprof_profiler::meter::PipeFlow;
use pipeprof_runner::pipeline::{End, MemberId, Pipeline};

use crate::holding::Holding;

/// What a member moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes; `None` where they are not known.
    pub bytes: Option<u64>,
    /// Which bytes, or why they are not known.
    pub what: String,
}

/// What a member moved: what it read from pipes; failing that what it wrote to them.
pub(crate) fn moved(
    pipeline: &Pipeline,
    flows: &[PipeFlow],
    holding: &Holding,
    member: MemberId,
) -> Moved {
    let flow = |pipe: usize| holding.flow(pipe).and_then(|at| flows.get(at));
    let mut why = "it has no pipe";
    for (end, verb) in [(End::Reader, "read from"), (End::Writer, "written to")] {
        let held = holding.pipes_at(member, end);
        if held.is_empty() {
            continue;
        }
        if held.iter().any(|&pipe| pipeline.pipes[pipe].at(end).len() > 1) {
            why = "it shares its pipe with others";
            continue;
        }
        let mut bytes = held.iter().map(|&pipe| flow(pipe)?.bytes.known());
        let known = bytes.try_fold(0u64, |sum, bytes| Some(sum.saturating_add(bytes?)));
        match known {
            Some(bytes) => {
                let of = match *held {
                    [pipe] => pipeline.pipes[pipe].name(),
                    _ => format!("{} pipes", held.len()),
                };
                return Moved { bytes: Some(bytes), what: format!("{verb} {of}") };
            }
            None => why = "the bytes of its pipes are not known",
        }
    }
    Moved { bytes: None, what: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use pipeprof_profiler::meter::{Bytes, Source};
    use pipeprof_runner::pipeline::{Link, Pipe};

    use super::*;

    fn id(pid: i32) -> MemberId {
        MemberId { pid, start_time: Some(1) }
    }

    fn pipe(inode: u64, device: u64, writers: &[i32], readers: &[i32]) -> Pipe {
        let ids = |pids: &[i32]| pids.iter().copied().map(id).collect();
        let (writers, readers) = (ids(writers), ids(readers));
        let link = Link::Pipe;
        Pipe { link, inode, device, path: None, writers, readers, capacity_bytes: None }
    }

    fn flow(inode: u64, device: u64, bytes: u64) -> PipeFlow {
        PipeFlow {
            inode,
            device,
            bytes: Bytes::Known { bytes, source: Source::BothEnds },
            writes: None,
            reads: None,
            over_time: Vec::new(),
            fill_over_time: Vec::new(),
            capacity_bytes: None,
            fill: None,
        }
    }

    #[test]
    fn a_member_is_measured_by_what_it_reads_and_else_by_what_it_writes() {
        // 1 -> 2 -> 3, and 4 that shares its end of the last pipe with 3.
        let pipes = vec![pipe(7, 1, &[1], &[2]), pipe(8, 1, &[2], &[3, 4])];
        let pipeline = Pipeline { members: Vec::new(), pipes };
        let flows = [flow(7, 1, 100), flow(8, 1, 30)];
        let holding = Holding::of(&pipeline, &flows);
        let moved = |pid| moved(&pipeline, &flows, &holding, id(pid));
        let bytes = |pid| moved(pid).bytes;
        assert_eq!([1, 2, 3, 5].map(bytes), [Some(100), Some(100), None, None]);
        assert_eq!(moved(2).what, "read from pipe:[7]");
        assert_eq!(moved(4).what, "it shares its pipe with others");
    }

    #[test]
    fn fifos_of_one_number_on_two_file_systems_carry_their_own_bytes() {
        let pipes = vec![pipe(7, 1, &[1], &[2]), pipe(7, 2, &[3], &[4])];
        let pipeline = Pipeline { members: Vec::new(), pipes };
        let flows = [flow(7, 1, 100), flow(7, 2, 30)];
        let holding = Holding::of(&pipeline, &flows);
        let bytes = |pid| moved(&pipeline, &flows, &holding, id(pid)).bytes;
        assert_eq!([2, 4].map(bytes), [Some(100), Some(30)]);
    }
}
