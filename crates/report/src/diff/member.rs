//! One member before and after: its roles, its functions, what it slept for.

use std::sync::Arc;

use pipeprof_profiler::profile::{Frame, Mode, Profile};
use pipeprof_runner::pipeline::End;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::cost::{Change, Count, Point, Scale, Series};
use super::matching::{self, Matched, MatchedBy, Who};
use super::unit::{Scales, Unit};
use super::{NotCompared, Which};
use crate::escape::printable;
use crate::ledger::blocked_table;
use crate::roles::{Reason, Role, source_name};
use crate::run::Run;

/// Functions listed a member in JSON, and how many of those gone or new.
const TOP: usize = 40;

/// A member before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberDiff {
    /// Which end, of a built-in pair.
    pub end: Option<End>,
    /// In A.
    pub a: Named,
    /// In B.
    pub b: Named,
    /// Why these two were taken for one.
    pub matched_by: MatchedBy,
    /// All its CPU time.
    pub total: Change,
    /// The largest change first.
    pub roles: Vec<RoleChange>,
    /// By the function itself, without what it calls; the largest change first. What changed
    /// little is left out.
    pub functions: Vec<FunctionChange>,
    /// What it slept for, per GiB; empty where that was not recorded on both sides.
    pub blocked: Vec<BlockedChange>,
    /// Ready to run, and waiting for a CPU; likewise.
    pub runnable: Option<Change>,
}

impl MemberDiff {
    /// `sort`; `gzip → zstd` where the two sides have different names.
    pub(super) fn names(&self) -> String {
        let (a, b) = (printable(&self.a.comm), printable(&self.b.comm));
        if a == b { a.into_owned() } else { format!("{a} → {b}") }
    }
}

/// Who it is on one side, in the first run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Untrusted text.
    pub comm: String,
    /// Thread-group id.
    pub pid: i32,
}

/// A role before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RoleChange {
    /// The role.
    pub role: Role,
    /// What it cost.
    #[serde(flatten)]
    pub change: Change,
}

/// A function before and after, by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionChange {
    /// As its source spells it, so that two builds of a kernel can be compared. Untrusted text.
    pub name: Arc<str>,
    /// Kernel or user.
    pub mode: Mode,
    /// On which side it was sampled.
    pub seen: SampledOn,
    /// What it cost.
    #[serde(flatten)]
    pub change: Change,
}

/// On which side something was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SampledOn {
    /// Both.
    Both,
    /// B only.
    New,
    /// A only.
    Gone,
}

/// What a member slept for, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BlockedChange {
    /// Why it slept.
    pub reason: Reason,
    /// How long.
    #[serde(flatten)]
    pub change: Change,
}

/// Which members are compared, and which are left out.
pub(super) struct MatchedMembers {
    pub(super) matched: Vec<Matched>,
    pub(super) left_out: Vec<NotCompared>,
}

/// The members of a run in the order of the pipeline.
fn order(run: &Run) -> Vec<usize> {
    run.members().into_iter().map(|(at, _)| at).collect()
}

/// By the member of A, ascending.
fn pairs(a: &Run, b: &Run) -> Vec<(usize, usize)> {
    let (order_a, order_b) = (order(a), order(b));
    let mut pairs: Vec<(usize, usize)> = matching::pairs(&line(a, &order_a), &line(b, &order_b))
        .into_iter()
        .map(|(i, j)| (order_a[i], order_b[j]))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// The counterpart of a member of A.
fn partner(pairs: &[(usize, usize)], at: usize) -> Option<usize> {
    let place = pairs.binary_search_by_key(&at, |&(from, _)| from).ok()?;
    Some(pairs[place].1)
}

fn line<'a>(run: &'a Run, order: &[usize]) -> Vec<Who<'a>> {
    let who = |&at: &usize| {
        let member = &run.profile.members[at];
        let holds_pipe = run.holds_pipe(at);
        Who { end: member.end, comm: &member.comm, holds_pipe }
    };
    order.iter().map(who).collect()
}

/// Pipes lead from one member to another: a process that holds none of them is a shell around the
/// pipeline.
fn has_pipes(run: &Run) -> bool {
    run.pipeline.pipes.iter().any(|pipe| !pipe.is_internal())
}

