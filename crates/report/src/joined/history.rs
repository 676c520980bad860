//! Two state histories as one, by one clock, with the connection between them as a pipe.
//!
//! What both hosts did at one moment is known only as well as their clocks are aligned, so the
//! states of the two within a bin are taken as independent: each state of one host with each of the
//! other, by the product of their shares.

use std::sync::Arc;

use pipeprof_profiler::states::{Account, Connection};
use pipeprof_runner::pipeline::Pipeline;
use rustc_hash::FxHashMap;

use super::connection::Shared;
use crate::facts::states::{
    Actor, ActorId, Doing, Ends, Moment, Outside, PipeAt, Span, StateHistory, Waits,
};
use crate::verdict::Evidence;

/// What is known of one of two hosts.
#[derive(Clone, Debug)]
pub(super) struct Half<'a> {
    pub(super) history: StateHistory,
    pub(super) evidence: Evidence,
    pub(super) pipeline: &'a Pipeline,
    /// What it is called, safe to print.
    pub(super) host: String,
    /// CPUs that it has.
    pub(super) cpus: usize,
}

impl Half<'_> {
    /// The actors that hold a connection.
    fn holders(&self, seen: &Connection) -> Vec<ActorId> {
        let is_it = |of: &Connection| (of.local, of.remote) == (seen.local, seen.remote);
        let actors = self.history.actors.iter().enumerate();
        let holding = actors.filter(|(_, actor)| actor.connections.iter().any(is_it));
        holding.map(|(actor, _)| actor).collect()
    }
}

/// More moments of a span and host than this are not told apart.
const MOST_MOMENTS: usize = 16;

/// What all moments of the joined history hold together, so that many members are known in less
/// detail.
const MOST_CELLS: usize = 10_000_000;

/// The two as one, for as long as both were watched. The clock is that of the host that sends, by
/// which the other's is `ahead_ns` ahead. The connection is the last pipe.
pub(super) fn joined(
    sender: &Half<'_>,
    receiver: &Half<'_>,
    seen: &Shared,
    ahead_ns: i64,
) -> StateHistory {
    let (first, second) = (&sender.history, &receiver.history);
    let connection = first.pipes.len() + second.pipes.len();
    let (writers, readers) = (sender.holders(&seen.sender), receiver.holders(&seen.receiver));
    let moved = Moved { actors: first.actors.len(), pipes: first.pipes.len() };
    let mut firsts = Doings::of(&writers, true, 0, connection);
    let mut seconds = Doings::of(&readers, false, moved.pipes, connection);
    let actors = first.actors.len() + second.actors.len();
    let spans = first.spans.len() + second.spans.len();
    let room = MOST_CELLS / (actors * spans).max(1);
    let most = (room.isqrt()).clamp(1, MOST_MOMENTS);
    let mut pairs: FxHashMap<(usize, usize), Arc<[Doing]>> = FxHashMap::default();
    let mut made = Vec::new();
    let mut looks = [0.0; 2];
    for (one, other) in overlapping(&first.spans, &second.spans, ahead_ns) {
        let (from_ns, until_ns) = common(one, other, ahead_ns);
        let length = (until_ns - from_ns) as f64;
        let mut moments = Vec::new();
        let (of_first, of_second) = (firsts.shares(one, most), seconds.shares(other, most));
        for &(a, share) in &of_first {
            for &(b, other_share) in &of_second {
                let doing = pairs.entry((a, b)).or_insert_with(|| {
                    firsts.all[a].iter().chain(&seconds.all[b]).cloned().collect()
                });
                let ns = length * share * other_share;
                moments.push(Moment { ns, doing: Arc::clone(doing) });
            }
        }
        let parts = [one, other].map(|span| length / (span.until_ns - span.from_ns).max(1) as f64);
        for ((looks, span), part) in looks.iter_mut().zip([one, other]).zip(parts) {
            *looks += span.looks * part;
        }
        let account = |part: f64| {
            move |of: &Account| Account {
                cpu_ns: (of.cpu_ns as f64 * part) as u64,
                run_delay_ns: (of.run_delay_ns as f64 * part) as u64,
            }
        };
        let accounts = one.accounts.iter().map(account(parts[0]));
        let accounts = accounts.chain(other.accounts.iter().map(account(parts[1]))).collect();
        let looks = (one.looks * parts[0]).min(other.looks * parts[1]);
        made.push(Span { from_ns, until_ns, looks, moments, accounts });
    }
    let mut pipes = first.pipes.clone();
    pipes.extend(second.pipes.iter().map(|ends| moved.ends(ends)));
    pipes.push(Ends { writers, readers: moved.actors(&readers) });
    let actors = first.actors.iter().map(|actor| bound(actor, sender.cpus));
    let others = second.actors.iter().map(|actor| bound(actor, receiver.cpus));
    let others =
        others.map(|actor| Actor { member: actor.member + sender.pipeline.members.len(), ..actor });
    StateHistory {
        actors: actors.chain(others).collect(),
        pipes,
        spans: made,
        looks: looks[0].min(looks[1]).round() as u64,
        blind_share: first.blind_share.max(second.blind_share),
        // Of two machines neither has the pressure of the other.
        pressure: None,
        idle_cpus: idle(sender, receiver),
        is_phase: false,
    }
}

