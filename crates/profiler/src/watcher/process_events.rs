//! Reads perf's records of forks, program starts and exits of what is watched, and takes a snapshot
//! of the process at each of them, as it may have ended before the next scheduled look.
//!
//! The recording holds the same records, but they are read only once half a ring is full. These
//! rings are read at once and not stored, by a thread that is scheduled before ordinary ones, so
//! that a busy machine does not delay a snapshot until the process has ended.

mod snapshots;

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use pipeprof_runner::discover::{Process, ProcessReader};
use rustc_hash::FxHashSet;

use crate::attr::{EventAttr, event_type, flag, sample_type};
use crate::perfdata::record::{Record, kind, misc, split_record};
use crate::ring::{Ring, page_bytes};
use crate::sys::{self, PerfSystem};
use crate::tasks::online_cpus;
use crate::tracepoints::Tracefs;

use snapshots::{Snapshot, Snapshots};

/// `PERF_COUNT_SW_DUMMY`: counts nothing, and tells of tasks.
const DUMMY: u64 = 9;

/// Pages of a ring: room for some hundred forks, of which one record is enough.
const PAGES: usize = 4;

/// Further snapshots after a fork or an `exec` are taken at these intervals: by then a shell's child
/// has put its pipes in place, and a program has its command line.
const INTERVALS: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(16)];

/// What snapshots may cost: so much CPU time at once, and this share of the elapsed time. A pipeline
/// that is being started takes some tens of processes; a shell loop that starts a thousand would be
/// slowed.
const CREDIT: Duration = Duration::from_millis(60);
const SHARE_PERCENT: u32 = 1;

