//! The ladder for the terminal.

use std::fmt::Write as _;
use std::io::Write;

use super::standing::{EndStanding, Standing, Standings};
use super::{CountedBy, Ending, Ladder, Run, words};
use crate::error::Error;
use crate::escape::printable;
use crate::statistics::{Estimate, Sample};
use crate::words::layout::{Style, cut};
use crate::words::units::{self, bytes, duration, thousands};

/// Roles shown of each end.
const TOP_ROLES: usize = 4;

/// Rounds below which an interval is too wide to be worth its figures.
const FEWEST: usize = 3;

/// Columns of a entry's name.
const NAME: usize = 14;
/// Columns of the table of throughputs with wake-ups in it.
const WIDE: usize = NAME + 78;

/// Writes the ladder for a person.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render(ladder: &Ladder, style: Style, mut out: impl Write) -> Result<(), Error> {
    let standings = Standings::of(ladder);
    let mut text = String::new();
    throughput(&mut text, ladder, &standings, style);
    bandwidth(&mut text, ladder, style);
    costs(&mut text, ladder, &standings, style);
    text.push('\n');
    for sentence in words::sentences(ladder, &standings) {
        text.push_str(&style.wrap(&sentence, 2));
    }
    text.push('\n');
    trust(&mut text, ladder, &standings, style);
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn throughput(text: &mut String, ladder: &Ladder, standings: &Standings, style: Style) {
    let is_wide = style.columns >= WIDE;
    let mut header = format!(
        "{:NAME$}{:>8}{:>17}{:>9}{:>9}{:>9}{:>13}",
        "", "GiB/s", "min to max", "× first", "× before", "of cache", "switches/GiB"
    );
    if is_wide {
        let _ = write!(header, "{:>13}", "wakes/GiB");
    }
    let _ = writeln!(text, "{}", style.heading(&header));
    let bandwidth = ladder.bandwidth.as_ref().map(|bandwidth| bandwidth.cache.read_gib_per_s);
    for (entry, standing) in ladder.entries.iter().zip(&standings.standings) {
        let _ = write!(text, "{:NAME$}", cut(&printable(&entry.name), NAME - 1));
        let Some(speed) = standing.gib_per_s else {
            let why = entry.refused.as_deref().unwrap_or("not run");
            let _ = writeln!(text, "  {}", cut(&printable(why), 84));
            continue;
        };
        let median = speed.estimate.median;
        let range = standing.range().unwrap_or_default();
        let _ = write!(
            text,
            "{:>8}{range:>17}{:>9}{:>9}{:>9}{:>13}",
            rate(median),
            times(standing.of_first),
            times(standing.of_before),
            bandwidth.map_or_else(|| "-".to_owned(), |bandwidth| percent(median / bandwidth)),
            count(standing.switches_per_gib),
        );
        if is_wide {
            let _ = write!(text, "{:>13}", count(standing.wakeups_per_gib));
        }
        text.push('\n');
    }
}

fn bandwidth(text: &mut String, ladder: &Ladder, style: Style) {
    let Some(bandwidth) = &ladder.bandwidth else { return };
    let line = format!(
        "memory: one thread reads {} GiB/s and copies {} GiB/s of {} over and over (in cache), and \
         {} and {} GiB/s of {} (from memory); \"of cache\" is relative to the first figure",
        rate(bandwidth.cache.read_gib_per_s),
        rate(bandwidth.cache.copy_gib_per_s),
        bytes(bandwidth.cache.block_bytes as f64),
        rate(bandwidth.memory.read_gib_per_s),
        rate(bandwidth.memory.copy_gib_per_s),
        bytes(bandwidth.memory.block_bytes as f64),
    );
    text.push_str(&style.wrap(&line, 2));
}

fn costs(text: &mut String, ladder: &Ladder, standings: &Standings, style: Style) {
    if standings.standings.iter().all(|standing| standing.ends.is_empty()) {
        return;
    }
    let header = format!("\n{:NAME$}{:<10}{:>10}  of which", "CPU per GiB", "", "");
    let _ = writeln!(text, "{}", style.heading(header.trim_end()));
    for (entry, standing) in ladder.entries.iter().zip(&standings.standings) {
        for (at, end) in standing.ends.iter().enumerate() {
            let name = if at == 0 { cut(&printable(&entry.name), NAME - 1) } else { String::new() };
            let who = cut(&printable(&end.name), 9);
            let cost = duration(end.ns_per_gib);
            let head = format!("{name:NAME$}{who:<10}{cost:>10}  {}", top_roles(end));
            text.push_str(&style.wrap(head.trim_end(), NAME + 22));
        }
    }
}

/// `copy in 320 ms, wake-up 110 ms`.
fn top_roles(end: &EndStanding) -> String {
    let roles: Vec<String> = end
        .roles
        .iter()
        .take(TOP_ROLES)
        .map(|role| format!("{} {}", role.role.label(), duration(role.ns_per_gib)))
        .collect();
    roles.join(", ")
}

