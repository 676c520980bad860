//! An ordinary user with a program that was given capabilities, as the README says: every command
//! works, and nothing is read or written that the user could not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Binary, Paranoia, SETTING, anybodys_folder, as_nobody, is_root, text};

/// The README's.
const CAPABILITIES: &str = "cap_perfmon,cap_syslog,cap_ipc_lock=ep";

/// Whatever would open a file that the user may not.
const TOO_MANY: &str = "cap_perfmon,cap_syslog,cap_ipc_lock,cap_dac_override,\
     cap_dac_read_search,cap_sys_ptrace,cap_sys_admin=ep";

fn grant(binary: &Binary, capabilities: &str) -> bool {
    let setcap = ["setcap", "/usr/sbin/setcap", "/sbin/setcap"].into_iter().find_map(|program| {
        Command::new(program).arg(capabilities).arg(&binary.path).output().ok()
    });
    match setcap {
        Some(output) if output.status.success() => true,
        _ => {
            eprintln!("skipped: a file cannot be given capabilities here");
            false
        }
    }
}

/// In `folder` as an ordinary user.
fn run(binary: &Binary, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(&binary.path);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    as_nobody(command).output().expect("pipeprof")
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn with_the_capabilities_of_the_readme_every_command_works() {
    let _turn = SETTING.lock();
    if !is_root() {
        return;
    }
    let binary = Binary::reachable();
    let Some(_paranoia) = Paranoia::set("2") else {
        eprintln!("skipped: kernel.perf_event_paranoid can't be changed here");
        return;
    };
    if !grant(&binary, CAPABILITIES) {
        return;
    }
    let folder = anybodys_folder();
    let line = "head -c 40M /dev/zero | gzip -1 | wc -c";
    // Nearly all of its time is the kernel's, so that a few samples show it.
    let copies = "head -c 1G /dev/zero | cat | wc -c";
    let victim = as_nobody(shell("yes | cat >/dev/null")).spawn().map(Kept).expect("a pipeline");
    let pid = victim.0.id().to_string();
    let commands: &[&[&str]] = &[
        &["doctor"],
        &["stages"],
        &["run", "--stage", "vmsplice", "--bytes", "64M"],
        &["run", "--stage", "huge-page", "--lock-memory", "--bytes", "64M"],
        &["flame", "--stage", "vmsplice", "--bytes", "128M", "-o", "stage.svg"],
        &["flame", "-c", copies, "-o", "line.svg"],
        &["flame", "-o", "program.svg", "--", "sh", "-c", copies],
        &["flame", "--pid", &pid, "--duration", "500ms", "-o", "pid.svg"],
        &["html", "-c", line, "-o", "line.html"],
        &["html", "--pid", &pid, "--duration", "500ms", "-o", "pid.html"],
        &["record", "-c", line, "-o", "slow"],
        &["record", "-c", line, "-o", "other"],
        &["record", "--stage", "write", "--bytes", "64M", "-o", "pair"],
        &["record", "--pid", &pid, "--duration", "500ms", "-o", "pid"],
        &["html", "slow.pipeprof"],
        &["report", "slow.pipeprof"],
        &["flame", "slow.pipeprof"],
        &["export", "slow.pipeprof", "--format", "pprof", "-o", "it.pb.gz"],
        &["diff", "slow.pipeprof", "other.pipeprof"],
        &["diff", "-c", line, "-c", line, "--runs", "1"],
        &["stat", "--stage", "vmsplice", "--bytes", "64M"],
        &["stat", "-c", line],
        &["stat", "--duration", "300ms", "--pid", &pid],
        &["ls", "--pid", &pid],
    ];
    for arguments in commands {
        let output = run(&binary, folder.path(), arguments);
        let said = complaints(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    for picture in ["stage.svg", "line.svg", "program.svg", "pid.svg"] {
        let svg = fs::read_to_string(folder.path().join(picture)).expect("a picture");
        assert!(svg.contains("do_syscall_64") || svg.contains("el0_svc"), "{picture}: no kernel");
    }
    // A look into a pipe takes the rights of the user alone.
    let levels = text(&run(&binary, folder.path(), &["ls", "--pid", &pid]));
    assert!(levels.contains("64 KiB"), "{levels}");
}

#[test]
fn capabilities_open_no_file_that_the_user_may_not() {
    if !is_root() {
        return;
    }
    let binary = Binary::reachable();
    if !grant(&binary, TOO_MANY) {
        return;
    }
    let folder = anybodys_folder();
    let closed = folder.path().join("roots");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("permissions");
    let file = closed.join("kept.svg");
    fs::write(&file, "as it was").expect("a file");
    let file = file.to_str().expect("a path");

    let reads = run(&binary, folder.path(), &["report", file]);
    let writes = run(&binary, folder.path(), &["flame", "-c", "true", "-o", file]);
    for output in [reads, writes] {
        let said = complaints(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("ermission denied"), "{said}");
    }
    assert_eq!(fs::read_to_string(file).expect("the file"), "as it was");

    let mut secret = shell("yes | sh -c 'cat >/dev/null; true' a-secret-argument");
    let roots = secret.spawn().map(Kept).expect("a pipeline");
    let pid = roots.0.id().to_string();
    let asked = run(&binary, folder.path(), &["flame", "--pid", &pid, "--duration", "300ms"]);
    let said = complaints(&asked);
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.contains("another user"), "{said}");
    let all = run(&binary, folder.path(), &["ls"]);
    assert!(!text(&all).contains("a-secret-argument"), "{}", text(&all));
}

#[test]
fn a_command_that_is_launched_inherits_no_capability() {
    if !is_root() {
        return;
    }
    let binary = Binary::reachable();
    if !grant(&binary, CAPABILITIES) {
        return;
    }
    let folder = anybodys_folder();
    let read = "grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status; stat -c %u /proc/self/fd";
    let output = run(&binary, folder.path(), &["stat", "-c", read]);
    let said = text(&output);
    let lines: Vec<&str> = said.lines().take_while(|line| !line.is_empty()).take(5).collect();
    assert_eq!(lines.len(), 5, "{said}{}", complaints(&output));
    let (owner, sets) = lines.split_last().expect("lines");
    for set in sets {
        assert!(set.ends_with("0000000000000000"), "{said}");
    }
    assert_eq!(*owner, "65534", "its user may look at it");
}

/// In a process group of its own, so that all of it ends with the test.
fn shell(line: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("sh");
    command.args(["-c", line]).stdin(Stdio::null()).process_group(0);
    command
}

struct Kept(std::process::Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
