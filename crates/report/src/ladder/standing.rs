//! Statistics of the runs of each entry.

use pipeprof_runner::pipeline::End;
use serde::Serialize;

use super::{Ladder, Run};
use crate::roles::Role;
use crate::statistics::{Estimate, Sample, distinguishable, ratio};
use crate::words::units::GIB;

/// A median whose interval is no wider than this share of it, to both sides together, is known
/// well enough to stop.
const NARROW: f64 = 0.05;

/// Rounds before which no interval is believed to be narrow: two that happen to agree are.
const LEAST_ROUNDS: usize = 5;

/// All entries, and which of them can be told apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standings {
    /// In the order of [`Ladder::entries`].
    pub standings: Vec<Standing>,
    /// Entries that were measured, fastest first.
    pub ranking: Vec<usize>,
    /// Those that can't be told apart: the faster median first.
    pub unranked: Vec<Unranked>,
}

/// Two entries whose order may be chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Unranked {
    /// The one with the higher median.
    pub faster: usize,
    /// The other.
    pub slower: usize,
    /// How many times the slower was the faster, round by round; `None` of a single round.
    pub ratio: Option<Estimate>,
}

/// What the runs of one entry come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Runs without a profiler that tell a throughput.
    pub runs: usize,
    /// Of these, in GiB/s.
    pub gib_per_s: Option<Throughput>,
    /// How many times the first entry: the median of the ratios round by round.
    pub of_first: Option<Estimate>,
    /// How many times the stage before; `None` of the first and of commands.
    pub of_before: Option<Estimate>,
    /// Times an end left its CPU, for each GiB of the unprofiled runs.
    pub switches_per_gib: Option<f64>,
    /// Times an end slept, and so had to be woken, for each GiB of the unprofiled runs.
    pub wakeups_per_gib: Option<f64>,
    /// From the profiled runs.
    pub ends: Vec<EndStanding>,
}

/// Throughput over the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// With its interval.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// The slowest run.
    pub min: f64,
    /// The fastest.
    pub max: f64,
}

/// What an end cost for each GiB, over the profiled runs together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndStanding {
    /// `writer`, `reader`, or a member's comm. Untrusted text.
    pub name: String,
    /// Which end, of a pair.
    pub end: Option<End>,
    /// Profiled runs behind it.
    pub runs: usize,
    /// CPU time for each GiB; the roles add up to it.
    pub ns_per_gib: f64,
    /// Largest first.
    pub roles: Vec<RoleStanding>,
}

/// What a role took of an end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleStanding {
    /// The role.
    pub role: Role,
    /// Over all profiled runs, each weighed by the bytes that it moved.
    pub ns_per_gib: f64,
    /// In each of them.
    pub each: Vec<f64>,
    /// Samples behind it.
    pub samples: u64,
}

impl EndStanding {
    /// What a role took for each GiB; nothing where it was never seen.
    pub fn ns_of(&self, role: Role) -> f64 {
        self.roles.iter().find(|other| other.role == role).map_or(0.0, |other| other.ns_per_gib)
    }

    /// The role in each of the profiled runs.
    pub(super) fn each_of(&self, role: Role) -> Vec<f64> {
        let found = self.roles.iter().find(|other| other.role == role);
        found.map_or_else(|| vec![0.0; self.runs], |other| other.each.clone())
    }
}

impl Standing {
    /// Writer and reader together, or all members.
    pub fn ns_per_gib(&self) -> Option<f64> {
        (!self.ends.is_empty()).then(|| self.ends.iter().map(|end| end.ns_per_gib).sum())
    }
}

impl Standings {
    /// Adds the runs up.
    pub fn of(ladder: &Ladder) -> Standings {
        let first = measured(ladder).next();
        let standings: Vec<Standing> = (0..ladder.entries.len())
            .map(|entry| {
                let before = entry.checked_sub(1).filter(|_| ladder.entries[entry].is_stage());
                Standing {
                    of_first: first.and_then(|first| compare(ladder, first, entry)),
                    of_before: before.and_then(|before| compare(ladder, before, entry)),
                    ..standing(ladder, entry)
                }
            })
            .collect();
        let median = |entry: &usize| standings[*entry].gib_per_s.map(|t| t.estimate.median);
        let mut ranking: Vec<usize> =
            (0..standings.len()).filter(|entry| median(entry).is_some()).collect();
        ranking.sort_by(|a, b| median(b).unwrap_or(0.0).total_cmp(&median(a).unwrap_or(0.0)));
        // Not of neighbours alone: of three whose ends can't be told apart the middle one may be
        // told from either.
        let pairs = ranking.iter().enumerate().flat_map(|(place, &faster)| {
            ranking[place + 1..].iter().map(move |&slower| (faster, slower))
        });
        let unranked = pairs
            .filter(|&(faster, slower)| may_be_chance(ladder, slower, faster))
            .map(|(faster, slower)| {
                let ratio = compare(ladder, slower, faster);
                Unranked { faster, slower, ratio }
            })
            .collect();
        Standings { standings, ranking, unranked }
    }
}

/// The order of these two may be chance.
pub(super) fn may_be_chance(ladder: &Ladder, a: usize, b: usize) -> bool {
    let apart = paired(ladder, a, b).and_then(|(a, b)| distinguishable(&a, &b));
    apart != Some(true)
}

