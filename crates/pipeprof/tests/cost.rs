//! `pipeprof cost` as a user meets it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PIPEPROF: &str = env!("CARGO_BIN_EXE_pipeprof");

fn pipeprof(line: &str) -> Output {
    Command::new(PIPEPROF).args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

fn stdout(line: &str) -> String {
    let began = Instant::now();
    let output = pipeprof(line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(began.elapsed() < Duration::from_secs(60), "{line} took {:?}", began.elapsed());
    String::from_utf8(output.stdout).unwrap()
}

fn json(line: &str) -> Value {
    serde_json::from_str(&stdout(line)).unwrap()
}

/// The median, after a look at the whole.
fn median(spread: &Value) -> f64 {
    let of = |name: &str| spread[name].as_f64().unwrap();
    assert!(0.0 < of("min") && of("min") <= of("median") && of("median") <= of("max"), "{spread}");
    of("median")
}

#[test]
fn pages_that_have_to_be_faulted_in_are_dearer() {
    let found = json("cost pages --bytes 4M --rounds 5 --json");
    let page = found["page_bytes"].as_u64().unwrap();
    assert_eq!(found["rounds"], 5);
    assert!(median(&found["tee_ns_per_page"]) > 0.0);
    let gup = &found["gup_test"];
    assert!(gup["Ok"]["get_ns_per_page"].is_f64() || gup["Err"].is_string(), "{gup}");
    let rows = found["rows"].as_array().unwrap();
    let kinds: Vec<(bool, bool)> =
        rows.iter().map(|row| (row["backing_bytes"] == page, row["touched"] == true)).collect();
    assert_eq!(kinds, [(true, true), (true, false), (false, true), (false, false)]);
    for row in rows {
        if let Some(why) = row["not_had"].as_str() {
            assert_ne!(row["backing_bytes"], page);
            eprintln!("skipped: huge pages: {why}");
            continue;
        }
        assert!(median(&row["vmsplice_ns_per_page"]) > 0.0);
        assert!(median(&row["drain_ns_per_page"]) > 0.0);
        let faults = row["faults_per_page"].as_f64().unwrap();
        let expected = match (row["backing_bytes"] == page, row["touched"] == true) {
            (_, true) => 0.0,
            (true, false) => 1.0,
            (false, false) => page as f64 / row["backing_bytes"].as_f64().unwrap(),
        };
        // Room for a few faults that have nothing to do with the buffer.
        assert!((expected..expected + 0.05).contains(&faults), "{row}");
    }
    let vmsplice = |at: usize| median(&rows[at]["vmsplice_ns_per_page"]);
    assert!(vmsplice(1) > vmsplice(0), "{found}");
}

#[test]
fn each_protection_takes_one_fault() {
    let found = json("cost cow --pages 100 --rounds 3 --json");
    assert_eq!(found["pages"], 128);
    let rows = found["rows"].as_array().unwrap();
    let kinds: Vec<(u64, u64)> = rows
        .iter()
        .map(|row| (row["threads"].as_u64().unwrap(), row["pages_at_a_time"].as_u64().unwrap()))
        .collect();
    if let Some(why) = found["two_threads_not_had"].as_str() {
        eprintln!("skipped: two threads: {why}");
        assert_eq!(kinds, [(1, 1), (1, 64)]);
    } else {
        assert_eq!(kinds, [(1, 1), (1, 64), (2, 1), (2, 64)]);
    }
    for row in rows {
        for part in ["copy", "protect", "splice", "fault"] {
            assert!(median(&row[format!("{part}_ns_per_page")]) > 0.0);
        }
        assert!(median(&row["times_the_copy"]) > 0.0);
        let at_a_time = row["pages_at_a_time"].as_f64().unwrap();
        assert_eq!(row["faults_per_page"].as_f64().unwrap(), 1.0 / at_a_time, "{row}");
    }
    // A system call and a signal for 64 pages are less than 64 of each.
    let games =
        |row: &Value| median(&row["protect_ns_per_page"]) + median(&row["fault_ns_per_page"]);
    assert!(games(&rows[0]) > 2.0 * games(&rows[1]), "{found}");
}

#[test]
fn the_text_ends_in_a_sentence() {
    let text = stdout("cost pages --bytes 2M --rounds 3");
    assert!(text.contains("KiB touched") && text.contains("gup_test"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("On this machine vmsplice"), "{text}");
    let text = stdout("cost cow --pages 64 --rounds 3");
    assert!(
        text.lines().last().unwrap().contains("a multiple of the copy that they save"),
        "{text}"
    );
}

#[test]
fn it_is_found_from_the_stages_and_profiled_as_any_command() {
    assert!(stdout("stages").contains("pipeprof cost pages"));
    for stage in ["pages", "cow"] {
        let output = pipeprof(&format!("flame --stage {stage}"));
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&format!("hint: pipeprof cost {stage}")), "{text}");
    }
    for nonsense in ["cost", "cost pages --bytes 0", "cost cow --pages 0", "cost cow --rounds 0"] {
        assert_eq!(pipeprof(nonsense).status.code(), Some(2), "{nonsense}");
    }
}
