//! Turns expensive events on and off while the pipeline runs, so that they stay within a budget
//! however often they occur.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;

use crate::accounts::now_ns;
use crate::error::Error;
use crate::sys::{PerfSystem, RunningKernel};

/// A time in which the events were on, by the clock of the records, in nanoseconds.
pub type Window = (u64, u64);

/// The share of a CPU's time that the records may cost; to be there at all costs a fast pair 1 %.
const BUDGET: f64 = 0.003;

/// What one occurrence costs, measured (docs/measurement.md): the records of a switch out and in,
/// and of a wake-up.
const COST_SECONDS: f64 = 1.2e-6;

/// Occurrences a second over all CPUs beyond which the file grows too fast, some 20 MB/s.
const MOST_A_SECOND: f64 = 200_000.0;

/// Time on before the events are looked at again: some thousand switches of a fast pair.
const ON: Duration = Duration::from_millis(20);

/// The first look.
const FIRST: Duration = Duration::from_millis(10);

/// Longest time off, so that a run of some seconds has several windows.
const MOST_OFF: Duration = Duration::from_millis(480);

/// Time on that is enough to know the wake-ups of a pair so fast that its events are on by turns.
/// A tracepoint costs each wake-up of the machine something as long as its event is open, on or
/// off, so that is closed then.
const ENOUGH: Duration = Duration::from_millis(50);

/// And so many wake-ups of anybody, as the pair may have been waiting for a CPU all that time.
const ENOUGH_WAKEUPS: u64 = 2_000;

/// Its result.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// When the events were on.
    pub(crate) windows: Vec<Window>,
    /// When the tracepoints were closed, if they were.
    pub(crate) tracepoints_until: Option<u64>,
    /// Records that the tracepoints found no room for.
    pub(crate) lost: u64,
}

/// Events that are on by turns.
#[derive(Debug)]
pub(crate) struct Windows {
    stop: Sender<()>,
    thread: JoinHandle<Turns>,
}

impl Windows {
    /// Turns `tracepoints` and `costly` of the events on, and takes over. The latter count what
    /// occurs, with an event a CPU.
    ///
    /// # Errors
    /// [`Error::Control`] where no thread can be started.
    pub(crate) fn start(
        events: Arc<[OwnedFd]>,
        costly: Range<usize>,
        mut tracepoints: Vec<OwnedFd>,
    ) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let told_to_stop = move |wait| stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
        let run = move || {
            let costly = &events[costly];
            let mut turns = Turns::default();
            let mut on = FIRST;
            let mut watched = Duration::ZERO;
            loop {
                each(costly.iter().chain(&tracepoints), |event| RunningKernel.enable(event));
                let began = now_ns();
                let share = loop {
                    let (before, from) = (counts(costly), now_ns());
                    if told_to_stop(on) {
                        turns.windows.push((began, now_ns()));
                        turns.lost += lost(&tracepoints);
                        return turns;
                    }
                    let seconds = (now_ns() - from) as f64 / 1e9;
                    let share = affordable(&before, &counts(costly), seconds);
                    if share < 1.0 {
                        break share;
                    }
                    on = ON;
                };
                let ended = now_ns();
                each(costly.iter().chain(&tracepoints), |event| RunningKernel.disable(event));
                turns.windows.push((began, ended));
                watched += on;
                let enough = || counts(&tracepoints).iter().sum::<u64>() >= ENOUGH_WAKEUPS;
                if watched >= ENOUGH && !tracepoints.is_empty() && enough() {
                    turns.lost += lost(&tracepoints);
                    turns.tracepoints_until = Some(ended);
                    tracepoints.clear();
                }
                // What a long window has cost is past: the next share begins with the last look.
                let off = on.mul_f64((1.0 - share) / share).min(MOST_OFF);
                on = ON;
                if told_to_stop(off) {
                    turns.lost += lost(&tracepoints);
                    return turns;
                }
            }
        };
        let thread = std::thread::Builder::new().name("pp-windows".to_owned()).spawn(run).map_err(
            |error| Error::Control {
                action: "starting the thread that turns on",
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)),
            },
        )?;
        Ok(Windows { stop, thread })
    }

    /// Ends it. The events may be on still; the tracepoints are closed.
    ///
    /// # Errors
    /// [`Error::DrainDied`] where the thread died.
    pub(crate) fn finish(self) -> Result<Turns, Error> {
        drop(self.stop);
        self.thread.join().map_err(|_| Error::DrainDied)
    }
}

fn each<'e>(
    events: impl Iterator<Item = &'e OwnedFd>,
    control: impl Fn(BorrowedFd<'e>) -> Result<(), Errno>,
) {
    for event in events {
        // A CPU that went offline took its event along.
        let _ = control(event.as_fd());
    }
}

fn lost(events: &[OwnedFd]) -> u64 {
    events.iter().filter_map(|event| read_counts(event)?[1]).sum()
}

/// What an event counted, and what it lost where it tells
/// (struct read_format in include/uapi/linux/perf_event.h).
pub(crate) fn read_counts(event: &OwnedFd) -> Option<[Option<u64>; 2]> {
    let mut words = [0u8; 16];
    let length = nix::unistd::read(event, &mut words).ok()?;
    let word = |at: usize| words.get(at..length)?.first_chunk().map(|w| u64::from_ne_bytes(*w));
    Some([word(0), word(8)])
}

/// How often each event occurred so far.
fn counts(events: &[OwnedFd]) -> Vec<u64> {
    events
        .iter()
        .map(|event| read_counts(event).and_then(|counts| counts[0]).unwrap_or(0))
        .collect()
}

/// The share of the time that the events can be on, with an event a CPU.
fn affordable(before: &[u64], after: &[u64], seconds: f64) -> f64 {
    let seconds = seconds.max(1e-3);
    let rates = before.iter().zip(after);
    let rates = rates.map(|(before, after)| after.saturating_sub(*before) as f64 / seconds);
    let busiest = rates.clone().fold(0.0, f64::max);
    let all = rates.fold(0.0, |sum: f64, rate| sum + rate);
    (BUDGET / (busiest * COST_SECONDS)).min(MOST_A_SECOND / all).min(1.0)
}

/// The times between the windows, within `whole`.
pub(crate) fn gaps(windows: &[Window], whole: Window) -> Vec<Window> {
    let ends = std::iter::once(whole.0).chain(windows.iter().map(|window| window.1));
    let starts = windows.iter().map(|window| window.0).chain(std::iter::once(whole.1));
    ends.zip(starts).filter(|(end, start)| start > end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_cpu_and_the_sum_decide() {
        assert_eq!(affordable(&[0, 0], &[10, 10], 0.02), 1.0);
        // 100,000 switches a second cost 12 % of a CPU.
        let fast = affordable(&[0, 500], &[2_000, 500], 0.02);
        assert!((fast - BUDGET / 0.12).abs() < 1e-9, "{fast}");
        let many = affordable(&[0; 256], &[200; 256], 0.02);
        assert!((many - MOST_A_SECOND / 2_560_000.0).abs() < 1e-9, "{many}");
        assert!(affordable(&[], &[], 0.0) == 1.0);
    }

    #[test]
    fn gaps_are_what_windows_leave() {
        assert_eq!(gaps(&[(10, 20), (30, 40)], (5, 50)), [(5, 10), (20, 30), (40, 50)]);
        assert_eq!(gaps(&[(5, 50)], (5, 50)), []);
        assert_eq!(gaps(&[], (5, 50)), [(5, 50)]);
    }
}
