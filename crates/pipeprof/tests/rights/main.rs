//! What pipeprof does and says under real restrictions: levels of paranoia as an ordinary user, and
//! a seccomp filter as container runtimes set up.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod capabilities;
mod sys;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Tests that change or rely on the setting take turns.
static SETTING: Mutex<()> = Mutex::new(());

/// Puts the setting back, come what may.
struct Paranoia {
    before: String,
}

impl Paranoia {
    fn set(level: &str) -> Option<Self> {
        let before = fs::read_to_string(PARANOID).ok()?;
        fs::write(PARANOID, level).ok()?;
        Some(Paranoia { before })
    }
}

impl Drop for Paranoia {
    fn drop(&mut self) {
        let _ = fs::write(PARANOID, self.before.trim());
    }
}

struct Binary {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Binary {
    /// A copy that any user can reach.
    fn reachable() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .expect("permissions");
        let path = directory.path().join("pipeprof");
        // By cp, because a file that another test's child inherits open for writing can't be
        // executed.
        let mut cp = Command::new("cp");
        let copied = cp.arg(env!("CARGO_BIN_EXE_pipeprof")).arg(&path).status().expect("cp");
        assert!(copied.success());
        Binary { _directory: directory, path }
    }

    fn doctor(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("doctor").current_dir("/");
        command
    }

    /// `flame` of a short run, its picture written to `picture`.
    fn flame(&self, picture: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(["flame", "--stage", "vmsplice", "--bytes", "512M", "-F", "2999", "-o"])
            .arg(picture)
            .current_dir("/");
        command
    }
}

fn as_nobody(mut command: Command) -> Command {
    command.uid(65_534).gid(65_534);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Status and value of a check.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find(|line| line.get(9..).is_some_and(|rest| rest.starts_with(name)))
        .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root to change kernel.perf_event_paranoid and users");
    }
    root
}

#[test]
fn an_ordinary_user_at_each_level() {
    let _turn = SETTING.lock();
    if !is_root() {
        return;
    }
    let binary = Binary::reachable();
    for level in ["1", "2", "3"] {
        let Some(paranoia) = Paranoia::set(level) else {
            eprintln!("skipped: kernel.perf_event_paranoid can't be changed here");
            return;
        };
        let output = as_nobody(binary.doctor()).output().expect("doctor");
        drop(paranoia);
        let text = text(&output);
        let kernel = line(&text, "kernel code");
        if level == "1" {
            assert!(kernel.starts_with("ok"), "{text}");
            assert!(line(&text, "per-CPU events").starts_with("limited"), "{text}");
            assert_eq!(output.status.code(), Some(0), "{text}");
            continue;
        }
        assert!(kernel.starts_with("missing"), "{text}");
        assert!(kernel.contains("kernel.perf_event_paranoid"), "{text}");
        assert!(kernel.contains(level), "{text}");
        assert!(text.contains("fix: sudo sysctl kernel.perf_event_paranoid=1\n"), "{text}");
        // What 3 means depends on the kernel's patches; what is said must agree with it.
        let opens = line(&text, "perf events").starts_with("ok");
        assert!(opens || level == "3", "{text}");
        assert_eq!(output.status.code(), Some(if opens { 0 } else { 1 }), "{text}");
        let verdict = if opens { "user code only" } else { "will not work" };
        assert!(text.contains(verdict), "{text}");
    }
}

#[test]
fn the_fix_lifts_the_limit() {
    let _turn = SETTING.lock();
    if !is_root() {
        return;
    }
    let binary = Binary::reachable();
    let Some(paranoia) = Paranoia::set("2") else {
        eprintln!("skipped: kernel.perf_event_paranoid can't be changed here");
        return;
    };
    let before = text(&as_nobody(binary.doctor()).output().expect("doctor"));
    let fix = before
        .lines()
        .find_map(|line| line.trim().strip_prefix("fix: sudo sysctl "))
        .expect("a sysctl");
    let (setting, value) = fix.split_once('=').expect("an assignment");
    let path = format!("/proc/sys/{}", setting.replace('.', "/"));
    fs::write(path, value).expect("the fix");
    let after = text(&as_nobody(binary.doctor()).output().expect("doctor"));
    drop(paranoia);
    assert!(line(&before, "kernel code").starts_with("missing"), "{before}");
    assert!(line(&after, "kernel code").starts_with("ok"), "{after}");
}

