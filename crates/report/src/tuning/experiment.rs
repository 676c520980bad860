//! How a treatment is compared with the original: blocks of four windows, A B B A or B A A B by
//! chance, so that a machine that gets slower while they run slows both sides alike.
//!
//! A block yields one logarithm of a ratio. Their mean has Student's interval, at a level that is
//! shared out among all treatments and all looks at the data (Bonferroni), so that of a hundred
//! tunings in which nothing helps fewer than five claim that something does. Interim looks let a
//! clear answer end early, and the level accounts for them (Pocock 1977 would gain a little more;
//! Bonferroni holds for any correlation).

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// What runs in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// As it was found.
    Original,
    /// Changed.
    Treated,
}

/// The windows of one block, in order.
pub fn block_order(coin: bool) -> [Side; 4] {
    let (a, b) = match coin {
        true => (Side::Original, Side::Treated),
        false => (Side::Treated, Side::Original),
    };
    [a, b, b, a]
}

/// Rates of one block, bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Two windows without the treatment.
    pub original: [f64; 2],
    /// Two windows with it.
    pub treated: [f64; 2],
}

impl Block {
    /// Logarithm of how many times as fast the treated windows were; `None` where nothing moved.
    fn ln_ratio(&self) -> Option<f64> {
        let (treated, original) =
            (self.treated.iter().sum::<f64>(), self.original.iter().sum::<f64>());
        (treated > 0.0 && original > 0.0).then(|| (treated / original).ln())
    }
}

/// What was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The interval lies above 1.
    Faster,
    /// The interval lies within 3 % of 1.
    NoEffect,
    /// The interval lies below 1.
    Slower,
    /// The interval is too wide to say.
    NotEnoughData,
}

/// A treatment after some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// What was shown.
    pub outcome: Outcome,
    /// How many times as fast, in the middle.
    pub ratio: f64,
    /// Low end of the interval, 95 % for all treatments together.
    pub low: f64,
    /// High end.
    pub high: f64,
    /// Blocks that it stands on.
    pub blocks: usize,
}

/// A change of less than this is none that anybody would keep a setting for.
pub(super) const MARGIN: f64 = 0.03;

/// After so many blocks the data are looked at.
const LOOKS: [usize; 5] = [4, 6, 8, 11, 15];

/// The share of tunings that may claim anything by chance.
const ALPHA: f64 = 0.05;

/// Judges a treatment, one of so many. `None` where it is too early to look.
pub fn judge(blocks: &[Block], treatments: usize) -> Option<Judged> {
    if !LOOKS.contains(&blocks.len()) {
        return None;
    }
    let judged = interval(blocks, treatments)?;
    let is_last = blocks.len() == LOOKS[LOOKS.len() - 1];
    (judged.outcome != Outcome::NotEnoughData || is_last).then_some(judged)
}

/// What the blocks so far show, few as they may be; `None` of fewer than two that moved anything.
pub fn interval(blocks: &[Block], treatments: usize) -> Option<Judged> {
    let logs: Vec<f64> = blocks.iter().filter_map(Block::ln_ratio).collect();
    let n = logs.len();
    if n < 2 {
        return None;
    }
    let mean = logs.iter().sum::<f64>() / n as f64;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    // One more look, for where the time is up in between.
    let level = ALPHA / (treatments.max(1) * (LOOKS.len() + 1)) as f64;
    let t = StudentsT::new(0.0, 1.0, (n - 1) as f64).ok()?.inverse_cdf(1.0 - level / 2.0);
    let reach = t * (variance / n as f64).sqrt();
    let (ratio, low, high) = (mean.exp(), (mean - reach).exp(), (mean + reach).exp());
    let outcome = if low > 1.0 - MARGIN && high < 1.0 + MARGIN {
        Outcome::NoEffect
    } else if low > 1.0 {
        Outcome::Faster
    } else if high < 1.0 {
        Outcome::Slower
    } else {
        Outcome::NotEnoughData
    };
    Some(Judged { outcome, ratio, low, high, blocks: n })
}

/// Whether the original has changed for good: both of its windows in each of the last two blocks
/// were less than half, or more than twice, of what its windows before them were in the middle.
pub fn phase_changed(blocks: &[Block]) -> bool {
    let Some((earlier, latest)) = blocks.split_last_chunk::<2>() else { return false };
    let mut rates: Vec<f64> = earlier.iter().flat_map(|block| block.original).collect();
    if rates.len() < 4 {
        return false;
    }
    rates.sort_by(f64::total_cmp);
    let middle = rates[rates.len() / 2];
    let mut late = latest.iter().flat_map(|block| block.original);
    late.clone().all(|rate| rate < middle / 2.0) || late.all(|rate| rate > middle * 2.0)
}

/// The lengths that a window may have, in milliseconds.
const WINDOWS_MS: [u64; 4] = [200, 400, 800, 1600];

