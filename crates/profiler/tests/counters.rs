//! Counters on real processes that do a known amount of what is counted.
//!
//! The work is done by this very test binary, started again as `workload` with a gate on its stdin.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/wait.rs"]
mod wait;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use pipeprof_profiler::counters::{
    CounterSet, CounterValue, ExitUsage, KnownEvent, MemberCounters, Target,
};
use pipeprof_profiler::environment::Environment;
use wait::until;

const WORK: &str = "PIPEPROF_TEST_WORK";

/// Not a test of its own: what the other tests start.
#[test]
fn workload() {
    let Ok(work) = std::env::var(WORK) else { return };
    let gate = || {
        let mut byte = [0];
        std::io::stdin().read_exact(&mut byte).expect("the gate closed");
    };
    let (kind, amount) = work.split_once(' ').expect("kind and amount");
    let amount: u64 = amount.parse().expect("a number");
    gate();
    match kind {
        "fault" => touch_pages(amount),
        "sleep" => sleep_often(amount),
        "spin" => spin(Duration::from_millis(amount)),
        "thread-fault" => {
            let thread = std::thread::spawn(move || touch_pages(amount));
            thread.join().expect("the thread");
        }
        "thread-sleep" => {
            let thread = std::thread::spawn(move || sleep_often(amount));
            thread.join().expect("the thread");
        }
        "read" => read_zeros(amount),
        other => panic!("unknown work {other}"),
    }
    println!("done");
    // Wait to be let go, so that the counts can be read of a process that still is.
    gate();
}

fn touch_pages(pages: u64) {
    let page = page_size();
    let mut memory = memmap2::MmapMut::map_anon(pages as usize * page).expect("memory");
    memory.advise(memmap2::Advice::NoHugePage).expect("small pages");
    for byte in memory.iter_mut().step_by(page) {
        *byte = 1;
    }
}

fn sleep_often(times: u64) {
    for _ in 0..times {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Uses up CPU time, however long that takes.
fn spin(time: Duration) {
    use nix::time::{ClockId, clock_gettime};
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let start = used().expect("the time");
    while used().expect("the time") - start < time {
        std::hint::spin_loop();
    }
}

/// Kernel time: zeros are made by copying in the kernel.
fn read_zeros(mebibytes: u64) {
    let mut zeros = File::open("/dev/zero").expect("/dev/zero");
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        zeros.read_exact(&mut buffer).expect("zeros");
    }
}

fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .expect("a page size")
}

struct Workload {
    child: Child,
    gate: ChildStdin,
}

impl Workload {
    fn start(work: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "workload", "--nocapture", "--test-threads=1"])
            .env(WORK, work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test again");
        let gate = child.stdin.take().expect("its stdin");
        let workload = Workload { child, gate };
        wait_until_asleep(workload.pid());
        workload
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn open_gate(&mut self) {
        self.gate.write_all(b"g").expect("the gate");
    }

    /// Waits for the work to be done, not for the process to end.
    fn wait_until_done(&mut self) {
        let stdout = self.child.stdout.as_mut().expect("its stdout");
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"done\n") {
            assert_eq!(stdout.read(&mut byte).expect("its words"), 1, "it ended early");
            text.push(byte[0]);
        }
    }

    fn let_go(mut self) {
        self.open_gate();
        assert!(self.child.wait().expect("its end").success());
    }
}

/// Room below a number of sleeps: a timer that is due before the thread has gone to sleep leaves it
/// awake, as on a guest whose host takes the CPU away at that moment.
fn nearly(sleeps: u64) -> u64 {
    sleeps - sleeps / 20
}

/// At the gate: in a blocking read, seen by its being asleep three times in a row.
fn wait_until_asleep(pid: i32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut asleep = 0;
    while asleep < 3 {
        assert!(Instant::now() < deadline, "process {pid} did not reach its gate");
        std::thread::sleep(Duration::from_millis(10));
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let all = tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        });
        asleep = if all { asleep + 1 } else { 0 };
    }
}

