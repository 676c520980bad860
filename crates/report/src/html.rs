//! The HTML report: everything about a run in one self-contained file.
//!
//! `shell.rs` makes the frame of any page; the other files make the contents of a report.

mod bars;
mod lanes;
mod picture;
mod series;
pub mod shell;
mod tables;

use std::io::Write;

use crate::error::Error;
use crate::flamegraph::{self, Time, View};
use crate::highlight::Highlights;
use crate::markup::Markup;
use crate::run::Run;
use crate::summary::Summary;
use crate::words::evidence::{Line, lines};
use crate::words::member;
use crate::words::phase;
use crate::words::units::{duration, thousands, throughput};
use shell::Page;

/// Columns of the lanes over time: what a wide page can show.
const MOST_COLUMNS: usize = 400;

/// Writes the report of a run as one page.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn render(run: &Run, highlights: &Highlights, out: impl Write) -> Result<(), Error> {
    let mut summary = Summary::of(run, highlights, View::default());
    // No more than there are looks to tell apart.
    let bins = run.states.as_ref().map_or(0, |states| states.bins.len());
    summary.add_timeline(run, bins.min(MOST_COLUMNS));
    let (shown, rest) = summary.main_members();

    let of = run.part.as_ref().map(|part| format!(", {}", phase::title(part)));
    let mut page = Page::new(&format!("{}{} – pipeprof", run.subject, of.unwrap_or_default()));
    let lanes = lanes::lanes(&summary);
    // The timeline comes before the evidence in words.
    let reasons = reasons(&summary);
    lead(&mut page, &summary, reasons.as_ref().filter(|_| lanes.is_none()));
    if let Some(lanes) = lanes {
        page.open("timeline", "Timeline").lanes(lanes).close();
        if let Some(reasons) = &reasons {
            page.section("evidence", "Evidence", reasons);
        }
    }
    match picture::picture(&summary) {
        Some(picture) => page.section("pipeline", "Pipeline", &picture),
        None => page.section("pipeline", "Pipeline", &no_picture(run)),
    };
    over_time(&mut page, &summary, run.elapsed_ns);
    page.open("members", "Members").append(&bars::bars(&summary, &shown));
    for member in &shown {
        page.append(&tables::member(member));
    }
    if !rest.is_empty() {
        let mut others = Markup::new();
        others.raw("<p class=\"sub\">").text(member::others(&rest)).raw("</p>");
        page.append(&others);
    }
    page.close();
    if !summary.pipes.is_empty() {
        page.section("pipes", "Pipes", &tables::pipes(&summary));
    }
    page.open("flames", "Flame graphs");
    for (heading, time) in [("on CPU", Time::Cpu), ("blocked", Time::Blocked)] {
        let view = View { time, ..View::default() };
        match flamegraph::picture(run, highlights, view) {
            Ok(mut picture) => {
                picture.headline = summary.verdict.as_ref().map(|known| known.headline.clone());
                page.flame(heading, &picture);
            }
            Err(Error::NoSamples { .. }) => {
                let mut html = Markup::new();
                html.raw("<p><b>").text(heading).raw("</b>: ").text(missing(&summary, time));
                page.append(html.raw("</p>"));
            }
            Err(error) => return Err(error),
        }
    }
    page.close();
    page.section("quality", "Data quality", &tables::quality(&summary));
    if let Some(machine) = tables::machine(&run.environment) {
        page.section("machine", "Machine", &machine);
    }
    page.write(out)
}

/// Where no pipe joins two members.
fn no_picture(run: &Run) -> Markup {
    let mut html = Markup::new();
    html.raw("<p>").text(if run.pipeline.members.is_empty() {
        "The recording does not say which pipes join its processes, or how many bytes went through \
         them."
    } else {
        "No pipe joins two of these processes."
    });
    html.raw("</p>");
    html
}

/// Why there is no flame graph.
fn missing(summary: &Summary, time: Time) -> &'static str {
    match time {
        Time::Cpu => "no sample was taken.",
        _ if summary.members.iter().any(|member| member.life.is_some()) => "no member slept.",
        _ => "context switches were not recorded, so blocked time is unknown.",
    }
}

/// The verdict, or where there is none what was sampled.
fn lead(page: &mut Page, summary: &Summary, reasons: Option<&Markup>) {
    let mut below = Markup::new();
    below.raw("<p class=\"sub\"><code>").text(&summary.subject).raw("</code>");
    let mut facts = Vec::new();
    if let Some(kernel) = &summary.kernel {
        facts.push(format!("Linux {kernel}"));
    }
    if let Some(ns) = summary.elapsed_ns.filter(|ns| *ns > 0) {
        facts.push(format!("watched for {}", duration(ns as f64)));
    }
    facts.extend(summary.phase.as_ref().map(phase::title));
    if let Some(bytes) = summary.bytes_per_second {
        facts.push(throughput(bytes));
    }
    facts.push(format!("{} samples", thousands(summary.quality.recorded.samples)));
    below.text(format_args!(" · {}", facts.join(" · "))).raw("</p>");
    let Some(verdict) = &summary.verdict else {
        page.lead(&format!("{}: where the time went", summary.subject), &below);
        return;
    };
    if let Some(reasons) = reasons {
        below.append(reasons);
    }
    if let Some(doubt) = &verdict.doubt {
        below.raw("<p class=\"warn\">").text(doubt).raw("</p>");
    }
    for remedy in &verdict.remedies {
        below.raw("<p><b>try:</b> ").prose(&remedy.what).text("; ").prose(&remedy.buys).raw("</p>");
    }
    page.lead(&verdict.headline, &below);
}

/// The evidence for the verdict.
fn reasons(summary: &Summary) -> Option<Markup> {
    let verdict = summary.verdict.as_ref().filter(|verdict| !verdict.evidence.is_empty())?;
    let mut html = Markup::new();
    html.raw("<ul class=\"evidence\">");
    for line in lines(verdict) {
        html.append(&evidence(&line));
    }
    html.raw("</ul>");
    Some(html)
}

fn evidence(line: &Line) -> Markup {
    let mut html = Markup::new();
    html.raw("<li>");
    if !line.who.is_empty() {
        html.raw("<b>").text(&line.who).raw("</b> ");
    }
    html.prose(&line.what);
    if !line.pipe.is_empty() {
        html.text(format_args!(" · {}", line.pipe));
    }
    html.raw("</li>");
    html
}

fn over_time(page: &mut Page, summary: &Summary, elapsed_ns: u64) {
    let charts: Vec<_> = summary
        .pipes
        .iter()
        .filter_map(|pipe| Some((pipe, series::chart(pipe, elapsed_ns)?)))
        .collect();
    if charts.is_empty() {
        return;
    }
    page.open("over-time", "Throughput and fill over time");
    let members = summary.by_pid();
    let names = |pids: &[i32]| -> String {
        let known = members.users(pids).into_iter();
        known.map(|member| member.comm.as_str()).collect::<Vec<_>>().join(", ")
    };
    for (pipe, chart) in charts {
        page.chart(&format!("{} → {}", names(&pipe.writers), names(&pipe.readers)), chart);
    }
    page.close();
}
