//! `pipeprof report` as a user meets it, beside `perf report` on the same file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::{may_profile_kernel, run_in, stderr, stdout};

/// One recording for all tests; `None`, said on stderr, where the machine forbids it.
fn recorded() -> Option<&'static Path> {
    static RECORDED: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        if !may_profile_kernel() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let record = "record --stage splice --bytes 6G -F 1999 -o it";
        let output = run_in(folder.path(), &record.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{}", stderr(&output));
        let path = folder.path().to_owned();
        Some((folder, path))
    });
    recorded.as_ref().map(|(_, path)| path.as_path())
}

fn report(line: &str) -> Option<String> {
    let mut args = vec!["report", "it.pipeprof"];
    args.extend(line.split_whitespace());
    let output = run_in(recorded()?, &args);
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    Some(stdout(&output))
}

/// Rows of a flat table: share of the sample itself, and what follows the number of samples.
fn rows(text: &str, has_total: bool) -> Vec<(f64, String)> {
    text.lines()
        .skip(1)
        .filter(|line| !line.contains(" left out: "))
        .map(|line| {
            let line = line.replace(" %", "%");
            let mut words = line.split_whitespace();
            // Less than can be shown is a third of a tenth, in the middle of many rows.
            let share = match words.next().unwrap() {
                "<0.1%" => 0.03,
                share => share.trim_end_matches('%').parse().unwrap(),
            };
            let rest: Vec<&str> = words.skip(1 + usize::from(has_total)).collect();
            (share, rest.join(" "))
        })
        .collect()
}

/// The number of samples in each row of a flat table with totals.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let row = |line: &str| -> Option<(String, f64)> {
        let line = line.replace(" %", "%");
        let mut words = line.split_whitespace();
        let number = words.nth(2)?.replace(',', "").parse().ok()?;
        Some((words.collect::<Vec<_>>().join(" "), number))
    };
    added_up(text.lines().skip(1).filter(|line| !line.contains(" left out: ")).filter_map(row))
}

/// Several functions can have one name.
fn added_up(rows: impl Iterator<Item = (String, f64)>) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    rows.for_each(|(name, number)| *sums.entry(name).or_default() += number);
    sums
}

#[test]
fn the_heaviest_functions_are_those_of_perf() {
    let Some(members) = report("--sort member") else { return };
    if Command::new("perf").arg("--version").output().is_err() {
        eprintln!("skipped: perf is not installed");
        return;
    }
    for (_, member) in rows(&members, false) {
        let pid = member.rsplit('(').next().unwrap().trim_end_matches(')');
        // Without the process among its keys perf merges the functions of all first.
        let perf = Command::new("perf")
            .args(["report", "-f", "--no-children", "-g", "none", "--stdio"])
            .args(["-F", "sample,pid,sym", "--pid", pid, "-i"])
            .arg(recorded().unwrap().join("it.pipeprof/perf.data"))
            .output()
            .unwrap();
        // A table for the event that samples, and others for switches.
        let tables = stdout(&perf);
        let sampled =
            tables.split("# Samples: ").skip(1).find(|table| !table.contains("context-switches"));
        let row = |line: &str| -> Option<(String, f64)> {
            let (samples, rest) = line.trim().split_once(' ')?;
            let at = rest.find('[')?;
            Some((rest[at..].trim().to_owned(), samples.parse().ok()?))
        };
        let theirs =
            added_up(sampled.unwrap_or_else(|| panic!("{tables}")).lines().filter_map(row));
        let sum: f64 = theirs.values().sum();
        let all = report(&format!("--sort function --percent-limit 0 --member {pid}")).unwrap();
        let numbers = numbers(&all);
        let of_ours: f64 = numbers.values().sum();
        let ours = report(&format!("--sort function --percent-limit 1 --member {pid}")).unwrap();
        let ours = rows(&ours, true);
        // In user code perf names the function that the address is in, not what was inlined there.
        let kernel: Vec<_> = ours.iter().filter(|(_, name)| name.starts_with("[k]")).collect();
        assert!(kernel.len() > 3, "{ours:?}");
        for (share, name) in kernel {
            let theirs = 100.0 * theirs.get(name).copied().unwrap_or_default() / sum;
            let number = *numbers.get(name).unwrap_or_else(|| panic!("{name}: {all}"));
            let number = 100.0 * number / of_ours;
            assert!((number - theirs).abs() < 0.3, "{name} is {number} here, {theirs} to perf");
            // We go by weight, perf by number: where samples are taken in windows, each counts for
            // twice its period, and for once in between.
            assert!((share - theirs).abs() < 3.0, "{name} is {share} here, {theirs} to perf");
        }
    }
}

