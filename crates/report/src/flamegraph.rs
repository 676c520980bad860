//! The flame graph: a tower per member, frames coloured by role.
//!
//! inferno lays the tree out and brings search, zoom and reset. It knows frames by name only, so a
//! name goes in with a mark (`mark.rs`) that says role and highlight, and `paint.rs` takes the
//! marks out again and colours by them.

pub(crate) mod canvas;
pub(crate) mod legend;
mod mark;
mod paint;
pub(crate) mod palette;
mod tower;

use std::io::Write;

use inferno::flamegraph as inferno;
use pipeprof_profiler::profile::{MemberProfile, WeightUnit};
use pipeprof_runner::pipeline::End;

use crate::error::Error;
use crate::escape::printable;
use crate::highlight::Highlights;
use crate::run::Run;
use crate::words::{self, units};

/// What of a profile to draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// One end of a built-in pair; `None` for all members.
    pub end: Option<End>,
    /// What the widths are.
    pub time: Time,
    /// Widths per GiB that each member moved.
    pub per_byte: bool,
}

/// What widths stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// Time on a CPU, or occurrences of the sampled event.
    #[default]
    Cpu,
    /// Time asleep.
    Blocked,
    /// All of a member's life.
    Wall,
}

/// Half a pixel. What is narrower is left out: it can't be seen before it is zoomed into, and deep
/// stacks of a sample or two (a program's start and end) would set the height of the picture.
const NARROWEST_PERCENT: f64 = 100.0 * 0.5 / legend::WIDTH as f64;

/// Draws a profile as an SVG with search, zoom and hover texts.
///
/// # Errors
///
/// [`Error::NoSamples`] where the view is empty, [`Error::Write`] where `out` fails.
pub fn render(
    run: &Run,
    highlights: &Highlights,
    view: View,
    mut out: impl Write,
) -> Result<(), Error> {
    let Run { profile, roles, .. } = run;
    let towers = tower::towers(run, view)?;
    if towers.is_empty() {
        let of = match view.end {
            Some(end) => format!("the {}", end.as_str()),
            None => "the pipeline".into(),
        };
        let notes = profile.quality.notes.iter().map(|note| printable(note).into_owned());
        return Err(Error::NoSamples { of, notes: notes.collect() });
    }
    let lines = tower::lines(profile, roles, highlights, &towers);
    let mut layout = Vec::with_capacity(1 << 20);
    let mut options = inferno::Options::default();
    options.title = title(run);
    options.subtitle = Some(subtitle(run, view));
    options.name_type = "Frame:".into();
    options.min_width = NARROWEST_PERCENT;
    options.text_truncate_direction = inferno::TextTruncateDirection::Right;
    options.bgcolors = Some(inferno::color::BackgroundColor::Flat((255, 255, 255).into()));
    inferno::from_lines(&mut options, lines.iter().map(String::as_str), &mut layout)?;

    let legend = legend::Legend::new(run, highlights, view, &towers);
    let picture = paint::paint(&layout, profile, highlights, &towers, &legend, view)?;
    out.write_all(&picture)?;
    Ok(())
}

/// `writer pp-write (4121)`: how a member is named wherever it is shown.
pub(crate) fn member_label(member: &MemberProfile) -> String {
    words::member::label(member.end, &member.comm, member.pid)
}

/// The members in view with their position in the profile, upstream first.
pub(crate) fn members(run: &Run, view: View) -> Vec<(usize, &MemberProfile)> {
    let mut members = run.members();
    members.retain(|(_, member)| view.end.is_none() || member.end == view.end);
    members
}

fn title(run: &Run) -> String {
    let subject = printable(&run.subject);
    let subject = if subject.chars().count() > 70 {
        format!("{}…", subject.chars().take(69).collect::<String>())
    } else {
        subject.into_owned()
    };
    match run.bytes_per_second() {
        Some(rate) => format!("{subject}: {}", units::throughput(rate)),
        None => subject,
    }
}

fn subtitle(run: &Run, view: View) -> String {
    let quality = &run.profile.quality;
    let mut parts = Vec::new();
    if !run.kernel.is_empty() {
        parts.push(format!("Linux {}", printable(&run.kernel)));
    }
    let event = printable(&quality.event);
    parts.push(match quality.frequency_hz {
        Some(hz) => format!("{event} at {hz} Hz"),
        None => event.into_owned(),
    });
    parts.push(format!("{} samples", units::thousands(quality.samples)));
    parts.push(format!("{} lost", units::thousands(quality.lost)));
    if !quality.kernel_visible {
        parts.push("user code only: the kernel half is missing".into());
    }
    let width = match (view.time, quality.unit) {
        (Time::Cpu, WeightUnit::Nanoseconds) => "time on a CPU".into(),
        (Time::Cpu, WeightUnit::Events) => printable(&quality.event).into_owned(),
        (Time::Blocked, _) => "time asleep".into(),
        (Time::Wall, _) => "time: on a CPU, blocked (hatched), waiting for a CPU".to_owned(),
    };
    let per = if view.per_byte { ", per GiB moved" } else { "" };
    parts.push(format!("width is {width}{per}"));
    parts.join(" · ")
}
