//! The thread that switches sampling off and on, and sets its frequency.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use pipeprof_runner::pipeline::PipeKey;

use super::compare::{Compared, Reading, compare, scatter};
use super::plan::{Next, Plan};
use super::{Basis, Block, Observed, Stretch, scaled};
use crate::accounts::now_ns;
use crate::error::Error;
use crate::frequency::{most_sample_rate, staggered_frequency};
use crate::sys::{PerfSystem, RunningKernel};

/// Bytes through each pipe so far.
pub(crate) type Moved = Box<dyn FnMut() -> Vec<(PipeKey, u64)> + Send>;

/// How fast to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequency {
    /// So many samples a second and CPU.
    Fixed(u64),
    /// As many as slow the pipeline by less than 2 %, up to so many.
    UpTo(u64),
}

impl Frequency {
    /// The highest that may come.
    pub fn most_hz(self) -> u64 {
        match self {
            Frequency::Fixed(hz) | Frequency::UpTo(hz) => hz,
        }
    }

    fn plan(self) -> Plan {
        match self {
            Frequency::Fixed(hz) => Plan::fixed(hz),
            Frequency::UpTo(hz) => Plan::rising(hz),
        }
    }

    /// The one to begin with.
    pub(crate) fn first_hz(self) -> u64 {
        self.plan().hz()
    }
}

/// CPU time of each process so far.
pub(crate) type CpuTime = Box<dyn FnMut() -> Vec<(i32, u64)> + Send>;

/// The events that sample.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    /// They are the first of these.
    pub(crate) events: Arc<[OwnedFd]>,
    /// The CPU that each of them is bound to.
    pub(crate) cpus: Vec<i32>,
    /// Clocks take a period in nanoseconds, all others a frequency: a clock's frequency becomes a
    /// period when it is opened (`perf_swevent_init_hrtimer` in kernel/events/core.c, v6.18).
    pub(crate) is_clock: bool,
}

/// Measures from a thread of its own until it is finished.
#[derive(Debug)]
pub(crate) struct Measuring {
    stop: Sender<()>,
    thread: JoinHandle<Observed>,
    given: Arc<AtomicU64>,
}

/// How long a window is at first.
const WINDOW: Duration = Duration::from_millis(20);

/// The longest that a window becomes where shorter ones differ too much among themselves.
const LONGEST_WINDOW: Duration = Duration::from_millis(400);

/// After so many blocks the window is judged.
const BLOCKS_A_WINDOW: usize = 8;

/// Blocks that scatter more than this, by the middle of their distances, have windows too short for
/// the pipeline's own rhythm.
const SCATTER: f64 = 0.25;

/// What was sampled is noted this often, for those who wait for enough.
const NOTED: Duration = Duration::from_millis(250);

/// The limit of the kernel is looked up this often.
const LIMIT_NS: u64 = 500_000_000;

impl Measuring {
    /// Takes over the sampling events, which are on, at the first frequency.
    ///
    /// # Errors
    /// [`Error::Control`] where no thread can be started.
    pub(crate) fn start(
        sampling: Sampling,
        frequency: Frequency,
        moved: Moved,
        cpu_time: CpuTime,
    ) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let plan = frequency.plan();
        let given = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&given);
        let run = move || {
            let began_ns = now_ns();
            let mut observer = Observer {
                sampling,
                hz: plan.hz(),
                plan,
                stopped,
                moved,
                cpu_time,
                window: WINDOW,
                recent: Vec::new(),
                began_ns,
                from_ns: began_ns,
                limit_read_ns: began_ns,
                observed: Observed::default(),
                given: counted,
            };
            while observer.step() {}
            observer.observed
        };
        let thread = std::thread::Builder::new().name("pp-effect".to_owned()).spawn(run).map_err(
            |error| Error::Control {
                action: "starting the thread that measures the effect of",
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)),
            },
        )?;
        Ok(Measuring { stop, thread, given })
    }

    /// Samples so far of a CPU that was busy all the time.
    pub(crate) fn samples_of_a_busy_cpu(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Ends it. The events may be on or off.
    ///
    /// # Errors
    /// [`Error::DrainDied`] where the thread died.
    pub(crate) fn finish(self) -> Result<Observed, Error> {
        drop(self.stop);
        self.thread.join().map_err(|_| Error::DrainDied)
    }
}

impl Sampling {
    fn each(&self, control: impl Fn(&OwnedFd, i32) -> Result<(), Errno>) {
        for (event, &cpu) in self.events.iter().zip(&self.cpus) {
            // A CPU that went offline, or a task that ended, took its event along.
            let _ = control(event, cpu);
        }
    }

    fn switch(&self, on: bool) {
        self.each(|event, _| match on {
            true => RunningKernel.enable(event.as_fd()),
            false => RunningKernel.disable(event.as_fd()),
        });
    }

