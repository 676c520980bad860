//! One sentence per stage: what dominates its profile, what the next stage is meant to remove, and
//! whether it did so on this machine.

use pipeprof_runner::cpus::Pin;
use pipeprof_runner::pipeline::End;
use pipeprof_runner::stage::{ReadWith, Stage, WriteWith};

use super::standing::{EndStanding, Standing, Standings, may_be_chance};
use super::{Entry, Ladder};
use crate::escape::printable;
use crate::roles::Role;
use crate::statistics::Sample;
use crate::words::layout::cut;
use crate::words::units::duration;
use crate::words::units::listed;

/// A cost below this share of an end's CPU time is nothing to remove.
const LITTLE: f64 = 0.03;

/// Samples below which a cost says only that it exists.
const FEW_SAMPLES: u64 = 30;

/// Characters of a command line in a sentence.
pub(super) const LONGEST: usize = 40;

/// What a step is meant to take away: of which end, in which roles.
struct ExpectedSaving {
    what: String,
    roles: Vec<(End, Role)>,
}

/// A sentence or two for each entry, in the order of the entries.
pub fn sentences(ladder: &Ladder, standings: &Standings) -> Vec<String> {
    (0..ladder.entries.len()).map(|entry| sentence(ladder, standings, entry)).collect()
}

fn sentence(ladder: &Ladder, standings: &Standings, entry: usize) -> String {
    let this = &ladder.entries[entry];
    let name = cut(&printable(&this.name), LONGEST);
    if let Some(why) = &this.refused {
        return format!("{name} could not be run: {}.", printable(why));
    }
    let standing = &standings.standings[entry];
    let mut text = match dominated_by(standing) {
        Some(by) => format!("{name} spends most on {by}."),
        None => format!("{name} has no profile of its CPU time."),
    };
    let next = ladder.entries.get(entry + 1).filter(|next| next.is_stage() && this.is_stage());
    if let Some(next) = next {
        text.push(' ');
        text.push_str(&step(ladder, standings, entry, next));
    }
    text
}

/// `wake-up (36 %, both ends) and copy in (18 %, writer)`, of the CPU time of all ends.
fn dominated_by(standing: &Standing) -> Option<String> {
    let whole = standing.ns_per_gib().filter(|ns| *ns > 0.0)?;
    let mut all: Vec<(Role, f64)> = Role::ALL
        .into_iter()
        .map(|role| (role, standing.ends.iter().map(|end| end.ns_of(role)).sum()))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    // The second and third are named where they are half as much as the first.
    let most = all.first()?.1;
    let named: Vec<String> = all
        .iter()
        .take(3)
        .filter(|(_, ns)| *ns >= most / 2.0)
        .map(|&(role, ns)| {
            let percent = 100.0 * ns / whole;
            format!("{} ({percent:.0} %, {})", role.label(), whose(standing, role, ns))
        })
        .collect();
    Some(listed(&named))
}

/// The ends at which the role is, but for what is negligible.
fn whose(standing: &Standing, role: Role, ns: f64) -> String {
    let has = |end: &&EndStanding| end.ns_of(role) >= 0.15 * ns;
    let ends: Vec<&EndStanding> = standing.ends.iter().filter(has).collect();
    match &ends[..] {
        [_, _] if standing.ends.len() == 2 => "both ends".to_owned(),
        ends => {
            let names: Vec<String> =
                ends.iter().map(|end| printable(&end.name).into_owned()).collect();
            listed(&names)
        }
    }
}

fn step(ladder: &Ladder, standings: &Standings, entry: usize, next: &Entry) -> String {
    let name = printable(&next.name);
    let Some(expected) = expected_saving(&ladder.entries[entry], next) else {
        let what = if builds_on(next, &ladder.entries[entry]) {
            "builds on it as a demonstration and is not meant to remove anything"
        } else {
            "is a separate idea that does not build on it"
        };
        return format!("{name} {what}{}.", speed(ladder, standings, entry, next));
    };
    let [before, after] = [entry, entry + 1].map(|entry| &standings.standings[entry]);
    let removed = removed(before, after, &expected);
    format!(
        "{name} is meant to remove {}: {removed}{}.",
        expected.what,
        speed(ladder, standings, entry, next)
    )
}

/// `here it did: 410 ms to 2 ms per GiB (−99 %)`.
fn removed(before: &Standing, after: &Standing, expected: &ExpectedSaving) -> String {
    if before.ends.is_empty() || after.ends.is_empty() {
        return "whether it did can't be told without both profiles".to_owned();
    }
    let of = |standing: &Standing| Cost::of(standing, expected);
    let (Some(was), Some(is)) = (of(before), of(after)) else {
        return "whether it did can't be told without both profiles".to_owned();
    };
    let change = 100.0 * (is.ns_per_gib / was.ns_per_gib - 1.0);
    let figures = if is.ns_per_gib > 0.0 {
        let (was, is) = (duration(was.ns_per_gib), duration(is.ns_per_gib));
        format!("{was} to {is} per GiB ({})", signed(change))
    } else {
        format!("{} per GiB to nothing", duration(was.ns_per_gib))
    };
    if was.ns_per_gib <= LITTLE * was.whole_ns_per_gib {
        let share = 100.0 * was.ns_per_gib / was.whole_ns_per_gib;
        return format!("here there was little to remove, {share:.1} % of those ends' CPU time");
    }
    if was.samples < FEW_SAMPLES {
        return format!("{} samples are too few to tell whether it did", was.samples);
    }
    // Where the profiled runs of the one reach into those of the other.
    let overlap = match (Sample::new(was.each), Sample::new(is.each)) {
        (Some(was), Some(is)) => was.min() <= is.max() && is.min() <= was.max(),
        _ => false,
    };
    match change {
        _ if overlap && change <= -25.0 => {
            format!("here the change is within the noise, {figures}")
        }
        _ if overlap => format!("here it did not, {figures}"),
        _ if change <= -80.0 => format!("here it did, {figures}"),
        _ if change <= -25.0 => format!("here it did in part, {figures}"),
        _ if change < 0.0 => format!("here it hardly did, {figures}"),
        _ => format!("here it did not, {figures}"),
    }
}

