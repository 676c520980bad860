//! The looks themselves: every thread of some processes, and of those that they start.

use pipeprof_runner::proc_file;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use pipeprof_runner::cgroup::place_of;
use pipeprof_runner::pipeline::Pipeline;
use pipeprof_runner::stat_line::StatLine;
use rustc_hash::{FxHashMap, FxHashSet};

use super::call::Call;
use super::connections::{Connection, Connections};
use super::descriptors::{Descriptors, Interest, Target, polled, selected};
use super::pressure;
use super::quota::Quotas;
use super::timeline::{
    Account, Builder, PipeRef, Pressure, ProcessRef, ProcessSeen, ProcessState, Timeline, Why,
};

/// Threads, children, names and descriptors are looked up again this often.
const REFRESH_NS: u64 = 100_000_000;

/// And no more often than this, as it costs as much as ten looks.
const LOOKS_A_REFRESH: u32 = 16;

/// A new process soon starts threads and children, or another program.
const FIRST_REFRESH_NS: u64 = 4_000_000;

/// Of a process with more threads than this, those that keep waiting are looked at by turns.
const FEW_THREADS: usize = 16;

/// Looks that found a thread in the same wait before it is looked at by turns, and how many turns
/// there are.
const TURNS: u32 = 16;

/// The control group of a process is looked up at every so many refreshes, once it is settled.
const REFRESHES_A_GROUP: u32 = 8;

/// Refusals in a row after which the system call is not asked for again.
const MOST_DENIED: u32 = 8;

/// Looks at processes and remembers what it saw.
#[derive(Debug)]
pub struct Looker {
    builder: Builder,
    processes: FxHashMap<i32, Process>,
    quotas: Quotas,
    connections: Connections,
    pressed: Option<Pressure>,
    /// Idle time of the machine when looking began.
    idle_ticks: Option<u64>,
    /// When looking began, as processes tell their start. Nothing is known of what is 0.
    began_ticks: u64,
    began_ns: u64,
    looks: u32,
    found: Vec<(ProcessRef, ProcessState)>,
}

#[derive(Debug)]
struct Process {
    pid: i32,
    parent: i32,
    id: ProcessRef,
    threads: FxHashMap<i32, Thread>,
    descriptors: Descriptors,
    refreshed_ns: u64,
    refresh_after_ns: u64,
    /// Looks since it was refreshed.
    looks: u32,
    refreshes: u32,
    /// What its control group had been throttled when it was first looked at.
    throttled_before_ns: Option<u64>,
    is_stopped: bool,
    waits_for_child: bool,
}

#[derive(Debug)]
struct Thread {
    syscall: Option<File>,
    wchan: Option<File>,
    schedstat: Option<File>,
    account: Option<Account>,
    cpu_ns: u64,
    doing: Doing,
    /// Times in a row that the system call was not told.
    denied: u32,
    /// Looks in a row that found it in the same wait.
    same: u32,
}

/// What a thread was found doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Doing {
    #[default]
    Running,
    Waiting(Vec<Wait>),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Data(PipeRef),
    Space(PipeRef),
    For(Why),
}

impl Wait {
    fn at(pipe: PipeRef, for_space: bool) -> Wait {
        if for_space { Wait::Space(pipe) } else { Wait::Data(pipe) }
    }
}

impl Looker {
    /// Nothing is looked at yet. With `keep`, only about the last so much of the time is remembered.
    pub fn new(now_ns: u64, keep: Option<Duration>) -> Self {
        let keep_ns = keep.map(|keep| 2 * keep.as_nanos() as u64);
        Looker {
            builder: Builder::new(now_ns, keep_ns),
            processes: FxHashMap::default(),
            quotas: Quotas::read(),
            connections: Connections::default(),
            pressed: pressure::read(),
            idle_ticks: pressure::idle_ticks(),
            began_ticks: ticks_since_boot(),
            began_ns: now_ns,
            looks: 0,
            found: Vec::new(),
        }
    }

    /// These processes are looked at from now on, too, with all that they start.
    pub fn follow(&mut self, pids: &[i32]) {
        let now_ns = crate::accounts::now_ns();
        for &pid in pids {
            self.add(pid, now_ns);
        }
    }

    /// Waits at the sockets that are links of this pipeline are told as waits at those links.
    pub fn connect(&mut self, pipeline: &Pipeline) {
        self.builder.connect(pipeline);
    }

