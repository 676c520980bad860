//! Our folded stacks against `perf script | inferno-collapse-perf` on the same perf.data: equal stack
//! by stack and count by count, but for the differences that have a test of their name here.
//!
//! Each file is recorded once and then read by both, so nothing in here depends on timing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Killed, run_in, stderr};
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};

/// Weights by `pid;root;…;leaf`.
type Folded = BTreeMap<String, u64>;

/// What both ends of the pipe are, and the odd things beside it, by argument. All of it walks by
/// frame pointer.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static char buffer[65536];
#define NOINLINE __attribute__((noinline))
static inline __attribute__((always_inline)) unsigned inlined_step(unsigned x) {
    for (int i = 0; i < 100000; i++) x = x * 1664525u + 1013904223u;
    return x;
}
NOINLINE unsigned spin(unsigned x) { x = inlined_step(x); __asm__ volatile("" : "+r"(x)); return x; }
unsigned one_of_two_names(unsigned) __attribute__((alias("spin")));
/* What calls a function without a frame of its own is not in the chain: this, here and below. */
NOINLINE unsigned spins(unsigned x) { x = spin(x); __asm__ volatile("" : "+r"(x)); return x; }
NOINLINE __attribute__((noreturn)) void never_returns(void) {
    volatile unsigned x = 1;
    for (;;) x = spins(x);
}
NOINLINE void calls_it_last(void) { never_returns(); }
NOINLINE void stands_behind_it(void) { __asm__ volatile("nop"); }
NOINLINE void *named_thread(void *unused) {
    prctl(PR_SET_NAME, "other-name");
    never_returns();
}
NOINLINE long write_all(void) { return write(1, buffer, sizeof buffer); }
NOINLINE long write_more(void) { long all = write_all(); return all + write_all(); }
NOINLINE long read_all(void) {
    long got = read(0, buffer, sizeof buffer), sum = 0;
    for (long i = 0; i < got; i++) sum += buffer[i];
    return got > 0 ? got + (sum == 42) : 0;
}
int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "write")) while (write_more() > 0);
    if (!strcmp(what, "read")) while (read_all() > 0);
    if (!strcmp(what, "last")) { calls_it_last(); stands_behind_it(); }
    if (!strcmp(what, "thread")) {
        pthread_t thread;
        pthread_create(&thread, 0, named_thread, 0);
        pthread_join(thread, 0);
    }
    volatile unsigned x = 1;
    if (!strcmp(what, "spin")) for (;;) x = spins(x);
}
"#;

/// The flags that keep callers where a frame pointer finds them.
const FLAGS: &str = "-O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-ipa-cp \
                     -mno-omit-leaf-frame-pointer -fno-ipa-pure-const -pthread -w";

/// A folder with the program; `None`, said on stderr, where something is missing.
fn program(flags: &str) -> Option<tempfile::TempDir> {
    for tool in ["gcc", "perf"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("skipped: {tool} is not installed");
            return None;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("program.c"), PROGRAM).unwrap();
    let line = format!("gcc {FLAGS} {flags} -o program program.c");
    let made = Command::new("sh").current_dir(folder.path()).args(["-c", &line]).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    Some(folder)
}

fn spawn(folder: &Path, what: &str, stdin: Stdio, stdout: Stdio) -> Child {
    Command::new(folder.join("program")).arg(what).stdin(stdin).stdout(stdout).spawn().unwrap()
}

fn alone(folder: &Path, what: &str) -> Killed {
    Killed(vec![spawn(folder, what, Stdio::null(), Stdio::null())])
}

/// Has perf record these for a second, and gives what perf says of it. `None`, said on stderr, where
/// it may not.
fn perf_record(folder: &Path, of: &Killed) -> Option<String> {
    common::on_cpu(&of.0, Duration::from_millis(20));
    let pids: Vec<String> = of.0.iter().map(|child| child.id().to_string()).collect();
    let recorded = Command::new("perf")
        .current_dir(folder)
        .args(["record", "-g", "-e", "cpu-clock", "-F", "1500", "-o", "perf.data", "-p"])
        .args([&pids.join(","), "--", "sleep", "1"])
        .output()
        .unwrap();
    if !recorded.status.success() {
        eprintln!("skipped: {}", stderr(&recorded));
        return None;
    }
    let script = Command::new("perf")
        .current_dir(folder)
        .args(["script", "-f", "--no-inline", "-F", "+pid", "-i", "perf.data"])
        .output()
        .unwrap();
    assert!(script.status.success(), "{}", stderr(&script));
    Some(common::stdout(&script))
}

