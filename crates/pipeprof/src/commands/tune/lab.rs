//! Makes changes and takes them back, window by window, with the guardian told beforehand.

use std::time::{Duration, Instant};

use pipeprof_report::tuning::{
    Block, Judged, Seen, Side, Treatment, Window, block_order, interval, judge, phase_changed,
};
use pipeprof_runner::tuning::{Change, ChangeError, Guardian, HoldId, Restored};

use super::look::Looked;
use super::subject::Subject;
use crate::interrupt::Interrupt;

pub(super) struct Lab<'a> {
    pub(super) subject: &'a mut Subject,
    guardian: Guardian,
    seen: &'a Looked,
    interrupt: &'a Interrupt,
    until: Instant,
    began: Instant,
    /// Made and not taken back.
    held: Vec<(HoldId, Change)>,
    /// Why nothing more is tried.
    pub(super) stopped: Option<String>,
}

/// What came of one comparison.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) judged: Option<Judged>,
    pub(super) failed: Option<String>,
    pub(super) windows: Vec<Window>,
}

impl Measured {
    pub(super) fn is_open(&self) -> bool {
        self.judged.is_none() && self.failed.is_none()
    }
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

impl<'a> Lab<'a> {
    pub(super) fn new(
        subject: &'a mut Subject,
        guardian: Guardian,
        seen: &'a Looked,
        interrupt: &'a Interrupt,
        until: Instant,
    ) -> Self {
        let (began, held) = (Instant::now(), Vec::new());
        Lab { subject, guardian, seen, interrupt, until, began, held, stopped: None }
    }

    /// Compares the pipeline with and without each of these combinations, a block of each in turn
    /// until it is judged, so that all get their share of the time. `family` comparisons share the error
    /// in all. `step` is told which is next.
    pub(super) fn compare(
        &mut self,
        combinations: &[Vec<Treatment>],
        family: usize,
        mut step: impl FnMut(usize),
    ) -> Vec<Measured> {
        let mut measured: Vec<Measured> =
            combinations.iter().map(|_| Measured::default()).collect();
        let mut blocks: Vec<Vec<Block>> = vec![Vec::new(); combinations.len()];
        while self.stopped.is_none() && measured.iter().any(Measured::is_open) {
            for (at, treatments) in combinations.iter().enumerate() {
                if self.stopped.is_some() || !measured[at].is_open() {
                    continue;
                }
                step(at);
                match self.block(treatments, &mut measured[at].windows) {
                    Ok(Some(block)) => blocks[at].push(block),
                    // The pipeline ended in it, and was run again.
                    Ok(None) => continue,
                    Err(failure) => measured[at].failed = Some(failure),
                }
                measured[at].judged = judge(&blocks[at], family);
                if phase_changed(&blocks[at]) {
                    let why = "the pipeline does something else now than before";
                    self.stopped = Some(why.to_owned());
                }
            }
        }
        for (measured, blocks) in measured.iter_mut().zip(&blocks) {
            measured.judged = measured.judged.or_else(|| interval(blocks, family));
        }
        measured
    }

    /// One block; `None` where the pipeline ended in it, and was run again.
    fn block(
        &mut self,
        treatments: &[Treatment],
        windows: &mut Vec<Window>,
    ) -> Result<Option<Block>, String> {
        let (mut original, mut treated) = (Vec::new(), Vec::new());
        for side in block_order(fastrand::bool()) {
            if self.interrupt.is_set() {
                self.stopped = Some("interrupted".to_owned());
            } else if Instant::now() >= self.until {
                self.stopped = Some("the time is up (--time)".to_owned());
            }
            let ready = match (side, self.held.is_empty()) {
                _ if self.stopped.is_some() => Ok(()),
                (Side::Treated, true) => self.apply(treatments),
                (Side::Original, false) => self.restore(),
                _ => Ok(()),
            };
            let window = match (&ready, &self.stopped) {
                (Ok(()), None) => self.window(side, treatments),
                _ => None,
            };
            let Some(window) = window else {
                let restored = self.restore();
                if self.stopped.is_none() && !self.subject.is_there() {
                    return self.again().map(|()| None);
                }
                return ready.and(restored).map(|()| None);
            };
            windows.push(window);
            match side {
                Side::Original => original.push(window.bytes_per_second),
                Side::Treated => treated.push(window.bytes_per_second),
            }
        }
        self.restore()?;
        let pair = |rates: &[f64]| <[f64; 2]>::try_from(rates).ok();
        Ok(pair(&original)
            .zip(pair(&treated))
            .map(|(original, treated)| Block { original, treated }))
    }

    fn again(&mut self) -> Result<(), String> {
        match self.subject.run_again(self.interrupt) {
            Ok(true) => {}
            Ok(false) => self.stopped = Some("the pipeline ended".to_owned()),
            Err(error) => self.stopped = Some(format!("{error:#}")),
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
        (self.subject.is_there() && !self.interrupt.is_set()).then(|| Window {
            at_s: at.duration_since(self.began).as_secs_f64(),
            side,
            bytes_per_second: (after - before).max(0.0) / seconds,
        })
    }

    /// Bytes of the payload so far, less what only lies in a pipe whose capacity is changed: a larger
    /// pipe that fills up takes more in, for a while, and makes nothing faster.
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
        while Instant::now() < until && !self.interrupt.is_set() {
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
        let gone = |what: &str| ChangeError::Gone { what: what.to_owned() };
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
                Restored::NotYet if Instant::now() < until && !self.interrupt.is_set() => {
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
                    refused = Some(format!("taking it back: {}", errno.desc()));
                    at -= 1;
                }
            }
        }
        match refused {
            Some(why) => {
                self.stopped = Some(format!("a change could not be taken back yet: {why}"));
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
    pub(super) fn finish(mut self, seen: &Seen) -> Vec<String> {
        let _ = self.restore();
        let left: Vec<String> =
            self.held.iter().map(|(_, change)| self.text(change, seen)).collect();
        let pid = self.guardian.pid();
        if self.guardian.finish(RESTORES_WITHIN) {
            return Vec::new();
        }
        left.into_iter().map(|what| format!("{what}; process {pid} keeps trying")).collect()
    }

    fn text(&self, change: &Change, seen: &Seen) -> String {
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