    /// How many threads there were at the last look.
    pub fn threads(&self) -> usize {
        self.processes.values().map(|process| process.threads.len()).sum()
    }

    /// What was found so far.
    pub fn so_far(&self) -> &Timeline {
        self.builder.so_far()
    }

    /// What was found since the last time, and looks on from here.
    pub fn take(&mut self, now_ns: u64) -> Timeline {
        self.charge();
        self.builder.take(now_ns)
    }

    /// What was found.
    pub fn finish(mut self, now_ns: u64) -> Timeline {
        self.charge();
        self.look_at_connections(now_ns);
        for process in self.processes.values_mut() {
            process.throttled(&mut self.quotas, &mut self.builder);
        }
        if let (Some(earlier), Some(now)) = (self.pressed, pressure::read()) {
            self.builder.pressed(pressure::since(earlier, now));
        }
        if let (Some(earlier), Some(now)) = (self.idle_ticks, pressure::idle_ticks()) {
            let ticks = now.saturating_sub(earlier) as f64;
            let elapsed = now_ns.saturating_sub(self.began_ns).max(1) as f64 / 1e9;
            self.builder.idled(ticks / ticks_a_second().max(1) as f64 / elapsed);
        }
        self.builder.finish(now_ns)
    }

    /// Looks at every thread once.
    pub fn look(&mut self, now_ns: u64) {
        self.looks = self.looks.wrapping_add(1);
        // First of all: who would run on the CPU that this takes is found runnable soon.
        self.found.clear();
        let (builder, looks) = (&mut self.builder, self.looks);
        self.processes.retain(|_, process| {
            let state = process.look(looks, builder);
            self.found.extend(state.map(|state| (process.id, state)));
            !process.threads.is_empty()
        });
        self.look_for_new_children();
        self.found.sort_unstable_by_key(|(process, _)| *process);
        self.builder.look(now_ns, &self.found);
        if self.connections.is_due(now_ns) {
            self.look_at_connections(now_ns);
        }
        if self.looks.is_multiple_of(4) {
            self.charge();
        }
        self.refresh(now_ns);
    }

    /// Looks up again what changes seldom, for the looks to come.
    fn refresh(&mut self, now_ns: u64) {
        let mut children = Vec::new();
        for process in self.processes.values_mut() {
            process.looks += 1;
            if now_ns.saturating_sub(process.refreshed_ns) >= process.refresh_after_ns
                && (process.looks >= LOOKS_A_REFRESH || process.is_young())
            {
                process.refresh(now_ns, &mut self.builder, &mut children);
                let is_due = process.throttled_before_ns.is_some()
                    || process.refreshes.is_multiple_of(REFRESHES_A_GROUP);
                if is_due || process.is_young() {
                    process.throttled(&mut self.quotas, &mut self.builder);
                }
            }
        }
        for pid in children {
            self.add(pid, now_ns);
        }
    }

    /// Reads what TCP says of the connections at which somebody waited.
    fn look_at_connections(&mut self, now_ns: u64) {
        let sockets: FxHashSet<u64> = self
            .processes
            .values()
            .flat_map(|process| process.descriptors.sockets())
            .copied()
            .collect();
        let found = self.connections.look(&sockets, now_ns);
        for process in self.processes.values() {
            for socket in process.descriptors.sockets() {
                let Some(connection) = found.get(socket) else { continue };
                let known = &mut self.builder.process_mut(process.id).connections;
                let ends = |of: &Connection| (of.local, of.remote);
                match known.iter_mut().find(|known| ends(known) == ends(connection)) {
                    Some(known) => known.clone_from(connection),
                    None => known.push(connection.clone()),
                }
            }
        }
    }

    /// Who waits for a child of whom nobody is known has started one since: it may be short-lived.
    fn look_for_new_children(&mut self) {
        let waiting = |process: &&mut Process| process.waits_for_child;
        if !self.processes.values().any(|process| process.waits_for_child) {
            return;
        }
        let parents: FxHashSet<i32> =
            self.processes.values().map(|process| process.parent).collect();
        for process in self.processes.values_mut().filter(waiting) {
            if !parents.contains(&process.pid) {
                process.refresh_after_ns = process.refresh_after_ns.min(2 * FIRST_REFRESH_NS);
            }
        }
    }

