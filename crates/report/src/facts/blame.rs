//! Who limits the pipeline at each moment, and what that adds up to.
//!
//! Waits are followed: who waits for data is limited by that pipe's writer, who waits for space by
//! its reader, up to a member that waits for nobody (wPerf, OSDI '18, follows waits between threads
//! in the same way). Where several members are busy at a moment, that moment belongs to the one
//! that waits least around it: a member that limits never waits for its neighbours, and who often
//! waits has room to spare (as the busy and back-pressured times of Flink's tasks say, and the true
//! rates of DS2, OSDI '18).
//!
//! What a member limits is its own time on a CPU, its wait for a CPU, and what it waits for outside.
//! Shares of the limit add up to all of the time.

use serde::Serialize;

use super::states::{ActorId, Doing, Moment, Outside, PipeAt, Scene, Span};

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

    fn add(&mut self, limit: Limit, ns: f64) {
        self.whole_ns += ns;
        match self.limits.iter_mut().find(|(known, _)| *known == limit) {
            Some((_, sum)) => *sum += ns,
            None => self.limits.push((limit, ns)),
        }
    }

    fn sort(&mut self) {
        self.limits.sort_by(|a, b| b.1.total_cmp(&a.1));
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
    /// Time that it needs even when no neighbour ever lets it wait.
    pub fn needs_ns(&self) -> f64 {
        self.busy_ns + self.outside_ns
    }

    /// Time that it would need if it never waited for a CPU either, and of its time on one, `without`
    /// were not needed.
    pub fn least_needs_ns(&self, without: f64) -> f64 {
        // Looks find it runnable on the way from a wake-up to its CPU too, which nobody charges.
        let on_cpu_ns = (self.busy_ns * self.on_cpu_share()).min(self.cpu_ns);
        on_cpu_ns * (1.0 - without) + self.outside_ns
    }

    /// Share of what its threads ran or could have run in which they had a CPU.
    pub fn on_cpu_share(&self) -> f64 {
        // Where looks see more than the scheduler charged, the rest is the way from the wake-up to
        // the CPU.
        let seen = self.threads_ns.max(self.cpu_ns + self.run_delay_ns);
        let off = self.run_delay_ns.min(seen);
        if seen > 0.0 { 1.0 - off / seen } else { 1.0 }
    }
}

/// Moments within this time of one tell who waits least around it.
const AROUND_NS: u64 = 400_000_000;

/// Shares of waiting nearer to each other than this are not told apart: a few hundred looks have an
/// error of this size.
const BLUR: f64 = 0.03;

/// Who limited each stretch of a scene.
#[derive(Clone, Debug, Default)]
pub struct Blamed {
    /// By span of the scene.
    pub spans: Vec<Blame>,
}

/// Judges every moment.
pub fn blame(scene: &Scene) -> Blamed {
    let near = Neighbourhood::of(scene);
    let spans = scene.spans.iter().enumerate().map(|(at, span)| {
        let around = near.around(scene, at);
        let mut blame = Blame::default();
        for moment in &span.moments {
            judge(scene, &around, moment, &mut blame);
        }
        blame
    });
    Blamed { spans: spans.collect() }
}

impl Blamed {
    /// What some stretches add up to.
    pub fn sum(&self, spans: std::ops::Range<usize>) -> Blame {
        let mut sum = Blame::default();
        for (limit, ns) in self.spans[spans].iter().flat_map(|blame| &blame.limits) {
            sum.add(*limit, *ns);
        }
        sum.sort();
        sum
    }
}

/// How each member spent some stretches of time.
pub fn uses(scene: &Scene, spans: std::ops::Range<usize>) -> Vec<Use> {
    let mut uses = vec![Use::default(); scene.actors.len()];
    for span in &scene.spans[spans] {
        add_uses(&mut uses, span);
    }
    uses
}

fn add_uses(uses: &mut [Use], span: &Span) {
    for moment in &span.moments {
        for (one, doing) in uses.iter_mut().zip(&moment.doing) {
            let ns = moment.ns;
            if *doing != Doing::Absent {
                one.alive_ns += ns;
            }
            match doing {
                Doing::Absent => {}
                Doing::Busy(threads) => {
                    one.busy_ns += ns;
                    one.threads_ns += ns * f64::from(*threads);
                }
                Doing::AtPipes { space, .. } if !space.is_empty() => one.space_ns += ns,
                Doing::AtPipes { .. } => one.data_ns += ns,
                Doing::Outside(_) => one.outside_ns += ns,
                Doing::Follows => one.follows_ns += ns,
            }
        }
    }
    for (one, account) in uses.iter_mut().zip(&span.accounts) {
        one.cpu_ns += account.cpu_ns as f64;
        one.run_delay_ns += account.run_delay_ns as f64;
    }
}

/// What is known of the time around a moment, by actor.
#[derive(Clone, Debug, Default)]
struct Around {
    uses: Vec<Use>,
    /// Time in which somebody waited for it in the end.
    awaited_ns: Vec<f64>,
}

/// Sums of spans, each with its neighbours.
struct Neighbourhood {
    spans: Vec<Around>,
}

