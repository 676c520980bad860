//! What sampling does to the pipeline, measured while it is watched: sampling is off and on in
//! windows, and the bytes that the pipeline moves go on in both kinds.
//!
//! ```text
//! Plan --Block--> windows --bytes of each--> ln(with / without) --> Plan: the next frequency
//!                                                      \-> Observed --estimate--> Slowdown
//! ```
//!
//! The events stay open and count nothing while they are off. A clock keeps what is left of its
//! period (`cpu_clock_event_stop` in kernel/events/core.c, v6.18), so that windows favour no moment
//! of a period. What each sample represents is scaled to the whole time, stretch by stretch
//! ([`Stretch`]).

mod estimate;
mod plan;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use pipeprof_runner::pipeline::PipeKey;
use serde::{Deserialize, Serialize};

pub use estimate::Slowdown;

use crate::accounts::now_ns;
use crate::error::Error;
use crate::frequency::{most_sample_rate, staggered_frequency};
use crate::sys::{PerfSystem, RunningKernel};
use estimate::{Level, slowdown};
use plan::{Next, Plan};

/// A time in which samples were taken at one frequency, all the time or in windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// By the clock of the records.
    pub from_ns: u64,
    /// See `from_ns`.
    pub until_ns: u64,
    /// For how long of that samples were taken.
    pub on_ns: u64,
    /// How many a second and CPU.
    pub hz: u64,
}

impl Stretch {
    fn whole_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.from_ns)
    }
}

/// What a block of windows showed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// When it ended.
    pub at_ns: u64,
    /// The frequency of its windows with sampling.
    pub hz: u64,
    /// Logarithm of how many times as fast the pipeline was in those.
    pub ln_ratio: f64,
}

/// What was measured it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Bytes through a pipe.
    Bytes,
    /// CPU time of the members, as no bytes could be counted.
    CpuTime,
}

/// What was done, and seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// All of the watch, in the order of time.
    pub stretches: Vec<Stretch>,
    /// Blocks of windows that told something.
    pub blocks: Vec<Block>,
    /// What they compare; `None` where none told anything.
    pub basis: Option<Basis>,
}

/// How much sampling slowed the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It lost so much of its throughput or, where that is the basis, needed so much more CPU time.
    Measured {
        /// How much.
        #[serde(flatten)]
        slowdown: Slowdown,
        /// By what.
        basis: Basis,
    },
    /// Not measured.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Effect {
    /// How much, where it was measured by the bytes that moved.
    pub fn slowdown(&self) -> Option<&Slowdown> {
        match self {
            Effect::Measured { slowdown, basis: Basis::Bytes } => Some(slowdown),
            _ => None,
        }
    }
}

impl Observed {
    /// What it comes to; `None` where windows were not meant to be.
    pub fn effect(&self) -> Option<Effect> {
        if self.stretches.is_empty() {
            return None;
        }
        let whole: u64 = self.stretches.iter().map(Stretch::whole_ns).sum();
        let mut frequencies: Vec<u64> = self.stretches.iter().map(|stretch| stretch.hz).collect();
        frequencies.sort_unstable();
        frequencies.dedup();
        let level = |hz: u64| {
            let at = self.stretches.iter().filter(|stretch| stretch.hz == hz);
            let on: u64 = at.map(|stretch| stretch.on_ns).sum();
            let blocks = self.blocks.iter().filter(|block| block.hz == hz);
            let ln_ratios = blocks.map(|block| block.ln_ratio).collect();
            Level { ln_ratios, share: on as f64 / whole.max(1) as f64 }
        };
        let levels: Vec<Level> = frequencies.into_iter().map(level).collect();
        let found = slowdown(&levels).zip(self.basis);
        Some(match found {
            Some((slowdown, basis)) => Effect::Measured { slowdown, basis },
            None if self.blocks.is_empty() => Effect::Unknown {
                why: match self.stretches.len() {
                    1 => TOO_SHORT,
                    _ => NOTHING_TO_COMPARE,
                }
                .to_owned(),
            },
            None => Effect::Unknown { why: TOO_SHORT.to_owned() },
        })
    }

