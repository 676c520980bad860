//! Which thread woke which, and how long the woken thread waited for a CPU.
//!
//! `sched:sched_waking` is hit in the context of the waker, on its CPU (`try_to_wake_up` in
//! kernel/sched/core.c, v6.18), so the sample's thread is the waker; `sched_wakeup` may be hit
//! later, on the CPU of the woken thread, by any thread that an interrupt found there.
//!
//! The event is bound to CPUs, not to threads: bound to a thread it would be delivered twice where
//! both are watched, to the waker and, as the tracepoint names its task, to the woken
//! (`perf_tp_event` in kernel/events/core.c, v6.18), and it would make each context switch of the
//! thread dearer even while it is off.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::tracepoints::{Field, Tracefs, Tracepoint};

/// How to read the records of wake-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeFormat {
    /// The thread that is woken.
    woken: Field,
    /// Interrupt state of the waker.
    flags: Field,
}

/// The tracepoint of wake-ups.
///
/// # Errors
/// Why it cannot be used, as a sentence.
pub(crate) fn tracepoint() -> Result<(Tracefs, Tracepoint, WakeFormat), String> {
    let tracefs = Tracefs::find()?;
    let waking = tracefs.tracepoint("sched", "sched_waking")?;
    let format = WakeFormat { woken: waking.field("pid")?, flags: waking.field("common_flags")? };
    Ok((tracefs, waking, format))
}

/// `TRACE_FLAG_HARDIRQ | TRACE_FLAG_SOFTIRQ | TRACE_FLAG_NMI` (include/linux/trace_events.h,
/// v5.10 to v6.18).
const IN_INTERRUPT: i64 = 0x08 | 0x10 | 0x40;

impl WakeFormat {
    /// The two fields.
    #[cfg(test)]
    pub(crate) fn at(woken: Field, flags: Field) -> Self {
        WakeFormat { woken, flags }
    }

    /// The woken thread.
    pub(crate) fn woken(self, raw: &[u8]) -> Option<i32> {
        self.read(raw).map(|(woken, _)| woken)
    }

    /// The woken thread, and whether an interrupt woke it, whatever thread it interrupted.
    fn read(self, raw: &[u8]) -> Option<(i32, bool)> {
        let woken = i32::try_from(self.woken.read(raw)?).ok()?;
        Some((woken, self.flags.read(raw)? & IN_INTERRUPT != 0))
    }
}

/// Who woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waker {
    /// A thread of a member, by its index in the profile.
    Member(usize),
    /// A thread of nobody in the pipeline.
    Stranger,
    /// An interrupt: a timer, a disk, the network.
    Interrupt,
}

/// Wake-ups of one member by one waker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WakeupEdge {
    /// Who woke.
    pub waker: Waker,
    /// The member whose threads were woken, by its index in the profile.
    pub woken_member: usize,
    /// Wake-ups in the watched time.
    pub count: u64,
    /// Time from the wake-up to the CPU.
    pub latency: Option<Latency>,
}

/// Time from the call that wakes a thread to that thread's switch-in: the way through the
/// scheduler, the interrupt to another CPU, that CPU's way out of idle, and the wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How many were seen from end to end.
    pub count: u64,
    /// Half took less; within 2 %.
    pub median_ns: u64,
    /// One in a hundred took more; within 2 %.
    pub p99_ns: u64,
    /// The longest, exactly.
    pub max_ns: u64,
    /// All together, exactly.
    pub sum_ns: u64,
}

/// What is known of wake-ups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wakeups {
    /// Nothing.
    Unknown {
        /// Why, with the fix where there is one.
        why: String,
    },
    /// Who woke whom.
    Known {
        /// Most wake-ups first.
        edges: Vec<WakeupEdge>,
        /// Time in which wake-ups were recorded, in nanoseconds. Counts are of this time: where it
        /// is less than the whole, divide by it and not by the whole.
        watched_ns: u64,
    },
}

/// Counts values by size, to two digits and in bounded memory: 32 buckets a power of two.
#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    max: u64,
    sum: u64,
}

/// Bits of a value below its leading one that tell buckets apart.
const DETAIL: u32 = 5;

impl Histogram {
    fn add(&mut self, value: u64) {
        *self.buckets.entry(bucket(value)).or_default() += 1;
        self.count += 1;
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value);
    }

    /// The middle of the bucket that a share of the values lies at or below.
    fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for (&bucket, &count) in &self.buckets {
            below += count;
            if below >= rank {
                return middle(bucket).min(self.max);
            }
        }
        self.max
    }

    fn latency(&self) -> Option<Latency> {
        (self.count > 0).then(|| Latency {
            count: self.count,
            median_ns: self.quantile(0.5),
            p99_ns: self.quantile(0.99),
            max_ns: self.max,
            sum_ns: self.sum,
        })
    }
}

fn bucket(value: u64) -> u16 {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(DETAIL + 1);
    ((u64::from(shift) << DETAIL) + (value >> shift)) as u16
}

fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> DETAIL).saturating_sub(1);
    let low = (bucket - (shift << DETAIL)) << shift;
    low + ((1 << shift) >> 1)
}

/// Gathers edges as records go by in the order of time.
#[derive(Debug, Default)]
pub(crate) struct WakeTracker {
    edges: FxHashMap<(Waker, usize), (u64, Histogram)>,
    /// Woken threads that have not got a CPU yet.
    pending: FxHashMap<i32, (u64, Waker, usize)>,
    /// The events are turned off one after the other, so some records are of the gap already, and
    /// what would answer them is not.
    blind_until: u64,
}

