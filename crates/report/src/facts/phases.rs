//! Phases: stretches of time with the same limit, cut where it changes for good.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::blame::{Blame, Blamed, Limit};
use super::states::{ActorId, PipeAt, StateHistory};

/// A stretch of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Spans of the history.
    pub spans: Range<usize>,
    /// `CLOCK_MONOTONIC` ns.
    pub from_ns: u64,
    /// Likewise.
    pub until_ns: u64,
    /// Who limited it.
    pub blame: Blame,
}

/// What phases distinguish: a member that runs or could, one that waits for something outside of the
/// pipeline, a pipe, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum LimitedBy {
    Actor(ActorId),
    Outside(ActorId),
    Pipe(PipeAt),
    Nobody,
}

impl LimitedBy {
    fn of(limit: Limit) -> LimitedBy {
        match limit {
            Limit::Busy(actor) | Limit::NoCpu(actor) => LimitedBy::Actor(actor),
            Limit::Outside(actor, _) => LimitedBy::Outside(actor),
            Limit::WakeUps(pipe) => LimitedBy::Pipe(pipe),
            Limit::Unknown => LimitedBy::Nobody,
        }
    }
}

/// A run is looked at in so many cells, so that a cut is within half a percent of its moment.
const CELLS: usize = 200;

/// More members and pipes than this are not told apart: each limits for too little of the time.
const MOST_LIMITERS: usize = 64;

/// More phases than this are no answer.
const MOST_PHASES: usize = 6;

/// What a cut has to gain, in log-likelihood of independent looks, times the logarithm of the number
/// of cells.
const COST_OF_A_CUT: f64 = 2.0;

/// Looks in a row are alike: at the least so many count as one that is independent.
const LEAST_ALIKE: f64 = 4.0;

/// The correlation of looks is estimated from the differences of this many blocks of cells.
const BLOCKS: usize = 20;

/// The largest differences of blocks may be changes for good.
const CHANGES: usize = 2;

/// Mean of the squares of 19 normal deviates without the two largest, nearly.
const MEAN_OF_SQUARES: f64 = 0.6;

/// A phase shorter than this share of the run is none that anybody asks for.
const SHORTEST: f64 = 0.04;

/// Neighbours whose largest shares differ by less are one phase.
const LEAST_CHANGE: f64 = 0.25;

/// Cuts a run.
pub fn phases(history: &StateHistory, blamed: &Blamed) -> Vec<Phase> {
    let cells = cells(history);
    let limiters = limiters(blamed);
    let kinds = limiters.values().max().map_or(0, |last| last + 1);
    let weight = |cell: &Range<usize>| {
        let mut sums = vec![0.0; kinds];
        for span in cell.clone() {
            let whole = blamed.spans[span].whole_ns.max(1.0);
            for &(limit, ns) in &blamed.spans[span].limits {
                if let Some(&at) = limiters.get(&LimitedBy::of(limit)) {
                    sums[at] += history.spans[span].looks * ns / whole;
                }
            }
        }
        sums
    };
    let counts: Vec<Vec<f64>> = cells.iter().map(weight).collect();
    let mut cuts = match history.is_phase {
        true if !counts.is_empty() => std::iter::once(0..counts.len()).collect(),
        _ => segment(&counts),
    };
    merge_alike(&counts, &mut cuts);
    let phase = |range: Range<usize>| {
        let spans = cells[range.start].start..cells[range.end - 1].end;
        Phase {
            from_ns: history.spans[spans.start].from_ns,
            until_ns: history.spans[spans.end - 1].until_ns,
            blame: blamed.sum(spans.clone()),
            spans,
        }
    };
    cuts.into_iter().map(phase).collect()
}

/// Those that limit, each with its place; all but those that limit most have one together.
fn limiters(blamed: &Blamed) -> FxHashMap<LimitedBy, usize> {
    let mut sums: FxHashMap<LimitedBy, f64> = FxHashMap::default();
    for &(limit, ns) in blamed.spans.iter().flat_map(|blame| &blame.limits) {
        *sums.entry(LimitedBy::of(limit)).or_default() += ns;
    }
    let mut sums: Vec<(LimitedBy, f64)> = sums.into_iter().collect();
    sums.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let (told, others) = sums.split_at(sums.len().min(MOST_LIMITERS));
    let mut told: Vec<LimitedBy> = told.iter().map(|(limiter, _)| *limiter).collect();
    told.sort_unstable();
    let others = others.iter().map(|(limiter, _)| (*limiter, told.len()));
    others.chain(told.iter().copied().zip(0..)).collect()
}

