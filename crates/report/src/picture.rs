//! A picture: stacked boxes, a legend of their fills, and a viewer.
//!
//! It is painted once. [`Picture::write_svg`] puts it into a file of its own, and a page embeds the
//! very same boxes by `Picture::figure`. One script (`viewer.js`) and one style (`viewer.css`) serve
//! both, and any number of pictures in a document.

mod boxes;
mod label;
mod legend;
pub(crate) mod palette;

use std::io::Write;

use crate::error::Error;
use crate::markup::Markup;

pub(crate) use boxes::{Boxes, Paint};
pub(crate) use legend::{Key, Legend};

/// Width of a picture before a script fits it to its window.
pub(crate) const WIDTH: usize = 1200;
/// On both sides of the boxes.
const MARGIN: usize = 10;
/// Half a pixel, as a share of the width. What is narrower can't be seen before it is zoomed into,
/// and deep stacks of a sample or two would set the height of the picture.
pub(crate) const NARROWEST: f64 = 0.5 / WIDTH as f64;

/// Colours of text and paper, light, dark and in print; a page has the same.
pub(crate) const THEME: &str = include_str!("picture/theme.css");
/// How boxes and legends look.
pub(crate) const STYLE: &str = include_str!("picture/viewer.css");
/// Search, zoom, hover, keyboard.
pub(crate) const SCRIPT: &str = include_str!("picture/viewer.js");

/// A drawn picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What it is of, and how fast that was.
    pub(crate) title: String,
    /// What follows from it: the first sentence of the verdict.
    pub(crate) headline: Option<String>,
    /// How it was measured, and what the widths are.
    pub(crate) subtitle: String,
    pub(crate) legend: Legend,
    pub(crate) boxes: Boxes,
}

impl Picture {
    /// Writes the picture as an SVG with its viewer in it.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] where `out` fails.
    pub fn write_svg(&self, mut out: impl Write) -> Result<(), Error> {
        let mut head = Markup::new();
        let mut y = 22;
        head.raw("<text class=\"title\" x=\"10\"").attribute("y", y).raw(">");
        head.text(&self.title).raw("</text>");
        y += 4;
        let headline = self.headline.iter().map(|line| ("headline", line));
        for (class, sentence) in headline.chain([("subtitle", &self.subtitle)]) {
            for line in label::lines(sentence, LINE) {
                y += ROW;
                head.raw("<text").attribute("class", class).raw(" x=\"10\"").attribute("y", y);
                head.raw(">").text(line).raw("</text>");
            }
        }
        y += 10;
        let legend_top = y;
        let (legend, legend_height) = self.legend.draw(legend_top);
        y += legend_height + 6;
        let frames_top = y;
        let height = frames_top + self.boxes.height + 26;

        let mut svg = Markup::new();
        svg.raw("<?xml version=\"1.0\" standalone=\"no\"?>\n")
            .raw("<svg class=\"flame\" version=\"1.1\" xmlns=\"http://www.w3.org/2000/svg\"")
            .raw(" xmlns:fg=\"http://github.com/jonhoo/inferno\"")
            .attribute("width", WIDTH)
            .attribute("height", height)
            .attribute("viewBox", format_args!("0 0 {WIDTH} {height}"))
            .raw(" tabindex=\"0\"><style>");
        out.write_all(svg.as_str().as_bytes())?;
        // No end tag and no character of markup is in our own files: a test holds them to it.
        write!(out, "{THEME}{STYLE}{}</style>", palette::style())?;

        let mut svg = Markup::new();
        svg.append(&palette::patterns())
            .raw("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>")
            .append(&head)
            .raw(CONTROLS)
            .raw("<g class=\"legend\"")
            .attribute("data-top", legend_top)
            .raw(">")
            .append(&legend)
            .raw("</g><svg class=\"frames\"")
            .attribute("x", MARGIN)
            .attribute("y", frames_top)
            .attribute("width", WIDTH - 2 * MARGIN)
            .attribute("height", self.boxes.height)
            .raw(">")
            .append(&self.boxes.markup)
            .raw("</svg><text class=\"details\"")
            .attribute("x", MARGIN)
            .attribute("y", height - 9)
            .raw(">&#160;</text>");
        write!(out, "{}<script><![CDATA[{SCRIPT}]]></script></svg>", svg.as_str())?;
        writeln!(out)?;
        Ok(())
    }

    /// The same boxes as a figure of a page, readable without a script too.
    pub(crate) fn figure(&self, heading: &str) -> Markup {
        let mut html = Markup::new();
        html.raw("<figure class=\"flame\"")
            .attribute("data-heading", heading)
            .raw("><figcaption><b>")
            .text(heading)
            .raw("</b> <span class=\"sub\">")
            .text(&self.subtitle)
            .raw("</span>");
        if let Some(headline) = &self.headline {
            html.raw("<p class=\"headline\">").prose(headline).raw("</p>");
        }
        html.raw("</figcaption>");
        html.append(&self.legend.list())
            .raw("<svg class=\"frames\" width=\"100%\" tabindex=\"0\" role=\"application\"")
            .attribute(
                "aria-label",
                format_args!("{heading}: flame graph, arrow keys go from frame to frame"),
            )
            .attribute("height", self.boxes.height)
            .raw(">")
            .append(&self.boxes.markup)
            .raw("</svg><p class=\"details\" aria-live=\"polite\">&#160;</p></figure>");
        html
    }
}

/// Height of a line of text.
const ROW: usize = 17;
/// Characters that fit beside the margins.
const LINE: usize = ((WIDTH - 2 * MARGIN) as f64 / label::LETTER) as usize;

/// Search and reset, on top of a picture in a file of its own; of use only where scripts run.
const CONTROLS: &str = "<foreignObject class=\"controls\" x=\"820\" y=\"4\" width=\"370\" \
    height=\"30\"><form xmlns=\"http://www.w3.org/1999/xhtml\" class=\"search\"><output \
    class=\"found\"></output><input type=\"search\" autocomplete=\"off\" spellcheck=\"false\" \
    aria-label=\"Search functions\" placeholder=\"Search: name or regex\"/><button \
    type=\"button\" class=\"reset\">Reset</button></form></foreignObject>";