    fn add(&mut self, pid: i32, now_ns: u64) {
        if self.processes.contains_key(&pid) {
            return;
        }
        let Some(stat) = Stat::read(pid) else { return };
        if matches!(stat.state, 'Z' | 'X') {
            return;
        }
        let id = self.builder.process(ProcessSeen {
            pid,
            start_time_ticks: Some(stat.start_time_ticks),
            parent: stat.parent,
            comm: stat.comm,
            first_ns: now_ns,
            last_ns: now_ns,
            cpus_allowed: cpus_allowed(pid),
            container: place_of(pid).container,
            ..ProcessSeen::default()
        });
        let mut process = Process {
            pid,
            parent: stat.parent,
            id,
            threads: FxHashMap::default(),
            descriptors: Descriptors::default(),
            refreshed_ns: now_ns,
            looks: 0,
            refreshes: 0,
            throttled_before_ns: None,
            refresh_after_ns: FIRST_REFRESH_NS,
            is_stopped: false,
            waits_for_child: false,
        };
        // What it used before anybody looked is not of this time, unless it began since.
        let born_watched = self.began_ticks > 0 && stat.start_time_ticks > self.began_ticks;
        process.find_threads(born_watched);
        process.throttled(&mut self.quotas, &mut self.builder);
        self.processes.insert(pid, process);
    }

    /// Reads the accounts of all threads.
    fn charge(&mut self) {
        for process in self.processes.values_mut() {
            let mut sum = Account::default();
            let seen = self.builder.process_mut(process.id);
            for (&tid, thread) in &mut process.threads {
                let Some(grown) = thread.charge() else { continue };
                sum.cpu_ns += grown.cpu_ns;
                sum.run_delay_ns += grown.run_delay_ns;
                if thread.cpu_ns > seen.busiest_thread_ns {
                    seen.busiest_thread_ns = thread.cpu_ns;
                    let name =
                        proc_file::read_to_string(format!("/proc/{}/task/{tid}/comm", process.pid));
                    let name = name.map(|name| name.trim_end().to_owned()).unwrap_or_default();
                    seen.busiest_thread = (name != seen.comm && !name.is_empty()).then_some(name);
                }
            }
            seen.second_thread_ns = seen.second_thread_ns.max(process.second_thread_ns());
            if sum != Account::default() {
                self.builder.charge(process.id, sum);
            }
        }
    }
}

