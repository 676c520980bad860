//! Rings when a process of what is watched is started or executes a program, and sees what it holds
//! then and there, as it may be over before the next look by the clock.
//!
//! The recording tells the same, but only once half a ring has filled up. This has rings of its own
//! that wake at once and are written nowhere, and a thread that runs ahead of others, so that a busy
//! machine does not keep it from a process until that has ended.

mod memory;

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use pipeprof_runner::discover::{Process, Witness};
use rustc_hash::FxHashSet;

use crate::attr::{EventAttr, event_type, flag, sample_type};
use crate::perfdata::record::{Record, kind, misc, split_record};
use crate::ring::{Ring, page_bytes};
use crate::sys::{self, PerfSystem};
use crate::tasks::online_cpus;
use crate::tracepoints::Tracefs;

use memory::{Memory, Sight};

/// `PERF_COUNT_SW_DUMMY`: counts nothing, and tells of tasks.
const DUMMY: u64 = 9;

/// Pages of a ring: some hundred births, of which one is enough.
const PAGES: usize = 4;

/// After a fork or an `exec` a process is seen again after these times: by then a shell's child has
/// put its pipes in place, and a program has its command line.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(16)];

/// What seeing may cost: so much CPU time at once, and this share of the time. A pipeline that is
/// being started takes some tens of processes; a shell loop that starts a thousand would be slowed.
const CREDIT: Duration = Duration::from_millis(60);
const SHARE_PERCENT: u32 = 1;