/// Its end, before it is reaped.
fn wait_until_zombie(pid: i32) {
    let status = format!("/proc/{pid}/status");
    until("it ends", || fs::read_to_string(&status).expect("not reaped").contains("State:\tZ"));
}

/// Attaches, lets the work be done, reads.
fn count(work: &str) -> MemberCounters {
    let mut workload = Workload::start(work);
    let mut counters = CounterSet::attach(&[Target::process(workload.pid())], &Environment::read())
        .expect("counters");
    counters.enable().expect("enabled");
    workload.open_gate();
    workload.wait_until_done();
    let read = counters.read().remove(0);
    workload.let_go();
    read
}

fn exact(counters: &MemberCounters, name: &str) -> u64 {
    let counter = counters.get(name).unwrap_or_else(|| panic!("no {name}"));
    counter.value.exact().unwrap_or_else(|| panic!("{name}: {:?}", counter.value))
}

/// Whether this process may count kernel events; where it may not, the exact tests say so.
fn kernel_allowed() -> bool {
    let allowed = Environment::read().rights().kernel.is_granted();
    if !allowed {
        eprintln!("skipped: kernel.perf_event_paranoid forbids counting kernel events");
    }
    allowed
}

#[test]
fn every_touched_page_is_a_minor_fault() {
    if !kernel_allowed() {
        return;
    }
    for work in ["fault 20000", "thread-fault 20000"] {
        let faults = exact(&count(work), "minor-faults");
        assert!((20_000..20_500).contains(&faults), "{work}: {faults}");
    }
}

#[test]
fn every_sleep_is_a_voluntary_switch() {
    if !kernel_allowed() {
        return;
    }
    let counters = count("sleep 2000");
    let voluntary = exact(&counters, "voluntary-switches");
    assert!((nearly(2_000)..2_050).contains(&voluntary), "{voluntary}");
    let both = voluntary + exact(&counters, "involuntary-switches");
    let total = exact(&counters, "context-switches");
    assert!(both.abs_diff(total) <= 8, "{both} of {total}");
}

#[test]
fn counts_outlive_the_process() {
    if !kernel_allowed() {
        return;
    }
    let mut workload = Workload::start("fault 5000");
    let pid = workload.pid();
    let mut counters =
        CounterSet::attach(&[Target::process(pid)], &Environment::read()).expect("counters");
    counters.enable().expect("enabled");
    workload.open_gate();
    workload.wait_until_done();
    workload.open_gate();
    wait_until_zombie(pid);
    let zombie = counters.read().remove(0);
    assert!(exact(&zombie, "minor-faults") >= 5_000);
    assert!(workload.child.wait().expect("its end").success());
    let reaped = counters.read().remove(0);
    assert_eq!(exact(&reaped, "minor-faults"), exact(&zombie, "minor-faults"));
    assert_eq!(exact(&reaped, "task-clock"), exact(&zombie, "task-clock"));
    let lost = reaped.get("voluntary-switches").map(|c| &c.value);
    assert!(matches!(lost, Some(CounterValue::NotCounted { .. })), "{lost:?}");
}

/// Runs a test of this binary in a process of its own, and returns whether this is that process.
fn alone(test: &str, prepare: impl FnOnce(&mut Command)) -> bool {
    const ALONE: &str = "PIPEPROF_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    // A copy where any user can reach it. By cp, because a file that another test's child inherits
    // open for writing can't be executed.
    let directory = tempfile::tempdir().expect("a directory");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), readable).expect("permissions");
    let copy = directory.path().join("counters-test");
    let original = std::env::current_exe().expect("this test");
    let copied = Command::new("cp").arg(original).arg(&copy).status().expect("cp");
    assert!(copied.success());
    let mut command = Command::new(copy);
    command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").current_dir("/");
    prepare(&mut command);
    let output = command.output().expect("this test again");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    eprint!("{words}");
    false
}