impl Process {
    fn find_threads(&mut self, born_watched: bool) {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return };
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            self.threads.entry(tid).or_insert_with(|| {
                let open = |name| File::open(task.path().join(name)).ok();
                let mut thread = Thread {
                    syscall: open("syscall"),
                    wchan: None,
                    schedstat: open("schedstat"),
                    account: born_watched.then(Account::default),
                    cpu_ns: 0,
                    doing: Doing::Running,
                    denied: 0,
                    same: 0,
                };
                if !born_watched {
                    thread.charge();
                }
                thread
            });
        }
    }

    fn refresh(&mut self, now_ns: u64, builder: &mut Builder, children: &mut Vec<i32>) {
        (self.refreshed_ns, self.looks) = (now_ns, 0);
        self.refreshes = self.refreshes.wrapping_add(1);
        self.refresh_after_ns = (2 * self.refresh_after_ns).min(REFRESH_NS);
        self.descriptors.forget();
        // Threads that it did not have before.
        self.find_threads(true);
        let seen = builder.process_mut(self.id);
        seen.threads = seen.threads.max(self.threads.len() as u32);
        if self.is_young() {
            seen.cpus_allowed = cpus_allowed(self.pid);
            // Whoever starts a container moves its first process there.
            seen.container = place_of(self.pid).container.or(seen.container.take());
        }
        if let Some(stat) = Stat::read(self.pid) {
            self.is_stopped = matches!(stat.state, 'T' | 't');
            seen.comm = stat.comm;
            seen.parent = stat.parent;
        }
        for tid in self.threads.keys() {
            // Where the kernel was built without CONFIG_PROC_CHILDREN, discovery finds them later.
            let path = format!("/proc/{}/task/{tid}/children", self.pid);
            let Ok(text) = proc_file::read_to_string(path) else { continue };
            children
                .extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }

    /// It may still start threads or move to another control group.
    fn is_young(&self) -> bool {
        self.refresh_after_ns < REFRESH_NS
    }

    /// CPU time of the thread that used most but one.
    fn second_thread_ns(&self) -> u64 {
        let (mut first, mut second) = (0, 0);
        for thread in self.threads.values() {
            if thread.cpu_ns > first {
                (first, second) = (thread.cpu_ns, first);
            } else {
                second = second.max(thread.cpu_ns);
            }
        }
        second
    }

    /// Notes what the quota of its control group did since it was first looked at.
    fn throttled(&mut self, quotas: &mut Quotas, builder: &mut Builder) {
        let Some(now) = quotas.of(self.pid) else { return };
        let before = *self.throttled_before_ns.get_or_insert(now.throttled_ns);
        let seen = builder.process_mut(self.id);
        seen.quota_cpus = Some(now.cpus);
        // Of another group, the count may be smaller.
        seen.throttled_ns = seen.throttled_ns.max(now.throttled_ns.saturating_sub(before));
    }

    /// What the process does; `None` once it has ended.
    fn look(&mut self, looks: u32, builder: &mut Builder) -> Option<ProcessState> {
        let many = self.threads.len() > FEW_THREADS;
        let (pid, descriptors) = (self.pid, &mut self.descriptors);
        let mut state = ProcessState::default();
        self.threads.retain(|&tid, thread| {
            let rests = many && thread.same >= TURNS && looks % TURNS != tid as u32 % TURNS;
            if !rests {
                thread.look(pid, tid, descriptors, builder);
            }
            match &thread.doing {
                Doing::Running => state.runs(),
                Doing::Waiting(waits) => {
                    for wait in waits {
                        match *wait {
                            Wait::Data(pipe) => state.waits_at(pipe, false),
                            Wait::Space(pipe) => state.waits_at(pipe, true),
                            Wait::For(why) => state.waits(why),
                        }
                    }
                }
                Doing::Ended => {}
            }
            thread.doing != Doing::Ended
        });
        if self.threads.is_empty() {
            return None;
        }
        let waits_for_child = state.why == Some(Why::Child);
        if waits_for_child && !self.waits_for_child {
            // A new child, which may not live until the next refresh.
            self.refresh_after_ns = FIRST_REFRESH_NS;
        }
        self.waits_for_child = waits_for_child;
        if self.is_stopped {
            return Some(ProcessState { why: Some(Why::Stopped), ..ProcessState::default() });
        }
        Some(state)
    }
}

impl Thread {
    fn look(&mut self, pid: i32, tid: i32, descriptors: &mut Descriptors, builder: &mut Builder) {
        let doing = match self.call(pid, tid) {
            None => Doing::Ended,
            Some(None) => {
                let doing = asleep_somewhere(pid, tid);
                if matches!(doing, Doing::Waiting(_)) {
                    builder.was_blind();
                }
                doing
            }
            Some(Some(Call::Running)) => Doing::Running,
            Some(Some(call)) => {
                let mut waits = waits(pid, call, descriptors, builder);
                if matches!(call, Call::Write(_) | Call::Move { .. } | Call::Fault) {
                    self.tell_writeback(pid, tid, &mut waits);
                }
                Doing::Waiting(waits)
            }
        };
        self.same = if doing != Doing::Running && doing == self.doing { self.same + 1 } else { 0 };
        self.doing = doing;
    }

    /// Who writes to a file is held back once too many of the machine's pages are dirty
    /// (`balance_dirty_pages` in mm/page-writeback.c, v6.18).
    fn tell_writeback(&mut self, pid: i32, tid: i32, waits: &mut [Wait]) {
        let is_meant = |wait: &Wait| matches!(wait, Wait::For(Why::Disk | Why::Memory));
        let Some(wait) = waits.iter_mut().find(|wait| is_meant(wait)) else { return };
        let mut buffer = [0u8; 256];
        if self.wchan_now(pid, tid, &mut buffer).is_some_and(Call::is_writeback) {
            *wait = Wait::For(Why::Writeback);
        }
    }

