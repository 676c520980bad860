//! Compares alternatives with the original, a block of each in turn, until each is judged.

use std::time::Instant;

use pipeprof_report::tuning::{
    Block, Judged, Side, Window, block_order, interval, judge, phase_changed,
};

use crate::interrupt::Interrupt;

/// What came of one comparison.
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

/// How long comparing may go on.
pub(super) struct Limits<'a> {
    pub(super) interrupt: &'a Interrupt,
    until: Instant,
    pub(super) began: Instant,
    /// Why nothing more is compared.
    pub(super) stopped: Option<String>,
}

impl<'a> Limits<'a> {
    pub(super) fn new(interrupt: &'a Interrupt, until: Instant) -> Self {
        Limits { interrupt, until, began: Instant::now(), stopped: None }
    }

    /// Whether it has been stopped, or is now.
    pub(super) fn are_reached(&mut self) -> bool {
        if self.interrupt.is_set() {
            self.stopped = Some("interrupted".to_owned());
        } else if Instant::now() >= self.until {
            self.stopped = Some("the time is up (--time)".to_owned());
        }
        self.stopped.is_some()
    }
}

/// Measures the original beside alternatives.
pub(super) trait Trial<'a> {
    /// One pipeline goes on from block to block, so what it does may change.
    const GOES_ON: bool;

    fn limits(&mut self) -> &mut Limits<'a>;

    /// A block of the alternative at this place; `None` where that was cut short.
    fn block(
        &mut self,
        alternative: usize,
        windows: &mut Vec<Window>,
    ) -> Result<Option<Block>, String>;
}

/// Compares so many alternatives, so that all get their share of the time. `family` comparisons
/// share the error in all. `step` is told which is next.
pub(super) fn compare<'a, T: Trial<'a>>(
    trial: &mut T,
    alternatives: usize,
    family: usize,
    mut step: impl FnMut(usize),
) -> Vec<Measured> {
    let mut measured: Vec<Measured> = (0..alternatives).map(|_| Measured::default()).collect();
    let mut blocks: Vec<Vec<Block>> = vec![Vec::new(); alternatives];
    while trial.limits().stopped.is_none() && measured.iter().any(Measured::is_open) {
        for (at, (measured, blocks)) in measured.iter_mut().zip(&mut blocks).enumerate() {
            if trial.limits().stopped.is_some() || !measured.is_open() {
                continue;
            }
            step(at);
            match trial.block(at, &mut measured.windows) {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => continue,
                Err(failure) => measured.failed = Some(failure),
            }
            measured.judged = judge(blocks, family);
            if T::GOES_ON && phase_changed(blocks) {
                let why = "the pipeline does something else now than before";
                trial.limits().stopped = Some(why.to_owned());
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
