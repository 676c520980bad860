//! Bytes that processes splice, from the return values of splice, vmsplice and tee.
//!
//! The tracepoint costs every system call of the machine 65 to 75 ns while it is open (measured on
//! 6.18), so it is opened only for pipes that nothing cheaper counts. Recording a call costs 1.4
//! microseconds. So if a process makes more than twenty thousand a second, only one in N is
//! recorded; the bytes are their mean times the number of all calls, which the event counts
//! exactly.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::attr::{EventAttr, event_type, flag, sample_type};
use crate::environment::{Environment, Operation, explain_open_error};
use crate::perfdata::layout::Layout;
use crate::perfdata::record::{Parsed, parse, split_record};
use crate::ring::{Ring, page_bytes};
use crate::sys::{PerfSystem, RunningKernel};
use crate::tasks::{online_cpus, threads};
use crate::tracepoints::{Field, Tracefs, Tracepoint};
use crate::windows::read_counts;

/// What a process spliced, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spliced {
    /// Out of the pipe that it reads.
    pub(super) read: u64,
    /// Into the pipe that it writes.
    pub(super) written: u64,
}

/// Records a second of one process beyond which fewer are asked for: some 3 % of a CPU, and after a
/// second the mean is known within 1 % even where calls move ever so different amounts.
const RECORDS_A_SECOND: f64 = 20_000.0;

/// Room for what comes between two looks, many times over.
const RING_PAGES: usize = 32;

const SAMPLE_TYPE: u64 = sample_type::IDENTIFIER | sample_type::RAW;

/// The calls of some processes, counted from `since` on.
#[derive(Debug)]
pub(super) struct Splices {
    tracepoint: Tracepoint,
    id: Field,
    ret: Field,
    rings: BTreeMap<i32, (Ring, OwnedFd)>,
    events: Vec<OwnedFd>,
    process_of: FxHashMap<u64, i32>,
    sums: FxHashMap<i32, Sums>,
    since: FxHashMap<i32, Instant>,
    drained: Vec<u8>,
}

/// The calls of one process.
#[derive(Debug)]
struct Sums {
    events: Vec<usize>,
    /// One call in so many is recorded.
    period: u64,
    /// Since when that is so, and how many calls there were before.
    since: Instant,
    calls_before: u64,
    /// What was moved before.
    before: ByCall,
    /// What the calls recorded since then moved, and how many these were.
    recorded: ByCall,
    calls_recorded: u64,
}

/// Bytes by system call.
#[derive(Clone, Copy, Debug, Default)]
struct ByCall {
    splice: u64,
    vmsplice: u64,
    tee: u64,
}

impl Sums {
    fn calls(&self, events: &[OwnedFd]) -> u64 {
        let count = |&index: &usize| read_counts(events.get(index)?)?[0];
        self.events.iter().filter_map(count).sum()
    }

    /// What all `calls` moved, recorded or not.
    fn whole(&self, calls: u64) -> ByCall {
        let scaled = |bytes: u64| match self.calls_recorded {
            0 => 0,
            recorded => {
                let calls = u128::from(calls.saturating_sub(self.calls_before));
                (u128::from(bytes) * calls / u128::from(recorded)) as u64
            }
        };
        ByCall {
            splice: self.before.splice + scaled(self.recorded.splice),
            vmsplice: self.before.vmsplice + scaled(self.recorded.vmsplice),
            tee: self.before.tee + scaled(self.recorded.tee),
        }
    }

    /// Asks for fewer records where there are too many.
    fn slow_down(&mut self, events: &[OwnedFd]) {
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = self.calls_recorded as f64 / seconds;
        if seconds < 0.1 || rate <= RECORDS_A_SECOND {
            return;
        }
        let period = (self.period as f64 * rate / RECORDS_A_SECOND).ceil() as u64 + 1;
        let calls = self.calls(events);
        for &index in &self.events {
            // If it refuses, the old period stays, which only costs more.
            let _ = events.get(index).map(|event| RunningKernel.set_period(event.as_fd(), period));
        }
        self.before = self.whole(calls);
        (self.period, self.since, self.calls_before) = (period, Instant::now(), calls);
        (self.recorded, self.calls_recorded) = (ByCall::default(), 0);
    }
}

impl Splices {
    /// Counts nothing yet.
    ///
    /// # Errors
    /// Why splices cannot be counted on this machine, as a sentence.
    pub(super) fn new() -> Result<Self, String> {
        let tracepoint = Tracefs::find()?.tracepoint("raw_syscalls", "sys_exit")?;
        let (id, ret) = (tracepoint.field("id")?, tracepoint.field("ret")?);
        Ok(Splices {
            tracepoint,
            id,
            ret,
            rings: BTreeMap::new(),
            events: Vec::new(),
            process_of: FxHashMap::default(),
            sums: FxHashMap::default(),
            since: FxHashMap::default(),
            drained: Vec::new(),
        })
    }

