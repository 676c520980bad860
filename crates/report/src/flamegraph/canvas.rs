//! The canvas: inferno's picture read back, and written again with other frames and a legend.

use std::fmt::Write;

use quick_xml::events::{BytesCData, BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, escape::escape};

use super::legend;
use crate::error::Error;

const CSS: &str = "\
#frames .hl > rect, #legend .hl > rect { stroke:#000000; stroke-width:1.8; }
#frames .hl > text, #legend .hl > text, .tower > text, .part > text { font-weight:bold; }
#legend rect { stroke:#555555; stroke-width:0.6; }
#legend .unseen > rect { stroke-dasharray:2,2; }
#legend .key { cursor:pointer; }
#legend .key:hover > text { text-decoration:underline; }
#legend .unseen > text, .note { fill:#444444; }
#subtitle { fill:#444444; }
@media print { #search, #unzoom, #matched, #details { display:none; } }
";
const SCRIPT: &str = include_str!("pipeprof.js");

/// inferno: `XPAD` on both sides, `fontsize` × `fontwidth` a character, 3 pixels before the text.
const FRAMES_WIDTH: f64 = (legend::WIDTH - 20) as f64;
const CHARACTER: f64 = 12.0 * 0.602;

/// inferno's `ypad1` with a subtitle: 3 + 2 lines of 12 pixels; the frames' box begins below.
pub(crate) const TOP: usize = 60;

/// What stands between subtitle and frames: the legend, drawn with its top at [`TOP`].
pub(crate) struct Legend {
    pub(crate) svg: String,
    pub(crate) height: usize,
}

/// The frames of the new picture.
pub(crate) struct Frames {
    pub(crate) below: String,
    /// Painted last, so that no neighbour covers their outline.
    pub(crate) on_top: String,
}

/// Rewrites inferno's picture: `frame` paints each frame anew, by the title that inferno gave it.
pub(crate) fn repaint(
    layout: &[u8],
    definitions: &str,
    legend: &Legend,
    mut frame: impl FnMut(&str, &Place, &mut Frames) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let mut painted = Frames { below: String::with_capacity(layout.len()), on_top: String::new() };
    let mut reader = Reader::from_reader(layout);
    let mut out = Writer::new(Vec::with_capacity(layout.len() + layout.len() / 2));
    let added = legend.height;
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Eof => return Ok(out.into_inner()),
            Event::Start(tag) if id_of(&tag)? == "frames" => {
                // The legend stands where the frames would have begun.
                out.get_mut().extend_from_slice(definitions.as_bytes());
                out.get_mut().extend_from_slice(legend.svg.as_bytes());
                let mut frames = tag.into_owned();
                frames.push_attribute(("y", added.to_string().as_str()));
                out.write_event(Event::Start(frames))?;
                read_frames(&mut reader, |title, place| frame(title, place, &mut painted))?;
                out.get_mut().extend_from_slice(painted.below.as_bytes());
                out.get_mut().extend_from_slice(painted.on_top.as_bytes());
                out.write_event(Event::End(BytesEnd::new("svg")))?;
            }
            Event::Start(tag) if tag.name().as_ref() == b"svg" => {
                out.write_event(Event::Start(taller(&tag, added)?))?;
            }
            Event::Empty(tag) if tag.name().as_ref() == b"rect" => {
                out.write_event(Event::Empty(taller(&tag, added)?))?;
            }
            Event::Start(tag) if matches!(id_of(&tag)?.as_str(), "details" | "matched") => {
                out.write_event(Event::Start(lower(&tag, added)?))?;
            }
            Event::End(tag) if tag.name().as_ref() == b"style" => {
                out.write_event(Event::Text(BytesText::from_escaped(CSS)))?;
                out.write_event(Event::End(tag))?;
            }
            Event::End(tag) if tag.name().as_ref() == b"script" => {
                out.write_event(Event::CData(BytesCData::new(SCRIPT)))?;
                out.write_event(Event::End(tag))?;
            }
            event => out.write_event(event)?,
        }
    }
}

/// Up to the end of the frames' `<svg>`.
fn read_frames(
    reader: &mut Reader<&[u8]>,
    mut frame: impl FnMut(&str, &Place) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut title = String::new();
    let mut in_title = false;
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(tag) if tag.name().as_ref() == b"title" => {
                title.clear();
                in_title = true;
            }
            Event::End(tag) if tag.name().as_ref() == b"title" => in_title = false,
            Event::Text(text) if in_title => {
                title.push_str(&text.decode().map_err(unreadable)?);
            }
            Event::GeneralRef(reference) if in_title => {
                let name = reference.decode().map_err(unreadable)?;
                let entity = format!("&{name};");
                title.push_str(&quick_xml::escape::unescape(&entity).map_err(unreadable)?);
            }
            Event::Empty(tag) if tag.name().as_ref() == b"rect" => {
                frame(&title, &Place::of(&tag)?)?;
            }
            Event::End(tag) if tag.name().as_ref() == b"svg" => return Ok(()),
            Event::Eof => return Err(Error::Picture("it ends inside the frames".into())),
            _ => {}
        }
    }
}