/// Finds for every member of A's first run its like in all other runs.
pub(super) fn match_members(a: &[&Run], b: &[&Run]) -> MatchedMembers {
    let (Some(first_a), Some(first_b)) = (a.first(), b.first()) else {
        return MatchedMembers { matched: Vec::new(), left_out: Vec::new() };
    };
    let couples = pairs(first_a, first_b);
    let both_have_pipes = has_pipes(first_a) && has_pipes(first_b);
    // Where a member of the first run is in the others; `None` where it is missing in one.
    let follow = |runs: &[&Run]| -> Vec<Option<Vec<usize>>> {
        let Some((first, others)) = runs.split_first() else { return Vec::new() };
        let maps: Vec<Vec<(usize, usize)>> =
            others.iter().map(|other| pairs(first, other)).collect();
        (0..first.profile.members.len())
            .map(|at| {
                let mut places = vec![at];
                for map in &maps {
                    places.push(partner(map, at)?);
                }
                Some(places)
            })
            .collect()
    };
    let (all_a, all_b) = (follow(a), follow(b));
    let mut matched = Vec::new();
    let mut left_out = Vec::new();
    for at in order(first_a) {
        let Some(other) = partner(&couples, at) else {
            left_out.push(NotCompared::of(Which::A, first_a, at, "no counterpart in B"));
            continue;
        };
        let (one, two) = (&first_a.profile.members[at], &first_b.profile.members[other]);
        if one.weight() == 0 && two.weight() == 0 {
            left_out.push(NotCompared::of(Which::Both, first_a, at, "it was never sampled"));
            continue;
        }
        if both_have_pipes && !first_a.holds_pipe(at) && !first_b.holds_pipe(other) {
            left_out.push(NotCompared::of(Which::Both, first_a, at, "it has no pipe"));
            continue;
        }
        let by = match one.end {
            Some(_) => MatchedBy::End,
            None if one.comm == two.comm => MatchedBy::Name,
            None => MatchedBy::Place,
        };
        match (&all_a[at], &all_b[other]) {
            (Some(a), Some(b)) => matched.push(Matched { a: a.clone(), b: b.clone(), by }),
            _ => {
                let why = "it is not in every run";
                left_out.push(NotCompared::of(Which::Both, first_a, at, why));
            }
        }
    }
    let found: FxHashSet<usize> = couples.iter().map(|&(_, to)| to).collect();
    for at in order(first_b) {
        if !found.contains(&at) {
            left_out.push(NotCompared::of(Which::B, first_b, at, "no counterpart in A"));
        }
    }
    MatchedMembers { matched, left_out }
}

/// A function's name by which two builds of a program or kernel can be compared.
pub(super) fn name_of(frame: &Frame) -> Arc<str> {
    if frame.mode == Mode::User {
        return Arc::clone(&frame.name);
    }
    let name = source_name(&frame.name);
    if *frame.name == *name { Arc::clone(&frame.name) } else { Arc::from(name) }
}

/// What a member did in one run.
#[derive(Default)]
struct Tally {
    roles: Vec<Count>,
    functions: FxHashMap<(Arc<str>, Mode), Count>,
}

fn tally(run: &Run, member: usize, names: &[Arc<str>]) -> Tally {
    let Run { profile, roles, .. } = run;
    let mut tally = Tally { roles: vec![Count::default(); Role::ALL.len()], ..Tally::default() };
    for weight in &profile.members[member].on_cpu {
        tally.roles[roles.role(weight.stack).index()].add(weight.samples, weight.weight);
        if let Some(&leaf) = profile.stack(weight.stack).first() {
            let key = (Arc::clone(&names[leaf.index()]), profile.frame(leaf).mode);
            tally.functions.entry(key).or_default().add(weight.samples, weight.weight);
        }
    }
    tally
}

fn tallies(runs: &[&Run], members: &[usize]) -> Vec<Tally> {
    let names = |profile: &Profile| profile.frames().iter().map(name_of).collect::<Vec<_>>();
    runs.iter()
        .zip(members)
        .map(|(run, &member)| tally(run, member, &names(&run.profile)))
        .collect()
}

