//! Real pairs through the real kernel, by the library.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeprof_runner::cpus::Pin;
use pipeprof_runner::error::Error;
use pipeprof_runner::outcome::Outcome;
use pipeprof_runner::pair::{Prepared, Reexec, launch};
use pipeprof_runner::pipeline::End;
use pipeprof_runner::plan::{Knobs, PairPlan};
use pipeprof_runner::stage::{ReadWith, Stage, WriteWith};

/// No whole number of buffers, pages or words.
const ODD_BYTES: u64 = (9 << 20) + 4096 + 13;
/// More than any test waits for.
const ENDLESS: u64 = 1 << 60;

fn binary() -> Reexec {
    Reexec { program: env!("CARGO_BIN_EXE_pipeprof").into(), arguments: vec!["__end".into()] }
}

fn plan(stage: Stage, knobs: Knobs) -> PairPlan {
    PairPlan::new(stage, &knobs).unwrap()
}

fn prepare(stage: Stage, knobs: Knobs) -> Prepared {
    launch(&plan(stage, knobs), &binary()).unwrap()
}

fn run(stage: Stage, knobs: Knobs) -> Outcome {
    prepare(stage, knobs).release().wait().unwrap()
}

fn assert_clean(outcome: &Outcome, bytes: u64) {
    assert_eq!(outcome.failures(), [], "{outcome:?}");
    assert_eq!((outcome.bytes, outcome.written_bytes), (bytes, bytes));
    for end in [&outcome.writer, &outcome.reader] {
        let report = end.report.as_ref().unwrap();
        assert_eq!((end.exit_status, end.signal), (Some(0), None));
        assert_eq!(report.tally.bytes, bytes);
        assert!(report.tally.calls > bytes / (1 << 30), "{report:?}");
        assert!(!report.tally.other_end_gone);
    }
    assert!(!outcome.interrupted);
    assert!(outcome.gib_per_s() > 0.0);
}

#[test]
fn every_stage_moves_every_byte() {
    for stage in Stage::ALL {
        let outcome = run(stage, Knobs { bytes: Some(ODD_BYTES), ..Knobs::default() });
        assert_clean(&outcome, ODD_BYTES);
        let retries =
            |end: &pipeprof_runner::outcome::EndOutcome| end.report.as_ref().unwrap().tally.retries;
        if !stage.busy_loop() {
            assert_eq!((retries(&outcome.writer), retries(&outcome.reader)), (0, 0), "{stage}");
        }
    }
}

#[test]
fn every_combination_of_calls_moves_every_byte() {
    for write_with in [WriteWith::Write, WriteWith::Vmsplice] {
        for read_with in [ReadWith::Read, ReadWith::Splice] {
            for (busy_loop, poll) in [(false, true), (true, false), (true, true)] {
                let knobs = Knobs {
                    bytes: Some(3 << 20),
                    write_with: Some(write_with),
                    read_with: Some(read_with),
                    busy_loop: Some(busy_loop),
                    poll,
                    dont_touch_pages: true,
                    ..Knobs::default()
                };
                assert_clean(&run(Stage::Write, knobs), 3 << 20);
            }
        }
    }
}

