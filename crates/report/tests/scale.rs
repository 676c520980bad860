//! Files with thousands of members, pipes and states are added up in time that grows with them, not
//! with their square.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use common::{Builder, PERIOD_NS};
use pipeprof_profiler::meter::{Bytes, PipeFlow, Source};
use pipeprof_profiler::profile::Profile;
use pipeprof_profiler::states::{
    Account, Bin, PipeRef, ProcessRef, ProcessSeen, ProcessState, StateRef, Timeline, Why,
};
use pipeprof_profiler::wakeups::{Waker, WakeupEdge, Wakeups};
use pipeprof_report::diff::Diff;
use pipeprof_report::flamegraph::View;
use pipeprof_report::highlight::Highlights;
use pipeprof_report::html;
use pipeprof_report::run::Run;
use pipeprof_report::summary::Summary;
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

const SECOND: u64 = 1_000_000_000;

/// A process that lived all the time, started by nobody that was looked at.
fn seen(at: usize) -> ProcessSeen {
    ProcessSeen {
        pid: id(at).pid,
        start_time_ticks: id(at).start_time,
        parent: 1,
        comm: format!("name{at}"),
        last_ns: SECOND,
        threads: 1,
        ..ProcessSeen::default()
    }
}

fn runs() -> ProcessState {
    ProcessState { running: 1, ..ProcessState::default() }
}

fn reads(pipe: PipeRef) -> ProcessState {
    ProcessState { data: vec![pipe], ..ProcessState::default() }
}

/// What is found of a run: joint states, each of processes and states, in so many bins that have
/// this many of them.
struct Looks {
    states: Vec<ProcessState>,
    joints: Vec<Vec<(usize, usize)>>,
    bins: usize,
    joints_a_bin: usize,
}

impl Looks {
    fn at(self, run: Run, processes: Vec<ProcessSeen>) -> Run {
        let joint = |joint: Vec<(usize, usize)>| {
            let one = |(process, state)| (ProcessRef(process as u32), StateRef(state as u32));
            joint.into_iter().map(one).collect()
        };
        let joints: Vec<Vec<(ProcessRef, StateRef)>> = self.joints.into_iter().map(joint).collect();
        let width = SECOND / self.bins as u64;
        let bin = |at: usize| Bin {
            from_ns: at as u64 * width,
            until_ns: (at as u64 + 1) * width,
            joints: (0..self.joints_a_bin)
                .map(|of| (((at * self.joints_a_bin + of) % joints.len()) as u32, 1.0))
                .collect(),
            accounts: Vec::new(),
        };
        let states = Timeline {
            end_ns: SECOND,
            looks: 5_000,
            processes,
            pipes: run.pipeline.pipes.iter().map(Pipe::key).collect(),
            states: self.states,
            bins: (0..self.bins).map(bin).collect(),
            joints,
            ..Timeline::default()
        };
        states.check().unwrap();
        Run { states: Some(states), ..run }
    }
}

fn chain(n: usize) -> Run {
    run(n, n - 1, |at| (vec![at], vec![at + 1]))
}

/// Each waits for the one before it, up to the first, which computes, or waits for the last.
fn chain_of_waits(n: usize, is_circle: bool) -> Run {
    let pipes = if is_circle { n } else { n - 1 };
    let run = run(n, pipes, |at| (vec![at], vec![(at + 1) % n]));
    let mut states: Vec<ProcessState> =
        (0..n).map(|at| reads(PipeRef(((at + n - 1) % n) as u32))).collect();
    if !is_circle {
        states[0] = runs();
    }
    let joints = vec![(0..n).map(|at| (at, at)).collect()];
    Looks { states, joints, bins: 20, joints_a_bin: 1 }.at(run, (0..n).map(seen).collect())
}

fn deep_descent(n: usize) -> Run {
    let started_by_the_one_before = |at: usize| ProcessSeen {
        parent: 1000 + at as i32 - 1,
        first_ns: at as u64,
        last_ns: SECOND - 300_000 * at as u64,
        ..seen(at)
    };
    let joints = vec![(0..n).map(|at| (at, 0)).collect()];
    let looks = Looks { states: vec![runs()], joints, bins: 20, joints_a_bin: 1 };
    looks.at(run(n, 1, |_| (vec![0], vec![1])), (0..n).map(started_by_the_one_before).collect())
}

