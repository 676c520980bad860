//! Painting: inferno's layout with the marks taken out, fills by role, hover texts and the legend.

use std::fmt::Write;

use pipeprof_profiler::profile::{Profile, WeightUnit};

use super::canvas::{self, Frames, Place, push};
use super::legend::{self, Legend};
use super::mark::{self, Mark, Node};
use super::tower::{Kind, Tower};
use super::{Time, View, palette};
use crate::error::Error;
use crate::escape::printable;
use crate::highlight::Highlights;
use crate::words::units;

struct Painter<'a> {
    profile: &'a Profile,
    highlights: &'a Highlights,
    towers: &'a [Tower],
    view: View,
    whole: u64,
}

/// Rewrites inferno's picture.
pub(super) fn paint(
    layout: &[u8],
    profile: &Profile,
    highlights: &Highlights,
    towers: &[Tower],
    legend: &Legend,
    view: View,
) -> Result<Vec<u8>, Error> {
    let whole = towers.iter().map(|tower| tower.weight).sum();
    let painter = Painter { profile, highlights, towers, view, whole };
    let legend = canvas::Legend { svg: legend.draw(canvas::TOP), height: legend.height() };
    canvas::repaint(layout, &palette::patterns(view), &legend, |title, place, frames| {
        let node = mark::read(title)
            .ok_or_else(|| Error::Picture(format!("frame {title:?} has no mark")))?;
        painter.frame(node, place, frames);
        Ok(())
    })
}

impl Painter<'_> {
    fn frame(&self, node: Node, place: &Place, frames: &mut Frames) {
        let unit = match self.view.time {
            Time::Cpu => self.profile.quality.unit,
            // What the scheduler accounts for is time.
            Time::Blocked | Time::Wall => WeightUnit::Nanoseconds,
        };
        let mut weight = units::weight(place.weight, unit, &printable(&self.profile.quality.event));
        if self.view.per_byte {
            weight.push_str(" per GiB");
        }
        let of_all = units::share(place.weight, self.whole);
        match node {
            Node::All => {
                let title = format!("all ({weight}, 100%)");
                push(&mut frames.below, place, "", "", "all", &title, palette::NEUTRAL);
            }
            Node::Tower(_, label) => {
                let title = format!("{label} ({of_all} of all, {weight})");
                let search = label.clone();
                let class = " class=\"tower\"";
                push(&mut frames.below, place, class, &search, &label, &title, palette::NEUTRAL);
            }
            Node::Part(position, label) => {
                let title = format!("{label} ({of_all} of all, {weight})");
                let (class, fill) = match Kind::at(position) {
                    Kind::OnCpu => (" class=\"part\"", palette::NEUTRAL),
                    Kind::Blocked => (" class=\"part\"", "url(#hatch-label)"),
                    Kind::Runnable => (" class=\"part\"", "url(#dots)"),
                };
                push(&mut frames.below, place, class, &label.clone(), &label, &title, fill);
            }
            Node::Frame(name, mark) => {
                self.function(&name, mark, place, &weight, &of_all, frames);
            }
        }
    }

    fn function(
        &self,
        name: &str,
        mark: Mark,
        place: &Place,
        weight: &str,
        of_all: &str,
        frames: &mut Frames,
    ) {
        let highlight = mark.highlight.and_then(|i| self.highlights.list().get(usize::from(i)));
        let known_as = highlight.map(|h| printable(&h.classic)).filter(|classic| *classic != name);
        let role = mark.role.label();
        let blocked = self.part_of(place.x) == Kind::Blocked;

        let mut label = String::with_capacity(name.len() + 48);
        if highlight.is_some() {
            label.push_str("◆ ");
        }
        label.push_str(name);
        if let Some(classic) = &known_as {
            let _ = write!(label, " [{classic}]");
        }
        if mark.opens {
            let _ = write!(label, " · {role}");
        }
        let mut search = String::from(name);
        if let Some(classic) = &known_as {
            let _ = write!(search, "\n{classic}");
        }
        let _ = write!(
            search,
            "\n{}",
            if blocked { legend::blocked_key(mark.role) } else { legend::search_key(mark.role) }
        );

        // inferno's script takes what precedes the last parenthesis for the frame's text.
        let mut title = format!("{label} ({}role {role}", if blocked { "blocked, " } else { "" });
        if let Some(classic) = &known_as {
            let _ = write!(title, ", known as {}", classic.replace(['(', ')'], ""));
        }
        let tower = self.tower_of(place.x);
        if let Some(tower) = tower.filter(|_| self.towers.len() > 1) {
            let of_tower = units::share(place.weight, tower.weight);
            let label = tower.label.split(" (").next().unwrap_or_default();
            let _ = write!(title, ", {of_tower} of {}", label.replace(['(', ')'], ""));
        }
        let _ = write!(title, ", {of_all} of all, {weight})");

        let (to, class) = if highlight.is_some() {
            (&mut frames.on_top, " class=\"hl\"")
        } else {
            (&mut frames.below, "")
        };
        let hatched = format!("url(#hatch-{})", mark.role.index());
        let fill = if blocked { &hatched } else { palette::fill(mark.role) };
        push(to, place, class, &search, &label, &title, fill);
    }

    fn part_of(&self, x: u64) -> Kind {
        let mut end = 0;
        for part in self.towers.iter().flat_map(|tower| &tower.parts) {
            end += part.weight();
            if x < end {
                return part.kind;
            }
        }
        Kind::OnCpu
    }

    fn tower_of(&self, x: u64) -> Option<&Tower> {
        let mut end = 0;
        self.towers.iter().find(|tower| {
            end += tower.weight;
            x < end
        })
    }
}