#[test]
fn the_pair_waits_at_the_gate() {
    let prepared = prepare(Stage::Vmsplice, Knobs { bytes: Some(1 << 20), ..Knobs::default() });
    let pipeline = prepared.pipeline().clone();
    let pipe = &pipeline.pipes[0];
    assert_eq!(pipe.capacity_bytes, Some(128 << 10));
    let link = PathBuf::from(format!("pipe:[{}]", pipe.inode));
    let holds = |pid: u32| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| *target == link)
            .count()
    };
    assert_eq!(holds(std::process::id()), 0, "the parent must not hold the pipe open");
    for (member, (end, comm)) in
        pipeline.members.iter().zip([(End::Writer, "pp-write"), (End::Reader, "pp-read")])
    {
        assert_eq!(member.end, Some(end));
        assert_eq!(member.comm, comm);
        assert_eq!(member.command_line[..2], [comm, "__end"]);
        assert!(member.start_time_ticks.is_some());
        assert_eq!(holds(member.pid as u32), 1);
        // Standard streams, the board, the channel: nothing of ours has leaked.
        let open = fs::read_dir(format!("/proc/{}/fd", member.pid)).unwrap().count();
        assert_eq!(open, 5 + inherited_by_all_children(), "{comm}");
    }
    // Asleep, which each is a moment after it has said that it is ready, and using no CPU.
    let asleep = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    until("they wait", || pipeline.members.iter().all(|member| asleep(member.pid)));
    let cpu = || {
        let ticks = |pid| fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        pipeline.members.iter().map(|member| ticks(member.pid)).collect::<Vec<_>>()
    };
    let before = cpu();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(cpu(), before);

    let outcome = prepared.release().wait().unwrap();
    assert_clean(&outcome, 1 << 20);
    assert_eq!(outcome.writer.pid, pipeline.members[0].pid);
}

/// Descriptors that whoever started this test left open across exec.
fn inherited_by_all_children() -> usize {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let kept = |fd: &str| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & O_CLOEXEC == 0)
    };
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|fd| fd.parse::<u32>().is_ok_and(|fd| fd > 2) && kept(fd) == Some(true))
        .count()
}

#[test]
fn the_ends_run_where_they_are_pinned() {
    let allowed = |prepared: &Prepared| {
        prepared
            .pipeline()
            .members
            .iter()
            .map(|member| allowed_cpus(member.pid))
            .collect::<Vec<_>>()
    };
    let own = allowed_cpus(std::process::id() as i32);
    let prepared =
        |pin| prepare(Stage::Write, Knobs { bytes: Some(1 << 20), pin, ..Knobs::default() });
    assert_eq!(allowed(&prepared(Pin::None)), [own.clone(), own]);
    let first = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..1024).find(|&cpu| first.is_set(cpu).unwrap()).unwrap();
    let same = prepared(Pin::Cpus(cpu, cpu));
    assert_eq!(allowed(&same), [cpu.to_string(), cpu.to_string()]);
    assert_clean(&same.release().wait().unwrap(), 1 << 20);
    let auto = allowed(&prepared(Pin::Auto));
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert_ne!(auto[0], auto[1]);
    }
    let beyond = plan(Stage::Write, Knobs { pin: Pin::Cpus(cpu, 1023), ..Knobs::default() });
    let error = launch(&beyond, &binary()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("CPU 1023"), "{error}");
}

fn allowed_cpus(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim().to_owned()
}

#[test]
fn double_buffering_is_clean_on_every_stage_that_reads() {
    let reading = Some(ReadWith::Read);
    for stage in Stage::ARTICLE {
        for (same_buffer, buf_size) in [(false, None), (true, None), (false, Some(48 << 10))] {
            let knobs = Knobs {
                bytes: Some(ODD_BYTES),
                read_with: reading,
                same_buffer: same_buffer && stage != Stage::Write,
                buf_size,
                fill: true,
                verify: true,
                ..Knobs::default()
            };
            assert_clean(&run(stage, knobs), ODD_BYTES);
        }
    }
}

#[test]
fn a_pipe_that_holds_more_than_one_buffer_corrupts() {
    let knobs = Knobs {
        bytes: Some(1 << 30),
        buf_size: Some(64 << 10),
        pipe_size: Some(1 << 20),
        fill: true,
        verify: true,
        ..Knobs::default()
    };
    let outcome = run(Stage::Vmsplice, knobs);
    assert!(outcome.notes.iter().any(|note| note.contains("--pipe-size")), "{:?}", outcome.notes);
    let failure = outcome.reader.failure().expect("corruption must be seen");
    assert!(failure.message.contains("corrupt data at byte "), "{failure:?}");
    assert_eq!(outcome.reader.exit_status, Some(1));
    // The writer finds that nobody reads any more, which is no failure of its own.
    assert_eq!(outcome.writer.failure(), None);
    assert!(outcome.writer.report.unwrap().tally.other_end_gone);
    // What was read before is sound, and is counted.
    assert!(outcome.bytes < 1 << 30);
}

