//! Attaching never disturbs: a live pipeline that is attached to and let go again and again puts
//! out the same bytes, ends as it would, and leaves nothing behind in this process.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::Group;
use pipeprof_profiler::meter::Meter;
use pipeprof_profiler::recording::RecordingDir;
use pipeprof_profiler::session::{CaptureConfig, Session};
use pipeprof_profiler::sys::RunningKernel;
use pipeprof_runner::discover::{Extent, Found, discover};
use pipeprof_runner::pipeline::{Member, Pipeline};

/// A bash pipeline.
struct Live(Group);

impl Live {
    fn start(line: &str) -> Live {
        let mut bash = Command::new("bash");
        bash.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped());
        Live(Group::spawn(&mut bash))
    }

    fn pid(&self) -> i32 {
        self.0.pid()
    }

    fn is_running(&mut self) -> bool {
        self.0.0.try_wait().unwrap().is_none()
    }

    fn output(&mut self) -> String {
        let mut text = String::new();
        self.0.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.0.wait().unwrap();
        text
    }
}

/// One round of all there is to attach; `false` where the pipeline has ended meanwhile.
fn round(pid: i32) -> Result<bool, String> {
    let Ok(found) = discover(&[pid], Extent::Whole) else { return Ok(false) };
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig { switches: true, ..Default::default() };
    let session = match Session::attach(&RunningKernel, &found.pipeline, &config, dir) {
        Ok(session) => session,
        Err(pipeprof_profiler::Error::NoTasks) => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let meter = Meter::start(found, false).unwrap();
    meter.finish().unwrap();
    session.finish(&RunningKernel).unwrap();
    Ok(true)
}

static TURN: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn may_attach() -> bool {
    let mut live = Live::start("sleep 5 | cat");
    found(&live, 2);
    match round(live.pid()) {
        Ok(_) => true,
        Err(why) => {
            eprintln!("skipped: {why}");
            let _ = live.is_running();
            false
        }
    }
}

/// `PIPEPROF_ATTACH_ROUNDS` asks for a number; else as many as ten seconds hold.
#[test]
fn rounds_of_attaching_change_nothing() {
    // Descriptors and threads of this process are counted, so the tests take turns.
    let _turn = TURN.lock();
    if !may_attach() {
        return;
    }
    let asked = std::env::var("PIPEPROF_ATTACH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = asked.unwrap_or(1_000);
    let limit = Duration::from_secs(if asked.is_some() { 600 } else { 10 });
    // A numbered stream, of which one byte lost or doubled changes the sum; the writer stops when
    // it is told, and says how much it wrote.
    let folder = tempfile::tempdir().unwrap();
    let (stop, ended) = (folder.path().join("stop"), folder.path().join("ended"));
    let line = format!(
        "while [ ! -e {stop} ]; do seq 20000; sleep 0.001; done | tee >(wc -c >{ended}) | cat | \
         sha256sum; echo ${{PIPESTATUS[*]}}",
        stop = stop.display(),
        ended = ended.display()
    );
    let mut live = Live::start(&line);
    let pid = found(&live, 4).pipeline.members.last().unwrap().pid;
    for _ in 0..5 {
        round(pid).unwrap();
    }
    let before = (descriptors(), resident_kib());
    let started = Instant::now();
    let mut done = 0;
    while done < rounds && started.elapsed() < limit {
        assert!(round(pid).unwrap() && live.is_running());
        done += 1;
    }
    let took = started.elapsed();
    let after = (descriptors(), resident_kib());
    eprintln!(
        "{done} rounds in {took:.1?}, {:.0} a second; RSS {} -> {} KiB",
        done as f64 / took.as_secs_f64(),
        before.1,
        after.1
    );
    assert_eq!(before.0, after.0, "descriptors");
    assert!(after.1 < before.1 + 8 * 1024, "{} -> {} KiB resident", before.1, after.1);
    // It ends while it is looked at, and as soon as without.
    fs::write(&stop, "").unwrap();
    let told = Instant::now();
    while live.is_running() && told.elapsed() < Duration::from_secs(10) {
        round(pid).unwrap();
    }
    assert!(told.elapsed() < Duration::from_secs(5), "{:?} from stop to end", told.elapsed());
    let text = live.output();
    let (digest, statuses) = text.split_once('\n').unwrap();
    assert_eq!(statuses.trim(), "0 0 0 0");
    let mut bytes = String::new();
    while bytes.trim().is_empty() && told.elapsed() < Duration::from_secs(10) {
        bytes = fs::read_to_string(&ended).unwrap_or_default();
    }
    let block = Command::new("seq").arg("20000").output().unwrap().stdout.len();
    let written: usize = bytes.trim().parse().unwrap();
    assert_eq!(written % block, 0);
    let again = format!("for ((i=0;i<{};i++)); do seq 20000; done | sha256sum", written / block);
    assert_eq!(digest, Live::start(&again).output().trim_end());
}

#[test]
fn a_writer_gets_its_signal_while_its_pipe_is_looked_at() {
    // Descriptors and threads of this process are counted, so the tests take turns.
    let _turn = TURN.lock();
    if !may_attach() {
        return;
    }
    let mut live = Live::start(
        "(yes; echo $? >&2) 2>/dev/null | (sleep 1; head -c 1 >/dev/null); \
         echo ${PIPESTATUS[*]}",
    );
    found(&live, 2);
    let started = Instant::now();
    while live.is_running() && started.elapsed() < Duration::from_secs(10) {
        round(live.pid()).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(6));
    assert_eq!(live.output().trim(), "0 0");
}

fn found(live: &Live, members: usize) -> Found {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = discover(&[live.pid()], Extent::Whole).unwrap_or_default();
        if found.pipeline.members.len() >= members || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn fifty_members_and_two_hundred_threads_are_all_attached() {
    // Descriptors and threads of this process are counted, so the tests take turns.
    let _turn = TURN.lock();
    if !may_attach() {
        return;
    }
    let cats = vec!["cat"; 48].join(" | ");
    let live = Live::start(&format!("sleep 30 | {cats} | cat >/dev/null"));
    let fifty = found(&live, 50);
    assert_eq!(fifty.pipeline.members.len(), 50);
    assert_eq!(fifty.pipeline.pipes.len(), 49);
    assert!(round(live.pid()).unwrap());

    // This process is the member with the threads: no helper is needed.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..200)
        .map(|_| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            })
        })
        .collect();
    let me = std::process::id() as i32;
    let mine = Member {
        pid: me,
        start_time_ticks: None,
        comm: "attach".to_owned(),
        command_line: Vec::new(),
        end: None,
    };
    let mine = Pipeline { members: vec![mine], pipes: Vec::new() };
    let dir = RecordingDir::temporary().unwrap();
    let config = CaptureConfig { switches: true, ..Default::default() };
    let session = Session::attach(&RunningKernel, &mine, &config, dir).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let recording = session.finish(&RunningKernel).unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let started = recording.meta.threads.iter().filter(|thread| thread.pid == me).count();
    assert!(started > 200, "{started} threads");
    let mut symbols = pipeprof_profiler::symbolize::LocalSymbols::new();
    let profile = pipeprof_profiler::analyse::analyse(&recording, &mut symbols).unwrap();
    let time = profile.members[0].time.unwrap();
    // Two hundred lives of half a second.
    assert!(time.lifetime_ns > 200 * 450_000_000, "{time:?}");
    assert!(time.blocked_ns > time.lifetime_ns / 2, "{time:?}");
}

