//! Marks: what a frame's name carries through inferno, in characters that no name can hold.
//!
//! [`printable`] escapes the private use area of every name, so each of its characters can stand
//! for something here:
//!
//! - U+E000…U+EFFF after a name: role, highlight, and whether the role begins at this frame;
//! - U+F000…U+F6FF before a label: the tower's place, by which inferno then sorts;
//! - U+F700…U+F70F before a label: the part of a tower (on CPU, blocked, runnable), likewise;
//! - U+F8FF: a semicolon that belongs to the name.

use crate::escape::printable;
use crate::highlight::Highlights;
use crate::roles::Role;

const MARK: u32 = 0xe000;
const TOWER: u32 = 0xf000;
const TOWERS: u32 = 0x700;
const PART: u32 = 0xf700;
const PARTS: u32 = 0x10;
const SEMICOLON: char = '\u{f8ff}';
const HIGHLIGHTS: u32 = Highlights::MOST as u32 + 1;

const _: () = assert!(Role::ALL.len() as u32 * 2 * HIGHLIGHTS <= TOWER - MARK);

/// What one frame is painted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) role: Role,
    /// The frame below has another role.
    pub(super) opens: bool,
    pub(super) highlight: Option<u8>,
}

impl Mark {
    pub(super) fn to_char(self) -> char {
        let highlight = self.highlight.map_or(0, |i| u32::from(i) + 1).min(HIGHLIGHTS - 1);
        let code = (self.role.index() as u32 * 2 + u32::from(self.opens)) * HIGHLIGHTS + highlight;
        char::from_u32(MARK + code).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn of_char(c: char) -> Option<Mark> {
        let code = (c as u32).checked_sub(MARK).filter(|code| *code < TOWER - MARK)?;
        let (rest, highlight) = (code / HIGHLIGHTS, code % HIGHLIGHTS);
        Some(Mark {
            role: *Role::ALL.get(rest as usize / 2)?,
            opens: rest % 2 == 1,
            highlight: highlight.checked_sub(1).map(|i| i as u8),
        })
    }
}

/// A name that inferno keeps in one piece.
pub(super) fn guard(name: &str) -> String {
    let name = printable(name);
    if name.trim().is_empty() {
        return "[unknown]".into();
    }
    name.replace(';', SEMICOLON.encode_utf8(&mut [0; 4]))
}

/// The label of a tower, sorted by position.
pub(super) fn tower(position: usize, label: &str) -> String {
    let place = char::from_u32(TOWER + (position as u32).min(TOWERS - 1));
    let mut marked = String::from(place.unwrap_or(SEMICOLON));
    marked.push_str(&guard(label));
    marked
}

/// The label of a tower's part, sorted by position.
pub(super) fn part(position: usize, label: &str) -> String {
    let place = char::from_u32(PART + (position as u32).min(PARTS - 1));
    let mut marked = String::from(place.unwrap_or(SEMICOLON));
    marked.push_str(&guard(label));
    marked
}

/// What a marked name stood for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node {
    All,
    Tower(usize, String),
    Part(usize, String),
    Frame(String, Mark),
}

/// Reads a name back out of the title that inferno gave it: `name (N samples, P%)`.
pub(super) fn read(title: &str) -> Option<Node> {
    let name = &title[..title.rfind(" (")?];
    let plain = |text: &str| text.replace(SEMICOLON, ";");
    let first = name.chars().next()?;
    if let Some(position) = (first as u32).checked_sub(TOWER).filter(|p| *p < TOWERS) {
        return Some(Node::Tower(position as usize, plain(&name[first.len_utf8()..])));
    }
    if let Some(position) = (first as u32).checked_sub(PART).filter(|p| *p < PARTS) {
        return Some(Node::Part(position as usize, plain(&name[first.len_utf8()..])));
    }
    if let Some((at, last)) = name.char_indices().next_back()
        && let Some(mark) = Mark::of_char(last)
    {
        return Some(Node::Frame(plain(&name[..at]), mark));
    }
    (name == "all").then_some(Node::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_survives_the_trip() {
        for role in Role::ALL {
            for opens in [false, true] {
                for highlight in [None, Some(0), Some(Highlights::MOST as u8 - 1)] {
                    let mark = Mark { role, opens, highlight };
                    let title =
                        format!("{}{} (1 samples, 1.00%)", guard("a;b (c)"), mark.to_char());
                    assert_eq!(read(&title), Some(Node::Frame("a;b (c)".into(), mark)));
                }
            }
        }
        let title = format!("{} (1 samples, 1.00%)", tower(1, "reader cat (12)"));
        assert_eq!(read(&title), Some(Node::Tower(1, "reader cat (12)".into())));
        let title = format!("{} (1 samples, 1.00%)", part(2, "blocked"));
        assert_eq!(read(&title), Some(Node::Part(2, "blocked".into())));
        assert_eq!(read("all (9 samples, 100%)"), Some(Node::All));
    }
}
