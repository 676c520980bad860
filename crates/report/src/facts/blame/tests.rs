use super::*;
use crate::facts::states::{Actor, Ends};
use pipeprof_profiler::states::{Account, Why};

/// A chain of members, each connected to the next by a pipe.
fn chain(members: usize, moments: &[(&str, f64)]) -> StateHistory {
    let actors = (0..members).map(|member| Actor { member, ..Actor::default() }).collect();
    let pipes = (1..members).map(|at| Ends { writers: vec![at - 1], readers: vec![at] }).collect();
    history(actors, pipes, moments)
}

/// A letter a member: `B`usy, waits for `d`ata or `s`pace, `o`utside, absent `.`.
fn history(actors: Vec<Actor>, pipes: Vec<Ends>, moments: &[(&str, f64)]) -> StateHistory {
    let of = |letters: &str| -> Vec<Doing> {
        let one = |(at, letter): (usize, char)| match letter {
            'B' => Doing::Busy(1),
            'd' => Doing::at_pipes(reads(&pipes, at), vec![]),
            's' => Doing::at_pipes(vec![], writes(&pipes, at)),
            'o' => Doing::Outside(Outside::For(Why::Timer)),
            _ => Doing::Absent,
        };
        letters.chars().enumerate().map(one).collect()
    };
    let whole: f64 = moments.iter().map(|(_, ns)| ns).sum();
    let moments: Vec<Moment> =
        moments.iter().map(|&(letters, ns)| Moment { ns, doing: of(letters).into() }).collect();
    let accounts = vec![Account::default(); actors.len()];
    let span = Span { from_ns: 0, until_ns: whole as u64, looks: whole / 5e6, moments, accounts };
    StateHistory {
        actors,
        pipes,
        spans: vec![span],
        looks: 100,
        blind_share: 0.0,
        pressure: None,
        idle_cpus: None,
        is_phase: false,
    }
}

fn reads(pipes: &[Ends], actor: usize) -> Vec<usize> {
    (0..pipes.len()).filter(|&at| pipes[at].readers.contains(&actor)).collect()
}

fn writes(pipes: &[Ends], actor: usize) -> Vec<usize> {
    (0..pipes.len()).filter(|&at| pipes[at].writers.contains(&actor)).collect()
}

/// Shares of the limit by member, in percent.
fn shares(history: &StateHistory) -> Vec<u32> {
    let blamed = blame(history);
    let sum = blamed.sum(0..blamed.spans.len());
    let all = sum.share(|_| true);
    assert!((all - 1.0).abs() < 1e-6, "shares add up to {all}");
    let of = |actor| (100.0 * sum.share(|limit| limit.actor() == Some(actor))).round() as u32;
    (0..history.actors.len()).map(of).collect()
}

#[test]
fn waits_are_followed_to_who_waits_for_nobody() {
    assert_eq!(shares(&chain(4, &[("ssBd", 1e8)])), [0, 0, 100, 0]);
    assert_eq!(shares(&chain(4, &[("Bddd", 1e8)])), [100, 0, 0, 0]);
    assert_eq!(shares(&chain(4, &[("sssB", 1e8)])), [0, 0, 0, 100]);
    assert_eq!(shares(&chain(3, &[("sod", 1e8)])), [0, 100, 0]);
}

#[test]
fn of_several_that_work_at_once_the_one_limits_that_never_waits() {
    // The first needs all of the time; the second keeps up with ease, however often it is busy.
    let shares = shares(&chain(3, &[("BBd", 3e8), ("Bdd", 7e8)]));
    assert!(shares[0] >= 97, "{shares:?}");
}

#[test]
fn members_that_alternate_limit_in_turn() {
    assert_eq!(shares(&chain(2, &[("Bd", 5e8), ("sB", 5e8)])), [50, 50]);
    assert_eq!(shares(&chain(2, &[("Bd", 2e8), ("sB", 8e8)])), [20, 80]);
}

