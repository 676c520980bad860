//! The differential flame graph: as wide as one side costs, red where B is dearer, blue where it is
//! cheaper.
//!
//! The colour is of a function by itself, as in Gregg's differential flame graphs: a caller of
//! what got dearer is not to blame. What is within the noise stays grey.

use std::fmt::Write as _;
use std::io::Write;

use inferno::flamegraph as inferno;
use quick_xml::escape::escape;

use super::cost::{Change, Judgement, Series};
use super::tree::{Node, Tree};
use super::{Diff, Unit};
use crate::error::Error;
use crate::escape::printable;
use crate::flamegraph::canvas::{self, Frames, Legend, Place, TOP, push};
use crate::flamegraph::legend::{WIDTH, search_key};
use crate::flamegraph::palette::NEUTRAL;
use crate::words::layout::cut;
use crate::words::units::throughput;

/// Which side gives the widths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Widths {
    /// What A cost: shows what went.
    A,
    /// What B costs: shows what there is now.
    #[default]
    B,
}

/// Half a pixel: see [`crate::flamegraph::render`].
const NARROWEST_PERCENT: f64 = 100.0 * 0.5 / WIDTH as f64;
/// Widths are whole numbers; a percent is so many.
const PER_PERCENT: f64 = 1e6;

/// Draws the difference as an SVG with search, zoom and hover texts.
///
/// # Errors
///
/// [`Error::NoSamples`] where the side of the widths has none, [`Error::Write`] where `out` fails.
pub fn render(diff: &Diff, widths: Widths, mut out: impl Write) -> Result<(), Error> {
    let picture = Picture::new(diff, widths);
    let lines = picture.lines();
    if lines.is_empty() {
        let side = if widths == Widths::A { &diff.a } else { &diff.b };
        return Err(Error::NoSamples { of: side.name.clone(), notes: Vec::new() });
    }
    let mut layout = Vec::with_capacity(1 << 20);
    let mut options = inferno::Options::default();
    options.title = title(diff);
    options.subtitle = Some(picture.subtitle());
    options.name_type = "Frame:".into();
    options.min_width = NARROWEST_PERCENT;
    options.text_truncate_direction = inferno::TextTruncateDirection::Right;
    options.bgcolors = Some(inferno::color::BackgroundColor::Flat((255, 255, 255).into()));
    inferno::from_lines(&mut options, lines.iter().map(String::as_str), &mut layout)?;
    let svg = canvas::repaint(&layout, "", &picture.legend(), |title, place, frames| {
        picture.frame(title, place, frames)
    })?;
    out.write_all(&svg)?;
    Ok(())
}

fn title(diff: &Diff) -> String {
    let side = |letter: char, name: &str, rate: Option<f64>| {
        let name = cut(&printable(name), 32);
        match rate {
            Some(rate) => format!("{letter}: {name} {}", throughput(rate)),
            None => format!("{letter}: {name}"),
        }
    };
    let (a, b) = (diff.speed.map(|speed| speed.a), diff.speed.map(|speed| speed.b));
    format!("{} → {}", side('A', &diff.a.name, a), side('B', &diff.b.name, b))
}

struct Picture<'a> {
    diff: &'a Diff,
    tree: &'a Tree,
    widths: Widths,
    unit: Unit,
    /// Nodes in the order in which they are drawn: by these positions inferno knows them.
    order: Vec<usize>,
    /// The largest change of a function in one place: the full colour.
    most: f64,
}

impl<'a> Picture<'a> {
    fn new(diff: &'a Diff, widths: Widths) -> Self {
        let tree = &diff.tree;
        let mut order = Vec::with_capacity(tree.nodes.len());
        let mut left: Vec<usize> = tree.roots.iter().rev().copied().collect();
        while let Some(at) = left.pop() {
            order.push(at);
            left.extend(tree.nodes[at].children.iter().rev());
        }
        let mut picture = Picture { diff, tree, widths, unit: diff.unit, order, most: 0.0 };
        let changes = tree.nodes.iter().filter(|node| picture.width(&node.total) > 0.0);
        picture.most = changes
            .map(|node| node.own.change())
            .filter(is_judged)
            .map(|change| change.difference.abs())
            .fold(0.0, f64::max);
        picture
    }

    fn width(&self, series: &Series) -> f64 {
        match self.widths {
            Widths::A => series.mean_a(),
            Widths::B => series.mean_b(),
        }
    }

