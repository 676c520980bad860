//! Where output goes: through links, into what is no regular file, and where it can't go at all.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{pipeprof, run_in, stderr, stdout};
use nix::mount::{MsFlags, mount, umount};
use tempfile::TempDir;

/// A recording that all tests draw, made once.
fn recording() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let made = run_in(folder.path(), &["record", "--stage", "write", "--bytes", "64M"]);
        assert!(made.status.success(), "{}", stderr(&made));
        folder
    });
    Box::leak(folder.path().join("recording.pipeprof").into_boxed_path())
}

fn flame(folder: &Path, more: &[&str]) -> Output {
    let mut command = pipeprof();
    command.arg("flame").arg(recording()).args(more).current_dir(folder);
    command.output().unwrap()
}

fn is_picture(text: &str) -> bool {
    text.starts_with("<?xml") && text.trim_end().ends_with("</svg>")
}

fn chattr(flags: &str, path: &Path) -> bool {
    Command::new("chattr").arg(flags).arg(path).status().is_ok_and(|status| status.success())
}

#[test]
fn every_command_with_an_output_takes_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let drawn = flame(folder.path(), &["-o", name]);
        assert!(drawn.status.success(), "{name}: {}", stderr(&drawn));
        assert!(is_picture(&stdout(&drawn)), "{name}");
        assert!(
            stderr(&drawn).contains(" on Linux "),
            "the summary is on stderr: {}",
            stderr(&drawn)
        );
    }
    let recording = recording().to_str().unwrap();
    let page = run_in(folder.path(), &["html", recording, "-o", "-"]);
    assert!(stdout(&page).starts_with("<!"), "{}", stderr(&page));
    let picture = run_in(folder.path(), &["diff", recording, recording, "-o", "-"]);
    assert!(is_picture(&stdout(&picture)), "{}", stderr(&picture));
    let stacks = run_in(folder.path(), &["export", recording, "--format", "folded", "-o", "-"]);
    assert!(stdout(&stacks).contains("pp-write ("), "{}", stderr(&stacks));
    let stacks = flame(folder.path(), &["-o", "x.svg", "--folded", "-"]);
    assert!(stdout(&stacks).contains("pp-write ("), "{}", stderr(&stacks));
    let records =
        run_in(folder.path(), &["record", "-o", "-", "--stage", "write", "--bytes", "1M"]);
    assert!(records.status.success(), "{}", stderr(&records));
    assert!(records.stdout.starts_with(b"PERFILE2"));
    let both = flame(folder.path(), &["-o", "-", "--folded", "-"]);
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
    let both = flame(folder.path(), &["-o", "-", "--json"]);
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "only x.svg: {names:?}");
}

#[test]
fn standard_output_keeps_what_it_holds_already() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::write(&log, "before\n").unwrap();
    let file = File::options().append(true).open(&log).unwrap();
    let mut command = pipeprof();
    command.arg("flame").arg(recording()).args(["-o", "/dev/stdout"]).stdout(file);
    assert!(command.status().unwrap().success());
    let text = fs::read_to_string(&log).unwrap();
    assert!(is_picture(text.strip_prefix("before\n").unwrap()));
}

#[test]
fn a_file_under_a_link_is_written_and_keeps_owner_mode_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/file.svg"), "old").unwrap();
    fs::set_permissions(at("sub/file.svg"), fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(at("sub/file.svg"), Some(1234), Some(1235)).unwrap();
    }
    symlink("sub/file.svg", at("link.svg")).unwrap();
    let drawn = flame(folder.path(), &["-o", "link.svg"]);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    assert!(at("link.svg").symlink_metadata().unwrap().is_symlink());
    assert!(is_picture(&fs::read_to_string(at("sub/file.svg")).unwrap()));
    let meta = at("sub/file.svg").metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o640);
    if is_root {
        assert_eq!((meta.uid(), meta.gid()), (1234, 1235));
    }
}