    fn wchan_now<'b>(&mut self, pid: i32, tid: i32, buffer: &'b mut [u8]) -> Option<&'b str> {
        if self.wchan.is_none() {
            self.wchan = File::open(format!("/proc/{pid}/task/{tid}/wchan")).ok();
        }
        read_at_start(self.wchan.as_ref()?, buffer).ok()
    }

    /// The call that the thread is in: `None` once it has ended, `Some(None)` where the kernel
    /// doesn't tell this user.
    fn call(&mut self, pid: i32, tid: i32) -> Option<Option<Call>> {
        let mut buffer = [0u8; 256];
        if let Some(file) = &self.syscall {
            match read_at_start(file, &mut buffer) {
                // Zeros for a stack pointer: it has none any more (`collect_syscall` in
                // lib/syscall.c, v6.18).
                Ok("-1 0x0 0x0\n") => return None,
                Ok(text) => {
                    self.denied = 0;
                    return Some(Call::parse(text));
                }
                // Also for a moment in the middle of an exec.
                Err(ErrorKind::PermissionDenied) => {
                    self.denied += 1;
                    if self.denied >= MOST_DENIED {
                        self.syscall = None;
                    }
                }
                Err(_) if !is_there(pid, tid) => return None,
                Err(_) => {}
            }
        }
        match self.wchan_now(pid, tid, &mut buffer) {
            // Running, or not for this user's eyes.
            Some("0") => Some(None),
            Some(function) => Some(Some(Call::of_wchan(function.trim_end()))),
            None => is_there(pid, tid).then_some(None),
        }
    }

    /// What was charged since the last time; `None` where nothing was.
    fn charge(&mut self) -> Option<Account> {
        let mut buffer = [0u8; 96];
        let text = read_at_start(self.schedstat.as_ref()?, &mut buffer).ok()?;
        let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
        let now = Account { cpu_ns: words.next()??, run_delay_ns: words.next()?? };
        let before = self.account.replace(now)?;
        let grown = Account {
            cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
            run_delay_ns: now.run_delay_ns.saturating_sub(before.run_delay_ns),
        };
        self.cpu_ns += grown.cpu_ns;
        Some(grown)
    }
}

fn ticks_since_boot() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    now.as_millis() as u64 * ticks_a_second() / 1_000
}

fn ticks_a_second() -> u64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(0).max(0) as u64
}

/// CPUs that a thread may run on.
fn cpus_allowed(tid: i32) -> Option<u32> {
    let set = sched_getaffinity(Pid::from_raw(tid)).ok()?;
    let is_in = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    u32::try_from((0..CpuSet::count()).filter(is_in).count()).ok()
}

fn read_at_start<'b>(file: &File, buffer: &'b mut [u8]) -> Result<&'b str, ErrorKind> {
    let length = file.read_at(buffer, 0).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ErrorKind::PermissionDenied,
        _ => error.kind(),
    })?;
    std::str::from_utf8(&buffer[..length]).map_err(|_| ErrorKind::InvalidData)
}

fn is_there(pid: i32, tid: i32) -> bool {
    fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}

