//! Running the program as a user does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, dead_code)]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Processes, killed when dropped.
pub(crate) struct Killed(pub(crate) Vec<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The first process of a process group, all of which is killed when dropped: members outlive their
/// shell.
pub(crate) struct Group(pub(crate) Child);

impl Group {
    pub(crate) fn spawn(command: &mut Command) -> Group {
        Group(command.process_group(0).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Polls until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    found(what, || is_so().then_some(()));
}

/// Polls until there is something to be found.
#[track_caller]
pub(crate) fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until this many children of a shell run these programs.
#[track_caller]
pub(crate) fn wait_for_programs(shell: i32, names: &str, count: usize) {
    let shell = shell.to_string();
    until(&format!("{count} processes run {names}"), || {
        let args = ["-c", "-x", "-P", &shell, names];
        let counted = Command::new("pgrep").args(args).output().unwrap();
        String::from_utf8_lossy(&counted.stdout).trim() == count.to_string()
    });
}

/// Waits until each of these has used so much CPU time with all its threads: it is past its start
/// then.
#[track_caller]
pub(crate) fn on_cpu(children: &[Child], long: Duration) {
    let has_run = |child: &Child| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks) >= long
    };
    until("they run", || children.iter().all(has_run));
}

/// It is there and has not ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn pipeprof() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pipeprof"))
}

/// Runs `pipeprof ARGS` in a folder of its own.
pub(crate) fn run_in(folder: &Path, args: &[&str]) -> Output {
    pipeprof().args(args).current_dir(folder).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether the kernel lets us profile its side; says why a test is skipped where it does not.
pub(crate) fn may_profile_kernel() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &["flame", "--stage", "write", "--bytes", "8M", "--json"]);
    let text = stdout(&output);
    let visible = text.contains("\"kernel_visible\": true");
    if !visible {
        eprintln!("skipped: the kernel half may not be profiled here: {}", stderr(&output));
    }
    visible
}
