//! How much sampling slows the pipeline, measured during the watch: sampling is on and off in turn,
//! in windows, while the pipeline moves bytes in both kinds of window.
//!
//! ```text
//! Plan --Block--> windows --bytes of each--> ln(with / without) --> Plan: the next frequency
//!                                                      \-> Observed --estimate--> Slowdown
//! ```
//!
//! The events stay open and count nothing while they are off. A clock keeps the rest of its period
//! (`cpu_clock_event_stop` in kernel/events/core.c, v6.18), so windows do not bias when samples are
//! taken. What each sample represents is scaled to the whole time, stretch by stretch
//! ([`Stretch`]).

mod compare;
mod estimate;
mod observe;
mod plan;

use serde::{Deserialize, Serialize};

pub use estimate::Slowdown;
pub use observe::Frequency;
pub(crate) use observe::{Measuring, Moved, Sampling};

use estimate::{Level, slowdown};

/// A time in which samples were taken at one frequency, all the time or in windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// By the clock of the records.
    pub from_ns: u64,
    /// See `from_ns`.
    pub until_ns: u64,
    /// For how long of that samples were taken.
    pub on_ns: u64,
    /// How many a second and CPU.
    pub hz: u64,
}

impl Stretch {
    fn whole_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.from_ns)
    }
}

/// What a block of windows showed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// When it ended.
    pub at_ns: u64,
    /// The frequency of its windows with sampling.
    pub hz: u64,
    /// Logarithm of how many times as fast the pipeline was in those.
    pub ln_ratio: f64,
}

/// What was measured it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Bytes through a pipe.
    Bytes,
    /// CPU time of the members, as no bytes could be counted.
    CpuTime,
}

/// What was done, and seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// All of the watch, in the order of time.
    pub stretches: Vec<Stretch>,
    /// Blocks of windows that told something.
    pub blocks: Vec<Block>,
    /// What they compare; `None` where none told anything.
    pub basis: Option<Basis>,
}

/// How much sampling slowed the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It lost so much of its throughput or, where that is the basis, needed so much more CPU time.
    Measured {
        /// How much.
        #[serde(flatten)]
        slowdown: Slowdown,
        /// By what.
        basis: Basis,
    },
    /// Not measured.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Effect {
    /// How much, where it was measured by the bytes that moved.
    pub fn slowdown(&self) -> Option<&Slowdown> {
        match self {
            Effect::Measured { slowdown, basis: Basis::Bytes } => Some(slowdown),
            _ => None,
        }
    }
}

impl Observed {
    /// What it comes to; `None` where windows were not meant to be.
    pub fn effect(&self) -> Option<Effect> {
        if self.stretches.is_empty() {
            return None;
        }
        let whole: u64 = self.stretches.iter().map(Stretch::whole_ns).sum();
        let mut frequencies: Vec<u64> = self.stretches.iter().map(|stretch| stretch.hz).collect();
        frequencies.sort_unstable();
        frequencies.dedup();
        let level = |hz: u64| {
            let at = self.stretches.iter().filter(|stretch| stretch.hz == hz);
            let on: u64 = at.map(|stretch| stretch.on_ns).sum();
            let blocks = self.blocks.iter().filter(|block| block.hz == hz);
            let ln_ratios = blocks.map(|block| block.ln_ratio).collect();
            Level { ln_ratios, share: on as f64 / whole.max(1) as f64 }
        };
        let levels: Vec<Level> = frequencies.into_iter().map(level).collect();
        let found = slowdown(&levels).zip(self.basis);
        Some(match found {
            Some((slowdown, basis)) => Effect::Measured { slowdown, basis },
            None if self.blocks.is_empty() => Effect::Unknown {
                why: match self.stretches.len() {
                    1 => TOO_SHORT,
                    _ => NOTHING_TO_COMPARE,
                }
                .to_owned(),
            },
            None => Effect::Unknown { why: TOO_SHORT.to_owned() },
        })
    }

    /// The frequency that was used for most of the time.
    pub fn usual_hz(&self) -> Option<u64> {
        let time = |hz: u64| -> u64 {
            self.stretches.iter().filter(|at| at.hz == hz).map(Stretch::whole_ns).sum()
        };
        self.stretches.iter().map(|stretch| stretch.hz).max_by_key(|&hz| time(hz))
    }

    /// The lowest and the highest frequency.
    pub fn range_hz(&self) -> Option<(u64, u64)> {
        let all = || self.stretches.iter().map(|stretch| stretch.hz);
        all().min().zip(all().max())
    }

    /// Only what came since then.
    pub(crate) fn begin_at(&mut self, at_ns: u64) {
        self.stretches.retain(|stretch| stretch.until_ns > at_ns);
        if let Some(first) = self.stretches.first_mut()
            && first.from_ns < at_ns
        {
            let (whole, left) = (first.whole_ns(), first.until_ns - at_ns);
            first.on_ns = scaled(first.on_ns, left, whole);
            first.from_ns = at_ns;
        }
        self.blocks.retain(|block| block.at_ns > at_ns);
    }

    fn add(&mut self, stretch: Stretch) {
        match self.stretches.last_mut() {
            Some(last) if last.hz == stretch.hz && is_alike(last, &stretch) => {
                last.until_ns = stretch.until_ns;
                last.on_ns += stretch.on_ns;
            }
            _ => self.stretches.push(stretch),
        }
    }
}

