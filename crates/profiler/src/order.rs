//! Puts records of several rings into the order of time, round by round.
//!
//! Contract: within a round, records come ring by ring, each ring in order. A record of one round
//! is no older than any record of the round *before the previous one*, as all rings were drained
//! between the two. So at the end of a round everything up to the previous round's youngest record
//! can be given out in order. Without rounds everything is held back until [`RoundSorter::finish`].

/// Holds records back until nothing older can come.
#[derive(Debug)]
pub(crate) struct RoundSorter<T> {
    held: Vec<(u64, T)>,
    youngest: u64,
    safe_until: u64,
}

impl<T: Copy> RoundSorter<T> {
    /// Holds nothing yet.
    pub(crate) fn new() -> Self {
        RoundSorter { held: Vec::new(), youngest: 0, safe_until: 0 }
    }

    /// Takes a record of that time.
    pub(crate) fn push(&mut self, time: u64, record: T) {
        self.youngest = self.youngest.max(time);
        self.held.push((time, record));
    }

    /// Ends a round: gives out, oldest first, what no later round can precede. Records of equal
    /// time keep the order in which they came.
    pub(crate) fn end_round(&mut self, mut give: impl FnMut(T)) {
        // Stable, and fast on what is mostly sorted runs.
        self.held.sort_by_key(|&(time, _)| time);
        let safe = self.held.partition_point(|&(time, _)| time <= self.safe_until);
        for (_, record) in self.held.drain(..safe) {
            give(record);
        }
        self.safe_until = self.youngest;
    }

    /// Gives out all that is left, oldest first.
    pub(crate) fn finish(mut self, mut give: impl FnMut(T)) {
        self.held.sort_by_key(|&(time, _)| time);
        for (_, record) in self.held {
            give(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Two rings drained in rounds: all comes out once, in order.
        #[test]
        fn rounds_of_two_rings_come_out_in_order(
            mut times in prop::collection::vec(1u64..10_000, 1..400),
            rounds in 1usize..12,
        ) {
            times.sort_unstable();
            let mut sorter = RoundSorter::new();
            let mut out = Vec::new();
            let per_round = times.len().div_ceil(rounds);
            for chunk in times.chunks(per_round) {
                let (even, odd): (Vec<_>, Vec<_>) =
                    chunk.iter().enumerate().partition(|(i, _)| i % 2 == 0);
                for (_, &time) in odd.into_iter().chain(even) {
                    sorter.push(time, time);
                }
                sorter.end_round(|time| out.push(time));
            }
            sorter.finish(|time| out.push(time));
            prop_assert_eq!(out, times);
        }
    }

    #[test]
    fn a_round_holds_back_only_what_the_next_may_precede() {
        let mut sorter = RoundSorter::new();
        let mut out = Vec::new();
        sorter.push(10, 'a');
        sorter.push(20, 'c');
        sorter.end_round(|r| out.push(r));
        sorter.push(15, 'b');
        sorter.push(30, 'd');
        sorter.end_round(|r| out.push(r));
        assert_eq!(out, ['a', 'b', 'c']);
        sorter.finish(|r| out.push(r));
        assert_eq!(out, ['a', 'b', 'c', 'd']);
    }
}
