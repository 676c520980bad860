//! Meters real pipes whose bytes are known beforehand.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/tracefs.rs"]
mod tracefs;
#[path = "common/wait.rs"]
mod wait;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipeprof_profiler::meter::{Bytes, Meter, PipeFlow, Source};
use pipeprof_runner::discover::{Extent, Found, discover};
use pipeprof_runner::pipeline::Pipe;

const BYTES: u64 = 256 << 20;

struct Shell(Child);

impl Shell {
    fn run(line: &str) -> Shell {
        let child = Command::new("sh")
            .args(["-c", line])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Shell(child)
    }

    /// Its pipeline once that is as it should be.
    fn found(&self, is_ready: impl Fn(&Found) -> bool) -> Found {
        let mut found = Found::default();
        wait::until("the pipeline is formed", || {
            found = discover(&[self.0.id() as i32], Extent::Whole).unwrap_or_default();
            is_ready(&found)
        });
        found
    }

    /// Its pipeline once that has so many pipes with two ends each.
    fn piped(&self, pipes: usize) -> Found {
        self.found(|found| has_pipes(found, pipes))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

fn has_pipes(found: &Found, count: usize) -> bool {
    let pipes = &found.pipeline.pipes;
    let is_whole = |pipe: &Pipe| !pipe.writers.is_empty() && !pipe.readers.is_empty();
    pipes.len() == count && pipes.iter().all(is_whole)
}

/// Meters a shell line for so long, from when what is found of it is as it should be.
fn meter_once(line: &str, is_ready: impl Fn(&Found) -> bool, millis: u64) -> Vec<PipeFlow> {
    let shell = Shell::run(line);
    let meter = Meter::start(shell.found(is_ready), true).unwrap();
    std::thread::sleep(Duration::from_millis(millis));
    meter.finish().unwrap()
}

/// Meters a shell line until all has gone through: `line` is told which file to make then, and has to
/// stay for two seconds more.
fn meter_until_gone(pipes: usize, line: impl Fn(&str) -> String) -> Vec<PipeFlow> {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let line = line(&gone.display().to_string());
    let shell = Shell::run(&line);
    let meter = Meter::start(shell.piped(pipes), true).unwrap();
    wait::until(&line, || gone.exists());
    // The last bytes pass on, and are looked at.
    std::thread::sleep(Duration::from_millis(600));
    meter.finish().unwrap()
}

#[test]
fn bytes_of_a_pipe_are_those_that_went_through() {
    if Command::new("pv").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: pv is not installed");
        return;
    }
    // Two seconds at a metered rate, and then silence at the writer's end, so that all has gone
    // through before the meter stops.
    let flows = meter_until_gone(2, |gone| {
        format!(
            "(head -c {BYTES} /dev/zero | pv -q -L {}; : >{gone}; sleep 2) \
             | dd of=/dev/null bs=64K status=none",
            BYTES / 2
        )
    });
    assert_eq!(flows.len(), 2, "{flows:?}");
    for flow in &flows {
        let bytes = flow.bytes.known().unwrap();
        assert!(bytes.abs_diff(BYTES) * 100 <= BYTES, "{bytes} of {BYTES}: {flows:?}");
        let points = &flow.over_time;
        assert!(points.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes), "{points:?}");
    }
}

#[test]
fn a_pipe_whose_reader_sleeps_is_found_full_and_one_whose_writer_sleeps_empty() {
    let is_full = |found: &Found| {
        let levels = found.levels();
        let level = levels.first().copied().flatten();
        level.is_some_and(|level| level.fill_bytes > 0 && level.fill_bytes == level.capacity_bytes)
    };
    let full = meter_once("yes | (sleep 3; head -c 1 >/dev/null)", is_full, 600);
    let fill = full[0].fill.unwrap();
    assert!(fill.looks >= 3 && fill.full_share().unwrap() > 0.9, "{fill:?}");
    assert_eq!(full[0].capacity_bytes, Some(65_536));
    let empty =
        meter_once("(sleep 1.5; echo x) | cat >/dev/null", |found| has_pipes(found, 1), 600);
    let fill = empty[0].fill.unwrap();
    assert!(fill.looks >= 3 && fill.empty_share().unwrap() > 0.9, "{fill:?}");
}

#[test]
fn a_reader_that_also_reads_elsewhere_does_not_add_to_the_pipe() {
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    elsewhere.as_file().set_len(BYTES).unwrap();
    // Slowly enough to be looked at many times, and still there when the meter stops.
    let flows = meter_until_gone(2, |gone| {
        format!(
            "(i=0; while [ $i -lt 32 ]; do head -c 2097152 /dev/zero; i=$((i+1)); sleep 0.01; done; \
             : >{gone}; sleep 3) | cat | cat {} - >/dev/null",
            elsewhere.path().display()
        )
    });
    let truth: u64 = 64 << 20;
    // What it read elsewhere before the first look shows in its count only: then the two ends
    // disagree, and nothing is claimed. Never is it added to the pipe.
    let last = &flows.last().unwrap().bytes;
    if let Some(bytes) = last.known() {
        assert!(bytes.abs_diff(truth) * 100 <= truth, "{bytes} of {truth}: {flows:?}");
        assert_eq!(*last, Bytes::Known { bytes, source: Source::Writer });
    } else {
        assert!(format!("{last:?}").contains("disagree"), "{last:?}");
    }
}

