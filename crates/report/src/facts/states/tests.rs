use pipeprof_profiler::states::{Bin, PipeRef, ProcessRef, ProcessSeen, ProcessState, StateRef};
use pipeprof_runner::pipeline::{Link, Member, MemberId, Pipe, PipeKey};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn member(pid: i32, comm: &str) -> Member {
    Member {
        pid,
        start_time_ticks: Some(pid as u64),
        comm: comm.into(),
        command_line: vec![comm.into()],
        end: None,
    }
}

fn pipe(inode: u64, writers: &[i32], readers: &[i32]) -> Pipe {
    let ids = |pids: &[i32]| {
        pids.iter().map(|&pid| MemberId { pid, start_time: Some(pid as u64) }).collect()
    };
    Pipe {
        link: Link::Pipe,
        inode,
        device: 1,
        path: None,
        writers: ids(writers),
        readers: ids(readers),
        capacity_bytes: None,
    }
}

fn seen(pid: i32, parent: i32, from_ns: u64, until_ns: u64) -> ProcessSeen {
    ProcessSeen {
        pid,
        start_time_ticks: Some(pid as u64),
        parent,
        comm: format!("c{pid}"),
        first_ns: from_ns,
        last_ns: until_ns,
        threads: 1,
        ..ProcessSeen::default()
    }
}

fn running() -> ProcessState {
    ProcessState { running: 1, ..ProcessState::default() }
}

fn waits(why: Why) -> ProcessState {
    ProcessState { why: Some(why), ..ProcessState::default() }
}

fn at_pipe(pipe: u32, for_space: bool) -> ProcessState {
    let (data, space) =
        if for_space { (vec![], vec![PipeRef(pipe)]) } else { (vec![PipeRef(pipe)], vec![]) };
    ProcessState { data, space, ..ProcessState::default() }
}

/// One look, at which each process was in the state at its place.
fn timeline(processes: Vec<ProcessSeen>, pipes: &[u64], states: Vec<ProcessState>) -> Timeline {
    let joint =
        (0..states.len() as u32).map(|at| (ProcessRef(at), StateRef(at))).collect::<Vec<_>>();
    let bin = Bin { from_ns: 0, until_ns: SECOND, joints: vec![(0, 1.0)], accounts: Vec::new() };
    let pipes = pipes.iter().map(|&inode| PipeKey { device: 1, inode }).collect();
    let timeline = Timeline {
        end_ns: SECOND,
        looks: 1,
        processes,
        pipes,
        states,
        joints: vec![joint],
        bins: vec![bin],
        ..Timeline::default()
    };
    timeline.check().unwrap();
    timeline
}

fn pids(pipeline: &Pipeline, history: &StateHistory) -> Vec<i32> {
    history.actors.iter().map(|actor| pipeline.members[actor.member].pid).collect()
}

#[test]
fn a_shell_around_a_pipeline_is_no_part_of_it() {
    let pipeline = Pipeline {
        members: vec![member(10, "cat"), member(11, "wc"), member(1, "sh")],
        pipes: vec![pipe(7, &[10], &[11])],
    };
    let processes = vec![seen(1, 0, 0, SECOND), seen(10, 1, 0, SECOND), seen(11, 1, 0, SECOND)];
    let states = vec![waits(Why::Child), running(), at_pipe(0, false)];
    let history = StateHistory::of(&pipeline, &timeline(processes, &[7], states));
    assert_eq!(pids(&pipeline, &history), [10, 11]);
    let doing = &history.spans[0].moments[0].doing;
    assert_eq!(doing[0], Doing::Busy(1));
    assert_eq!(doing[1], Doing::at_pipes(vec![0], vec![]));
}

#[test]
fn brief_children_are_told_as_part_of_who_started_them_however_deep() {
    // A shim: its shells write to each other, and to it, before it becomes what it stands for.
    let pipeline = Pipeline {
        members: vec![
            member(10, "python3"),
            member(20, "bash"),
            member(21, "bash"),
            member(11, "wc"),
        ],
        pipes: vec![pipe(7, &[10], &[11]), pipe(8, &[20], &[10]), pipe(9, &[21], &[20])],
    };
    let processes = vec![
        seen(10, 1, 0, SECOND),
        seen(11, 1, 0, SECOND),
        seen(20, 10, 10, SECOND / 20),
        seen(21, 20, 20, SECOND / 25),
    ];
    let states = vec![waits(Why::Child), at_pipe(0, false), waits(Why::Child), running()];
    let history = StateHistory::of(&pipeline, &timeline(processes, &[7, 8, 9], states));
    assert_eq!(pids(&pipeline, &history), [10, 11]);
    assert_eq!(history.actors[0].folded.len(), 2);
    assert_eq!(history.spans[0].moments[0].doing[0], Doing::Busy(1));
    assert!(history.held()[0][0].is_empty(), "the pipes of the shim are its own");
}

