//! Compares windows with and without sampling: how fast the pipeline was in each kind.

use pipeprof_runner::pipeline::PipeKey;

use super::Basis;

/// What has moved, and been used, at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) at_ns: u64,
    pub(super) moved: Vec<(PipeKey, u64)>,
    pub(super) cpu_time: Vec<(i32, u64)>,
}

/// What a block shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compared {
    /// How many times as fast the pipeline was in the windows with sampling; its logarithm.
    Ratio(f64),
    /// In one kind of window nothing moved.
    OneSided,
    /// Nothing moved at all, or nothing can be said.
    Nothing,
}

/// A process that used so much of the time would use no more if it were slowed.
const SATURATED: f64 = 0.95;

pub(super) fn compare(windows: &[(bool, Reading, Reading)]) -> (Basis, Compared) {
    let seconds = |on: bool| -> f64 {
        let of = windows.iter().filter(|window| window.0 == on);
        of.map(|(_, before, after)| after.at_ns.saturating_sub(before.at_ns) as f64 / 1e9).sum()
    };
    let ratio = |of: &dyn Fn(bool) -> f64| match (of(true), of(false)) {
        (on, off) if on > 0.0 && off > 0.0 => {
            Compared::Ratio((on / seconds(true)).ln() - (off / seconds(false)).ln())
        }
        (on, off) if on > 0.0 || off > 0.0 => Compared::OneSided,
        _ => Compared::Nothing,
    };
    let Some((_, first, _)) = windows.first() else { return (Basis::Bytes, Compared::Nothing) };
    let moves = |key: &PipeKey, on: bool| -> f64 {
        let of = windows.iter().filter(|window| window.0 == on);
        of.map(|(_, before, after)| grown(&before.moved, &after.moved, key) as f64).sum()
    };
    if !first.moved.is_empty() {
        // The one that moves most has the finest steps.
        let busiest = first.moved.iter().map(|(key, _)| key).max_by(|one, other| {
            let all = |key| moves(key, true) + moves(key, false);
            all(one).total_cmp(&all(other))
        });
        let compared = busiest.map(|key| ratio(&|on| moves(key, on)));
        return (Basis::Bytes, compared.unwrap_or(Compared::Nothing));
    }
    let used = |pid: &i32, on: bool| -> f64 {
        let of = windows.iter().filter(|window| window.0 == on);
        of.map(|(_, before, after)| grown(&before.cpu_time, &after.cpu_time, pid) as f64).sum()
    };
    let pids = || first.cpu_time.iter().map(|(pid, _)| pid);
    let whole_ns = 1e9 * (seconds(true) + seconds(false));
    let is_saturated = |pid| used(pid, true) + used(pid, false) > SATURATED * whole_ns;
    if pids().any(is_saturated) {
        return (Basis::CpuTime, Compared::Nothing);
    }
    let compared = match ratio(&|on| pids().map(|pid| used(pid, on)).sum()) {
        // More CPU time is what a lower throughput is.
        Compared::Ratio(ln_ratio) => Compared::Ratio(-ln_ratio),
        other => other,
    };
    (Basis::CpuTime, compared)
}

fn grown<K: PartialEq>(before: &[(K, u64)], after: &[(K, u64)], key: &K) -> u64 {
    let of = |all: &[(K, u64)]| all.iter().find(|(known, _)| known == key).map(|(_, value)| *value);
    of(before).zip(of(after)).map_or(0, |(before, after)| after.saturating_sub(before))
}

/// How far values lie from their middle, in the middle.
pub(super) fn scatter(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values[values.len() / 2];
    values.iter_mut().for_each(|value| *value = (*value - middle).abs());
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(inode: u64) -> PipeKey {
        PipeKey { device: 1, inode }
    }

    /// Windows of 20 ms in which pipes moved so much each, and processes used so much.
    fn windows(moved: &[[u64; 4]], used_ms: &[[u64; 4]]) -> Vec<(bool, Reading, Reading)> {
        let at = |end: usize| {
            let sum = |each: &[u64; 4]| each[..end].iter().sum::<u64>();
            let pipes = moved.iter().enumerate();
            let processes = used_ms.iter().enumerate();
            Reading {
                at_ns: 1_000_000_000 + end as u64 * 20_000_000,
                moved: pipes.map(|(n, each)| (pipe(n as u64), sum(each))).collect(),
                cpu_time: processes.map(|(n, each)| (n as i32, sum(each) * 1_000_000)).collect(),
            }
        };
        let order = [true, false, false, true].into_iter().enumerate();
        order.map(|(n, on)| (on, at(n), at(n + 1))).collect()
    }

    #[test]
    fn the_pipe_that_moves_most_is_compared() {
        let (basis, compared) = compare(&windows(&[[0, 3, 0, 0], [90, 100, 110, 60]], &[]));
        assert_eq!(basis, Basis::Bytes);
        let Compared::Ratio(ln_ratio) = compared else { panic!("{compared:?}") };
        assert!((ln_ratio - (150.0f64 / 210.0).ln()).abs() < 1e-9, "{ln_ratio}");
    }

    #[test]
    fn windows_in_which_nothing_moved_tell_nothing() {
        assert_eq!(compare(&windows(&[[0; 4]], &[])).1, Compared::Nothing);
        assert_eq!(compare(&windows(&[[0, 5, 5, 0]], &[])).1, Compared::OneSided);
        assert_eq!(compare(&windows(&[], &[])).1, Compared::Nothing);
    }

    #[test]
    fn more_cpu_time_counts_as_slower_unless_a_process_has_no_more_to_use() {
        let (basis, compared) = compare(&windows(&[], &[[11, 10, 10, 11]]));
        assert_eq!(basis, Basis::CpuTime);
        let Compared::Ratio(ln_ratio) = compared else { panic!("{compared:?}") };
        assert!((ln_ratio + 1.1f64.ln()).abs() < 1e-9, "{ln_ratio}");
        assert_eq!(compare(&windows(&[], &[[20; 4], [3; 4]])).1, Compared::Nothing);
    }
}