/// The thread that reads process events, until dropped.
#[derive(Debug)]
pub(super) struct ProcessEvents {
    /// A byte for each time that something happened.
    notifications: UnixStream,
    taken: Receiver<Snapshot>,
    also_followed: Sender<i32>,
    snapshots: Snapshots,
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl ProcessEvents {
    /// Follows these processes and what they start; `None` where the kernel refuses the events.
    pub(super) fn follow(system: &dyn PerfSystem, pids: &[i32]) -> Option<ProcessEvents> {
        let events = TaskEvents::open(system, pids)?;
        let (notifications, notify) = UnixStream::pair().ok()?;
        let (stop, stopped) = UnixStream::pair().ok()?;
        notifications.set_nonblocking(true).ok()?;
        notify.set_nonblocking(true).ok()?;
        let (snapshots, taken) = channel();
        let (also_followed, to_follow) = channel();
        let followed = pids.iter().copied().collect();
        let reader = EventReader {
            events,
            followed,
            to_follow,
            processes: ProcessReader::new(),
            scheduled: Vec::new(),
            snapshots,
            notify,
            started: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("pipeprof-events".to_owned());
        let thread = thread.spawn(move || reader.run(&stopped)).ok()?;
        let snapshots = Snapshots::default();
        Some(ProcessEvents {
            notifications,
            taken,
            also_followed,
            snapshots,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Follows these, too.
    pub(super) fn add(&mut self, pids: impl IntoIterator<Item = i32>) {
        for pid in pids {
            // Fails if the thread has ended; then no process is followed.
            let _ = self.also_followed.send(pid);
        }
    }

    /// Readable once something happened.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }

    /// Whether a followed process forked, executed a program or changed its name since the last
    /// call.
    pub(super) fn any_new(&mut self) -> bool {
        let (mut bytes, mut any) = ([0; 64], false);
        while matches!((&self.notifications).read(&mut bytes), Ok(1..)) {
            any = true;
        }
        any
    }

    /// The latest snapshots of processes that may have ended.
    pub(super) fn snapshots(&mut self) -> Vec<Process> {
        self.taken.try_iter().for_each(|snapshot| self.snapshots.add(snapshot));
        self.snapshots.current(Instant::now())
    }
}

impl Drop for ProcessEvents {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It returns nothing; a panic was printed.
            let _ = thread.join();
        }
    }
}

/// The perf events and their rings, one of each for a CPU.
struct TaskEvents {
    events: Vec<OwnedFd>,
    rings: Vec<Ring>,
    /// The tracepoint at which a process still has its descriptors, where it is available.
    _exits: Vec<OwnedFd>,
}

impl TaskEvents {
    fn open(system: &dyn PerfSystem, pids: &[i32]) -> Option<TaskEvents> {
        let mut attr = EventAttr::new(event_type::SOFTWARE, DUMMY)
            .with_flag(flag::TASK | flag::COMM | flag::COMM_EXEC | flag::WATERMARK, true);
        attr.wakeup = 1;
        let cpus = online_cpus();
        let open = |attr: &EventAttr, pid: i32| {
            let events = cpus.iter().map(|&cpu| system.open(attr, pid, cpu as i32).ok());
            events.collect::<Option<Vec<_>>>()
        };
        // Per-CPU events cost the members nothing. A per-task event slows tasks that switch often,
        // but a user who may open no others samples with such events, too.
        let whole = open(&attr, -1);
        let per_cpu = whole.is_some();
        let events = whole.or_else(|| match pids {
            [root] => open(&attr.with_flag(flag::INHERIT, true), *root),
            _ => None,
        })?;
        let map = |event: &OwnedFd| system.map(event.as_fd(), PAGES * page_bytes()).ok();
        let rings = events.iter().map(map).collect::<Option<Vec<_>>>()?;
        let exits = per_cpu.then(|| exits(system, &cpus, &events)).flatten().unwrap_or_default();
        let all = events.iter().chain(&exits);
        all.into_iter().try_for_each(|event| system.enable(event.as_fd())).ok()?;
        Some(TaskEvents { events, rings, _exits: exits })
    }
}

/// `sched_process_exit`, which comes before a process closes its files (do_exit, kernel/exit.c,
/// v6.18), into the rings of `events`.
fn exits(system: &dyn PerfSystem, cpus: &[u32], events: &[OwnedFd]) -> Option<Vec<OwnedFd>> {
    let tracepoint = Tracefs::find().ok()?.tracepoint("sched", "sched_process_exit").ok()?;
    let mut attr =
        EventAttr::new(event_type::TRACEPOINT, tracepoint.id).with_flag(flag::WATERMARK, true);
    attr.period_or_frequency = 1;
    attr.sample_type = sample_type::TID;
    attr.wakeup = 1;
    let into = |(&cpu, event): (&u32, &OwnedFd)| {
        let exit = system.open(&attr, -1, cpu as i32).ok()?;
        system.redirect(exit.as_fd(), event.as_fd()).ok()?;
        Some(exit)
    };
    cpus.iter().zip(events).map(into).collect()
}

/// What the thread owns.
struct EventReader {
    events: TaskEvents,
    followed: FxHashSet<i32>,
    to_follow: Receiver<i32>,
    processes: Option<ProcessReader>,
    /// Which processes are due for another snapshot, when, and how many there have been.
    scheduled: Vec<(i32, Instant, usize)>,
    snapshots: Sender<Snapshot>,
    notify: UnixStream,
    started: Instant,
}

impl EventReader {
    fn run(mut self, stopped: &UnixStream) {
        sys::schedule_first();
        let mut records = Vec::new();
        loop {
            let due = self.scheduled.iter().map(|(_, due, _)| *due).min();
            let pause = due.map(|due| due.saturating_duration_since(Instant::now()));
            let pause = pause.map(|pause| pause + Duration::from_micros(999));
            let timeout = pause.and_then(|pause| PollTimeout::try_from(pause).ok());
            let events = self.events.events.iter().map(AsFd::as_fd);
            let mut fds: Vec<PollFd<'_>> = std::iter::once(stopped.as_fd())
                .chain(events)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            match poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return;
            }
            drop(fds);
            self.followed.extend(self.to_follow.try_iter());
            records.clear();
            for ring in &mut self.events.rings {
                // A damaged ring yields no more records.
                let _ = ring.take_into(&mut records);
            }
            if self.handle(&records) {
                // Fails if the buffer is full of unread notifications.
                let _ = (&self.notify).write_all(&[1]);
            }
            self.take_scheduled();
        }
    }

    /// Whether the watcher is to be notified.
    fn handle(&mut self, records: &[u8]) -> bool {
        let mut notify = false;
        // A child's own records can be in another ring than the record of its fork.
        let mut count = self.followed.len();
        loop {
            for record in all(records).filter(|record| record.kind == kind::FORK) {
                if let Some(ProcessEvent::Forked(pid)) = decode(&record, &self.followed) {
                    notify |= self.followed.insert(pid);
                }
            }
            if self.followed.len() == std::mem::replace(&mut count, self.followed.len()) {
                break;
            }
        }
        for record in all(records) {
            match decode(&record, &self.followed) {
                Some(ProcessEvent::Forked(pid)) => {
                    self.take_snapshot(pid, false);
                    self.schedule(pid);
                }
                Some(ProcessEvent::Renamed { pid, executed }) => {
                    notify = true;
                    if executed {
                        self.take_snapshot(pid, true);
                        self.scheduled.retain(|(scheduled, ..)| *scheduled != pid);
                        self.schedule(pid);
                    }
                }
                Some(ProcessEvent::Exiting(pid)) => {
                    self.take_snapshot(pid, false);
                    self.scheduled.retain(|(scheduled, ..)| *scheduled != pid);
                }
                // The next process with this pid is followed only as a child of a followed one.
                Some(ProcessEvent::Exited(pid)) => {
                    self.followed.remove(&pid);
                    self.scheduled.retain(|(scheduled, ..)| *scheduled != pid);
                }
                None => {}
            }
        }
        notify
    }

    fn schedule(&mut self, pid: i32) {
        self.scheduled.push((pid, Instant::now() + INTERVALS[0], 0));
    }

    fn take_scheduled(&mut self) {
        let now = Instant::now();
        for at in (0..self.scheduled.len()).rev() {
            let (pid, due, times) = self.scheduled[at];
            if due > now {
                continue;
            }
            self.take_snapshot(pid, false);
            match INTERVALS.get(times + 1) {
                Some(&interval) => self.scheduled[at] = (pid, now + interval, times + 1),
                None => {
                    self.scheduled.swap_remove(at);
                }
            }
        }
    }

    fn take_snapshot(&mut self, pid: i32, in_exec: bool) {
        let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
        let allowed = CREDIT + self.started.elapsed() * SHARE_PERCENT / 100;
        if spent.unwrap_or_default() > allowed {
            return;
        }
        let process = self.processes.as_mut().and_then(|reader| reader.read(pid, in_exec));
        if let Some(process) = process {
            let _ = self.snapshots.send(Snapshot { process, in_exec, at: Instant::now() });
        }
    }
}

fn all(records: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let (record, length) = split_record(rest)?;
        rest = rest.get(length..)?;
        Some(record)
    })
}

