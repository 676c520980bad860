//! What limits the pipeline at each moment, and the sums over time.
//!
//! Waits are followed: a member that waits for data is limited by that pipe's writer, one that
//! waits for space by its reader, up to a member that does not wait for another (wPerf, OSDI '18,
//! follows waits between threads in the same way). If several members are busy at a moment, that
//! moment belongs to the one that waits least around it: a limiting member never waits for its
//! neighbours, and one that often waits has capacity to spare (compare the busy and back-pressured
//! times of Flink's tasks, and the true rates of DS2, OSDI '18).
//!
//! The share of a member is its own time on a CPU, its wait for a CPU, and its waits outside the
//! pipeline. The shares add up to all of the time.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::states::{ActorId, Doing, Ends, Moment, Outside, PipeAt, Span, StateHistory};
use super::window::{Step, steps};
use crate::ordered::OrderedMap;

/// What can limit a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// A member computes.
    Busy(ActorId),
    /// A member waits for something that is no pipe of the pipeline.
    Outside(ActorId, Outside),
    /// A member could run, and has no CPU.
    NoCpu(ActorId),
    /// The ends of a pipe wait for each other to wake up.
    WakeUps(PipeAt),
    /// Everyone waits, and nothing tells for whom.
    Unknown,
}

impl Limit {
    /// The member that it is about.
    pub fn actor(self) -> Option<ActorId> {
        match self {
            Limit::Busy(actor) | Limit::Outside(actor, _) | Limit::NoCpu(actor) => Some(actor),
            Limit::WakeUps(_) | Limit::Unknown => None,
        }
    }
}

/// How much of the time each limited, the largest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blame {
    /// Nanoseconds.
    pub limits: Vec<(Limit, f64)>,
    /// Sum of all.
    pub whole_ns: f64,
}

impl Blame {
    /// What is counted, as a share of the whole.
    pub fn share(&self, counts: impl Fn(Limit) -> bool) -> f64 {
        let part: f64 =
            self.limits.iter().filter(|(limit, _)| counts(*limit)).map(|(_, ns)| ns).sum();
        part / self.whole_ns.max(1.0)
    }
}

/// Adds limits up, of which there may be thousands.
#[derive(Default)]
struct Adding {
    limits: OrderedMap<Limit, f64>,
    whole_ns: f64,
}

impl Adding {
    fn add(&mut self, limit: Limit, ns: f64) {
        self.whole_ns += ns;
        *self.limits.entry(limit).or_default() += ns;
    }

    fn sum(self) -> Blame {
        Blame { limits: self.limits.into_iter().collect(), whole_ns: self.whole_ns }
    }
}

/// How a member spent a stretch of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Use {
    /// It was there.
    pub alive_ns: f64,
    /// A thread of it ran, or could have.
    pub busy_ns: f64,
    /// All of its threads that ran or could have, added up.
    pub threads_ns: f64,
    /// It waited for data of its neighbours.
    pub data_ns: f64,
    /// It waited for space, or for both.
    pub space_ns: f64,
    /// It waited for something outside.
    pub outside_ns: f64,
    /// It waited for a child that is a member.
    pub follows_ns: f64,
    /// On a CPU, by the scheduler's account.
    pub cpu_ns: f64,
    /// Runnable without a CPU, likewise.
    pub run_delay_ns: f64,
}

impl Use {
    /// Adds what it did for so long.
    pub(super) fn add(&mut self, doing: &Doing, ns: f64) {
        match doing {
            Doing::Absent => return,
            Doing::Busy(threads) => {
                self.busy_ns += ns;
                self.threads_ns += ns * f64::from(*threads);
            }
            Doing::AtPipes(waits) if !waits.space.is_empty() => self.space_ns += ns,
            Doing::AtPipes(_) => self.data_ns += ns,
            Doing::Outside(_) => self.outside_ns += ns,
            Doing::Follows => self.follows_ns += ns,
        }
        self.alive_ns += ns;
    }

    /// Time that it needs even when no neighbour ever lets it wait.
    pub fn needs_ns(&self) -> f64 {
        self.busy_ns + self.outside_ns
    }