    /// The frequency that was used for most of the time.
    pub fn usual_hz(&self) -> Option<u64> {
        let time = |hz: u64| -> u64 {
            self.stretches.iter().filter(|at| at.hz == hz).map(Stretch::whole_ns).sum()
        };
        self.stretches.iter().map(|stretch| stretch.hz).max_by_key(|&hz| time(hz))
    }

    /// The lowest and the highest frequency.
    pub fn range_hz(&self) -> Option<(u64, u64)> {
        let all = || self.stretches.iter().map(|stretch| stretch.hz);
        all().min().zip(all().max())
    }

    /// Only what came since then.
    pub(crate) fn begin_at(&mut self, at_ns: u64) {
        self.stretches.retain(|stretch| stretch.until_ns > at_ns);
        if let Some(first) = self.stretches.first_mut()
            && first.from_ns < at_ns
        {
            let (whole, left) = (first.whole_ns(), first.until_ns - at_ns);
            first.on_ns = scaled(first.on_ns, left, whole);
            first.from_ns = at_ns;
        }
        self.blocks.retain(|block| block.at_ns > at_ns);
    }

    fn add(&mut self, stretch: Stretch) {
        match self.stretches.last_mut() {
            Some(last) if last.hz == stretch.hz && is_alike(last, &stretch) => {
                last.until_ns = stretch.until_ns;
                last.on_ns += stretch.on_ns;
            }
            _ => self.stretches.push(stretch),
        }
    }
}

/// Both were sampled all the time, or both half of it; or the latter was cut short, and has no
/// share that would say anything.
fn is_alike(one: &Stretch, other: &Stretch) -> bool {
    let share = |stretch: &Stretch| stretch.on_ns as f64 / stretch.whole_ns().max(1) as f64;
    (share(one) > 0.9) == (share(other) > 0.9) || share(other) < 0.4
}

const TOO_SHORT: &str = "the watch was too short";
const NOTHING_TO_COMPARE: &str =
    "no pipe moved bytes that can be counted, or too seldom to compare windows";

fn scaled(value: u64, by: u64, of: u64) -> u64 {
    (u128::from(value) * u128::from(by) / u128::from(of.max(1))) as u64
}

/// What the period of a sample represents, where samples were taken in windows.
#[derive(Debug)]
pub(crate) struct Scale<'a> {
    stretches: &'a [Stretch],
    at: usize,
    /// Periods are nanoseconds of a clock.
    is_clock: bool,
}

impl<'a> Scale<'a> {
    pub(crate) fn new(observed: Option<&'a Observed>, is_clock: bool) -> Self {
        Scale { stretches: observed.map_or(&[], |observed| &observed.stretches), at: 0, is_clock }
    }

    /// What a period at that time stands for. Times come in order, or nearly.
    pub(crate) fn of(&mut self, period: u64, time: Option<u64>) -> u64 {
        let Some(time) = time else { return period };
        while self.stretches.get(self.at).is_some_and(|stretch| stretch.until_ns <= time)
            && self.at + 1 < self.stretches.len()
        {
            self.at += 1;
        }
        let Some(stretch) = self.stretches.get(self.at) else { return period };
        let period = self.corrected(period, stretch.hz);
        if stretch.on_ns > 0 && stretch.on_ns < stretch.whole_ns() {
            scaled(period, stretch.whole_ns(), stretch.on_ns)
        } else {
            period
        }
    }

    /// The kernel writes the period with which a clock was opened into its samples, also after it
    /// was changed: `hw.last_period` stays (`perf_swevent_hrtimer` in kernel/events/core.c, v6.18;
    /// measured).
    fn corrected(&self, period: u64, hz: u64) -> u64 {
        let due = 1_000_000_000 / hz.max(1);
        // Neighbouring CPUs differ by 2 %.
        let is_another = period.abs_diff(due) > due / 25;
        if self.is_clock && is_another { due } else { period }
    }
}

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

/// What has moved, and been used, at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    at_ns: u64,
    moved: Vec<(PipeKey, u64)>,
    cpu_time: Vec<(i32, u64)>,
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

    /// False where somebody stopped it.
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

/// What a block shows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Compared {
    /// How many times as fast the pipeline was in the windows with sampling; its logarithm.
    Ratio(f64),
    /// In one kind of window nothing moved.
    OneSided,
    /// Nothing moved at all, or nothing can be said.
    Nothing,
}

/// A process that used so much of the time would use no more if it were slowed.
const SATURATED: f64 = 0.95;