/// What a record says of a followed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessEvent {
    Forked(i32),
    Renamed {
        pid: i32,
        executed: bool,
    },
    /// It still has its descriptors.
    Exiting(i32),
    Exited(i32),
}

/// `struct { u32 pid, ppid, tid, ptid; … }` of FORK and EXIT, `struct { u32 pid, tid; … }` of COMM
/// and of our samples.
fn decode(record: &Record<'_>, followed: &FxHashSet<i32>) -> Option<ProcessEvent> {
    let word = |at: usize| -> Option<i32> {
        record.body.get(4 * at..)?.first_chunk().map(|word| i32::from_ne_bytes(*word))
    };
    let (pid, second) = word(0).zip(word(1))?;
    match record.kind {
        kind::FORK if pid != second && followed.contains(&second) => {
            Some(ProcessEvent::Forked(pid))
        }
        _ if !followed.contains(&pid) => None,
        kind::COMM => {
            let executed = record.misc & misc::COMM_EXEC != 0;
            Some(ProcessEvent::Renamed { pid, executed })
        }
        kind::SAMPLE if pid == second => Some(ProcessEvent::Exiting(pid)),
        kind::EXIT if word(2) == Some(pid) => Some(ProcessEvent::Exited(pid)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_followed_processes_and_their_children_have_events() {
        let mut followed = FxHashSet::from_iter([10]);
        let event = |followed: &FxHashSet<i32>, kind, words: &[i32]| {
            let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            decode(&Record { kind, misc: misc::COMM_EXEC, body: &body }, followed)
        };
        let forked = |pid| Some(ProcessEvent::Forked(pid));
        assert_eq!(event(&followed, kind::FORK, &[11, 10, 11, 10]), forked(11));
        assert_eq!(event(&followed, kind::FORK, &[10, 10, 12, 10]), None, "a thread");
        assert_eq!(event(&followed, kind::FORK, &[21, 20, 21, 20]), None, "a stranger's child");
        assert_eq!(event(&followed, kind::COMM, &[11, 11]), None, "not followed yet");
        followed.insert(11);
        let executes = Some(ProcessEvent::Renamed { pid: 11, executed: true });
        assert_eq!(event(&followed, kind::COMM, &[11, 11]), executes);
        assert_eq!(event(&followed, kind::FORK, &[13, 11, 13, 11]), forked(13));
        let exiting = Some(ProcessEvent::Exiting(11));
        assert_eq!(event(&followed, kind::SAMPLE, &[11, 11]), exiting);
        assert_eq!(event(&followed, kind::SAMPLE, &[11, 14]), None, "a thread");
        let exited = Some(ProcessEvent::Exited(11));
        assert_eq!(event(&followed, kind::EXIT, &[11, 10, 11, 10]), exited);
        assert_eq!(event(&followed, kind::EXIT, &[11, 10, 14, 11]), None, "a thread");
        assert_eq!(event(&followed, kind::FORK, &[1]), None, "cut short");
    }
}
