//! A tuning as a page: what each change did with its interval, and every window as a dot.

use std::io::Write;

use super::experiment::{Judged, MARGIN, Outcome, Side};
use super::proof::{Proof, Window};
use super::text::{headline, outcome_text};
use crate::error::Error;
use crate::html::shell::Page;
use crate::markup::Markup;
use crate::words::lanes::ticks;
use crate::words::units::throughput;

/// Writes the page.
///
/// # Errors
///
/// [`Error::Write`] where `out` fails.
pub fn write_page(proof: &Proof, out: impl Write) -> Result<(), Error> {
    let mut page = Page::new(&format!("{} tuned – pipeprof", proof.subject));
    let mut below = Markup::new();
    below.raw("<p class=\"sub\"><code>").text(&proof.subject).raw("</code>").prose(format!(
        " · {} through {} before any change · windows of {} ms",
        throughput(proof.original.bytes_per_second),
        proof.measure,
        proof.window_ms
    ));
    below.raw("</p>");
    for line in proof.stopped.iter().map(|why| format!("stopped early: {why}")) {
        below.raw("<p class=\"warn\">").prose(line).raw("</p>");
    }
    for what in &proof.not_restored {
        below.raw("<p class=\"warn\">not restored yet: ").prose(what).raw("</p>");
    }
    page.lead(&headline(proof), &below);
    let rows = rows(proof);
    if !rows.is_empty() {
        page.section("changes", "Changes", &forest(&rows));
        page.section("windows", "Windows", &windows(&rows));
    }
    let mut html = Markup::new();
    for best in [&proof.best, &proof.best_line].into_iter().flatten() {
        for line in &best.permanent {
            html.raw("<pre>").text(line).raw("</pre>");
        }
        for line in &best.price {
            html.raw("<p><b>price:</b> ").prose(line).raw("</p>");
        }
        if best.kept {
            html.raw("<p>Left in place (--keep-best).</p>");
        }
    }
    if !html.is_empty() {
        page.section("always", "To make it permanent", &html);
    }
    if !proof.not_tried.is_empty() {
        let mut html = Markup::new();
        html.raw("<div class=\"scroll\"><table><tr><th>change</th><th>why not</th></tr>");
        for not in &proof.not_tried {
            html.raw("<tr>").element("td", &not.what).raw("<td>").prose(&not.why).raw("</td></tr>");
        }
        html.raw("</table></div>");
        page.section("not-tried", "Not tried", &html);
    }
    page.write(out)
}

/// A change with a letter.
struct Row<'a> {
    letter: char,
    name: String,
    judged: Option<&'a Judged>,
    failed: Option<&'a str>,
    windows: &'a [Window],
}

fn rows(proof: &Proof) -> Vec<Row<'_>> {
    let mut letters = ('A'..='Z').chain('a'..='z');
    let mut letter = || letters.next().unwrap_or('?');
    let mut rows: Vec<Row<'_>> = proof
        .tried
        .iter()
        .map(|tried| Row {
            letter: letter(),
            name: tried.name.clone(),
            judged: tried.judged.as_ref(),
            failed: tried.failed.as_deref(),
            windows: &tried.windows,
        })
        .collect();
    for best in [&proof.best, &proof.best_line].into_iter().flatten() {
        rows.push(Row {
            letter: letter(),
            name: format!("measured again: {}", best.names.join(" and ")),
            judged: best.judged.as_ref(),
            failed: None,
            windows: &best.windows,
        });
    }
    rows
}

