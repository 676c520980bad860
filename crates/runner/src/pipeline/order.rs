//! Upstream first: the one place that says who comes before whom.

use std::collections::BTreeSet;

/// Orders the nodes `0..count` so that each comes after all that flow into it. Among those that
/// could come next, the one with the least `rank` does; where a cycle leaves none, the one of least
/// rank among those with the fewest sources left.
pub fn upstream_first<K: Ord>(
    count: usize,
    edges: &BTreeSet<(usize, usize)>,
    rank: impl Fn(usize) -> K,
) -> Vec<usize> {
    let mut sources = vec![0_usize; count];
    for &(from, to) in edges {
        if from != to {
            sources[to] += 1;
        }
    }
    let mut left: BTreeSet<(usize, K, usize)> =
        (0..count).map(|node| (sources[node], rank(node), node)).collect();
    let mut is_left = vec![true; count];
    let mut order = Vec::with_capacity(count);
    while let Some((_, _, next)) = left.pop_first() {
        is_left[next] = false;
        order.push(next);
        for &(_, to) in edges.range((next, 0)..=(next, usize::MAX)) {
            if is_left[to] {
                left.remove(&(sources[to], rank(to), to));
                sources[to] -= 1;
                left.insert((sources[to], rank(to), to));
            }
        }
    }
    order
}

/// For each node how many steps it is from the beginning, by the longest way: one more than the
/// furthest of those that flow into it. In a cycle the count ends where the order closes it.
pub fn steps_downstream(count: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<usize> {
    let order = upstream_first(count, edges, |node| node);
    let mut place = vec![0; count];
    for (at, &node) in order.iter().enumerate() {
        place[node] = at;
    }
    let mut steps = vec![0; count];
    for &from in &order {
        for &(_, to) in edges.range((from, 0)..=(from, usize::MAX)) {
            if place[to] > place[from] {
                steps[to] = steps[to].max(steps[from] + 1);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_comes_after_all_that_flow_into_it() {
        let diamond = BTreeSet::from([(3, 1), (3, 2), (1, 0), (2, 0)]);
        assert_eq!(upstream_first(4, &diamond, |node| node), [3, 1, 2, 0]);
        assert_eq!(upstream_first(4, &diamond, |node| 9 - node), [3, 2, 1, 0]);
        assert_eq!(steps_downstream(4, &diamond), [2, 1, 1, 0]);
    }

    #[test]
    fn a_cycle_and_a_self_loop_end() {
        let cycle = BTreeSet::from([(0, 1), (1, 2), (2, 1), (0, 0)]);
        assert_eq!(upstream_first(3, &cycle, |node| node), [0, 1, 2]);
        assert_eq!(steps_downstream(3, &cycle), [0, 1, 2]);
    }
}
