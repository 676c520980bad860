//! Launching: suspended until released, and otherwise as without us.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use pipeprof_runner::command::{CommandError, Ending, GRACE, Prepared, Running, Spec};

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
    let of_ours = || -> Vec<i32> {
        let all = descriptors(running.pid()).into_iter();
        all.filter(|&fd| fd > 2 && is_close_on_exec(fd)).collect()
    };
    // While it starts, the program has its libraries open; what was handed down would stay open.
    let until = Instant::now() + Duration::from_secs(10);
    while !of_ours().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(of_ours(), Vec::<i32>::new());
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
    let deadline = Instant::now() + Duration::from_secs(60);
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
    let deadline = Instant::now() + Duration::from_secs(60);
    while left() > 0 {
        assert!(Instant::now() < deadline, "{} still run", left());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_pipeline_of_a_running_command() {
    let running = run(line("sleep 60 | tr a b | cat >/dev/null; true"));
    let deadline = Instant::now() + Duration::from_secs(60);
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
fn a_command_outlives_the_thread_that_launched_it() {
    let mut running = std::thread::spawn(|| run(line("sleep 0.2; exit 4"))).join().unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(4));
}

/// Until all that a line was to print is there.
fn pids_from(file: &Path, count: usize) -> Vec<i32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if pids.len() == count && text.ends_with('\n') {
            return pids;
        }
        assert!(Instant::now() < deadline, "{text:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_left_the_group_and_the_session_is_ended_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = format!(
        "exec >'{}'; (setsid sleep 60 & echo $!); setsid sh -c 'sleep 61 & echo $!'; \
         echo $$; sleep 62",
        file.display()
    );
    let mut running = run(line(&script));
    let pids = pids_from(&file, 3);
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    let found = running.pipeline().unwrap();
    let all = || found.pipeline.members.iter().chain(&found.wrappers);
    for &pid in &pids {
        assert!(all().any(|member| member.pid == pid), "{pid} is no member: {found:?}");
    }
    running.end(Ending::Asked);
    let start = Instant::now();
    drop(running);
    assert!(start.elapsed() < GRACE, "nobody had to be killed");
    assert_eq!(pids.iter().filter(|&&pid| is_alive(pid)).count(), 0);
}

#[test]
fn the_command_is_asked_to_end_before_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mark, ready) = (dir.path().join("mark"), dir.path().join("ready"));
    let script = format!(
        "trap 'sleep 0.3; echo tidied >\"{}\"; exit 9' TERM; echo 1 >'{}'; \
         while :; do sleep 0.01; done",
        mark.display(),
        ready.display()
    );
    let mut running = run(line(&script));
    pids_from(&ready, 1);
    running.end(Ending::Asked);
    assert_eq!(running.wait().unwrap().code(), Some(9));
    assert_eq!(fs::read_to_string(mark).unwrap(), "tidied\n");
}

#[test]
fn who_does_not_want_to_end_is_killed_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let script = format!("trap '' TERM; echo $$ >'{}'; while :; do sleep 1; done", ready.display());
    let mut running = run(line(&script));
    let pid = pids_from(&ready, 1)[0];
    let start = Instant::now();
    running.end(Ending::Asked);
    assert_eq!(running.wait().unwrap().signal(), Some(9));
    assert!(start.elapsed() >= GRACE);
    drop(running);
    assert!(!is_alive(pid));
}

#[test]
fn a_member_that_is_stopped_ends_in_good_order_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mark, ready) = (dir.path().join("mark"), dir.path().join("ready"));
    let script = format!(
        "trap 'echo tidied >\"{}\"; exit' TERM; echo 1 >'{}'; kill -STOP $$; sleep 60 & wait",
        mark.display(),
        ready.display()
    );
    let running = run(line(&script));
    pids_from(&ready, 1);
    drop(running);
    assert_eq!(fs::read_to_string(mark).unwrap(), "tidied\n");
}

#[test]
fn what_a_command_left_in_the_background_runs_on_when_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let mut running = run(line(&format!("sleep 60 & echo $! >'{}'", file.display())));
    assert!(running.wait().unwrap().success());
    let pid = pids_from(&file, 1)[0];
    drop(running);
    assert!(is_alive(pid));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

#[test]
fn what_the_command_used_is_told() {
    let mut running = run(line("head -c 200M /dev/zero | wc -c >/dev/null"));
    assert!(running.wait().unwrap().success());
    assert!(running.usage().unwrap().cpu_ns() > 1_000_000);
}

#[test]
fn a_command_ends_with_its_guardian() {
    let mut running = run(program(&["sleep", "60"]));
    let pid = running.pid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let name = |file: &str| fs::read_to_string(format!("/proc/{parent}/{file}")).unwrap();
    assert_eq!(name("comm"), "pp-guard\n");
    assert_eq!(name("cmdline").trim_matches('\0'), "pp-guard");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    assert!(matches!(running.wait(), Err(CommandError::Wait { .. })));
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_alive(pid) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn four_hundred_members_end_at_once() {
    let running = run(line("for i in $(seq 400); do sleep 60 & done; wait"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while running.pipeline().unwrap().pipeline.members.len() < 400 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let start = Instant::now();
    drop(running);
    assert!(start.elapsed() < GRACE, "{:?}", start.elapsed());
}

#[test]
fn the_command_stays_in_our_process_group_and_session() {
    let running = run(program(&["sleep", "60"]));
    let place = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').map(str::to_owned);
        fields.skip(2).take(2).collect::<Vec<_>>()
    };
    assert_eq!(place(running.pid()), place(std::process::id() as i32));
}