/// Where inferno put a frame.
pub(crate) struct Place {
    /// Where it begins, in the unit of weights.
    pub(crate) x: u64,
    pub(crate) weight: u64,
    x_percent: f64,
    width_percent: f64,
    y: usize,
    height: usize,
}

impl Place {
    fn of(rect: &BytesStart<'_>) -> Result<Place, Error> {
        let number = |name: &str| -> Result<f64, Error> {
            let value = attribute(rect, name)?;
            value
                .trim_end_matches('%')
                .parse()
                .map_err(|_| Error::Picture(format!("{name}={value:?} is no number")))
        };
        let count = |name: &str| -> Result<u64, Error> {
            let value = attribute(rect, name)?;
            value.parse().map_err(|_| Error::Picture(format!("{name}={value:?} is no count")))
        };
        Ok(Place {
            x: count("fg:x")?,
            weight: count("fg:w")?,
            x_percent: number("x")?,
            width_percent: number("width")?,
            y: count("y")? as usize,
            height: count("height")? as usize,
        })
    }
}

/// One frame, in the shape that inferno's script expects: title, rect, text.
pub(crate) fn push(
    svg: &mut String,
    place: &Place,
    class: &str,
    search: &str,
    label: &str,
    title: &str,
    fill: &str,
) {
    let width = place.width_percent / 100.0 * FRAMES_WIDTH;
    let fits = ((width - 3.0) / CHARACTER).max(0.0) as usize;
    let text_x = place.x_percent + 100.0 * 3.0 / FRAMES_WIDTH;
    let text_y = 3.0 + (2 * place.y + place.height) as f64 / 2.0;
    let (length, y, height) = (label.chars().count(), place.y, place.height);
    let _ = write!(svg, "<g{class} fg:name=\"{}\"><title>", attribute_value(search));
    svg.push_str(&escape(title));
    let _ = write!(
        svg,
        "</title><rect x=\"{:.4}%\" y=\"{y}\" width=\"{:.4}%\" height=\"{height}\" \
         fill=\"{fill}\" fg:x=\"{}\" fg:w=\"{}\"/><text x=\"{text_x:.4}%\" y=\"{text_y:.2}\">",
        place.x_percent, place.width_percent, place.x, place.weight,
    );
    if length <= fits {
        svg.push_str(&escape(label));
    } else if fits >= 3 {
        let short: String = label.chars().take(fits - 2).collect();
        svg.push_str(&escape(short.trim_end()));
        svg.push_str("..");
    }
    svg.push_str("</text></g>");
}

/// XML readers turn a plain line feed in an attribute into a blank.
fn attribute_value(text: &str) -> String {
    escape(text).replace('\n', "&#10;")
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<String, Error> {
    let found = tag.try_get_attribute(name).map_err(unreadable)?;
    let found = found.ok_or_else(|| Error::Picture(format!("an element lacks {name:?}")))?;
    Ok(String::from_utf8_lossy(&found.value).into_owned())
}

fn id_of(tag: &BytesStart<'_>) -> Result<String, Error> {
    let found = tag.try_get_attribute("id").map_err(unreadable)?;
    Ok(found.map(|id| String::from_utf8_lossy(&id.value).into_owned()).unwrap_or_default())
}

/// The canvas, or its background, with room for the legend.
fn taller(tag: &BytesStart<'_>, added: usize) -> Result<BytesStart<'static>, Error> {
    rewrite(tag, |name, value| match name {
        "height" => plus(value, added),
        "viewBox" => {
            let (head, height) = value.rsplit_once(' ')?;
            Some(format!("{head} {}", plus(height, added)?))
        }
        _ => None,
    })
}

fn lower(tag: &BytesStart<'_>, added: usize) -> Result<BytesStart<'static>, Error> {
    rewrite(tag, |name, value| if name == "y" { plus(value, added) } else { None })
}

fn plus(value: &str, added: usize) -> Option<String> {
    value.parse::<f64>().ok().map(|value| (value + added as f64).to_string())
}

fn rewrite(
    tag: &BytesStart<'_>,
    change: impl Fn(&str, &str) -> Option<String>,
) -> Result<BytesStart<'static>, Error> {
    let name = String::from_utf8_lossy(tag.name().as_ref()).into_owned();
    let mut new = BytesStart::new(name);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(unreadable)?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let raw = String::from_utf8_lossy(&attribute.value).into_owned();
        let value = change(&key, &raw).unwrap_or(raw);
        // `value` is still escaped, as inferno wrote it.
        new.push_attribute((key.as_bytes(), value.as_bytes()));
    }
    Ok(new)
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Picture(error.to_string())
}