/// How long a window is to be, from bytes in steps of `step_ms`: the shortest in which the
/// pipeline's own rhythm evens out, so that windows differ by 5 % or less among themselves.
pub fn window(steps: &[f64], step_ms: u64) -> u64 {
    let evens_out = |&&length: &&u64| {
        let sums: Vec<f64> = steps
            .chunks_exact((length / step_ms.max(1)).max(1) as usize)
            .map(|chunk| chunk.iter().sum())
            .collect();
        let n = sums.len() as f64;
        let mean = sums.iter().sum::<f64>() / n;
        let variance = sums.iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / (n - 1.0);
        sums.len() >= 3 && mean > 0.0 && variance.sqrt() <= 0.05 * mean
    };
    // Where nothing evens out, what is watched is too short to tell its rhythm.
    *WINDOWS_MS.iter().find(evens_out).unwrap_or(&WINDOWS_MS[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Normal numbers, by the sum of twelve uniform ones.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            let uniform = |state: &mut u64| {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (*state >> 11) as f64 / (1u64 << 53) as f64
            };
            (0..12).map(|_| uniform(&mut self.0)).sum::<f64>() - 6.0
        }

        fn block(&mut self, effect: f64, spread: f64) -> Block {
            let mut rate = |factor: f64| 1e9 * factor * (spread * self.next()).exp();
            Block { original: [rate(1.0), rate(1.0)], treated: [rate(effect), rate(effect)] }
        }

        fn run(&mut self, effect: f64, spread: f64, treatments: usize) -> Judged {
            let mut blocks = Vec::new();
            loop {
                blocks.push(self.block(effect, spread));
                if let Some(judged) = judge(&blocks, treatments) {
                    return judged;
                }
            }
        }
    }

    #[test]
    fn nothing_is_claimed_where_nothing_helps() {
        let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
        let treatments = 4;
        for spread in [0.02, 0.2] {
            let wrong = (0..500)
                .filter(|_| {
                    (0..treatments).any(|_| {
                        let outcome = noise.run(1.0, spread, treatments).outcome;
                        matches!(outcome, Outcome::Faster | Outcome::Slower)
                    })
                })
                .count();
            assert!(wrong <= 25, "{wrong} of 500 at a spread of {spread}");
        }
    }

    #[test]
    fn a_clear_effect_is_found_early_and_its_interval_holds_it() {
        let mut noise = Noise(7);
        for effect in [0.7, 1.3, 2.0] {
            let judged = noise.run(effect, 0.03, 4);
            let expected = if effect > 1.0 { Outcome::Faster } else { Outcome::Slower };
            assert_eq!(judged.outcome, expected);
            assert!(
                judged.blocks <= 6 && judged.low < effect && effect < judged.high,
                "{judged:?}"
            );
        }
        assert_eq!(noise.run(1.0, 0.005, 4).outcome, Outcome::NoEffect);
        assert_eq!(noise.run(1.05, 0.5, 4).outcome, Outcome::NotEnoughData);
    }

    #[test]
    fn a_drift_of_the_machine_is_nobodys_effect() {
        // Half as fast at the end of each block as at its start.
        let blocks: Vec<Block> = (0..6)
            .map(|at| {
                let rates = [1.0, 0.83, 0.67, 0.5].map(|rate| rate * 1e9);
                let mut block = Block { original: [0.0; 2], treated: [0.0; 2] };
                let (mut a, mut b) = (0, 0);
                for (side, rate) in block_order(at % 2 == 0).into_iter().zip(rates) {
                    match side {
                        Side::Original => {
                            block.original[a] = rate;
                            a += 1;
                        }
                        Side::Treated => {
                            block.treated[b] = rate;
                            b += 1;
                        }
                    }
                }
                block
            })
            .collect();
        assert_eq!(interval(&blocks, 1).unwrap().outcome, Outcome::NoEffect);
    }

    #[test]
    fn a_pipeline_that_stops_or_starts_over_is_in_another_phase() {
        let block = |rate: f64| Block { original: [rate; 2], treated: [rate; 2] };
        let steady = [block(1.0), block(1.1), block(0.9), block(1.2)];
        assert!(!phase_changed(&steady));
        assert!(phase_changed(&[block(1.0), block(1.1), block(0.4), block(0.3)]));
        assert!(phase_changed(&[block(1.0), block(1.1), block(3.0), block(2.5)]));
        // One slow block is an accident.
        assert!(!phase_changed(&[block(1.0), block(1.1), block(1.0), block(0.1)]));
        assert!(!phase_changed(&steady[..2]));
    }

    #[test]
    fn windows_are_as_long_as_the_rhythm_wants() {
        assert_eq!(window(&[5.0; 240], 10), 200);
        // A burst every 400 ms.
        let bursts: Vec<f64> = (0..240).map(|at| if at % 40 == 0 { 9.0 } else { 0.0 }).collect();
        assert_eq!(window(&bursts, 10), 400);
        assert_eq!(window(&[], 10), 800);
        assert_eq!(window(&[0.0; 300], 10), 800);
    }
}