pub(super) fn compare(
    a: &[&Run],
    b: &[&Run],
    matched: &Matched,
    scales: &Scales,
    unit: Unit,
) -> MemberDiff {
    let (tallies_a, tallies_b) = (tallies(a, &matched.a), tallies(b, &matched.b));
    let series = |of: &dyn Fn(&Tally) -> Count| {
        let points = |tallies: &[Tally], scales: &[Scale]| -> Vec<Point> {
            tallies.iter().zip(scales).map(|(tally, scale)| scale.of(of(tally))).collect()
        };
        Series::sampled(points(&tallies_a, &scales.a), points(&tallies_b, &scales.b))
    };
    let seen = |of: &dyn Fn(&Tally) -> Count| {
        let any = |tallies: &[Tally]| tallies.iter().any(|tally| of(tally).samples > 0);
        match (any(&tallies_a), any(&tallies_b)) {
            (true, true) => Some(SampledOn::Both),
            (true, false) => Some(SampledOn::Gone),
            (false, true) => Some(SampledOn::New),
            (false, false) => None,
        }
    };
    let mut roles: Vec<RoleChange> = Role::ALL
        .into_iter()
        .filter(|role| seen(&|tally| tally.roles[role.index()]).is_some())
        .map(|role| RoleChange {
            role,
            change: series(&|tally| tally.roles[role.index()]).change(),
        })
        .collect();
    roles.sort_by(|x, y| Change::by_size(&x.change, &y.change));

    let mut keys: Vec<&(Arc<str>, Mode)> =
        tallies_a.iter().chain(&tallies_b).flat_map(|tally| tally.functions.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut functions: Vec<FunctionChange> = keys
        .into_iter()
        .filter_map(|key| {
            let of = |tally: &Tally| tally.functions.get(key).copied().unwrap_or_default();
            Some(FunctionChange {
                name: Arc::clone(&key.0),
                mode: key.1,
                seen: seen(&of)?,
                change: series(&of).change(),
            })
        })
        .collect();
    functions.sort_by(|x, y| Change::by_size(&x.change, &y.change));
    shorten(&mut functions);

    let named = |runs: &[&Run], members: &[usize]| {
        let member = runs.first().zip(members.first()).map(|(run, &at)| &run.profile.members[at]);
        let (comm, pid) = member.map_or((String::new(), 0), |m| (m.comm.clone(), m.pid));
        Named { comm, pid }
    };
    let first = a.first().zip(matched.a.first());
    let mut diff = MemberDiff {
        end: first.and_then(|(run, &at)| run.profile.members[at].end),
        a: named(a, &matched.a),
        b: named(b, &matched.b),
        matched_by: matched.by,
        total: scales.whole().change(),
        roles,
        functions,
        blocked: Vec::new(),
        runnable: None,
    };
    if unit == Unit::NsPerGib {
        (diff.blocked, diff.runnable) = asleep(a, b, matched).unwrap_or_default();
    }
    diff
}

/// Keeps what changed, and the largest of the rest.
fn shorten(functions: &mut Vec<FunctionChange>) {
    let mut kept = 0;
    functions.retain(|function| {
        kept += 1;
        function.change.is_clear() || kept <= TOP
    });
}

/// What a member was not on a CPU for in one run, per GiB.
struct Asleep {
    /// In the order of [`Reason::ALL`].
    reasons: Vec<f64>,
    runnable: f64,
}

/// Reasons to sleep, and waiting for a CPU; `None` where a run doesn't tell.
fn asleep(
    a: &[&Run],
    b: &[&Run],
    matched: &Matched,
) -> Option<(Vec<BlockedChange>, Option<Change>)> {
    let side = |runs: &[&Run], members: &[usize]| -> Option<Vec<Asleep>> {
        let of_run = |(run, &at): (&&Run, &usize)| {
            let member = &run.profile.members[at];
            let gib = run.payload().ok()?.gib();
            let mut reasons = vec![0.0; Reason::ALL.len()];
            for share in blocked_table(run, member, None) {
                reasons[share.reason as usize] = share.ns as f64 / gib;
            }
            Some(Asleep { reasons, runnable: member.time?.runnable_ns as f64 / gib })
        };
        runs.iter().zip(members).map(of_run).collect()
    };
    let (side_a, side_b) = (side(a, &matched.a)?, side(b, &matched.b)?);
    let change = |of: &dyn Fn(&Asleep) -> f64| {
        let costs = |side: &[Asleep]| side.iter().map(of).collect::<Vec<f64>>();
        Series::exact(&costs(&side_a), &costs(&side_b)).change()
    };
    let mut blocked: Vec<BlockedChange> = Reason::ALL
        .into_iter()
        .map(|reason| BlockedChange { reason, change: change(&|run| run.reasons[reason as usize]) })
        .filter(|blocked| blocked.change.a > 0.0 || blocked.change.b > 0.0)
        .collect();
    blocked.sort_by(|x, y| Change::by_size(&x.change, &y.change));
    Some((blocked, Some(change(&|run| run.runnable))))
}