    fn scaled(&self, cost: f64) -> u64 {
        match self.unit {
            Unit::NsPerGib => cost.round() as u64,
            Unit::Percent => (cost * PER_PERCENT).round() as u64,
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut position = vec![0; self.tree.nodes.len()];
        for (place, &node) in self.order.iter().enumerate() {
            position[node] = place;
        }
        let mut lines = Vec::new();
        for &at in &self.order {
            let weight = self.scaled(self.width(&self.tree.nodes[at].own));
            if weight == 0 {
                continue;
            }
            let mut path = Vec::new();
            let mut next = Some(at);
            while let Some(node) = next {
                path.push(code(position[node]));
                next = self.tree.nodes[node].parent;
            }
            path.reverse();
            lines.push(format!("{} {weight}", path.join(";")));
        }
        lines
    }

    fn subtitle(&self) -> String {
        let side = if self.widths == Widths::A { "A" } else { "B" };
        let runs = match self.diff.runs {
            1 => "one run of each".to_owned(),
            runs => format!("mean of {runs} runs"),
        };
        let unit = match self.unit {
            Unit::NsPerGib => "CPU time per GiB that each moved",
            Unit::Percent => "share of the samples",
        };
        format!("width is {side}'s {unit}, {runs} · colour is the change of the function itself")
    }

    fn frame(&self, title: &str, place: &Place, frames: &mut Frames) -> Result<(), Error> {
        let Some(at) = decode(title) else {
            let whole = self.show_width(place);
            let title = format!("all ({whole})");
            push(&mut frames.below, place, "", "", "all", &title, NEUTRAL);
            return Ok(());
        };
        let node = self.order.get(at).map(|&node| &self.tree.nodes[node]);
        let node = node.ok_or_else(|| Error::Picture(format!("frame {at} is none of ours")))?;
        let name = printable(&node.name);
        let with_callees = self.words(&node.total.change());
        let Some(role) = node.role else {
            let title = format!("{name} ({with_callees})");
            push(&mut frames.below, place, " class=\"tower\"", &name, &name, &title, NEUTRAL);
            return Ok(());
        };
        let own = node.own.change();
        let label = match own.judgement {
            Judgement::Dearer => format!("▲ {name}"),
            Judgement::Cheaper => format!("▼ {name}"),
            Judgement::WithinNoise | Judgement::Unknown => name.clone().into_owned(),
        };
        // inferno's script takes what precedes the last parenthesis for the frame's text.
        let title = format!(
            "{label} (by itself {}; with what it calls {with_callees}; role {})",
            self.words(&own),
            role.label(),
        );
        let search = format!("{name}\n{}", search_key(role));
        push(&mut frames.below, place, "", &search, &label, &title, &self.colour(&own));
        Ok(())
    }

    fn show_width(&self, place: &Place) -> String {
        match self.unit {
            Unit::NsPerGib => format!("{} per GiB", self.unit.show(place.weight as f64)),
            Unit::Percent => self.unit.show(place.weight as f64 / PER_PERCENT),
        }
    }

    /// `27.0 ms → 0.91 ms per GiB, −26.1 ms, cheaper`.
    fn words(&self, change: &Change) -> String {
        let per = if self.unit == Unit::NsPerGib { " per GiB" } else { "" };
        let judged = match change.judgement {
            Judgement::Dearer => "dearer",
            Judgement::Cheaper => "cheaper",
            Judgement::WithinNoise => "within the noise",
            Judgement::Unknown => "one run",
        };
        format!(
            "{} → {}{per}, {}, {judged}",
            self.unit.show(change.a),
            self.unit.show(change.b),
            self.unit.show_signed(change.difference),
        )
    }

    fn colour(&self, change: &Change) -> String {
        if !is_judged(change) {
            return shade(0.0);
        }
        let strength = (change.difference.abs() / self.most.max(f64::MIN_POSITIVE)).min(1.0);
        // By the root, or one large change would leave all others grey.
        shade(strength.sqrt().copysign(change.difference))
    }

    fn legend(&self) -> Legend {
        let mut drawing = Drawing { svg: String::new(), row: 0, x: MARGIN };
        let _ = write!(drawing.svg, "<g id=\"legend\" fg:top=\"{TOP}\" fg:width=\"{WIDTH}\">");
        let per = if self.unit == Unit::NsPerGib { " per GiB" } else { "" };
        // Squares of the shades, which go by the root.
        for shade_of in [-1.0, -0.5, 0.0, 0.5, 1.0_f64] {
            let cost = (self.most * shade_of * shade_of).copysign(shade_of);
            let cost = self.unit.show_signed(cost);
            let text = match shade_of {
                -1.0 => format!("▼ cheaper: {cost}{per}"),
                0.0 => "same, or within the noise".to_owned(),
                1.0 => format!("▲ dearer: {cost}{per}"),
                _ => format!("{cost}{per}"),
            };
            let meaning = format!("{text}: the change of a function by itself, from A to B");
            drawing.key(&shade(shade_of), None, &meaning, &text, WIDE_COLUMN);
        }
        drawing.next_row();
        let mut roles: Vec<_> =
            self.tree.roles.iter().map(|(role, series)| (*role, series.change())).collect();
        roles.sort_by(|x, y| {
            let size = |change: &Change| change.difference.abs();
            is_judged(&y.1).cmp(&is_judged(&x.1)).then_with(|| size(&y.1).total_cmp(&size(&x.1)))
        });
        for (role, change) in roles {
            let text = match change.judgement {
                Judgement::Dearer | Judgement::Cheaper => {
                    format!("{} {}", role.label(), self.unit.show_signed(change.difference))
                }
                _ => format!("{} (noise)", role.label()),
            };
            let fill = match change.judgement {
                Judgement::Dearer => shade(0.7),
                Judgement::Cheaper => shade(-0.7),
                _ => shade(0.0),
            };
            let meaning =
                format!("{}: {}. {}", role.label(), role.description(), self.words(&change));
            drawing.key(&fill, Some(&search_key(role)), &meaning, &text, COLUMN);
        }
        drawing.next_row();
        if let Some(note) = self.missing() {
            drawing.note(&note);
        }
        for note in &self.diff.notes {
            drawing.note(&format!("! {note}."));
        }
        drawing.svg.push_str("</g>");
        Legend { height: drawing.row * ROW + GAP + 8, svg: drawing.svg }
    }

    /// What the other side does and the one drawn doesn't.
    fn missing(&self) -> Option<String> {
        let is_missing = |node: &&Node| self.width(&node.own) == 0.0;
        let other = |node: &Node| match self.widths {
            Widths::A => node.own.mean_b(),
            Widths::B => node.own.mean_a(),
        };
        let sum: f64 = self.tree.nodes.iter().filter(is_missing).map(other).sum();
        let words = match self.widths {
            Widths::A => "that B does in stacks of its own; --widths b draws it",
            Widths::B => "that A did in stacks of its own; --widths a draws it",
        };
        let per = if self.unit == Unit::NsPerGib { " per GiB" } else { "" };
        (self.scaled(sum) > 0)
            .then(|| format!("! Not in this picture: {}{per} {words}.", self.unit.show(sum)))
    }
}

fn is_judged(change: &Change) -> bool {
    matches!(change.judgement, Judgement::Dearer | Judgement::Cheaper)
}

/// From blue (−1) over grey to red (1), light enough for black text.
fn shade(strength: f64) -> String {
    let [red, green, blue] = if strength < 0.0 { [116, 169, 230] } else { [240, 118, 98] };
    let mix = |full: i32| (f64::from(GREY) + f64::from(full - GREY) * strength.abs()).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(red), mix(green), mix(blue))
}

