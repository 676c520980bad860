//! The legend: what the fills and marks mean, how much each role weighs, and what to beware of.

use std::fmt::Write;

use pipeprof_profiler::profile::Profile;
use quick_xml::escape::escape;

use super::tower::{Kind, Tower};
use super::{Time, View, members, palette};
use crate::escape::printable;
use crate::highlight::{Highlights, Sighting};
use crate::roles::{Basis, Classification, Role};
use crate::run::Run;
use crate::words::units::{share as percent, thousands};

/// Width of the picture that the static layout is made for.
pub(crate) const WIDTH: usize = 1200;
const MARGIN: usize = 10;
const COLUMN: usize = 196;
/// Where labels say that the time was asleep.
const WIDE_COLUMN: usize = 236;
const ROW: usize = 17;
const GAP: usize = 5;
const FIRST_BASELINE: usize = 12;

/// Before the label of a role that was slept in.
const BLOCKED: &str = "blocked: ";

/// What stands between subtitle and frames.
pub(super) struct Legend {
    keys: Vec<Key>,
    highlights: Vec<(bool, String)>,
    notes: Vec<String>,
}

/// What one fill means.
struct Key {
    fill: String,
    /// What a click marks; `None` where no frame has this fill of its own.
    search: Option<String>,
    meaning: String,
    text: String,
}

impl Legend {
    pub(super) fn new(run: &Run, highlights: &Highlights, view: View, towers: &[Tower]) -> Self {
        let Run { profile, roles, .. } = run;
        let (mut whole, mut absorbed, mut inferred) = (0, 0, 0);
        for (_, member) in members(run, view) {
            for weight in &member.on_cpu {
                whole += weight.weight;
                if roles.absorber(profile.stack(weight.stack)).is_some() {
                    absorbed += weight.weight;
                }
                if roles.basis(weight.stack) == Basis::Inferred {
                    inferred += weight.weight;
                }
            }
        }
        Legend {
            keys: keys(profile, roles, towers),
            // Both speak of samples, which are taken on a CPU.
            highlights: match view.time {
                Time::Blocked => Vec::new(),
                _ => highlight_texts(run, highlights, view),
            },
            notes: match view.time {
                Time::Blocked => Vec::new(),
                _ => notes(profile, whole, absorbed, inferred),
            },
        }
    }

    fn column(&self) -> usize {
        let is_wide = self.keys.iter().any(|key| key.text.starts_with(BLOCKED));
        if is_wide { WIDE_COLUMN } else { COLUMN }
    }

    fn columns(&self) -> usize {
        (WIDTH - 2 * MARGIN) / self.column()
    }

    pub(super) fn height(&self) -> usize {
        let rows =
            self.keys.len().div_ceil(self.columns()) + self.highlights.len() + self.notes.len();
        rows * ROW + GAP + 8
    }

    /// The legend as SVG, its top at `y`.
    pub(super) fn draw(&self, y: usize) -> String {
        let mut svg = format!("<g id=\"legend\" fg:top=\"{y}\" fg:width=\"{WIDTH}\">");
        for (i, key) in self.keys.iter().enumerate() {
            let x = MARGIN + i % self.columns() * self.column();
            let baseline = y + FIRST_BASELINE + i / self.columns() * ROW;
            let (class, click, hint) = match &key.search {
                Some(search) => (
                    " class=\"key\"",
                    format!(" fg:role=\"{search}\""),
                    " Click to mark its frames.",
                ),
                None => ("", String::new(), ""),
            };
            let _ = write!(
                svg,
                "<g{class}{click}><title>{}.{hint}</title>\
                 <rect x=\"{x}\" y=\"{}\" width=\"13\" height=\"13\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"{baseline}\">{}</text></g>",
                escape(&key.meaning),
                baseline - 11,
                key.fill,
                x + 19,
                escape(&key.text),
            );
        }
        let mut baseline =
            y + FIRST_BASELINE + self.keys.len().div_ceil(self.columns()) * ROW + GAP;
        for (seen, text) in &self.highlights {
            let class = if *seen { "hl" } else { "unseen" };
            let fill = if *seen { "#ffffff" } else { "none" };
            let _ = write!(
                svg,
                "<g class=\"{class}\"><rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" \
                 fill=\"{fill}\"/><text x=\"{}\" y=\"{baseline}\">{}</text></g>",
                MARGIN + 1,
                baseline - 10,
                MARGIN + 19,
                escape(text),
            );
            baseline += ROW;
        }
        for note in &self.notes {
            let _ = write!(
                svg,
                "<text class=\"note\" x=\"{MARGIN}\" y=\"{baseline}\">{}</text>",
                escape(note),
            );
            baseline += ROW;
        }
        svg.push_str("</g>");
        svg
    }
}

