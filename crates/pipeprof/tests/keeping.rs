//! What was measured is kept: where a disk fills up, where a kill ends the watch. And what a stranger
//! puts in the place of a recording's files costs nobody time or memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{may_profile_kernel, pipeprof, run_in, stderr, stdout, until};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn parsed(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_disk_that_fills_up_ends_the_watch_and_loses_nothing_silently() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root may mount");
        return;
    }
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=5m")).unwrap();
    let began = Instant::now();
    let line = "head -c 4000G /dev/zero | cat >/dev/null";
    let args = ["record", "--freq", "20000", "--duration", "100s", "-c", line];
    let output = run_in(folder.path(), &args);
    let took = began.elapsed();
    let report = run_in(folder.path(), &["report", "--json", "recording.pipeprof"]);
    let names: Vec<_> = entries(folder.path());
    umount(folder.path()).unwrap();
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(took < Duration::from_secs(50), "it watched on for {took:?}");
    assert!(errors.contains("the recording is incomplete: No space left on device"), "{errors}");
    assert!(errors.contains("hint: "), "{errors}");
    assert_eq!(names.len(), 1, "{names:?}");
    let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
    let quality = &report["quality"];
    assert!(quality["lost"].as_u64().unwrap() > 0, "{quality}");
    assert!(quality["notes"].to_string().contains("ends early"), "{quality}");
    assert_eq!(quality["cut_short"], json!(false), "{quality}");
}

#[test]
fn a_recording_whose_maker_was_killed_opens_with_its_members() {
    if !may_profile_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut record = pipeprof();
    record.args(["record", "-c", "exec 3>&1; yes | head -c 4000G | cat >/dev/null"]);
    record.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = record.spawn().unwrap();
    let about = folder.path().join("recording.pipeprof.partial/pipeprof.json");
    let members = || {
        let value: Value = serde_json::from_slice(&fs::read(&about).ok()?).ok()?;
        let members = value["capture"]["pipeline"]["members"].as_array()?.clone();
        let elapsed = value["about"]["elapsed_ns"].as_u64()?;
        Some((members, elapsed))
    };
    // Until everybody is noted, and some time of theirs.
    until("all members are noted, and 2 s of theirs", || {
        members().is_some_and(|(members, elapsed)| members.len() >= 4 && elapsed > 2_000_000_000)
    });
    let noted = members().unwrap().0;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    for member in &noted {
        // Whatever of them a kill of their parent leaves.
        let _ = kill(Pid::from_raw(member["pid"].as_i64().unwrap() as i32), Signal::SIGKILL);
    }
    let report = run_in(folder.path(), &["report", "--json", "recording.pipeprof.partial"]);
    assert!(report.status.success(), "{}", stderr(&report));
    let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
    let names: Vec<&str> =
        report["members"].as_array().unwrap().iter().filter_map(|m| m["comm"].as_str()).collect();
    for name in ["yes", "head", "cat"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(report["quality"]["cut_short"], json!(true));
}

#[test]
fn recordings_are_their_owners_alone_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    for umask in ["000", "077", "777"] {
        let mut shell = std::process::Command::new("sh");
        let line = format!(
            "umask {umask}; exec '{}' record -q --stage write --bytes 1M -o {umask}",
            env!("CARGO_BIN_EXE_pipeprof")
        );
        let output = shell.args(["-c", &line]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{umask}: {}", stderr(&output));
        let recording = folder.path().join(format!("{umask}.pipeprof"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&recording), 0o700, "{umask}");
        for file in entries(&recording) {
            assert_eq!(mode(&file), 0o600, "{umask}: {}", file.display());
        }
    }
}

/// A good recording in a folder, with one of its files replaced.
fn spoilt(folder: &Path, name: &str, spoil: impl FnOnce(&Path)) -> PathBuf {
    let spoilt = folder.join("spoilt.pipeprof");
    let _ = fs::remove_dir_all(&spoilt);
    fs::create_dir(&spoilt).unwrap();
    for file in entries(&folder.join("recording.pipeprof")) {
        fs::copy(&file, spoilt.join(file.file_name().unwrap())).unwrap();
    }
    fs::remove_file(spoilt.join(name)).unwrap();
    spoil(&spoilt.join(name));
    spoilt
}

/// What `report` says of it, within bounds of time and memory.
fn bounded_report(recording: &Path) -> String {
    let began = Instant::now();
    let mut shell = std::process::Command::new("bash");
    // 512 MiB of address space are some 250 of memory here: a program maps more than it touches.
    let line = "ulimit -v 1048576; exec timeout 40 \"$0\" report \"$1\"";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_pipeprof"), recording.to_str().unwrap()]);
    let output = shell.output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}", output.status);
    stderr(&output)
}

#[test]
fn side_files_are_regular_files_of_a_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let made = run_in(folder.path(), &["record", "--stage", "write", "--bytes", "16M"]);
    assert!(made.status.success(), "{}", stderr(&made));
    for name in ["pipeprof.json", "symbols.json", "states.json", "perf.data"] {
        let zero = spoilt(folder.path(), name, |path| symlink("/dev/zero", path).unwrap());
        let text = bounded_report(&zero);
        assert!(text.contains(&format!("{name}: it is a device, not a regular file")), "{text}");
        let fifo = spoilt(folder.path(), name, |path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        });
        let text = bounded_report(&fifo);
        assert!(text.contains(&format!("{name}: it is a FIFO, not a regular file")), "{text}");
    }
    for name in ["pipeprof.json", "symbols.json", "states.json"] {
        let sparse = spoilt(folder.path(), name, |path| {
            fs::File::create(path).unwrap().set_len(20 << 30).unwrap();
        });
        assert!(bounded_report(&sparse).contains("the limit is 256 MiB"));
        let bomb = spoilt(folder.path(), name, |path| {
            fs::write(path, format!("{{\"version\":1,\"x\":[{}0]}}", "[],".repeat(40 << 20)))
                .unwrap();
        });
        assert!(bounded_report(&bomb).contains("more values than any recording has"));
    }
}

#[test]
fn a_small_side_file_takes_little_time_and_memory_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = run_in(folder.path(), &["record", "--stage", "write", "--bytes", "16M"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let about = parsed(&folder.path().join("recording.pipeprof/pipeprof.json"));
    // Each grows one list until the file has a megabyte.
    for path in [
        "/capture/pipeline/members",
        "/capture/pipeline/pipes",
        "/capture/threads",
        "/capture/notes",
        "/about/flows",
        "/about/flows/0/over_time",
    ] {
        let mut about = about.clone();
        let list = about.pointer_mut(path).unwrap().as_array_mut().unwrap();
        let item = list.first().cloned().unwrap_or(json!("a note"));
        let many = (1 << 20) / (item.to_string().len() + 1);
        for index in 0..many {
            let mut item = item.clone();
            for key in ["pid", "tid", "inode", "start_time", "at_ns"] {
                if let Some(field) = item.get_mut(key) {
                    *field = json!(100_000 + index);
                }
            }
            list.push(item);
        }
        let recording = spoilt(folder.path(), "pipeprof.json", |file| {
            fs::write(file, about.to_string()).unwrap();
        });
        let text = bounded_report(&recording);
        assert!(!text.contains("error"), "{path}: {text}");
    }
}