    /// Counts this process too, its threads and what they start.
    ///
    /// # Errors
    /// The kernel's refusal, as a sentence.
    pub(super) fn add(&mut self, pid: i32) -> Result<(), String> {
        if self.since.contains_key(&pid) {
            return Ok(());
        }
        let mut attr = EventAttr::new(event_type::TRACEPOINT, self.tracepoint.id)
            .with_flag(flag::INHERIT | flag::WATERMARK, true);
        attr.period_or_frequency = 1;
        attr.sample_type = SAMPLE_TYPE;
        // Nobody waits for it.
        attr.wakeup = u32::MAX;
        let calls = [libc::SYS_splice, libc::SYS_vmsplice, libc::SYS_tee];
        let filter = calls.map(|call| format!("id=={call}")).join("||");
        let filter = format!("ret>0&&({filter})");
        let refused = |errno| {
            let name = &self.tracepoint.name;
            let what =
                Operation::Open { event: name, kernel: true, per_cpu: false, pid: Some(pid) };
            explain_open_error(errno, &what, &Environment::read()).message
        };
        let threads = threads(pid);
        let mut opened = Vec::new();
        for cpu in online_cpus() {
            for &tid in &threads {
                let event = match RunningKernel.open(&attr, tid, cpu as i32) {
                    Ok(event) => event,
                    Err(nix::errno::Errno::ESRCH | nix::errno::Errno::ENODEV) => continue,
                    Err(errno) => return Err(refused(errno)),
                };
                RunningKernel.set_filter(event.as_fd(), &filter).map_err(refused)?;
                let id = RunningKernel.id(event.as_fd()).map_err(refused)?;
                if let Some((_, owner)) = self.rings.get(&(cpu as i32)) {
                    RunningKernel.redirect(event.as_fd(), owner.as_fd()).map_err(refused)?;
                } else {
                    let ring = RunningKernel.map(event.as_fd(), RING_PAGES * page_bytes());
                    let owner = event.try_clone().map_err(|error| error.to_string())?;
                    self.rings.insert(cpu as i32, (ring.map_err(refused)?, owner));
                }
                opened.push((event, id));
            }
        }
        let sums = self.sums.entry(pid).or_insert_with(|| Sums {
            events: Vec::new(),
            period: 1,
            since: Instant::now(),
            calls_before: 0,
            before: ByCall::default(),
            recorded: ByCall::default(),
            calls_recorded: 0,
        });
        for (event, id) in opened {
            // One whose thread has just ended counts nothing any more.
            let _ = RunningKernel.enable(event.as_fd());
            self.process_of.insert(id, pid);
            sums.events.push(self.events.len());
            self.events.push(event);
        }
        self.since.insert(pid, Instant::now());
        Ok(())
    }

    /// Since when a process is counted.
    pub(super) fn since(&self, pid: i32) -> Option<Instant> {
        self.since.get(&pid).copied()
    }

    /// Takes what was recorded since the last look.
    pub(super) fn look(&mut self) {
        self.drained.clear();
        for (ring, _) in self.rings.values_mut() {
            // A ring that is broken tells no more.
            let _ = ring.take_into(&mut self.drained);
        }
        let layout = Layout::new(SAMPLE_TYPE, 0, true);
        let mut rest = &self.drained[..];
        while let Some((record, size)) = split_record(rest) {
            rest = &rest[size..];
            let Some(Parsed::Sample(sample)) = parse(&record, layout) else { continue };
            let process = sample.id.id.and_then(|id| self.process_of.get(&id));
            let sums = process.and_then(|process| self.sums.get_mut(process));
            let fields = (self.id.read(sample.raw), self.ret.read(sample.raw));
            let (Some(sums), (Some(call), Some(ret))) = (sums, fields) else { continue };
            let bytes = ret.max(0) as u64;
            sums.calls_recorded += 1;
            match call {
                libc::SYS_splice => sums.recorded.splice += bytes,
                libc::SYS_vmsplice => sums.recorded.vmsplice += bytes,
                libc::SYS_tee => sums.recorded.tee += bytes,
                _ => {}
            }
        }
        for sums in self.sums.values_mut() {
            sums.slow_down(&self.events);
        }
    }

    /// What a process spliced so far; `reads` tells that it reads from a pipe and `writes` that it
    /// writes to one. `None` where it is not counted.
    pub(super) fn of(&self, pid: i32, reads: bool, writes: bool) -> Option<Spliced> {
        let sums = self.sums.get(&pid)?;
        let moved = sums.whole(sums.calls(&self.events));
        // `vmsplice` takes the direction of its pipe; who could do either writes with it. `tee`
        // leaves what it reads in the pipe.
        let from_memory = if writes { moved.vmsplice } else { 0 };
        let to_memory = if reads && !writes { moved.vmsplice } else { 0 };
        Some(Spliced {
            read: moved.splice + to_memory,
            written: moved.splice + from_memory + moved.tee,
        })
    }
}
