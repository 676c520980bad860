//! Names are of the build that ran, or there are none: programs that are replaced, rebuilt, copied or
//! gone after they were recorded, by `perf record` and by ourselves.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{pipeprof, stderr, stdout};

/// `alpha_fn` and `beta_fn` run. The second version has other functions in their place.
const PROGRAM: &str = r#"
#include <stdlib.h>
#include <time.h>
static volatile unsigned long sink;
#ifdef V2
__attribute__((noinline)) void padding_new(void) { sink += 1; asm volatile(".fill 64, 1, 0x90"); }
#define ALPHA gamma_fn
#define BETA delta_fn
#else
#define ALPHA alpha_fn
#define BETA beta_fn
#endif
__attribute__((noinline)) void ALPHA(void) { for (int i = 0; i < 100000; i++) sink += i; }
__attribute__((noinline)) void BETA(void) { for (int i = 0; i < 50000; i++) sink += i; }
int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0.3;
    clock_t start = clock();
    while (clock() - start < seconds * CLOCKS_PER_SEC) { ALPHA(); BETA(); }
    return 0;
}
"#;

/// A folder with programs, and a home whose `~/.debug` is empty.
struct Folder(tempfile::TempDir);

impl Folder {
    /// `None`, said on stderr, where something is missing.
    fn new() -> Option<Self> {
        for tool in ["gcc", "perf", "objcopy"] {
            if Command::new(tool).arg("--version").output().is_err() {
                eprintln!("skipped: {tool} is not installed");
                return None;
            }
        }
        let folder = Folder(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path("home")).unwrap();
        std::fs::write(folder.path("program.c"), PROGRAM).unwrap();
        Some(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    #[track_caller]
    fn sh(&self, line: &str) {
        let output = self.command("sh").args(["-ec", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", stderr(&output));
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env("HOME", self.path("home"));
        command.env_remove("PERF_BUILDID_DIR").env_remove("DEBUGINFOD_CACHE_PATH");
        command
    }

    fn build(&self, name: &str, flags: &str) {
        self.sh(&format!("gcc -O1 -g -fno-omit-frame-pointer {flags} -o {name} program.c"));
    }

    /// Another build, made as carefully: of the same length and shape, but other functions.
    fn build_other(&self, name: &str) {
        self.build(name, "-DV2");
    }

    /// Has perf record a program; false, said on stderr, where it may not.
    fn perf_record(&self, options: &str, command: &str) -> bool {
        let line =
            format!("perf record -q -g -e cpu-clock -F 997 {options} -o perf.data -- {command}");
        let output = self.command("sh").args(["-ec", &line]).output().unwrap();
        if !output.status.success() {
            eprintln!("skipped: {}", stderr(&output));
        }
        output.status.success()
    }

    /// The functions of a recording, and what its quality block notes.
    fn report(&self, recording: &str) -> (String, String) {
        let report = |arguments: &[&str]| {
            let mut command = self.command(pipeprof().get_program());
            let output = command.args(["report", "--no-pager"]).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            stdout(&output)
        };
        let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let functions = report(&["--sort", "function", recording]);
        (functions, words(report(&[recording])))
    }

    #[track_caller]
    fn assert_named(&self, recording: &str) {
        let (functions, notes) = self.report(recording);
        assert!(functions.contains("alpha_fn") && functions.contains("beta_fn"), "{functions}");
        assert!(!notes.contains("no longer"), "{notes}");
    }

    /// There are no names of another build, and a note says so.
    #[track_caller]
    fn assert_unnamed(&self, recording: &str, program: &str) {
        let (functions, notes) = self.report(recording);
        for name in ["gamma_fn", "delta_fn", "padding_new", "alpha_fn", "beta_fn"] {
            assert!(!functions.contains(name), "{functions}");
        }
        assert!(functions.contains(&format!("[{program}]")), "{functions}");
        assert!(notes.contains("no longer"), "{notes}");
    }
}

#[test]
fn a_replaced_program_with_its_build_id_in_the_mapping_has_no_names() {
    let Some(folder) = Folder::new() else { return };
    folder.build("a", "");
    if !folder.perf_record("--buildid-mmap", "./a 0.2") {
        return;
    }
    folder.build_other("other");
    folder.sh("rm a && cp other a");
    folder.assert_unnamed("perf.data", "a");
}

#[test]
fn a_program_that_is_overwritten_in_place_has_no_names() {
    let Some(folder) = Folder::new() else { return };
    folder.build("b", "");
    folder.build_other("other");
    // By the build id in the header, and by the time of the last write where there is none.
    for options in ["", "-B -N"] {
        folder.build("b", "");
        if !folder.perf_record(options, "./b 0.2") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        folder.sh("cat other > b; rm -rf home");
        folder.assert_unnamed("perf.data", "b");
    }
}

#[test]
fn the_same_build_under_a_new_inode_has_its_names() {
    let Some(folder) = Folder::new() else { return };
    folder.build("c", "");
    if !folder.perf_record("", "./c 0.2") {
        return;
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    folder.sh("cp c c2 && mv c2 c && rm -rf home");
    folder.assert_named("perf.data");
}

#[test]
fn a_deleted_program_is_named_by_the_copy_in_perfs_cache() {
    let Some(folder) = Folder::new() else { return };
    folder.build("d", "");
    if !folder.perf_record("", "./d 0.2") {
        return;
    }
    folder.sh("rm d");
    folder.assert_named("perf.data");
    folder.sh("rm -rf home");
    folder.assert_unnamed("perf.data", "d");
}

#[test]
fn a_program_that_is_replaced_before_the_recording_ends_has_no_names_of_its_successor() {
    let Some(folder) = Folder::new() else { return };
    folder.build("a", "");
    folder.build_other("other");
    // perf reads the build id of the header in the end, from what has the name by then.
    if !folder.perf_record("", "sh -c './a 0.2; rm a; cp other a; sleep 0.1'") {
        return;
    }
    folder.assert_unnamed("perf.data", "a");
    // Our own recordings know the file by its inode, generation and last write.
    for line in ["rm a; cp other a", "cat other > a"] {
        folder.sh("rm -rf a own.pipeprof");
        folder.build("a", "");
        std::thread::sleep(std::time::Duration::from_millis(50));
        let line = format!("./a 0.3 | cat; {line}");
        let mut command = folder.command(pipeprof().get_program());
        let output = command.args(["record", "-c", &line, "-o", "own"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        folder.assert_unnamed("own.pipeprof", "a");
    }
}

#[test]
fn a_program_that_ran_and_stays_is_named_without_a_note() {
    let Some(folder) = Folder::new() else { return };
    folder.build("a", "");
    let mut command = folder.command(pipeprof().get_program());
    let output = command.args(["record", "-c", "./a 0.3 | cat", "-o", "own"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    folder.assert_named("own.pipeprof");
    let (_, notes) = folder.report("own.pipeprof");
    assert!(!notes.contains("in the recording: "), "{notes}");
}

#[test]
fn a_stripped_program_is_named_by_the_debug_file_of_its_build_id() {
    let Some(folder) = Folder::new() else { return };
    let (first, rest) = ("ab", "cdef0123456789abcdef0123456789abcdef01");
    folder.build("e", &format!("-Wl,--build-id=0x{first}{rest}"));
    let kept = format!("home/.debug/.build-id/{first}/{rest}");
    folder.sh(&format!("mkdir -p {kept}; objcopy --only-keep-debug e {kept}/debug; strip e"));
    if !folder.perf_record("-B -N", "./e 0.2") {
        return;
    }
    let (functions, notes) = folder.report("perf.data");
    assert!(functions.contains("alpha_fn"), "{functions}");
    assert!(notes.contains("no build ids in the recording"), "{notes}");
}

/// Programs whose `.symtab` is whole, and whose debug information is not.
fn with_bad_debug_information(line: &str) {
    let Some(folder) = Folder::new() else { return };
    folder.build("a", "");
    folder.build_other("other");
    folder.sh(line);
    if !folder.perf_record("", "./a 0.2") {
        return;
    }
    let (functions, notes) = folder.report("perf.data");
    assert!(functions.contains("alpha_fn"), "{functions}");
    let expects_note = !line.contains("zstd");
    let has_note = ["debug file of another build", "damaged debug information"]
        .iter()
        .any(|note| notes.contains(note));
    assert_eq!(has_note, expects_note, "{notes}");
}

#[test]
fn debug_information_packed_by_zstd_costs_no_names() {
    with_bad_debug_information("objcopy --compress-debug-sections=zstd a");
}

#[test]
fn a_debug_link_to_a_file_of_another_build_costs_no_names() {
    with_bad_debug_information(
        "objcopy --only-keep-debug a a.debug; strip -g a; objcopy --add-gnu-debuglink=a.debug a; \
         objcopy --only-keep-debug other a.debug",
    );
}

#[test]
fn a_debug_link_to_a_text_costs_no_names() {
    with_bad_debug_information(
        "strip -g a; echo text > a.txt; objcopy --add-gnu-debuglink=a.txt a; echo other > a.txt",
    );
}

#[test]
fn garbage_for_debug_information_costs_no_names() {
    with_bad_debug_information(
        "objcopy --dump-section .debug_info=info a; head -c $(stat -c %s info) /dev/zero \
         | tr '\\0' '\\377' > ff; objcopy --update-section .debug_info=ff a",
    );
}

#[test]
fn a_debug_link_to_a_fifo_or_to_a_huge_hole_is_passed_over_at_once() {
    let Some(folder) = Folder::new() else { return };
    folder.build("a", "");
    folder.sh("strip -g a; cp a whole; echo > a.debug; objcopy --add-gnu-debuglink=a.debug a");
    for line in ["rm a.debug; mkfifo a.debug", "rm a.debug; truncate -s 20G a.debug"] {
        folder.sh(line);
        if !folder.perf_record("", "./a 0.2") {
            return;
        }
        let started = std::time::Instant::now();
        folder.assert_named("perf.data");
        assert!(started.elapsed().as_secs() < 20, "{line}: {:?}", started.elapsed());
    }
}

/// Where a filter of seccomp lies the kernel's table of symbols says nothing.
const FILTERED: &str = r"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct sock_filter steps[3001];
    for (int i = 0; i < 3000; i++)
        steps[i] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, i);
    steps[3000] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { 3001, steps };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 2;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 3;
    clock_t start = clock();
    while (clock() - start < CLOCKS_PER_SEC / 2)
        for (int i = 0; i < 1000; i++) syscall(SYS_getppid);
    return 0;
}
";

#[test]
fn a_filter_of_seccomp_does_not_take_the_name_of_the_kernels_last_symbol() {
    let Some(folder) = Folder::new() else { return };
    if !common::may_profile_kernel() {
        return;
    }
    std::fs::write(folder.path("filtered.c"), FILTERED).unwrap();
    folder.sh("gcc -O1 -o filtered filtered.c");
    let mut command = folder.command(pipeprof().get_program());
    let output = command.args(["record", "-c", "./filtered | cat", "-o", "own"]).output().unwrap();
    if !output.status.success() {
        return eprintln!("skipped: {}", stderr(&output));
    }
    let (functions, _) = folder.report("own.pipeprof");
    for name in ["_einittext", "_etext", "ftrace_trampoline"] {
        assert!(!functions.contains(name), "{functions}");
    }
    assert!(functions.contains("[k] [kernel]"), "{functions}");
}

/// Replaces all of `from` in a file by as many bytes.
fn replace(file: &Path, from: &[u8], to: &[u8]) -> usize {
    let mut bytes = std::fs::read(file).unwrap();
    let mut count = 0;
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            count += 1;
        }
    }
    std::fs::write(file, bytes).unwrap();
    count
}

#[test]
fn another_build_of_the_same_release_has_no_kernel_names() {
    let Some(folder) = Folder::new() else { return };
    if !folder.perf_record("", "sh -c 'head -c 400M /dev/zero | cat > /dev/null'") {
        return;
    }
    let ids = folder.command("perf").args(["buildid-list", "-i", "perf.data"]).output().unwrap();
    let ids = stdout(&ids);
    let Some(kernel) = ids.lines().find_map(|line| line.strip_suffix(" [kernel.kallsyms]")) else {
        return eprintln!("skipped: perf notes no build id of this kernel");
    };
    let id: Vec<u8> = (0..kernel.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&kernel[at..at + 2], 16).unwrap())
        .collect();
    let (functions, _) = folder.report("perf.data");
    assert!(functions.contains("[k] do_syscall_64"), "{functions}");
    assert!(replace(&folder.path("perf.data"), &id, &vec![0x11; id.len()]) > 0);
    let (functions, notes) = folder.report("perf.data");
    let named: Vec<&str> = functions.lines().filter(|line| line.contains("[k] ")).collect();
    assert!(named.iter().all(|line| line.contains("[k] [kernel]")), "{named:?}");
    assert!(notes.contains("another build of Linux"), "{notes}");
}