/// Each change with its interval on one scale of ratios.
fn forest(rows: &[Row<'_>]) -> Markup {
    let all = rows.iter().filter_map(|row| row.judged);
    let (mut low, mut high) = (1.0 - 2.0 * MARGIN, 1.0 + 2.0 * MARGIN);
    for judged in all {
        // An interval of two blocks says nothing, and would squeeze all others.
        low = f64::min(low, judged.low.max(judged.ratio / 3.0));
        high = f64::max(high, judged.high.min(judged.ratio * 3.0));
    }
    let (low, high) = (low.max(0.01).ln(), high.ln());
    let place =
        |ratio: f64| 2.0 + 96.0 * ((ratio.max(0.01).ln() - low) / (high - low)).clamp(0.0, 1.0);
    let mut html = Markup::new();
    html.raw("<p class=\"sub\">").prose(format!(
        "Throughput with the change ÷ without it: the estimate, and the 95 % interval for all \
         changes together. Grey: no effect, within ±{:.0} %.",
        100.0 * MARGIN
    ));
    html.raw("</p><table class=\"bars\">");
    for row in rows {
        html.raw("<tr><th scope=\"row\"><b>").text(row.letter).raw("</b> ").text(&row.name);
        html.raw("</th><td><svg class=\"forest\" width=\"100%\" height=\"26\" role=\"img\"");
        html.attribute("aria-label", said(row)).raw(">");
        let (from, until) = (place(1.0 - MARGIN), place(1.0 + MARGIN));
        html.raw("<rect class=\"margin\" height=\"26\"")
            .attribute("x", format_args!("{from:.2}%"))
            .attribute("width", format_args!("{:.2}%", until - from))
            .raw("/>");
        line(&mut html, "one", (place(1.0), 0), (place(1.0), 26));
        if let Some(judged) = row.judged {
            let class = match judged.outcome {
                Outcome::Faster => "faster",
                Outcome::Slower => "slower",
                Outcome::NoEffect | Outcome::NotEnoughData => "open",
            };
            line(&mut html, class, (place(judged.low), 13), (place(judged.high), 13));
            html.raw("<circle cy=\"13\" r=\"4.5\"")
                .attribute("class", class)
                .attribute("cx", format_args!("{:.2}%", place(judged.ratio)))
                .raw("/>");
        }
        html.raw("</svg></td><td>").prose(said(row)).raw("</td></tr>");
    }
    html.raw("</table>");
    html
}

fn said(row: &Row<'_>) -> String {
    match row.failed {
        Some(why) => format!("not tried: {why}"),
        None => outcome_text(row.judged),
    }
}

fn line(html: &mut Markup, class: &'static str, from: (f64, u32), to: (f64, u32)) {
    html.raw("<line")
        .attribute("class", class)
        .attribute("x1", format_args!("{:.2}%", from.0))
        .attribute("y1", from.1)
        .attribute("x2", format_args!("{:.2}%", to.0))
        .attribute("y2", to.1)
        .raw("/>");
}

const WIDTH: f64 = 1160.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 26.0;

/// Every window as a dot over time, in bands of the changes.
fn windows(rows: &[Row<'_>]) -> Markup {
    let all = || rows.iter().flat_map(|row| row.windows);
    let mut html = Markup::new();
    let end = all().map(|window| window.at_s).fold(0.0, f64::max);
    let most = all().map(|window| window.bytes_per_second).fold(0.0, f64::max);
    if all().count() == 0 || most <= 0.0 {
        html.raw("<p>No window was measured.</p>");
        return html;
    }
    // The last window has a length too.
    let end = end * 1.02 + 0.1;
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - 8.0) * seconds / end;
    let y = |rate: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / (1.08 * most);
    html.raw("<p class=\"sub\">A dot is the rate in one window: ");
    html.raw("<span class=\"dot original\">○</span> as it was, ");
    html.raw(
        "<span class=\"dot treated\">●</span> with the change. A band is one block of four \
              windows of the change with that letter.</p>",
    );
    html.raw("<div class=\"scroll\"><svg class=\"windows\" role=\"img\"")
        .attribute("width", WIDTH)
        .attribute("height", HEIGHT)
        .attribute("viewBox", format_args!("0 0 {WIDTH} {HEIGHT}"))
        .attribute("aria-label", "the rate in each window, over time")
        .raw(">");
    // A block is over where another change begins.
    let mut order: Vec<(usize, &Window)> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, of)| of.windows.iter().map(move |window| (row, window)))
        .collect();
    order.sort_by(|a, b| a.1.at_s.total_cmp(&b.1.at_s));
    for (at, band) in order.chunk_by(|a, b| a.0 == b.0).enumerate() {
        let from = band[0].1.at_s;
        let until = order
            .iter()
            .map(|(_, window)| window.at_s)
            .find(|&next| next > band[band.len() - 1].1.at_s);
        let (from, until) = (x(from) - 3.0, x(until.unwrap_or(end)) - 3.0);
        html.raw("<rect")
            .attribute("class", if at % 2 == 0 { "band" } else { "band even" })
            .attribute("x", format_args!("{from:.1}"))
            .attribute("y", TOP)
            .attribute("width", format_args!("{:.1}", (until - from).max(1.0)))
            .attribute("height", HEIGHT - TOP - BOTTOM)
            .raw("/>");
        text(
            &mut html,
            "strong",
            ((from + until) / 2.0, TOP - 7.0),
            "middle",
            rows[band[0].0].letter,
        );
    }
    for share in [0.0, 0.5, 1.0] {
        let at = y(share * most);
        html.raw("<line class=\"grid\"")
            .attribute("x1", LEFT)
            .attribute("x2", WIDTH - 8.0)
            .attribute("y1", format_args!("{at:.1}"))
            .attribute("y2", format_args!("{at:.1}"))
            .raw("/>");
        text(&mut html, "small", (LEFT - 8.0, at + 4.0), "end", throughput(share * most));
    }
    for (ns, words) in ticks(end * 1e9, 10) {
        text(&mut html, "small", (x(ns / 1e9), HEIGHT - 8.0), "middle", words);
    }
    for (row, window) in &order {
        let treated = window.side == Side::Treated;
        html.raw("<circle r=\"4\"")
            .attribute("class", if treated { "dot treated" } else { "dot original" })
            .attribute("cx", format_args!("{:.1}", x(window.at_s)))
            .attribute("cy", format_args!("{:.1}", y(window.bytes_per_second)))
            .raw("><title>")
            .text(format_args!(
                "{}, {}: {} at {:.1} s",
                rows[*row].name,
                if treated { "with the change" } else { "as it was" },
                throughput(window.bytes_per_second),
                window.at_s
            ))
            .raw("</title></circle>");
    }
    html.raw("</svg></div>");
    html
}

fn text(
    html: &mut Markup,
    class: &'static str,
    (x, y): (f64, f64),
    anchor: &'static str,
    words: impl std::fmt::Display,
) {
    html.raw("<text")
        .attribute("class", class)
        .attribute("x", format_args!("{x:.1}"))
        .attribute("y", format_args!("{y:.1}"))
        .attribute("text-anchor", anchor)
        .raw(">")
        .text(words)
        .raw("</text>");
}