/// An actor that may run on all CPUs of its host may run on any that there are.
fn bound(actor: &Actor, cpus: usize) -> Actor {
    let cpus_allowed = actor.cpus_allowed.filter(|&allowed| (allowed as usize) < cpus);
    Actor { cpus_allowed, ..actor.clone() }
}

/// As many of all CPUs as are idle on the host with fewer idle ones: those of one are of no use to
/// the other.
fn idle(sender: &Half<'_>, receiver: &Half<'_>) -> Option<f64> {
    let share = |half: &Half<'_>| Some(half.history.idle_cpus? / half.cpus.max(1) as f64);
    let least = share(sender)?.min(share(receiver)?);
    Some(least * (sender.cpus + receiver.cpus) as f64)
}

/// How far the second host's actors and pipes have moved.
#[derive(Clone, Copy)]
struct Moved {
    actors: usize,
    pipes: usize,
}

impl Moved {
    fn actors(self, actors: &[ActorId]) -> Vec<ActorId> {
        actors.iter().map(|actor| actor + self.actors).collect()
    }

    fn ends(self, ends: &Ends) -> Ends {
        Ends { writers: self.actors(&ends.writers), readers: self.actors(&ends.readers) }
    }
}

/// What the actors of one host did, each joint state once, by the places of the joined history.
struct Doings<'a> {
    holders: &'a [ActorId],
    sends: bool,
    pipes: usize,
    connection: PipeAt,
    all: Vec<Vec<Doing>>,
    known: FxHashMap<usize, usize>,
}

impl<'a> Doings<'a> {
    fn of(holders: &'a [ActorId], sends: bool, pipes: usize, connection: PipeAt) -> Self {
        let (all, known) = (Vec::new(), FxHashMap::default());
        Doings { holders, sends, pipes, connection, all, known }
    }

    /// The joint states of a span and the share of each, those that were found most often.
    fn shares(&mut self, span: &Span, most: usize) -> Vec<(usize, f64)> {
        let found = span.moments.iter().filter(|moment| moment.ns > 0.0);
        let mut found: Vec<(usize, f64)> =
            found.map(|moment| (self.place(&moment.doing), moment.ns)).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(most);
        let whole: f64 = found.iter().map(|(_, ns)| ns).sum();
        found.iter_mut().for_each(|(_, ns)| *ns /= whole);
        found
    }

    fn place(&mut self, doing: &Arc<[Doing]>) -> usize {
        let address = Arc::as_ptr(doing).cast::<Doing>() as usize;
        if let Some(&known) = self.known.get(&address) {
            return known;
        }
        let moved = doing.iter().enumerate().map(|(actor, doing)| self.moved(actor, doing));
        let moved = moved.collect();
        self.all.push(moved);
        self.known.insert(address, self.all.len() - 1);
        self.all.len() - 1
    }

    /// Who holds the connection and waits at a socket waits at the connection.
    fn moved(&self, actor: ActorId, doing: &Doing) -> Doing {
        match doing {
            Doing::Outside(Outside::For(why))
                if why.is_at_socket() && self.holders.contains(&actor) =>
            {
                let here = vec![self.connection];
                let (data, space) = if self.sends { (vec![], here) } else { (here, vec![]) };
                Doing::at_pipes(data, space)
            }
            Doing::AtPipes(waits) => {
                let Waits { data, space } = &**waits;
                let moved = |pipes: &[PipeAt]| pipes.iter().map(|pipe| pipe + self.pipes).collect();
                Doing::at_pipes(moved(data), moved(space))
            }
            other => other.clone(),
        }
    }
}

/// The stretch that two spans have in common, by the clock of the first.
fn common(one: &Span, other: &Span, ahead_ns: i64) -> (u64, u64) {
    let by_first = |ns: u64| ns.saturating_add_signed(ahead_ns.saturating_neg());
    (one.from_ns.max(by_first(other.from_ns)), one.until_ns.min(by_first(other.until_ns)))
}

/// All pairs of spans that have time in common, in the order of time.
fn overlapping<'a>(
    first: &'a [Span],
    second: &'a [Span],
    ahead_ns: i64,
) -> impl Iterator<Item = (&'a Span, &'a Span)> {
    let (mut at, mut other) = (0, 0);
    std::iter::from_fn(move || {
        loop {
            let pair = (first.get(at)?, second.get(other)?);
            let (from, until) = common(pair.0, pair.1, ahead_ns);
            let first_ends =
                pair.0.until_ns <= pair.1.until_ns.saturating_add_signed(ahead_ns.saturating_neg());
            if first_ends {
                at += 1;
            } else {
                other += 1;
            }
            if from < until {
                return Some(pair);
            }
        }
    })
}