#[test]
fn what_tee_repeats_arrives_in_step() {
    for stage in [Stage::Tee, Stage::TeeLarge] {
        for (buf_size, pipe_size) in [(None, None), (Some(32 << 10), Some(64 << 10))] {
            let knobs = Knobs {
                bytes: Some(3 * ODD_BYTES),
                read_with: Some(ReadWith::Read),
                buf_size,
                pipe_size,
                verify: true,
                ..Knobs::default()
            };
            assert_clean(&run(stage, knobs), 3 * ODD_BYTES);
        }
    }
}

#[test]
fn a_slot_of_tee_large_holds_more_than_a_page() {
    let bytes = 8 << 30;
    let prepared = prepare(Stage::TeeLarge, Knobs { bytes: Some(bytes), ..Knobs::default() });
    let slots_times_page = prepared.pipeline().pipes[0].capacity_bytes.unwrap();
    let outcome = prepared.release().wait().unwrap();
    assert_clean(&outcome, bytes);
    let tally = outcome.reader.report.unwrap().tally;
    let at_a_time = tally.bytes / (tally.calls - tally.retries);
    assert!(
        at_a_time > 2 * slots_times_page,
        "{at_a_time} bytes a call from a pipe of {slots_times_page}"
    );
}

#[test]
fn large_slots_beat_the_articles_best_stage() {
    let best = |stage, bytes: u64| {
        let once = || run(stage, Knobs { bytes: Some(bytes), ..Knobs::default() }).gib_per_s();
        (0..3).map(|_| once()).fold(0.0, f64::max)
    };
    let (large, article) = (best(Stage::TeeLarge, 16 << 30), best(Stage::BusyLoop, 2 << 30));
    assert!(large > 1.2 * article, "tee-large {large:.1} GiB/s, busy-loop {article:.1} GiB/s");
}

#[test]
fn same_cpu_is_one_cpu() {
    let prepared = prepare(Stage::SameCpu, Knobs { bytes: Some(1 << 20), ..Knobs::default() });
    let cpus: Vec<String> =
        prepared.pipeline().members.iter().map(|member| allowed_cpus(member.pid)).collect();
    assert!(cpus[0].parse::<usize>().is_ok(), "{cpus:?}");
    assert_eq!(cpus[0], cpus[1]);
    assert_clean(&prepared.release().wait().unwrap(), 1 << 20);
}

#[test]
fn tiny_writes_are_one_call_each() {
    let bytes = 1 << 20;
    let outcome = run(Stage::Tiny, Knobs { bytes: Some(bytes), ..Knobs::default() });
    assert_clean(&outcome, bytes);
    let calls = |end: pipeprof_runner::outcome::EndOutcome| end.report.unwrap().tally.calls;
    let (writes, reads) = (calls(outcome.writer), calls(outcome.reader));
    // A write that was interrupted by a signal is made again; nobody sends any here.
    assert_eq!(writes, bytes / 64);
    assert!(reads <= writes, "{reads} reads of {writes} writes");
}

/// What `docs/kernel-notes.md` says of small writes: they are merged, a slot is not a write.
#[test]
fn a_pipe_takes_as_many_one_byte_writes_as_it_has_bytes() {
    // Not handed down: a test beside this one counts what its children have open.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
    let (outlet, inlet) = nix::unistd::pipe2(flags).unwrap();
    let size =
        nix::fcntl::fcntl(&inlet, nix::fcntl::FcntlArg::F_SETPIPE_SZ(64 << 10)).unwrap() as usize;
    let taken = (0..2 * size).take_while(|_| nix::unistd::write(&inlet, b"x") == Ok(1)).count();
    assert_eq!(taken, size);
    let mut all = vec![0; 2 * size];
    assert_eq!(nix::unistd::read(&outlet, &mut all), Ok(size));
}