/// What did not change; apart from the paper, or frames would have no edges.
const GREY: i32 = 0xed;

const FIRST: u32 = 0xe000;
const DIGITS: usize = 0x1000;
const PLACES: usize = 3;

/// A node's place as private-use characters, in which no name is written ([`printable`] escapes
/// them) and by which inferno keeps the order.
fn code(mut place: usize) -> String {
    let mut digits = [char::REPLACEMENT_CHARACTER; PLACES];
    for digit in digits.iter_mut().rev() {
        *digit = char::from_u32(FIRST + (place % DIGITS) as u32).unwrap_or(*digit);
        place /= DIGITS;
    }
    digits.iter().collect()
}

/// The place in the title that inferno gave a frame; `None` of the frame of all.
fn decode(title: &str) -> Option<usize> {
    title.chars().take(PLACES).try_fold(0, |place, c| {
        let digit = (c as u32).checked_sub(FIRST).filter(|&digit| (digit as usize) < DIGITS)?;
        Some(place * DIGITS + digit as usize)
    })
}

const MARGIN: usize = 10;
const COLUMN: usize = 196;
const WIDE_COLUMN: usize = 236;
const ROW: usize = 17;
const GAP: usize = 5;

/// The legend as it grows, row by row.
struct Drawing {
    svg: String,
    row: usize,
    x: usize,
}

impl Drawing {
    fn next_row(&mut self) {
        if self.x > MARGIN {
            self.row += 1;
            self.x = MARGIN;
        }
    }

    fn baseline(&self) -> usize {
        TOP + 12 + self.row * ROW
    }

    fn key(&mut self, fill: &str, search: Option<&str>, meaning: &str, text: &str, column: usize) {
        if self.x + column > WIDTH {
            self.next_row();
        }
        let (class, click) = match search {
            Some(search) => (" class=\"key\"", format!(" fg:role=\"{}\"", escape(search))),
            None => ("", String::new()),
        };
        let baseline = self.baseline();
        let _ = write!(
            self.svg,
            "<g{class}{click}><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"13\" \
             height=\"13\" fill=\"{fill}\"/><text x=\"{}\" y=\"{baseline}\">{}</text></g>",
            escape(meaning),
            self.x,
            baseline - 11,
            self.x + 19,
            escape(text),
        );
        self.x += column;
    }

    fn note(&mut self, text: &str) {
        self.next_row();
        let baseline = self.baseline();
        let _ = write!(
            self.svg,
            "<text class=\"note\" x=\"{MARGIN}\" y=\"{baseline}\">{}</text>",
            escape(cut(&printable(text), 160)),
        );
        self.row += 1;
    }
}