#[test]
fn a_seccomp_filter_is_named() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let binary = Binary::reachable();
        let mut command = binary.doctor();
        sys::refuse_perf_event_open(&mut command, errno);
        let output = command.output().expect("doctor");
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let events = line(&text, "perf events");
        assert!(events.starts_with("missing") && events.contains("seccomp"), "{text}");
        assert!(text.contains("fix: docker run"), "{text}");
        assert!(text.contains("will not work"), "{text}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn json_says_the_same() {
    let _turn = SETTING.lock();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pipeprof"))
            .arg("doctor")
            .args(arguments)
            .output()
            .expect("doctor")
    };
    let (plain, json) = (run(&[]), run(&["--json"]));
    assert_eq!(plain.status.code(), json.status.code());
    let text = text(&plain);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(report["works"], plain.status.success());
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.len() >= 12);
    for check in checks {
        let (name, status) = (check["name"].as_str(), check["status"].as_str());
        let (name, status) = (name.expect("a name"), status.expect("a status"));
        assert!(line(&text, name).starts_with(status), "{check}");
    }
    let tried = report["tried"]["events"].as_array().expect("events");
    for event in ["cycles", "instructions", "cache-misses", "dTLB-load-misses", "branches"] {
        assert!(tried.iter().any(|trial| trial["event"] == event), "{event}");
    }
    assert!(report["environment"]["kernel_release"].is_string());
    assert!(text.lines().count() <= 26, "{text}");
}

#[test]
fn a_closed_stdout_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_pipeprof"))
        .args(["doctor", "--json"])
        .stdout(writer)
        .output()
        .expect("doctor");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.code().is_some());
}

/// A folder that any user can write to.
fn anybodys_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
    folder
}

#[test]
fn flame_as_an_ordinary_user_draws_the_user_half_and_says_what_is_missing() {
    let _turn = SETTING.lock();
    if !is_root() {
        return;
    }
    let binary = Binary::reachable();
    let folder = anybodys_folder();
    let picture = folder.path().join("x.svg");
    for level in ["1", "2", "3"] {
        let Some(paranoia) = Paranoia::set(level) else {
            eprintln!("skipped: kernel.perf_event_paranoid can't be changed here");
            return;
        };
        let mut flame = binary.flame(&picture);
        // What is missing is on the first screen; how to have it, among all tables.
        flame.arg("--full");
        let output = as_nobody(flame).output().expect("flame");
        drop(paranoia);
        let (text, complaints) = (text(&output), String::from_utf8_lossy(&output.stderr));
        assert!(!complaints.contains("panicked"), "{complaints}");
        if output.status.code() == Some(1) {
            // Kernels with Debian's patch refuse everything at 3.
            assert_eq!(level, "3", "{complaints}");
            assert!(complaints.contains("kernel.perf_event_paranoid"), "{complaints}");
            assert!(complaints.contains("hint: "), "{complaints}");
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{complaints}");
        let svg = fs::read_to_string(&picture).expect("a picture");
        if level == "1" {
            assert!(svg.contains("wake"), "the kernel half is there at 1");
            continue;
        }
        let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&format!("kernel.perf_event_paranoid is {level}")), "{text}");
        assert!(said.contains("sudo sysctl kernel.perf_event_paranoid=1"), "{text}");
        assert!(!svg.contains("do_syscall_64"), "no kernel frame may be drawn");
    }
}

#[test]
fn flame_without_perf_at_all_says_why_and_leaves_nothing_running() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let binary = Binary::reachable();
        let folder = anybodys_folder();
        let picture = folder.path().join("x.svg");
        let mut command = binary.flame(&picture);
        sys::refuse_perf_event_open(&mut command, errno);
        let output = command.output().expect("flame");
        let complaints = String::from_utf8_lossy(&output.stderr);
        let answer = String::from_utf8_lossy(&output.stdout);
        // Looks at /proc need no event, so there is a verdict, but no picture.
        assert_eq!(output.status.code(), Some(0), "{complaints}");
        assert!(answer.contains("bottleneck: ") || answer.contains("no verdict: "), "{answer}");
        assert!(complaints.contains("no picture: "), "{complaints}");
        assert!(complaints.contains("seccomp"), "{complaints}\n{answer}");
        assert!(complaints.contains("hint: docker run"), "{complaints}\n{answer}");
        assert!(!complaints.contains("panicked"), "{complaints}");
        assert!(!picture.exists());
    }
}
