//! Estimates from blocks of windows with and without sampling what share of its throughput a
//! pipeline lost, with a 95 % confidence interval.
//!
//! A block yields one logarithm of a ratio; the fifths at both ends are cut off, as a host that
//! takes the CPUs for a moment makes any block an outlier, and the rest has Student's interval for
//! trimmed means (Yuen 1974). Each frequency has its own estimate, weighted by how long it was
//! used.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Of so many values those at either end are cut off.
const CUT: f64 = 0.2;

/// Blocks with which an interval is worth having.
pub(super) const FEWEST: usize = 4;

/// How much slower sampling made a pipeline, in percent of its throughput.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowdown {
    /// In the middle; below 0 where it was faster.
    pub percent: f64,
    /// Low end of the interval of 95 %.
    pub low_percent: f64,
    /// High end.
    pub high_percent: f64,
    /// Blocks of four windows that it stands on.
    pub blocks: usize,
}

/// A mean without its outliers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Trimmed {
    mean: f64,
    /// Sum of the squares about the mean, with what was cut off drawn in to the rest.
    squares: f64,
    values: usize,
    kept: usize,
}

impl Trimmed {
    fn of(values: &[f64]) -> Option<Trimmed> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = (values.len() as f64 * CUT) as usize;
        let kept = values.len() - 2 * cut;
        let (first, last) = (*sorted.get(cut)?, *sorted.get(cut + kept.checked_sub(1)?)?);
        let mean = sorted[cut..cut + kept].iter().sum::<f64>() / kept as f64;
        let drawn_in = sorted.iter().map(|value| value.clamp(first, last));
        let center = drawn_in.clone().sum::<f64>() / values.len() as f64;
        let squares = drawn_in.map(|value| (value - center).powi(2)).sum();
        Some(Trimmed { mean, squares, values: values.len(), kept })
    }
}

/// What was measured at one frequency.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Level {
    /// Logarithm, a block, of how many times as fast the pipeline was while sampled.
    pub(super) ln_ratios: Vec<f64>,
    /// The share of the whole time for which samples were taken at this frequency.
    pub(super) share: f64,
}

/// What all of them come to; `None` where too little was measured.
pub(super) fn slowdown(levels: &[Level]) -> Option<Slowdown> {
    let trimmed: Vec<(Trimmed, f64)> = levels
        .iter()
        .filter_map(|level| Some((Trimmed::of(&level.ln_ratios)?, level.share)))
        .collect();
    let blocks: usize = trimmed.iter().map(|(level, _)| level.values).sum();
    let freedom = |level: &Trimmed| level.kept.saturating_sub(1);
    let freedoms: usize = trimmed.iter().map(|(level, _)| freedom(level)).sum();
    if blocks < FEWEST || freedoms < 2 {
        return None;
    }
    // The spread is the machine's, not the frequency's, so levels of few blocks borrow it.
    let squares: f64 = trimmed.iter().map(|(level, _)| level.squares).sum();
    let spread: f64 = trimmed.iter().map(|(level, _)| level.values as f64 - 1.0).sum();
    let variance = squares / spread;
    let mut mean = 0.0;
    let mut error = 0.0;
    for (level, share) in &trimmed {
        let kept = level.kept as f64;
        mean += share * level.mean;
        error += share.powi(2) * variance * (level.values as f64 - 1.0).max(1.0)
            / (kept * (kept - 1.0).max(1.0));
    }
    let t = StudentsT::new(0.0, 1.0, freedoms as f64).ok()?.inverse_cdf(0.975);
    let reach = t * error.sqrt();
    let percent = |ln: f64| 100.0 * (1.0 - ln.exp());
    Some(Slowdown {
        percent: percent(mean),
        low_percent: percent(mean + reach),
        high_percent: percent(mean - reach),
        blocks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Normal numbers, by the sum of twelve uniform ones, with one in twenty an outlier.
    struct Noise(u64);

    impl Noise {
        fn uniform(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        fn next(&mut self, spread: f64) -> f64 {
            let normal = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
            let outlier = if self.uniform() < 0.05 { 10.0 } else { 1.0 };
            normal * spread * outlier
        }

        fn level(&mut self, slowdown: f64, share: f64, blocks: usize) -> Level {
            let ln_ratios = (0..blocks).map(|_| (1.0 - slowdown).ln() + self.next(0.05)).collect();
            Level { ln_ratios, share }
        }
    }

    #[test]
    fn intervals_hold_the_slowdown_as_often_as_promised() {
        let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
        for blocks in [6, 20, 100] {
            let rounds = 1000;
            let held = (0..rounds)
                .filter(|_| {
                    let found = slowdown(&[noise.level(0.04, 1.0, blocks)]).unwrap();
                    (found.low_percent..=found.high_percent).contains(&4.0)
                })
                .count();
            assert!(held * 100 >= rounds * 92, "{held} of {rounds} with {blocks} blocks");
        }
    }

    #[test]
    fn enough_blocks_tell_it_within_a_point_whatever_the_host_does_in_between() {
        let found = slowdown(&[Noise(7).level(0.25, 1.0, 200)]).unwrap();
        assert!((found.percent - 25.0).abs() < 1.0, "{found:?}");
        assert!(found.high_percent - found.low_percent < 3.0, "{found:?}");
    }

    #[test]
    fn what_was_sampled_half_of_the_time_slowed_the_whole_by_half_of_it() {
        let mut noise = Noise(3);
        let found = slowdown(&[noise.level(0.10, 0.5, 300), noise.level(0.0, 0.5, 300)]).unwrap();
        assert!((found.percent - 5.0).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn a_frequency_tried_for_a_moment_weighs_a_moment() {
        let mut noise = Noise(5);
        let tried = Level { ln_ratios: vec![-0.7], share: 0.01 };
        let found = slowdown(&[noise.level(0.01, 0.99, 100), tried]).unwrap();
        assert!((found.percent - 1.5).abs() < 1.0, "{found:?}");
        assert_eq!(found.blocks, 101);
    }

    #[test]
    fn a_few_blocks_tell_nothing() {
        assert_eq!(slowdown(&[]), None);
        assert_eq!(slowdown(&[Level { ln_ratios: vec![0.0; 3], share: 1.0 }]), None);
        assert_eq!(slowdown(&vec![Level { ln_ratios: vec![0.1], share: 0.2 }; 5]), None);
    }
}
