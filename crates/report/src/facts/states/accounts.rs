//! Busy time, held to the scheduler's account.
//!
//! A look takes a CPU for a moment. Who is woken in that moment, and would have run on that CPU, is
//! found runnable: looks find a member that sleeps and wakes thousands of times a second busy up to
//! half of the time where it was for 15 %. What the scheduler charged, on a CPU and runnable, is
//! exact. Where looks found clearly more, the rest is put back to what the member waited for.

use super::{ActorId, Doing, Moment, Span};

/// What is found around a moment decides what it is held to: some 80 looks.
const AROUND_NS: u64 = 400_000_000;

/// Chance and the ends of a window account for a difference of this share of the time.
const WITHIN_ERROR: f64 = 0.05;

/// More joint states than this in a span are too few looks each to split them further.
const MOST_MOMENTS: usize = 256;

/// Holds the busy time of each actor to its account, where that is complete: `is_complete` says so of
/// an actor in a stretch of time.
pub(super) fn hold_to_accounts(
    spans: &mut [Span],
    actors: usize,
    is_complete: impl Fn(ActorId, u64, u64) -> bool,
) {
    let found: Vec<Vec<Found>> = spans.iter().map(|span| Found::in_span(span, actors)).collect();
    for at in 0..spans.len() {
        let (from_ns, until_ns) = (spans[at].from_ns, spans[at].until_ns);
        let middle = from_ns / 2 + until_ns / 2;
        let near =
            |span: &Span| span.until_ns + AROUND_NS > middle && span.from_ns < middle + AROUND_NS;
        let first = spans[..at].iter().rposition(|span| !near(span)).map_or(0, |at| at + 1);
        let after = spans[at + 1..].iter().position(|span| !near(span));
        let last = after.map_or(spans.len(), |after| at + 1 + after);
        let window_ns = spans[last - 1].until_ns.saturating_sub(spans[first].from_ns) as f64;
        for actor in 0..actors {
            let mut sum = Found::default();
            found[first..last].iter().for_each(|found| sum.add(&found[actor]));
            let is_over = sum.charged_ns > 0.0
                && sum.busy_ns - sum.charged_ns > WITHIN_ERROR * window_ns
                && is_complete(actor, spans[first].from_ns, spans[last - 1].until_ns);
            let wait = sum.usual_wait();
            if let (true, Some(wait)) = (is_over, wait) {
                let part = sum.charged_ns / sum.busy_ns;
                spans[at].moments = held(&spans[at].moments, actor, part, wait);
            }
        }
    }
}

/// The moments with only a part of an actor's busy time left, the rest waiting.
fn held(moments: &[Moment], actor: ActorId, part: f64, wait: &Doing) -> Vec<Moment> {
    let mut split: Vec<Moment> = Vec::with_capacity(moments.len() + 1);
    let mut add = |doing: Vec<Doing>, ns: f64| {
        if ns <= 0.0 {
            return;
        }
        match split.iter_mut().find(|moment| moment.doing == doing) {
            Some(moment) => moment.ns += ns,
            None => split.push(Moment { ns, doing }),
        }
    };
    for moment in moments {
        let Doing::Busy(threads) = moment.doing[actor] else {
            add(moment.doing.clone(), moment.ns);
            continue;
        };
        // Of several threads some are left, and the member is as busy as before.
        let left = f64::from(threads) * part;
        let mut doing = moment.doing.clone();
        doing[actor] = Doing::Busy((left.round() as u32).max(1));
        add(doing.clone(), moment.ns * left.min(1.0));
        doing[actor] = wait.clone();
        add(doing, moment.ns * (1.0 - left.min(1.0)));
    }
    if split.len() > MOST_MOMENTS { moments.to_vec() } else { split }
}

/// What was found of an actor.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Its threads were busy, added up.
    busy_ns: f64,
    /// The scheduler charged, on a CPU and runnable.
    charged_ns: f64,
    /// What it waited for.
    waits: Vec<(Doing, f64)>,
}

