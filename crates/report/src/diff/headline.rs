//! The sentence on top: which is faster, by what factor, and which role explains most of it.

use super::cost::{Change, Judgement};
use super::{Diff, MemberDiff, Speed, Unit};
use crate::escape::printable;
use crate::roles::Role;
use crate::words::layout::cut;
use crate::words::units::{percent, throughput};

/// The names of the two sides, in at most this many columns: long names lose the words that both
/// begin with.
pub(super) fn names(diff: &Diff, most: usize) -> [String; 2] {
    let names = [&diff.a.name, &diff.b.name].map(|name| printable(name));
    let [a, b] = names.each_ref().map(|name| name.split(' ').collect::<Vec<_>>());
    let alike = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let is_long = names.iter().any(|name| name.chars().count() > most);
    [a, b].map(|words| match words.get(alike..) {
        Some(rest) if is_long && alike > 0 && !rest.is_empty() => {
            cut(&format!("… {}", rest.join(" ")), most)
        }
        _ => cut(&words.join(" "), most),
    })
}

pub(super) fn headline(diff: &Diff) -> String {
    // Names may be alike, letters are not.
    let [a, b] = names(diff, 40);
    let (a, b) = (format!("A ({a})"), format!("B ({b})"));
    let Some(speed) = &diff.speed else {
        let why = match &diff.unit_because {
            Some(why) => format!("unknown which is faster: {why}"),
            None => "unknown which is faster: a throughput is missing".to_owned(),
        };
        return format!("{a} and {b}: {why}{}", largest(diff));
    };
    if speed.distinguishable == Some(false) {
        let rates = rates(speed);
        let largest = largest(diff);
        return format!("{a} and {b} can't be told apart by their speed: {rates}{largest}");
    }
    let once = if speed.distinguishable.is_none() { "In one run of each, " } else { "" };
    let is_b = speed.ratio.median >= 1.0;
    let factor = if is_b { speed.ratio.median } else { speed.ratio.median.recip() };
    if factor < 1.005 {
        return format!("{once}{a} and {b} were equally fast: {}", rates(speed));
    }
    let (faster, slower) = if is_b { (b, a) } else { (a, b) };
    let is = if once.is_empty() { "is" } else { "was" };
    let (direction, what) = if is_b {
        (Judgement::Cheaper, "of the savings")
    } else {
        (Judgement::Dearer, "of the added cost")
    };
    let cause = cause(diff, direction, what);
    format!("{once}{faster} {is} {factor:.2} times as fast as {slower}{cause}")
}

fn rates(speed: &Speed) -> String {
    let between = match speed.ratio.interval {
        Some(interval) => format!(", and B ÷ A is {:.2} to {:.2}", interval.low, interval.high),
        None => String::new(),
    };
    format!("{} and {}{between}", throughput(speed.a), throughput(speed.b))
}

fn rows(diff: &Diff) -> impl Iterator<Item = (&MemberDiff, Role, &Change)> {
    diff.members
        .iter()
        .flat_map(|member| member.roles.iter().map(move |r| (member, r.role, &r.change)))
}

/// The role that changed most in this direction, and its share of all changes in this direction.
fn cause(diff: &Diff, direction: Judgement, what: &str) -> String {
    let changed = || rows(diff).filter(|(_, _, change)| change.judgement == direction);
    let all: f64 = changed().map(|row| row.2.size()).sum();
    let most = changed().max_by(|x, y| x.2.size().total_cmp(&y.2.size()));
    let Some((member, role, change)) = most else {
        return "; no role's CPU time changed that way by more than the noise".to_owned();
    };
    format!(
        "; {} {what} is {} of {} ({})",
        percent(100.0 * change.size() / all),
        role.label(),
        who(member),
        from_to(diff.unit, change),
    )
}

/// The largest change of all, for when it is unknown which side is faster.
fn largest(diff: &Diff) -> String {
    let clear = rows(diff).filter(|(_, _, change)| change.is_clear());
    let most = clear.max_by(|x, y| x.2.size().total_cmp(&y.2.size()));
    let Some((member, role, change)) = most else {
        return "; no role changed by more than the noise".to_owned();
    };
    let change = from_to(diff.unit, change);
    format!("; the largest change is {} of {} ({change})", role.label(), who(member))
}

fn from_to(unit: Unit, change: &Change) -> String {
    let per = match unit {
        Unit::NsPerGib => "per GiB",
        Unit::Percent => "of the samples",
    };
    format!("{} → {} {per}", unit.show(change.a), unit.show(change.b))
}

/// `the writer`, the name of a process, or both names.
fn who(member: &MemberDiff) -> String {
    match member.end {
        Some(end) => format!("the {}", end.as_str()),
        None => member.names(),
    }
}