/// Both were sampled all the time, or both half of it; or the latter was cut short, and has no
/// share that would say anything.
fn is_alike(one: &Stretch, other: &Stretch) -> bool {
    let share = |stretch: &Stretch| stretch.on_ns as f64 / stretch.whole_ns().max(1) as f64;
    (share(one) > 0.9) == (share(other) > 0.9) || share(other) < 0.4
}

const TOO_SHORT: &str = "the watch was too short";
const NOTHING_TO_COMPARE: &str =
    "no pipe moved bytes that can be counted, or too seldom to compare windows";

fn scaled(value: u64, by: u64, of: u64) -> u64 {
    (u128::from(value) * u128::from(by) / u128::from(of.max(1))) as u64
}

/// What the period of a sample represents, where samples were taken in windows.
#[derive(Debug)]
pub(crate) struct Scale<'a> {
    stretches: &'a [Stretch],
    at: usize,
    /// Periods are nanoseconds of a clock.
    is_clock: bool,
}

impl<'a> Scale<'a> {
    pub(crate) fn new(observed: Option<&'a Observed>, is_clock: bool) -> Self {
        Scale { stretches: observed.map_or(&[], |observed| &observed.stretches), at: 0, is_clock }
    }

    /// What a period at that time stands for. Times come in order, or nearly.
    pub(crate) fn of(&mut self, period: u64, time: Option<u64>) -> u64 {
        let Some(time) = time else { return period };
        while self.stretches.get(self.at).is_some_and(|stretch| stretch.until_ns <= time)
            && self.at + 1 < self.stretches.len()
        {
            self.at += 1;
        }
        let Some(stretch) = self.stretches.get(self.at) else { return period };
        let period = self.corrected(period, stretch.hz);
        if stretch.on_ns > 0 && stretch.on_ns < stretch.whole_ns() {
            scaled(period, stretch.whole_ns(), stretch.on_ns)
        } else {
            period
        }
    }

    /// The kernel writes the period with which a clock was opened into its samples, also after it
    /// was changed: `hw.last_period` stays (`perf_swevent_hrtimer` in kernel/events/core.c, v6.18;
    /// measured).
    fn corrected(&self, period: u64, hz: u64) -> u64 {
        let due = 1_000_000_000 / hz.max(1);
        // Neighbouring CPUs differ by 2 %.
        let is_another = period.abs_diff(due) > due / 25;
        if self.is_clock && is_another { due } else { period }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(from_ns: u64, until_ns: u64, on_ns: u64, hz: u64) -> Stretch {
        Stretch { from_ns, until_ns, on_ns, hz }
    }

    #[test]
    fn samples_of_windows_stand_for_the_time_between_them_too() {
        let mut observed = Observed::default();
        observed.add(stretch(100, 200, 100, 199));
        observed.add(stretch(200, 300, 50, 199));
        observed.add(stretch(300, 400, 50, 199));
        observed.add(stretch(400, 500, 50, 499));
        assert_eq!(
            observed.stretches,
            [stretch(100, 200, 100, 199), stretch(200, 400, 100, 199), stretch(400, 500, 50, 499)]
        );
        let mut scale = Scale::new(Some(&observed), false);
        let at = [(50, 7), (150, 7), (200, 14), (399, 14), (450, 14), (600, 14)];
        for (time, expected) in at {
            assert_eq!(scale.of(7, Some(time)), expected, "at {time}");
        }
        assert_eq!(Scale::new(None, true).of(7, Some(1)), 7);
        observed.begin_at(300);
        assert_eq!(
            observed.stretches,
            [stretch(300, 400, 50, 199), stretch(400, 500, 50, 499)],
            "half of the second is left"
        );
        assert_eq!((observed.usual_hz(), observed.range_hz()), (Some(499), Some((199, 499))));
    }

    #[test]
    fn samples_of_a_clock_stand_for_the_period_that_it_had_whatever_the_kernel_wrote() {
        let observed = Observed {
            stretches: vec![stretch(0, 100, 100, 200), stretch(100, 200, 50, 1000)],
            ..Observed::default()
        };
        let mut scale = Scale::new(Some(&observed), true);
        assert_eq!(scale.of(5_000_000, Some(50)), 5_000_000);
        assert_eq!(scale.of(5_000_000, Some(150)), 2_000_000, "1 ms, for twice the time");
        assert_eq!(scale.of(1_020_000, Some(160)), 2_040_000, "right as it is");
        let mut events = Scale::new(Some(&observed), false);
        assert_eq!(events.of(5_000_000, Some(150)), 10_000_000);
    }

    #[test]
    fn the_effect_is_that_on_the_whole_watch() {
        let blocks = |hz, ln_ratio| (0..50).map(move |at_ns| Block { at_ns, hz, ln_ratio });
        let mut observed = Observed { basis: Some(Basis::Bytes), ..Observed::default() };
        observed.add(stretch(0, 100, 50, 997));
        observed.add(stretch(100, 200, 100, 199));
        observed.blocks = blocks(997, 0.8f64.ln()).chain(blocks(199, 0.96f64.ln())).collect();
        let Some(Effect::Measured { slowdown, basis: Basis::Bytes }) = observed.effect() else {
            panic!("{:?}", observed.effect());
        };
        // A quarter of 20 % and half of 4 %.
        assert!((slowdown.percent - 7.3).abs() < 0.2, "{slowdown:?}");
        observed.blocks.clear();
        assert!(matches!(observed.effect(), Some(Effect::Unknown { .. })));
        assert_eq!(Observed::default().effect(), None);
    }
}