/// Listens, until dropped.
#[derive(Debug)]
pub(super) struct Bell {
    /// A byte for each time that it rings.
    rings: UnixStream,
    sights: Receiver<Sight>,
    more: Sender<i32>,
    memory: Memory,
    /// Closed to end the thread.
    life: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Bell {
    /// Listens to these processes and what they start; `None` where the kernel lets nobody listen.
    pub(super) fn hang(system: &dyn PerfSystem, pids: &[i32]) -> Option<Bell> {
        let ears = Ears::open(system, pids)?;
        let (rings, ringer) = UnixStream::pair().ok()?;
        let (life, end) = UnixStream::pair().ok()?;
        rings.set_nonblocking(true).ok()?;
        ringer.set_nonblocking(true).ok()?;
        let (sight, sights) = channel();
        let (more, heard_too) = channel();
        let heard = pids.iter().copied().collect();
        let listener = Listener {
            ears,
            heard,
            heard_too,
            witness: Witness::new(),
            young: Vec::new(),
            sight,
            ringer,
            started: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("pipeprof-bell".to_owned());
        let thread = thread.spawn(move || listener.listen(&end)).ok()?;
        let memory = Memory::default();
        Some(Bell { rings, sights, more, memory, life: Some(life), thread: Some(thread) })
    }

    /// Listens to these, too.
    pub(super) fn hear(&mut self, pids: impl IntoIterator<Item = i32>) {
        for pid in pids {
            // A thread that has ended listens to nobody.
            let _ = self.more.send(pid);
        }
    }

    /// Readable when it rang.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.rings.as_fd()
    }

    /// Whether it rang for one of ours since the last time.
    pub(super) fn rang(&mut self) -> bool {
        let (mut bytes, mut rang) = ([0; 64], false);
        while matches!((&self.rings).read(&mut bytes), Ok(1..)) {
            rang = true;
        }
        rang
    }

    /// The processes that were seen lately, as they were when it mattered.
    pub(super) fn seen(&mut self) -> Vec<Process> {
        self.sights.try_iter().for_each(|sight| self.memory.add(sight));
        self.memory.recall(Instant::now())
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        drop(self.life.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell but that it panicked, which was printed.
            let _ = thread.join();
        }
    }
}

/// The events and their rings, one of each for a CPU.
struct Ears {
    events: Vec<OwnedFd>,
    rings: Vec<Ring>,
    /// Of the tracepoint at which a process still has what it holds, where that is to be had.
    _exits: Vec<OwnedFd>,
}

impl Ears {
    fn open(system: &dyn PerfSystem, pids: &[i32]) -> Option<Ears> {
        let mut attr = EventAttr::new(event_type::SOFTWARE, DUMMY)
            .with_flag(flag::TASK | flag::COMM | flag::COMM_EXEC | flag::WATERMARK, true);
        attr.wakeup = 1;
        let cpus = online_cpus();
        let open = |attr: &EventAttr, pid: i32| {
            let events = cpus.iter().map(|&cpu| system.open(attr, pid, cpu as i32).ok());
            events.collect::<Option<Vec<_>>>()
        };
        // An event of each CPU costs the members nothing; one of a task is dear to who switches
        // often, but those who may open no other have such events for their samples, too.
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
        Some(Ears { events, rings, _exits: exits })
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

/// What the thread has.
struct Listener {
    ears: Ears,
    /// Processes whose doings are of interest.
    heard: FxHashSet<i32>,
    heard_too: Receiver<i32>,
    witness: Option<Witness>,
    /// Who is to be seen again, when, and how often that has been.
    young: Vec<(i32, Instant, usize)>,
    sight: Sender<Sight>,
    ringer: UnixStream,
    started: Instant,
}

impl Listener {
    fn listen(mut self, end: &UnixStream) {
        sys::run_ahead();
        let mut records = Vec::new();
        loop {
            let due = self.young.iter().map(|(_, due, _)| *due).min();
            let pause = due.map(|due| due.saturating_duration_since(Instant::now()));
            let pause = pause.map(|pause| pause + Duration::from_micros(999));
            let timeout = pause.and_then(|pause| PollTimeout::try_from(pause).ok());
            let ears = self.ears.events.iter().map(AsFd::as_fd);
            let mut fds: Vec<PollFd<'_>> = std::iter::once(end.as_fd())
                .chain(ears)
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
            self.heard.extend(self.heard_too.try_iter());
            records.clear();
            for ring in &mut self.ears.rings {
                // A ring that is broken rings no more.
                let _ = ring.take_into(&mut records);
            }
            if self.take(&records) {
                // One that is full has not been heard yet.
                let _ = (&self.ringer).write_all(&[1]);
            }
            self.see_again();
        }
    }

    /// Whether it is to ring.
    fn take(&mut self, records: &[u8]) -> bool {
        let mut rang = false;
        // A child's own records can be in another ring than the one of its birth.
        let mut births = self.heard.len();
        loop {
            for (record, _) in all(records).filter(|(record, _)| record.kind == kind::FORK) {
                if let Some(Heard::Born(pid)) = hear(&record, &self.heard) {
                    rang |= self.heard.insert(pid);
                }
            }
            if self.heard.len() == std::mem::replace(&mut births, self.heard.len()) {
                break;
            }
        }
        let now = Instant::now();
        for (record, _) in all(records) {
            match hear(&record, &self.heard) {
                Some(Heard::Born(pid)) => {
                    self.see(pid, Moment::Lives);
                    self.young.push((pid, now + AGAIN[0], 0));
                }
                Some(Heard::Named { pid, executed }) => {
                    rang = true;
                    if executed {
                        self.see(pid, Moment::Executes);
                        self.young.retain(|(young, ..)| *young != pid);
                        self.young.push((pid, now + AGAIN[0], 0));
                    }
                }
                Some(Heard::Ending(pid)) => {
                    self.see(pid, Moment::Lives);
                    self.young.retain(|(young, ..)| *young != pid);
                }
                // Whoever gets this pid next is heard only as somebody's child.
                Some(Heard::Ended(pid)) => {
                    self.heard.remove(&pid);
                    self.young.retain(|(young, ..)| *young != pid);
                }
                None => {}
            }
        }
        rang
    }

    fn see_again(&mut self) {
        let now = Instant::now();
        for at in (0..self.young.len()).rev() {
            let (pid, due, times) = self.young[at];
            if due > now {
                continue;
            }
            self.see(pid, Moment::Lives);
            match AGAIN.get(times + 1) {
                Some(&pause) => self.young[at] = (pid, now + pause, times + 1),
                None => {
                    self.young.swap_remove(at);
                }
            }
        }
    }

    fn see(&mut self, pid: i32, moment: Moment) {
        let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
        let allowed = CREDIT + self.started.elapsed() * SHARE_PERCENT / 100;
        if spent.unwrap_or_default() > allowed {
            return;
        }
        let executes = moment == Moment::Executes;
        let seen = self.witness.as_mut().and_then(|witness| witness.see(pid, executes));
        if let Some(process) = seen {
            let _ = self.sight.send(Sight { process, executes, at: Instant::now() });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Executes,
    Lives,
}

fn all(records: &[u8]) -> impl Iterator<Item = (Record<'_>, usize)> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let (record, length) = split_record(rest)?;
        rest = rest.get(length..)?;
        Some((record, length))
    })
}

/// What a record says of a process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Born(i32),
    Named {
        pid: i32,
        executed: bool,
    },
    /// It still has what it holds.
    Ending(i32),
    Ended(i32),
}

/// `struct { u32 pid, ppid, tid, ptid; … }` of FORK and EXIT, `struct { u32 pid, tid; … }` of COMM
/// and of our samples.
fn hear(record: &Record<'_>, heard: &FxHashSet<i32>) -> Option<Heard> {
    let word = |at: usize| -> Option<i32> {
        record.body.get(4 * at..)?.first_chunk().map(|word| i32::from_ne_bytes(*word))
    };
    let (pid, second) = word(0).zip(word(1))?;
    match record.kind {
        kind::FORK if pid != second && heard.contains(&second) => Some(Heard::Born(pid)),
        _ if !heard.contains(&pid) => None,
        kind::COMM => Some(Heard::Named { pid, executed: record.misc & misc::COMM_EXEC != 0 }),
        kind::SAMPLE if pid == second => Some(Heard::Ending(pid)),
        kind::EXIT if word(2) == Some(pid) => Some(Heard::Ended(pid)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_children_and_their_programs_only() {
        let mut heard = FxHashSet::from_iter([10]);
        let hears = |heard: &FxHashSet<i32>, kind, words: &[i32]| {
            let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            hear(&Record { kind, misc: misc::COMM_EXEC, body: &body }, heard)
        };
        assert_eq!(hears(&heard, kind::FORK, &[11, 10, 11, 10]), Some(Heard::Born(11)));
        assert_eq!(hears(&heard, kind::FORK, &[10, 10, 12, 10]), None, "a thread");
        assert_eq!(hears(&heard, kind::FORK, &[21, 20, 21, 20]), None, "a stranger's child");
        assert_eq!(hears(&heard, kind::COMM, &[11, 11]), None, "not known yet");
        heard.insert(11);
        let executes = Some(Heard::Named { pid: 11, executed: true });
        assert_eq!(hears(&heard, kind::COMM, &[11, 11]), executes);
        assert_eq!(hears(&heard, kind::FORK, &[13, 11, 13, 11]), Some(Heard::Born(13)));
        assert_eq!(hears(&heard, kind::SAMPLE, &[11, 11]), Some(Heard::Ending(11)));
        assert_eq!(hears(&heard, kind::SAMPLE, &[11, 14]), None, "a thread");
        assert_eq!(hears(&heard, kind::EXIT, &[11, 10, 11, 10]), Some(Heard::Ended(11)));
        assert_eq!(hears(&heard, kind::EXIT, &[11, 10, 14, 11]), None, "a thread");
        assert_eq!(hears(&heard, kind::FORK, &[1]), None, "cut short");
    }
}