/// Meters zeros through a pipeline, from outside as for a running one, and holds its last pipe
/// against what went in.
fn held_against_the_truth(line: &str, bytes: u64) -> PipeFlow {
    // Nothing is claimed of splices where a busy machine took more than a hundredth of the time to
    // have them counted.
    let late = |flows: &[PipeFlow]| {
        let last = &flows.last().unwrap().bytes;
        matches!(last, Bytes::Unknown { why } if why.contains("less than 99 % of the time"))
    };
    let flows = (0..5).map(|_| metered(line, bytes)).find(|flows| !late(flows)).unwrap();
    let flow = flows.last().unwrap().clone();
    let found = flow.bytes.known().unwrap_or_else(|| unreachable!("{line}: {flows:?}"));
    assert!(found.abs_diff(bytes) * 100 <= bytes, "{line}: {found} of {bytes}, {:?}", flow.bytes);
    flow
}

fn metered(line: &str, bytes: u64) -> Vec<PipeFlow> {
    let folder = tempfile::tempdir().unwrap();
    let [go, gone] = ["go", "gone"].map(|name| folder.path().join(name));
    // Silence until they are metered, so that the calls are counted before the first of them is
    // made, and after that, so that all has gone through before the meter stops.
    let shell = Shell::run(&format!(
        "(while [ ! -e {go} ]; do sleep 0.05; done; head -c {bytes} /dev/zero; : >{gone}; sleep 3) \
         | {line}",
        go = go.display(),
        gone = gone.display(),
    ));
    let meter = Meter::start(shell.piped(1 + line.matches(" | ").count()), true).unwrap();
    // Nothing tells when the calls begin to be counted.
    std::thread::sleep(Duration::from_millis(1_500));
    std::fs::write(&go, "").unwrap();
    wait::until(line, || gone.exists());
    std::thread::sleep(Duration::from_millis(700));
    meter.finish().unwrap()
}

#[test]
fn a_pipe_with_a_splice_at_both_ends_is_counted_by_its_calls() {
    if Command::new("pv").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: pv is not installed");
        return;
    }
    if !tracefs::mounted() {
        return;
    }
    let line = format!("pv -q -L {} | pv -q >/dev/null", BYTES / 2);
    let flow = held_against_the_truth(&line, BYTES);
    let Bytes::Known { source, .. } = flow.bytes else { return };
    assert!(matches!(source, Source::Syscalls | Source::Writer | Source::Reader), "{flow:?}");
}

#[test]
fn common_programs_are_counted_whatever_they_move_data_with() {
    for line in [
        "cat | cat >/dev/null",
        "tee /dev/null | wc -c >/dev/null",
        "dd bs=1M status=none | cat >/dev/null",
    ] {
        held_against_the_truth(line, BYTES / 4);
    }
}

/// Who waits for a process has its whole account then, also what it had moved before anybody looked.
#[test]
fn children_that_come_and_go_at_an_end_count_from_the_beginning_of_the_watch() {
    // On a busy machine one may end, and the next write, while the search goes on: what that one
    // had written by then is unknown, and so may be the whole. It is never wrong.
    let counted = (0..3).any(|_| {
        let (truth, bytes) = bytes_of_children_in_a_row();
        let Some(found) = bytes.known() else { return false };
        assert!(found.abs_diff(truth) * 25 <= truth, "{found} of {truth}");
        true
    });
    assert!(counted, "unknown each time");
}

/// What a reader has read since a watch over it began, and what the watch says that went through its
/// pipe: one child of a shell after the other writes.
fn bytes_of_children_in_a_row() -> (u64, Bytes) {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let part = BYTES;
    let shell = Shell::run(&format!(
        "(for i in 1 2 3 4 5 6 7 8; do head -c {part} /dev/zero; done; : >{gone}; sleep 3) \
         | dd of=/dev/null bs=64K status=none",
        gone = gone.display(),
    ));
    let found = shell.piped(1);
    let reader = found.pipeline.pipes[0].readers[0].pid;
    let read = || {
        let io = std::fs::read_to_string(format!("/proc/{reader}/io")).unwrap();
        let count = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        count.parse::<u64>().unwrap()
    };
    wait::until("the first one has written a part", || read() > part / 4);
    // As a watch does right before it counts: under load another child writes by now.
    let found = discover(&[reader], Extent::Whole).unwrap();
    let before = read();
    let meter = Meter::start(found, false).unwrap();
    wait::until("all is written", || {
        if let Ok(found) = discover(&[reader], Extent::Whole) {
            meter.follow(found);
        }
        gone.exists()
    });
    std::thread::sleep(Duration::from_millis(600));
    let truth = read() - before;
    let flows = meter.finish().unwrap();
    (truth, flows[0].bytes.clone())
}
