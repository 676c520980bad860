//! Decides from the blocks so far which frequency comes next, and whether to measure its effect. No
//! clock, no system call.
//!
//! The frequency starts low and rises a level at a time while the blocks show little slowdown. A
//! frequency that slows the pipeline by more than [`TARGET_PERCENT`] is detected within a few
//! blocks, costs little until then, and is not tried again. If the blocks scatter too much to tell,
//! the frequency stays low. Once the slowdown is known to within a percentage point, sampling stays
//! on, with a block now and then.

use std::time::Duration;

use super::estimate::{Level, Slowdown, slowdown};

/// Frequencies, each some twice the one before; primes, or nearly, so that no rhythm of programs is
/// in step with them.
const LEVELS_HZ: [u64; 5] = [47, 97, 199, 499, 997];

/// The first: the highest at which no pair was seen to lose anything beyond the error of the rounds
/// in docs/kernel-notes.md. What nothing can be measured of stays there.
const FIRST_HZ: u64 = 199;

/// A pipeline may be so much slower while it is sampled, in percent: some of 2, as the other things
/// that are recorded cost something too.
const TARGET_PERCENT: f64 = 1.5;

/// The next frequency is tried once the slowdown is probably less than this, in percent.
const BEFORE_RISE_PERCENT: f64 = 3.0;

/// After so many blocks it is enough that a slowdown is probable.
const BEFORE_DOUBT: usize = 24;

/// The slowdown is known when its interval reaches no further than this, in percent.
const KNOWN_PERCENT: f64 = 1.0;

/// Blocks in a row in which nothing moved, after which the next one is not soon.
const IDLE: u32 = 4;

/// Or after so many blocks: some pipelines are never steady.
const ENOUGH: usize = 200;

/// At the beginning sampling is on, so that something is seen of what is over soon.
const BEGINNING: Duration = Duration::from_millis(100);

/// Longest time without a block.
const MOST_ON: Duration = Duration::from_secs(30);

/// The latest blocks of a level that count: more would make it slow to notice another phase.
const LATEST: usize = 400;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// A block of windows with and without sampling.
    Block,
    /// Sampling without a break.
    On(Duration),
}

/// Chooses.
#[derive(Debug)]
pub(super) struct Plan {
    levels_hz: Vec<u64>,
    level: usize,
    /// The highest level that may be tried.
    ceiling: usize,
    /// Logarithms of ratios, by level.
    found: Vec<Vec<f64>>,
    /// Blocks that told nothing, in a row.
    idle: u32,
    began: bool,
    /// The last thing was a block.
    measured: bool,
}

impl Plan {
    /// At one frequency throughout.
    pub(super) fn fixed(hz: u64) -> Self {
        Self::of(vec![hz])
    }

    /// From low up to `most_hz`.
    pub(super) fn rising(most_hz: u64) -> Self {
        let below = LEVELS_HZ.into_iter().filter(|&hz| hz < most_hz);
        Self::of(below.chain([most_hz]).collect())
    }

    fn of(levels_hz: Vec<u64>) -> Self {
        let ceiling = levels_hz.len() - 1;
        let level = levels_hz.iter().rposition(|&hz| hz <= FIRST_HZ).unwrap_or(0);
        let found = vec![Vec::new(); levels_hz.len()];
        Plan { levels_hz, level, ceiling, found, idle: 0, began: false, measured: false }
    }

    /// What was found is of something else than what comes now.
    pub(super) fn forget(&mut self) {
        self.found.iter_mut().for_each(Vec::clear);
    }

    /// The frequency to sample at.
    pub(super) fn hz(&self) -> u64 {
        self.levels_hz[self.level]
    }

    /// The kernel grants no more than this any longer.
    pub(super) fn limit(&mut self, most_hz: u64) {
        match self.levels_hz.iter().rposition(|&hz| hz <= most_hz) {
            Some(highest) => self.ceiling = self.ceiling.min(highest),
            None => {
                self.levels_hz[0] = most_hz.max(1);
                self.ceiling = 0;
            }
        }
        self.level = self.level.min(self.ceiling);
    }

    /// What comes next, so long after the beginning. `block` is how long one takes.
    pub(super) fn next(&mut self, elapsed: Duration, block: Duration) -> Next {
        let measured = std::mem::replace(&mut self.measured, false);
        if !std::mem::replace(&mut self.began, true) {
            return Next::On(BEGINNING);
        }
        if measured && self.idle >= IDLE {
            return Next::On((10 * block).max(elapsed / 20).min(MOST_ON));
        }
        if measured && self.is_settled() {
            // A tenth of the time at first, and less and less.
            return Next::On((9 * block).max(elapsed / 20).min(MOST_ON));
        }
        self.measured = true;
        Next::Block
    }

    /// A block at the current frequency has shown this, or nothing.
    pub(super) fn add(&mut self, ln_ratio: Option<f64>) {
        let Some(ln_ratio) = ln_ratio else {
            self.idle += 1;
            return;
        };
        self.idle = 0;
        let found = &mut self.found[self.level];
        found.push(ln_ratio);
        found.drain(..found.len().saturating_sub(LATEST));
        self.choose();
    }

    fn effect(&self) -> Option<Slowdown> {
        let ln_ratios = self.found[self.level].clone();
        slowdown(&[Level { ln_ratios, share: 1.0 }])
    }