/// By the letter in `/proc/TID/stat`, which everyone may read.
fn asleep_somewhere(pid: i32, tid: i32) -> Doing {
    let line = proc_file::read(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    match StatLine::parse(&line).and_then(|stat| stat.state()) {
        None | Some('Z' | 'X') => Doing::Ended,
        Some('R') => Doing::Running,
        Some('D') => Doing::Waiting(vec![Wait::For(Why::Disk)]),
        Some(_) => Doing::Waiting(vec![Wait::For(Why::Unknown)]),
    }
}

fn waits(pid: i32, call: Call, descriptors: &mut Descriptors, builder: &mut Builder) -> Vec<Wait> {
    let mut one = |fd: i32, for_space: bool| {
        if fd < 0 {
            return vec![Wait::at(PipeRef::ANY, for_space)];
        }
        vec![wait_at(descriptors.target(pid, fd), for_space, builder)]
    };
    let why = match call {
        Call::Read(fd) | Call::Receive(fd) => return one(fd, false),
        Call::Write(fd) | Call::Send(fd) => return one(fd, true),
        Call::Move { from, to } => return moves(pid, from, to, descriptors, builder),
        Call::Poll { address: 0, .. } => Why::Poll,
        Call::Poll { address, count } => {
            return polls(pid, polled(pid, address, count), descriptors, builder);
        }
        Call::Select { count, readable, writable } => {
            return polls(pid, selected(pid, count, readable, writable), descriptors, builder);
        }
        Call::Epoll(fd) => {
            let interests = descriptors.epoll(pid, fd);
            return polls(pid, Ok(interests), descriptors, builder);
        }
        Call::Running | Call::Other => Why::Other,
        Call::Sleep => Why::Timer,
        Call::Futex => Why::Thread,
        Call::Child => Why::Child,
        Call::Signal => Why::Signal,
        Call::Socket => Why::Network,
        Call::FileLock => Why::FileLock,
        Call::Sync => Why::Disk,
        Call::Writeback => Why::Writeback,
        Call::Fault => Why::Memory,
        Call::Open => Why::Open,
    };
    vec![Wait::For(why)]
}

/// What a wait for data, or for space, of this target is.
fn wait_at(target: Target, for_space: bool, builder: &mut Builder) -> Wait {
    match target {
        Target::Pipe(pipe) => Wait::at(builder.pipe(pipe), for_space),
        Target::Socket(inode) => match builder.link(inode, for_space) {
            Some(link) => Wait::at(link, for_space),
            None => Wait::For(Why::Network),
        },
        Target::Else(why) => Wait::For(why),
    }
}

/// A splice waits at either of its ends. Where both are pipes, which of them only the function tells
/// that it sleeps in.
fn moves(
    pid: i32,
    from: i32,
    to: i32,
    descriptors: &mut Descriptors,
    builder: &mut Builder,
) -> Vec<Wait> {
    let from = wait_at(descriptors.target(pid, from), false, builder);
    let to = wait_at(descriptors.target(pid, to), true, builder);
    let wait = match (from, to) {
        (Wait::For(from), Wait::For(to)) => Wait::For(from.min(to)),
        (from, Wait::For(_)) => from,
        (Wait::For(_), to) => to,
        (from, to) => {
            let wchan = proc_file::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            match Call::of_wchan(&wchan) {
                Call::Write(_) => to,
                _ => from,
            }
        }
    };
    vec![wait]
}

fn polls(
    pid: i32,
    interests: std::io::Result<Vec<Interest>>,
    descriptors: &mut Descriptors,
    builder: &mut Builder,
) -> Vec<Wait> {
    let Ok(interests) = interests else { return vec![Wait::For(Why::Poll)] };
    if interests.is_empty() {
        // Nothing but the time can end it.
        return vec![Wait::For(Why::Timer)];
    }
    let mut waits = Vec::new();
    for Interest { fd, readable, writable } in interests {
        match descriptors.target(pid, fd) {
            // Through these it is woken by itself.
            Target::Else(Why::Thread | Why::Signal | Why::Other) => {
                waits.push(Wait::For(Why::Poll));
            }
            Target::Else(why) => waits.push(Wait::For(why)),
            Target::Socket(_) if !readable && !writable => waits.push(Wait::For(Why::Network)),
            target => {
                let asked = [(readable, false), (writable, true)].into_iter();
                let asked = asked.filter_map(|(is_asked, way)| is_asked.then_some(way));
                waits.extend(asked.map(|for_space| wait_at(target, for_space, builder)));
            }
        }
    }
    waits
}

/// Fields of `/proc/PID/stat`.
struct Stat {
    comm: String,
    state: char,
    parent: i32,
    start_time_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&proc_file::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &[u8]) -> Option<Stat> {
        let line = StatLine::parse(line)?;
        Some(Stat {
            comm: String::from_utf8_lossy(line.name).into_owned(),
            state: line.state()?,
            parent: line.parent()?,
            start_time_ticks: line.start_time_ticks()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use pipeprof_runner::pipeline::{Link, Pipe};

    use super::*;
    use crate::accounts::now_ns;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Looks at a process until it is found as wanted.
    fn looked_until(pid: i32, wanted: impl Fn(&Timeline, &ProcessState) -> bool) {
        let mut looker = Looker::new(now_ns(), None);
        looker.follow(&[pid]);
        let mut found = Vec::new();
        for _ in 0..2_000 {
            looker.look(now_ns());
            found = looker.found.iter().map(|(_, state)| state.clone()).collect();
            if looker.found.iter().any(|(_, state)| wanted(looker.so_far(), state)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("never: {found:?}");
    }

    fn piped(program: &str, arguments: &[&str]) -> Killed {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Killed(child.unwrap())
    }

    #[test]
    fn a_reader_of_an_empty_pipe_waits_for_its_data() {
        let cat = piped("cat", &[]);
        let pid = cat.0.id() as i32;
        let stdin = fs::metadata(format!("/proc/{pid}/fd/0")).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&stdin);
        looked_until(pid, |timeline, state| {
            state.data.first().is_some_and(|&pipe| timeline.pipes[pipe.0 as usize].inode == inode)
        });
    }

    #[test]
    fn a_wait_at_a_socket_is_one_at_the_link_that_it_is_an_end_of() {
        use std::os::fd::OwnedFd;
        use std::os::unix::net::UnixStream;

        let inode = |fd: &UnixStream| {
            let file = File::from(OwnedFd::from(fd.try_clone().unwrap()));
            std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (near, far) = (inode(&theirs), inode(&ours));
        let link = |inode: u64, sender: u64| Pipe {
            link: Link::Unix { sender },
            inode,
            device: 9,
            path: None,
            writers: Vec::new(),
            readers: Vec::new(),
            capacity_bytes: None,
        };
        let pipeline = |pipe| Pipeline { members: Vec::new(), pipes: vec![pipe] };
        let start = |program: &str| {
            let end = || OwnedFd::from(theirs.try_clone().unwrap());
            let child = Command::new(program).stdin(end()).stdout(end()).spawn();
            Killed(child.unwrap())
        };
        let looked = |child: &Killed, pipeline: &Pipeline, wanted: fn(&ProcessState) -> bool| {
            let mut looker = Looker::new(now_ns(), None);
            looker.follow(&[child.0.id() as i32]);
            looker.connect(pipeline);
            for _ in 0..2_000 {
                looker.look(now_ns());
                if looker.found.iter().any(|(_, state)| wanted(state)) {
                    return looker.so_far().pipes.clone();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            panic!("never: {:?}", looker.found);
        };
        let cat = start("cat");
        // What it reads is a link of the pipeline; or not, and then it waits for the network.
        let (reads, other) = (pipeline(link(near, far)), pipeline(link(far, near)));
        let at = looked(&cat, &reads, |state| state.data.len() == 1 && state.why.is_none());
        assert_eq!(at, [reads.pipes[0].key()]);
        looked(&cat, &other, |state| state.data.is_empty() && state.why == Some(Why::Network));
        drop(cat);
        let yes = start("yes");
        let at = looked(&yes, &other, |state| state.space.len() == 1);
        assert_eq!(at, [other.pipes[0].key()]);
    }

    #[test]
    fn a_writer_to_a_full_pipe_waits_for_space() {
        let yes = piped("yes", &[]);
        looked_until(yes.0.id() as i32, |_, state| state.space.len() == 1 && state.running == 0);
    }

    #[test]
    fn sleepers_spinners_and_parents_are_told_apart() {
        let sleep = piped("sleep", &["60"]);
        looked_until(sleep.0.id() as i32, |_, state| state.why == Some(Why::Timer));
        let spin = piped("sh", &["-c", "while :; do :; done"]);
        looked_until(spin.0.id() as i32, |_, state| state.running == 1);
        let parent = piped("sh", &["-c", "sleep 60; :"]);
        // The child is found without being named.
        looked_until(parent.0.id() as i32, |_, state| state.why == Some(Why::Child));
        looked_until(parent.0.id() as i32, |_, state| state.why == Some(Why::Timer));
    }

    #[test]
    fn what_is_charged_is_what_the_scheduler_charged() {
        let spin = piped("sh", &["-c", "while :; do :; done"]);
        let pid = spin.0.id() as i32;
        let on_cpu_ns = || -> u64 {
            let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
            text.split_ascii_whitespace().next().unwrap().parse().unwrap()
        };
        let mut looker = Looker::new(now_ns(), None);
        let before = on_cpu_ns();
        looker.follow(&[pid]);
        let begun = on_cpu_ns();
        while on_cpu_ns() < begun + 300_000_000 {
            std::thread::sleep(Duration::from_millis(4));
            looker.look(now_ns());
        }
        let until = on_cpu_ns();
        let timeline = looker.finish(now_ns());
        let accounts = timeline.bins.iter().flat_map(|bin| &bin.accounts);
        let charged: u64 = accounts.map(|(_, account)| account.cpu_ns).sum();
        assert!((until - begun..=on_cpu_ns() - before).contains(&charged), "{charged} ns");
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_waited_for_is_no_longer_there() {
        let mut ended = piped("true", &[]);
        let pid = ended.0.id() as i32;
        let zombie = || Stat::read(pid).is_some_and(|stat| stat.state == 'Z');
        while !zombie() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut looker = Looker::new(now_ns(), None);
        looker.follow(&[pid]);
        looker.look(now_ns());
        assert_eq!(looker.found, []);
        let _ = ended.0.wait();
    }
}
