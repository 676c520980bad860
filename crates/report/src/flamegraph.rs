//! The flame graph: a tower a member, boxes coloured by role.
//!
//! `tower.rs` decides the contents and widths, `paint.rs` the colours and texts, `legend.rs`
//! explains them; [`crate::picture`] draws.

mod legend;
mod paint;
mod tower;

use std::io::Write;

use pipeprof_profiler::profile::{MemberProfile, WeightUnit};
use pipeprof_runner::pipeline::End;

use crate::calltree::Shown;
use crate::error::Error;
use crate::escape::printable;
use crate::highlight::Highlights;
use crate::payload::Payload;
use crate::picture::{Boxes, NARROWEST, Picture};
use crate::run::Run;
use crate::words::{self, units};

/// What of a profile to draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// One end of a built-in pair; `None` for all members.
    pub end: Option<End>,
    /// What the widths are.
    pub time: Time,
    /// Widths per GiB of the pipeline's input: see [`Payload`].
    pub per_byte: bool,
    /// Every frame has its row: chains of user code are not folded.
    pub unfolded: bool,
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

/// Draws a run as an SVG with search, zoom and hover texts. `headline` is what follows from it.
///
/// # Errors
///
/// As [`picture`], and [`Error::Write`] where `out` fails.
pub fn render(
    run: &Run,
    highlights: &Highlights,
    view: View,
    headline: Option<&str>,
    out: impl Write,
) -> Result<(), Error> {
    let mut picture = picture(run, highlights, view)?;
    picture.headline = headline.map(str::to_owned);
    picture.write_svg(out)
}

/// Draws a run.
///
/// # Errors
///
/// [`Error::NoSamples`] where the view is empty, [`Error::NoBytes`] where there is nothing to divide
/// by.
pub fn picture(run: &Run, highlights: &Highlights, view: View) -> Result<Picture, Error> {
    let payload = match view.per_byte {
        true => Some(run.payload().map_err(|why| Error::NoBytes { why })?),
        false => None,
    };
    let towers = tower::towers(run, view, payload);
    if towers.is_empty() {
        let of = match view.end {
            Some(end) => format!("the {}", end.as_str()),
            None => "the pipeline".into(),
        };
        let notes = run.profile.quality.notes.iter().map(|note| printable(note).into_owned());
        return Err(Error::NoSamples { of, notes: notes.collect() });
    }
    let painter = paint::Painter::new(run, highlights, &towers, view);
    let is_pair = towers.iter().all(|tower| tower.end.is_some());
    let shown = Shown { least: NARROWEST, collapse: !view.unfolded, level: is_pair };
    let rows = painter.tree.rows(shown, |weight| *weight);
    Ok(Picture {
        title: title(run),
        headline: None,
        subtitle: subtitle(run, view, payload),
        legend: legend::legend(run, highlights, view, &towers),
        boxes: Boxes::draw(&rows, &painter.paint(&rows))?,
    })
}

/// `writer pp-write (4121)`: how a member is named wherever it is shown.
pub(crate) fn member_label(member: &MemberProfile) -> String {
    words::name::label(member.end, &member.comm, member.pid, member.processes)
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
    let subject = match run.bytes_per_second() {
        Some(rate) => format!("{subject}: {}", units::throughput(rate)),
        None => subject,
    };
    match &run.part {
        Some(part) => format!("{subject}, {}", words::phase::title(part)),
        None => subject,
    }
}

fn subtitle(run: &Run, view: View, payload: Option<Payload>) -> String {
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
    let per =
        payload.map_or_else(String::new, |payload| format!(", {}", payload.words(&run.pipeline)));
    parts.push(format!("width is {width}{per}"));
    parts.join(" · ")
}