fn compare(windows: &[(bool, Reading, Reading)]) -> (Basis, Compared) {
    let seconds = |on: bool| -> f64 {
        let of = windows.iter().filter(|window| window.0 == on);
        of.map(|(_, before, after)| after.at_ns.saturating_sub(before.at_ns) as f64 / 1e9).sum()
    };
    let ratio = |of: &dyn Fn(bool) -> f64| match (of(true), of(false)) {
        (on, off) if on > 0.0 && off > 0.0 => {
            Compared::Ratio((on / seconds(true)).ln() - (off / seconds(false)).ln())
        }
        (on, off) if on > 0.0 || off > 0.0 => Compared::OneSided,
        _ => Compared::Nothing,
    };
    let Some((_, first, _)) = windows.first() else { return (Basis::Bytes, Compared::Nothing) };
    let moves = |key: &PipeKey, on: bool| -> f64 {
        let of = windows.iter().filter(|window| window.0 == on);
        of.map(|(_, before, after)| grown(&before.moved, &after.moved, key) as f64).sum()
    };
    if !first.moved.is_empty() {
        // The one that moves most has the finest steps.
        let busiest = first.moved.iter().map(|(key, _)| key).max_by(|one, other| {
            let all = |key| moves(key, true) + moves(key, false);
            all(one).total_cmp(&all(other))
        });
        let compared = busiest.map(|key| ratio(&|on| moves(key, on)));
        return (Basis::Bytes, compared.unwrap_or(Compared::Nothing));
    }
    let used = |pid: &i32, on: bool| -> f64 {
        let of = windows.iter().filter(|window| window.0 == on);
        of.map(|(_, before, after)| grown(&before.cpu_time, &after.cpu_time, pid) as f64).sum()
    };
    let pids = || first.cpu_time.iter().map(|(pid, _)| pid);
    let whole_ns = 1e9 * (seconds(true) + seconds(false));
    let is_saturated = |pid| used(pid, true) + used(pid, false) > SATURATED * whole_ns;
    if pids().any(is_saturated) {
        return (Basis::CpuTime, Compared::Nothing);
    }
    let compared = match ratio(&|on| pids().map(|pid| used(pid, on)).sum()) {
        // More CPU time is what a lower throughput is.
        Compared::Ratio(ln_ratio) => Compared::Ratio(-ln_ratio),
        other => other,
    };
    (Basis::CpuTime, compared)
}

fn grown<K: PartialEq>(before: &[(K, u64)], after: &[(K, u64)], key: &K) -> u64 {
    let of = |all: &[(K, u64)]| all.iter().find(|(known, _)| known == key).map(|(_, value)| *value);
    of(before).zip(of(after)).map_or(0, |(before, after)| after.saturating_sub(before))
}

