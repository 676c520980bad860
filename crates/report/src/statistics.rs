//! Statistics of repeated runs: the median, its confidence interval, and whether two results
//! differ.
//!
//! There are usually few runs, as each takes seconds. An interval holds the true median at
//! [`CONFIDENCE`] or more:
//!
//! - From 6 runs on it lies between two of the measured values, chosen by inverting the sign test.
//!   The only assumption is that runs are independent.
//! - With 2 to 5 there are no two such values: the smallest and largest of 5 hold the median in
//!   93.75 % of cases, those of 3 in 75 %. So it is Student's, about the mean; that assumes values
//!   spread as evenly to both sides, and where they have far outliers it is too wide rather than
//!   too narrow. It always holds the median measured (the two differ by at most one standard
//!   deviation, and the interval reaches further).
//! - One run has none.
//!
//! Two results are compared by pairs of runs that were neighbours in time: a machine that is slow
//! for a minute slows both runs of a pair.

use serde::Serialize;

/// The share of cases in which an interval is meant to hold what it is about.
pub const CONFIDENCE: f64 = 0.95;

/// Student's t for a two-sided interval of 95 % with 2, 3, 4 and 5 values.
const STUDENT: [f64; 4] = [12.706, 4.303, 3.182, 2.776];

/// What was measured, once a run. Never empty; every value is finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    values: Vec<f64>,
    sorted: Vec<f64>,
}

/// Where the median is likely to lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// In the unit of the values.
    pub low: f64,
    /// In the unit of the values.
    pub high: f64,
}

impl Interval {
    /// It lies in the interval, or at its edge.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// A median with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of all runs.
    pub median: f64,
    /// `None` of a single run.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

impl Sample {
    /// Values in the order in which they were measured; `None` where there is none, or where one
    /// is infinite or not a number.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Sample { values, sorted })
    }

    /// As they were measured.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.sorted[0]
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    /// The middle one, or half-way between the two in the middle.
    pub fn median(&self) -> f64 {
        let upper = self.sorted.len() / 2;
        let lower = (self.sorted.len() - 1) / 2;
        // Not the half of their sum, which may overflow.
        self.sorted[lower] / 2.0 + self.sorted[upper] / 2.0
    }

    /// The median, and where it is likely to lie.
    pub fn estimate(&self) -> Estimate {
        Estimate { median: self.median(), interval: self.interval() }
    }

    /// Where the median is likely to lie; `None` of a single run.
    pub fn interval(&self) -> Option<Interval> {
        let n = self.sorted.len();
        if let Some(rank) = rank_of_limits(n) {
            return Some(Interval { low: self.sorted[rank], high: self.sorted[n - 1 - rank] });
        }
        let t = *STUDENT.get(n.checked_sub(2)?)?;
        let mean = self.sorted.iter().map(|value| value / n as f64).sum::<f64>();
        let squares: f64 = self.sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let reach = t * (squares / (n - 1) as f64 / n as f64).sqrt();
        // Of values that are all the same the mean may be off by a rounding.
        let median = self.median();
        Some(Interval { low: median.min(mean - reach), high: median.max(mean + reach) })
    }
}

/// How many values lie outside the interval on either side; `None` where even all of them are too
/// few for [`CONFIDENCE`].
fn rank_of_limits(n: usize) -> Option<usize> {
    // The median has the k-th value or fewer below it as often as a coin falls k times or fewer
    // on one side. In logarithms, as 2^-n is 0 for a float from 1,075 on.
    let mut ln_once = -(n as f64) * std::f64::consts::LN_2;
    let mut outside = ln_once.exp();
    let mut rank = None;
    for k in 0..n / 2 {
        if 2.0 * outside > 1.0 - CONFIDENCE {
            break;
        }
        rank = Some(k);
        ln_once += ((n - k) as f64 / (k + 1) as f64).ln();
        outside += ln_once.exp();
    }
    rank
}

/// How much more than `a` was `b`, from runs in pairs; `None` where their numbers differ.
pub fn difference(a: &Sample, b: &Sample) -> Option<Estimate> {
    Some(paired(a, b, |a, b| b - a)?.estimate())
}

/// How many times `a` was `b`, from runs in pairs; `None` where their numbers differ, or a value
/// isn't positive.
///
/// It is the median of the ratios, not the ratio of the medians, and `ratio(b, a)` is its inverse.
pub fn ratio(a: &Sample, b: &Sample) -> Option<Estimate> {
    if a.min() <= 0.0 || b.min() <= 0.0 {
        return None;
    }
    // In logarithms twice and half are equally far from the same.
    let Estimate { median, interval } = paired(a, b, |a, b| b.ln() - a.ln())?.estimate();
    let interval =
        interval.map(|Interval { low, high }| Interval { low: low.exp(), high: high.exp() });
    Some(Estimate { median: median.exp(), interval })
}

/// Whether `a` and `b`, from runs in pairs, differ by more than chance explains: the interval of
/// their ratio doesn't hold 1 or, where there is none, that of their difference doesn't hold 0.
/// `None` where that can't be said: of a single pair, or of numbers of runs that differ.
pub fn distinguishable(a: &Sample, b: &Sample) -> Option<bool> {
    if let Some(ratio) = ratio(a, b) {
        return ratio.interval.map(|interval| !interval.holds(1.0));
    }
    difference(a, b)?.interval.map(|interval| !interval.holds(0.0))
}

