//! Which member of B is compared with which member of A: no process is in both, so they are matched
//! by end, by name and by their place in the pipeline.

use pipeprof_runner::pipeline::End;
use rustc_hash::FxHashMap;
use serde::Serialize;

/// Why two members were taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchedBy {
    /// Both are the writer, or the reader, of a built-in pair.
    End,
    /// Both have the same name.
    Name,
    /// Both have the same place between others.
    Place,
}

/// Members that belong together: a position in the profile of each run.
#[derive(Clone, Debug)]
pub(super) struct Matched {
    pub(super) a: Vec<usize>,
    pub(super) b: Vec<usize>,
    pub(super) by: MatchedBy,
}

/// What a member is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who<'a> {
    pub(super) end: Option<End>,
    pub(super) comm: &'a str,
    /// It has a pipe of the pipeline, so its place in the order means something.
    pub(super) holds_pipe: bool,
}

/// Positions in A and in B of the members that belong together, in A's order.
///
/// 1. The ends of a built-in pair: writer with writer, reader with reader.
/// 2. Members with pipes: the longest run of equal names in the same order; where as many others
///    stand between two of them on both sides, those too, in order, whatever they are called.
/// 3. Others, as shells and processes of a file without a pipeline: equal names, in order.
pub(super) fn pairs(a: &[Who<'_>], b: &[Who<'_>]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for end in End::BOTH {
        let at = |side: &[Who<'_>]| side.iter().position(|who| who.end == Some(end));
        pairs.extend(at(a).zip(at(b)));
    }
    let (ends_a, ends_b): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
    let left = |side: &[Who<'_>], taken: &[usize], holds_pipe: bool| -> Vec<usize> {
        (0..side.len())
            .filter(|at| !taken.contains(at) && side[*at].holds_pipe == holds_pipe)
            .collect()
    };
    in_line(a, b, &left(a, &ends_a, true), &left(b, &ends_b, true), &mut pairs);

    let mut by_name: FxHashMap<&str, Vec<usize>> = FxHashMap::default();
    for at in left(b, &ends_b, false).into_iter().rev() {
        by_name.entry(b[at].comm).or_default().push(at);
    }
    for at in left(a, &ends_a, false) {
        pairs.extend(by_name.get_mut(a[at].comm).and_then(Vec::pop).map(|other| (at, other)));
    }
    pairs.sort_unstable();
    pairs
}

/// A pipeline of more members than this is matched by place alone.
const LONGEST: usize = 2000;

/// Rule 2, for the members at these positions.
fn in_line(
    a: &[Who<'_>],
    b: &[Who<'_>],
    at_a: &[usize],
    at_b: &[usize],
    pairs: &mut Vec<(usize, usize)>,
) {
    let mut anchors = Vec::new();
    if at_a.len() <= LONGEST && at_b.len() <= LONGEST {
        let is_same = |i: usize, j: usize| a[at_a[i]].comm == b[at_b[j]].comm;
        anchors = longest_common(at_a.len(), at_b.len(), is_same);
    }
    anchors.push((at_a.len(), at_b.len()));
    let (mut from_a, mut from_b) = (0, 0);
    for (to_a, to_b) in anchors {
        if to_a - from_a == to_b - from_b {
            pairs.extend((from_a..to_a).zip(from_b..to_b).map(|(i, j)| (at_a[i], at_b[j])));
        }
        if to_a < at_a.len() && to_b < at_b.len() {
            pairs.push((at_a[to_a], at_b[to_b]));
        }
        (from_a, from_b) = (to_a + 1, to_b + 1);
    }
}

/// The longest common subsequence of two sequences.
fn longest_common(
    a: usize,
    b: usize,
    is_same: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    // lengths[i][j]: of what begins at i and at j.
    let mut lengths = vec![vec![0u32; b + 1]; a + 1];
    for i in (0..a).rev() {
        for j in (0..b).rev() {
            lengths[i][j] = if is_same(i, j) {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut common = Vec::new();
    while i < a && j < b {
        if is_same(i, j) {
            common.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[i + 1][j] >= lengths[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `zcat sort (sh)`: with pipes, and one without.
    fn line(text: &str) -> Vec<Who<'_>> {
        text.split_whitespace()
            .map(|word| {
                let end = match word {
                    "W" => Some(End::Writer),
                    "R" => Some(End::Reader),
                    _ => None,
                };
                let comm = word.trim_matches(['(', ')']);
                Who { end, comm, holds_pipe: !word.starts_with('(') }
            })
            .collect()
    }

    #[test]
    fn who_is_compared_with_whom() {
        for (a, b, expected) in [
            ("W R", "R W", "0-1 1-0"),
            ("zcat sort", "zcat sort", "0-0 1-1"),
            ("zcat sort", "pigz sort", "0-0 1-1"),
            ("zcat sort", "gzip uniq", "0-0 1-1"),
            ("zcat sort", "zcat grep sort", "0-0 1-2"),
            ("zcat grep sort", "zcat sort", "0-0 2-1"),
            ("zcat grep cut sort", "zcat sed sort", "0-0 3-2"),
            ("yes yes cat", "yes cat", "0-0 2-1"),
            ("(sh) a b", "a b (sh)", "0-2 1-0 2-1"),
            ("(x) (y) (x)", "(x) (x) (z)", "0-0 2-1"),
            ("(a)", "(b)", ""),
            ("a", "", ""),
            ("", "", ""),
        ] {
            let found: Vec<String> =
                pairs(&line(a), &line(b)).iter().map(|(a, b)| format!("{a}-{b}")).collect();
            assert_eq!(found.join(" "), expected, "{a:?} and {b:?}");
        }
    }
}
