//! Makes changes to a running pipeline and undoes them, window by window, and tells the guardian
//! beforehand.

use std::time::{Duration, Instant};

use pipeprof_report::tuning::{Observed, Side, Treatment, Window};
use pipeprof_runner::tuning::{Change, ChangeError, Guardian, HoldId, Restored};

use super::compare::{Limits, Measured, block_of, compare};
use super::look::Looked;
use super::subject::Subject;

pub(super) struct LiveTrial<'a> {
    pub(super) subject: &'a mut Subject,
    pub(super) guardian: Guardian,
    pub(super) seen: &'a Looked,
    pub(super) limits: &'a Limits<'a>,
    /// Made and not undone yet.
    pub(super) held: Vec<(HoldId, Change)>,
}

/// A pipe that is made smaller again has to drain first. One that does not within this is left to the
/// guardian, and nothing more can be compared with what was.
const DRAINS_WITHIN: Duration = Duration::from_secs(10);

/// The guardian is waited for no longer than this at the end.
const RESTORES_WITHIN: Duration = Duration::from_secs(2);

/// After a change the pipeline gets a fifth of a window, at least, to settle.
pub(super) fn warm_up_ms(window_ms: u64) -> u64 {
    (window_ms / 5).max(40)
}

impl LiveTrial<'_> {
    /// Compares the pipeline with and without each of these combinations.
    pub(super) fn compare(
        &mut self,
        combinations: &[Vec<Treatment>],
        family: usize,
        mut step: impl FnMut(usize),
    ) -> Vec<Measured> {
        compare(self.limits, combinations.len(), family, true, |at, windows| {
            step(at);
            // `None` also where the pipeline ended in it, and was run again.
            let block = block_of(|side| self.rate(side, &combinations[at], windows))?;
            if block.is_some() {
                self.restore()?;
            }
            Ok(block)
        })
    }

    /// The rate of a window, recorded in `windows`; `None` where it was stopped or cut short.
    fn rate(
        &mut self,
        side: Side,
        treatments: &[Treatment],
        windows: &mut Vec<Window>,
    ) -> Result<Option<f64>, String> {
        let is_stopped = self.limits.are_reached();
        let ready = match (side, self.held.is_empty()) {
            _ if is_stopped => Ok(()),
            (Side::Treated, true) => self.apply(treatments),
            (Side::Original, false) => self.restore(),
            _ => Ok(()),
        };
        let window = match (&ready, is_stopped) {
            (Ok(()), false) => self.window(side, treatments),
            _ => None,
        };
        let Some(window) = window else {
            let restored = self.restore();
            if !self.limits.is_stopped() && !self.subject.is_there() {
                return self.again().map(|()| None);
            }
            return ready.and(restored).map(|()| None);
        };
        let rate = window.bytes_per_second;
        windows.push(window);
        Ok(Some(rate))
    }

    fn again(&mut self) -> Result<(), String> {
        match self.subject.run_again(self.limits.interrupt) {
            Ok(true) => {}
            Ok(false) => self.limits.stop("the pipeline ended"),
            Err(error) => self.limits.stop(format!("{error:#}")),
        }
        Ok(())
    }

    /// Lets the pipeline settle, then counts; `None` where it ended.
    fn window(&self, side: Side, treatments: &[Treatment]) -> Option<Window> {
        let length = self.seen.window_ms;
        self.sleep(Duration::from_millis(warm_up_ms(length)));
        let before = self.passed(treatments)?;
        let at = Instant::now();
        self.sleep(Duration::from_millis(length));
        let after = self.passed(treatments)?;
        let seconds = at.elapsed().as_secs_f64();
        (self.subject.is_there() && !self.limits.interrupt.is_set()).then(|| Window {
            at_s: at.duration_since(self.limits.began).as_secs_f64(),
            side,
            bytes_per_second: (after - before).max(0.0) / seconds,
        })
    }

    /// Bytes of the payload so far, less those that are still in a pipe whose capacity is changed:
    /// a larger pipe takes in more until it is full, which makes nothing faster.
    fn passed(&self, treatments: &[Treatment]) -> Option<f64> {
        let bytes = self.subject.totals().ok()?.get(self.seen.payload)?.bytes.known()?;
        let enlarged = |treatment: &Treatment| match treatment {
            Treatment::Capacity { pipe, .. } if *pipe >= self.seen.payload => Some(*pipe),
            _ => None,
        };
        let enlarged: Vec<usize> = treatments.iter().filter_map(enlarged).collect();
        let levels = if enlarged.is_empty() { Vec::new() } else { self.subject.found.levels() };
        let lies = |pipe: usize| {
            let level = levels.get(pipe).copied().flatten()?;
            let payload_per_byte = self.seen.payload_per_byte.get(pipe).copied().flatten()?;
            Some(level.fill_bytes as f64 * payload_per_byte)
        };
        Some(bytes as f64 - enlarged.into_iter().filter_map(lies).sum::<f64>())
    }

    fn sleep(&self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until && !self.limits.interrupt.is_set() {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn apply(&mut self, treatments: &[Treatment]) -> Result<(), String> {
        for treatment in treatments {
            let applied = self.changes(treatment).and_then(|changes| {
                for change in changes {
                    let id = self.guardian.hold(&change).map_err(|source| {
                        ChangeError::Refused { what: "telling the guardian".to_owned(), source }
                    })?;
                    self.held.push((id, change.clone()));
                    change.apply()?;
                }
                Ok(())
            });
            if let Err(error) = applied {
                let _ = self.restore();
                // Members that end take their pipes with them.
                return if self.subject.is_there() { Err(told(&error)) } else { Ok(()) };
            }
        }
        Ok(())
    }

    fn changes(&self, treatment: &Treatment) -> Result<Vec<Change>, ChangeError> {
        let gone = |what: &str| ChangeError::NotFound { what: what.to_owned() };
        let process = |at: usize| self.subject.processes.get(at).copied().ok_or(gone("a member"));
        match treatment {
            Treatment::Capacity { pipe, bytes } => {
                let pipe = self.subject.found.pipeline.pipes.get(*pipe).ok_or(gone("a pipe"))?;
                let holders = pipe.readers.iter().chain(&pipe.writers).copied().collect();
                Ok(vec![Change::capacity(pipe.key(), holders, *bytes)?])
            }
            Treatment::Cpus { members, .. } => members
                .iter()
                .map(|(at, cpus)| Change::affinity(process(*at)?, cpus.clone()))
                .collect(),
            Treatment::Nice { member, by } => Ok(vec![Change::nicer(process(*member)?, *by)?]),
            // Nothing that runs is changed.
            Treatment::Line { .. } => Ok(Vec::new()),
        }
    }

    /// Takes all that is held back, last first.
    fn restore(&mut self) -> Result<(), String> {
        let until = Instant::now() + DRAINS_WITHIN;
        let mut pause = Duration::from_micros(200);
        let mut refused = None;
        let mut at = self.held.len();
        while at > 0 {
            let (id, change) = &self.held[at - 1];
            match change.restore() {
                Restored::Done => {
                    let _ = self.guardian.release(*id);
                    self.held.remove(at - 1);
                    at -= 1;
                }
                Restored::NotYet if Instant::now() < until && !self.limits.interrupt.is_set() => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(5));
                }
                Restored::NotYet => {
                    refused = Some(
                        "the larger pipe filled up and did not drain within 10 s, so its reader is \
                         the limit"
                            .to_owned(),
                    );
                    at -= 1;
                }
                Restored::Refused(errno) => {
                    refused = Some(format!("undoing it: {}", errno.desc()));
                    at -= 1;
                }
            }
        }
        match refused {
            Some(why) => {
                self.limits.stop(format!("a change could not be undone yet: {why}"));
                Err(why)
            }
            None => Ok(()),
        }
    }

    /// Makes the winners' changes for good. Whether they stand.
    pub(super) fn keep(&mut self, treatments: &[Treatment]) -> bool {
        if self.apply(treatments).is_err() || self.held.is_empty() {
            return false;
        }
        for (id, _) in self.held.drain(..) {
            let _ = self.guardian.release(id);
        }
        true
    }

    /// Restores what is left and ends the guardian. What could not be restored yet, in words.
    pub(super) fn finish(mut self, seen: &Observed) -> Vec<String> {
        let _ = self.restore();
        let left: Vec<String> =
            self.held.iter().map(|(_, change)| self.text(change, seen)).collect();
        let pid = self.guardian.pid();
        if self.guardian.finish(RESTORES_WITHIN) {
            return Vec::new();
        }
        left.into_iter().map(|what| format!("{what}; process {pid} keeps trying")).collect()
    }

    fn text(&self, change: &Change, seen: &Observed) -> String {
        match change {
            Change::Capacity { pipe, from_bytes, .. } => {
                let pipes = &self.subject.found.pipeline.pipes;
                let at = pipes.iter().position(|known| known.key() == *pipe);
                let name =
                    at.map_or_else(|| format!("pipe:[{}]", pipe.inode), |at| seen.pipe_name(at));
                let size = pipeprof_runner::size::exact(*from_bytes);
                format!("the pipe {name} holds more than its old {size}")
            }
            Change::Affinity { process, .. } => format!("the CPUs of pid {}", process.pid),
            Change::Nice { process, .. } => format!("the nice value of pid {}", process.pid),
        }
    }
}

fn told(error: &ChangeError) -> String {
    match error.hint() {
        Some(hint) => format!("{error} (hint: {hint})"),
        None => error.to_string(),
    }
}
