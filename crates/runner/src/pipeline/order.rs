//! The order of members, upstream first.

use std::collections::BTreeSet;

/// Orders the nodes `0..count` so that each comes after all that flow into it. Among those that
/// could come next, the first does; where a cycle leaves none, the first of those with the fewest
/// sources left.
fn upstream_first(count: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<usize> {
    let mut sources = vec![0_usize; count];
    for &(from, to) in edges {
        if from != to {
            sources[to] += 1;
        }
    }
    let mut left: BTreeSet<(usize, usize)> = (0..count).map(|node| (sources[node], node)).collect();
    let mut is_left = vec![true; count];
    let mut order = Vec::with_capacity(count);
    while let Some((_, next)) = left.pop_first() {
        is_left[next] = false;
        order.push(next);
        for &(_, to) in edges.range((next, 0)..=(next, usize::MAX)) {
            if is_left[to] {
                left.remove(&(sources[to], to));
                sources[to] -= 1;
                left.insert((sources[to], to));
            }
        }
    }
    order
}

/// Likewise, of members `0..count` and the pipes between them, each with the members that write and
/// those that read; in time that grows with the ends, of which a pipe may have thousands on both sides.
/// Among those that could come next, the first does; where a cycle leaves none, the first of those
/// that read from the fewest pipes with a writer left.
pub fn along_pipes<'a>(
    count: usize,
    pipes: impl ExactSizeIterator<Item = (&'a [usize], &'a [usize])>,
) -> Vec<usize> {
    let mut pipes_left = vec![0_usize; count];
    let mut writes: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut reads: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut writers_left = vec![0_usize; pipes.len()];
    for (pipe, (writers, readers)) in pipes.enumerate() {
        // A process that holds both ends comes neither before nor after itself.
        let readers: BTreeSet<usize> = readers.iter().copied().collect();
        let writers: BTreeSet<usize> = writers.iter().copied().collect();
        for &writer in writers.difference(&readers) {
            writes[writer].push(pipe);
            writers_left[pipe] += 1;
        }
        for &reader in readers.iter().filter(|_| writers_left[pipe] > 0) {
            reads[reader].push(pipe);
            pipes_left[reader] += 1;
        }
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); writers_left.len()];
    for (reader, read) in reads.iter().enumerate() {
        for &pipe in read {
            readers[pipe].push(reader);
        }
    }
    let mut left: BTreeSet<(usize, usize)> =
        (0..count).map(|member| (pipes_left[member], member)).collect();
    let mut order = Vec::with_capacity(count);
    while let Some((_, next)) = left.pop_first() {
        order.push(next);
        for &pipe in &writes[next] {
            writers_left[pipe] -= 1;
            if writers_left[pipe] > 0 {
                continue;
            }
            for &reader in &readers[pipe] {
                if left.remove(&(pipes_left[reader], reader)) {
                    pipes_left[reader] -= 1;
                    left.insert((pipes_left[reader], reader));
                }
            }
        }
    }
    order
}

/// For each node how many steps it is from the beginning, by the longest way: one more than the
/// furthest of those that flow into it. In a cycle the count ends where the order closes it.
pub fn steps_downstream(count: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<usize> {
    let order = upstream_first(count, edges);
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
        assert_eq!(upstream_first(4, &diamond), [3, 1, 2, 0]);
        assert_eq!(steps_downstream(4, &diamond), [2, 1, 1, 0]);
    }

    #[test]
    fn along_pipes_a_member_comes_after_all_that_write_to_it() {
        type Pipe<'a> = (&'a [usize], &'a [usize]);
        let order = |count, pipes: &[Pipe<'_>]| along_pipes(count, pipes.iter().copied());
        let diamond: [Pipe<'_>; 3] = [(&[3], &[1]), (&[3], &[2]), (&[1, 2], &[0])];
        assert_eq!(order(4, &diamond), [3, 1, 2, 0]);
        let cycle: [Pipe<'_>; 4] = [(&[0], &[1]), (&[1], &[2]), (&[2], &[1]), (&[0], &[0])];
        assert_eq!(order(3, &cycle), [0, 1, 2]);
        assert_eq!(order(3, &[(&[1, 2], &[2, 0])]), [1, 0, 2]);
    }

    #[test]
    fn a_cycle_and_a_self_loop_end() {
        let cycle = BTreeSet::from([(0, 1), (1, 2), (2, 1), (0, 0)]);
        assert_eq!(upstream_first(3, &cycle), [0, 1, 2]);
        assert_eq!(steps_downstream(3, &cycle), [0, 1, 2]);
    }
}