#[test]
fn the_account_of_the_reaped_has_threads_that_ended() {
    // Alone, because the account is that of all reaped children together.
    if !kernel_allowed() || !alone("the_account_of_the_reaped_has_threads_that_ended", |_| ()) {
        return;
    }
    let mut workload = Workload::start("thread-sleep 1000");
    let pid = workload.pid();
    let before = children_usage();
    let mut counters =
        CounterSet::attach(&[Target::process(pid)], &Environment::read()).expect("counters");
    counters.enable().expect("enabled");
    workload.open_gate();
    workload.wait_until_done();
    // The thread is gone and left no trace in /proc.
    let running = counters.read().remove(0);
    assert!(exact(&running, "context-switches") >= nearly(1_000), "{running:?}");
    let voluntary = running.get("voluntary-switches").expect("the row");
    assert!(matches!(voluntary.value, CounterValue::NotCounted { .. }), "{voluntary:?}");
    workload.let_go();
    let after = children_usage();
    let usage = less(after, before);
    counters.note_exit(pid, usage);
    let voluntary = exact(&counters.read().remove(0), "voluntary-switches");
    assert!((nearly(1_000)..1_050).contains(&voluntary), "{voluntary}");
}

/// The account of all reaped children of this process.
fn children_usage() -> ExitUsage {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let number = |n: i64| u64::try_from(n).expect("a count");
    let micros =
        |time: nix::sys::time::TimeVal| number(time.tv_sec()) * 1_000_000 + number(time.tv_usec());
    ExitUsage {
        cpu_ns: (micros(usage.user_time()) + micros(usage.system_time())) * 1_000,
        voluntary_switches: number(usage.voluntary_context_switches()),
        involuntary_switches: number(usage.involuntary_context_switches()),
        minor_faults: number(usage.minor_page_faults()),
        major_faults: number(usage.major_page_faults()),
    }
}

fn less(later: ExitUsage, earlier: ExitUsage) -> ExitUsage {
    ExitUsage {
        cpu_ns: later.cpu_ns - earlier.cpu_ns,
        voluntary_switches: later.voluntary_switches - earlier.voluntary_switches,
        involuntary_switches: later.involuntary_switches - earlier.involuntary_switches,
        minor_faults: later.minor_faults - earlier.minor_faults,
        major_faults: later.major_faults - earlier.major_faults,
    }
}

/// Two processes of one thread each, joined by a pipe, are counted without a single software event:
/// as zombies as perf counts them, and after they were reaped as wait4() does.
fn first_allowed_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("our status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.expect("the list").trim();
    list.split([',', '-']).next().unwrap_or(list).to_owned()
}