/// Spans, put together so that there are no more than [`CELLS`].
fn cells(history: &StateHistory) -> Vec<Range<usize>> {
    let least = (history.elapsed_ns() / CELLS as u64).max(1);
    let mut cells: Vec<Range<usize>> = Vec::new();
    let mut length = u64::MAX;
    for (at, span) in history.spans.iter().enumerate() {
        match cells.last_mut() {
            Some(cell) if length < least => cell.end = at + 1,
            _ => {
                cells.push(at..at + 1);
                length = 0;
            }
        }
        length += span.until_ns - span.from_ns;
    }
    cells
}

/// The segmentation of the greatest likelihood, each segment a multinomial of its own, at a cost a
/// cut: optimal partitioning by dynamic programming.
fn segment(counts: &[Vec<f64>]) -> Vec<Range<usize>> {
    let (cells, kinds) = (counts.len(), counts.first().map_or(0, Vec::len));
    if cells == 0 {
        return Vec::new();
    }
    let mut sums = vec![vec![0.0; kinds]; cells + 1];
    for (at, count) in counts.iter().enumerate() {
        for kind in 0..kinds {
            sums[at + 1][kind] = sums[at][kind] + count[kind];
        }
    }
    let alike = alike(counts);
    let likelihood = |from: usize, until: usize| -> f64 {
        let parts = (0..kinds).map(|kind| sums[until][kind] - sums[from][kind]);
        let whole: f64 = parts.clone().sum();
        let looks = parts.filter(|part| *part > 0.0).map(|part| part * (part / whole).ln());
        looks.sum::<f64>() / alike
    };
    let likelihoods: Vec<Vec<f64>> = (0..cells)
        .map(|from| (0..=cells).map(|until| likelihood(from, until.max(from))).collect())
        .collect();
    let cost = COST_OF_A_CUT * (cells as f64).ln().max(1.0);
    // best[n][until]: of the first `until` cells in n + 1 segments, and where the last one begins.
    let most = MOST_PHASES.min(cells);
    let none = (f64::NEG_INFINITY, 0);
    let whole = (0..=cells).map(|until| if until == 0 { none } else { (likelihoods[0][until], 0) });
    let mut best = vec![vec![none; cells + 1]; most];
    best[0] = whole.collect();
    for segments in 1..most {
        for until in segments + 1..=cells {
            for from in segments..until {
                let value = best[segments - 1][from].0 + likelihoods[from][until] - cost;
                if value > best[segments][until].0 {
                    best[segments][until] = (value, from);
                }
            }
        }
    }
    let value = |segments: &usize| best[*segments][cells].0;
    let segments = (0..most).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0);
    let mut cuts = Vec::new();
    let mut until = cells;
    for segments in (0..=segments).rev() {
        let from = best[segments][until].1;
        cuts.push(from..until);
        until = from;
    }
    cuts.reverse();
    cuts
}

/// How many looks count as one: members that take turns for longer than a cell make more difference
/// between neighbouring blocks than chance would.
fn alike(counts: &[Vec<f64>]) -> f64 {
    let kinds = counts.first().map_or(0, Vec::len);
    let of_kind = |kind: usize| counts.iter().map(|count| count[kind]).sum::<f64>();
    let main = (0..kinds).max_by(|&a, &b| of_kind(a).total_cmp(&of_kind(b))).unwrap_or(0);
    let blocks = counts.chunks(counts.len().div_ceil(BLOCKS).max(1)).map(|block| {
        let looks: f64 = block.iter().flatten().sum();
        let mains: f64 = block.iter().filter_map(|count| count.get(main)).sum();
        (looks, mains / looks.max(1e-9))
    });
    let blocks: Vec<(f64, f64)> = blocks.filter(|(looks, _)| *looks > 0.0).collect();
    let excess = blocks.windows(2).map(|pair| {
        let [(looks, share), (next_looks, next_share)] = pair else { return 0.0 };
        let mean = (share + next_share) / 2.0;
        let chance = mean * (1.0 - mean) * (1.0 / looks + 1.0 / next_looks);
        if chance > 0.0 { (share - next_share).powi(2) / chance } else { 0.0 }
    });
    let mut excess: Vec<f64> = excess.collect();
    excess.sort_by(f64::total_cmp);
    excess.truncate(excess.len().saturating_sub(CHANGES));
    let mean = excess.iter().sum::<f64>() / excess.len().max(1) as f64;
    (mean / MEAN_OF_SQUARES).max(LEAST_ALIKE)
}