#[test]
fn a_sleeper_that_nobody_waits_for_does_not_limit() {
    let pipes = vec![
        Ends { writers: vec![0, 1], readers: vec![2] },
        Ends { writers: vec![2], readers: vec![3] },
    ];
    let actors = (0..4).map(|member| Actor { member, ..Actor::default() }).collect();
    // The first only holds the pipe that the second fills.
    let history = history(actors, pipes, &[("osBd", 9e8), ("oBBd", 1e8)]);
    let shares = shares(&history);
    assert_eq!(shares[0], 0, "{shares:?}");
    assert!(shares[2] >= 95, "{shares:?}");
}

#[test]
fn a_pipe_whose_ends_both_wait_limits_by_its_wake_ups() {
    let history = chain(2, &[("sd", 1e8)]);
    let blamed = blame(&history);
    assert_eq!(blamed.spans[0].limits, [(Limit::WakeUps(0), 1e8)]);
}

#[test]
fn who_waits_for_a_cpu_is_limited_by_the_cpus() {
    let mut history = chain(2, &[("sB", 1e9)]);
    history.spans[0].accounts[1] = Account { cpu_ns: 400_000_000, run_delay_ns: 600_000_000 };
    let sum = blame(&history).sum(0..1);
    assert!((sum.share(|limit| limit == Limit::NoCpu(1)) - 0.6).abs() < 1e-6, "{sum:?}");
    assert!((sum.share(|limit| limit == Limit::Busy(1)) - 0.4).abs() < 1e-6, "{sum:?}");
}

#[test]
fn a_fast_branch_of_a_fan_out_waits_for_the_slow_one() {
    // tee writes to both; the second reader is slow.
    let pipes = vec![
        Ends { writers: vec![0], readers: vec![1] },
        Ends { writers: vec![0], readers: vec![2] },
    ];
    let actors = (0..3).map(|member| Actor { member, ..Actor::default() }).collect();
    let mut history = history(actors, pipes, &[("sdB", 1e9)]);
    let mut doing = history.spans[0].moments[0].doing.to_vec();
    doing[0] = Doing::at_pipes(vec![], vec![1]);
    history.spans[0].moments[0].doing = doing.into();
    assert_eq!(shares(&history), [0, 0, 100]);
}

proptest::proptest! {
    #[test]
    fn shares_of_the_limit_add_up_to_all_of_the_time_and_states_to_each_life(
        members in 1usize..6,
        letters in proptest::collection::vec(
            (proptest::collection::vec(0usize..5, 6), 1u32..50, 0u64..2_000_000_000, 0u64..2_000_000_000),
            1..40,
        ),
    ) {
        let rows: Vec<(String, f64)> = letters
            .iter()
            .map(|(row, ns, ..)| {
                let letter = |&at: &usize| ['B', 'd', 's', 'o', '.'][at];
                (row[..members].iter().map(letter).collect(), f64::from(*ns) * 1e6)
            })
            .collect();
        let moments: Vec<(&str, f64)> = rows.iter().map(|(row, ns)| (&**row, *ns)).collect();
        let mut history = chain(members, &moments);
        for (account, (.., cpu_ns, run_delay_ns)) in history.spans[0].accounts.iter_mut().zip(&letters) {
            *account = Account { cpu_ns: *cpu_ns, run_delay_ns: *run_delay_ns };
        }
        let sum = blame(&history).sum(0..1);
        let there = |row: &str| row.chars().any(|letter| letter != '.');
        let alive: f64 = moments.iter().filter(|(row, _)| there(row)).map(|(_, ns)| ns).sum();
        let limits: f64 = sum.limits.iter().map(|(_, ns)| ns).sum();
        proptest::prop_assert!((limits - alive).abs() <= 1e-6 * alive.max(1.0), "{limits} of {alive}");
        for used in uses(&history, 0..1) {
            let states = used.busy_ns + used.data_ns + used.space_ns + used.outside_ns + used.follows_ns;
            proptest::prop_assert!((states - used.alive_ns).abs() <= 1.0, "{used:?}");
        }
    }
}
