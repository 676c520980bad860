//! A flame graph within a page: the frames and the legend of a drawn SVG, without its script.
//!
//! The script that inferno puts into an SVG knows one picture a document. A page holds several, so
//! it takes what was drawn (boxes in percent of the width, fills, hover texts, the legend) and
//! leaves search and zoom to `flames.js`, which is for all of them.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::markup::Markup;
use crate::error::Error;

/// Rows are so high in the SVG.
const ROW: u32 = 16;

/// What was drawn.
#[derive(Debug, Default)]
pub(super) struct Picture {
    subtitle: String,
    keys: Vec<Key>,
    /// Whether it was seen, and what of it.
    highlights: Vec<(bool, String)>,
    notes: Vec<String>,
    frames: Vec<Frame>,
}

/// What one fill means.
#[derive(Debug, Default)]
struct Key {
    role: Option<String>,
    meaning: String,
    fill: String,
    text: String,
}

#[derive(Debug, Default)]
struct Frame {
    class: String,
    /// What a search finds it by: names, then the role in capitals, a line each.
    names: String,
    title: String,
    fill: String,
    x: String,
    width: String,
    y: u32,
}

/// Where in the SVG the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    Legend,
    Frames,
}

/// A picture that is being read.
#[derive(Debug, Default)]
struct Reading {
    picture: Picture,
    part: Part,
    /// `id` of the last element that began.
    id: String,
    /// Text since it began.
    text: String,
    /// The frame, or the line of the legend, that it belongs to.
    group: Frame,
    role: Option<String>,
}

impl Reading {
    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), Error> {
        self.text.clear();
        self.id = value(tag, "id")?;
        match (tag.name().as_ref(), self.id.as_str()) {
            (b"g", "legend") => self.part = Part::Legend,
            (b"svg", "frames") => self.part = Part::Frames,
            (b"g", _) => {
                let (class, names) = (value(tag, "class")?, value(tag, "fg:name")?);
                self.group = Frame { class, names, ..Frame::default() };
                self.role = Some(value(tag, "fg:role")?).filter(|role| !role.is_empty());
            }
            // A note stands in no group.
            (b"text", _) if value(tag, "class")? == "note" => {
                self.group = Frame { class: "note".to_owned(), ..Frame::default() };
            }
            _ => {}
        }
        Ok(())
    }

    fn rect(&mut self, tag: &BytesStart<'_>) -> Result<(), Error> {
        self.group.fill = value(tag, "fill")?;
        if self.part == Part::Frames {
            self.group.x = value(tag, "x")?;
            self.group.width = value(tag, "width")?;
            self.group.y = value(tag, "y")?.parse().map_err(unreadable)?;
        }
        Ok(())
    }

    fn end(&mut self, tag: &[u8]) {
        let picture = &mut self.picture;
        match (tag, self.part) {
            (b"title", _) => self.group.title = std::mem::take(&mut self.text),
            (b"text", Part::Head) if self.id == "subtitle" => {
                picture.subtitle = std::mem::take(&mut self.text);
            }
            (b"text", Part::Legend) => {
                let text = std::mem::take(&mut self.text);
                let group = std::mem::take(&mut self.group);
                match group.class.as_str() {
                    "hl" => picture.highlights.push((true, text)),
                    "unseen" => picture.highlights.push((false, text)),
                    "note" => picture.notes.push(text),
                    _ => {
                        let (role, Frame { title: meaning, fill, .. }) = (self.role.take(), group);
                        picture.keys.push(Key { role, meaning, fill, text });
                    }
                }
            }
            (b"g", Part::Frames) => picture.frames.push(std::mem::take(&mut self.group)),
            _ => {}
        }
    }
}

impl Picture {
    /// Reads an SVG of [`crate::flamegraph::render`] back.
    pub(super) fn read(svg: &[u8]) -> Result<Picture, Error> {
        let mut reader = Reader::from_reader(svg);
        let mut reading = Reading::default();
        loop {
            match reader.read_event().map_err(unreadable)? {
                Event::Eof => break,
                Event::Start(tag) => reading.start(&tag)?,
                Event::Empty(tag) if tag.name().as_ref() == b"rect" => reading.rect(&tag)?,
                Event::End(tag) => reading.end(tag.name().as_ref()),
                Event::Text(piece) => {
                    reading.text.push_str(&piece.decode().map_err(unreadable)?);
                }
                Event::GeneralRef(reference) => {
                    let name = reference.decode().map_err(unreadable)?;
                    let entity = format!("&{name};");
                    let text = quick_xml::escape::unescape(&entity).map_err(unreadable)?;
                    reading.text.push_str(&text);
                }
                _ => {}
            }
        }
        if reading.picture.frames.is_empty() {
            return Err(Error::Picture("there are no frames in it".to_owned()));
        }
        Ok(reading.picture)
    }