    fn choose(&mut self) {
        let Some(effect) = self.effect() else { return };
        // Some five in six: a standard error.
        let probably = (effect.high_percent - effect.low_percent) / 4.0;
        // The data are looked at after each block, and each look may be wrong: an interval of half as
        // much again has to lie above 0.
        let is_shown = effect.percent > 1.5 * (effect.percent - effect.low_percent);
        let is_dear = effect.percent > TARGET_PERCENT && is_shown
            || effect.percent - probably > TARGET_PERCENT && effect.blocks >= BEFORE_DOUBT;
        if is_dear {
            if self.level > 0 {
                self.level -= 1;
                self.ceiling = self.level;
            }
        } else if effect.percent + probably < BEFORE_RISE_PERCENT && self.level < self.ceiling {
            // What interrupts more often costs more, in proportion.
            let more = self.levels_hz[self.level + 1] as f64 / self.hz() as f64;
            if effect.low_percent * more > TARGET_PERCENT {
                self.ceiling = self.level;
            } else {
                self.level += 1;
            }
        }
    }

    fn is_settled(&self) -> bool {
        let is_known = |effect: Slowdown| {
            effect.high_percent - effect.low_percent <= 2.0 * KNOWN_PERCENT
                || effect.blocks >= ENOUGH
        };
        self.level == self.ceiling && self.effect().is_some_and(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Duration = Duration::from_millis(100);

    /// A pipeline that loses so many percent at 997 Hz, in proportion at others, as blocks show it
    /// that scatter by `spread`. The frequency at the end, the share of the time at each, and the
    /// slowdown of the whole.
    fn watched(percent: f64, spread: f64, seconds: u64, seed: u64) -> (u64, f64) {
        let mut state = seed | 1;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut plan = Plan::rising(997);
        let (mut elapsed, mut lost) = (Duration::ZERO, 0.0);
        while elapsed < Duration::from_secs(seconds) {
            let effect = percent / 100.0 * plan.hz() as f64 / 997.0;
            let took = match plan.next(elapsed, BLOCK) {
                Next::On(time) => {
                    lost += effect * time.as_secs_f64();
                    time
                }
                Next::Block => {
                    lost += effect * BLOCK.as_secs_f64() / 2.0;
                    let noise = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
                    plan.add(Some((1.0 - effect).ln() + spread * noise));
                    BLOCK
                }
            };
            elapsed += took;
        }
        (plan.hz(), 100.0 * lost / elapsed.as_secs_f64())
    }

    #[test]
    fn what_sampling_does_not_slow_is_sampled_as_often_as_may_be() {
        let most = (1..=40).filter(|&seed| watched(0.0, 0.04, 10, seed).0 == 997).count();
        assert!(most >= 26, "{most} of 40");
    }

    #[test]
    fn what_sampling_slows_loses_less_than_two_percent_of_it() {
        for percent in [5.0, 10.0, 25.0] {
            let mut lost: Vec<f64> =
                (1..=40).map(|seed| watched(percent, 0.04, 10, seed).1).collect();
            lost.sort_by(f64::total_cmp);
            assert!(lost[20] < 2.0, "{percent} %: {lost:?}");
        }
    }

    #[test]
    fn what_scatters_too_much_to_tell_stays_low() {
        let mut lost: Vec<f64> = (1..=40).map(|seed| watched(25.0, 0.3, 10, seed).1).collect();
        lost.sort_by(f64::total_cmp);
        assert!(lost[20] < 4.0, "{lost:?}");
    }

    #[test]
    fn a_frequency_that_was_asked_for_stays() {
        let mut plan = Plan::fixed(4999);
        for _ in 0..50 {
            plan.add(Some(-0.5));
        }
        assert_eq!(plan.hz(), 4999);
    }

    #[test]
    fn the_limit_of_the_kernel_is_followed_down() {
        let mut plan = Plan::rising(997);
        plan.limit(500);
        for _ in 0..100 {
            plan.add(Some(0.0));
        }
        assert_eq!(plan.hz(), 499);
        plan.limit(50);
        assert_eq!(plan.hz(), 47);
        plan.limit(10);
        assert_eq!(plan.hz(), 10);
    }

    #[test]
    fn a_pipeline_in_which_nothing_moves_is_sampled_nearly_all_the_time() {
        let mut plan = Plan::rising(997);
        let (mut blocks, mut on) = (0, Duration::ZERO);
        for _ in 0..100 {
            match plan.next(Duration::ZERO, BLOCK) {
                Next::Block => {
                    blocks += 1;
                    plan.add(None);
                }
                Next::On(time) => on += time,
            }
        }
        assert!(on > 9 * blocks * BLOCK, "{blocks} blocks, {on:?}");
    }

    #[test]
    fn what_is_known_is_measured_now_and_then() {
        let mut plan = Plan::fixed(997);
        let mut blocks_late = 0;
        let mut elapsed = Duration::ZERO;
        while elapsed < Duration::from_secs(600) {
            match plan.next(elapsed, BLOCK) {
                Next::Block => {
                    elapsed += BLOCK;
                    plan.add(Some(if blocks_late % 2 == 0 { 0.001 } else { -0.001 }));
                    blocks_late += u32::from(elapsed > Duration::from_secs(300));
                }
                Next::On(time) => elapsed += time,
            }
        }
        assert!((8..60).contains(&blocks_late), "{blocks_late}");
    }
}
