//! speedscope's own JSON format: a sampled profile for each member.

use std::io::Write;

use pipeprof_profiler::profile::{Frame, StackWeight, WeightUnit};
use serde::Serialize;

use super::Source;
use crate::error::Error;
use crate::escape::printable;
use crate::flamegraph::{Time, member_label};
use crate::ordered::OrderedSet;

/// <https://www.speedscope.app/file-format-schema.json>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: &'static str,
    active_profile_index: usize,
    shared: Shared<'a>,
    profiles: Vec<Sampled>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<SharedFrame<'a>>,
}

#[derive(PartialEq, Eq, Hash, Serialize)]
struct SharedFrame<'a> {
    name: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    /// Root first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// Writes a profile for each member; for [`Time::Wall`] with its time on CPU and blocked side by
/// side, under a frame that says which.
///
/// # Errors
/// [`Error::Write`] where `out` fails.
pub fn render(source: &Source<'_>, time: Time, mut out: impl Write) -> Result<(), Error> {
    let mut frames = OrderedSet::default();
    let profile = &source.run.profile;
    let unit = match (profile.quality.unit, time) {
        (WeightUnit::Events, Time::Cpu) => "none",
        _ => "nanoseconds",
    };
    // speedscope knows functions by their place in the list, so one at two call sites is one.
    let shared = profile.frames().iter().map(SharedFrame::of);
    let ids: Vec<usize> = shared.map(|frame| frames.insert_full(frame).0).collect();
    let mut profiles = Vec::new();
    for (_, member) in source.members() {
        let mut sampled = Sampled {
            r#type: "sampled",
            name: member_label(member),
            unit,
            start_value: 0,
            end_value: 0,
            samples: Vec::new(),
            weights: Vec::new(),
        };
        let parts = [
            ("on CPU", &member.on_cpu, time != Time::Blocked),
            ("blocked", &member.blocked, time != Time::Cpu),
        ];
        for (part, weights, _) in parts.iter().filter(|(.., shown)| *shown) {
            let part = (time == Time::Wall).then(|| frames.insert_full(SharedFrame::label(part)).0);
            let seen = |weight: &&StackWeight| weight.weight > 0;
            for weight in weights.iter().filter(seen) {
                let stack =
                    profile.stack(weight.stack).iter().rev().map(|frame| ids[frame.index()]);
                sampled.samples.push(part.into_iter().chain(stack).collect());
                sampled.weights.push(weight.weight);
                sampled.end_value += weight.weight;
            }
        }
        if sampled.end_value > 0 {
            profiles.push(sampled);
        }
    }
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: printable(&source.run.subject).into_owned(),
        exporter: concat!("pipeprof@", env!("CARGO_PKG_VERSION")),
        active_profile_index: 0,
        shared: Shared { frames: frames.into_iter().collect() },
        profiles,
    };
    serde_json::to_writer(&mut out, &file).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}

impl<'a> SharedFrame<'a> {
    fn of(frame: &'a Frame) -> Self {
        SharedFrame { name: printable(&frame.name), file: frame.module.as_deref().map(printable) }
    }

    fn label(text: &'a str) -> Self {
        SharedFrame { name: text.into(), file: None }
    }
}
