//! The difference between two pipelines: cost per GiB of each role and function, before and after.
//!
//! Everything is per GiB that a member moved, so that a faster stage doesn't look slower because it
//! moved more. Where bytes aren't known it is shares of time, and says so. Each side may have
//! several runs, in pairs; then a change is judged by how the runs differ, else by the number of
//! samples (`cost.rs`).

mod cost;
mod headline;
mod matching;
mod member;
mod picture;
mod text;
mod tree;
mod unit;

use std::io::Write;

use serde::Serialize;

pub use cost::{Basis, Change, Judgement};
pub use matching::MatchedBy;
pub use member::{BlockedChange, FunctionChange, MemberDiff, Named, RoleChange, SampledOn};
pub use picture::{picture, render as render_picture};
pub use text::render as render_text;
pub use unit::Unit;

use crate::error::Error;
use crate::run::Run;
use crate::statistics::{self, Estimate, Sample};
use crate::words::units::thousands;

/// Raised whenever a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Two pipelines in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Which is faster, by what factor, and what explains most of it.
    pub headline: String,
    /// What every cost is in.
    pub unit: Unit,
    /// Why costs are shares, where they are.
    pub unit_because: Option<String>,
    /// Runs of each side.
    pub runs: usize,
    /// Before.
    pub a: Side,
    /// After.
    pub b: Side,
    /// How much faster; `None` where a throughput isn't known.
    pub speed: Option<Speed>,
    /// CPU time of all compared members.
    pub total: Change,
    /// Those that could be compared, in A's order.
    pub members: Vec<MemberDiff>,
    /// Those that could not, and why.
    pub not_compared: Vec<NotCompared>,
    /// What else limits the comparison, each a sentence.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(crate) tree: tree::Both,
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// What the caller calls it: the stage, the file, the command line. Untrusted text.
    pub name: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Of all runs.
    pub samples: u64,
    /// Of all runs.
    pub lost: u64,
    /// Of each run, in the order of the runs.
    pub bytes_per_second: Vec<Option<f64>>,
}

/// Throughput before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Median, in bytes a second.
    pub a: f64,
    /// Median, in bytes a second.
    pub b: f64,
    /// How many times A is B: the median of the pairs' ratios.
    pub ratio: Estimate,
    /// Whether they can be told apart; `None` of a single run.
    pub distinguishable: Option<bool>,
    /// It is of the pipe that carried the most, of several.
    pub of_largest_pipe: bool,
}

/// A member that was left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotCompared {
    /// `a` or `b`, or both.
    pub side: Which,
    /// Untrusted text.
    pub comm: String,
    /// Pid in the first run.
    pub pid: i32,
    /// A few words.
    pub why: String,
    /// CPU time in the first run, where it is known.
    pub cpu_time_ns: Option<u64>,
}

/// A side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// Before.
    A,
    /// After.
    B,
    /// Either.
    Both,
}

impl Diff {
    /// Compares runs in pairs: A's before, B's after. `names` are what the two are called.
    ///
    /// # Errors
    ///
    /// [`Error::NotComparable`] where the two measured different things, or no member of A has a
    /// counterpart in B; [`Error::NoSamples`] where a run holds none.
    pub fn of(pairs: &[(&Run, &Run)], names: [&str; 2]) -> Result<Diff, Error> {
        let (a, b): (Vec<&Run>, Vec<&Run>) = pairs.iter().copied().unzip();
        for (runs, name) in [(&a, names[0]), (&b, names[1])] {
            if runs.is_empty() || runs.iter().any(|run| run.profile.quality.samples == 0) {
                return Err(Error::NoSamples { of: name.to_owned(), notes: Vec::new() });
            }
        }
        unit::check(&a, &b)?;
        let lines = member::match_members(&a, &b);
        let (unit, unit_because) = unit::choose(&a, &b, &lines.matched);
        let mut not_compared = lines.left_out;
        let matched = unit::drop_unknown(unit, &a, &b, lines.matched, &mut not_compared);
        if matched.is_empty() {
            let why =
                "no process of one matches a process of the other by name or place".to_owned();
            return Err(Error::NotComparable { why });
        }
        let scales = unit::scales(unit, &a, &b, &matched);
        let members: Vec<MemberDiff> = matched
            .iter()
            .zip(&scales)
            .map(|(matched, scale)| member::compare(&a, &b, matched, scale, unit))
            .collect();
        let total = unit::total(&scales);
        let mut diff = Diff {
            schema_version: SCHEMA_VERSION,
            headline: String::new(),
            unit,
            unit_because,
            runs: pairs.len(),
            speed: speed(&a, &b),
            a: Side::of(names[0], &a),
            b: Side::of(names[1], &b),
            total: total.change(),
            members,
            not_compared,
            notes: notes(&a, &b),
            tree: tree::Both::of(&a, &b, &matched, &scales),
        };
        diff.headline = headline::headline(&diff);
        Ok(diff)
    }