impl Neighbourhood {
    fn of(scene: &Scene) -> Self {
        let actors = scene.actors.len();
        let each = scene.spans.iter().map(|span| {
            let mut around =
                Around { uses: vec![Use::default(); actors], awaited_ns: vec![0.0; actors] };
            add_uses(&mut around.uses, span);
            for moment in &span.moments {
                let mut awaited = vec![false; actors];
                for actor in 0..actors {
                    let ends = chain_ends(scene, moment, actor);
                    ends.into_iter().for_each(|end| awaited[end] = true);
                }
                for (sum, awaited) in around.awaited_ns.iter_mut().zip(awaited) {
                    *sum += if awaited { moment.ns } else { 0.0 };
                }
            }
            around
        });
        Neighbourhood { spans: each.collect() }
    }

    fn around(&self, scene: &Scene, at: usize) -> Around {
        let middle = (scene.spans[at].from_ns + scene.spans[at].until_ns) / 2;
        let is_near =
            |span: &Span| span.until_ns + AROUND_NS > middle && span.from_ns < middle + AROUND_NS;
        let first =
            scene.spans[..at].iter().rposition(|span| !is_near(span)).map_or(0, |at| at + 1);
        let after = scene.spans[at..].iter().position(|span| !is_near(span));
        let last = after.map_or(scene.spans.len(), |after| at + after.max(1));
        let actors = scene.actors.len();
        let mut sum = Around { uses: vec![Use::default(); actors], awaited_ns: vec![0.0; actors] };
        for (span, around) in scene.spans[first..last].iter().zip(&self.spans[first..last]) {
            add_uses(&mut sum.uses, span);
            for (sum, ns) in sum.awaited_ns.iter_mut().zip(&around.awaited_ns) {
                *sum += ns;
            }
        }
        sum
    }
}

/// Whom a waiting actor waits for in the end; nobody where it does not wait for a neighbour, or
/// where the waits go round in a circle.
fn chain_ends(scene: &Scene, moment: &Moment, actor: ActorId) -> Vec<ActorId> {
    let mut ends = Vec::new();
    let mut seen = vec![false; scene.actors.len()];
    seen[actor] = true;
    let mut left = next_in_chain(scene, moment, actor);
    while let Some(next) = left.pop() {
        if std::mem::replace(&mut seen[next], true) {
            continue;
        }
        match &moment.doing[next] {
            Doing::AtPipes { .. } => left.extend(next_in_chain(scene, moment, next)),
            Doing::Busy(_) | Doing::Outside(_) => ends.push(next),
            Doing::Absent | Doing::Follows => {}
        }
    }
    ends
}

/// The neighbours that an actor waits for.
fn next_in_chain(scene: &Scene, moment: &Moment, actor: ActorId) -> Vec<ActorId> {
    let Doing::AtPipes { data, space } = &moment.doing[actor] else { return Vec::new() };
    // Who waits for both has something to pass on that is not taken.
    let mut next = Vec::new();
    if space.is_empty() {
        for &pipe in data {
            next.extend(who_matters(moment, &scene.pipes[pipe].writers, actor));
        }
    } else {
        for &pipe in space {
            next.extend(who_matters(moment, &scene.pipes[pipe].readers, actor));
        }
    }
    next
}

/// Of several at one end of a pipe those that work at it: a shell that only holds it does not.
fn who_matters(moment: &Moment, ends: &[ActorId], but: ActorId) -> Vec<ActorId> {
    let rank = |actor: &ActorId| match &moment.doing[*actor] {
        Doing::Busy(_) => 0,
        Doing::AtPipes { .. } => 1,
        Doing::Outside(_) => 2,
        Doing::Follows | Doing::Absent => 3,
    };
    let others = ends.iter().copied().filter(|&actor| actor != but);
    let best = others.clone().map(|actor| rank(&actor)).min().unwrap_or(3);
    others.filter(|actor| rank(actor) == best && best < 3).collect()
}

fn judge(scene: &Scene, around: &Around, moment: &Moment, blame: &mut Blame) {
    let actors = 0..scene.actors.len();
    let works =
        |&actor: &ActorId| matches!(moment.doing[actor], Doing::Busy(_) | Doing::Outside(_));
    let mut candidates: Vec<ActorId> = actors.filter(works).collect();
    // Who sleeps, and is never waited for, is beside the matter.
    let matters = |&actor: &ActorId| {
        matches!(moment.doing[actor], Doing::Busy(_)) || around.awaited_ns[actor] > 0.0
    };
    if candidates.iter().any(matters) {
        candidates.retain(matters);
    }
    if candidates.is_empty() {
        if moment.doing.iter().any(|doing| *doing != Doing::Absent) {
            blame.add(circle(scene, moment), moment.ns);
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
fn circle(scene: &Scene, moment: &Moment) -> Limit {
    let both = |&pipe: &PipeAt| {
        let ends = &scene.pipes[pipe];
        ends.writers.iter().any(|&actor| moment.doing[actor].waits_at(pipe, true))
            && ends.readers.iter().any(|&actor| moment.doing[actor].waits_at(pipe, false))
    };
    (0..scene.pipes.len()).find(both).map_or(Limit::Unknown, Limit::WakeUps)
}

#[cfg(test)]
mod tests;
