//! Sentences about members, one by one and together.

use std::fmt::Write as _;

use crate::escape::printable;
use crate::ordered::OrderedMap;
use crate::summary::MemberSummary;
use crate::words::units::{counted, duration, percent};
use crate::words::{control_group, name};

/// `4,000 samples, 1.93 s CPU time`, with the share that they cover where that is less than all.
pub(crate) fn samples(member: &MemberSummary) -> String {
    let mut text = counted(member.samples, "sample", "samples");
    if let Some(ns) = member.cpu_time_ns {
        let time = duration(ns as f64);
        let _ = match member.coverage_percent {
            Some(covered) => {
                let cover = if member.samples == 1 { "covers" } else { "cover" };
                write!(text, " {cover} {} of {time} CPU time", percent(covered))
            }
            None => write!(text, ", {time} CPU time"),
        };
    }
    if let Some(container) = &member.container {
        let _ = write!(text, ", in {}", printable(&container.name()));
    }
    text += &member.control_group.as_ref().map_or_else(String::new, control_group::listed);
    text
}

/// `1.9 CPUs` of a member that uses more than one: a share of its life would say less.
pub(crate) fn several_cpus(cpus: f64) -> Option<String> {
    (cpus >= 1.05).then(|| format!("{cpus:.1} CPUs"))
}

/// The most names in a list of members that have no line of their own: `gzip ×6, sh, 14 more`.
const MOST_NAMES: usize = 6;

/// Members by name, and how many there were of each.
pub(crate) fn grouped(members: &[&MemberSummary]) -> String {
    let mut groups: OrderedMap<String, usize> = OrderedMap::default();
    for member in members {
        *groups.entry(name::short(member.end, &member.comm)).or_default() += member.processes;
    }
    groups.sort_by_key(|_, count| std::cmp::Reverse(*count));
    let rest: usize = groups.values().skip(MOST_NAMES).sum();
    let mut names: Vec<String> = groups
        .into_iter()
        .take(MOST_NAMES)
        .map(|(name, count)| if count == 1 { name } else { format!("{name} ×{count}") })
        .collect();
    if rest > 0 {
        names.push(format!("{rest} more"));
    }
    names.join(", ")
}

/// `other processes: sh, 1.69 ms CPU`.
pub(crate) fn others(rest: &[&MemberSummary]) -> String {
    let cpu: u64 = rest.iter().filter_map(|member| member.cpu_time_ns).sum();
    let took = match rest.iter().any(|member| member.cpu_time_ns.is_some()) {
        true => format!("{} CPU time", duration(cpu as f64)),
        false => {
            let samples = rest.iter().map(|member| member.samples).sum();
            counted(samples, "sample", "samples")
        }
    };
    format!("other processes: {}; {took}", grouped(rest))
}
