//! Recordings, made and read through the command line.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn pipeprof(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeprof"));
    command.current_dir(folder);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Records half a second of a pipeline of programs that are there everywhere. `None`, said on
/// stderr, where this machine forbids it.
fn record(folder: &Path, line: &str) -> Option<()> {
    let output = pipeprof(folder)
        .args(["record", "-o", "it", "--duration", "500ms", "-c", line])
        .output()
        .unwrap();
    if !output.status.success()
        && stderr(&output).contains("the kernel refused every sampling event")
    {
        eprintln!("skipped: {}", stderr(&output));
        return None;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    Some(())
}

#[test]
fn a_recording_renders_the_same_for_a_stranger_without_programs_or_kernel_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::set_permissions(here, std::fs::Permissions::from_mode(0o755)).unwrap();
    // A program that will be gone when the recording is read.
    std::fs::copy("/usr/bin/yes", here.join("gone")).unwrap();
    if record(here, "./gone | cat >/dev/null").is_none() {
        return;
    }
    let mut names: Vec<String> = std::fs::read_dir(here.join("it.pipeprof"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["perf.data", "pipeprof.json", "states.json", "symbols.json"]);
    assert!(!here.join("it.pipeprof.partial").exists());
    let render = |command: &mut Command, svg: &str| {
        let output = command.args(["flame", "it.pipeprof", "-o", svg]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (std::fs::read(here.join(svg)).unwrap(), output.stdout)
    };
    let first = render(&mut pipeprof(here), "first.svg");
    assert!(String::from_utf8_lossy(&first.0).contains("pipe"));

    std::fs::remove_file(here.join("gone")).unwrap();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    std::fs::set_permissions(here, std::fs::Permissions::from_mode(0o777)).unwrap();
    // A recording is its owner's alone until that one gives it away.
    let it = here.join("it.pipeprof");
    std::fs::set_permissions(&it, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in &names {
        std::fs::set_permissions(it.join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let program = here.join("pipeprof");
    std::fs::copy(env!("CARGO_BIN_EXE_pipeprof"), &program).unwrap();
    let mut stranger = Command::new("setpriv");
    stranger.current_dir(here);
    stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    assert!(render(&mut stranger, "second.svg") == first, "the two differ");
}

#[test]
fn a_recording_whose_maker_was_killed_opens_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut child = pipeprof(here)
        .args(["record", "-o", "it", "-c", "timeout 10 yes | cat >/dev/null"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let partial = here.join("it.pipeprof.partial");
    let size = || partial.join("perf.data").metadata().map_or(0, |meta| meta.len());
    let waited = Instant::now();
    while size() < 300_000 && waited.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(20));
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    if stderr(&output).contains("the kernel refused every sampling event") {
        eprintln!("skipped: {}", stderr(&output));
        return;
    }
    let output = pipeprof(here).args(["report", "--json", "it.pipeprof.partial"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["quality"]["cut_short"], true);
    let again = pipeprof(here).args(["record", "-o", "it", "-c", "true"]).output().unwrap();
    assert!(stderr(&again).contains("was interrupted"), "{}", stderr(&again));
    assert!(stderr(&again).contains("hint: "), "{}", stderr(&again));
}

#[test]
fn files_of_perf_record_are_read_in_every_form() {
    if Command::new("perf").arg("--version").output().is_err() {
        eprintln!("skipped: perf is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let work = "sh -c 'timeout 1 yes | cat >/dev/null'";
    let plain = format!("perf record -g -e cpu-clock -F 2000 -o plain.data -- {work}");
    let packed = format!("perf record -z -g -e cpu-clock -F 2000 -o packed.data -- {work}");
    let stream = format!("perf record -g -e cpu-clock -F 2000 -o - -- {work} >stream.data");
    let dwarf =
        format!("perf record -z --call-graph dwarf -e cpu-clock -F 2000 -o dwarf.data -- {work}");
    let user = format!("perf record -e cpu-clock:u -c 100000 -o flat.data -- {work}");
    for (line, file) in [
        (plain, "plain.data"),
        (packed, "packed.data"),
        (stream, "stream.data"),
        (dwarf, "dwarf.data"),
        (user, "flat.data"),
    ] {
        let made = Command::new("sh").current_dir(here).args(["-c", &line]).output().unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
        let output = pipeprof(here).args(["report", "--json", file]).output().unwrap();
        assert!(output.status.success(), "{file}: {}", stderr(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let samples = report["quality"]["samples"].as_u64().unwrap();
        let perf = Command::new("perf")
            .current_dir(here)
            .args(["script", "-F", "pid", "-i", file])
            .output()
            .unwrap();
        let theirs = String::from_utf8_lossy(&perf.stdout);
        let theirs =
            theirs.lines().filter(|line| line.trim().parse::<i32>().is_ok()).count() as u64;
        assert!(theirs > 0, "{file}: {}", stderr(&perf));
        assert_eq!(samples, theirs, "{file}");
        assert_eq!(report["quality"]["cut_short"], false, "{file}");
        let members: Vec<&str> = report["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|member| member["comm"].as_str().unwrap())
            .collect();
        // What cat does, it does in the kernel.
        let both = members.contains(&"yes") && (members.contains(&"cat") || file == "flat.data");
        assert!(both, "{file}: {members:?}");
    }

    // The user half alone, and a stream on standard input.
    let shown = |line: &str| {
        let line = line.replace("pipeprof", env!("CARGO_BIN_EXE_pipeprof"));
        let output = Command::new("sh").current_dir(here).args(["-c", &line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = shown("pipeprof report - <stream.data");
    assert!(text.starts_with("stdin on Linux") && text.contains(" of CPU "), "{text}");
    assert!(shown("pipeprof report flat.data").contains(" of user CPU "));
    shown("cat plain.data | pipeprof flame - && test -s stdin.svg");
}

#[test]
fn what_is_no_recording_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(here.join("text"), "hello").unwrap();
    std::fs::create_dir(here.join("empty.pipeprof")).unwrap();
    std::fs::create_dir(here.join("later.pipeprof")).unwrap();
    std::fs::write(here.join("later.pipeprof/pipeprof.json"), r#"{"version": 99}"#).unwrap();
    for (name, words) in [
        ("text", "not a perf.data file"),
        ("missing", "No such file"),
        ("empty.pipeprof", "pipeprof.json"),
        ("later.pipeprof", "version 99"),
        ("/dev/null", "not a regular file"),
    ] {
        let output = pipeprof(here).args(["report", name]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).contains(words), "{name}: {}", stderr(&output));
    }
}

/// The kernel gives samples of two profilers one id where both are due at once.
#[test]
fn recordings_of_two_at_once_open_in_perf() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let begin = |name: &str| {
        let line = "(yes | head -c 100G) | cat >/dev/null";
        pipeprof(here)
            .args(["record", "--duration", "3s", "-o", name, "-c", line])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let running = ["a", "b"].map(|name| (name, begin(name)));
    for (name, child) in running {
        let output = child.wait_with_output().unwrap();
        if !output.status.success()
            && stderr(&output).contains("the kernel refused every sampling event")
        {
            return eprintln!("skipped: {}", stderr(&output));
        }
        assert!(output.status.success(), "{}", stderr(&output));
        let perf_data = here.join(format!("{name}.pipeprof/perf.data"));
        let script = Command::new("perf")
            .args(["script", "-f", "-F", "comm,event", "-i"])
            .arg(perf_data)
            .output();
        let Ok(script) = script else { return eprintln!("skipped: perf is not installed") };
        assert!(script.status.success(), "{}", stderr(&script));
        assert!(String::from_utf8_lossy(&script.stdout).contains("context-switches"));
    }
}

/// Sampling goes off and on in windows while its effect is measured. Names, forks and mappings are
/// recorded all the same: each program that is executed by turns with a sleep is there.
#[test]
fn every_exec_is_recorded_while_sampling_goes_off_and_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let output = pipeprof(here)
        .args(["record", "-o", "it", "-c"])
        .arg("yes | (i=0; while [ $i -lt 150 ]; do /bin/true; sleep 0.01; i=$((i+1)); done)")
        .output()
        .unwrap();
    if stderr(&output).contains("the kernel refused every sampling event") {
        return eprintln!("skipped: {}", stderr(&output));
    }
    assert!(output.status.success(), "{}", stderr(&output));
    let script = Command::new("perf")
        .args(["script", "--show-task-events", "--show-mmap-events", "-i"])
        .arg(here.join("it.pipeprof/perf.data"))
        .output();
    let Ok(script) = script else { return eprintln!("skipped: perf is not installed") };
    let text = String::from_utf8_lossy(&script.stdout);
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("PERF_RECORD_COMM exec: true:"), 150, "{}", stderr(&script));
    assert_eq!(count("PERF_RECORD_COMM exec: sleep:"), 150);
    assert!(count("PERF_RECORD_FORK(") >= 300);
    let mappings = text.lines().filter(|line| line.contains("MMAP") && line.contains("/true"));
    assert!(mappings.count() >= 150, "each maps its code");
}
