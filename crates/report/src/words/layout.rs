//! Lines that fit the terminal: wrapped, cut and padded by the columns that they take.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How to write for the terminal at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Headings in bold and remarks in grey, by ANSI escapes.
    pub colour: bool,
    /// Nothing but ASCII in pictures.
    pub ascii: bool,
    /// Columns of the terminal.
    pub columns: usize,
}

/// Of a heading.
pub(crate) const BOLD: &str = "1";

/// Of a remark.
pub(crate) const GREY: &str = "2";

/// Columns where there is no terminal.
const COLUMNS: usize = 80;

impl Default for Style {
    fn default() -> Self {
        Style { colour: false, ascii: false, columns: COLUMNS }
    }
}

impl Style {
    /// In bold.
    pub(crate) fn heading(self, text: &str) -> String {
        self.escaped(BOLD, text)
    }

    /// In grey.
    pub(crate) fn remark(self, text: &str) -> String {
        self.escaped(GREY, text)
    }

    /// As this ANSI sequence has it, where there is colour.
    pub(crate) fn escaped(self, sequence: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{sequence}m{text}\u{1b}[0m") } else { text.into() }
    }

    /// [Wrapped](Self::wrap), each line as this ANSI sequence has it.
    pub(crate) fn wrapped(self, sequence: &str, line: &str, indent: usize) -> String {
        let lines = self.wrap(line, indent);
        lines.lines().map(|line| self.escaped(sequence, line) + "\n").collect()
    }

    /// Breaks a line at blanks. It keeps its margin; what follows is indented by so much.
    pub fn wrap(self, line: &str, indent: usize) -> String {
        let margin = &line[..line.len() - line.trim_start().len()];
        let hanging = " ".repeat(indent);
        let options = textwrap::Options::new(self.columns.max(indent + 20))
            .initial_indent(margin)
            .subsequent_indent(&hanging)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
            .break_words(false);
        // A number and its unit stay together.
        let glued = line.trim_start().replace(" %", "\u{a0}%").replace("pid ", "pid\u{a0}");
        let mut text = String::new();
        for line in textwrap::wrap(&glued, options) {
            text.push_str(&line.replace('\u{a0}', " "));
            text.push('\n');
        }
        text
    }
}

/// At most so many columns, the last of them an ellipsis where something is missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    cut_with(text, most, "…")
}

/// As [`cut`], with another mark.
pub(crate) fn cut_with(text: &str, most: usize, mark: &str) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(mark.width());
    let mut taken = 0;
    let kept = text.chars().take_while(|c| {
        taken += c.width().unwrap_or(0);
        taken <= room
    });
    kept.chain(mark.chars()).collect()
}

/// Cut or filled up with blanks to exactly so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    let missing = columns.saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_and_numbers_keep_their_units() {
        let style = Style { columns: 30, ..Style::default() };
        let text = style.wrap("  one two three four five 100 % of pid 17", 4);
        assert_eq!(text, "  one two three four five\n    100 % of pid 17\n");
        let long = "x".repeat(40);
        assert_eq!(style.wrap(&long, 2), format!("{long}\n"), "a word is never broken");
    }

    #[test]
    fn width_is_counted_in_columns_not_in_characters() {
        assert_eq!(cut("日本語テキスト", 7), "日本語…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(padded("日本", 6), "日本  ");
        assert_eq!(cut_with("abcdefgh", 6, "..."), "abc...");
    }
}