/// Puts neighbours together that are too short to tell, or that one and the same limits.
fn merge_alike(counts: &[Vec<f64>], cuts: &mut Vec<Range<usize>>) {
    let shares = |range: &Range<usize>| -> Vec<f64> {
        let kinds = counts[0].len();
        let sum = |kind: usize| counts[range.clone()].iter().map(|count| count[kind]).sum::<f64>();
        let sums: Vec<f64> = (0..kinds).map(sum).collect();
        let whole: f64 = sums.iter().sum::<f64>().max(1e-9);
        sums.into_iter().map(|sum| sum / whole).collect()
    };
    let top = |shares: &[f64]| {
        (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap_or(0)
    };
    while cuts.len() > 1 {
        let is_short =
            |range: &Range<usize>| (range.len() as f64) < (SHORTEST * counts.len() as f64).max(1.0);
        let change = |at: usize| {
            let (a, b) = (shares(&cuts[at]), shares(&cuts[at + 1]));
            let (top_a, top_b) = (top(&a), top(&b));
            if top_a == top_b {
                return 0.0;
            }
            (a[top_a] - b[top_a]).max(b[top_b] - a[top_b])
        };
        let short = |at: usize| is_short(&cuts[at]) || is_short(&cuts[at + 1]);
        let candidates = (0..cuts.len() - 1).map(|at| (at, change(at), short(at)));
        // The short ones first, each to the neighbour that is more like it.
        let Some((at, ..)) = candidates
            .filter(|&(_, change, short)| short || change < LEAST_CHANGE)
            .min_by(|a, b| b.2.cmp(&a.2).then(a.1.total_cmp(&b.1)))
        else {
            return;
        };
        let joined = cuts[at].start..cuts[at + 1].end;
        cuts[at] = joined;
        cuts.remove(at + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter a cell: who limited it.
    fn cut(line: &str) -> Vec<(usize, usize)> {
        let count = |letter: char| {
            let mut counts = vec![0.0; 3];
            counts[match letter {
                'a' => 0,
                'b' => 1,
                _ => 2,
            }] = 5.0;
            counts
        };
        let counts: Vec<Vec<f64>> = line.chars().map(count).collect();
        let mut cuts = segment(&counts);
        merge_alike(&counts, &mut cuts);
        cuts.into_iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn a_run_is_cut_where_who_limits_changes_for_good() {
        let line = "a".repeat(60) + &"b".repeat(140);
        assert_eq!(cut(&line), [(0, 60), (60, 200)]);
        let noisy: String =
            line.chars().enumerate().map(|(at, c)| if at % 9 == 4 { 'c' } else { c }).collect();
        let cuts = cut(&noisy);
        assert_eq!(cuts.len(), 2);
        assert!(cuts[0].1.abs_diff(60) <= 1, "{cuts:?}");
    }

    #[test]
    fn what_alternates_all_the_time_is_one_phase() {
        assert_eq!(cut(&"ab".repeat(100)), [(0, 200)]);
        assert_eq!(cut(&("a".repeat(10) + &"b".repeat(10)).repeat(10)), [(0, 200)]);
        assert_eq!(cut(&"aabacbaaab".repeat(20)), [(0, 200)]);
        assert_eq!(cut(&"a".repeat(200)), [(0, 200)]);
    }

    /// Cells in which `a` limits with this chance, each alone, or several in a row alike.
    fn noisy(seed: u64, chance: f64, cells: usize, alike: usize) -> String {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let letters = (0..cells.div_ceil(alike)).map(|_| if next() < chance { 'a' } else { 'b' });
        letters.flat_map(|letter| std::iter::repeat_n(letter, alike)).take(cells).collect()
    }

    #[test]
    fn what_is_steady_is_one_phase_however_noisy() {
        // One that hardly ever limits, and then for long, has a phase of its own.
        for (chance, alike) in [(0.5, 1), (0.5, 3), (0.7, 1), (0.7, 3), (0.95, 1)] {
            for seed in 0..40 {
                let line = noisy(seed, chance, 200, alike);
                assert_eq!(cut(&line), [(0, 200)], "seed {seed}, {chance}, {alike}: {line}");
            }
        }
    }

    #[test]
    fn a_change_is_found_within_a_twentieth_though_both_sides_are_noisy() {
        for seed in 0..40 {
            let line = noisy(seed, 0.9, 80, 2) + &noisy(seed + 99, 0.1, 120, 2);
            let cuts = cut(&line);
            assert_eq!(cuts.len(), 2, "seed {seed}: {cuts:?}");
            assert!(cuts[0].1.abs_diff(80) <= 10, "seed {seed}: {cuts:?}");
        }
    }

    #[test]
    fn a_hiccup_is_no_phase() {
        let line = "a".repeat(100) + "bb" + &"a".repeat(98);
        assert_eq!(cut(&line), [(0, 200)]);
    }
}