    /// Time that it would need if it never waited for a CPU either, and of its time on one, `without`
    /// were not needed.
    pub fn least_needs_ns(&self, without: f64) -> f64 {
        // Looks also find it runnable between a wake-up and its CPU, which is not charged.
        let on_cpu_ns = (self.busy_ns * self.on_cpu_share()).min(self.cpu_ns);
        on_cpu_ns * (1.0 - without) + self.outside_ns
    }

    /// Share of what its threads ran or could have run in which they had a CPU.
    pub fn on_cpu_share(&self) -> f64 {
        // Where looks see more than the scheduler charged, the rest is the way from the wake-up to
        // the CPU.
        let seen = self.threads_ns.max(self.cpu_ns + self.run_delay_ns);
        let off = self.run_delay_ns.min(seen).max(0.0);
        if seen > 0.0 { 1.0 - off / seen } else { 1.0 }
    }
}

/// Moments within this time around one decide which member waits least.
const AROUND_NS: u64 = 400_000_000;

/// Shares of waiting nearer to each other than this are not told apart: a few hundred looks have an
/// error of this size.
const BLUR: f64 = 0.03;

/// Who limited each stretch of a history.
#[derive(Clone, Debug, Default)]
pub struct Blamed {
    /// By span of the history.
    pub spans: Vec<Blame>,
}

/// Judges every moment.
pub fn blame(history: &StateHistory) -> Blamed {
    let awaited: Vec<Vec<u32>> =
        history.spans.iter().map(|span| awaited_in(history, span)).collect();
    let mut around = Around::of(history.actors.len());
    let near = steps(&history.spans, AROUND_NS);
    let spans = history.spans.iter().zip(near).map(|(span, Step { enters, leaves, .. })| {
        for at in enters {
            around.enters(&history.spans[at], &awaited[at]);
        }
        for at in leaves {
            around.leaves(&history.spans[at], &awaited[at]);
        }
        let mut blame = Adding::default();
        for moment in &span.moments {
            judge(history, &around, moment, &mut blame);
        }
        blame.sum()
    });
    Blamed { spans: spans.collect() }
}

impl Blamed {
    /// What some stretches add up to.
    pub fn sum(&self, spans: std::ops::Range<usize>) -> Blame {
        let mut adding = Adding::default();
        for (limit, ns) in self.spans[spans].iter().flat_map(|blame| &blame.limits) {
            adding.add(*limit, *ns);
        }
        let mut sum = adding.sum();
        sum.limits.sort_by(|a, b| b.1.total_cmp(&a.1));
        sum
    }
}

/// How each member spent some stretches of time.
pub fn uses(history: &StateHistory, spans: std::ops::Range<usize>) -> Vec<Use> {
    let mut uses = vec![Use::default(); history.actors.len()];
    for span in &history.spans[spans] {
        add_uses(&mut uses, span, 1.0);
    }
    uses
}

/// Adds what a span comes to, or takes it away again, by the sign.
fn add_uses(uses: &mut [Use], span: &Span, sign: f64) {
    for moment in &span.moments {
        let ns = sign * moment.ns;
        for (one, doing) in uses.iter_mut().zip(&*moment.doing) {
            one.add(doing, ns);
        }
    }
    for (one, account) in uses.iter_mut().zip(&span.accounts) {
        one.cpu_ns += sign * account.cpu_ns as f64;
        one.run_delay_ns += sign * account.run_delay_ns as f64;
    }
}

/// What is known of the time around a moment, by actor.
struct Around {
    uses: Vec<Use>,
    /// Moments in which another member waited for it, directly or through others.
    awaited: Vec<u32>,
}

impl Around {
    fn of(actors: usize) -> Around {
        Around { uses: vec![Use::default(); actors], awaited: vec![0; actors] }
    }

    fn enters(&mut self, span: &Span, awaited: &[u32]) {
        add_uses(&mut self.uses, span, 1.0);
        self.awaited.iter_mut().zip(awaited).for_each(|(sum, more)| *sum += more);
    }

    fn leaves(&mut self, span: &Span, awaited: &[u32]) {
        add_uses(&mut self.uses, span, -1.0);
        self.awaited.iter_mut().zip(awaited).for_each(|(sum, less)| *sum -= less);
    }
}