    fn set(&self, hz: u64) {
        self.each(|event, cpu| {
            let value = match self.is_clock {
                true => 1_000_000_000 / staggered_frequency(hz, cpu),
                false => hz,
            };
            RunningKernel.set_period(event.as_fd(), value)
        });
    }
}

struct Observer {
    sampling: Sampling,
    hz: u64,
    plan: Plan,
    stopped: Receiver<()>,
    moved: Moved,
    cpu_time: CpuTime,
    window: Duration,
    /// Logarithms of the latest blocks, by which the window is judged; infinite where one side moved
    /// nothing.
    recent: Vec<f64>,
    began_ns: u64,
    /// The latest stretch ended then.
    from_ns: u64,
    limit_read_ns: u64,
    observed: Observed,
    given: Arc<AtomicU64>,
}

impl Observer {
    /// Does what comes next; false once it was stopped.
    fn step(&mut self) -> bool {
        self.follow_limit();
        if self.plan.hz() != self.hz {
            self.hz = self.plan.hz();
            self.sampling.set(self.hz);
        }
        let elapsed = Duration::from_nanos(now_ns().saturating_sub(self.began_ns));
        match self.plan.next(elapsed, 4 * self.window) {
            Next::On(time) => {
                let mut left = time;
                while !left.is_zero() {
                    let part = left.min(NOTED);
                    let goes_on = self.wait(part);
                    self.note(now_ns().saturating_sub(self.from_ns));
                    if !goes_on {
                        return false;
                    }
                    left -= part;
                }
                true
            }
            Next::Block => self.block(),
        }
    }

    /// False if it was stopped.
    fn wait(&self, time: Duration) -> bool {
        matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// The kernel lowers its limit where interrupts take long, and ignores what would come above it.
    fn follow_limit(&mut self) {
        let now = now_ns();
        if now.saturating_sub(self.limit_read_ns) >= LIMIT_NS {
            self.limit_read_ns = now;
            if let Some(most_hz) = most_sample_rate() {
                self.plan.limit(most_hz);
            }
        }
    }

    fn block(&mut self) -> bool {
        let order = match fastrand::bool() {
            true => [true, false, false, true],
            false => [false, true, true, false],
        };
        let mut on_ns = 0;
        let mut windows = Vec::with_capacity(order.len());
        let mut before = self.read();
        for on in order {
            self.sampling.switch(on);
            let from_ns = now_ns();
            let goes_on = self.wait(self.window);
            let after = self.read();
            if on {
                on_ns += now_ns().saturating_sub(from_ns);
            }
            if !goes_on {
                self.note(on_ns);
                return false;
            }
            windows.push((on, before, after.clone()));
            before = after;
        }
        self.sampling.switch(true);
        self.note(on_ns);
        self.judge(&windows);
        true
    }

    fn read(&mut self) -> Reading {
        let moved = (self.moved)();
        // Only where nothing else tells anything: it is a call a process.
        let cpu_time = if moved.is_empty() { (self.cpu_time)() } else { Vec::new() };
        Reading { at_ns: now_ns(), moved, cpu_time }
    }

    /// Notes what came since the latest stretch ended, of which so much was sampled.
    fn note(&mut self, on_ns: u64) {
        let until_ns = now_ns();
        let from_ns = std::mem::replace(&mut self.from_ns, until_ns);
        let given = scaled(on_ns, self.hz, 1_000_000_000);
        self.given.fetch_add(given, Ordering::Relaxed);
        self.observed.add(Stretch { from_ns, until_ns, on_ns, hz: self.hz });
    }

    fn judge(&mut self, windows: &[(bool, Reading, Reading)]) {
        let (basis, compared) = compare(windows);
        let known = *self.observed.basis.get_or_insert(basis);
        match (known, basis) {
            (Basis::CpuTime, Basis::Bytes) => {
                self.observed.basis = Some(Basis::Bytes);
                self.observed.blocks.clear();
                self.plan.forget();
            }
            // A pipe that has gone says nothing of those to come.
            (Basis::Bytes, Basis::CpuTime) => return self.plan.add(None),
            _ => {}
        }
        let found = match compared {
            Compared::Ratio(ln_ratio) => Some(ln_ratio),
            Compared::OneSided | Compared::Nothing => None,
        };
        self.plan.add(found);
        if let Some(ln_ratio) = found {
            self.observed.blocks.push(Block { at_ns: self.from_ns, hz: self.hz, ln_ratio });
        }
        if compared != Compared::Nothing {
            self.recent.push(found.unwrap_or(f64::INFINITY));
        }
        if self.recent.len() == BLOCKS_A_WINDOW {
            if scatter(&mut self.recent) > SCATTER {
                self.window = (2 * self.window).min(LONGEST_WINDOW);
            }
            self.recent.clear();
        }
    }
}