#[test]
fn a_pair_is_counted_from_accounts() {
    if !alone("a_pair_is_counted_from_accounts", |_| ()) {
        return;
    }
    let before = children_usage();
    let (from_writer, to_reader) = std::io::pipe().expect("a pipe");
    let shell = |command: &str, stdin: Stdio, stdout: Stdio| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).stdin(stdin).stdout(stdout).spawn().expect("a shell")
    };
    // Each becomes dd, under the same pid, on one CPU: the scheduler counts each move of a thread,
    // perf whether there was one between two runs (set_task_cpu in kernel/sched/core.c,
    // perf_event_task_sched_in in include/linux/perf_event.h, v6.18).
    let on_one_cpu = format!("exec taskset -c {} dd status=none", first_allowed_cpu());
    let mut writer = shell(
        &format!("read go; {on_one_cpu} if=/dev/zero bs=32k count=4000"),
        Stdio::piped(),
        to_reader.into(),
    );
    let mut reader =
        shell(&format!("{on_one_cpu} of=/dev/null bs=16k"), from_writer.into(), Stdio::null());
    let pids = [writer.id() as i32, reader.id() as i32];
    pids.into_iter().for_each(wait_until_asleep);
    let targets = pids.map(Target::alone);
    let attach = || {
        let mut set = CounterSet::attach(&targets, &Environment::read()).expect("counters");
        set.enable().expect("enabled");
        set
    };
    let directory = tempfile::tempdir().expect("a directory");
    let perf = Perf::attach(directory.path(), &pids);
    let (mut in_time, mut too_late) = (attach(), attach());
    let mut gate = writer.stdin.take().expect("its stdin");
    gate.write_all(b"go\n").expect("the gate");
    pids.into_iter().for_each(wait_until_zombie);
    in_time.disable().expect("disabled");
    let in_time = in_time.read();

    let mut reaped = [before; 2];
    for (child, usage) in [&mut writer, &mut reader].into_iter().zip(&mut reaped) {
        let before = children_usage();
        assert!(child.wait().expect("its end").success());
        *usage = less(children_usage(), before);
    }
    let lost = too_late.read().remove(0);
    assert!(lost.counters.iter().all(|counter| counter.value.exact().is_none()), "{lost:?}");
    for (pid, usage) in pids.into_iter().zip(reaped) {
        too_late.note_exit(pid, usage);
    }
    for (zombie, reaped) in in_time.iter().zip(&too_late.read()) {
        let clocks = [zombie, reaped].map(|counters| exact(counters, "task-clock"));
        assert!(clocks[0].abs_diff(clocks[1]) <= 2_000, "{clocks:?}");
        for name in ["context-switches", "voluntary-switches", "minor-faults", "major-faults"] {
            assert_eq!(exact(zombie, name), exact(reaped, name), "{name}");
        }
        // wait4() knows nothing of them, which is no 0.
        let migrations = reaped.get("cpu-migrations").expect("the row");
        assert!(matches!(migrations.value, CounterValue::NotCounted { .. }), "{migrations:?}");
    }
    let switches: u64 = in_time.iter().map(|counters| exact(counters, "context-switches")).sum();
    assert!(switches >= 100, "{switches}");

    let Some(perf) = perf else { return };
    let theirs = perf.finish();
    let sum = |name: &str| in_time.iter().map(|counters| exact(counters, name)).sum::<u64>();
    agree("pair", &theirs, sum);
}

#[test]
fn hardware_that_is_not_there_is_said_and_not_zero() {
    let counters = count("spin 20");
    for event in KnownEvent::COUNTED {
        let counter = counters.get(event.name()).expect("a row for each event");
        if let CounterValue::NotSupported { reason, .. } = &counter.value {
            assert!(event.is_hardware() || !kernel_allowed(), "{event:?}: {reason}");
            assert!(!reason.is_empty());
        } else if event == KnownEvent::Cycles {
            assert!(counter.value.number() > Some(1_000_000), "{counter:?}");
        }
    }
    assert!(exact(&counters, "task-clock") >= 15_000_000);
}

/// Without kernel rights the kernel opens `context-switches` for user code, and then counts none:
/// a 0 that perf prints. Nor may clocks be called user-only: they count kernel time regardless.
#[test]
fn an_ordinary_user_gets_no_false_zero() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() && std::env::var_os("PIPEPROF_TEST_ALONE").is_none() {
        eprintln!("skipped: needs root to become an ordinary user");
        return;
    }
    let as_nobody = |command: &mut Command| {
        command.uid(65_534).gid(65_534);
    };
    if !alone("an_ordinary_user_gets_no_false_zero", as_nobody) {
        return;
    }
    let env = Environment::read();
    let rights = env.rights();
    if rights.kernel.is_granted() {
        eprintln!("skipped: kernel.perf_event_paranoid lets everybody count kernel events");
        return;
    }
    let counters = count("sleep 200");
    let total = counters.get("context-switches").expect("the row");
    let CounterValue::NotSupported { reason, hint } = &total.value else {
        panic!("{total:?}");
    };
    assert!(reason.contains("kernel.perf_event_paranoid"), "{reason}");
    assert!(hint.as_deref().is_some_and(|hint| hint.contains("sysctl")), "{hint:?}");
    assert!(exact(&counters, "voluntary-switches") >= nearly(200), "{counters:?}");

    let faults = count("fault 3000");
    let minor = faults.get("minor-faults").expect("the row");
    assert!(minor.user_only);
    assert!(minor.value.exact() >= Some(3_000), "{minor:?}");

    let kernel_work = count("read 2000");
    let clock = kernel_work.get("task-clock").expect("the row");
    assert!(!clock.user_only);
    assert!(clock.value.exact() >= Some(20_000_000), "{clock:?}");
}