fn trust(text: &mut String, ladder: &Ladder, standings: &Standings, style: Style) {
    let _ = writeln!(text, "{}", style.heading("data quality"));
    let mut lines = vec![rounds(ladder, standings)];
    lines.extend(noise(ladder, standings));
    let profiled: Vec<_> = ladder.runs.iter().filter_map(|run| run.profile.as_ref()).collect();
    let has_costs = standings.standings.iter().any(|standing| !standing.ends.is_empty());
    if let Some(first) = profiled.first().filter(|_| has_costs) {
        let samples: u64 = profiled.iter().map(|profile| profile.samples).sum();
        let lost: u64 = profiled.iter().map(|profile| profile.lost).sum();
        lines.push(format!(
            "costs are CPU time ÷ GiB × share of samples, from {} separate runs with {} ({} \
             samples, {} lost); throughput, switches and wake-ups are from runs without a profiler",
            profiled.len(),
            printable(&first.event),
            thousands(samples),
            thousands(lost),
        ));
    }
    lines.extend(sampling_effects(ladder));
    let commands = ladder.entries.iter().enumerate().filter(|(_, entry)| !entry.is_stage());
    for (entry, name) in commands.filter(|(_, entry)| entry.refused.is_none()) {
        let by = ladder.runs.iter().find(|run| run.entry == entry && run.is_plain());
        let by = by.map_or(CountedBy::Nobody, |run| run.counted_by);
        let name = cut(&printable(&name.name), words::LONGEST);
        lines.push(format!("the throughput of {name} is {}", by.words()));
    }
    for fact in ladder.machine.iter().filter(|fact| fact.remedy.is_some()) {
        let remedy = fact.remedy.as_deref().unwrap_or_default();
        lines.push(format!("{}: {remedy}", printable(&fact.text)));
    }
    for line in lines {
        text.push_str(&style.wrap(&format!("  {line}"), 4));
    }
}

/// What sampling did to the profiled runs of each entry.
fn sampling_effects(ladder: &Ladder) -> Option<String> {
    let effect = |entry: usize| {
        let runs = ladder.runs.iter().filter(|run| run.entry == entry);
        let of =
            |run: &Run| Some(run.profile.as_ref()?.sampling_effect.as_ref()?.slowdown()?.percent);
        Sample::new(runs.filter_map(of)).map(|all| all.median())
    };
    let each: Vec<String> = (ladder.entries.iter().enumerate())
        .filter_map(|(index, entry)| {
            let name = cut(&printable(&entry.name), words::LONGEST);
            // No "-0.0".
            Some(format!("{name} {:.1} %", effect(index)? + 0.0))
        })
        .collect();
    (!each.is_empty()).then(|| {
        format!("sampling slowed the profiled runs, in the median, by: {}", each.join(", "))
    })
}

impl CountedBy {
    pub(super) fn words(self) -> &'static str {
        match self {
            CountedBy::Pair => "counted by its ends",
            CountedBy::Printed => "what it printed",
            CountedBy::Meter => "the metered bytes of its last pipe ÷ its run time",
            CountedBy::Nobody => "not known",
        }
    }
}

pub(super) fn rounds(ladder: &Ladder, standings: &Standings) -> String {
    let runs = || {
        let entries = ladder.entries.iter().zip(&standings.standings);
        entries.filter(|(entry, _)| entry.refused.is_none()).map(|(_, standing)| standing.runs)
    };
    let (least, most) = (runs().min().unwrap_or(0), runs().max().unwrap_or(0));
    let (seed, wanted) = (ladder.seed, ladder.rounds_wanted);
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let ending = match ladder.ending {
        Ending::AllRounds => {
            format!("{most} round{} in shuffled order (seed {seed})", plural(most as u64))
        }
        Ending::NarrowEnough => format!(
            "{most} of {wanted} rounds in shuffled order (seed {seed}): every median is known \
             within ±2.5 %"
        ),
        Ending::Interrupted | Ending::Unfinished => format!(
            "stopped in round {} of {wanted} (seed {seed}); completed runs are kept",
            (least + 1).min(wanted as usize)
        ),
    };
    format!("{ending}; GiB/s are medians, ratios medians of the ratios round by round")
}

/// Pairs that may be in the wrong order.
pub(super) fn noise(ladder: &Ladder, standings: &Standings) -> Vec<String> {
    let name = |entry: usize| cut(&printable(&ladder.entries[entry].name), words::LONGEST);
    let runs = standings.standings.iter().map(|standing| standing.runs).max().unwrap_or(0);
    if runs < FEWEST {
        let rounds = if runs == 1 { "1 round is".to_owned() } else { format!("{runs} rounds are") };
        return vec![format!("{rounds} too few to rank anything: --runs 5")];
    }
    let pairs = standings.unranked.iter().map(|pair| {
        let range = pair.ratio.and_then(|ratio| ratio.interval).map_or_else(String::new, |i| {
            format!(" (round by round {:.2} to {:.2} times)", i.low, i.high)
        });
        format!("{} and {}{range}", name(pair.faster), name(pair.slower))
    });
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() {
        return Vec::new();
    }
    vec![format!("too noisy to rank {}", pairs.join(", "))]
}

/// In three digits.
pub(super) fn rate(gib_per_s: f64) -> String {
    let decimals = match gib_per_s {
        _ if gib_per_s >= 99.95 => 0,
        _ if gib_per_s >= 9.995 => 1,
        _ if gib_per_s >= 0.1 => 2,
        _ => 4,
    };
    format!("{gib_per_s:.decimals$}")
}

pub(super) fn times(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| "-".to_owned(), |estimate| rate(estimate.median))
}

pub(super) fn percent(share: f64) -> String {
    units::percent(100.0 * share)
}

pub(super) fn count(per_gib: Option<f64>) -> String {
    per_gib.map_or_else(
        || "-".to_owned(),
        |count| if count < 10.0 { format!("{count:.1}") } else { thousands(count.round() as u64) },
    )
}

impl Standing {
    /// `0.71 to 0.99`.
    pub(super) fn range(&self) -> Option<String> {
        let speed = self.gib_per_s?;
        Some(format!("{} to {}", rate(speed.min), rate(speed.max)))
    }
}
