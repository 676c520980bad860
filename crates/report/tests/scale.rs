//! Files with thousands of members, pipes and states are added up in time that grows with them, not
//! with their square.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use common::{Builder, PERIOD_NS};
use pipeprof_profiler::meter::{Bytes, PipeFlow, Source};
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::wakeups::{Waker, WakeupEdge, Wakeups};
use pipeprof_report::diff::Diff;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html;
use pipeprof_report::run::Run;
use pipeprof_runner::pipeline::{Link, Member, MemberId, Pipe, Pipeline};

/// CPU time of this thread, which a busy machine does not stretch.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn id(at: usize) -> MemberId {
    MemberId { pid: 1000 + at as i32, start_time: Some(at as u64) }
}

/// So many members, and so many pipes, the ends of which these say for each.
fn run(members: usize, pipes: usize, ends: impl Fn(usize) -> (Vec<usize>, Vec<usize>)) -> Run {
    let mut builder = Builder::new();
    for at in 0..members {
        let member = builder.member(None, if at % 2 == 0 { "even" } else { "odd" }, id(at).pid);
        builder.kernel(member, "copy_page_from_iter < anon_pipe_write+3b2 < ksys_write", 3);
    }
    let mut profile: Profile = builder.profile;
    let edge = |at: usize| WakeupEdge {
        waker: Waker::Member(at),
        woken_member: (at + 1) % members,
        count: 1,
        latency: None,
    };
    profile.wakeups =
        Wakeups::Known { edges: (0..members).map(edge).collect(), watched_ns: PERIOD_NS };
    let member = |at: usize| Member {
        pid: id(at).pid,
        start_time_ticks: id(at).start_time,
        comm: profile.members[at].comm.clone(),
        command_line: Vec::new(),
        end: None,
    };
    let pipe = |at: usize| {
        let (writers, readers) = ends(at);
        let ids = |members: Vec<usize>| members.into_iter().map(id).collect();
        let (writers, readers) = (ids(writers), ids(readers));
        let inode = at as u64 + 1;
        Pipe {
            link: Link::Pipe,
            inode,
            device: 13,
            path: None,
            writers,
            readers,
            capacity_bytes: None,
        }
    };
    let flow = |at: usize| PipeFlow {
        inode: at as u64 + 1,
        device: 13,
        bytes: Bytes::Known { bytes: 5 << 20, source: Source::BothEnds },
        writes: Some(80),
        reads: Some(80),
        over_time: Vec::new(),
        fill_over_time: Vec::new(),
        capacity_bytes: None,
        fill: None,
    };
    let pipeline = Pipeline {
        members: (0..members).map(member).collect(),
        pipes: (0..pipes).map(pipe).collect(),
    };
    let flows = (0..pipes).map(flow).collect();
    Run { pipeline, flows, elapsed_ns: 1_000_000_000, cpus: 2, ..Run::bare(profile) }
}

/// The CPU time of `work` on a run of a size, the least of three.
fn cost(make: &dyn Fn(usize) -> Run, size: usize, work: &dyn Fn(&Run)) -> f64 {
    let once = |_| {
        let run = make(size);
        let before = cpu_ns();
        work(&run);
        cpu_ns() - before
    };
    (0..3).map(once).min().unwrap() as f64
}

/// Ten times as much takes ten times as long, not a hundred times: with room for caches that are too
/// small and for what is looked up in trees.
#[track_caller]
fn grows_with_its_input(what: &str, make: &dyn Fn(usize) -> Run, work: &dyn Fn(&Run)) {
    let (few, many) = (cost(make, 300, work), cost(make, 3000, work));
    println!("{what}: {:.1} ms, {:.1} ms", few / 1e6, many / 1e6);
    // What is over in no time has not grown to anything either.
    assert!(many < 30.0 * few.max(2e6), "{what}: {few} ns, then {many} ns");
}

type Shape = (&'static str, fn(usize) -> Run);

const SHAPES: [Shape; 5] = [
    ("a chain", |n| run(n, n - 1, |at| (vec![at], vec![at + 1]))),
    ("many into one", |n| run(n, n - 1, |at| (vec![at + 1], vec![0]))),
    ("many pipes between two", |n| run(2, n, |_| (vec![0], vec![1]))),
    ("one pipe of all", |n| run(n, 1, |_| ((0..n / 2).collect(), (n / 2..n).collect()))),
    ("one of all pipes with itself", |n| run(n, n, |_| (vec![0], vec![0]))),
];

#[test]
fn a_page_grows_with_its_members_and_pipes() {
    for (what, make) in SHAPES {
        grows_with_its_input(what, &make, &|run| {
            let mut page = Vec::new();
            html::render(run, &Highlights::article(), &mut page).unwrap();
        });
    }
}

#[test]
fn a_difference_grows_with_its_members_and_pipes() {
    for (what, make) in SHAPES {
        grows_with_its_input(what, &make, &|run| {
            Diff::of(&[(run, run)], ["before", "after"]).unwrap();
        });
    }
}
