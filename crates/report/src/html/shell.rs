//! The frame of a page: one self-contained file that runs no script but its own.
//!
//! ```no_run
//! # use pipeprof_report::markup::Markup;
//! # use pipeprof_report::html::shell::Page;
//! # use pipeprof_report::picture::Picture;
//! # fn render(drawn: &Picture) -> Result<(), pipeprof_report::error::Error> {
//! let mut page = Page::new("vmsplice");
//! page.lead("pages are pinned faster than copied", &Markup::new());
//! let mut text = Markup::new();
//! text.element("p", "<names> are shown as they are written");
//! page.section("names", "Names", &text);
//! // What flamegraph::picture has drawn, or several of them; one search finds in all.
//! page.open("flames", "Flame graphs").flame("on CPU", drawn).close();
//! page.write(std::io::stdout())
//! # }
//! ```
//!
//! The content security policy forbids everything, and allows the style and the scripts that stand
//! in the page by their hashes. Data of charts are JSON in an element that is never run.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::lanes::Readings;
use crate::error::Error;
use crate::markup::{Markup, json_for_script};
use crate::picture::{self, Picture, palette};

const STYLE: &str = include_str!("style.css");
const LANES: &str = include_str!("lanes.js");
const CHARTS: &str = include_str!("charts.js");
const UPLOT: &str = include_str!("../../assets/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../assets/uplot/uPlot.min.css");

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page {
    title: String,
    contents: Vec<(&'static str, String)>,
    body: Markup,
    charts: Vec<Chart>,
    lanes: Option<Readings>,
    has_flames: bool,
}

/// Lines over time, on one axis of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Chart {
    /// What a person reads who doesn't see the chart.
    #[serde(skip)]
    pub caption: String,
    /// Seconds since the start; strictly rising.
    pub seconds: Vec<f64>,
    /// One value for each of `seconds`, each.
    pub series: Vec<Series>,
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What it shows.
    pub label: String,
    /// What its values are; each unit has an axis.
    pub unit: Unit,
    /// `None` where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes a second, shown as `GiB/s` and so on.
    BytesPerSecond,
    /// 0 to 100, filled below the line.
    Percent,
}

impl Page {
    /// A page with nothing in it. `title` may be untrusted.
    pub fn new(title: &str) -> Self {
        Page { title: title.to_owned(), ..Page::default() }
    }

    /// The sentence on top, and what belongs right below it.
    pub fn lead(&mut self, headline: &str, below: &Markup) -> &mut Self {
        self.body.raw("<header><h1>").prose(headline).raw("</h1>").append(below).raw("</header>");
        self
    }

    /// A section of its own, `id` being its address within the page.
    pub fn section(&mut self, id: &'static str, heading: &str, content: &Markup) -> &mut Self {
        self.open(id, heading).append(content).close()
    }

    /// Begins a section, which [`Page::close`] ends.
    pub fn open(&mut self, id: &'static str, heading: &str) -> &mut Self {
        self.contents.push((id, heading.to_owned()));
        self.body.raw("<section").attribute("id", id).raw(">").element("h2", heading);
        self
    }

    /// Adds to what is open.
    pub fn append(&mut self, content: &Markup) -> &mut Self {
        self.body.append(content);
        self
    }

    /// Ends a section.
    pub fn close(&mut self) -> &mut Self {
        self.body.raw("</section>");
        self
    }

    /// A flame graph. Before the first of a page stands the field that searches all of them.
    pub fn flame(&mut self, heading: &str, picture: &Picture) -> &mut Self {
        if !self.has_flames {
            self.body.raw(SEARCH);
        }
        self.has_flames = true;
        self.body.append(&picture.figure(heading));
        self
    }

    /// Lanes over time, and what their script says of them; one picture of them a page.
    pub(super) fn lanes(&mut self, (picture, readings): (Markup, Readings)) -> &mut Self {
        self.body.append(&picture);
        self.lanes = Some(readings);
        self
    }

    /// A chart. Where scripts don't run, its caption stands alone.
    pub fn chart(&mut self, heading: &str, chart: Chart) -> &mut Self {
        self.body
            .raw("<figure class=\"chart\"><figcaption><b>")
            .text(heading)
            .raw("</b> ")
            .prose(&chart.caption)
            .raw("</figcaption><div")
            .attribute("data-chart", self.charts.len())
            .raw("></div></figure>");
        self.charts.push(chart);
        self
    }

