//! The value of a counter, and its quality.

use serde::Serialize;

/// The counts of one member, its threads and what it started included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberCounters {
    /// Thread-group id.
    pub pid: i32,
    /// In the order of the table.
    pub counters: Vec<Counter>,
    /// Threads that came while counters were attached and are not counted, or only in part. 0 for
    /// a member that was launched.
    pub threads_missed: usize,
}

impl MemberCounters {
    /// A counter by its name in perf's spelling.
    pub fn get(&self, name: &str) -> Option<&Counter> {
        self.counters.iter().find(|counter| counter.name == name)
    }
}

/// One count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counter {
    /// In perf's spelling, and `voluntary-switches` and `involuntary-switches`.
    pub name: &'static str,
    /// What it counts.
    pub unit: CounterUnit,
    /// What happened in kernel code is not in it.
    pub user_only: bool,
    /// The count.
    #[serde(flatten)]
    pub value: CounterValue,
}

/// What a count counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterUnit {
    /// Occurrences of the event.
    Occurrences,
    /// Nanoseconds.
    Nanoseconds,
}

/// A count, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CounterValue {
    /// All that happened.
    Exact {
        /// In the counter's unit.
        value: u64,
    },
    /// Scaled up from a part, because the PMU had to be shared (multiplexing).
    Estimate {
        /// In the counter's unit, scaled.
        value: u64,
        /// The part of the time in which it really counted, above 0 and below 1.
        running_share: f64,
    },
    /// This machine, or this user, can't count it.
    NotSupported {
        /// Why. One line.
        reason: String,
        /// A command that changes that.
        hint: Option<String>,
    },
    /// It could be counted, but was not.
    NotCounted {
        /// Why. One line.
        reason: String,
    },
}

impl CounterValue {
    /// The number, estimated or not.
    pub fn number(&self) -> Option<u64> {
        match *self {
            CounterValue::Exact { value } | CounterValue::Estimate { value, .. } => Some(value),
            CounterValue::NotSupported { .. } | CounterValue::NotCounted { .. } => None,
        }
    }

    /// The number, if nothing is missing from it.
    pub fn exact(&self) -> Option<u64> {
        match *self {
            CounterValue::Exact { value } => Some(value),
            _ => None,
        }
    }
}

/// A count as the kernel gives it: `PERF_FORMAT_TOTAL_TIME_ENABLED | _RUNNING`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawCount {
    pub(super) count: u64,
    /// Time on a CPU while the event was enabled.
    pub(super) enabled_ns: u64,
    /// The part of it in which the event had a hardware counter.
    pub(super) running_ns: u64,
}

impl RawCount {
    pub(super) const BYTES: usize = 3 * size_of::<u64>();

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        RawCount {
            count: u64::from_ne_bytes(words[0]),
            enabled_ns: u64::from_ne_bytes(words[1]),
            running_ns: u64::from_ne_bytes(words[2]),
        }
    }

    /// Adds another thread's, as the kernel adds those of inherited events.
    pub(super) fn add(&mut self, other: RawCount) {
        self.count = self.count.saturating_add(other.count);
        self.enabled_ns = self.enabled_ns.saturating_add(other.enabled_ns);
        self.running_ns = self.running_ns.saturating_add(other.running_ns);
    }

    pub(super) fn value(self) -> CounterValue {
        let RawCount { count, enabled_ns, running_ns } = self;
        if running_ns >= enabled_ns {
            return CounterValue::Exact { value: count };
        }
        if running_ns == 0 {
            return CounterValue::NotCounted {
                reason: "it never got a hardware counter: other users hold them all".to_owned(),
            };
        }
        let scaled = u128::from(count) * u128::from(enabled_ns) / u128::from(running_ns);
        CounterValue::Estimate {
            value: u64::try_from(scaled).unwrap_or(u64::MAX),
            running_share: running_ns as f64 / enabled_ns as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(count: u64, enabled_ns: u64, running_ns: u64) -> CounterValue {
        RawCount { count, enabled_ns, running_ns }.value()
    }

    #[test]
    fn a_shared_counter_is_scaled_and_says_so() {
        assert_eq!(value(7, 100, 100), CounterValue::Exact { value: 7 });
        assert_eq!(
            value(100, 1_000, 250),
            CounterValue::Estimate { value: 400, running_share: 0.25 }
        );
        // Beyond 64 bits on the way, not in the end.
        let large = value(1 << 60, 1 << 40, 1 << 39);
        assert_eq!(large.number(), Some(1 << 61));
        assert_eq!(large.exact(), None);
        assert_eq!(value(u64::MAX, 3, 1).number(), Some(u64::MAX));
    }

    #[test]
    fn a_member_that_never_ran_counted_nothing() {
        assert_eq!(value(0, 0, 0), CounterValue::Exact { value: 0 });
    }

    #[test]
    fn a_counter_that_never_ran_is_no_zero() {
        assert!(matches!(value(0, 1_000, 0), CounterValue::NotCounted { .. }));
    }

    #[test]
    fn threads_add_up_before_they_are_scaled() {
        let mut sum = RawCount { count: 10, enabled_ns: 100, running_ns: 100 };
        sum.add(RawCount { count: 0, enabled_ns: 100, running_ns: 0 });
        assert_eq!(sum.value(), CounterValue::Estimate { value: 20, running_share: 0.5 });
    }

    #[test]
    fn the_kernels_bytes_are_three_words() {
        let mut bytes = [0; RawCount::BYTES];
        for (word, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([5_u64, 6, 7]) {
            *word = number.to_ne_bytes();
        }
        assert_eq!(
            RawCount::from_bytes(bytes),
            RawCount { count: 5, enabled_ns: 6, running_ns: 7 }
        );
    }
}
