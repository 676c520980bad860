//! The layout of a tour: paragraphs, bars and tables of one width.

use std::fmt::Write as _;

use pipeprof_runner::pipeline::End;

use super::{LEAST_PERCENT, Profiled, Step, life};
use crate::escape::printable;
use crate::lessons::{Function, Release};
use crate::summary::MemberSummary;
use crate::words::layout::Style;
use crate::words::units::{self, duration, share};

/// How wide, and with which characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Colours and characters.
    pub style: Style,
    /// Characters a line; tables need [`Page::LEAST_COLUMNS`].
    pub columns: usize,
}

impl Page {
    /// What tables need.
    pub const LEAST_COLUMNS: usize = 80;
    /// Beyond this a paragraph is hard to read.
    pub const MOST_COLUMNS: usize = 100;

    /// A page as wide as the terminal, as far as that reads well; 80 columns where there is none.
    pub fn new(style: Style, terminal: Option<usize>) -> Page {
        let columns = terminal.unwrap_or(Self::LEAST_COLUMNS);
        Page { style, columns: columns.clamp(Self::LEAST_COLUMNS, Self::MOST_COLUMNS) }
    }

    pub(super) fn heading(self, text: &str) -> String {
        format!("{}\n", self.style.heading(text))
    }

    pub(super) fn paragraph(self, text: &str) -> String {
        self.hanging(text, 0)
    }

    /// A paragraph of which all lines but the first are indented.
    pub(super) fn hanging(self, text: &str, indent: usize) -> String {
        self.filled(text, indent).join("\n") + "\n"
    }

    /// A paragraph in grey, indented as its first line is.
    pub(super) fn remark(self, text: &str) -> String {
        let indent = text.len() - text.trim_start().len();
        let lines = if text.chars().count() <= self.columns {
            vec![text.to_owned()]
        } else {
            self.filled(text, indent)
        };
        let lines: Vec<String> = lines.iter().map(|line| self.style.remark(line)).collect();
        lines.join("\n") + "\n"
    }

    /// Broken at blanks, except between a figure and its unit.
    fn filled(self, text: &str, indent: usize) -> Vec<String> {
        const UNITS: [&str; 7] = ["s", "ms", "µs", "ns", "KiB", "MiB", "GiB"];
        let margin = text.len() - text.trim_start().len();
        let mut lines = vec![text[..margin].to_owned()];
        let mut words = text.trim_start().split(' ').peekable();
        while let Some(word) = words.next() {
            let mut word = word.to_owned();
            if word.ends_with(|c: char| c.is_ascii_digit())
                && let Some(unit) =
                    words.next_if(|next| UNITS.contains(&next.trim_end_matches(['.', ',', ';'])))
            {
                word = format!("{word} {unit}");
            }
            let Some(line) = lines.last_mut() else { break };
            let is_begun = !line.trim_start().is_empty();
            if is_begun && line.chars().count() + 1 + word.chars().count() > self.columns {
                lines.push(" ".repeat(indent) + &word);
            } else {
                if is_begun && !line.ends_with(' ') {
                    line.push(' ');
                }
                line.push_str(&word);
            }
        }
        lines
    }

    /// The roles of an end as bars, largest first.
    pub(super) fn bars(self, end: End, member: &MemberSummary) -> String {
        let width = (self.columns - 43).min(40);
        let mut text = self.hanging(&format!("{}: {}", end.as_str(), life(member)), 8);
        let mut row = |label: &str, percent: f64, ns_per_gib: Option<f64>| {
            let cost = ns_per_gib.map_or_else(String::new, |ns| duration(ns) + " per GiB");
            let _ = writeln!(
                text,
                "  {label:<17}{}{:>7}{cost:>16}",
                self.bar(percent, width),
                units::percent(percent)
            );
        };
        let (shown, rest): (Vec<_>, Vec<_>) =
            member.roles.iter().partition(|role| role.percent >= LEAST_PERCENT);
        for role in shown {
            row(role.role.label(), role.percent, role.ns_per_gib);
        }
        if !rest.is_empty() {
            let ns: Option<f64> = rest.iter().map(|role| role.ns_per_gib).sum();
            row("the rest", rest.iter().map(|role| role.percent).sum(), ns);
        }
        text
    }

    /// A bar of which the whole width is 100 %, in eighths of a character.
    fn bar(self, percent: f64, width: usize) -> String {
        const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        let cells = (percent / 100.0).clamp(0.0, 1.0) * width as f64;
        let bar: String = if self.style.ascii {
            "#".repeat(cells.round() as usize)
        } else {
            let eighths = (cells * 8.0).round() as usize;
            let part = (!eighths.is_multiple_of(8)).then(|| EIGHTHS[eighths % 8]);
            std::iter::repeat_n('█', eighths / 8).chain(part).collect()
        };
        format!("{bar:<width$}")
    }

    /// The functions of the lesson that were sampled, and why the article's three were not.
    pub(super) fn functions(self, profiled: &Profiled, step: &Step) -> String {
        let mut text = String::new();
        if !profiled.functions.is_empty() {
            text.push('\n');
            text += &self.remark(&format!(
                "{:<28}{:>7}{:>8}  source, and where it was read",
                "function", "writer", "reader"
            ));
        }
        for seen in &profiled.functions {
            let [writer, reader] = &seen.shares;
            let name = seen.name;
            let _ = writeln!(
                text,
                "{:<28}{writer:>7}{reader:>8}  {} {}",
                name.name,
                seen.function.file,
                name.releases()
            );
            let known = if seen.function.known_as == name.name {
                String::new()
            } else {
                format!("{}: ", seen.function.known_as)
            };
            text += &self.remark(&format!("    {known}{}", seen.function.does));
        }
        let Some(writer) = step.end(End::Writer) else { return text };
        for shown in &writer.highlights {
            let Some(why) = &shown.absent else { continue };
            let mut line = format!("{}: {why}", printable(&shown.function));
            if let Some(stand_in) = &shown.stand_in {
                let share = share(stand_in.weight, writer.weight);
                let _ = write!(line, "; see {} {share}", printable(&stand_in.name));
            }
            text += &self.remark(&line);
        }
        text
    }

    /// Where a lesson's functions are in the source, by the names that this kernel knows them by.
    pub(super) fn sources(
        self,
        lead: &str,
        functions: &[&Function],
        kernel: Option<Release>,
    ) -> String {
        let list: Vec<String> = functions
            .iter()
            .map(|function| {
                let name = function.name_in(kernel);
                format!("{} ({} {})", name.name, function.file, name.releases())
            })
            .collect();
        if list.is_empty() {
            String::new()
        } else {
            self.remark(&format!("{lead} {}", list.join(", ")))
        }
    }
}
