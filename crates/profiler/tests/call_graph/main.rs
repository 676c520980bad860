//! Programs whose callers are known, sampled with slices of their stacks: every stack that comes
//! out has to be one that the source allows, and to reach the root.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use pipeprof_profiler::analyse::analyse;
use pipeprof_profiler::attr::CallGraph;
use pipeprof_profiler::event::Event;
use pipeprof_profiler::profile::{Frame, Mode, Profile, Unwinding};
use pipeprof_profiler::recording::{Recording, RecordingDir};
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::symbolize::LocalSymbols;
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_runner::command::Spec;
use pipeprof_runner::discover::{Extent, discover};

/// A program's source, what may call what in it, and what must be seen calling.
struct Program {
    file: &'static str,
    source: &'static str,
    /// `CALLER CALLEE…`, of its own functions. Libraries may stand between the two. A callee with a
    /// `?` may be inlined, or be called by a library that is.
    calls: &'static [&'static str],
    /// Interrupts anything, so anything may stand below it.
    handler: Option<&'static str>,
}

const C: Program = Program {
    file: "work.c",
    source: include_str!("programs/work.c"),
    calls: &[
        "_start main",
        "main sort descend realigned interrupted",
        "sort ?spin compare",
        "descend descend spin",
        "realigned spin",
        "interrupted spin",
        "thread_main descend",
        "on_signal handle",
        "handle spin",
    ],
    handler: Some("on_signal"),
};

const SLEEPER: Program = Program {
    file: "sleeper.c",
    source: "#include <unistd.h>\n\
             __attribute__((noinline)) int nap(int us) { return usleep(us) + 1; }\n\
             int main(void) { int n = 0; for (int i = 0; i < 20; i++) n += nap(10000); return n == 1; }\n",
    calls: &[],
    handler: None,
};

const CPP: Program = Program {
    file: "work.cpp",
    source: include_str!("programs/work.cpp"),
    calls: &[
        "_start main",
        "main sort measure catches",
        "sort ?spin ?less std::",
        "std:: less std:: in_thread",
        "measure Square::area",
        "Square::area area_of_square",
        "area_of_square spin",
        "catches throws",
        "throws throws",
        "in_thread spin",
    ],
    handler: None,
};

const RUST: Program = Program {
    file: "work.rs",
    source: include_str!("programs/work.rs"),
    calls: &[
        "_start main",
        "main ?work::main std::",
        "std:: work::main in_thread key",
        "work::main sort descend std::",
        "sort ?key std::",
        "key spin",
        "descend descend spin",
        "in_thread descend",
    ],
    handler: None,
};

/// Who may be outermost: the entry point, and where threads begin.
const ROOTS: [&str; 6] = ["_start", "_dl_start_user", "clone3", "__clone3", "__clone", "clone"];

/// Builds a program; `None`, said on stderr, without a compiler.
fn make(program: &Program, folder: &Path, compiler: &str, flags: &[&str]) -> Option<PathBuf> {
    let source = folder.join(program.file);
    std::fs::write(&source, program.source).unwrap();
    let binary = folder.join("work");
    let made = Command::new(compiler).args(flags).arg("-o").arg(&binary).arg(&source).output();
    let Ok(made) = made else {
        eprintln!("skipped: {compiler} is not installed");
        return None;
    };
    assert!(made.status.success(), "{compiler}: {}", String::from_utf8_lossy(&made.stderr));
    Some(binary)
}

/// Records a program from its first instruction to its last; its sleeps too, where wanted.
fn record(binary: &Path, stack_bytes: u16, switches: bool) -> Option<Recording> {
    let prepared = Spec::program([binary.as_os_str().to_owned()]).prepare().unwrap();
    let found = discover(&[prepared.pid()], Extent::OnlyThese).unwrap();
    let config = CaptureConfig {
        event: Event::named("cpu-clock"),
        frequency_hz: 2000,
        call_graph: CallGraph::Dwarf { stack_bytes },
        switches,
        ..CaptureConfig::default()
    };
    let dir = RecordingDir::temporary().unwrap();
    let mut session = match Session::attach(&RunningKernel, &found.pipeline, &config, dir) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    session.members_are_released();
    let status = prepared.release().unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
    Some(session.finish(&RunningKernel).unwrap())
}

fn profile(recording: &Recording) -> Profile {
    analyse(recording, &mut LocalSymbols::new()).unwrap()
}

