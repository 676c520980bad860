//! Corrects busy time by the scheduler's account.
//!
//! A look occupies a CPU for a moment. A thread that is woken in that moment, and would have run on
//! that CPU, appears runnable: looks can find a member that sleeps and wakes thousands of times a
//! second busy half of the time when it was busy 15 %. The scheduler's charge, on CPU and runnable,
//! is exact. If looks found clearly more, the excess is given back to what the member waited for.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use super::{ActorId, Doing, Moment, Span};
use crate::facts::window::{Step, steps};
use crate::ordered::OrderedMap;

/// What is found around a moment decides what it is held to: some 80 looks.
const AROUND_NS: u64 = 400_000_000;

/// Chance and the ends of a window account for a difference of this share of the time.
const WITHIN_ERROR: f64 = 0.05;

/// More joint states than this in a span are too few looks each to split them further.
const MOST_MOMENTS: usize = 256;

/// States of actors, in all resulting joint states: there are fewer per span if members and spans
/// are many.
const MOST_STATES: usize = 6_000_000;

/// Holds the busy time of each actor to its account, where that is complete: `brief` says of each
/// when processes of it lived that may have ended unread.
pub(super) fn hold_to_accounts(spans: &mut [Span], actors: usize, brief: &[Vec<(u64, u64)>]) {
    let over = overseen(spans, actors, brief);
    if over.iter().all(Vec::is_empty) {
        return;
    }
    let room = MOST_STATES / actors.max(1);
    let each = (room / spans.len().max(1)).clamp(1, MOST_MOMENTS);
    let has_room = spans.iter().map(|span| span.moments.len()).sum::<usize>() <= room;
    let mut is_over = vec![false; actors];
    over.iter().flatten().for_each(|held| is_over[held.actor] = true);
    let mut waits = Waiting::of((0..actors).filter(|&actor| is_over[actor]).collect());
    let mut keys = Keys::default();
    let mut changed: Vec<(usize, Vec<Moment>)> = Vec::new();
    for (at, Step { enters, leaves, .. }) in steps(spans, AROUND_NS).enumerate() {
        enters.for_each(|span| waits.enters(&spans[span]));
        leaves.for_each(|span| waits.leaves(&spans[span]));
        let moments = &spans[at].moments;
        let most = if has_room { each.max(moments.len().min(MOST_MOMENTS)) } else { each };
        let mut splits = Splits::of(moments, &mut keys);
        for Held { actor, part } in &over[at] {
            if let Some(wait) = waits.usual(*actor) {
                splits.hold(*actor, *part, wait, most);
            }
        }
        if splits.is_changed {
            changed.push((at, splits.moments()));
        }
    }
    for (at, moments) in changed {
        spans[at].moments = moments;
    }
}

/// An actor that looks found busy for longer than was charged, and the part that was.
struct Held {
    actor: ActorId,
    part: f64,
}

/// By span, which members to correct.
fn overseen(spans: &[Span], actors: usize, brief: &[Vec<(u64, u64)>]) -> Vec<Vec<Held>> {
    let mut sums: Vec<Found> = vec![Found::default(); actors];
    let each = steps(spans, AROUND_NS).map(|Step { window, enters, leaves }| {
        for (range, sign) in [(enters, 1.0), (leaves, -1.0)] {
            spans[range].iter().for_each(|span| add(&mut sums, span, sign));
        }
        let (from_ns, until_ns) = (spans[window.start].from_ns, spans[window.end - 1].until_ns);
        let window_ns = until_ns.saturating_sub(from_ns) as f64;
        let is_complete = |actor: ActorId| {
            let mut brief = brief.get(actor).into_iter().flatten();
            !brief.any(|&(first_ns, last_ns)| first_ns < until_ns && last_ns > from_ns)
        };
        let is_over = |&(actor, sum): &(ActorId, &Found)| {
            sum.charged_ns > 0.0
                && sum.busy_ns - sum.charged_ns > WITHIN_ERROR * window_ns
                && is_complete(actor)
        };
        let over = sums.iter().enumerate().filter(is_over);
        over.map(|(actor, sum)| Held { actor, part: sum.charged_ns / sum.busy_ns }).collect()
    });
    each.collect()
}