/// Whether every entry is known so well that more rounds would tell nothing new.
pub fn is_narrow(ladder: &Ladder) -> bool {
    let mut entries =
        ladder.entries.iter().enumerate().filter(|(_, entry)| entry.refused.is_none());
    entries.all(|(entry, _)| {
        let Some(sample) = sample(ladder, entry) else { return false };
        let Estimate { median, interval } = sample.estimate();
        sample.values().len() >= LEAST_ROUNDS
            && interval.is_some_and(|interval| interval.high - interval.low <= NARROW * median)
    })
}

/// Entries that have a throughput.
fn measured(ladder: &Ladder) -> impl Iterator<Item = usize> {
    (0..ladder.entries.len()).filter(|&entry| sample(ladder, entry).is_some())
}

fn runs(ladder: &Ladder, entry: usize) -> impl Iterator<Item = &Run> {
    ladder.runs.iter().filter(move |run| run.entry == entry)
}

fn rates(ladder: &Ladder, entry: usize) -> impl Iterator<Item = (u32, f64)> {
    let plain = runs(ladder, entry).filter(|run| run.is_plain());
    plain.filter_map(|run| Some((run.round, run.gib_per_s?)))
}

fn sample(ladder: &Ladder, entry: usize) -> Option<Sample> {
    Sample::new(rates(ladder, entry).map(|(_, rate)| rate))
}

/// The runs of two entries in the rounds that both were run in.
fn paired(ladder: &Ladder, a: usize, b: usize) -> Option<(Sample, Sample)> {
    let pairs: Vec<(f64, f64)> = rates(ladder, a)
        .filter_map(|(round, rate)| {
            let (_, other) = rates(ladder, b).find(|(other, _)| *other == round)?;
            Some((rate, other))
        })
        .collect();
    let a = Sample::new(pairs.iter().map(|pair| pair.0))?;
    Some((a, Sample::new(pairs.iter().map(|pair| pair.1))?))
}

/// How many times `a` was `b`.
pub(super) fn compare(ladder: &Ladder, a: usize, b: usize) -> Option<Estimate> {
    let (a, b) = paired(ladder, a, b)?;
    ratio(&a, &b)
}

fn standing(ladder: &Ladder, entry: usize) -> Standing {
    let sample = sample(ladder, entry);
    let plain: Vec<&Run> = runs(ladder, entry).filter(|run| run.is_plain()).collect();
    let gib: f64 = plain.iter().filter_map(|run| run.bytes).sum::<u64>() as f64 / GIB;
    // Bytes without a count, or the other way round, would make a wrong rate.
    let per_gib = |of: &dyn Fn(&super::EndCost) -> Option<u64>| -> Option<f64> {
        let known = plain.iter().filter(|run| run.bytes.is_some());
        let counts: Option<Vec<u64>> = known.flat_map(|run| run.ends.iter().map(of)).collect();
        let counts = counts.filter(|counts| !counts.is_empty() && gib > 0.0)?;
        Some(counts.iter().sum::<u64>() as f64 / gib)
    };
    Standing {
        runs: sample.as_ref().map_or(0, |sample| sample.values().len()),
        gib_per_s: sample.map(|sample| Throughput {
            estimate: sample.estimate(),
            min: sample.min(),
            max: sample.max(),
        }),
        of_first: None,
        of_before: None,
        switches_per_gib: per_gib(&|end| Some(end.voluntary_switches? + end.involuntary_switches?)),
        wakeups_per_gib: per_gib(&|end| end.voluntary_switches),
        ends: ends(runs(ladder, entry).filter(|run| run.is_profiled())),
    }
}

/// Pools the profiled runs: what a role took in all of them ÷ what all of them moved.
fn ends<'a>(profiled: impl Iterator<Item = &'a Run>) -> Vec<EndStanding> {
    struct Sum {
        end: EndStanding,
        gib: f64,
    }
    let mut sums: Vec<Sum> = Vec::new();
    for run in profiled {
        for (at, cost) in run.ends.iter().enumerate() {
            // A command's members come in the order of its pipeline, under the same names.
            let known =
                sums.iter().position(|sum| sum.end.name == cost.name && sum.end.end == cost.end);
            let Some(first) = cost.roles.first() else { continue };
            let at = known.unwrap_or_else(|| {
                let end = EndStanding {
                    name: cost.name.clone(),
                    end: cost.end,
                    runs: 0,
                    ns_per_gib: 0.0,
                    roles: Vec::new(),
                };
                let at = at.min(sums.len());
                sums.insert(at, Sum { end, gib: 0.0 });
                at
            });
            let Sum { end, gib } = &mut sums[at];
            // What the member itself moved, which in a command need not be what the pipe did.
            *gib += first.cpu_ns / first.ns_per_gib;
            for role in &cost.roles {
                let found = end.roles.iter_mut().position(|other| other.role == role.role);
                let place = found.unwrap_or_else(|| {
                    let each = vec![0.0; end.runs];
                    let role = role.role;
                    end.roles.push(RoleStanding { role, ns_per_gib: 0.0, each, samples: 0 });
                    end.roles.len() - 1
                });
                let sum = &mut end.roles[place];
                sum.ns_per_gib += role.cpu_ns;
                sum.samples += role.samples;
                sum.each.push(role.ns_per_gib);
            }
            end.runs += 1;
            let runs = end.runs;
            for role in &mut end.roles {
                role.each.resize(runs, 0.0);
            }
        }
    }
    let finished = sums.into_iter().map(|Sum { mut end, gib }| {
        for role in &mut end.roles {
            role.ns_per_gib /= gib;
        }
        end.roles.sort_by(|a, b| b.ns_per_gib.total_cmp(&a.ns_per_gib));
        end.ns_per_gib = end.roles.iter().map(|role| role.ns_per_gib).sum();
        end
    });
    finished.collect()
}
