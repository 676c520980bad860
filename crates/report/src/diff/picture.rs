//! The differential flame graph: the cost of each member in A and in B, side by side on one scale
//! of time per GiB. A function that is only in A or only in B has its width there.
//!
//! The colour shows the change of a function by itself, as in Gregg's differential flame graphs: a
//! caller is not to blame for what it calls. Changes within the noise stay grey.

use std::io::Write;

use super::cost::{Change, Judgement};
use super::headline::names;
use super::tree::Both;
use super::{Diff, MemberDiff, Unit};
use crate::calltree::{Frame, Key, Row, Shown, Tree};
use crate::error::Error;
use crate::escape::printable;
use crate::picture::{self, Boxes, Legend, NARROWEST, Paint, Picture, palette};
use crate::roles::Role;
use crate::words::units::throughput;

/// Members that have a line in the legend, the dearest first.
const MOST_MEMBERS: usize = 5;
/// Widths are whole numbers; a percent is so many.
const PER_PERCENT: f64 = 1e6;

/// Draws the difference as an SVG with search, zoom and hover texts.
///
/// # Errors
///
/// As [`picture()`], and [`Error::Write`] where `out` fails.
pub fn render(diff: &Diff, unfolded: bool, out: impl Write) -> Result<(), Error> {
    picture(diff, unfolded)?.write_svg(out)
}

/// Draws the difference; `unfolded` gives every frame its row.
///
/// # Errors
///
/// [`Error::NoSamples`] where neither side costs anything.
pub fn picture(diff: &Diff, unfolded: bool) -> Result<Picture, Error> {
    let painter = Painter::new(diff);
    if painter.tree.nodes[Tree::<u64>::ROOT].total == 0 {
        return Err(Error::NoSamples { of: "either side".to_owned(), notes: Vec::new() });
    }
    let shown = Shown { least: NARROWEST, collapse: !unfolded, level: false };
    let rows = painter.tree.rows(shown, |weight| *weight);
    Ok(Picture {
        title: title(diff),
        headline: Some(diff.headline.clone()),
        subtitle: subtitle(diff),
        legend: painter.legend(),
        boxes: Boxes::draw(&rows, &painter.paint(&rows))?,
    })
}

fn title(diff: &Diff) -> String {
    let side = |letter: char, name: &str, rate: Option<f64>| match rate {
        Some(rate) => format!("{letter}: {name} {}", throughput(rate)),
        None => format!("{letter}: {name}"),
    };
    let (a, b) = (diff.speed.map(|speed| speed.a), diff.speed.map(|speed| speed.b));
    let ratio = match diff.speed.map(|speed| speed.ratio.median) {
        Some(ratio) if ratio > 0.0 => format!(": {ratio:.2}×"),
        _ => String::new(),
    };
    let names = names(diff, 26);
    format!("{} → {}{ratio}", side('A', &names[0], a), side('B', &names[1], b))
}

fn subtitle(diff: &Diff) -> String {
    let runs = match diff.runs {
        1 => "one run of each".to_owned(),
        runs => format!("mean of {runs} runs"),
    };
    let unit = match diff.unit {
        Unit::NsPerGib => "CPU time per GiB of input",
        Unit::Percent => "share of the samples",
    };
    format!(
        "width is {unit}, {runs}, on one scale: each member in A, then in B · colour is the change \
         of the function itself"
    )
}

/// The two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    A,
    B,
}

struct Painter<'a> {
    diff: &'a Diff,
    both: &'a Both,
    unit: Unit,
    /// Two towers a member: A's, then B's.
    tree: Tree<u64>,
    /// For each node its like in the tree of both.
    origin: Vec<usize>,
    /// The largest change of a function in one place: the full colour.
    most: f64,
}

impl<'a> Painter<'a> {
    fn new(diff: &'a Diff) -> Self {
        let both = &diff.tree;
        let mut painter = Painter {
            diff,
            both,
            unit: diff.unit,
            tree: Tree::default(),
            origin: vec![Tree::<u64>::ROOT],
            most: 0.0,
        };
        let root = Tree::<u64>::ROOT;
        for (member, &tower) in both.tree.nodes[root].children.iter().enumerate() {
            for (side, letter) in [Letter::A, Letter::B].into_iter().enumerate() {
                painter.side(member, tower, 2 * member + side, letter);
            }
        }
        painter.tree.add_up();
        painter
    }

