//! What is lost is counted: rings of a single page, which overflow at once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "common/wait.rs"]
mod wait;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::attr::EventAttr;
use pipeprof_profiler::event::Event;
use pipeprof_profiler::perfdata::record::{Parsed, parse};
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::ring::{Ring, page_bytes};
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::{PerfSystem, RunningKernel};
use pipeprof_runner::pipeline::{Member, Pipeline};
use wait::on_cpu;

/// The kernel, with rings that hold some twenty samples.
struct TinyRings;

impl PerfSystem for TinyRings {
    fn open(&self, attr: &EventAttr, pid: i32, cpu: i32) -> Result<OwnedFd, Errno> {
        RunningKernel.open(attr, pid, cpu)
    }

    fn map(&self, event: BorrowedFd<'_>, _bytes: usize) -> Result<Ring, Errno> {
        RunningKernel.map(event, page_bytes())
    }

    fn redirect(&self, event: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
        RunningKernel.redirect(event, target)
    }

    fn enable(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        RunningKernel.enable(event)
    }

    fn disable(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        RunningKernel.disable(event)
    }

    fn set_period(&self, event: BorrowedFd<'_>, period: u64) -> Result<(), Errno> {
        RunningKernel.set_period(event, period)
    }

    fn set_filter(&self, event: BorrowedFd<'_>, filter: &str) -> Result<(), Errno> {
        RunningKernel.set_filter(event, filter)
    }

    fn id(&self, event: BorrowedFd<'_>) -> Result<u64, Errno> {
        RunningKernel.id(event)
    }
}

/// Page faults on each CPU, fewer than a ring holds.
fn fault_on_each_cpu() {
    let this = Pid::from_raw(0);
    let ours = sched_getaffinity(this).unwrap();
    for cpu in (0..CpuSet::count()).filter(|&cpu| ours.is_set(cpu).unwrap_or(false)) {
        let mut one = CpuSet::new();
        one.set(cpu).unwrap();
        sched_setaffinity(this, &one).unwrap();
        let mut memory = memmap2::MmapMut::map_anon(8 * page_bytes()).unwrap();
        memory.advise(memmap2::Advice::NoHugePage).unwrap();
        memory.iter_mut().step_by(page_bytes()).for_each(|byte| *byte = 1);
    }
    sched_setaffinity(this, &ours).unwrap();
}

#[test]
fn what_the_rings_had_no_room_for_is_counted_to_the_record() {
    // Each program that begins takes some hundred page faults at once.
    let mut shell = Command::new("sh").args(["-c", "while :; do /bin/true; done"]).spawn().unwrap();
    let member = Member {
        pid: shell.id() as i32,
        start_time_ticks: None,
        comm: "sh".to_owned(),
        command_line: Vec::new(),
        end: None,
    };
    let pipeline = Pipeline { members: vec![member], pipes: Vec::new() };
    let dir = RecordingDir::temporary().unwrap();
    let event = Event::named("page-faults");
    let config = CaptureConfig { event, frequency_hz: 100_000, ..Default::default() };
    let attached = Session::attach(&TinyRings, &pipeline, &config, dir);
    on_cpu(&[shell.id()], Duration::from_millis(200));
    shell.kill().unwrap();
    shell.wait().unwrap();
    // What a full ring had no room for is told by the next record that it has.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        fault_on_each_cpu();
    }
    let finished = attached.and_then(|session| session.finish(&TinyRings));
    let recording = match finished {
        Ok(recording) => recording,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let loaded = recording.load().unwrap();
    let told: u64 = loaded
        .file
        .records(&loaded.bytes)
        .filter_map(|(_, record)| {
            let layout = loaded.file.events[loaded.file.event_of_record(&record)].layout;
            match parse(&record, layout) {
                Some(Parsed::Lost { count, .. }) => Some(count),
                _ => None,
            }
        })
        .sum();
    assert!(told > 0, "rings of a page lost nothing");
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    match recording.meta.lost {
        // What was lost since had no record after it that could tell: the events have counted it.
        Some(counted) => {
            assert!(told <= counted, "{told} told, {counted} counted");
            assert!((counted - told) * 20 <= counted, "{told} told, {counted} counted");
            assert_eq!(profile.quality.lost, counted);
        }
        None => assert_eq!(profile.quality.lost, told),
    }
    assert_eq!(profile.quality.malformed_records, 0);
}
