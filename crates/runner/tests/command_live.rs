//! Launching: suspended until released, and otherwise as without us.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use pipeprof_runner::command::{CommandError, Prepared, Running, Spec};

fn line(text: &str) -> Spec {
    Spec::shell(OsStr::new(text), None)
}

fn program(arguments: &[&str]) -> Spec {
    Spec::program(arguments.iter().map(OsString::from))
}

fn run(spec: Spec) -> Running {
    for _ in 0..200 {
        match spec.clone().prepare().and_then(Prepared::release) {
            // A test beside this one forked while the script was being written.
            Err(CommandError::Exec { source, .. })
                if source.kind() == ErrorKind::ExecutableFileBusy =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            released => return released.unwrap(),
        }
    }
    panic!("still busy: {spec:?}");
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn nothing_runs_before_the_release() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let prepared = line(&format!("echo $$ >'{}'; exit 3", mark.display())).prepare().unwrap();
    let pid = prepared.pid();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!mark.exists() && is_alive(pid));
    let mut running = prepared.release().unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(3));
    assert_eq!(fs::read_to_string(mark).unwrap().trim(), pid.to_string());
    // The answer is kept.
    assert_eq!(running.try_wait().unwrap().unwrap().code(), Some(3));
}

#[test]
fn a_waiting_command_keeps_nothing_of_ours_open() {
    let (mut read, write) = std::io::pipe().unwrap();
    let prepared = program(&["sleep", "60"]).prepare().unwrap();
    drop(write);
    // End of file, though the child that was forked meanwhile still waits.
    assert_eq!(read.read(&mut [0]).unwrap(), 0);
    assert!(is_alive(prepared.pid()));
}

#[test]
fn a_released_command_has_executed() {
    let mut running = run(program(&["sleep", "60"]));
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", running.pid())).unwrap(), "sleep\n");
    assert!(running.try_wait().unwrap().is_none());
}

#[test]
fn death_by_a_signal_is_told() {
    assert_eq!(run(line("kill -TERM $$")).wait().unwrap().signal(), Some(15));
    // Rust ignores SIGPIPE, but what we launch must not.
    assert_eq!(run(line("kill -PIPE $$")).wait().unwrap().signal(), Some(13));
}

#[test]
fn signals_are_as_a_shell_would_leave_them() {
    let running = run(program(&["sleep", "60"]));
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    for field in ["SigBlk:", "SigCgt:"] {
        let set = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        assert_eq!(set.trim().trim_matches('0'), "", "{field}");
    }
}

#[test]
fn no_descriptor_of_ours_is_handed_down() {
    let _ours = fs::File::open("/dev/null").unwrap();
    let running = run(program(&["sleep", "60"]));
    for fd in descriptors(running.pid()) {
        assert!(fd <= 2 || !is_close_on_exec(fd), "{fd}");
    }
}

fn descriptors(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Of a descriptor of this process; one that is not open counts as ours, too.
fn is_close_on_exec(fd: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("2000000");
    i32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 != 0
}

#[test]
fn what_cannot_be_executed_is_named() {
    let missing = program(&["no such program"]).prepare().unwrap().release().unwrap_err();
    assert_eq!(missing.to_string(), "\"no such program\" was not found in PATH");
    assert!(missing.hint().unwrap().contains("-c"));

    let missing = program(&["./no-such-file"]).prepare().unwrap().release().unwrap_err();
    assert_eq!(missing.to_string(), "\"./no-such-file\" was not found");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it's data");
    fs::write(&file, "x").unwrap();
    let refused = program(&[file.to_str().unwrap()]).prepare().unwrap().release().unwrap_err();
    assert!(matches!(&refused, CommandError::Exec { path, .. } if *path == file), "{refused}");
    assert!(refused.to_string().contains("Permission denied"), "{refused}");
    assert!(refused.hint().unwrap().ends_with(r"it'\''s data'"), "{refused}");

    assert!(matches!(program(&[]).prepare(), Err(CommandError::Empty)));
    assert!(matches!(program(&["true", "a\0b"]).prepare(), Err(CommandError::ZeroByte { .. })));
}

#[test]
fn a_script_with_a_missing_interpreter_is_not_called_missing() {
    let file = script("#!/no/such/interpreter\n");
    let refused = program(&[path(&file)]).prepare().unwrap().release().unwrap_err();
    assert!(matches!(refused, CommandError::Exec { .. }), "{refused}");
}

#[test]
fn a_script_without_an_interpreter_runs_in_sh() {
    let file = script("test \"$1 $2\" = 'a b' && exit 7\n");
    let mut running = run(program(&[path(&file), "a", "b"]));
    assert_eq!(running.wait().unwrap().code(), Some(7));
}

fn script(text: &str) -> tempfile::TempPath {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    file.into_temp_path()
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

#[test]
fn a_command_that_is_not_released_never_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let prepared = line(&format!("touch '{}'", mark.display())).prepare().unwrap();
    let pid = prepared.pid();
    drop(prepared);
    assert!(!is_alive(pid) && !mark.exists());
}

#[test]
fn dropping_a_command_kills_all_that_it_started() {
    let running = run(line("sleep 60 | cat | (sleep 61; cat); true"));
    let deadline = Instant::now() + Duration::from_secs(10);
    let found = loop {
        let found = running.pipeline().unwrap();
        let names: Vec<&str> = found.pipeline.members.iter().map(|m| m.comm.as_str()).collect();
        if names.iter().filter(|&&name| name == "sleep").count() == 2 && names.contains(&"cat") {
            break found;
        }
        assert!(Instant::now() < deadline, "{names:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(running);
    let all = found.pipeline.members.iter().chain(&found.wrappers);
    let left = || all.clone().filter(|member| is_alive(member.pid)).count();
    let deadline = Instant::now() + Duration::from_secs(10);
    while left() > 0 {
        assert!(Instant::now() < deadline, "{} still run", left());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_pipeline_of_a_running_command() {
    let running = run(line("sleep 60 | tr a b | cat >/dev/null; true"));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = running.pipeline().unwrap();
        let names: Vec<&str> = found.pipeline.members.iter().map(|m| m.comm.as_str()).collect();
        if names == ["sleep", "tr", "cat"] && found.pipeline.pipes.len() == 2 {
            assert_eq!(found.wrappers[0].pid, running.pid());
            return;
        }
        assert!(Instant::now() < deadline, "{names:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_kernel_kills_the_command_of_a_launcher_that_ended() {
    // The thread that forked counts as the parent.
    let mut running = std::thread::spawn(|| run(program(&["sleep", "60"]))).join().unwrap();
    assert_eq!(running.wait().unwrap().signal(), Some(9));
}
