//! Every run as a row.

use std::collections::BTreeMap;
use std::io::Write;

use pipeprof_profiler::effect::{Effect, Slowdown};
use pipeprof_runner::pipeline::End;
use serde_json::Value;

use super::{EndCost, Ladder, Run};
use crate::error::Error;
use crate::escape::csv_cell;
use crate::roles::Role;

/// Writes a header and a row for each run, with its whole configuration.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn write_csv(ladder: &Ladder, mut out: impl Write) -> Result<(), Error> {
    let plan_columns = plan_columns(ladder);
    let role_columns = role_columns(ladder);
    let mut header: Vec<String> = RUN_COLUMNS.iter().map(|&name| name.to_owned()).collect();
    header.extend(plan_columns.iter().map(|name| name.replace('-', "_")));
    for end in End::BOTH {
        header.extend(END_COLUMNS.iter().map(|name| format!("{}_{name}", end.as_str())));
    }
    header.extend(role_columns.iter().map(|&(end, role)| role_column(end, role)));
    writeln!(out, "{}", header.join(","))?;
    for run in &ladder.runs {
        let mut row = run_cells(ladder, run);
        let plan = run.plan.as_ref().map(plan_values).unwrap_or_default();
        row.extend(plan_columns.iter().map(|name| plan.get(name).cloned().unwrap_or_default()));
        for end in End::BOTH {
            row.extend(end_cells(cost_of(run, end)));
        }
        row.extend(role_columns.iter().map(|&(end, role)| {
            let found =
                cost_of(run, end).and_then(|cost| cost.roles.iter().find(|r| r.role == role));
            found.map_or_else(String::new, |role| format!("{:.0}", role.cpu_ns))
        }));
        let row: Vec<String> = row.iter().map(|cell| csv_cell(cell).into_owned()).collect();
        writeln!(out, "{}", row.join(","))?;
    }
    Ok(())
}

const RUN_COLUMNS: [&str; 19] = [
    "entry",
    "round",
    "position",
    "began_ns",
    "profiled",
    "whole",
    "gibibytes_per_second",
    "bytes_piped",
    "elapsed_ns",
    "counted_by",
    "event",
    "samples",
    "lost",
    "sampling_slowed_percent",
    "sampling_slowed_low_percent",
    "sampling_slowed_high_percent",
    "seed",
    "kernel",
    "command",
];

fn run_cells(ladder: &Ladder, run: &Run) -> Vec<String> {
    let entry = &ladder.entries[run.entry];
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let flag = |flag: bool| u8::from(flag).to_string();
    let profile = run.profile.as_ref();
    let effect = profile.and_then(|profile| profile.sampling_effect.as_ref());
    let percent = |of: fn(&Slowdown) -> f64| {
        let slowdown = effect.and_then(Effect::slowdown);
        slowdown.map(|slowdown| format!("{:.3}", of(slowdown))).unwrap_or_default()
    };
    vec![
        entry.name.clone(),
        run.round.to_string(),
        run.position.to_string(),
        run.began_ns.to_string(),
        flag(profile.is_some()),
        flag(run.whole),
        run.gib_per_s.map(|rate| format!("{rate:.6}")).unwrap_or_default(),
        number(run.bytes),
        run.elapsed_ns.to_string(),
        text(&serde_json::to_value(run.counted_by).unwrap_or_default()),
        profile.map(|profile| profile.event.clone()).unwrap_or_default(),
        number(profile.map(|profile| profile.samples)),
        number(profile.map(|profile| profile.lost)),
        percent(|slowdown| slowdown.percent),
        percent(|slowdown| slowdown.low_percent),
        percent(|slowdown| slowdown.high_percent),
        ladder.seed.to_string(),
        ladder.kernel.clone(),
        if entry.is_stage() { String::new() } else { entry.name.clone() },
    ]
}

const END_COLUMNS: [&str; 5] =
    ["cpu_ns", "voluntary_switches", "involuntary_switches", "calls", "retries"];

fn end_cells(cost: Option<&EndCost>) -> [String; END_COLUMNS.len()] {
    let of = |of: fn(&EndCost) -> Option<u64>| {
        cost.and_then(of).map(|number| number.to_string()).unwrap_or_default()
    };
    [
        of(|cost| cost.cpu_ns),
        of(|cost| cost.voluntary_switches),
        of(|cost| cost.involuntary_switches),
        of(|cost| cost.calls),
        of(|cost| cost.retries),
    ]
}

fn cost_of(run: &Run, end: End) -> Option<&EndCost> {
    run.ends.iter().find(|cost| cost.end == Some(end))
}

/// The knobs of a plan by name, however many there are.
fn plan_values(plan: &pipeprof_runner::plan::PairPlan) -> BTreeMap<String, String> {
    let Ok(Value::Object(knobs)) = serde_json::to_value(plan) else { return BTreeMap::new() };
    knobs.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn plan_columns(ladder: &Ladder) -> Vec<String> {
    let plans = ladder.runs.iter().filter_map(|run| run.plan.as_ref());
    plans.map(plan_values).next().unwrap_or_default().into_keys().collect()
}

/// The roles that any run has, by end.
fn role_columns(ladder: &Ladder) -> Vec<(End, Role)> {
    let seen = |end: End, role: Role| {
        let mut costs = ladder.runs.iter().filter_map(move |run| cost_of(run, end));
        costs.any(|cost| cost.roles.iter().any(|cost| cost.role == role))
    };
    let all = End::BOTH.into_iter().flat_map(|end| Role::ALL.map(|role| (end, role)));
    all.filter(|&(end, role)| seen(end, role)).collect()
}

fn role_column(end: End, role: Role) -> String {
    let role = text(&serde_json::to_value(role).unwrap_or_default());
    format!("{}_{role}_cpu_ns", end.as_str())
}

/// Booleans as 0 and 1, as the article's program prints them.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(flag) => u8::from(*flag).to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