fn paired(a: &Sample, b: &Sample, of: impl Fn(f64, f64) -> f64) -> Option<Sample> {
    if a.values.len() != b.values.len() {
        return None;
    }
    Sample::new(a.values.iter().zip(&b.values).map(|(&a, &b)| of(a, b)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.iter().copied()).unwrap()
    }

    #[test]
    fn nothing_and_what_is_no_number_is_no_sample() {
        for bad in [&[][..], &[1.0, f64::NAN], &[f64::INFINITY]] {
            assert_eq!(Sample::new(bad.iter().copied()), None, "{bad:?}");
        }
    }

    #[test]
    fn medians() {
        for (values, median) in [
            (&[7.0][..], 7.0),
            (&[9.0, 1.0], 5.0),
            (&[3.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 3.0, 2.0], 2.5),
            (&[f64::MAX, f64::MAX], f64::MAX),
        ] {
            assert_eq!(sample(values).median(), median, "{values:?}");
        }
        let sample = sample(&[3.0, 1.0, 2.0]);
        assert_eq!((sample.min(), sample.max()), (1.0, 3.0));
        assert_eq!(sample.values(), [3.0, 1.0, 2.0], "in the order measured");
    }

    /// From the tables of the sign test, as in Conover, Practical Nonparametric Statistics.
    #[test]
    fn ranks_are_those_of_the_sign_test() {
        for (n, rank) in [
            (1, None),
            (5, None),
            (6, Some(0)),
            (8, Some(0)),
            (9, Some(1)),
            (11, Some(1)),
            (12, Some(2)),
            (20, Some(5)),
            (25, Some(7)),
            (100, Some(39)),
            (10_000, Some(4_901)),
        ] {
            assert_eq!(rank_of_limits(n), rank, "{n}");
        }
    }

    #[test]
    fn three_runs_have_students_interval() {
        let Interval { low, high } = sample(&[9.0, 10.0, 11.0]).interval().unwrap();
        // 10 ± 4.303 × 1 ÷ √3
        assert!((low - 7.516).abs() < 0.001 && (high - 12.484).abs() < 0.001, "{low} {high}");
        assert_eq!(sample(&[9.0]).interval(), None);
    }

    #[test]
    fn told_apart_or_not() {
        let fast = sample(&[2.0, 2.1, 1.9]);
        assert_eq!(distinguishable(&sample(&[1.0, 1.05, 0.98]), &fast), Some(true));
        assert_eq!(distinguishable(&sample(&[2.1, 1.9, 2.0]), &fast), Some(false));
        assert_eq!(distinguishable(&sample(&[1.0]), &sample(&[9.0])), None, "one run of each");
        assert_eq!(distinguishable(&sample(&[1.0, 2.0]), &fast), None, "not in pairs");
        // A role that is gone has no ratio, but a difference.
        let gone = sample(&[0.0, 0.0, 0.0]);
        assert_eq!(ratio(&fast, &gone), None);
        assert_eq!(distinguishable(&fast, &gone), Some(true));
    }

    #[test]
    fn pairs_take_away_what_both_share() {
        // The machine is twice as slow in each run as in the one before.
        let a = sample(&[1.0, 2.0, 4.0, 8.0]);
        let b = sample(&[1.2, 2.38, 4.84, 9.52]);
        assert_eq!(distinguishable(&a, &b), Some(true));
        let Estimate { median, .. } = ratio(&a, &b).unwrap();
        assert!((median - 1.195).abs() < 0.01, "{median}");
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_median(values in prop::collection::vec(-1e9..1e9f64, 2..40)) {
            let sample = sample(&values);
            let interval = sample.interval().unwrap();
            prop_assert!(interval.holds(sample.median()), "{sample:?} {interval:?}");
            let same = Sample::new(vec![values[0]; 3]).unwrap();
            prop_assert!(same.interval().unwrap().holds(values[0]));
        }

        #[test]
        fn a_ratio_turned_round_is_its_inverse(
            pairs in prop::collection::vec((1e-3..1e6f64, 1e-3..1e6f64), 2..12),
        ) {
            let a = Sample::new(pairs.iter().map(|pair| pair.0)).unwrap();
            let b = Sample::new(pairs.iter().map(|pair| pair.1)).unwrap();
            let (there, back) = (ratio(&a, &b).unwrap(), ratio(&b, &a).unwrap());
            prop_assert!((there.median * back.median - 1.0).abs() < 1e-9);
            prop_assert_eq!(distinguishable(&a, &b), distinguishable(&b, &a));
        }
    }

    /// The promise itself, on skewed data: how often the interval holds the true median.
    #[test]
    fn intervals_hold_the_median_as_often_as_promised() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for n in [3, 5, 6, 10] {
            let rounds = 4000;
            let held = (0..rounds)
                .filter(|_| {
                    // Ratios of two times, each up to twice as long as it should be.
                    let log = |uniform: &mut dyn FnMut() -> f64| (1.0 + uniform().powi(2)).ln();
                    let values = (0..n).map(|_| log(&mut uniform) - log(&mut uniform));
                    Sample::new(values.collect::<Vec<_>>()).unwrap().interval().unwrap().holds(0.0)
                })
                .count();
            let share = held as f64 / f64::from(rounds);
            assert!(share > 0.93, "{n} runs: {share}");
        }
    }
}