#[test]
fn fifos_and_sockets_are_written_to_where_somebody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = flame(folder.path(), &["-o", "fifo"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hint: start its reader first: cat fifo"));
    let path = at("fifo");
    let reader = std::thread::spawn(move || fs::read_to_string(path).unwrap());
    // Its reader has come when it can be opened, and would go if this were closed before.
    let held = File::options().write(true).open(at("fifo")).unwrap();
    let drawn = flame(folder.path(), &["-o", "fifo"]);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    drop(held);
    assert!(is_picture(&reader.join().unwrap()));
    assert!(!at("fifo").metadata().unwrap().is_file());

    let listener = UnixListener::bind(at("socket")).unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    let drawn = flame(folder.path(), &["-o", "socket"]);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    assert!(is_picture(&reader.join().unwrap()));
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_launched() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root may make files immutable and mount");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refused = |name: &str, flag: &str| {
        let launched = at("launched");
        let line = format!("touch {} | cat", launched.display());
        let mut args = vec!["flame", "-c", &line];
        args.extend(if flag == "-o" { vec!["-o", name] } else { vec!["-o", "x.svg", flag, name] });
        let output = run_in(folder.path(), &args);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        assert!(!launched.exists(), "{name}: it was launched");
        stderr(&output)
    };
    let small = at("small");
    fs::create_dir(&small).unwrap();
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let _ = fs::write(small.join("filler"), vec![1; 1 << 17]);
    let full = refused("small/out.svg", "-o");
    umount(&small).unwrap();
    assert!(full.contains("No space left on device") && full.contains("hint: df -h"), "{full}");
    fs::write(at("immutable"), "old").unwrap();
    fs::write(at("growing"), "old").unwrap();
    if chattr("+i", &at("immutable")) && chattr("+a", &at("growing")) {
        let immutable = refused("immutable", "-o");
        let growing = refused("growing", "--folded");
        chattr("-i", &at("immutable"));
        chattr("-a", &at("growing"));
        assert!(immutable.contains("hint: sudo chattr -i immutable"), "{immutable}");
        assert!(growing.contains("hint: sudo chattr -a growing"), "{growing}");
    } else {
        // A tmpfs has no such files.
        assert!(Command::new("chattr").output().is_ok(), "chattr is not installed");
    }
}

#[test]
fn a_run_outlives_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    for (command, more) in
        [("flame", &["--folded", "/dev/full"][..]), ("html", &["-o", "/dev/full"])]
    {
        let mut run = pipeprof();
        run.args([command, "--stage", "write", "--bytes", "64M"]).args(more);
        let output =
            run.current_dir(folder.path()).env("TMPDIR", temporary.path()).output().unwrap();
        let (text, errors) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(text.contains(" on Linux "), "{command} prints its summary: {text}");
        assert!(errors.contains("writing /dev/full: No space left on device"), "{errors}");
        let hint = errors.lines().find_map(|line| line.strip_prefix("hint: pipeprof ")).unwrap();
        let mut words: Vec<&str> = hint.split(' ').collect();
        *words.last_mut().unwrap() = "again";
        let again = run_in(folder.path(), &words);
        assert!(again.status.success(), "{hint}: {}", stderr(&again));
        assert!(folder.path().join("again").metadata().unwrap().len() > 1000);
    }
    assert!(folder.path().join("pipeprof-write.svg").exists(), "the picture is there all the same");
}

#[test]
fn what_a_killed_run_leaves_the_next_one_removes() {
    use nix::sys::signal::{Signal, kill};
    let temporary = tempfile::tempdir().unwrap();
    let entries = || fs::read_dir(temporary.path()).unwrap().count();
    let mut run = pipeprof();
    run.args(["flame", "-q", "-o", "-", "-c", "sleep 60 | cat"]).env("TMPDIR", temporary.path());
    let mut child = run.stdout(std::process::Stdio::null()).spawn().unwrap();
    while entries() == 0 {
        std::thread::yield_now();
    }
    kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert_eq!(entries(), 1);
    // The folder is still held while what was launched is brought to its end.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let mut run = pipeprof();
        run.args(["flame", "-q", "-o", "-", "--stage", "write", "--bytes", "500M"]);
        let output = run.env("TMPDIR", temporary.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        if entries() == 0 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it was not removed");
    }
}