/// User halves, root first, with how often each was sampled.
fn user_stacks(profile: &Profile) -> Vec<(Vec<&Frame>, u64)> {
    let on_cpu = profile.members.iter().flat_map(|member| &member.on_cpu);
    let user = |stack| profile.stack_frames(stack).filter(|frame| frame.mode == Mode::User).rev();
    on_cpu.map(|weight| (user(weight.stack).collect(), weight.samples)).collect()
}

/// A stack in a line.
fn line(stack: &[&Frame]) -> String {
    let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_ref()).collect();
    names.join(" > ")
}

/// What a function is called in [`Program::calls`]; all of the standard libraries is one.
fn plain(name: &str) -> &str {
    for group in ["std::", "core::", "alloc::"] {
        // `void std::sort<…>`, `<alloc::vec::Vec as …>`.
        if name.split(['<', ' ', '(']).any(|word| word.starts_with(group)) {
            return "std::";
        }
    }
    name.split(['(', '.']).next().unwrap_or(name)
}

/// Fails where a frame is nothing that can lie there.
fn assert_known(program: &Program, binary: &Path, profile: &Profile, is_static: bool) {
    let mut allowed: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for line in program.calls {
        let names: Vec<&str> = line.split([' ', '?']).filter(|name| !name.is_empty()).collect();
        allowed.extend(names[1..].iter().map(|callee| (names[0], *callee)));
        known.extend(names);
    }
    known.extend(program.handler);
    let own = binary.to_str().unwrap();
    let mut seen: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (stack, samples) in user_stacks(profile) {
        let mut above: Option<&str> = None;
        for (depth, frame) in stack.iter().enumerate() {
            let module = frame.module.as_deref().unwrap_or_default();
            // Until it was replaced it was us, at the gate.
            let before_exec = module == std::env::current_exe().unwrap().to_str().unwrap();
            if before_exec {
                break;
            }
            let file = module.rsplit('/').next().unwrap_or_default();
            let library = ["lib", "ld-linux", "[vdso]"].iter().any(|name| file.starts_with(name));
            assert!(module == own || library, "a frame in {module:?}: {}", line(&stack));
            let name = plain(&frame.name);
            if module != own || !known.contains(name) {
                let runtime = is_static || module != own || is_of_the_toolchain(name);
                assert!(
                    runtime || frame.is_unresolved(),
                    "{name} is no function: {}",
                    line(&stack)
                );
                continue;
            }
            if let Some(caller) = above
                && Some(name) != program.handler
                && !is_handing_over(&stack[depth..])
            {
                assert!(
                    // The C library calls what Rust has in `.init_array`.
                    [("std::", "std::"), ("_start", "std::")].contains(&(caller, name))
                        || allowed.contains(&(caller, name)),
                    "{caller} does not call {name}: {}",
                    line(&stack)
                );
                *seen.entry((caller, name)).or_default() += samples;
            }
            above = Some(name);
        }
    }
    for line in program.calls {
        let (caller, callees) = line.split_once(' ').unwrap();
        for callee in callees.split(' ').filter(|callee| !callee.starts_with('?')) {
            let library = caller == "std::" || callee == "std::";
            let was = library || seen.contains_key(&(caller, callee));
            assert!(was, "{caller} was never seen calling {callee}");
        }
    }
}

/// Right before an exception gets to its handler the return address of the function that sees to
/// that is the handler's, and on the stack are still the frames that are given up.
fn is_handing_over(stack: &[&Frame]) -> bool {
    stack.get(1).is_some_and(|callee| callee.name.starts_with("_Unwind_"))
}

/// What compilers put into every program beside what they are given.
fn is_of_the_toolchain(name: &str) -> bool {
    name.starts_with('_')
        || name.contains("::")
        || matches!(name, "frame_dummy" | "deregister_tm_clones" | "register_tm_clones" | "main")
}