/// What was found of an actor in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Its threads were busy, added up.
    busy_ns: f64,
    /// The scheduler charged, on a CPU and runnable: whole numbers, that leave nothing behind.
    charged_ns: f64,
}

fn add(sums: &mut [Found], span: &Span, sign: f64) {
    for moment in &span.moments {
        for (sum, doing) in sums.iter_mut().zip(&*moment.doing) {
            if let Doing::Busy(threads) = doing {
                sum.busy_ns += sign * f64::from(*threads) * moment.ns;
            }
        }
    }
    for (sum, account) in sums.iter_mut().zip(&span.accounts) {
        sum.charged_ns += sign * account.cpu_ns as f64 + sign * account.run_delay_ns as f64;
    }
}

/// What some actors waited for in a window.
struct Waiting {
    actors: Vec<ActorId>,
    /// Likewise, what each waited for, for how long, and how many moments of the window say so.
    waits: Vec<OrderedMap<Doing, (f64, u32)>>,
}

impl Waiting {
    /// `actors` are in their order.
    fn of(actors: Vec<ActorId>) -> Waiting {
        Waiting { waits: vec![OrderedMap::default(); actors.len()], actors }
    }

    fn enters(&mut self, span: &Span) {
        self.each(span, |sum, ns| {
            sum.0 = if sum.1 == 0 { ns } else { sum.0 + ns };
            sum.1 += 1;
        });
    }

    fn leaves(&mut self, span: &Span) {
        self.each(span, |sum, ns| {
            sum.0 -= ns;
            sum.1 -= 1;
        });
    }

    fn each(&mut self, span: &Span, change: impl Fn(&mut (f64, u32), f64)) {
        for moment in &span.moments {
            for (&actor, waits) in self.actors.iter().zip(&mut self.waits) {
                let doing = &moment.doing[actor];
                if !matches!(doing, Doing::Busy(_) | Doing::Absent) {
                    let known = waits.get_index_of(doing);
                    let at = known.unwrap_or_else(|| waits.insert_full(doing.clone(), (0.0, 0)).0);
                    change(&mut waits[at], moment.ns);
                }
            }
        }
    }

    fn usual(&self, actor: ActorId) -> Option<&Doing> {
        let waits = &self.waits[self.actors.binary_search(&actor).ok()?];
        let sums = waits.iter().filter(|(_, (_, moments))| *moments > 0);
        sums.max_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(wait, _)| wait)
    }
}

/// A joint state by the sum of what each actor does in it, so that it is known again without
/// comparing them all.
type Key = u128;

fn key_of(actor: ActorId, doing: &Doing) -> Key {
    let half = |seed: u64| {
        let mut hasher = FxHasher::default();
        (seed, actor, doing).hash(&mut hasher);
        // What the last steps of a hash leave alike.
        let mut mixed = hasher.finish() ^ seed;
        for _ in 0..2 {
            mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        mixed ^ (mixed >> 29)
    };
    Key::from(half(1)) << 64 | Key::from(half(0x5851_f42d_4c95_7f2d))
}

/// Of joint states as they were found; the spans share them.
#[derive(Default)]
struct Keys {
    known: FxHashMap<*const Doing, Key>,
}

impl Keys {
    fn of(&mut self, doing: &Arc<[Doing]>) -> Key {
        *self.known.entry(doing.as_ptr()).or_insert_with(|| {
            let keys = doing.iter().enumerate().map(|(actor, doing)| key_of(actor, doing));
            keys.fold(0, Key::wrapping_add)
        })
    }
}

/// The joint states of a span, with some actors busy for less than they were found.
struct Splits<'a> {
    moments: &'a [Moment],
    splits: Vec<Split>,
    /// What actors do instead, each with what was changed before.
    changes: Vec<(Option<usize>, ActorId, Doing)>,
    is_changed: bool,
}

#[derive(Clone, Copy)]
struct Split {
    ns: f64,
    key: Key,
    /// As it was found.
    found: usize,
    /// The last of its changes.
    changed: Option<usize>,
}

