//! What figures per GiB are divided by.
// A helper that fails fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::borrow::Cow;

use pipeprof_profiler::meter::{Bytes, PipeFlow, Source};
use pipeprof_report::payload::Payload;
use pipeprof_runner::pipeline::{Link, Member, MemberId, Pipe, Pipeline};

/// Pipes between members 0, 1, 2…, in any order: (writer, bytes where known).
fn payload(pipes: &[(usize, Option<u64>)]) -> Result<Payload, String> {
    let member = |pid| Member {
        pid,
        start_time_ticks: Some(1),
        comm: "x".into(),
        command_line: Vec::new(),
        end: None,
    };
    let id = |at: usize| MemberId { pid: at as i32 + 1, start_time: Some(1) };
    let pipe = |(at, &(writer, _)): (usize, &(usize, Option<u64>))| Pipe {
        link: Link::Pipe,
        inode: at as u64,
        device: 13,
        path: None,
        writers: vec![id(writer)],
        readers: vec![id(writer + 1)],
        capacity_bytes: None,
    };
    let flow = |(at, &(_, bytes)): (usize, &(usize, Option<u64>))| PipeFlow {
        inode: at as u64,
        device: 13,
        bytes: match bytes {
            Some(bytes) => Bytes::Known { bytes, source: Source::BothEnds },
            None => Bytes::Unknown { why: Cow::Borrowed("unknown") },
        },
        writes: None,
        reads: None,
        over_time: Vec::new(),
        fill_over_time: Vec::new(),
        capacity_bytes: None,
        fill: None,
    };
    let pipeline = Pipeline {
        members: (1..5).map(member).collect(),
        pipes: pipes.iter().enumerate().map(pipe).collect(),
    };
    Payload::of(&pipeline, &pipes.iter().enumerate().map(flow).collect::<Vec<_>>())
}

#[test]
fn it_is_what_the_first_pipe_carried() {
    let mib = 1 << 20;
    for (pipes, expected) in [
        (&[(0, Some(8 * mib)), (1, Some(2 * mib))][..], (8 * mib, 0)),
        (&[(1, Some(2 * mib)), (0, Some(8 * mib))], (8 * mib, 1)),
        (&[(0, None), (1, Some(2 * mib))], (2 * mib, 1)),
        (&[(0, Some(300)), (1, Some(2 * mib))], (2 * mib, 1)),
    ] {
        let (bytes, pipe) = expected;
        assert_eq!(payload(pipes), Ok(Payload { bytes, pipe }), "{pipes:?}");
    }
    assert!(payload(&[]).unwrap_err().contains("no pipe"));
    assert!(payload(&[(0, None)]).unwrap_err().contains("not known"));
    assert!(payload(&[(0, Some(9))]).unwrap_err().contains("less than 1 MiB"));
}