/// Fails where fewer than 99 % of the stacks reach their root, by the unwinder's word and by name.
fn assert_rooted(profile: &Profile, named: bool) -> Unwinding {
    let unwinding = profile.quality.unwinding.clone().unwrap();
    let Unwinding { stacks, rooted, .. } = unwinding;
    assert!(stacks > 100, "{unwinding:?}");
    assert!(rooted * 100 >= stacks * 99, "{unwinding:?}");
    if named {
        let stacks = user_stacks(profile);
        // Of what is replaced by another program there is no stack left.
        let counts =
            |stack: &[&Frame]| stack.first().is_some_and(|root| !root.name.ends_with("execve"));
        let total: u64 = stacks.iter().filter(|(s, _)| counts(s)).map(|(_, n)| n).sum();
        let is_rooted = |stack: &[&Frame]| {
            stack.first().is_some_and(|root| ROOTS.contains(&root.name.as_ref()))
        };
        let by_name: u64 = stacks.iter().filter(|(s, _)| is_rooted(s)).map(|(_, n)| n).sum();
        assert!(by_name * 100 >= total * 99, "{by_name} of {total} stacks begin at a root");
    }
    unwinding
}

fn check(program: &Program, compiler: &str, variants: &[&[&str]]) {
    for flags in variants {
        let folder = tempfile::tempdir().unwrap();
        let Some(binary) = make(program, folder.path(), compiler, flags) else { return };
        let Some(recording) = record(&binary, 8192, false) else { return };
        let profile = profile(&recording);
        let is_static = flags.iter().any(|flag| flag.contains("static"));
        let stripped = flags.iter().any(|flag| flag.contains("strip") || *flag == "-s");
        let unwinding = assert_rooted(&profile, !stripped);
        eprintln!("{compiler} {}: {unwinding:?}", flags.join(" "));
        if stripped {
            for (stack, _) in user_stacks(&profile) {
                assert!(stack.iter().all(|frame| frame.module.is_some()), "{}", line(&stack));
            }
        } else {
            assert_known(program, &binary, &profile, is_static);
        }
    }
}

#[test]
fn c_with_and_without_frame_pointers_signals_recursion_and_threads() {
    check(
        &C,
        "gcc",
        &[
            &["-O1", "-pthread", "-fomit-frame-pointer"],
            &["-O2", "-pthread", "-fno-omit-frame-pointer"],
            &["-O1", "-pthread", "-fomit-frame-pointer", "-no-pie"],
            &["-O1", "-pthread", "-fomit-frame-pointer", "-static"],
            &["-O1", "-pthread", "-fomit-frame-pointer", "-static-pie"],
            &["-O1", "-pthread", "-fomit-frame-pointer", "-s"],
        ],
    );
}

#[test]
fn cpp_through_tables_templates_and_exceptions() {
    check(
        &CPP,
        "g++",
        &[
            &["-O1", "-pthread", "-fomit-frame-pointer"],
            &["-O2", "-pthread", "-fno-omit-frame-pointer"],
        ],
    );
}

#[test]
fn rust_through_closures_and_threads() {
    check(
        &RUST,
        "rustc",
        &[
            &["--edition=2024", "-O", "-Cforce-frame-pointers=no"],
            &["--edition=2024", "-O", "-Cforce-frame-pointers=yes"],
            &["--edition=2024", "-O", "-Cstrip=symbols"],
        ],
    );
}

#[test]
fn a_stack_longer_than_its_slice_is_cut_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-O1", "-pthread", "-fomit-frame-pointer"];
    let Some(binary) = make(&C, folder.path(), "gcc", &flags) else { return };
    let Some(recording) = record(&binary, 1024, false) else { return };
    let profile = profile(&recording);
    let unwinding = profile.quality.unwinding.clone().unwrap();
    let deep = user_stacks(&profile)
        .iter()
        .filter(|(stack, _)| stack.first().is_some_and(|frame| &*frame.name == "descend"))
        .map(|(_, samples)| samples)
        .sum::<u64>();
    assert!(deep > 20 && unwinding.short >= deep, "{deep} deep stacks; {unwinding:?}");
    assert!(unwinding.rooted > 20, "{unwinding:?}");
}

#[test]
fn where_a_thread_slept_is_told_up_to_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-O1", "-pthread", "-fomit-frame-pointer"];
    let Some(binary) = make(&SLEEPER, folder.path(), "gcc", &flags) else { return };
    let Some(recording) = record(&binary, 8192, true) else { return };
    let profile = profile(&recording);
    let naps = profile.members[0].blocked.iter().filter(|weight| {
        let names: Vec<&str> =
            profile.stack_frames(weight.stack).map(|frame| frame.name.as_ref()).collect();
        names.contains(&"nap") && names.contains(&"main") && names.last() == Some(&"_start")
    });
    let slept_ns: u64 = naps.map(|weight| weight.weight).sum();
    assert!(slept_ns > 150_000_000, "{slept_ns} ns of at least 200 ms");
}
