//! Colours, labels and hover texts of the boxes of a flame graph.

use std::fmt::Write as _;

use pipeprof_profiler::profile::WeightUnit;

use super::tower::{Kind, Tower};
use super::{Time, View};
use crate::calltree::{Frame, Key, Name, Names, Row, Tree, by_name};
use crate::escape::printable;
use crate::highlight::Highlights;
use crate::picture::{Paint, palette};
use crate::roles::Role;
use crate::run::Run;
use crate::words::units;

/// What is drawn.
pub(super) struct Painter<'a> {
    run: &'a Run,
    highlights: &'a Highlights,
    towers: &'a [Tower],
    view: View,
    names: Names,
    pub(super) tree: Tree<u64>,
}

/// What a row stands in.
#[derive(Clone, Copy)]
struct Place {
    tower: Option<usize>,
    kind: Kind,
    /// Of the row itself.
    role: Option<Role>,
}

impl<'a> Painter<'a> {
    pub(super) fn new(
        run: &'a Run,
        highlights: &'a Highlights,
        towers: &'a [Tower],
        view: View,
    ) -> Self {
        let profile = &run.profile;
        let highlighted = highlights.of_frames(profile);
        let mut names = Names::default();
        let known: Vec<Name> =
            profile.frames().iter().map(|frame| names.intern(&frame.name)).collect();
        let mut tree = Tree::default();
        for (position, tower) in towers.iter().enumerate() {
            for part in &tower.parts {
                let mut label = tree.child(Tree::<u64>::ROOT, Key::Tower(position));
                if tower.parts.len() > 1 || part.kind != Kind::OnCpu {
                    label = tree.child(label, Key::Part(part.kind as usize));
                }
                tree.nodes[label].own += part.rest;
                for &(stack, weight) in part.stacks.iter().filter(|(_, weight)| *weight > 0) {
                    let stack = profile.stack(stack);
                    let mut at = label;
                    for depth in (0..stack.len()).rev() {
                        let role = match part.kind {
                            Kind::Blocked => run.roles.blocked_role(&stack[depth..]),
                            _ => run.roles.prefix_role(&stack[depth..]),
                        };
                        let frame = stack[depth].index();
                        let key = Frame {
                            name: known[frame],
                            mode: profile.frame(stack[depth]).mode,
                            role: Some(role),
                            highlight: highlighted[frame],
                        };
                        at = tree.child(at, Key::Frame(key));
                    }
                    tree.nodes[at].own += weight;
                }
            }
        }
        tree.add_up();
        tree.sort(by_name(&names));
        Painter { run, highlights, towers, view, names, tree }
    }

    /// How each row is painted.
    pub(super) fn paint(&self, rows: &[Row]) -> Vec<Paint> {
        let mut places: Vec<Place> = Vec::with_capacity(rows.len());
        let mut paints = Vec::with_capacity(rows.len());
        for row in rows {
            let below = row.parent.map(|parent| places[parent]);
            let below = below.unwrap_or(Place { tower: None, kind: Kind::OnCpu, role: None });
            let mut place = below;
            paints.push(match row.nodes.first().map(|&node| self.tree.nodes[node].key) {
                None => Paint {
                    class: "pad".to_owned(),
                    fill: palette::NEUTRAL,
                    title: self.says("", row),
                    ..Paint::default()
                },
                Some(Key::Root) => self.label("all", "root", row),
                Some(Key::Tower(tower)) => {
                    place.tower = Some(tower);
                    self.label(&self.towers[tower].label, "tower", row)
                }
                Some(Key::Part(part)) => {
                    place.kind = Kind::at(part);
                    let class = match place.kind {
                        Kind::OnCpu => "part",
                        Kind::Blocked => "part blocked",
                        Kind::Runnable => "part runnable",
                    };
                    self.label(place.kind.label(), class, row)
                }
                Some(Key::Frame(frame)) => {
                    place.role = frame.role;
                    self.function(row, frame, place, below.role)
                }
            });
            places.push(place);
        }
        paints
    }

    fn label(&self, label: &str, class: &str, row: &Row) -> Paint {
        Paint {
            class: class.to_owned(),
            fill: palette::NEUTRAL,
            label: label.to_owned(),
            title: self.says(label, row),
        }
    }

    fn says(&self, label: &str, row: &Row) -> String {
        format!("{label} ({})", self.size(row))
    }

    /// `12.34% of all, 1.20 s per GiB`.
    fn size(&self, row: &Row) -> String {
        let quality = &self.run.profile.quality;
        let unit = match self.view.time {
            Time::Cpu => quality.unit,
            // What the scheduler accounts for is time.
            Time::Blocked | Time::Wall => WeightUnit::Nanoseconds,
        };
        let event = printable(&quality.event).replace(['(', ')'], "");
        let weight = units::weight(row.weight, unit, &event);
        let per = if self.view.per_byte { " per GiB" } else { "" };
        let whole = self.tree.nodes[Tree::<u64>::ROOT].total;
        format!("{} of all, {weight}{per}", units::share(row.weight, whole))
    }

    fn function(&self, row: &Row, frame: Frame, place: Place, below: Option<Role>) -> Paint {
        let name = |node: usize| match self.tree.nodes[node].key {
            Key::Frame(frame) => shown(self.names.get(frame.name)),
            _ => String::new(),
        };
        let role = frame.role.unwrap_or(Role::Other);
        let blocked = place.kind == Kind::Blocked;
        let of_highlight = frame.highlight.map(usize::from);
        let highlight = of_highlight.and_then(|at| self.highlights.list().get(at));
        let names: Vec<String> = row.nodes.iter().map(|&node| name(node)).collect();
        let own = names.first().cloned().unwrap_or_default();
        let known_as = highlight.map(|h| printable(&h.classic)).filter(|classic| *classic != own);

        let mut class = if blocked { palette::blocked_class(role) } else { palette::class(role) };
        // What stands in the box, and what the viewer takes it from: all names of a chain.
        let (label, full) = if let ([first, .., last], frames) = (&names[..], names.len()) {
            class.push_str(" chain");
            let chain = format!("▸ {frames} frames: ");
            (format!("{chain}{first} … {last}"), format!("{chain}{}", names.join(" → ")))
        } else {
            let mut label = String::with_capacity(own.len() + 48);
            if let Some(at) = of_highlight {
                class.push_str(" hl");
                let _ = write!(label, "◆{} ", at + 1);
            }
            label.push_str(&own);
            if let Some(classic) = &known_as {
                let _ = write!(label, " [{classic}]");
            }
            if below != Some(role) {
                let _ = write!(label, " · {}", role.label());
            }
            (label.clone(), label)
        };

        let mut title =
            format!("{full} ({}role {}", if blocked { "blocked, " } else { "" }, role.label());
        if let Some(classic) = &known_as {
            let _ = write!(title, ", known as {}", classic.replace(['(', ')'], ""));
        }
        if let Some(tower) =
            place.tower.map(|at| &self.towers[at]).filter(|_| self.towers.len() > 1)
        {
            let of_tower = units::share(row.weight, tower.weight);
            let _ = write!(title, ", {of_tower} of {}", tower.name.replace(['(', ')'], ""));
        }
        let _ = write!(title, ", {})", self.size(row));
        Paint { class, fill: palette::fill(role), label, title }
    }
}

/// A name as a person sees it.
fn shown(name: &str) -> String {
    let name = printable(name);
    if name.trim().is_empty() { "[unknown]".into() } else { name.into_owned() }
}