impl Found {
    fn in_span(span: &Span, actors: usize) -> Vec<Found> {
        let of = |actor: ActorId| {
            let account = span.accounts[actor];
            let mut found = Found {
                charged_ns: (account.cpu_ns + account.run_delay_ns) as f64,
                ..Found::default()
            };
            for moment in &span.moments {
                match &moment.doing[actor] {
                    Doing::Busy(threads) => found.busy_ns += f64::from(*threads) * moment.ns,
                    Doing::Absent => {}
                    wait => found.waited(wait, moment.ns),
                }
            }
            found
        };
        (0..actors).map(of).collect()
    }

    fn waited(&mut self, wait: &Doing, ns: f64) {
        match self.waits.iter_mut().find(|(known, _)| known == wait) {
            Some((_, sum)) => *sum += ns,
            None => self.waits.push((wait.clone(), ns)),
        }
    }

    fn add(&mut self, other: &Found) {
        self.busy_ns += other.busy_ns;
        self.charged_ns += other.charged_ns;
        other.waits.iter().for_each(|(wait, ns)| self.waited(wait, *ns));
    }

    fn usual_wait(&self) -> Option<&Doing> {
        self.waits.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(wait, _)| wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeprof_profiler::states::Account;

    fn data() -> Doing {
        Doing::AtPipes { data: vec![0], space: vec![] }
    }

    fn span(at: u64, moments: &[(Vec<Doing>, f64)], accounts: &[(u64, u64)]) -> Span {
        let account = |&(cpu_ns, run_delay_ns)| Account { cpu_ns, run_delay_ns };
        Span {
            from_ns: at * 100_000_000,
            until_ns: (at + 1) * 100_000_000,
            looks: 10.0,
            moments: moments
                .iter()
                .map(|(doing, ns)| Moment { ns: *ns, doing: doing.clone() })
                .collect(),
            accounts: accounts.iter().map(account).collect(),
        }
    }

    fn busy(spans: &[Span], actor: ActorId) -> f64 {
        let moments = spans.iter().flat_map(|span| &span.moments);
        moments.filter(|m| matches!(m.doing[actor], Doing::Busy(_))).map(|m| m.ns).sum()
    }

    /// One that is busy all the time, and one that looks find busy half of it.
    fn overseen(charged_ns: u64) -> Vec<Span> {
        let moments =
            [(vec![Doing::Busy(1), Doing::Busy(1)], 5e7), (vec![Doing::Busy(1), data()], 5e7)];
        (0..5).map(|at| span(at, &moments, &[(100_000_000, 0), (charged_ns, 0)])).collect()
    }

    #[test]
    fn a_member_that_looks_find_runnable_too_often_is_busy_for_what_was_charged() {
        let mut spans = overseen(15_000_000);
        hold_to_accounts(&mut spans, 2, |_, _, _| true);
        assert!((busy(&spans, 1) - 5.0 * 15e6).abs() < 1.0, "{}", busy(&spans, 1));
        assert!((busy(&spans, 0) - 5e8).abs() < 1.0);
        assert_eq!(spans[0].moments.len(), 2, "the same joint states: {:?}", spans[0].moments);
        let whole: f64 = spans[0].moments.iter().map(|moment| moment.ns).sum();
        assert!((whole - 1e8).abs() < 1.0, "{whole}");
    }

    #[test]
    fn small_differences_missing_accounts_and_short_lives_change_nothing() {
        let before = overseen(47_000_000);
        let mut spans = before.clone();
        hold_to_accounts(&mut spans, 2, |_, _, _| true);
        assert_eq!(spans, before, "3 % of the time");
        let before = overseen(0);
        let mut spans = before.clone();
        hold_to_accounts(&mut spans, 2, |_, _, _| true);
        assert_eq!(spans, before, "nothing was charged");
        let before = overseen(15_000_000);
        let mut spans = before.clone();
        hold_to_accounts(&mut spans, 2, |actor, _, _| actor != 1);
        assert_eq!(spans, before, "its account is not complete");
    }

    #[test]
    fn of_several_threads_fewer_are_left_and_the_member_stays_busy() {
        let moments = [(vec![Doing::Busy(4)], 9e7), (vec![data()], 1e7)];
        let mut spans = vec![span(0, &moments, &[(180_000_000, 0)])];
        hold_to_accounts(&mut spans, 1, |_, _, _| true);
        assert_eq!(spans[0].moments[0].doing, [Doing::Busy(2)]);
        assert!((busy(&spans, 0) - 9e7).abs() < 1.0);
    }
}