    /// The comparison as JSON, for a program to read.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] where `out` fails.
    pub fn write_json(&self, mut out: impl Write) -> Result<(), Error> {
        serde_json::to_writer_pretty(&mut out, self).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }
}

impl Side {
    fn of(name: &str, runs: &[&Run]) -> Side {
        let kernel = runs.first().map(|run| run.kernel.clone());
        Side {
            name: name.to_owned(),
            kernel: kernel.filter(|kernel| !kernel.is_empty()),
            samples: runs.iter().map(|run| run.profile.quality.samples).sum(),
            lost: runs.iter().map(|run| run.profile.quality.lost).sum(),
            bytes_per_second: runs.iter().map(|run| throughput(run)).collect(),
        }
    }
}

/// Which of a run's pipes carried the most, and how fast: compressed or not, that is the payload.
struct Largest {
    pipe: usize,
    pipes: usize,
    bytes_per_second: f64,
    /// The bytes of every pipe are known.
    complete: bool,
}

fn largest(run: &Run) -> Option<Largest> {
    let pipes = &run.pipeline.pipes;
    let known: Vec<(u64, usize)> = pipes
        .iter()
        .enumerate()
        .filter_map(|(at, _)| Some((run.flow(at)?.bytes.known()?, at)))
        .collect();
    let &(bytes, pipe) = known.iter().max()?;
    let seconds = run.elapsed_ns as f64 / 1e9;
    (seconds > 0.0).then_some(Largest {
        pipe,
        pipes: pipes.len(),
        bytes_per_second: bytes as f64 / seconds,
        complete: known.len() == pipes.len(),
    })
}

fn throughput(run: &Run) -> Option<f64> {
    largest(run).map(|largest| largest.bytes_per_second)
}

fn speed(a: &[&Run], b: &[&Run]) -> Option<Speed> {
    let all: Vec<Largest> = a.iter().chain(b).map(|run| largest(run)).collect::<Option<_>>()?;
    // What is not known may be larger: then it has to be the same pipe everywhere at least.
    let is_same = |other: &Largest| (other.pipe, other.pipes) == (all[0].pipe, all[0].pipes);
    if !all.iter().all(|largest| largest.complete) && !all.iter().all(is_same) {
        return None;
    }
    let (rates_a, rates_b) = all.split_at(a.len());
    let side = |side: &[Largest]| Sample::new(side.iter().map(|of| of.bytes_per_second));
    let (rates_a, rates_b) = (side(rates_a)?, side(rates_b)?);
    Some(Speed {
        a: rates_a.median(),
        b: rates_b.median(),
        ratio: statistics::ratio(&rates_a, &rates_b)?,
        distinguishable: statistics::distinguishable(&rates_a, &rates_b),
        of_largest_pipe: all.iter().any(|largest| largest.pipes > 1),
    })
}

fn notes(a: &[&Run], b: &[&Run]) -> Vec<String> {
    let mut notes = Vec::new();
    let differ = |of: fn(&Run) -> String| {
        let (first, second) = (a.first().map(|run| of(run)), b.first().map(|run| of(run)));
        first.zip(second).filter(|(first, second)| first != second)
    };
    if let Some((a, b)) = differ(|run| run.kernel.clone())
        && !a.is_empty()
        && !b.is_empty()
    {
        notes.push(format!("the kernels differ: {a} and {b}"));
    }
    if let Some((a, b)) = differ(|run| run.profile.quality.event.clone()) {
        notes.push(format!(
            "the events differ: {a} and {b}; one may see code that the other cannot"
        ));
    }
    let qualities = || a.iter().chain(b).map(|run| &run.profile.quality);
    let lost: u64 = qualities().map(|quality| quality.lost).sum();
    // What was lost may be of others, as what was taken is.
    let taken: u64 = qualities().map(|q| q.samples.saturating_add(q.foreign_samples)).sum();
    if lost.saturating_mul(100) > taken {
        notes.push(format!(
            "{} records were lost, and {} samples taken",
            thousands(lost),
            thousands(taken)
        ));
    }
    if a.iter().chain(b).any(|run| run.profile.quality.interrupts_wait) {
        notes.push(
            "timer sampling cannot see code that runs with interrupts disabled: wake-ups and waits \
             are underestimated on both sides"
                .to_owned(),
        );
    }
    notes
}
