//! How many call chains were truncated at the depth limit.

use crate::recording::UNKNOWN_DEPTH;

/// The default of `kernel.perf_event_max_stack` (kernel/events/callchain.c, v6.18). Users who
/// change it usually raise it.
const DEFAULT_LIMIT: u64 = 127;

/// Call chains as deep as the limit. Where the limit is not known it is the depth of the deepest,
/// unless no chain is as deep as the default.
#[derive(Debug)]
pub(crate) struct Depths {
    limit: Option<u64>,
    deepest: u64,
    /// As deep as the limit, or as the deepest.
    cut: u64,
}

impl Depths {
    /// Of chains that were cut at a limit, or at [`UNKNOWN_DEPTH`].
    pub(crate) fn new(limit: u64) -> Self {
        let limit = Some(limit).filter(|&limit| limit != UNKNOWN_DEPTH);
        Depths { limit, deepest: DEFAULT_LIMIT, cut: 0 }
    }

    /// Chains of less depth need not be added.
    pub(crate) fn least(&self) -> u64 {
        self.limit.unwrap_or(self.deepest)
    }

    /// Adds a chain of that many addresses.
    pub(crate) fn add(&mut self, depth: u64) {
        if self.limit.is_none() && depth > self.deepest {
            (self.deepest, self.cut) = (depth, 0);
        }
        self.cut += u64::from(depth >= self.least());
    }

    /// Chains that were cut.
    pub(crate) fn cut(&self) -> u64 {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: u64, depths: &[u64]) -> u64 {
        let mut all = Depths::new(limit);
        depths.iter().for_each(|&depth| all.add(depth));
        all.cut()
    }

    #[test]
    fn chains_as_deep_as_the_limit_were_cut() {
        assert_eq!(cut(16, &[3, 16, 15, 16]), 2);
        assert_eq!(cut(1024, &[127, 127, 300]), 0);
    }

    #[test]
    fn an_unknown_limit_is_the_depth_of_the_deepest() {
        assert_eq!(cut(UNKNOWN_DEPTH, &[127, 3, 127]), 2);
        assert_eq!(cut(UNKNOWN_DEPTH, &[127, 200, 127, 200]), 2);
        assert_eq!(cut(UNKNOWN_DEPTH, &[100, 100]), 0);
    }
}