impl<'a> Splits<'a> {
    fn of(moments: &'a [Moment], keys: &mut Keys) -> Self {
        let split = |(found, moment): (usize, &Moment)| Split {
            ns: moment.ns,
            key: keys.of(&moment.doing),
            found,
            changed: None,
        };
        let splits = moments.iter().enumerate().map(split).collect();
        Splits { moments, splits, changes: Vec::new(), is_changed: false }
    }

    /// Leaves only a part of an actor's busy time, the rest waiting, unless that makes more than
    /// `most` joint states.
    fn hold(&mut self, actor: ActorId, part: f64, wait: &Doing, most: usize) {
        let before = self.changes.len();
        let mut held: OrderedMap<Key, Split> = OrderedMap::default();
        let mut add = |split: Split| {
            if split.ns > 0.0 {
                held.entry(split.key).and_modify(|known| known.ns += split.ns).or_insert(split);
            }
        };
        let wait_key = key_of(actor, wait);
        for split in &self.splits {
            let was = &self.moments[split.found].doing[actor];
            let Doing::Busy(threads) = *was else {
                add(*split);
                continue;
            };
            // Of several threads some are left, and the member is as busy as before.
            let left = f64::from(threads) * part;
            let fewer = Doing::Busy((left.round() as u32).max(1));
            let others = split.key.wrapping_sub(key_of(actor, was));
            let (fewer_key, left) = (key_of(actor, &fewer), left.min(1.0));
            let parts = [(fewer, fewer_key, left), (wait.clone(), wait_key, 1.0 - left)];
            for (doing, key, share) in parts {
                let key = others.wrapping_add(key);
                self.changes.push((split.changed, actor, doing));
                let changed = Some(self.changes.len() - 1);
                add(Split { ns: split.ns * share, key, changed, ..*split });
            }
        }
        if held.len() > most {
            self.changes.truncate(before);
            return;
        }
        self.splits = held.into_values().collect();
        self.is_changed |= self.changes.len() > before;
    }

    fn moments(&self) -> Vec<Moment> {
        let moment = |split: &Split| {
            let found = &self.moments[split.found].doing;
            if split.changed.is_none() {
                return Moment { ns: split.ns, doing: Arc::clone(found) };
            }
            let mut doing = found.to_vec();
            let mut changed = split.changed;
            while let Some((before, actor, instead)) = changed.map(|at| &self.changes[at]) {
                doing[*actor] = instead.clone();
                changed = *before;
            }
            Moment { ns: split.ns, doing: doing.into() }
        };
        self.splits.iter().map(moment).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeprof_profiler::states::Account;

    fn data() -> Doing {
        Doing::at_pipes(vec![0], vec![])
    }

    fn span(at: u64, moments: &[(Vec<Doing>, f64)], accounts: &[(u64, u64)]) -> Span {
        let account = |&(cpu_ns, run_delay_ns)| Account { cpu_ns, run_delay_ns };
        Span {
            from_ns: at * 100_000_000,
            until_ns: (at + 1) * 100_000_000,
            looks: 10.0,
            moments: moments
                .iter()
                .map(|(doing, ns)| Moment { ns: *ns, doing: doing.clone().into() })
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
        hold_to_accounts(&mut spans, 2, &[]);
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
        hold_to_accounts(&mut spans, 2, &[]);
        assert_eq!(spans, before, "3 % of the time");
        let before = overseen(0);
        let mut spans = before.clone();
        hold_to_accounts(&mut spans, 2, &[]);
        assert_eq!(spans, before, "nothing was charged");
        let before = overseen(15_000_000);
        let mut spans = before.clone();
        hold_to_accounts(&mut spans, 2, &[vec![], vec![(0, 600_000_000)]]);
        assert_eq!(spans, before, "its account is not complete");
    }

    #[test]
    fn of_several_threads_fewer_are_left_and_the_member_stays_busy() {
        let moments = [(vec![Doing::Busy(4)], 9e7), (vec![data()], 1e7)];
        let mut spans = vec![span(0, &moments, &[(180_000_000, 0)])];
        hold_to_accounts(&mut spans, 1, &[]);
        assert_eq!(*spans[0].moments[0].doing, [Doing::Busy(2)]);
        assert!((busy(&spans, 0) - 9e7).abs() < 1.0);
    }
}
