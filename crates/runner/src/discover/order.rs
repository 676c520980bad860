//! Upstream first.

use std::collections::BTreeSet;

/// Orders the nodes `0..count` so that each comes after all that flow into it. Among those that
/// could come next, the one with the least `rank` does; where a cycle leaves none, the one of least
/// rank among those with the fewest sources left.
pub(super) fn upstream_first<K: Ord>(
    count: usize,
    edges: &BTreeSet<(usize, usize)>,
    rank: impl Fn(usize) -> K,
) -> Vec<usize> {
    let mut left: BTreeSet<usize> = (0..count).collect();
    let mut order = Vec::with_capacity(count);
    let mut sources = vec![0_usize; count];
    for &(from, to) in edges {
        if from != to {
            sources[to] += 1;
        }
    }
    while let Some(&next) = left.iter().min_by_key(|&&node| (sources[node], rank(node))) {
        left.remove(&next);
        order.push(next);
        for &(_, to) in edges.range((next, 0)..=(next, usize::MAX)) {
            if to != next {
                sources[to] = sources[to].saturating_sub(1);
            }
        }
    }
    order
}
