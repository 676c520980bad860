//! The order of runs: rounds, with a profiler and without, each shuffled.

/// A round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Every candidate once, without a profiler.
    Plain(u32),
    /// Every candidate once, profiled.
    Profiled(u32),
}

impl Step {
    /// From 1; the two kinds are counted apart.
    pub(super) fn round(self) -> u32 {
        let (Step::Plain(round) | Step::Profiled(round)) = self;
        round
    }

    /// For a progress bar.
    pub(super) fn words(self, rounds: u32) -> String {
        match self {
            Step::Plain(round) => format!("round {round} of {rounds}"),
            Step::Profiled(round) => format!("profiled round {round}"),
        }
    }
}

/// The order of the runs.
#[derive(Debug)]
pub(super) struct Schedule {
    steps: Vec<Step>,
    random: fastrand::Rng,
}

impl Schedule {
    /// The profiled rounds come early, one after each of the first plain rounds, so that a ladder
    /// that is stopped early still has an explanation.
    pub(super) fn new(seed: u64, rounds: u32, most_profiled: u32) -> Self {
        let pair = |round| {
            let profiled = (round <= most_profiled).then_some(Step::Profiled(round));
            [Some(Step::Plain(round)), profiled].into_iter().flatten()
        };
        Schedule {
            steps: (1..=rounds).flat_map(pair).collect(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.steps.clone()
    }

    /// All profiled rounds are over.
    pub(super) fn may_stop_after(&self, step: Step) -> bool {
        let after = self.steps.iter().skip_while(|other| **other != step).skip(1);
        !after.into_iter().any(|step| matches!(step, Step::Profiled(_)))
    }

    /// The candidates of the next round in their order.
    pub(super) fn shuffled(&mut self, candidates: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..candidates).collect();
        self.random.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiled_rounds_stand_between_the_first_others() {
        let steps = Schedule::new(1, 4, 2).steps();
        assert_eq!(
            steps,
            [
                Step::Plain(1),
                Step::Profiled(1),
                Step::Plain(2),
                Step::Profiled(2),
                Step::Plain(3),
                Step::Plain(4),
            ]
        );
        let schedule = Schedule::new(1, 4, 2);
        assert!(!schedule.may_stop_after(Step::Plain(2)));
        assert!(schedule.may_stop_after(Step::Profiled(2)));
        assert!(schedule.may_stop_after(Step::Plain(4)));
    }

    #[test]
    fn a_seed_repeats_its_order_and_every_round_has_everybody() {
        let orders = |seed| {
            let mut schedule = Schedule::new(seed, 1, 1);
            (0..20).map(|_| schedule.shuffled(6)).collect::<Vec<_>>()
        };
        assert_eq!(orders(7), orders(7));
        assert_ne!(orders(7), orders(8));
        let all = orders(7);
        assert!(all.iter().any(|order| *order != all[0]), "never shuffled again");
        for mut order in all {
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        }
    }
}