    /// Writes the page.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] where `out` fails.
    pub fn write(&self, mut out: impl Write) -> Result<(), Error> {
        let has_charts = !self.charts.is_empty();
        let mut style = [picture::THEME, STYLE].concat();
        let mut scripts = Vec::new();
        if self.has_flames {
            style.push_str(picture::STYLE);
            style.push_str(&palette::style());
            scripts.push(picture::SCRIPT);
        }
        if self.lanes.is_some() {
            scripts.push(LANES);
        }
        if has_charts {
            style.push_str(UPLOT_STYLE);
            scripts.extend([UPLOT, CHARTS]);
        }
        let mut head = Markup::new();
        head.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
            .raw("<meta http-equiv=\"Content-Security-Policy\"")
            .attribute("content", policy(&style, &scripts))
            .raw("><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
            .raw("<meta name=\"color-scheme\" content=\"light dark\">")
            .raw("<meta name=\"referrer\" content=\"no-referrer\">")
            .element("title", &self.title)
            .raw("\n<style>");
        // No end tag is in our own files: a test holds them to it.
        write!(out, "{}{style}</style></head>\n<body>", head.as_str())?;
        let mut body = Markup::new();
        if self.has_flames || self.body.as_str().contains(PATTERN) {
            // An element that is not laid out (`display: none`) would lend no patterns.
            body.raw("<svg class=\"defs\" width=\"0\" height=\"0\" aria-hidden=\"true\">")
                .append(&palette::patterns())
                .raw("</svg>");
        }
        body.raw("<main>").append(&self.body).raw("</main>").append(&self.navigation());
        out.write_all(body.as_str().as_bytes())?;
        if has_charts {
            let json = serde_json::to_string(&self.charts).map_err(std::io::Error::from)?;
            let json = json_for_script(&json);
            write!(out, "\n<script type=\"application/json\" id=\"charts\">{json}</script>")?;
        }
        if let Some(lanes) = &self.lanes {
            let json = serde_json::to_string(lanes).map_err(std::io::Error::from)?;
            let json = json_for_script(&json);
            write!(out, "\n<script type=\"application/json\" id=\"lanes\">{json}</script>")?;
        }
        for script in scripts {
            write!(out, "\n<script>{script}</script>")?;
        }
        writeln!(out, "\n</body></html>")?;
        Ok(())
    }

    fn navigation(&self) -> Markup {
        let mut nav = Markup::new();
        if self.contents.len() < 2 {
            return nav;
        }
        nav.raw("<nav aria-label=\"Contents\"><ul>");
        for (id, heading) in &self.contents {
            nav.raw("<li><a")
                .attribute("href", format_args!("#{id}"))
                .raw(">")
                .text(heading)
                .raw("</a></li>");
        }
        nav.raw("</ul></nav>");
        nav
    }
}

/// How a fill refers to a pattern.
const PATTERN: &str = "url(#";

/// One field for all flame graphs of the page.
const SEARCH: &str = "<form class=\"search\" role=\"search\"><label for=\"search\">Search \
    functions</label><input id=\"search\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\" \
    placeholder=\"name or regular expression\" aria-describedby=\"keys\">\
    <output class=\"found\" for=\"search\"></output>\
    <button type=\"button\" class=\"reset\">Reset</button>\
    <p id=\"keys\"><kbd>/</kbd> search, <kbd>Esc</kbd> reset; in a picture <kbd>←</kbd> \
    <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> go from frame to frame, <kbd>Enter</kbd> zooms, and opens what is folded (▸)</p></form>";

/// Everything is forbidden but what stands in the page.
fn policy(style: &str, scripts: &[&str]) -> String {
    let hash =
        |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    let scripts: Vec<String> = scripts.iter().map(|script| hash(script)).collect();
    let scripts = if scripts.is_empty() { "'none'".to_owned() } else { scripts.join(" ") };
    format!(
        "default-src 'none'; script-src {scripts}; style-src {}; base-uri 'none'; \
         form-action 'none'",
        hash(style)
    )
}