/// `perf stat` on the same processes.
struct Perf {
    child: Child,
}

impl Perf {
    /// Comes back when perf counts; `None` where there is no perf to be had.
    fn attach(directory: &Path, pids: &[i32]) -> Option<Self> {
        if !kernel_allowed() {
            return None;
        }
        if Command::new("perf").arg("version").output().is_err() {
            eprintln!("skipped: perf is not installed");
            return None;
        }
        let fifo = |name: &str| {
            let path = directory.join(name);
            let _ = fs::remove_file(&path);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
            path
        };
        let (control, answer) = (fifo("control"), fifo("answer"));
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        let child = Command::new("perf")
            .args(["stat", "-x;", "-D-1", "-e"])
            .arg("task-clock,context-switches,cpu-migrations,minor-faults,major-faults")
            .arg(format!("--control=fifo:{},{}", control.display(), answer.display()))
            .arg(format!("--pid={}", pids.join(",")))
            .env("LC_ALL", "C")
            .stderr(Stdio::piped())
            .spawn()
            .expect("perf");
        let mut command = fs::OpenOptions::new().write(true).open(&control).expect("control");
        command.write_all(b"enable\n").expect("control");
        let mut acknowledged = [0; 4];
        let mut answers = File::open(&answer).expect("answer");
        answers.read_exact(&mut acknowledged).expect("answer");
        assert_eq!(&acknowledged, b"ack\n");
        Some(Perf { child })
    }

    /// What it printed at the processes' end.
    fn finish(self) -> String {
        let output = self.child.wait_with_output().expect("perf's end");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn agree(work: &str, theirs: &str, ours: impl Fn(&str) -> u64) {
    for name in ["context-switches", "cpu-migrations", "minor-faults", "major-faults"] {
        let (ours, theirs) = (ours(name), perf_value(theirs, name) as u64);
        let slack = 6 + theirs / 100;
        assert!(ours.abs_diff(theirs) <= slack, "{work}: {name} {ours}, perf {theirs}");
    }
    // perf's event leaves out most of each switch and takes in what a hypervisor stole; the accounts
    // do the opposite. On a loaded guest that is a good part of a pair's time.
    let (ours, theirs) = (ours("task-clock") as f64 / 1e6, perf_value(theirs, "task-clock"));
    let bounds = theirs * 0.6..theirs * 1.6;
    assert!(bounds.contains(&ours), "{work}: task-clock {ours} ms, perf {theirs}");
}

/// perf and pipeprof count one and the same run.
#[test]
fn perf_stat_agrees() {
    let directory = tempfile::tempdir().expect("a directory");
    for work in ["sleep 1000", "fault 10000", "thread-fault 10000", "spin 200", "read 1000"] {
        let mut workload = Workload::start(work);
        let pid = workload.pid();
        let Some(perf) = Perf::attach(directory.path(), &[pid]) else { return };
        let mut ours =
            CounterSet::attach(&[Target::process(pid)], &Environment::read()).expect("counters");
        ours.enable().expect("enabled");
        workload.open_gate();
        workload.wait_until_done();
        workload.let_go();
        let ours = ours.read().remove(0);
        agree(work, &perf.finish(), |name| exact(&ours, name));
    }
}

/// A value of `perf stat -x;`: `value;unit;event;…`.
fn perf_value(text: &str, event: &str) -> f64 {
    let line = text.lines().find(|line| line.split(';').nth(2) == Some(event));
    let value = line.and_then(|line| line.split(';').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("perf gave no {event}: {text}"))
}
