//! `discover` on real pipelines of real shells.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use pipeprof_runner::discover::{
    DiscoverError, Extent, Found, Level, discover, discover_again, discover_all, threads,
};
use pipeprof_runner::pipeline::{Member, MemberId};
use pipeprof_runner::sock_diag::{Family, SockDiag};

/// A script in a process group of its own, killed whole when dropped.
struct Script {
    child: Child,
    pid: i32,
}

impl Script {
    fn start(shell: &str, script: &str) -> Self {
        let child = quiet(shell).arg("-c").arg(script).process_group(0).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        Script { child, pid }
    }

    /// Waits until the script has so many processes with this name, and returns their pids.
    fn pids(&self, comm: &str, count: usize) -> Vec<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let pids: Vec<i32> = group(self.pid).into_iter().filter(|&p| name(p) == comm).collect();
            if pids.len() == count {
                return pids;
            }
            assert!(Instant::now() < deadline, "{count} of {comm} expected, {pids:?} seen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A command that shares no pipe with who runs the tests.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Every process of a group, by `ps`'s way and not by the code under test.
fn group(pgrp: i32) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat_field(*pid, 5) == Some(i64::from(pgrp)))
        .collect();
    pids.sort_unstable();
    pids
}

fn stat_field(pid: i32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(field - 3)?.parse().ok()
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn names(found: &Found) -> Vec<&str> {
    found.pipeline.members.iter().map(|member| member.comm.as_str()).collect()
}

/// Who writes to whom, by name, sorted.
fn links(found: &Found) -> Vec<String> {
    let mut links = Vec::new();
    for pipe in &found.pipeline.pipes {
        for writer in &pipe.writers {
            for reader in &pipe.readers {
                let comm = |id| &found.pipeline.member(id).unwrap().comm;
                links.push(format!("{}>{}", comm(*writer), comm(*reader)));
            }
        }
    }
    links.sort();
    links
}

/// Looks until the scene has settled into `expected`, or shows what it settled into instead.
#[track_caller]
fn eventually(pid: i32, expected: &[&str]) -> Found {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = discover(&[pid], Extent::Whole).unwrap();
        if names(&found) == expected {
            return found;
        }
        assert!(Instant::now() < deadline, "from {pid}: {:?} {:?}", names(&found), links(&found));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pids(found: &Found) -> HashSet<i32> {
    found.pipeline.members.iter().map(|member| member.pid).collect()
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn has_bash() -> bool {
    let found = Path::new("/bin/bash").exists();
    if !found {
        eprintln!("skipped: no /bin/bash");
    }
    found
}

#[test]
fn five_members_of_a_shell_pipeline_from_each_of_them() {
    let script = Script::start("sh", "sleep 60 | cat | tr a b | cat | sort; true");
    let expected = ["sleep", "cat", "tr", "cat", "sort"];
    let first = script.pids("sleep", 1)[0];
    let whole = eventually(first, &expected);
    for member in &whole.pipeline.members {
        let found = discover(&[member.pid], Extent::Whole).unwrap();
        assert_eq!(found.pipeline, whole.pipeline, "from {}", member.comm);
    }
    assert_eq!(whole.pipeline.pipes.len(), 4);
    for (at, pipe) in whole.pipeline.pipes.iter().enumerate() {
        let place = |id| whole.pipeline.position(id);
        assert_eq!((place(pipe.writers[0]), place(pipe.readers[0])), (Some(at), Some(at + 1)));
    }
    // The shell around them has no pipe, and stands for them.
    let found = discover(&[script.pid], Extent::Whole).unwrap();
    assert_eq!(found.pipeline, whole.pipeline);
    assert_eq!(found.wrappers[0].pid, script.pid);
    assert_eq!(whole.pipeline.members[2].command_line, ["tr", "a", "b"]);
    // Two that are named, and nothing else.
    let ends = [whole.pipeline.members[0].pid, whole.pipeline.members[1].pid];
    let pair = discover(&ends, Extent::OnlyThese).unwrap();
    assert_eq!(links(&pair), ["sleep>cat"]);
}

#[test]
fn tee_with_process_substitutions() {
    if !has_bash() {
        return;
    }
    let script = Script::start("bash", "sleep 60 | tee >(tr a b) >(wc) | sort; true");
    let sleep = script.pids("sleep", 1)[0];
    script.pids("wc", 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = discover(&[sleep], Extent::Whole).unwrap();
        // What the substitutions print goes where tee's own output does.
        if links(&found) == ["sleep>tee", "tee>sort", "tee>tr", "tee>wc", "tr>sort", "wc>sort"] {
            for pid in pids(&found) {
                let again = discover(&[pid], Extent::Whole).unwrap();
                assert_eq!(again.pipeline, found.pipeline);
            }
            return;
        }
        assert!(Instant::now() < deadline, "{:?}", links(&found));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn input_from_process_substitutions() {
    if !has_bash() {
        return;
    }
    let script = Script::start("bash", "paste <(sleep 60) <(sleep 61) | sort; true");
    let sleeps = script.pids("sleep", 2);
    script.pids("paste", 1);
    for pid in sleeps {
        let found = eventually(pid, &["sleep", "sleep", "paste", "sort"]);
        assert_eq!(links(&found), ["paste>sort", "sleep>paste", "sleep>paste"]);
    }
}

#[test]
fn a_named_fifo_joins_two_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("a fifo (deleted)");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = fifo.display();
    let writer = Script::start("sh", &format!("sleep 60 | cat >'{path}'; true"));
    let _reader = Script::start("sh", &format!("cat <'{path}' | sort; true"));
    let found = eventually(writer.pids("sleep", 1)[0], &["sleep", "cat", "cat", "sort"]);
    assert_eq!(links(&found), ["cat>cat", "cat>sort", "sleep>cat"]);
    let named = found.pipeline.pipes.iter().position(|pipe| pipe.path.is_some()).unwrap();
    // Opening one could complete another's open, so it is never measured.
    assert_eq!(found.levels()[named], None);
}

#[test]
fn several_writers_of_one_pipe() {
    let script = Script::start("sh", "(sleep 60 & sleep 61 & wait) | cat; true");
    let sleeps = script.pids("sleep", 2);
    script.pids("cat", 1);
    for pid in sleeps {
        let found = eventually(pid, &["sleep", "sleep", "cat"]);
        assert_eq!(links(&found), ["sleep>cat", "sleep>cat"]);
        assert_eq!(found.wrappers.len(), 1, "the subshell waits: {:?}", found.wrappers);
    }
}

#[test]
fn a_shell_in_the_middle_that_only_waits() {
    let script = Script::start("sh", "sleep 60 | sh -c 'cat | tr a b; true' | sort; true");
    let found = eventually(script.pids("sleep", 1)[0], &["sleep", "cat", "tr", "sort"]);
    assert_eq!(links(&found), ["cat>tr", "sleep>cat", "tr>sort"]);
    assert_eq!(found.wrappers.len(), 1);
}

#[test]
fn who_holds_both_ends_is_no_member() {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let mut writer = quiet("sleep").arg("60").stdout(write.try_clone().unwrap()).spawn().unwrap();
    // The shell keeps both ends, one for cat and the other for nothing; so do we.
    let mut shell = quiet("sh")
        .arg("-c")
        .arg("exec 3<&0; cat <&3 3<&- >/dev/null & wait; true")
        .process_group(0)
        .stdin(read.try_clone().unwrap())
        .stdout(write.try_clone().unwrap())
        .spawn()
        .unwrap();
    let found = eventually(i32::try_from(writer.id()).unwrap(), &["sleep", "cat"]);
    assert_eq!(links(&found), ["sleep>cat"]);
    killpg(Pid::from_raw(i32::try_from(shell.id()).unwrap()), Signal::SIGKILL).unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    shell.wait().unwrap();
}

#[test]
fn a_log_on_stderr_joins_no_pipelines() {
    if !has_bash() {
        return;
    }
    let script = Script::start(
        "bash",
        "exec 2> >(tac >/dev/null); sleep 60 | sort & sleep 61 | cat & wait; true",
    );
    script.pids("sleep", 2);
    let sort = script.pids("sort", 1)[0];
    let cat = script.pids("cat", 1)[0];
    eventually(sort, &["sleep", "sort"]);
    eventually(cat, &["sleep", "cat"]);
}

#[test]
fn every_thread_is_listed() {
    let (send, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let pid = i32::try_from(std::process::id()).unwrap();
    let count = 20;
    let ready = std::sync::Arc::new(std::sync::Barrier::new(count + 1));
    let started: Vec<_> = (0..count)
        .map(|_| {
            let (wait, ready) = (wait.clone(), ready.clone());
            std::thread::spawn(move || {
                let tid = nix::unistd::gettid().as_raw();
                ready.wait();
                let _ = wait.lock().unwrap().recv();
                tid
            })
        })
        .collect();
    ready.wait();
    let listed = threads(pid).unwrap();
    drop(send);
    let tids: Vec<i32> = started.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(listed.contains(&pid));
    assert!(tids.iter().all(|tid| listed.contains(tid)), "{tids:?} in {listed:?}");
}

#[test]
fn wrong_pids_are_named_in_the_error() {
    let own = i32::try_from(std::process::id()).unwrap();
    let ours = discover(&[own], Extent::Whole);
    assert!(matches!(ours, Err(DiscoverError::Ourselves { pid }) if pid == own));
    let mut child = Command::new("true").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    child.wait().unwrap();
    let gone = discover(&[pid], Extent::Whole);
    assert!(matches!(gone, Err(DiscoverError::NoSuchProcess { pid: named }) if named == pid));
    assert!(threads(pid).is_err());
}

#[test]
fn an_identity_outlives_its_process_but_fits_no_other() {
    let mut child = quiet("sleep").arg("60").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let found = discover(&[pid], Extent::Whole).unwrap();
    let identity = found.pipeline.members[0].id();
    assert!(identity.is_there());
    identity.pidfd().unwrap();
    let start_time = identity.start_time.map(|ticks| ticks + 1);
    let other = MemberId { start_time, ..identity };
    assert!(!other.is_there());
    assert!(matches!(other.pidfd(), Err(DiscoverError::Replaced { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!identity.is_there());
    assert!(matches!(identity.pidfd(), Err(DiscoverError::NoSuchProcess { .. })));
}

/// A process with the pid of one that has ended; `None` where this machine does not let us choose.
fn taking_over(pid: i32, program: &str, argument: &str) -> Option<Child> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = quiet(program).arg(argument).process_group(0).spawn().unwrap();
        if child.id() == pid as u32 {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}

#[test]
fn who_takes_over_the_pid_of_a_member_is_no_member() {
    let mut first = quiet("sleep").arg("60").spawn().unwrap();
    let second = Script::start("sh", "sleep 60 | cat; true");
    let pid = i32::try_from(first.id()).unwrap();
    let cat = second.pids("cat", 1)[0];
    let both = discover(&[pid, cat], Extent::Whole).unwrap();
    let known: Vec<MemberId> = both.pipeline.members.iter().map(Member::id).collect();
    first.kill().unwrap();
    first.wait().unwrap();
    let Some(mut stranger) = taking_over(pid, "sleep", "61") else {
        eprintln!("skipped: pids can't be chosen here");
        return;
    };
    let again = discover_again(&known, Extent::Whole, Vec::new()).unwrap();
    let alone = discover_again(&known[..1], Extent::OnlyThese, Vec::new());
    let there = known.iter().filter(|id| id.pid == pid && id.is_there()).count();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(known.iter().filter(|id| id.pid == pid).count(), 1);
    assert!(again.pipeline.members.iter().all(|member| member.pid != pid), "{again:?}");
    assert!(again.pipeline.members.iter().any(|member| member.pid == cat));
    assert!(there == 0 && (known[0].pid != pid || alone.is_err()));
}

/// Of the first pipe. On a busy machine a look may come too late, and is taken again.
#[track_caller]
fn level(found: &Found) -> Level {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(level) = found.levels()[0] {
            return level;
        }
        assert!(Instant::now() < deadline, "no level");
    }
}

#[test]
fn the_level_of_a_full_and_of_an_empty_pipe() {
    let script = Script::start("sh", "yes | sleep 60; true");
    let found = eventually(script.pids("yes", 1)[0], &["yes", "sleep"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let level = level(&found);
        if level.fill_bytes == level.capacity_bytes && level.capacity_bytes > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{level:?}");
    }
    let script = Script::start("sh", "sleep 60 | cat; true");
    let found = eventually(script.pids("cat", 1)[0], &["sleep", "cat"]);
    assert_eq!(level(&found).fill_bytes, 0);
}

#[test]
fn what_stops_us_does_not_stop_a_look_and_no_holder_is_found_in_it() {
    let script = Script::start("sh", "yes | sleep 60; true");
    let found = eventually(script.pids("yes", 1)[0], &["yes", "sleep"]);
    level(&found);
    let own = std::process::id() as i32;
    let looker = looker_of(own).unwrap();
    let status = |line: &str| {
        let status = fs::read_to_string(format!("/proc/{looker}/status")).unwrap();
        status.lines().find_map(|l| l.strip_prefix(line).map(|v| v.trim().to_owned())).unwrap()
    };
    // SIGTSTP is 20, SIGTTIN 21, SIGTTOU 22.
    let blocked = u64::from_str_radix(&status("SigBlk:"), 16).unwrap();
    assert_eq!(blocked >> 19 & 0b111, 0b111);
    let stat = fs::read_to_string(format!("/proc/{looker}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[2], fields[3]), (looker.to_string().as_str(), fields[2]), "its own session");
    // It has nothing open but its socket.
    assert_eq!(fs::read_dir(format!("/proc/{looker}/fd")).unwrap().count(), 1);
    for _ in 0..50 {
        found.looks();
        let again = discover(&[script.pids("yes", 1)[0]], Extent::Whole).unwrap();
        assert_eq!(names(&again), ["yes", "sleep"]);
    }
}

fn looker_of(parent: i32) -> Option<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
        name.ends_with("(pp-look") && rest.split(' ').nth(1) == Some(&parent.to_string())
    })
}

#[test]
fn a_pipe_whose_reader_asked_for_signals_is_left_alone() {
    let perl = "use Fcntl; $| = 1; $SIG{IO} = sub { print qq(SIGIO\\n) }; \
         fcntl(STDIN, F_SETOWN, $$ + 0) or die; \
         fcntl(STDIN, F_SETFL, fcntl(STDIN, F_GETFL, 0) | O_ASYNC) or die; \
         print qq(ready\\n); sleep 60 while 1";
    let dir = tempfile::tempdir().unwrap();
    let (program, log) = (dir.path().join("reader.pl"), dir.path().join("log"));
    fs::write(&program, perl).unwrap();
    let line = format!("sleep 60 | perl '{}' >'{}' 2>&1; true", program.display(), log.display());
    let script = Script::start("sh", &line);
    let found = eventually(script.pids("sleep", 1)[0], &["sleep", "perl"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    while said() != "ready\n" {
        assert!(Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..50 {
        assert_eq!(found.looks(), [None]);
    }
    assert_eq!(said(), "ready\n");
}

#[test]
fn a_pipe_whose_writers_have_gone_is_left_alone() {
    let script = Script::start("sh", "sleep 60 | sleep 61; true");
    let found = eventually(script.pids("sleep", 2)[0], &["sleep", "sleep"]);
    level(&found);
    let writer = found.pipeline.pipes[0].writers[0].pid;
    kill(Pid::from_raw(writer), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while found.looks()[0].is_some() {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn members_that_come_and_go_while_we_look() {
    let churn = Script::start("sh", "while :; do echo x | cat | cat >/dev/null; done");
    // Longer than a busy machine takes for all the looks.
    let script = Script::start("sh", "sleep 600 | cat | sort; true");
    let whole = eventually(script.pids("sleep", 1)[0], &["sleep", "cat", "sort"]);
    for _ in 0..200 {
        let from = whole.pipeline.members[1].pid;
        assert_eq!(discover(&[from], Extent::Whole).unwrap().pipeline, whole.pipeline);
        let (all, _) = discover_all().unwrap();
        assert!(all.iter().any(|found| found.pipeline == whole.pipeline));
        match discover(&[churn.pid], Extent::Whole) {
            Ok(found) => assert!(pids(&found).is_disjoint(&pids(&whole))),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_pipeline_among_hundreds_of_unrelated_processes() {
    // Each holds a pipe of its own as well, so that all of them have to be looked at.
    let crowd = Script::start("sh", "for i in $(seq 150); do sleep 600 | sleep 600 & done; wait");
    crowd.pids("sleep", 300);
    let script = Script::start("sh", "sleep 600 | cat | tr a b | cat | sort; true");
    let expected = ["sleep", "cat", "tr", "cat", "sort"];
    let pid = eventually(script.pids("sleep", 1)[0], &expected).pipeline.members[2].pid;
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let found = discover(&[pid], Extent::Whole).unwrap();
            let time = start.elapsed();
            assert_eq!(names(&found), expected);
            time
        })
        .collect();
    times.sort_unstable();
    eprintln!("discover beside 300 processes: median {:?}, worst {:?}", times[10], times[20]);
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
}

/// A checksum pipeline that reads from us, and what it prints and returns.
fn checksum(feed: impl FnOnce(ChildStdin, i32)) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let statuses = dir.path().join("statuses");
    let script =
        format!("cat | tr a b | cksum; echo \"${{PIPESTATUS[*]}}\" >'{}'", statuses.display());
    let mut child = Command::new("bash")
        .arg("-c")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    feed(child.stdin.take().unwrap(), pid);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (String::from_utf8(output.stdout).unwrap(), fs::read_to_string(statuses).unwrap())
}

#[test]
fn a_thousand_looks_change_nothing() {
    if !has_bash() {
        return;
    }
    let rounds = 1000;
    let block = |round: usize| vec![b'a' + u8::try_from(round % 20).unwrap(); 100_000];
    let undisturbed = checksum(|mut stdin, _| {
        for round in 0..rounds {
            stdin.write_all(&block(round)).unwrap();
        }
    });
    let mut grown = None;
    let watched = checksum(|mut stdin, pid| {
        stdin.write_all(&block(0)).unwrap();
        let expected = ["cat", "tr", "cksum"];
        let found = eventually(pid, &expected);
        let member = found.pipeline.members[1].pid;
        let before = open_descriptors();
        let mut looks = 0;
        for round in 1..rounds {
            stdin.write_all(&block(round)).unwrap();
            let mut found = discover(&[member], Extent::Whole).unwrap();
            // Tests beside this one fork this process: until its exec a child holds what it holds.
            let own: Vec<String> = std::env::args().collect();
            found.pipeline.members.retain(|member| member.command_line != own);
            assert_eq!(names(&found), expected, "round {round}");
            // On a busy machine a look may come too late.
            looks += usize::from(found.levels().iter().all(Option::is_some));
        }
        assert!(looks > rounds / 10, "{looks} of {rounds}");
        grown = Some((before, open_descriptors()));
    });
    assert_eq!(watched, undisturbed);
    // Tests beside this one open and close a few of their own.
    let (before, after) = grown.unwrap();
    assert!(after < before + 100, "{before} descriptors before, {after} after");
}

#[test]
fn looking_hides_neither_end_of_file_nor_broken_pipe() {
    if !has_bash() {
        return;
    }
    for _ in 0..20 {
        // A reader that ends first, which its writer must notice; a writer that ends first likewise.
        let mut child = Command::new("bash")
            .arg("-c")
            .arg("yes | head -c 3000000 | (sleep 0.05; cat) | wc -c; echo ${PIPESTATUS[*]}")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if let Ok(found) = discover(&[pid], Extent::Whole) {
                found.levels();
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it hangs");
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "3000000\n141 0 0 0\n");
    }
}

/// Whether these programs are there; says so where one is not.
fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    let missing: Vec<&&str> = programs.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: no {missing:?}");
    }
    missing.is_empty()
}

fn kinds(found: &Found) -> Vec<&'static str> {
    found.pipeline.pipes.iter().map(|pipe| pipe.link.kind()).collect()
}

/// Looks until what a process belongs to has these links, and then finds the same from each member.
#[track_caller]
fn linked_from_each(pid: i32, expected: &[&str]) -> Found {
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        let found = discover(&[pid], Extent::Whole).unwrap();
        if links(&found) == expected {
            break found;
        }
        assert!(Instant::now() < deadline, "from {pid}: {:?} {:?}", names(&found), links(&found));
        std::thread::sleep(Duration::from_millis(10));
    };
    for pid in pids(&found) {
        let again = discover(&[pid], Extent::Whole).unwrap();
        assert_eq!(again.pipeline, found.pipeline, "from {pid}");
    }
    found
}

#[test]
fn what_node_spawns_is_joined_by_its_socket_pairs() {
    if !has(&["node"]) {
        return;
    }
    let program = "const c = require('child_process').spawn('cat'); process.stdin.pipe(c.stdin)";
    let script = Script::start("sh", &format!("yes | node -e \"{program}\"; true"));
    let yes = script.pids("yes", 1)[0];
    let found = linked_from_each(yes, &["cat>node", "node>cat", "yes>node"]);
    assert_eq!(names(&found), ["yes", "node", "cat"]);
    assert_eq!(kinds(&found), ["pipe", "unix", "unix"]);
    let levels = found.levels();
    assert!(levels[1].is_some_and(|level| level.capacity_bytes > 0), "{levels:?}");
    let of_none = discover(&[found.pipeline.members[1].pid], Extent::OnlyThese).unwrap();
    assert_eq!(of_none.pipeline.pipes, []);
}

#[test]
fn a_shell_that_node_starts_a_command_with_is_no_member() {
    if !has(&["node"]) {
        return;
    }
    let program = "const spawn = require('child_process').spawn; \
                   process.stdin.pipe(spawn('cat >/dev/null; true', {shell: true}).stdin)";
    let script = Script::start("sh", &format!("yes | node -e \"{program}\"; true"));
    let cat = script.pids("cat", 1)[0];
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = discover(&[cat], Extent::Whole).unwrap();
        if names(&found) == ["yes", "node", "cat"] {
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", names(&found));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn socat_and_what_it_executes_are_joined() {
    if !has(&["socat"]) {
        return;
    }
    let script = Script::start("sh", "yes | socat -u - EXEC:'wc -l'; true");
    let yes = script.pids("yes", 1)[0];
    script.pids("wc", 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = discover(&[yes], Extent::Whole).unwrap();
        if links(&found).iter().any(|link| link == "socat>wc") {
            assert_eq!(names(&found), ["yes", "socat", "wc"]);
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", links(&found));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_socats_between_pipes_are_joined_by_their_unix_socket() {
    if !has(&["socat"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let path = path.display();
    let script = Script::start(
        "sh",
        &format!(
            "socat -u UNIX-LISTEN:{path} - | sleep 60 & \
             yes | socat -u - UNIX-CONNECT:{path},retry=600,interval=0.1; true"
        ),
    );
    let yes = script.pids("yes", 1)[0];
    let found = linked_from_each(yes, &["socat>sleep", "socat>socat", "yes>socat"]);
    assert_eq!(names(&found), ["yes", "socat", "socat", "sleep"]);
    assert_eq!(kinds(&found), ["pipe", "unix", "pipe"]);
}

#[test]
fn two_ends_of_a_tcp_connection_are_joined_once_it_carries_data() {
    if !has(&["socat"]) {
        return;
    }
    let port = free_port();
    let listens = format!("socat -u TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr - | sleep 60; true");
    let connects = format!("yes | socat -u - TCP:127.0.0.1:{port},retry=600,interval=0.1; true");
    // Two jobs.
    let there = Script::start("sh", &listens);
    let here = Script::start("sh", &connects);
    let yes = here.pids("yes", 1)[0];
    let found = linked_from_each(yes, &["socat>sleep", "socat>socat", "yes>socat"]);
    assert_eq!(names(&found), ["yes", "socat", "socat", "sleep"]);
    assert_eq!(kinds(&found), ["pipe", "tcp", "pipe"]);
    assert!(found.levels()[1].is_some());
    drop(there);
}

#[test]
fn a_server_and_its_clients_stay_apart() {
    if !has(&["socat"]) {
        return;
    }
    let port = free_port();
    let _server = Script::start(
        "sh",
        &format!(
            "exec socat -U TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr OPEN:/dev/zero,rdonly"
        ),
    );
    let client = Script::start(
        "sh",
        &format!("socat -u TCP:127.0.0.1:{port},retry=600,interval=0.1 - | sleep 60; true"),
    );
    let socat = client.pids("socat", 1)[0];
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = discover(&[socat], Extent::Whole).unwrap();
        if !found.left_out.is_empty() {
            assert_eq!(names(&found), ["socat", "sleep"]);
            assert_eq!(kinds(&found), ["pipe"]);
            assert_eq!(found.left_out, [(found.pipeline.members[0].id(), 1)]);
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", links(&found));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_netcat_that_listens_on_while_it_has_its_connection_is_joined() {
    if !has(&["nc"]) {
        return;
    }
    let help = Command::new("nc").arg("-h").output().unwrap();
    if !String::from_utf8_lossy(&help.stderr).contains("OpenBSD") {
        eprintln!("skipped: nc is not that of OpenBSD");
        return;
    }
    let port = free_port();
    let _there = Script::start("sh", &format!("nc -l 127.0.0.1 {port} | sleep 60; true"));
    let is_listening = || {
        let sockets = SockDiag::open().unwrap().tcp().unwrap();
        sockets.iter().any(|socket| match socket.family {
            Family::Tcp { local, .. } => socket.listens && local.port() == port,
            Family::Unix { .. } => false,
        })
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_listening() {
        assert!(Instant::now() < deadline, "nobody listens");
        std::thread::sleep(Duration::from_millis(5));
    }
    let here = Script::start("sh", &format!("yes | nc 127.0.0.1 {port}; true"));
    let yes = here.pids("yes", 1)[0];
    let found = linked_from_each(yes, &["nc>nc", "nc>sleep", "yes>nc"]);
    assert_eq!(names(&found), ["yes", "nc", "nc", "sleep"]);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
