use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// `struct taskstats` with what is read of it.
fn stats(version: u16, tid: u32, pid: u32) -> Vec<u8> {
    let mut bytes = vec![0; 416];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &version.to_ne_bytes());
    put(128, &tid.to_ne_bytes());
    put(132, &7u32.to_ne_bytes());
    for (at, value) in [(216, 2048u64), (224, 4096)] {
        put(at, &value.to_ne_bytes());
    }
    put(368, &pid.to_ne_bytes());
    bytes
}

fn message(stats: &[u8], tid: u32, process: Option<u32>) -> Vec<u8> {
    let aggregate = |outer, inner, id: u32| {
        let parts = [attribute(inner, &id.to_ne_bytes()), attribute(3, stats)];
        attribute(outer, &parts.concat())
    };
    let mut body = vec![2, 1, 0, 0];
    body.extend(aggregate(uapi::TASKSTATS_TYPE_AGGR_PID, uapi::TASKSTATS_TYPE_PID, tid));
    if let Some(pid) = process {
        body.extend(aggregate(uapi::TASKSTATS_TYPE_AGGR_TGID, uapi::TASKSTATS_TYPE_TGID, pid));
    }
    body
}

#[test]
fn the_account_of_a_task_is_its_process_own() {
    let wanted = Exit {
        pid: 40,
        parent: 7,
        leads: false,
        is_partial: false,
        read_bytes: 2048,
        written_bytes: 4096,
    };
    assert_eq!(exit(&message(&stats(16, 41, 40), 41, None)), Some(wanted));
    let leader = Exit { leads: true, ..wanted };
    assert_eq!(exit(&message(&stats(16, 40, 40), 40, Some(40))), Some(leader));
}

#[test]
fn before_5_19_a_process_of_several_threads_is_told_in_part() {
    // The field is not there yet: what stands in its place means nothing.
    let alone = exit(&message(&stats(10, 41, 0), 41, None)).unwrap();
    assert_eq!((alone.pid, alone.leads, alone.is_partial), (41, true, false));
    let last = exit(&message(&stats(10, 41, 0), 41, Some(40))).unwrap();
    assert_eq!((last.pid, last.leads, last.is_partial), (40, false, true));
}

#[test]
fn another_layout_or_a_cut_message_tells_nothing() {
    let mut moved = stats(15, 41, 40);
    moved.splice(32..32, [0; 16]);
    assert_eq!(exit(&message(&moved, 41, None)), None);
    let whole = message(&stats(16, 41, 40), 41, None);
    for length in 0..whole.len() {
        assert_eq!(exit(&whole[..length]), None, "{length}");
    }
}

#[test]
fn a_process_that_ends_tells_what_it_moved() {
    let mut exits = match Exits::listen() {
        Ok(exits) => exits,
        Err(error) => return eprintln!("skipped: taskstats can't be heard: {error}"),
    };
    let mut head = Command::new("head");
    head.args(["-c", "300000", "/dev/zero"]).stdout(Stdio::null());
    let mut child = head.spawn().unwrap();
    let pid = child.id() as i32;
    child.wait().unwrap();
    let mut found = None;
    let deadline = Instant::now() + Duration::from_secs(20);
    while found.is_none() && Instant::now() < deadline {
        exits.take(|exit| found = Some(exit).filter(|exit| exit.pid == pid).or(found)).unwrap();
    }
    let exit = found.unwrap();
    assert_eq!(exit.written_bytes, 300_000 / ROUNDED_TO_BYTES * ROUNDED_TO_BYTES);
    assert_eq!(exit.parent, std::process::id() as i32);
    assert!(exit.leads && exit.read_bytes >= exit.written_bytes, "{exit:?}");
}