/// `+12 %`, `−99 %`.
fn signed(percent: f64) -> String {
    if percent < 0.0 { format!("−{:.0} %", -percent) } else { format!("+{percent:.0} %") }
}

/// What the roles of an expected saving cost.
struct Cost {
    ns_per_gib: f64,
    /// All that the ends concerned cost.
    whole_ns_per_gib: f64,
    samples: u64,
    /// In each profiled run.
    each: Vec<f64>,
}

impl Cost {
    fn of(standing: &Standing, expected: &ExpectedSaving) -> Option<Cost> {
        let mut cost =
            Cost { ns_per_gib: 0.0, whole_ns_per_gib: 0.0, samples: 0, each: Vec::new() };
        for end in &standing.ends {
            let roles: Vec<Role> = expected
                .roles
                .iter()
                .filter(|(at, _)| Some(*at) == end.end)
                .map(|(_, role)| *role)
                .collect();
            if roles.is_empty() {
                continue;
            }
            cost.whole_ns_per_gib += end.ns_per_gib;
            for role in roles {
                cost.ns_per_gib += end.ns_of(role);
                let found = end.roles.iter().find(|other| other.role == role);
                cost.samples += found.map_or(0, |role| role.samples);
                let each = end.each_of(role);
                cost.each.resize(cost.each.len().max(each.len()), 0.0);
                for (sum, ns) in cost.each.iter_mut().zip(each) {
                    *sum += ns;
                }
            }
        }
        (cost.whole_ns_per_gib > 0.0).then_some(cost)
    }
}

/// `, and it is 3.40 times as fast`.
fn speed(ladder: &Ladder, standings: &Standings, entry: usize, next: &Entry) -> String {
    if let Some(why) = &next.refused {
        return format!("; it could not be run: {}", printable(why));
    }
    let Some(ratio) = standings.standings[entry + 1].of_before else { return String::new() };
    let times = ratio.median;
    if may_be_chance(ladder, entry, entry + 1) {
        return "; the two can't be told apart by throughput".to_owned();
    }
    if times >= 1.0 {
        format!("; it is {times:.2} times as fast")
    } else {
        format!("; it is slower, {times:.2} times as fast")
    }
}

fn builds_on(next: &Entry, this: &Entry) -> bool {
    let stage = |entry: &Entry| entry.plan.as_ref().map(|plan| plan.stage);
    stage(this).is_some() && stage(next).and_then(Stage::builds_on) == stage(this)
}

/// What a step between two stages is meant to remove, by what differs between their plans; `None`
/// where that removes nothing.
fn expected_saving(before: &Entry, after: &Entry) -> Option<ExpectedSaving> {
    let (before, after) = (before.plan.as_ref()?, after.plan.as_ref()?);
    let (writer, reader) = (End::Writer, End::Reader);
    let both = |roles: &[Role]| -> Vec<(End, Role)> {
        End::BOTH.iter().flat_map(|&end| roles.iter().map(move |&role| (end, role))).collect()
    };
    let mut all: Vec<(&str, Vec<(End, Role)>)> = Vec::new();
    if before.write_with != after.write_with {
        all.push(match (before.write_with, after.write_with) {
            (WriteWith::Write, WriteWith::Vmsplice) => (
                "the writer's copy, and the pages it needs",
                vec![(writer, Role::CopyIn), (writer, Role::PageAlloc)],
            ),
            (WriteWith::Vmsplice, WriteWith::Tee) => (
                "the walk through page tables, and pinning",
                vec![(writer, Role::PagePin), (writer, Role::PageFault)],
            ),
            // With eight times the bytes in a slot.
            (WriteWith::Tee, WriteWith::TeeLarge) => (
                "most slots, each of which costs the same whatever it holds",
                both(&[Role::Splice, Role::PageFree, Role::PipeLock]),
            ),
            _ => return None,
        });
    }
    if (before.read_with, after.read_with) == (ReadWith::Read, ReadWith::Splice) {
        all.push(("the reader's copy", vec![(reader, Role::CopyOut)]));
    }
    if !before.huge_page && after.huge_page {
        let what = "the look-up and pinning of each small page";
        all.push((what, vec![(writer, Role::PagePin)]));
    }
    if !before.busy_loop && after.busy_loop {
        let waits =
            [Role::Wakeup, Role::WakeupOrWait, Role::WaitSpace, Role::WaitData, Role::Scheduler];
        all.push(("sleeping and waking", both(&waits)));
    }
    if before.pin != Pin::Same && after.pin == Pin::Same {
        all.push(("waking another CPU", both(&[Role::Wakeup])));
    }
    let (what, roles): (Vec<&str>, Vec<_>) = all.into_iter().unzip();
    (!what.is_empty()).then(|| ExpectedSaving { what: what.join("; "), roles: roles.concat() })
}