/// All but two are no members, have names of their own, and were started by the first.
fn many_names(n: usize) -> Run {
    let child = |at: usize| ProcessSeen {
        parent: if at == 0 { 1 } else { id(0).pid },
        first_ns: at as u64,
        ..seen(at)
    };
    let joints = vec![(0..n).map(|at| (at, 0)).collect()];
    let looks = Looks { states: vec![runs()], joints, bins: 20, joints_a_bin: 1 };
    looks.at(run(2, 1, |_| (vec![0], vec![1])), (0..n).map(child).collect())
}

/// Bins so short that all of them are near to each other.
fn many_bins(n: usize) -> Run {
    let joints = vec![vec![(0, 0), (1, 1)], vec![(0, 1), (1, 0)]];
    let states = vec![runs(), reads(PipeRef(0))];
    Looks { states, joints, bins: n, joints_a_bin: 2 }.at(chain(2), (0..2).map(seen).collect())
}

/// All in one bin, no two alike.
fn many_joint_states(n: usize) -> Run {
    let state = |at: usize| ProcessState { running: at as u16 + 1, ..ProcessState::default() };
    let joints = (0..n).map(|at| vec![(0, at), (1, n - 1 - at)]).collect();
    let looks = Looks { states: (0..n).map(state).collect(), joints, bins: 1, joints_a_bin: n };
    looks.at(chain(2), (0..2).map(seen).collect())
}

/// Nobody tells which of its pipes each waits at.
fn many_pipes(n: usize) -> Run {
    let states = vec![runs(), reads(PipeRef::ANY)];
    let joints = vec![vec![(0, 0), (1, 1)], vec![(0, 1), (1, 0)]];
    let run = run(2, n, |_| (vec![0], vec![1]));
    Looks { states, joints, bins: 20, joints_a_bin: 2 }.at(run, (0..2).map(seen).collect())
}

/// Each waits outside in its turn, or computes, at a pipe that all hold.
fn all_at_one_pipe(n: usize) -> Run {
    let all: Vec<usize> = (0..n).collect();
    let timer = ProcessState { why: Some(Why::Timer), ..ProcessState::default() };
    let states = vec![runs(), reads(PipeRef(0)), timer];
    let joints = (0..4).map(|of| all.iter().map(|&at| (at, (at + of) % 3)).collect()).collect();
    let looks = Looks { states, joints, bins: 20, joints_a_bin: 2 };
    looks.at(run(n, 1, |_| (all.clone(), all.clone())), all.iter().map(|&at| seen(at)).collect())
}

/// Looks found each busy for longer than it was charged.
fn overseen(n: usize) -> Run {
    let states = vec![runs(), reads(PipeRef(0))];
    let joints = (0..4).map(|of| (0..n).map(|at| (at, usize::from((at + of) % 4 == 0))).collect());
    let looks = Looks { states, joints: joints.collect(), bins: 2, joints_a_bin: 2 };
    let mut run = looks.at(chain(n), (0..n).map(seen).collect());
    for bin in run.states.iter_mut().flat_map(|states| &mut states.bins) {
        let account = Account { cpu_ns: (bin.until_ns - bin.from_ns) / 10, run_delay_ns: 0 };
        bin.accounts = (0..n).map(|at| (ProcessRef(at as u32), account)).collect();
    }
    run
}

const SHAPES_OVER_TIME: [Shape; 10] = [
    ("a chain of waits", |n| chain_of_waits(n, false)),
    ("a circle of waits", |n| chain_of_waits(n, true)),
    ("processes that descend from each other", deep_descent),
    ("children, each of a name of its own", many_names),
    ("bins", many_bins),
    ("joint states", many_joint_states),
    ("pipes between two", many_pipes),
    ("members at one pipe", all_at_one_pipe),
    ("members that looks find busy too often", overseen),
    ("members without a pipe", |n| {
        let joints = vec![(0..n).map(|at| (at, 0)).collect()];
        let looks = Looks { states: vec![runs()], joints, bins: 20, joints_a_bin: 1 };
        looks.at(run(n, 0, |_| unreachable!()), (0..n).map(seen).collect())
    }),
];

#[test]
fn a_verdict_and_a_timeline_grow_with_what_was_looked_at() {
    for (what, make) in SHAPES_OVER_TIME {
        grows_with_its_input(what, &make, &|run| {
            let mut summary = Summary::of(run, &Highlights::article(), View::default());
            summary.add_timeline(run, 100);
            assert!(summary.verdict.is_some());
        });
    }
}

#[test]
fn members_that_only_started_others_are_found_in_time_that_grows_with_them() {
    for (what, make) in SHAPES_OVER_TIME {
        grows_with_its_input(what, &make, &|run| {
            let told = run.clone().without_start_up();
            assert!(told.pipeline.members.len() <= run.pipeline.members.len());
        });
    }
}
