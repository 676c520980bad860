//! Meters real pipes whose bytes are known beforehand.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/tracefs.rs"]
mod tracefs;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipeprof_profiler::meter::{Bytes, Meter, PipeFlow, Source};
use pipeprof_runner::discover::{Extent, discover};

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
        std::thread::sleep(Duration::from_millis(150));
        Shell(child)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// Meters a shell line that takes some two seconds, from its birth to just before its end.
fn meter(line: &str, millis: u64) -> Vec<PipeFlow> {
    let shell = Shell::run(line);
    let found = discover(&[shell.0.id() as i32], Extent::Whole).unwrap();
    let meter = Meter::start(found, true).unwrap();
    std::thread::sleep(Duration::from_millis(millis));
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
    let line = format!(
        "(head -c {BYTES} /dev/zero | pv -q -L {}; sleep 2) | dd of=/dev/null bs=64K status=none",
        BYTES / 2
    );
    let flows = meter(&line, 2_800);
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
    let full = meter("yes | (sleep 1.5; head -c 1 >/dev/null)", 600);
    let fill = full[0].fill.unwrap();
    assert!(fill.looks >= 3 && fill.full_share().unwrap() > 0.9, "{fill:?}");
    assert_eq!(full[0].capacity_bytes, Some(65_536));
    let empty = meter("(sleep 1.5; echo x) | cat >/dev/null", 600);
    let fill = empty[0].fill.unwrap();
    assert!(fill.looks >= 3 && fill.empty_share().unwrap() > 0.9, "{fill:?}");
}

#[test]
fn a_reader_that_also_reads_elsewhere_does_not_add_to_the_pipe() {
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    elsewhere.as_file().set_len(BYTES).unwrap();
    // Slowly enough to be looked at many times, and still there when the meter stops.
    let line = format!(
        "(i=0; while [ $i -lt 32 ]; do head -c 2097152 /dev/zero; i=$((i+1)); sleep 0.01; done; \
         sleep 3) | cat | cat {} - >/dev/null",
        elsewhere.path().display()
    );
    let flows = meter(&line, 2_500);
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

/// Meters `line` from now for a while, from outside as for a running pipeline, and holds its last
/// pipe against what arrived, which the line counts itself into a file.
fn held_against_the_truth(line: &str, bytes: u64) -> PipeFlow {
    let flows = meter(line, 3_000);
    let flow = flows.last().unwrap().clone();
    let found = flow.bytes.known().unwrap_or_else(|| unreachable!("{line}: {flows:?}"));
    assert!(found.abs_diff(bytes) * 100 <= bytes, "{line}: {found} of {bytes}, {:?}", flow.bytes);
    flow
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
    // Silence first, so that the calls are counted before the first of them is made.
    let line = format!(
        "(sleep 0.5; head -c {BYTES} /dev/zero; sleep 3) | pv -q -L {} | pv -q >/dev/null",
        BYTES / 2
    );
    let flow = held_against_the_truth(&line, BYTES);
    let Bytes::Known { source, .. } = flow.bytes else { return };
    assert!(matches!(source, Source::Syscalls | Source::Writer | Source::Reader), "{flow:?}");
}

#[test]
fn common_programs_are_counted_whatever_they_move_data_with() {
    let bytes = BYTES / 4;
    let head = format!("(sleep 0.3; head -c {bytes} /dev/zero; sleep 3)");
    for rest in [
        "cat | cat >/dev/null",
        "tee /dev/null | wc -c >/dev/null",
        "dd bs=1M status=none | cat >/dev/null",
    ] {
        held_against_the_truth(&format!("{head} | {rest}"), bytes);
    }
}