#[test]
fn a_flat_table_adds_up_whatever_it_is_by() {
    for (keys, has_total) in
        [("member", false), ("role", false), ("member,role", false), ("member,function", true)]
    {
        let Some(text) = report(&format!("--sort {keys} --percent-limit 0")) else { return };
        let rows = rows(&text, has_total);
        let sum: f64 = rows.iter().map(|(share, _)| share).sum();
        // Each row is rounded to a tenth.
        let rounding = (0.05 * rows.len() as f64).max(1.5);
        assert!((sum - 100.0).abs() <= rounding, "{keys}: {sum}\n{text}");
    }
    let shares: Vec<f64> =
        rows(&report("--sort role").unwrap(), false).iter().map(|row| row.0).collect();
    assert!(shares.is_sorted_by(|a, b| a >= b) && shares.len() > 3, "{shares:?}");
    // By total, the root of all comes first.
    let total = report("--sort total --member writer").unwrap();
    let first = total.lines().nth(1).unwrap().replace(" %", "%");
    let root = first.split_whitespace().nth(1).unwrap();
    let root: f64 = root.trim_end_matches('%').parse().unwrap();
    assert!(!total.contains("pp-read") && root > 98.0, "{total}");
    let limited = report("--sort function --percent-limit 10").unwrap();
    assert!(rows(&limited, true).iter().all(|(share, _)| *share >= 10.0), "{limited}");
}

#[test]
fn one_member_and_what_is_large() {
    let Some(text) = report("--member writer --percent-limit 5") else { return };
    assert!(text.contains("writer pp-write") && !text.contains("reader pp-read ("), "{text}");
    assert!(text.contains("→ pp-read ("), "its pipe still has two ends: {text}");
    // Of its roles and functions; a member may be runnable for less.
    let tables = text.split_once("  role ").unwrap().1.split_once("  highlighted").unwrap().0;
    assert!(!tables.contains("  0."), "{text}");
    assert_eq!(text, report("--member pp-write --percent-limit 5").unwrap());
    let output = run_in(recorded().unwrap(), &["report", "it.pipeprof", "--member", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("members: writer pp-write ("), "{}", stderr(&output));
    let json = report("--member reader --json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["members"].as_array().unwrap().len(), 1);
    assert_eq!(json["members"][0]["end"], "reader");
}

#[test]
fn a_tree_goes_both_ways() {
    let Some(called) = report("--tree wait_for_space --member writer") else { return };
    let callers = report("--tree wait_for_space --member writer --callers").unwrap();
    let first = |text: &str| text.lines().nth(1).unwrap().to_owned();
    assert!(first(&called).contains("wait_for_space"));
    // The function costs the same, whoever asks.
    assert_eq!(first(&called)[2..20], first(&callers)[2..20]);
    assert!(!called.contains("do_syscall_64") && callers.contains("do_syscall_64"), "{callers}");
    assert!(called.contains("schedule") && !callers.contains("__schedule"), "{called}{callers}");
}

/// `script` gives the command a terminal of its own.
fn on_a_terminal(line: &str, pager: Option<&str>) -> Option<String> {
    let here = recorded()?;
    let pipeprof = env!("CARGO_BIN_EXE_pipeprof");
    let mut script = Command::new("script");
    script
        .args(["-qec", &format!("{pipeprof} report it.pipeprof {line}"), "/dev/null"])
        .current_dir(here)
        .env("TERM", "dumb")
        .env_remove("PAGER")
        .env_remove("LESS");
    if let Some(pager) = pager {
        script.env("PAGER", pager);
    }
    match script.output() {
        Ok(output) => {
            assert!(output.status.success(), "{pager:?}: {}", stdout(&output));
            Some(stdout(&output))
        }
        Err(error) => {
            eprintln!("skipped: script: {error}");
            None
        }
    }
}

#[test]
fn a_pager_where_there_is_a_terminal_and_one_at_all() {
    let Some(paged) = on_a_terminal("", Some("sed 's/^/paged: /'")) else { return };
    assert!(paged.lines().all(|line| line.starts_with("paged: ")), "{paged}");
    let plain = on_a_terminal("--no-pager", Some("sed 's/^/paged: /'")).unwrap();
    assert!(plain.contains("writer pp-write") && !plain.contains("paged: "), "{plain}");
    for pager in [Some("no-such-pager"), Some(""), Some("cat")] {
        let shown = on_a_terminal("", pager).unwrap();
        assert!(shown.contains("writer pp-write"), "{pager:?}: {shown}");
    }
    // One that quits at once is a reader that has seen enough.
    on_a_terminal("", Some("true")).unwrap();
    // Where there is no terminal there is no pager.
    let mut piped = common::pipeprof();
    piped.args(["report", "it.pipeprof"]).current_dir(recorded().unwrap()).env("PAGER", "false");
    assert!(stdout(&piped.output().unwrap()).contains("writer pp-write"));
}
