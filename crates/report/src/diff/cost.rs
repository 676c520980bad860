//! One cost on both sides, run by run, and how certain its change is.

use std::cmp::Ordering;

use serde::Serialize;

use crate::statistics::{self, Estimate, Interval, Sample};

/// Two standard errors, nearly: what a normal distribution exceeds in 5 % of cases.
const STANDARD_ERRORS: f64 = 1.96;

/// What a change amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// B costs more, by more than chance explains.
    Dearer,
    /// B costs less, by more than chance explains.
    Cheaper,
    /// Chance explains it.
    WithinNoise,
    /// A single run, of something that is not sampled: nothing says how far it varies.
    Unknown,
}

/// What an interval is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// How the runs differ from each other; never less than by their number of samples.
    Runs,
    /// How many samples a single run has. What differs from run to run is not in it.
    Samples,
}

/// A cost before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Median of A's runs.
    pub a: f64,
    /// Median of B's runs.
    pub b: f64,
    /// B − A: the median of the pairs' ratios, less one, times A's median; where something cost
    /// nothing in a run, the median of the pairs' differences.
    pub difference: f64,
    /// Where that difference is likely to lie, in 95 % of cases.
    pub interval: Option<Interval>,
    /// What the interval is drawn from.
    pub basis: Option<Basis>,
    /// What it amounts to.
    pub judgement: Judgement,
}

impl Change {
    /// It is more than chance explains.
    pub(super) fn is_clear(&self) -> bool {
        matches!(self.judgement, Judgement::Dearer | Judgement::Cheaper)
    }

    pub(super) fn size(&self) -> f64 {
        self.difference.abs()
    }

    /// The largest first.
    pub(super) fn by_size(x: &Change, y: &Change) -> Ordering {
        y.size().total_cmp(&x.size())
    }
}

/// A cost in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) cost: f64,
    /// Of the sampling, squared.
    variance: f64,
}

/// The samples of a member in one run, and what they stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// What all of them cost together.
    pub(super) cost: f64,
    pub(super) samples: u64,
    pub(super) weight: u64,
}

/// Samples of one stack, role or function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) samples: u64,
    pub(super) weight: u64,
}

impl Count {
    pub(super) fn add(&mut self, samples: u64, weight: u64) {
        self.samples += samples;
        self.weight += weight;
    }
}

impl Scale {
    /// What a part of the samples costs.
    pub(super) fn of(&self, count: Count) -> Point {
        if self.weight == 0 {
            return Point::default();
        }
        let share = count.weight as f64 / self.weight as f64;
        // Two more on either side ("plus four", Agresti and Coull 1998): none of a hundred samples
        // is no proof of nothing, and a share of 0 would have no error.
        let n = self.samples as f64 + 4.0;
        let p = (count.samples as f64 + 2.0) / n;
        Point { cost: self.cost * share, variance: self.cost.powi(2) * p * (1.0 - p).max(0.0) / n }
    }
}

/// A cost in all runs: those of A and those of B, in pairs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) a: Vec<Point>,
    pub(super) b: Vec<Point>,
    /// It is a share of samples, so a single run has an error.
    sampled: bool,
}

impl Series {
    pub(super) fn sampled(a: Vec<Point>, b: Vec<Point>) -> Self {
        Series { a, b, sampled: true }
    }

    /// What no sampling had a part in: the accounts of the scheduler, a throughput.
    pub(super) fn exact(a: &[f64], b: &[f64]) -> Self {
        let points = |costs: &[f64]| -> Vec<Point> {
            costs.iter().map(|&cost| Point { cost, variance: 0.0 }).collect()
        };
        Series { a: points(a), b: points(b), sampled: false }
    }

    /// Both together; as if their errors had nothing to do with each other.
    pub(super) fn add(&mut self, other: &Series) {
        let sides = [(&mut self.a, &other.a), (&mut self.b, &other.b)];
        for (points, others) in sides {
            for (point, other) in points.iter_mut().zip(others) {
                point.cost += other.cost;
                point.variance += other.variance;
            }
        }
    }

    /// Mean of all runs of a side, which unlike a median adds up.
    pub(super) fn mean_a(&self) -> f64 {
        mean(&self.a)
    }

    pub(super) fn mean_b(&self) -> f64 {
        mean(&self.b)
    }