impl WakeTracker {
    /// A wake-up. `waker` is the thread that the record is of; `member` tells whose a thread is.
    /// `None` where the record is too short.
    pub(crate) fn woken(
        &mut self,
        format: WakeFormat,
        raw: &[u8],
        waker: i32,
        time: u64,
        member: impl Fn(i32) -> Option<usize>,
    ) -> Option<()> {
        let (woken, interrupt) = format.read(raw)?;
        let Some(woken_member) = member(woken) else { return Some(()) };
        let waker = match member(waker) {
            _ if interrupt => Waker::Interrupt,
            Some(member) => Waker::Member(member),
            None => Waker::Stranger,
        };
        if time >= self.blind_until {
            self.edges.entry((waker, woken_member)).or_default().0 += 1;
            self.pending.insert(woken, (time, waker, woken_member));
        }
        Some(())
    }

    /// A thread got a CPU, or left it. One that leaves it after its wake-up had never slept: it was
    /// woken on its way out, and stayed.
    pub(crate) fn switched(&mut self, tid: i32, out: bool, time: u64) {
        let Some((since, waker, woken)) = self.pending.remove(&tid) else { return };
        if !out && let Some((_, histogram)) = self.edges.get_mut(&(waker, woken)) {
            histogram.add(time.saturating_sub(since));
        }
    }

    /// Records are missing from here on until then.
    pub(crate) fn gap(&mut self, until: u64) {
        self.pending.clear();
        self.blind_until = until;
    }

    pub(crate) fn finish(self) -> Vec<WakeupEdge> {
        let edge = |((waker, woken_member), (count, histogram)): (_, (u64, Histogram))| {
            WakeupEdge { waker, woken_member, count, latency: histogram.latency() }
        };
        let mut edges: Vec<WakeupEdge> = self.edges.into_iter().map(edge).collect();
        edges.sort_by_key(|edge| (u64::MAX - edge.count, edge.woken_member, edge.waker));
        edges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_within_two_percent(
            mut values in prop::collection::vec(0u64..1 << 40, 1..500),
            share in 0.01f64..1.0,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.add(value));
            values.sort_unstable();
            let rank = (values.len() as f64 * share).ceil() as usize;
            let exact = values[rank.clamp(1, values.len()) - 1];
            let found = histogram.quantile(share);
            prop_assert!(found.abs_diff(exact) * 50 <= exact, "{found} for {exact}");
            prop_assert_eq!(histogram.sum, values.iter().sum::<u64>());
        }
    }

    #[test]
    fn buckets_are_bounded_and_in_order() {
        assert!(bucket(u64::MAX) < 2048);
        for value in [0, 1, 31, 32, 33, 63, 64, 65, 1000, 1 << 40] {
            assert!(bucket(value) <= bucket(value + 1), "{value}");
        }
    }

    const FORMAT: WakeFormat = WakeFormat {
        woken: Field { offset: 4, size: 4, signed: true },
        flags: Field { offset: 0, size: 1, signed: false },
    };

    fn record(flags: u8, woken: i32) -> Vec<u8> {
        let mut raw = vec![flags, 0, 0, 0];
        raw.extend_from_slice(&woken.to_ne_bytes());
        raw
    }

    #[test]
    fn a_wake_up_lasts_until_the_thread_has_a_cpu() {
        let member = |tid: i32| (10..20).contains(&tid).then_some((tid / 5 - 2) as usize);
        let mut tracker = WakeTracker::default();
        let woken = |tracker: &mut WakeTracker, flags, waker, woken, time| {
            tracker.woken(FORMAT, &record(flags, woken), waker, time, member)
        };
        for time in [1_000, 2_000] {
            woken(&mut tracker, 1, 10, 15, time).unwrap();
            tracker.switched(15, false, time + 300);
        }
        // By a timer that interrupted a member; by a stranger, before a gap; of a stranger.
        woken(&mut tracker, 0x10, 10, 15, 5_000).unwrap();
        // Woken on its way out, so that the next switch-in ends another sleep.
        tracker.switched(15, true, 5_100);
        tracker.switched(15, false, 9_000);
        woken(&mut tracker, 0, 99, 10, 9_500).unwrap();
        tracker.gap(9_800);
        // Still recorded, as the events go off one by one; its answer is not.
        woken(&mut tracker, 1, 10, 15, 9_700).unwrap();
        tracker.switched(10, false, 9_900);
        tracker.switched(15, false, 9_900);
        woken(&mut tracker, 0, 10, 99, 9_950).unwrap();
        assert_eq!(tracker.woken(FORMAT, &[0, 0], 10, 0, member), None);
        let edges = tracker.finish();
        assert_eq!(edges.len(), 3, "{edges:?}");
        assert_eq!((edges[0].waker, edges[0].woken_member), (Waker::Member(0), 1));
        let latency = edges[0].latency.unwrap();
        assert_eq!((edges[0].count, latency.count, latency.sum_ns), (2, 2, 600));
        assert!(latency.median_ns.abs_diff(300) <= 6, "{latency:?}");
        assert_eq!((edges[1].waker, edges[1].latency), (Waker::Stranger, None));
        assert_eq!((edges[2].waker, edges[2].latency), (Waker::Interrupt, None));
    }
}
