//! The boxes of a picture, drawn by inferno.
//!
//! inferno gets folded stacks whose frames are numbers of rows, merges and lays them out, and takes
//! title, class and colour of each from its attribute map and its palette map. So nothing of ours
//! goes through a name, and nothing has to be read back: the one thing left is to put the label in
//! where inferno wrote the number.

use std::fmt::Write as _;

use inferno::flamegraph as inferno;

use super::{MARGIN, WIDTH, label};
use crate::calltree::Row;
use crate::error::Error;
use crate::escape::printable;
use crate::markup::Markup;

/// The boxes, lowest row at the bottom, in percent of the width.
#[derive(Clone, Debug)]
pub(crate) struct Boxes {
    pub(super) markup: Markup,
    pub(super) height: usize,
}

/// How a row is painted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paint {
    /// Classes of `viewer.css`.
    pub(crate) class: String,
    /// As `#rrggbb`: what is seen where styles don't count.
    pub(crate) fill: &'static str,
    /// Its text, as far as there is room.
    pub(crate) label: String,
    /// What a person reads who points at it; the viewer takes the label from what precedes the last
    /// parenthesis.
    pub(crate) title: String,
}

/// Height of a box and of the gap above it.
const ROW: usize = 16;

impl Boxes {
    /// Draws rows, painted in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Picture`] where inferno drew what this version doesn't know.
    pub(crate) fn draw(rows: &[Row], paints: &[Paint]) -> Result<Boxes, Error> {
        let whole = rows.first().map_or(0, |row| row.weight);
        let width = (WIDTH - 2 * MARGIN) as f64;
        let labels: Vec<_> = rows
            .iter()
            .zip(paints)
            .map(|(row, paint)| label::fit(&paint.label, row.weight as f64 / whole as f64 * width))
            .collect();

        let mut attributes = String::new();
        let mut palette = inferno::color::PaletteMap::default();
        for (at, paint) in paints.iter().enumerate() {
            let small = if labels[at].1 { " s" } else { "" };
            // The map is lines of fields between tabs, in quotes that are taken off: `printable`
            // leaves no tab and no end of a line.
            let _ = writeln!(
                attributes,
                "{at:07}\ttitle=\"{}\"\tclass=\"f {}{small}\"",
                printable(&paint.title),
                paint.class,
            );
            if let Some(colour) = inferno::color::parse_hex_color(paint.fill) {
                palette.insert(format!("{at:07}"), colour);
            }
        }

        let mut options = inferno::Options::default();
        options.func_frameattrs = inferno::FuncFrameAttrsMap::from_reader(attributes.as_bytes())?;
        options.palette_map = Some(&mut palette);
        options.frame_height = ROW;
        options.min_width = 0.0;
        // Without a font inferno leaves no room around the boxes, and never cuts a name.
        options.font_size = 0;
        let lines = folded(rows);
        let mut drawn = Vec::with_capacity(rows.len() * 400);
        inferno::from_lines(&mut options, lines.iter().map(String::as_str), &mut drawn)?;
        let drawn = String::from_utf8(drawn).map_err(|_| unknown("it is not UTF-8"))?;
        let boxes = drawn
            .split_once("<svg id=\"frames\"")
            .and_then(|(_, rest)| rest.split_once('>'))
            .and_then(|(_, boxes)| boxes.strip_suffix("</svg></svg>"))
            .ok_or_else(|| unknown("it has no frames"))?;

        let mut markup = Markup::new();
        for drawn in boxes.split_terminator("</g>") {
            let (before, number) = drawn
                .strip_suffix("</text>")
                .and_then(|drawn| drawn.rsplit_once('>'))
                .ok_or_else(|| unknown(drawn))?;
            // inferno's own root; ours stands on it.
            if number.is_empty() {
                continue;
            }
            let at: usize = number.parse().map_err(|_| unknown(number))?;
            let (label, _) = labels.get(at).ok_or_else(|| unknown(number))?;
            markup.trusted(before).raw(">").text(label).raw("</text></g>");
        }
        Ok(Boxes { markup, height: ROW * height(rows) })
    }
}

/// A line for each row that is more than what stands on it.
fn folded(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut path = Vec::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.own > 0) {
        path.clear();
        let mut next = Some(at);
        while let Some(row) = next {
            path.push(row);
            next = rows[row].parent;
        }
        let mut line = String::with_capacity(path.len() * 8 + 12);
        for row in path.iter().rev() {
            let _ = write!(line, "{row:07};");
        }
        line.pop();
        let _ = write!(line, " {}", row.own);
        lines.push(line);
    }
    lines
}

fn height(rows: &[Row]) -> usize {
    let mut depths: Vec<usize> = Vec::with_capacity(rows.len());
    for row in rows {
        depths.push(row.parent.map_or(0, |parent| depths[parent] + 1));
    }
    depths.iter().max().map_or(0, |depth| depth + 1)
}

fn unknown(what: &str) -> Error {
    Error::Picture(what.to_owned())
}