/// The process stands for what it is called.
fn by_pid(line: &str) -> (String, u64) {
    let (stack, weight) = line.rsplit_once(' ').unwrap();
    let (label, frames) = stack.split_once(';').unwrap_or((stack, ""));
    let pid = label.trim_end_matches(')').rsplit(['(', '-']).next().unwrap();
    (format!("{pid};{frames}"), weight.parse().unwrap())
}

fn theirs(script: &str) -> Folded {
    let mut options = Options::default();
    (options.annotate_kernel, options.include_pid, options.nthreads) = (true, true, 1);
    let mut out = Vec::new();
    Folder::from(options).collapse(script.as_bytes(), &mut out).unwrap();
    let mut folded = Folded::new();
    for (stack, weight) in String::from_utf8(out).unwrap().lines().map(by_pid) {
        *folded.entry(stack).or_default() += weight;
    }
    folded
}

fn ours(folder: &Path) -> Folded {
    let args = ["flame", "perf.data", "--folded", "folded", "--time", "cpu", "-o", "out.svg"];
    let output = run_in(folder, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut folded = Folded::new();
    let text = std::fs::read_to_string(folder.join("folded")).unwrap();
    for (stack, weight) in text.lines().map(by_pid) {
        *folded.entry(stack).or_default() += weight;
    }
    folded
}

/// The functions of the kernel and of a static program, by address.
struct Symbols {
    /// All names at each address.
    at: BTreeMap<u64, Vec<String>>,
    /// What perf prints of a user frame is its offset in the file, so this is by name.
    addresses: BTreeMap<String, u64>,
    /// The first of those that stand for the same address.
    first: BTreeMap<String, String>,
}

impl Symbols {
    fn of(folder: &Path) -> Self {
        let nm = Command::new("nm").arg(folder.join("program")).output().unwrap();
        let kernel = std::fs::read_to_string("/proc/kallsyms").unwrap();
        let mut symbols =
            Symbols { at: BTreeMap::new(), addresses: BTreeMap::new(), first: BTreeMap::new() };
        for line in common::stdout(&nm).lines().chain(kernel.lines()) {
            let mut fields = line.split_ascii_whitespace();
            let address = fields.next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let is_code = fields.next().is_some_and(|kind| "tTwWiI".contains(kind));
            let (Some(address), true, Some(name)) = (address, is_code, fields.next()) else {
                continue;
            };
            let names = symbols.at.entry(address).or_default();
            names.push(name.to_owned());
            symbols.addresses.insert(name.to_owned(), address);
            symbols.first.insert(name.to_owned(), names[0].clone());
        }
        symbols
    }

    fn first(&self, frame: &str) -> String {
        self.first.get(frame).map_or(frame, String::as_str).to_owned()
    }

    /// With one name for each address of user code: which one of several perf would have printed of a
    /// function that [it names another for](Symbols::with_callers_by_their_call) is not known.
    fn resolved(&self, folded: &Folded) -> Folded {
        with_frames(folded, |frames| frames.iter().map(|frame| self.first(frame)).collect())
    }

    /// Difference: a return address that is the first byte of a function is the end of a call in the
    /// one before, for us. Where the thread was, in the kernel and in user code, is no return
    /// address; nor is the start of a function with padding before it, in which no call ends: it was
    /// interrupted there, or a retpoline is about to enter it.
    fn with_callers_by_their_call(&self, script: &str) -> String {
        let mut out = String::new();
        let (mut seen_user, mut seen_kernel) = (false, false);
        for line in script.lines() {
            let frame = line.strip_prefix('\t').and_then(|line| line.trim().split_once(' '));
            let Some((address, rest)) = frame else {
                (seen_user, seen_kernel) = (false, false);
                out += line;
                out.push('\n');
                continue;
            };
            let in_kernel = u64::from_str_radix(address, 16).unwrap() >> 63 == 1;
            let seen = if in_kernel { &mut seen_kernel } else { &mut seen_user };
            let is_caller = std::mem::replace(seen, true);
            match rest.split_once("+0x0 (") {
                Some((name, object)) if is_caller => {
                    let start = self.addresses[name];
                    // Of several names in the kernel both of us take the last.
                    let before = self.at.range(..start).next_back().unwrap().1.last().unwrap();
                    let name = if before.starts_with("__pfx_") { name } else { before.as_str() };
                    out += &format!("\t{address} {name}+0x1 ({object}\n");
                }
                _ => out += &format!("{line}\n"),
            }
        }
        out
    }
}

/// Each stack with other frames, root first.
fn with_frames(folded: &Folded, change: impl Fn(&[&str]) -> Vec<String>) -> Folded {
    let mut changed = Folded::new();
    for (stack, weight) in folded {
        let (pid, frames) = stack.split_once(';').unwrap();
        let frames: Vec<&str> = frames.split(';').collect();
        let stack = format!("{pid};{}", change(&frames).join(";"));
        *changed.entry(stack).or_default() += weight;
    }
    changed
}

/// Difference: perf goes on where a caller lies in no mapping, and we end the stack there.
fn cut_at_what_is_no_code(folded: &Folded) -> Folded {
    with_frames(folded, |frames| {
        // Leaf first, past the kernel's half and the one user frame that is where the thread was.
        let leafward = frames.iter().rev();
        let kernel = leafward.take_while(|frame| frame.ends_with("_[k]")).count();
        let user = &frames[..frames.len() - kernel];
        let exact = user.len().saturating_sub(1);
        let cut = user[..exact].iter().rposition(|&frame| frame == "[unknown]");
        frames[cut.map_or(0, |at| at + 1)..].iter().map(|&frame| frame.to_owned()).collect()
    })
}

/// Difference: functions that were inlined are frames of their own for us.
fn without_inlined(folded: &Folded) -> Folded {
    with_frames(folded, |frames| {
        let frames = frames.iter().filter(|frame| !frame.ends_with("_[i]"));
        frames.map(|&frame| frame.to_owned()).collect()
    })
}

#[track_caller]
fn assert_equal(ours: &Folded, theirs: &Folded) {
    let differing = |a: &Folded, b: &Folded| -> Vec<String> {
        let other = a.iter().filter(|&(stack, weight)| b.get(stack) != Some(weight));
        other.map(|(stack, weight)| format!("{stack} {weight}")).take(5).collect()
    };
    assert!(
        ours == theirs,
        "ours: {:#?}\ntheirs: {:#?}",
        differing(ours, theirs),
        differing(theirs, ours)
    );
}

#[test]
fn stack_by_stack_and_count_by_count() {
    let Some(folder) = program("-static") else { return };
    let folder = folder.path();
    let mut writer = spawn(folder, "write", Stdio::null(), Stdio::piped());
    let reader = spawn(folder, "read", writer.stdout.take().unwrap().into(), Stdio::null());
    let pair = Killed(vec![writer, reader]);
    let Some(script) = perf_record(folder, &pair) else { return };
    let symbols = Symbols::of(folder);
    let script = symbols.with_callers_by_their_call(&script);
    let (ours, theirs) = (ours(folder), theirs(&script));
    assert!(theirs.len() > 10, "{theirs:#?}");
    assert!(
        theirs.keys().any(|stack| stack.contains("write_more") && stack.contains("pipe_write"))
    );
    assert_eq!(ours.values().sum::<u64>(), theirs.values().sum::<u64>());
    let ours = symbols.resolved(&without_inlined(&ours));
    assert_equal(&ours, &symbols.resolved(&cut_at_what_is_no_code(&theirs)));
}

#[test]
fn perf_goes_on_at_callers_that_are_no_code() {
    for tool in ["perf", "yes"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return eprintln!("skipped: {tool} is not installed");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Debian's libc is built without frame pointers, so what the register holds is a buffer.
    let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
    let cat = Command::new("cat")
        .stdin(yes.stdout.take().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let Some(script) = perf_record(folder, &Killed(vec![yes, cat])) else { return };
    let (ours, theirs) = (ours(folder), theirs(&script));
    let depths = |folded: &Folded| -> Folded {
        with_frames(folded, |frames| {
            let kernel = frames.iter().filter(|frame| frame.ends_with("_[k]")).count();
            vec![kernel.to_string(), (frames.len() - kernel).to_string()]
        })
    };
    assert_equal(&depths(&without_inlined(&ours)), &depths(&cut_at_what_is_no_code(&theirs)));
    let invented = |stack: &&String| stack.contains(";[unknown];");
    if cut_at_what_is_no_code(&theirs) == theirs {
        assert!(!theirs.keys().any(|stack| invented(&stack)), "{theirs:#?}");
    }
    assert!(!ours.keys().any(|stack| invented(&stack)), "{ours:#?}");
}

#[test]
fn perf_does_not_print_what_was_inlined() {
    let Some(folder) = program("-static -g") else { return };
    let folder = folder.path();
    let Some(script) = perf_record(folder, &alone(folder, "spin")) else { return };
    let aliases = Symbols::of(folder);
    let script = aliases.with_callers_by_their_call(&script);
    let (ours, theirs) = (ours(folder), theirs(&script));
    assert!(ours.keys().any(|stack| stack.contains(";inlined_step_[i]")), "{ours:#?}");
    assert!(!theirs.keys().any(|stack| stack.contains("inlined_step")), "{theirs:#?}");
    let user = |folded: &Folded| -> Folded {
        // Where an interrupt came in, the kernel's half is the other test's.
        let of_user = folded.iter().filter(|(stack, _)| !stack.contains("_[k]"));
        of_user.map(|(stack, &weight)| (stack.clone(), weight)).collect()
    };
    let ours = aliases.resolved(&user(&without_inlined(&ours)));
    assert_equal(&ours, &aliases.resolved(&user(&cut_at_what_is_no_code(&theirs))));
}

#[test]
fn of_several_names_for_one_address_both_take_the_same() {
    let Some(folder) = program("-static") else { return };
    let folder = folder.path();
    let Some(script) = perf_record(folder, &alone(folder, "spin")) else { return };
    let (ours, theirs) = (ours(folder), theirs(&script));
    // Where the thread was, rather than where a call returns to, which each takes another way.
    let leaves = |folded: &Folded| {
        let mut leaves = Folded::new();
        for (stack, weight) in folded {
            let leaf = stack.rsplit(';').next().unwrap();
            *leaves.entry(leaf.to_owned()).or_default() += weight;
        }
        leaves
    };
    let (ours, theirs) = (leaves(&without_inlined(&ours)), leaves(&theirs));
    assert_equal(&ours, &theirs);
    assert!(["spin", "one_of_two_names"].iter().any(|name| ours.contains_key(*name)), "{ours:#?}");
    let aliases = Symbols::of(folder);
    assert_eq!(aliases.first("spin"), aliases.first("one_of_two_names"));
}

#[test]
fn perf_looks_a_return_address_up_as_it_stands() {
    let Some(folder) = program(
        "-static -fno-reorder-functions -fno-toplevel-reorder \
                                -falign-functions=1",
    ) else {
        return;
    };
    let folder = folder.path();
    let Some(script) = perf_record(folder, &alone(folder, "last")) else { return };
    let (ours, theirs) = (ours(folder), theirs(&script));
    let share = |folded: &Folded, part: &str| {
        let with: u64 = folded.iter().filter(|(s, _)| s.contains(part)).map(|(_, w)| w).sum();
        with as f64 / folded.values().sum::<u64>() as f64
    };
    // The call is the last instruction of its function, and another begins right behind it.
    assert!(share(&ours, "calls_it_last;never_returns") > 0.9, "{ours:#?}");
    assert!(share(&theirs, "stands_behind_it;never_returns") > 0.9, "{theirs:#?}");
    let mended = self::theirs(&Symbols::of(folder).with_callers_by_their_call(&script));
    assert!(share(&mended, "calls_it_last;never_returns") > 0.9, "{mended:#?}");
}

#[test]
fn perf_names_the_thread_and_pipeprof_the_process() {
    let Some(folder) = program("-static") else { return };
    let folder = folder.path();
    let Some(script) = perf_record(folder, &alone(folder, "thread")) else { return };
    assert!(script.lines().any(|line| line.starts_with("other-name")), "{script:.2000}");
    ours(folder);
    let text = std::fs::read_to_string(folder.join("folded")).unwrap();
    assert!(text.lines().all(|line| line.starts_with("program (")), "{text}");
}