/// The fills of a picture, heaviest first, with their shares of it.
fn keys(profile: &Profile, roles: &Classification, towers: &[Tower]) -> Vec<Key> {
    let whole: u64 = towers.iter().map(|tower| tower.weight).sum();
    let mut on_cpu = [0u64; Role::ALL.len()];
    let mut blocked = [0u64; Role::ALL.len()];
    let mut runnable = 0;
    for part in towers.iter().flat_map(|tower| &tower.parts) {
        match part.kind {
            Kind::Runnable => runnable += part.weight(),
            Kind::OnCpu => {
                for &(stack, weight) in &part.stacks {
                    on_cpu[roles.role(stack).index()] += weight;
                }
            }
            Kind::Blocked => {
                for &(stack, weight) in &part.stacks {
                    blocked[roles.blocked_role(profile.stack(stack)).index()] += weight;
                }
            }
        }
    }
    let mut keys: Vec<(u64, Key)> = Vec::new();
    for role in Role::ALL {
        let (awake, asleep) = (on_cpu[role.index()], blocked[role.index()]);
        let meaning = format!("{}: {}", role.label(), role.description());
        if awake > 0 {
            let text = format!("{} {}", role.label(), percent(awake, whole));
            let search = Some(search_key(role));
            let fill = palette::fill(role).to_owned();
            keys.push((awake, Key { fill, search, meaning: meaning.clone(), text }));
        }
        if asleep > 0 {
            let label = if role == Role::Scheduler { "other" } else { role.label() };
            let text = format!("{BLOCKED}{label} {}", percent(asleep, whole));
            let meaning = format!("blocked, {meaning}");
            let fill = format!("url(#hatch-{})", role.index());
            keys.push((asleep, Key { fill, search: Some(blocked_key(role)), meaning, text }));
        }
    }
    if runnable > 0 {
        let text = format!("runnable {}", percent(runnable, whole));
        let meaning = "ready to run, and waiting for a CPU".to_owned();
        keys.push((runnable, Key { fill: "url(#dots)".into(), search: None, meaning, text }));
    }
    keys.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    keys.into_iter().map(|(_, key)| key).collect()
}

/// How the blocked frames of a role are searched for.
pub(super) fn blocked_key(role: Role) -> String {
    format!("BLOCKED {}", role.label().to_uppercase())
}

/// How a role is searched for: in capitals, so that a search for a function never finds it.
pub(crate) fn search_key(role: Role) -> String {
    format!("ROLE {}", role.label().to_uppercase())
}

fn highlight_texts(run: &Run, highlights: &Highlights, view: View) -> Vec<(bool, String)> {
    let Run { profile, roles, .. } = run;
    let by_member: Vec<(String, u64, Vec<Sighting>)> = members(run, view)
        .into_iter()
        .map(|(index, member)| {
            let who = match member.end {
                Some(end) => end.as_str().to_owned(),
                None => printable(&member.comm).into_owned(),
            };
            (who, member.weight(), highlights.sightings(profile, roles, index))
        })
        .collect();
    highlights
        .list()
        .iter()
        .enumerate()
        .map(|(i, highlight)| {
            let classic = printable(&highlight.classic);
            let mut names: Vec<&str> = Vec::new();
            let mut shares = Vec::new();
            let mut stand_in = None;
            let mut absent = None;
            for (who, whole, sightings) in &by_member {
                let sighting = &sightings[i];
                absent = absent.or(sighting.absent.as_deref());
                if sighting.names.is_empty() {
                    stand_in = stand_in.or_else(|| sighting.stand_in.as_ref().map(|s| (who, s)));
                    continue;
                }
                names.extend(sighting.names.iter().map(String::as_str));
                let of = if view.time == Time::Cpu { "" } else { "'s CPU time" };
                shares.push(format!("{} of {who}{of}", percent(sighting.total_weight, *whole)));
            }
            names.sort_unstable();
            names.dedup();
            names.retain(|name| *name != highlight.classic);
            if shares.is_empty() {
                let mut text = format!("◇ {classic}: {}", absent.unwrap_or("not seen"));
                if let Some((who, s)) = stand_in {
                    let _ = write!(text, "; see {} of {who}", printable(&s.name));
                }
                return (false, shorten(text));
            }
            let shares = shares.join(", ");
            let text = if names.is_empty() {
                format!("◆ {classic}: {shares}")
            } else {
                let here: Vec<_> = names.iter().map(|name| printable(name)).collect();
                format!("◆ {classic}, here {}: {shares}", here.join(", "))
            };
            (true, shorten(text))
        })
        .collect()
}

fn notes(profile: &Profile, whole: u64, absorbed: u64, inferred: u64) -> Vec<String> {
    let quality = &profile.quality;
    let mut notes = Vec::new();
    if quality.timer_driven && absorbed > 0 {
        notes.push(format!(
            "! The sampling timer can't fire while interrupts are off: {} was sampled where they \
             come on again, and is shown in its caller's role.",
            percent(absorbed, whole)
        ));
    }
    if inferred > 0 {
        notes.push(format!(
            "! {} counts as wake-up only because wake-ups end in the function sampled.",
            percent(inferred, whole)
        ));
    }
    if quality.throttled > 0 || quality.cut_short || quality.malformed_records > 0 {
        let mut faults = Vec::new();
        if quality.throttled > 0 {
            faults.push(format!("throttled {} times", thousands(quality.throttled)));
        }
        if quality.malformed_records > 0 {
            faults.push(format!("{} bad records", thousands(quality.malformed_records)));
        }
        if quality.cut_short {
            faults.push("the recording ends early".into());
        }
        notes.push(format!("! {}.", faults.join(", ")));
    }
    notes
}

/// What fits into a row of the legend.
fn shorten(text: String) -> String {
    const MOST: usize = 158;
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}