#[test]
fn a_worker_that_computes_while_another_thread_waits_for_data_is_busy() {
    let pipeline = Pipeline {
        members: vec![member(10, "cat"), member(11, "zstd")],
        pipes: vec![pipe(7, &[10], &[11])],
    };
    let processes = vec![seen(10, 1, 0, SECOND), seen(11, 1, 0, SECOND)];
    let mut both = at_pipe(0, false);
    both.running = 1;
    both.why = Some(Why::Thread);
    let states = vec![at_pipe(0, true), both];
    let history = StateHistory::of(&pipeline, &timeline(processes.clone(), &[7], states));
    assert_eq!(history.spans[0].moments[0].doing[1], Doing::Busy(1));
    // Idle helpers in futex are nothing.
    let mut idle = at_pipe(0, false);
    idle.why = Some(Why::Thread);
    let history = StateHistory::of(&pipeline, &timeline(processes, &[7], vec![running(), idle]));
    let data = Doing::at_pipes(vec![0], vec![]);
    assert_eq!(history.spans[0].moments[0].doing[1], data);
}

#[test]
fn pipes_that_lead_elsewhere_are_outside() {
    let pipeline = Pipeline {
        members: vec![member(10, "cat"), member(11, "gzip")],
        pipes: vec![pipe(7, &[10], &[11])],
    };
    let processes = vec![seen(10, 1, 0, SECOND), seen(11, 1, 0, SECOND)];
    let states = vec![at_pipe(1, false), at_pipe(2, true)];
    let history = StateHistory::of(&pipeline, &timeline(processes, &[7, 8, 9], states));
    let doing = &history.spans[0].moments[0].doing;
    assert_eq!(doing[0], Doing::Outside(Outside::ForeignData));
    assert_eq!(doing[1], Doing::Outside(Outside::ForeignSpace));
}

#[test]
fn a_wait_whose_pipe_is_not_told_is_for_the_pipes_that_the_member_has() {
    let pipeline = Pipeline {
        members: vec![member(10, "cat"), member(11, "gzip")],
        pipes: vec![pipe(7, &[10], &[11])],
    };
    let processes = vec![seen(10, 1, 0, SECOND), seen(11, 1, 0, SECOND)];
    let any = |for_space| {
        let pipes = vec![PipeRef::ANY];
        let (data, space) = if for_space { (vec![], pipes) } else { (pipes, vec![]) };
        ProcessState { data, space, ..ProcessState::default() }
    };
    let history =
        StateHistory::of(&pipeline, &timeline(processes, &[], vec![any(true), any(false)]));
    let doing = &history.spans[0].moments[0].doing;
    assert_eq!(doing[0], Doing::at_pipes(vec![], vec![0]));
    assert_eq!(doing[1], Doing::at_pipes(vec![0], vec![]));
}

#[test]
fn a_child_that_is_no_member_tells_what_its_parent_waits_for() {
    let pipeline = Pipeline {
        members: vec![member(10, "yes"), member(11, "sh")],
        pipes: vec![pipe(7, &[10], &[11])],
    };
    let processes =
        vec![seen(10, 1, 0, SECOND), seen(11, 1, 0, SECOND), seen(30, 11, 10, SECOND / 3)];
    let states = vec![at_pipe(0, true), waits(Why::Child), waits(Why::Timer)];
    let history = StateHistory::of(&pipeline, &timeline(processes, &[7], states));
    let doing = &history.spans[0].moments[0].doing;
    assert_eq!(doing[1], Doing::Outside(Outside::For(Why::Timer)));
    assert_eq!(history.actors[1].children[0].0, "c30");
}

#[test]
fn who_waits_in_a_circle_waits_for_what_it_polls_besides() {
    // As sshd, a shell, and the program that it runs: a pipe there, and one back.
    let pipeline = |writers: &[i32]| Pipeline {
        members: vec![member(10, "sshd"), member(11, "sh"), member(12, "cat")],
        pipes: vec![pipe(7, &[10], &[11, 12]), pipe(8, writers, &[10])],
    };
    let [both, shell] = [pipeline(&[11, 12]), pipeline(&[11])];
    let doing = |pipeline: &Pipeline, sshd: ProcessState, cat: ProcessState| {
        let processes =
            vec![seen(10, 1, 0, SECOND), seen(11, 10, 0, SECOND), seen(12, 11, 0, SECOND)];
        let states = vec![sshd, waits(Why::Child), cat];
        // The last pipe is of its errors, which nobody knows.
        let history = StateHistory::of(pipeline, &timeline(processes, &[7, 8, 9], states));
        history.spans[0].moments[0].doing[0].clone()
    };
    let data = vec![PipeRef(1), PipeRef(2)];
    let polls = ProcessState { why: Some(Why::SocketData), data, ..ProcessState::default() };
    let network = Doing::Outside(Outside::For(Why::SocketData));
    let data = Doing::at_pipes(vec![1], vec![]);
    assert_eq!(doing(&both, polls.clone(), at_pipe(0, false)), network);
    assert_eq!(doing(&shell, polls.clone(), at_pipe(0, false)), network);
    // The program has yet to answer.
    assert_eq!(doing(&both, polls.clone(), running()), data);
    assert_eq!(doing(&both, polls, waits(Why::Disk)), data);
    // It waits for the program alone.
    assert_eq!(doing(&both, at_pipe(1, false), at_pipe(0, false)), data);
}
