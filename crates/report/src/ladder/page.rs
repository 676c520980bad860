//! `ladder.html`: the picture, the table, and for each stage its sentence, its flame graph, and what
//! differs from the stage before.

use std::io::Write;

use super::standing::Standings;
use super::table::{count, noise, percent, rate, rounds, times};
use super::{Ladder, picture, words};
use crate::diff::{self, Diff};
use crate::error::Error;
use crate::flamegraph::{self, View};
use crate::highlight::Highlights;
use crate::html::shell::Page;
use crate::markup::Markup;
use crate::run::Run;

/// A profiled run, and the index of its stage in [`Ladder::entries`].
pub type ProfiledRun = (usize, Run);

/// Writes the page. `seen` are the profiled runs, in the order of time.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn write_page(
    ladder: &Ladder,
    seen: &[ProfiledRun],
    highlights: &Highlights,
    out: impl Write,
) -> Result<(), Error> {
    let standings = Standings::of(ladder);
    let sentences = words::sentences(ladder, &standings);
    let mut page = Page::new("ladder – pipeprof");
    let mut below = Markup::new();
    below.raw("<p class=\"sub\">").prose(rounds(ladder, &standings)).raw("</p>");
    page.lead(&format!("How fast each stage is, and why: Linux {}", ladder.kernel), &below);
    page.section("picture", "Picture", &drawn(ladder));
    page.section("table", "Table", &table(ladder, &standings));
    page.open("stages", "Stage by stage");
    for (entry, sentence) in sentences.iter().enumerate() {
        let mut head = Markup::new();
        head.element("h3", &ladder.entries[entry].name).raw("<p>").prose(sentence).raw("</p>");
        page.append(&head);
        flames(&mut page, entry, seen, highlights)?;
        if ladder.entries[entry].is_stage() {
            difference(&mut page, ladder, entry, seen)?;
        }
    }
    page.close();
    page.section("quality", "Data quality", &trust(ladder, &standings));
    page.write(out)
}

fn drawn(ladder: &Ladder) -> Markup {
    let mut html = Markup::new();
    html.raw("<figure>").append(&picture::embedded(ladder)).raw("</figure>");
    html
}

fn table(ladder: &Ladder, standings: &Standings) -> Markup {
    let mut html = Markup::new();
    html.raw("<div class=\"scroll\"><table><thead><tr><th></th>");
    for heading in [
        "GiB/s",
        "min to max",
        "× first",
        "× before",
        "of cache",
        "switches/GiB",
        "wake-ups/GiB",
        "CPU per GiB",
    ] {
        html.raw("<th class=\"n\">").text(heading).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    let bandwidth = ladder.bandwidth.as_ref().map(|bandwidth| bandwidth.cache.read_gib_per_s);
    for (entry, standing) in ladder.entries.iter().zip(&standings.standings) {
        html.raw("<tr>").element("td", &entry.name);
        let Some(speed) = standing.gib_per_s else {
            let why = entry.refused.as_deref().unwrap_or("not run");
            html.raw("<td colspan=\"8\">").text(why).raw("</td></tr>");
            continue;
        };
        let median = speed.estimate.median;
        let cost =
            standing.ns_per_gib().map_or_else(|| "-".to_owned(), crate::words::units::duration);
        for cell in [
            rate(median),
            standing.range().unwrap_or_default(),
            times(standing.of_first),
            times(standing.of_before),
            bandwidth.map_or_else(|| "-".to_owned(), |bandwidth| percent(median / bandwidth)),
            count(standing.switches_per_gib),
            count(standing.wakeups_per_gib),
            cost,
        ] {
            html.raw("<td class=\"n\">").text(cell).raw("</td>");
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table></div>");
    html
}

/// Of the last profiled run.
fn flames(
    page: &mut Page,
    entry: usize,
    seen: &[ProfiledRun],
    highlights: &Highlights,
) -> Result<(), Error> {
    let Some((_, run)) = seen.iter().rfind(|(of, _)| *of == entry) else { return Ok(()) };
    match flamegraph::picture(run, highlights, View::default()) {
        Ok(picture) => {
            page.flame("on CPU", &picture);
            Ok(())
        }
        // A run too short for a sample has said so in its sentence.
        Err(Error::NoSamples { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// From the stage before, over all profiled runs of both.
fn difference(
    page: &mut Page,
    ladder: &Ladder,
    entry: usize,
    seen: &[ProfiledRun],
) -> Result<(), Error> {
    let Some(before) = entry.checked_sub(1) else { return Ok(()) };
    let runs = |entry: usize| seen.iter().filter(move |(of, _)| *of == entry).map(|(_, run)| run);
    let pairs: Vec<_> = runs(before).zip(runs(entry)).collect();
    let names = [before, entry].map(|entry| &*ladder.entries[entry].name);
    let diff = match Diff::of(&pairs, names) {
        Ok(diff) => diff,
        // Too short for samples, or no member in common.
        Err(Error::NoSamples { .. } | Error::NotComparable { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    page.flame(&format!("on CPU, against {}", names[0]), &diff::picture(&diff, false)?);
    Ok(())
}

fn trust(ladder: &Ladder, standings: &Standings) -> Markup {
    let mut html = Markup::new();
    html.raw("<ul>");
    for line in noise(ladder, standings) {
        html.raw("<li>").prose(line).raw("</li>");
    }
    for fact in &ladder.machine {
        html.raw("<li>").prose(&fact.text);
        if let Some(remedy) = &fact.remedy {
            html.text(": ").text(remedy);
        }
        html.raw("</li>");
    }
    html.raw("</ul>");
    html
}