#[test]
fn members_that_come_and_go_meanwhile_are_no_error() {
    // Descriptors and threads of this process are counted, so the tests take turns.
    let _turn = TURN.lock();
    if !may_attach() {
        return;
    }
    let mut live = Live::start(
        "for ((i=0;i<1500;i++)); do /bin/true & done | cat | (while read -r line; do :; done; \
         for ((i=0;i<400;i++)); do /bin/echo x | cat; done) | wc -l",
    );
    let started = Instant::now();
    let mut rounds = 0;
    while live.is_running() && started.elapsed() < Duration::from_secs(20) {
        round(live.pid()).unwrap();
        rounds += 1;
    }
    assert!(rounds > 3, "{rounds}");
    assert_eq!(live.output().trim(), "400");
}

fn is_named(pid: i32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// Three watchers at once are stopped at some moment, as Ctrl-Z or `kill -STOP` does it, and then the
/// reader of the pipe that they look into is killed. `PIPEPROF_ATTACH_ROUNDS` asks for a number of
/// rounds.
#[test]
fn no_writer_waits_for_a_watcher_that_was_stopped() {
    use nix::sys::signal::{Signal, kill, killpg};
    use nix::unistd::Pid;
    let _turn = TURN.lock();
    if !may_attach() {
        return;
    }
    let asked = std::env::var("PIPEPROF_ATTACH_ROUNDS").ok().and_then(|text| text.parse().ok());
    for round in 0..asked.unwrap_or(6) {
        let mut live = Live::start("yes | cat >/dev/null; echo ${PIPESTATUS[*]}");
        let until = Instant::now() + Duration::from_secs(10);
        let reader = loop {
            let found = discover(&[live.pid()], Extent::Whole).unwrap();
            // Between its two forks the shell itself holds the end that it will hand down.
            let mut readers = found.pipeline.pipes.iter().flat_map(|pipe| &pipe.readers);
            if let Some(reader) = readers.find(|end| is_named(end.pid, "cat")) {
                break reader.pid;
            }
            assert!(Instant::now() < until);
        };
        let pid = live.pid().to_string();
        let mut watchers: Vec<Child> = (0..3)
            .map(|_| {
                Command::new(env!("CARGO_BIN_EXE_pipeprof"))
                    .args(["stat", "--pid", &pid, "--duration", "60s"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .process_group(0)
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300 + 7 * round % 40));
        let signal = if round % 2 == 0 { Signal::SIGTSTP } else { Signal::SIGSTOP };
        let groups: Vec<Pid> =
            watchers.iter().map(|child| Pid::from_raw(child.id() as i32)).collect();
        for &group in &groups {
            killpg(group, signal).unwrap();
        }
        kill(Pid::from_raw(reader), Signal::SIGKILL).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while live.is_running() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = !live.is_running();
        for &group in &groups {
            let _ = killpg(group, Signal::SIGCONT);
            let _ = killpg(group, Signal::SIGTERM);
        }
        for watcher in &mut watchers {
            let _ = watcher.wait();
        }
        assert!(ended, "round {round}: the writer still waits");
        assert_eq!(live.output().trim(), "141 137");
    }
}