/// How far values lie from their middle, in the middle.
fn scatter(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values[values.len() / 2];
    values.iter_mut().for_each(|value| *value = (*value - middle).abs());
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(inode: u64) -> PipeKey {
        PipeKey { device: 1, inode }
    }

    /// Windows of 20 ms in which pipes moved so much each, and processes used so much.
    fn windows(moved: &[[u64; 4]], used_ms: &[[u64; 4]]) -> Vec<(bool, Reading, Reading)> {
        let at = |end: usize| {
            let sum = |each: &[u64; 4]| each[..end].iter().sum::<u64>();
            let pipes = moved.iter().enumerate();
            let processes = used_ms.iter().enumerate();
            Reading {
                at_ns: 1_000_000_000 + end as u64 * 20_000_000,
                moved: pipes.map(|(n, each)| (pipe(n as u64), sum(each))).collect(),
                cpu_time: processes.map(|(n, each)| (n as i32, sum(each) * 1_000_000)).collect(),
            }
        };
        let order = [true, false, false, true].into_iter().enumerate();
        order.map(|(n, on)| (on, at(n), at(n + 1))).collect()
    }

    #[test]
    fn the_pipe_that_moves_most_is_compared() {
        let (basis, compared) = compare(&windows(&[[0, 3, 0, 0], [90, 100, 110, 60]], &[]));
        assert_eq!(basis, Basis::Bytes);
        let Compared::Ratio(ln_ratio) = compared else { panic!("{compared:?}") };
        assert!((ln_ratio - (150.0f64 / 210.0).ln()).abs() < 1e-9, "{ln_ratio}");
    }

    #[test]
    fn windows_in_which_nothing_moved_tell_nothing() {
        assert_eq!(compare(&windows(&[[0; 4]], &[])).1, Compared::Nothing);
        assert_eq!(compare(&windows(&[[0, 5, 5, 0]], &[])).1, Compared::OneSided);
        assert_eq!(compare(&windows(&[], &[])).1, Compared::Nothing);
    }

    #[test]
    fn more_cpu_time_counts_as_slower_unless_a_process_has_no_more_to_use() {
        let (basis, compared) = compare(&windows(&[], &[[11, 10, 10, 11]]));
        assert_eq!(basis, Basis::CpuTime);
        let Compared::Ratio(ln_ratio) = compared else { panic!("{compared:?}") };
        assert!((ln_ratio + 1.1f64.ln()).abs() < 1e-9, "{ln_ratio}");
        assert_eq!(compare(&windows(&[], &[[20; 4], [3; 4]])).1, Compared::Nothing);
    }

    fn stretch(from_ns: u64, until_ns: u64, on_ns: u64, hz: u64) -> Stretch {
        Stretch { from_ns, until_ns, on_ns, hz }
    }

    #[test]
    fn samples_of_windows_stand_for_the_time_between_them_too() {
        let mut observed = Observed::default();
        observed.add(stretch(100, 200, 100, 199));
        observed.add(stretch(200, 300, 50, 199));
        observed.add(stretch(300, 400, 50, 199));
        observed.add(stretch(400, 500, 50, 499));
        assert_eq!(
            observed.stretches,
            [stretch(100, 200, 100, 199), stretch(200, 400, 100, 199), stretch(400, 500, 50, 499)]
        );
        let mut scale = Scale::new(Some(&observed), false);
        let at = [(50, 7), (150, 7), (200, 14), (399, 14), (450, 14), (600, 14)];
        for (time, expected) in at {
            assert_eq!(scale.of(7, Some(time)), expected, "at {time}");
        }
        assert_eq!(Scale::new(None, true).of(7, Some(1)), 7);
        observed.begin_at(300);
        assert_eq!(
            observed.stretches,
            [stretch(300, 400, 50, 199), stretch(400, 500, 50, 499)],
            "half of the second is left"
        );
        assert_eq!((observed.usual_hz(), observed.range_hz()), (Some(499), Some((199, 499))));
    }

    #[test]
    fn samples_of_a_clock_stand_for_the_period_that_it_had_whatever_the_kernel_wrote() {
        let observed = Observed {
            stretches: vec![stretch(0, 100, 100, 200), stretch(100, 200, 50, 1000)],
            ..Observed::default()
        };
        let mut scale = Scale::new(Some(&observed), true);
        assert_eq!(scale.of(5_000_000, Some(50)), 5_000_000);
        assert_eq!(scale.of(5_000_000, Some(150)), 2_000_000, "1 ms, for twice the time");
        assert_eq!(scale.of(1_020_000, Some(160)), 2_040_000, "right as it is");
        let mut events = Scale::new(Some(&observed), false);
        assert_eq!(events.of(5_000_000, Some(150)), 10_000_000);
    }

    #[test]
    fn the_effect_is_that_on_the_whole_watch() {
        let blocks = |hz, ln_ratio| (0..50).map(move |at_ns| Block { at_ns, hz, ln_ratio });
        let mut observed = Observed { basis: Some(Basis::Bytes), ..Observed::default() };
        observed.add(stretch(0, 100, 50, 997));
        observed.add(stretch(100, 200, 100, 199));
        observed.blocks = blocks(997, 0.8f64.ln()).chain(blocks(199, 0.96f64.ln())).collect();
        let Some(Effect::Measured { slowdown, basis: Basis::Bytes }) = observed.effect() else {
            panic!("{:?}", observed.effect());
        };
        // A quarter of 20 % and half of 4 %.
        assert!((slowdown.percent - 7.3).abs() < 0.2, "{slowdown:?}");
        observed.blocks.clear();
        assert!(matches!(observed.effect(), Some(Effect::Unknown { .. })));
        assert_eq!(Observed::default().effect(), None);
    }
}