/// By actor, in how many moments of a span another waited for it, directly or through others.
fn awaited_in(history: &StateHistory, span: &Span) -> Vec<u32> {
    let mut sums = vec![0; history.actors.len()];
    for moment in span.moments.iter().filter(|moment| moment.ns > 0.0) {
        for (sum, is_awaited) in sums.iter_mut().zip(awaited(history, moment)) {
            *sum += u32::from(is_awaited);
        }
    }
    sums
}

/// By actor, whether another waits for it, directly or through others that wait, while it does not
/// wait for a neighbour itself. Of several at one end of a pipe those count that work at it, since
/// a shell that only holds it does not.
fn awaited(history: &StateHistory, moment: &Moment) -> Vec<bool> {
    let mut awaited = vec![false; history.actors.len()];
    // By pipe and side, how many are busy there, and how many wait.
    let mut counts: FxHashMap<(PipeAt, bool), (usize, usize)> = FxHashMap::default();
    let mut known: FxHashSet<(PipeAt, bool)> = FxHashSet::default();
    for (actor, doing) in moment.doing.iter().enumerate() {
        let Doing::AtPipes(waits) = doing else { continue };
        // A member that waits for both has data to pass on that is not taken.
        let for_space = !waits.space.is_empty();
        for &pipe in if for_space { &waits.space } else { &waits.data } {
            let Ends { writers, readers } = &history.pipes[pipe];
            let others = if for_space { readers } else { writers };
            let (busy, waiting) = *counts.entry((pipe, for_space)).or_insert_with(|| {
                others.iter().fold((0, 0), |(busy, waiting), &other| match moment.doing[other] {
                    Doing::Busy(_) => (busy + 1, waiting),
                    Doing::AtPipes(_) => (busy, waiting + 1),
                    _ => (busy, waiting),
                })
            });
            let waits_there = usize::from(others.binary_search(&actor).is_ok());
            // For whom those wait, they say themselves.
            if busy == 0 && waiting > waits_there || !known.insert((pipe, for_space)) {
                continue;
            }
            for &other in others {
                awaited[other] |= match moment.doing[other] {
                    Doing::Busy(_) => true,
                    Doing::Outside(_) => busy == 0,
                    _ => false,
                };
            }
        }
    }
    awaited
}

fn judge(history: &StateHistory, around: &Around, moment: &Moment, blame: &mut Adding) {
    let actors = 0..history.actors.len();
    let works =
        |&actor: &ActorId| matches!(moment.doing[actor], Doing::Busy(_) | Doing::Outside(_));
    let mut candidates: Vec<ActorId> = actors.filter(works).collect();
    // Who sleeps, and is never waited for, is beside the matter.
    let matters = |&actor: &ActorId| {
        matches!(moment.doing[actor], Doing::Busy(_)) || around.awaited[actor] > 0
    };
    if candidates.iter().any(matters) {
        candidates.retain(matters);
    }
    if candidates.is_empty() {
        if moment.doing.iter().any(|doing| *doing != Doing::Absent) {
            blame.add(circle(history, moment), moment.ns);
        }
        return;
    }
    let weight = |actor: ActorId| {
        let one = &around.uses[actor];
        let waits = (one.data_ns + one.space_ns) / one.alive_ns.max(1.0);
        (waits + BLUR).powi(-2)
    };
    let whole: f64 = candidates.iter().map(|&actor| weight(actor)).sum();
    for actor in candidates {
        let ns = moment.ns * weight(actor) / whole;
        match moment.doing[actor] {
            Doing::Outside(outside) => blame.add(Limit::Outside(actor, outside), ns),
            _ => {
                let on_cpu = around.uses[actor].on_cpu_share();
                blame.add(Limit::Busy(actor), ns * on_cpu);
                if on_cpu < 1.0 {
                    blame.add(Limit::NoCpu(actor), ns * (1.0 - on_cpu));
                }
            }
        }
    }
}

/// The pipe at which everybody waits for everybody: both of its ends have been woken, or are about
/// to be.
fn circle(history: &StateHistory, moment: &Moment) -> Limit {
    let both = |&pipe: &PipeAt| {
        let ends = &history.pipes[pipe];
        ends.writers.iter().any(|&actor| moment.doing[actor].waits_at(pipe, true))
            && ends.readers.iter().any(|&actor| moment.doing[actor].waits_at(pipe, false))
    };
    (0..history.pipes.len()).find(both).map_or(Limit::Unknown, Limit::WakeUps)
}

#[cfg(test)]
mod tests;
