//! The legend: the meaning and size of each fill, the marked functions, and warnings.

use super::{MARGIN, ROW, WIDTH, label, palette};
use crate::markup::Markup;

/// What stands between the sentences and the boxes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Legend {
    pub(crate) keys: Vec<Key>,
    /// Whether it was seen, and what of it.
    pub(crate) marks: Vec<(bool, String)>,
    pub(crate) notes: Vec<String>,
}

/// What one fill means.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The class that paints it.
    pub(crate) class: String,
    /// As `#rrggbb`.
    pub(crate) fill: &'static str,
    /// A click marks the boxes of its class.
    pub(crate) clickable: bool,
    pub(crate) meaning: String,
    pub(crate) text: String,
}

/// Between the keys of a row.
const GAP: usize = 22;
/// Swatch and gap before the text of a key.
const SWATCH: usize = 19;

impl Legend {
    /// The legend as SVG, its top at `top`, and its height.
    pub(super) fn draw(&self, top: usize) -> (Markup, usize) {
        let mut svg = Markup::new();
        let (mut x, mut baseline) = (MARGIN, top + 12);
        for key in &self.keys {
            let width = SWATCH + (key.text.chars().count() as f64 * label::LETTER).ceil() as usize;
            if x > MARGIN && x + width > WIDTH - MARGIN {
                (x, baseline) = (MARGIN, baseline + ROW);
            }
            svg.raw("<g").attribute("class", format_args!("key {}", key.class));
            if key.clickable {
                svg.attribute("data-role", &key.class);
            }
            svg.raw("><title>").text(&key.meaning).raw("</title><rect");
            svg.attribute("x", x).attribute("y", baseline - 11);
            svg.raw(" width=\"13\" height=\"13\"").attribute("fill", key.fill).raw("/><text");
            svg.attribute("x", x + SWATCH).attribute("y", baseline).raw(">").text(&key.text);
            svg.raw("</text></g>");
            x += width + GAP;
        }
        if !self.keys.is_empty() {
            baseline += ROW + 4;
        }
        let marks =
            self.marks.iter().map(|(seen, text)| (if *seen { "seen" } else { "quiet" }, text));
        for (class, text) in marks.chain(self.notes.iter().map(|note| ("quiet", note))) {
            for line in label::lines(text, super::LINE) {
                svg.raw("<text").attribute("class", class).attribute("x", MARGIN);
                svg.attribute("y", baseline).raw(">").text(line).raw("</text>");
                baseline += ROW;
            }
        }
        (svg, baseline - 12 - top)
    }

    /// The legend as lists of a page.
    pub(super) fn list(&self) -> Markup {
        let mut html = Markup::new();
        html.raw("<ul class=\"keys\">");
        for key in &self.keys {
            let tag = if key.clickable {
                "button type=\"button\" aria-pressed=\"false\""
            } else {
                "span"
            };
            html.raw("<li><").raw(tag).attribute("class", format_args!("key {}", key.class));
            if key.clickable {
                html.attribute("data-role", &key.class);
            }
            html.attribute("title", &key.meaning).raw(">");
            html.append(&palette::swatch(&key.class, key.fill)).text(&key.text);
            html.raw(if key.clickable { "</button></li>" } else { "</span></li>" });
        }
        html.raw("</ul><ul class=\"marks\">");
        for (seen, text) in &self.marks {
            html.raw(if *seen { "<li class=\"seen\">" } else { "<li class=\"quiet\">" });
            html.text(text).raw("</li>");
        }
        for note in &self.notes {
            html.raw("<li class=\"quiet\">").text(note).raw("</li>");
        }
        html.raw("</ul>");
        html
    }
}