    /// What can be said of the change.
    pub(super) fn change(&self) -> Change {
        let side = |points: &[Point]| Sample::new(points.iter().map(|point| point.cost));
        let (Some(a), Some(b)) = (side(&self.a), side(&self.b)) else {
            return Change {
                a: 0.0,
                b: 0.0,
                difference: 0.0,
                interval: None,
                basis: None,
                judgement: Judgement::Unknown,
            };
        };
        let single = b.median() - a.median();
        let (difference, interval, basis) = match between_runs(&a, &b) {
            Some(Estimate { median, interval: Some(interval) }) => {
                // A sample a run, three times, is no steady cost.
                let least = self.sampling(median);
                let (low, high) = (interval.low.min(least.low), interval.high.max(least.high));
                (median, Some(Interval { low, high }), Some(Basis::Runs))
            }
            _ if self.sampled => (single, Some(self.sampling(single)), Some(Basis::Samples)),
            _ => (single, None, None),
        };
        let judgement = match interval {
            None => Judgement::Unknown,
            Some(interval) if interval.holds(0.0) => Judgement::WithinNoise,
            Some(_) if difference > 0.0 => Judgement::Dearer,
            Some(_) => Judgement::Cheaper,
        };
        Change { a: a.median(), b: b.median(), difference, interval, basis, judgement }
    }

    /// By the number of samples in all runs alone.
    fn sampling(&self, difference: f64) -> Interval {
        let of_mean = |points: &[Point]| {
            let sum: f64 = points.iter().map(|point| point.variance).sum();
            sum / (points.len() as f64).powi(2)
        };
        let reach = STANDARD_ERRORS * (of_mean(&self.a) + of_mean(&self.b)).sqrt();
        Interval { low: difference - reach, high: difference + reach }
    }
}

/// The change, by pairs of runs. What slows a machine down slows a pair by a factor, so it is by
/// their ratio, of A's median; where a run cost nothing, by the difference.
fn between_runs(a: &Sample, b: &Sample) -> Option<Estimate> {
    let Some(ratio) = statistics::ratio(a, b) else { return statistics::difference(a, b) };
    let of_a = |ratio: f64| (ratio - 1.0) * a.median();
    let interval = ratio.interval.map(|at| Interval { low: of_a(at.low), high: of_a(at.high) });
    Some(Estimate { median: of_a(ratio.median), interval })
}

fn mean(points: &[Point]) -> f64 {
    points.iter().map(|point| point.cost).sum::<f64>() / points.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: u64) -> Point {
        Scale { cost: 1000.0, samples: 100, weight: 200 }.of(Count { samples, weight: 2 * samples })
    }

    fn one(a: u64, b: u64) -> Change {
        Series::sampled(vec![of(a)], vec![of(b)]).change()
    }

    #[test]
    fn a_single_run_is_judged_by_its_samples() {
        let change = one(10, 60);
        assert_eq!((change.a, change.b, change.difference), (100.0, 600.0, 500.0));
        assert_eq!((change.judgement, change.basis), (Judgement::Dearer, Some(Basis::Samples)));
        // 95 %: ± 1.96 × √(12/104 × 92/104 + 62/104 × 42/104) ÷ √104 × 1000, by hand.
        let Interval { low, high } = change.interval.unwrap();
        assert!((high - 500.0 - 112.6).abs() < 0.1 && (500.0 - low - 112.6).abs() < 0.1, "{high}");
        assert_eq!(one(60, 10).judgement, Judgement::Cheaper);
        assert_eq!(one(10, 15).judgement, Judgement::WithinNoise);
        // A sample or two where there were none is no change.
        assert_eq!(one(0, 2).judgement, Judgement::WithinNoise);
    }

    #[test]
    fn runs_are_judged_by_how_they_differ() {
        let points = |samples: &[u64]| samples.iter().map(|&samples| of(samples)).collect();
        let steady = Series::sampled(points(&[10, 11, 10]), points(&[20, 21, 20])).change();
        assert_eq!((steady.judgement, steady.basis), (Judgement::Dearer, Some(Basis::Runs)));
        // Each pair taken alone is far outside its sampling error.
        let wild = Series::sampled(points(&[10, 60, 10]), points(&[60, 10, 60])).change();
        assert_eq!(wild.judgement, Judgement::WithinNoise);
        // One sample in each run of B is no steady cost, though the runs are all alike.
        let rare = Series::sampled(points(&[0, 0, 0]), points(&[1, 1, 1])).change();
        assert_eq!(rare.judgement, Judgement::WithinNoise);
    }

    #[test]
    fn an_account_of_a_single_run_has_no_interval() {
        let change = Series::exact(&[10.0], &[20.0]).change();
        assert_eq!((change.judgement, change.interval), (Judgement::Unknown, None));
        let runs = Series::exact(&[10.0, 10.0, 10.0], &[20.0, 20.0, 20.0]).change();
        assert_eq!(runs.judgement, Judgement::Dearer);
    }
}
