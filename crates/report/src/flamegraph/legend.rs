//! The legend of a flame graph: how much each role weighs, what is highlighted, and warnings.

use std::fmt::Write as _;

use pipeprof_profiler::profile::Profile;

use super::tower::{Kind, Tower};
use super::{Time, View, members};
use crate::escape::printable;
use crate::highlight::{HighlightShare, Highlights};
use crate::picture::{Key, Legend, palette};
use crate::roles::{Basis, Classification, Role};
use crate::run::Run;
use crate::words::units::{share as percent, thousands};

/// The legend of a picture.
pub(super) fn legend(run: &Run, highlights: &Highlights, view: View, towers: &[Tower]) -> Legend {
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
        marks: match view.time {
            Time::Blocked => Vec::new(),
            _ => highlight_texts(run, highlights, view),
        },
        notes: match view.time {
            Time::Blocked => Vec::new(),
            _ => notes(profile, whole, absorbed, inferred),
        },
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
            keys.push((awake, key(role, palette::class(role), &meaning, text)));
        }
        if asleep > 0 {
            let label = if role == Role::Scheduler { "other" } else { role.label() };
            let text = format!("blocked: {label} {}", percent(asleep, whole));
            let meaning = format!("blocked, {meaning}");
            keys.push((asleep, key(role, palette::blocked_class(role), &meaning, text)));
        }
    }
    if runnable > 0 {
        let text = format!("runnable {}", percent(runnable, whole));
        let meaning = "ready to run, and waiting for a CPU".to_owned();
        let (class, fill) = ("runnable".to_owned(), palette::NEUTRAL);
        keys.push((runnable, Key { class, fill, clickable: true, meaning, text }));
    }
    keys.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    keys.into_iter().map(|(_, key)| key).collect()
}

fn key(role: Role, class: String, meaning: &str, text: String) -> Key {
    let meaning = format!("{meaning}. Click to mark its frames.");
    Key { class, fill: palette::fill(role), clickable: true, meaning, text }
}

/// Members whose highlights the legend tells.
const MOST_MEMBERS: usize = 8;

fn highlight_texts(run: &Run, highlights: &Highlights, view: View) -> Vec<(bool, String)> {
    let Run { profile, roles, .. } = run;
    let mut shown = members(run, view);
    // Of thousands of short processes the legend tells only of those that can be seen.
    let mut weights: Vec<u64> = shown.iter().map(|(_, member)| member.weight()).collect();
    weights.sort_unstable_by_key(|weight| std::cmp::Reverse(*weight));
    let least = weights.get(MOST_MEMBERS - 1).copied().unwrap_or(0);
    shown.retain(|(_, member)| member.weight() >= least);
    shown.truncate(MOST_MEMBERS);
    let by_member: Vec<(String, u64, Vec<HighlightShare>)> = shown
        .into_iter()
        .map(|(index, member)| {
            let who = match member.end {
                Some(end) => end.as_str().to_owned(),
                None => printable(&member.comm).into_owned(),
            };
            (who, member.weight(), highlights.highlight_shares(profile, roles, index))
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
            for (who, whole, highlight_shares) in &by_member {
                let shown = &highlight_shares[i];
                absent = absent.or(shown.absent.as_deref());
                if shown.names.is_empty() {
                    stand_in = stand_in.or_else(|| shown.stand_in.as_ref().map(|s| (who, s)));
                    continue;
                }
                names.extend(shown.names.iter().map(String::as_str));
                let of = if view.time == Time::Cpu { "" } else { "'s CPU time" };
                shares.push(format!("{} of {who}{of}", percent(shown.total_weight, *whole)));
            }
            names.sort_unstable();
            names.dedup();
            names.retain(|name| *name != highlight.classic);
            if shares.is_empty() {
                let mut text = format!("◇ {classic}: {}", absent.unwrap_or("not seen"));
                if let Some((who, s)) = stand_in {
                    let _ = write!(text, "; see {} of {who}", printable(&s.name));
                }
                return (false, text);
            }
            let shares = shares.join(", ");
            let text = if names.is_empty() {
                format!("◆{} {classic}: {shares}", i + 1)
            } else {
                let here: Vec<_> = names.iter().map(|name| printable(name)).collect();
                format!("◆{} {classic}, here {}: {shares}", i + 1, here.join(", "))
            };
            (true, text)
        })
        .collect()
}

fn notes(profile: &Profile, whole: u64, absorbed: u64, inferred: u64) -> Vec<String> {
    let quality = &profile.quality;
    let mut notes = Vec::new();
    if quality.interrupts_wait && absorbed > 0 {
        notes.push(format!(
            "! Timer sampling cannot see code that runs with interrupts disabled: {} was sampled \
             where interrupts are enabled again, and is shown in its caller's role.",
            percent(absorbed, whole)
        ));
    }
    if inferred > 0 {
        notes.push(format!(
            "! {} is wake-ups or ends of waits: both end in the function sampled.",
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