    /// Adds what a member cost on one side.
    fn side(&mut self, member: usize, tower: usize, position: usize, letter: Letter) {
        let mut left = vec![(tower, Tree::<u64>::ROOT)];
        while let Some((from, parent)) = left.pop() {
            let node = &self.both.tree.nodes[from];
            let key = if from == tower { Key::Tower(position) } else { node.key };
            let at = self.tree.child(parent, key);
            self.origin.push(from);
            let own = self.both.series(member, &node.own);
            let width = if letter == Letter::A { own.mean_a() } else { own.mean_b() };
            self.tree.nodes[at].own = self.scaled(width);
            let change = own.change();
            if change.is_clear() {
                self.most = self.most.max(change.size());
            }
            left.extend(node.children.iter().rev().map(|&child| (child, at)));
        }
    }

    fn scaled(&self, cost: f64) -> u64 {
        match self.unit {
            Unit::NsPerGib => cost.round() as u64,
            Unit::Percent => (cost * PER_PERCENT).round() as u64,
        }
    }

    fn paint(&self, rows: &[Row]) -> Vec<Paint> {
        let mut towers: Vec<Option<usize>> = Vec::with_capacity(rows.len());
        let mut paints = Vec::with_capacity(rows.len());
        for row in rows {
            let mut tower = row.parent.and_then(|parent| towers[parent]);
            let key = row.nodes.first().map(|&node| self.tree.nodes[node].key);
            paints.push(match (key, tower) {
                (Some(Key::Tower(position)), _) => {
                    tower = Some(position);
                    self.tower(position, row)
                }
                (Some(Key::Frame(_)), Some(position)) => self.function(position / 2, row),
                _ => Paint {
                    class: "root".to_owned(),
                    fill: palette::NEUTRAL,
                    label: "all".to_owned(),
                    title: format!("all ({})", self.show_width(row.weight)),
                },
            });
            towers.push(tower);
        }
        paints
    }

    fn tower(&self, position: usize, row: &Row) -> Paint {
        let member = &self.diff.members[position / 2];
        let (letter, named) =
            if position.is_multiple_of(2) { ('A', &member.a) } else { ('B', &member.b) };
        let end = member.end.map_or_else(String::new, |end| format!("{} ", end.as_str()));
        let label =
            format!("{letter}: {end}{}, {}", printable(&named.comm), self.show_width(row.weight));
        Paint {
            class: "tower".to_owned(),
            fill: palette::NEUTRAL,
            title: format!("{label} ({})", self.words(&member.total)),
            label,
        }
    }

    fn function(&self, member: usize, row: &Row) -> Paint {
        let frame = |node: usize| match self.tree.nodes[node].key {
            Key::Frame(Frame { name, .. }) => printable(self.both.names.get(name)).into_owned(),
            _ => String::new(),
        };
        let names: Vec<String> = row.nodes.iter().map(|&node| frame(node)).collect();
        let node = row.nodes.last().map(|&node| &self.both.tree.nodes[self.origin[node]]);
        let Some(node) = node else { return Paint::default() };
        let own = self.both.series(member, &node.own).change();
        let with_callees = self.words(&self.both.series(member, &node.total).change());
        let role = node.own.role().unwrap_or(Role::Other);
        let shade = palette::shade(self.strength(&own));
        let mut class = format!("d{shade} {}", palette::class(role));
        let (label, full) = match &names[..] {
            [first, .., last] => {
                class.push_str(" chain");
                let chain = format!("▸ {} frames: ", names.len());
                (format!("{chain}{first} … {last}"), format!("{chain}{}", names.join(" → ")))
            }
            _ => {
                let name = names.concat();
                let label = match own.judgement {
                    Judgement::Dearer => format!("▲ {name}"),
                    Judgement::Cheaper => format!("▼ {name}"),
                    Judgement::WithinNoise | Judgement::Unknown => name,
                };
                (label.clone(), label)
            }
        };
        // The viewer takes what precedes the last parenthesis for the label.
        let title = format!(
            "{full} (by itself {}; with what it calls {with_callees}; role {})",
            self.words(&own),
            role.label(),
        );
        Paint { class, fill: palette::SHADES[shade], label, title }
    }

