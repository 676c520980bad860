//! Which event of a file is shown, where it has several.

use std::cmp::Reverse;

use crate::perfdata::event::Event;
use crate::perfdata::read::PerfDataFile;

/// The event that is shown, and what is said of the others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) event: usize,
    pub(super) notes: Vec<String>,
}

/// Names listed in a sentence.
const LISTED: usize = 8;

/// Chooses by what the events measure and by their samples, as counted by the caller; or the one
/// that is asked for. `Err` lists what could be asked for.
pub(super) fn choose(
    file: &PerfDataFile,
    samples: &[u64],
    asked: Option<&str>,
) -> Result<Choice, String> {
    let counted: Vec<(usize, &Event, u64)> = (file.events.iter().enumerate())
        .map(|(index, event)| (index, event, samples.get(index).copied().unwrap_or(0)))
        .filter(|(_, event, _)| !event.is_dummy())
        .collect();
    let fit = |&&(_, event, samples): &&(usize, &Event, u64)| {
        (samples > 0, Reverse(distance_from_time(event)), samples)
    };
    // Of equals the first.
    let best = |among: &[&(usize, &Event, u64)]| {
        among.iter().rev().max_by_key(|event| fit(event)).map(|&&(index, ..)| index)
    };
    let event = match asked {
        None => best(&counted.iter().collect::<Vec<_>>()).unwrap_or(file.sampled),
        Some(name) => {
            let exact = |(_, event, _): &&(usize, &Event, u64)| event.name == name;
            let loose = |(_, event, _): &&(usize, &Event, u64)| is_called(&event.name, name);
            let named: Vec<_> = counted.iter().filter(exact).collect();
            let named = match named.is_empty() {
                true => counted.iter().filter(loose).collect(),
                false => named,
            };
            best(&named).ok_or_else(|| listed(counted.iter().map(in_words)))?
        }
    };
    // Samples of switches show where threads sleep, besides the records of switches.
    let tell_sleep = file.events.iter().any(Event::records_switches);
    let others = || {
        let is_used = |event: &Event| tell_sleep && event.is_switch();
        counted.iter().filter(move |&&(index, other, _)| index != event && !is_used(other))
    };
    let mut notes = Vec::new();
    let sampled: Vec<_> = others().filter(|(.., samples)| *samples > 0).collect();
    if !sampled.is_empty() {
        notes.push(format!(
            "the file has samples of other events, not shown: {}; hint: --event NAME shows another",
            listed(sampled.into_iter().map(in_words))
        ));
    }
    let empty: Vec<_> = others().filter(|(.., samples)| *samples == 0).collect();
    if !empty.is_empty() {
        let names = empty.iter().map(|(_, event, _)| event.name.clone());
        notes.push(format!("the file has no sample of {}", listed(names)));
    }
    if !tell_sleep && counted.iter().any(|(_, event, samples)| event.is_switch() && *samples > 0) {
        notes.push(
            "the file has samples of context switches, which tell when threads left their CPUs but \
             not when they got them back; hint: perf record --switch-events tells blocked time"
                .to_owned(),
        );
    }
    Ok(Choice { event, notes })
}

/// How far what an event measures is from time on a CPU, which is what is asked for first.
fn distance_from_time(event: &Event) -> u8 {
    match event {
        _ if event.is_clock() || event.is_cycles() => 0,
        _ if event.is_off_cpu_time() => 4,
        _ if event.is_switch() => 3,
        _ if event.is_hardware() => 1,
        _ => 2,
    }
}

/// `cycles` is `cycles:u` too, and `cpu_core/cycles/`.
fn is_called(name: &str, asked: &str) -> bool {
    let plain = |name: &str| name.split_once(":").map_or(name, |(name, _)| name).to_owned();
    let within = name.split('/').nth(1);
    plain(name) == asked || within == Some(asked)
}

fn in_words((_, event, samples): &(usize, &Event, u64)) -> String {
    match samples {
        1 => format!("{} (1 sample)", event.name),
        _ => format!("{} ({samples} samples)", event.name),
    }
}

fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let names = names.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}