#[test]
fn an_interrupted_pair_reports_what_it_moved() {
    for stage in Stage::ALL {
        let mut running =
            prepare(stage, Knobs { bytes: Some(ENDLESS), ..Knobs::default() }).release();
        let start = Instant::now();
        while running.moved().read < 8 << 20 {
            assert!(!running.wait_timeout(Duration::from_millis(5)).unwrap());
            assert!(start.elapsed() < Duration::from_secs(20), "nothing moves");
        }
        running.interrupt();
        let outcome = running.wait().unwrap();
        assert!(outcome.interrupted);
        assert_eq!(outcome.failures(), [], "{stage}");
        assert!(outcome.bytes >= 8 << 20);
        assert_eq!(outcome.bytes, outcome.written_bytes, "the reader drains the pipe");
        assert!(outcome.reader.report.unwrap().tally.other_end_gone);
    }
}

#[test]
fn an_end_that_crashes_is_reported() {
    for (victim, name) in [(0, "writer"), (1, "reader")] {
        let running =
            prepare(Stage::Splice, Knobs { bytes: Some(ENDLESS), ..Knobs::default() }).release();
        until("bytes move", || running.moved().read > 0);
        kill(Pid::from_raw(running.pipeline().members[victim].pid), Signal::SIGKILL).unwrap();
        let outcome = running.wait().unwrap();
        let failures = outcome.failures();
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].message.contains(name), "{failures:?}");
        assert!(failures[0].message.contains("SIGKILL"), "{failures:?}");
        assert!(!outcome.interrupted);
        assert!(outcome.bytes > 0);
    }
}

#[test]
fn a_pair_that_is_dropped_leaves_no_process() {
    let endless = || prepare(Stage::Write, Knobs { bytes: Some(ENDLESS), ..Knobs::default() });
    let prepared = endless();
    let mut members = prepared.pipeline().members.clone();
    drop(prepared);
    let running = endless().release();
    members.extend(running.pipeline().members.clone());
    drop(running);
    for member in members {
        assert!(!PathBuf::from(format!("/proc/{}", member.pid)).exists(), "{member:?}");
    }
}

#[test]
fn an_end_that_never_gets_ready_is_reported() {
    let plan = plan(Stage::Write, Knobs::default());
    let started = |program: &str| {
        launch(&plan, &Reexec { program: program.into(), arguments: Vec::new() }).unwrap_err()
    };
    let error = started("/nonexistent/program");
    assert!(matches!(error, Error::Spawn { end: End::Writer, .. }), "{error}");
    let error = started("/bin/false");
    assert!(error.to_string().contains("died before it was ready (exit status: 1)"), "{error}");
}

#[test]
fn a_refused_pipe_size_comes_with_the_setting_to_change() {
    let max = pipeprof_runner::machine::pipe_max_size().unwrap();
    let knobs = Knobs { pipe_size: Some(max * 2), bytes: Some(1 << 20), ..Knobs::default() };
    match launch(&plan(Stage::Write, knobs), &binary()) {
        Ok(prepared) => {
            eprintln!("skipped: this process may exceed fs.pipe-max-size (CAP_SYS_RESOURCE)");
            assert_eq!(prepared.pipeline().pipes[0].capacity_bytes, Some(max * 2));
        }
        Err(error) => {
            let hint = error.hint().unwrap();
            assert_eq!(hint, format!("sudo sysctl fs.pipe-max-size={}", max * 2), "{error}");
        }
    }
}

#[test]
fn huge_pages_are_really_huge() {
    let knobs = Knobs { check_huge_page: true, bytes: Some(1 << 20), ..Knobs::default() };
    match launch(&plan(Stage::HugePage, knobs), &binary()) {
        Ok(prepared) => assert_clean(&prepared.release().wait().unwrap(), 1 << 20),
        Err(error) => {
            // Whatever forbids it here, it is said, and how to lift it.
            assert!(error.hint().is_some(), "{error}");
            eprintln!("skipped: {error}");
        }
    }
}