    /// The figure, readable without a script too.
    pub(super) fn figure(&self, heading: &str) -> Markup {
        let top = self.frames.iter().map(|frame| frame.y).min().unwrap_or_default();
        let bottom = self.frames.iter().map(|frame| frame.y).max().unwrap_or_default();
        let mut html = Markup::new();
        html.raw("<figure class=\"flame\"")
            .attribute("data-heading", heading)
            .raw("><figcaption><b>")
            .text(heading)
            .raw("</b> <span class=\"sub\">")
            .text(&self.subtitle)
            .raw("</span></figcaption><ul class=\"keys\">");
        for key in &self.keys {
            html.raw("<li>");
            match &key.role {
                Some(role) => {
                    html.raw("<button type=\"button\" aria-pressed=\"false\"")
                        .attribute("data-role", role)
                        .attribute("title", &key.meaning)
                        .raw(">");
                }
                None => {
                    html.raw("<span").attribute("title", &key.meaning).raw(">");
                }
            }
            html.append(&swatch(&key.fill)).text(&key.text);
            html.raw(if key.role.is_some() { "</button></li>" } else { "</span></li>" });
        }
        html.raw("</ul><ul class=\"marks\">");
        for (seen, text) in &self.highlights {
            html.raw(if *seen { "<li>" } else { "<li class=\"unseen\">" }).text(text).raw("</li>");
        }
        for note in &self.notes {
            html.raw("<li class=\"unseen\">").text(note).raw("</li>");
        }
        html.raw("</ul><svg class=\"frames\" width=\"100%\" tabindex=\"0\" role=\"application\"")
            .attribute(
                "aria-label",
                format_args!("{heading}: flame graph, arrow keys go from frame to frame"),
            )
            .attribute("height", bottom - top + ROW)
            .raw(">");
        for frame in &self.frames {
            let (names, role) = match frame.names.rsplit_once('\n') {
                Some((names, role)) => (names, role),
                None => (frame.names.as_str(), ""),
            };
            html.raw("<svg").attribute("class", format_args!("f {}", frame.class));
            html.attribute("x", &frame.x)
                .attribute("y", frame.y - top)
                .attribute("width", &frame.width)
                .raw(" height=\"15\"");
            if !role.is_empty() {
                html.attribute("data-role", role);
            }
            html.attribute("data-names", names)
                .raw("><title>")
                .text(&frame.title)
                .raw("</title><rect width=\"100%\" height=\"15\"")
                .attribute("fill", &frame.fill)
                .raw("/><text x=\"3\" y=\"11\">")
                .text(label(&frame.title))
                .raw("</text></svg>");
        }
        html.raw("</svg><p class=\"details\" aria-live=\"polite\">&#160;</p></figure>");
        html
    }
}

/// What stands in a frame: its hover text up to what is in parentheses at the end.
fn label(title: &str) -> &str {
    title.rsplit_once(" (").map_or(title, |(label, _)| label)
}

/// A small box with a fill.
pub(super) fn swatch(fill: &str) -> Markup {
    let mut html = Markup::new();
    html.raw("<svg class=\"swatch\" width=\"13\" height=\"13\" aria-hidden=\"true\"><rect ")
        .raw("width=\"13\" height=\"13\"")
        .attribute("fill", fill)
        .raw("/></svg>");
    html
}

fn value(tag: &BytesStart<'_>, name: &str) -> Result<String, Error> {
    let Some(found) = tag.try_get_attribute(name).map_err(unreadable)? else {
        return Ok(String::new());
    };
    let raw = String::from_utf8_lossy(&found.value).into_owned();
    Ok(quick_xml::escape::unescape(&raw).map_err(unreadable)?.into_owned())
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Picture(error.to_string())
}