    fn show_width(&self, weight: u64) -> String {
        match self.unit {
            Unit::NsPerGib => format!("{} per GiB", self.unit.show(weight as f64)),
            Unit::Percent => self.unit.show(weight as f64 / PER_PERCENT),
        }
    }

    /// `27.0 ms → 0.91 ms per GiB, −26.1 ms, cheaper`.
    fn words(&self, change: &Change) -> String {
        let judged = match change.judgement {
            Judgement::Dearer => "dearer",
            Judgement::Cheaper => "cheaper",
            Judgement::WithinNoise => "within the noise",
            Judgement::Unknown => "one run",
        };
        format!(
            "{} → {}{}, {}, {judged}",
            self.unit.show(change.a),
            self.unit.show(change.b),
            self.per(),
            self.unit.show_signed(change.difference),
        )
    }

    fn per(&self) -> &'static str {
        if self.unit == Unit::NsPerGib { " per GiB" } else { "" }
    }

    /// From −1, as much cheaper as anything, to 1.
    fn strength(&self, change: &Change) -> f64 {
        if !change.is_clear() {
            return 0.0;
        }
        let strength = (change.size() / self.most.max(f64::MIN_POSITIVE)).min(1.0);
        // By the root, or one large change would leave all others grey.
        strength.sqrt().copysign(change.difference)
    }

    fn legend(&self) -> Legend {
        let key = |shade: usize, text: String, meaning: String| picture::Key {
            class: format!("d{shade}"),
            fill: palette::SHADES[shade],
            clickable: true,
            meaning: format!("{meaning} Click to mark its frames."),
            text,
        };
        let mut keys = Vec::new();
        for strength in [-1.0, -0.5, 0.0, 0.5, 1.0_f64] {
            // Squares of the shades, which go by the root.
            let cost = (self.most * strength * strength).copysign(strength);
            let cost = format!("{}{}", self.unit.show_signed(cost), self.per());
            let text = match strength {
                -1.0 => format!("▼ cheaper in B: {cost}"),
                0.0 => "same, or within the noise".to_owned(),
                1.0 => format!("▲ dearer in B: {cost}"),
                _ => cost,
            };
            let meaning = "The change of a function by itself, from A to B.".to_owned();
            keys.push(key(palette::shade(strength), text, meaning));
        }
        let mut roles: Vec<(Role, Change)> =
            self.both.roles.iter().map(|(role, series)| (*role, series.change())).collect();
        let all = roles.len();
        roles.retain(|(_, change)| change.is_clear());
        roles.sort_by(|x, y| Change::by_size(&x.1, &y.1));
        let alike = all - roles.len();
        for (role, change) in roles {
            let shade = palette::shade(0.5_f64.copysign(change.difference));
            let text = format!("{} {}", role.label(), self.unit.show_signed(change.difference));
            let words = self.words(&change);
            let meaning = format!("{}: {}. {words}.", role.label(), role.description());
            let mut key = key(shade, text, meaning);
            key.class = palette::class(role);
            keys.push(key);
        }
        let per = self.per();
        let mut members: Vec<&MemberDiff> = self.diff.members.iter().collect();
        let size = |member: &MemberDiff| member.total.a.max(member.total.b);
        members.sort_by(|x, y| size(y).total_cmp(&size(x)));
        let shown = members.iter().take(MOST_MEMBERS);
        let marks = shown.map(|member| (true, self.sentence(member, per)));
        let alike = (alike > 0).then(|| format!("{alike} other roles are within the noise."));
        let notes = self.diff.notes.iter().map(|note| format!("! {note}."));
        Legend { keys, marks: marks.collect(), notes: alike.into_iter().chain(notes).collect() }
    }

    /// `gzip → zstd: 4.09 s → 0.79 s per GiB, −3.30 s`.
    fn sentence(&self, member: &MemberDiff, per: &str) -> String {
        let who = member.end.map_or_else(|| member.names(), |end| end.as_str().to_owned());
        let Change { a, b, difference, .. } = member.total;
        let (a, b) = (self.unit.show(a), self.unit.show(b));
        format!("{who}: {a} → {b}{per}, {}", self.unit.show_signed(difference))
    }
}
