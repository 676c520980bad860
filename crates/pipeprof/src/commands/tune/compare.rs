//! Compares alternatives with the original, a block of each in turn, until each is judged.

use std::cell::RefCell;
use std::time::Instant;

use pipeprof_report::tuning::{
    Block, Judged, Side, Window, block_order, interval, judge, phase_changed,
};

use crate::interrupt::Interrupt;

/// The result of one comparison.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) judged: Option<Judged>,
    pub(super) failed: Option<String>,
    pub(super) windows: Vec<Window>,
}

impl Measured {
    fn is_open(&self) -> bool {
        self.judged.is_none() && self.failed.is_none()
    }
}

/// When the comparison ends.
pub(super) struct Limits<'a> {
    pub(super) interrupt: &'a Interrupt,
    until: Instant,
    pub(super) began: Instant,
    stopped: RefCell<Option<String>>,
}

impl<'a> Limits<'a> {
    pub(super) fn new(interrupt: &'a Interrupt, until: Instant) -> Self {
        Limits { interrupt, until, began: Instant::now(), stopped: RefCell::default() }
    }

    pub(super) fn stop(&self, why: impl Into<String>) {
        *self.stopped.borrow_mut() = Some(why.into());
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    /// Whether it has been stopped, or is now.
    pub(super) fn are_reached(&self) -> bool {
        if self.interrupt.is_set() {
            self.stop("interrupted");
        } else if Instant::now() >= self.until {
            self.stop("the time is up (--time)");
        }
        self.is_stopped()
    }

    /// Why the comparison stopped.
    pub(super) fn stopped(&self) -> Option<String> {
        self.stopped.take()
    }
}

/// Compares this many alternatives, each with its share of the time. `family` comparisons share the
/// error. If one pipeline `goes_on` from block to block, a change in its behaviour ends the
/// comparison. `block` takes a block of the alternative at this index; `None` if it was cut short.
pub(super) fn compare(
    limits: &Limits<'_>,
    count: usize,
    family: usize,
    goes_on: bool,
    mut block: impl FnMut(usize, &mut Vec<Window>) -> Result<Option<Block>, String>,
) -> Vec<Measured> {
    let mut measured: Vec<Measured> = (0..count).map(|_| Measured::default()).collect();
    let mut blocks: Vec<Vec<Block>> = vec![Vec::new(); count];
    while !limits.is_stopped() && measured.iter().any(Measured::is_open) {
        for (at, (measured, blocks)) in measured.iter_mut().zip(&mut blocks).enumerate() {
            if limits.is_stopped() || !measured.is_open() {
                continue;
            }
            match block(at, &mut measured.windows) {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => continue,
                Err(failure) => measured.failed = Some(failure),
            }
            measured.judged = judge(blocks, family);
            if goes_on && phase_changed(blocks) {
                limits.stop("the pipeline behaves differently from before");
            }
        }
    }
    for (measured, blocks) in measured.iter_mut().zip(&blocks) {
        measured.judged = measured.judged.or_else(|| interval(blocks, family));
    }
    measured
}

/// The rates of a block, in an order by chance; `None` where one is missing.
pub(super) fn block_of(
    mut rate: impl FnMut(Side) -> Result<Option<f64>, String>,
) -> Result<Option<Block>, String> {
    let (mut original, mut treated) = (Vec::new(), Vec::new());
    for side in block_order(fastrand::bool()) {
        let Some(rate) = rate(side)? else { return Ok(None) };
        match side {
            Side::Original => original.push(rate),
            Side::Treated => treated.push(rate),
        }
    }
    let pair = |rates: Vec<f64>| <[f64; 2]>::try_from(rates).ok();
    Ok(pair(original).zip(pair(treated)).map(|(original, treated)| Block { original, treated }))
}
