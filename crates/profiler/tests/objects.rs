//! Programs whose file is not where the records say: deleted, in another mount namespace, with
//! their symbols in another file or packed, or made at run time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "common/wait.rs"]
mod wait;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::{LocalSymbols, Object, Symbolizer};
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_runner::pipeline::{Member, Pipeline};
use wait::{on_cpu, until};

/// Burns a CPU in a function that only a symbol table names.
const SPIN: &str = r"
static __attribute__((noinline)) unsigned inner_of_the_program(unsigned x) {
    for (int i = 0; i < 1000000; i++) x = x * 1664525u + 1013904223u;
    return x;
}
int main(void) { volatile unsigned x = 1; for (;;) x = inner_of_the_program(x); }
";

const FUNCTION: &str = "inner_of_the_program";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(folder: &Path, line: &str) {
    let output = Command::new("sh").current_dir(folder).args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with the program, called `spin`; `None`, said on stderr, without a compiler.
fn program() -> Option<tempfile::TempDir> {
    if Command::new("gcc").arg("--version").output().is_err() {
        eprintln!("skipped: gcc is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("spin.c"), SPIN).unwrap();
    sh(folder.path(), "gcc -g -O1 -o spin spin.c");
    Some(folder)
}

fn start(mut command: Command) -> Killed {
    let child = Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    on_cpu(&[child.0.id()], Duration::from_millis(50));
    child
}

/// Samples it for a while: all names of user functions, and the notes. `None` where it may not be.
fn names(process: &Killed, before_analysis: impl FnOnce()) -> Option<Vec<String>> {
    let member = Member {
        pid: process.0.id() as i32,
        start_time_ticks: None,
        comm: "spin".to_owned(),
        command_line: Vec::new(),
        end: None,
    };
    let pipeline = Pipeline { members: vec![member], pipes: Vec::new() };
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig::default();
    let session = match Session::attach(&RunningKernel, &pipeline, &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    on_cpu(&[process.0.id()], Duration::from_millis(200));
    let recording = session.finish(&RunningKernel).unwrap();
    before_analysis();
    let profile = analyse(&recording, &mut LocalSymbols::new()).unwrap();
    let stacks = profile.members[0].on_cpu.iter();
    let frames = stacks.flat_map(|weight| profile.stack_frames(weight.stack));
    let mut names: Vec<String> = frames.map(|frame| frame.name.to_string()).collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[track_caller]
fn assert_named(names: Option<Vec<String>>, function: &str) {
    let Some(names) = names else { return };
    assert!(names.iter().any(|name| name.contains(function)), "no {function} in {names:?}");
}

#[test]
fn a_program_that_was_deleted_while_it_runs() {
    let Some(folder) = program() else { return };
    let process = start(Command::new(folder.path().join("spin")));
    let deleted = names(&process, || std::fs::remove_file(folder.path().join("spin")).unwrap());
    assert_named(deleted, FUNCTION);
    // And before it was sampled.
    assert_named(names(&process, || {}), FUNCTION);
}

#[test]
fn a_program_that_another_took_the_place_of() {
    let Some(folder) = program() else { return };
    let process = start(Command::new(folder.path().join("spin")));
    sh(folder.path(), "cp /bin/true other && mv other spin");
    assert_named(names(&process, || {}), FUNCTION);
}

#[test]
fn a_program_in_a_container() {
    let Some(folder) = program() else { return };
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root can make a mount namespace");
    }
    sh(folder.path(), "gcc -g -O1 -static -o spin spin.c && mkdir root && mkdir root/bin");
    // A file system and a root of its own: its path means nothing, or another file, out here.
    let mut command = Command::new("unshare");
    command.current_dir(folder.path()).args(["--mount", "sh", "-ec"]).arg(
        "mount -t tmpfs none root && mkdir root/only-in-here && cp spin root/only-in-here/program \
         && exec chroot root /only-in-here/program",
    );
    let process = start(command);
    let program = format!("/proc/{}/exe", process.0.id());
    until("the program runs in there", || {
        std::fs::read_link(&program).is_ok_and(|path| path.ends_with("program"))
    });
    assert!(!Path::new("/only-in-here/program").exists());
    assert_named(names(&process, || {}), FUNCTION);
}

#[test]
fn a_program_whose_symbols_are_in_the_file_that_its_debug_link_names() {
    let Some(folder) = program() else { return };
    sh(
        folder.path(),
        "objcopy --only-keep-debug spin spin.debug && strip --strip-all spin \
         && objcopy --add-gnu-debuglink=spin.debug spin",
    );
    let process = start(Command::new(folder.path().join("spin")));
    assert_named(names(&process, || {}), FUNCTION);
}

#[test]
fn a_program_with_mini_debug_info() {
    let Some(folder) = program() else { return };
    sh(
        folder.path(),
        "objcopy --strip-debug spin symbols && xz symbols && strip --strip-all spin \
         && objcopy --add-section .gnu_debugdata=symbols.xz spin",
    );
    let process = start(Command::new(folder.path().join("spin")));
    assert_named(names(&process, || {}), FUNCTION);
}

#[test]
fn a_function_that_node_compiled() {
    if Command::new("node").arg("--version").output().is_err() {
        return eprintln!("skipped: node is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("hot.js");
    let text = "function hotOne(x) { for (let i = 0; i < 1e6; i++) x = (x * 7 + i) % 1000003; \
                return x; }\nlet x = 1; for (;;) x = hotOne(x);\n";
    std::fs::write(&script, text).unwrap();
    let mut command = Command::new("node");
    command.arg("--perf-basic-prof").arg(&script).current_dir(folder.path());
    let process = start(command);
    let map = format!("/tmp/perf-{}.map", process.0.id());
    until("node has compiled it", || {
        std::fs::read_to_string(&map).is_ok_and(|text| text.contains("hotOne"))
    });
    let names = names(&process, || {});
    drop(process);
    let _ = std::fs::remove_file(map);
    assert_named(names, "hotOne");
}

/// Node in a pid namespace and with a `/tmp` of its own, as in a container: it writes perf-1.map.
fn node_in_a_container(folder: &Path) -> Option<Killed> {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("skipped: node is not installed");
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make a pid namespace");
        return None;
    }
    let text = "function hotTwo(x) { for (let i = 0; i < 1e6; i++) x = (x * 7 + i) % 1000003; \
                return x; }\nlet x = 1; for (;;) x = hotTwo(x);\n";
    std::fs::write(folder.join("hot.js"), text).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-ec"]);
    command.arg(format!(
        "mount --bind '{}' /tmp && cd /tmp && exec node --perf-basic-prof hot.js",
        folder.display()
    ));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let process = Killed(child.unwrap());
    until("node has compiled it", || {
        let map = std::fs::read_to_string(folder.join("perf-1.map"));
        map.is_ok_and(|text| text.contains("hotTwo"))
    });
    Some(process)
}

/// The only child of a process.
fn child_of(process: &Killed) -> i32 {
    let pid = process.0.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(children).unwrap().trim().parse().unwrap()
}

#[test]
fn a_function_that_node_compiled_in_a_container_is_named_even_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let Some(process) = node_in_a_container(folder.path()) else { return };
    let member = Member {
        pid: child_of(&process),
        start_time_ticks: None,
        comm: "node".to_owned(),
        command_line: Vec::new(),
        end: None,
    };
    let pipeline = Pipeline { members: vec![member], pipes: Vec::new() };
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig::default();
    let session = match Session::attach(&RunningKernel, &pipeline, &config, dir) {
        Ok(session) => session,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    on_cpu(&[child_of(&process) as u32], Duration::from_millis(200));
    let recording = session.finish(&RunningKernel).unwrap();
    drop(process);
    // Nobody sees its /tmp any more, but the map was seen while it lived.
    std::fs::remove_file(folder.path().join("perf-1.map")).unwrap();
    let profile = analyse(&recording, recording.symbolizer().as_mut()).unwrap();
    let frames = profile.members[0].on_cpu.iter().flat_map(|it| profile.stack_frames(it.stack));
    let names: Vec<String> = frames.map(|frame| frame.name.to_string()).collect();
    assert!(names.iter().any(|name| name.contains("hotTwo")), "{names:?}");
}

#[test]
fn a_map_of_a_stranger_is_ignored() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root can give files away");
    }
    let Some(folder) = program() else { return };
    let process = start(Command::new(folder.path().join("spin")));
    let map = format!("/tmp/perf-{}.map", process.0.id());
    let anonymous = Object { pid: process.0.id() as i32, ..Object::named(b"//anon") };
    let find = || LocalSymbols::new().object(&anonymous, &[0x1004]).remove(0);
    std::fs::write(&map, "1000 10 made_up\n").unwrap();
    let of_root = find();
    std::os::unix::fs::chown(&map, Some(12345), None).unwrap();
    let of_a_stranger = find();
    std::fs::remove_file(&map).unwrap();
    // Opening what is no file would wait.
    nix::unistd::mkfifo(Path::new(&map), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let of_a_fifo = find();
    std::fs::remove_file(&map).unwrap();
    assert_eq!(of_root[0].name.as_ref(), "made_up");
    assert_eq!((of_a_stranger, of_a_fifo), (Vec::new(), Vec::new()));
}
