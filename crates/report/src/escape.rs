//! Escapes untrusted names for a terminal, for a line of folded stacks, and for XML.

use std::borrow::Cow;

/// The name with everything escaped that is invisible, moves the cursor, or reorders text.
///
/// Private-use characters are escaped too, which leaves them free to carry marks of our own.
pub fn printable(name: &str) -> Cow<'_, str> {
    if !name.chars().any(is_harmful) {
        return Cow::Borrowed(name);
    }
    let mut safe = String::with_capacity(name.len() + 16);
    for c in name.chars() {
        if is_harmful(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{feff}'
                | '\u{fff0}'..='\u{ffff}'
                | '\u{e0000}'..
        ) && c != '\u{fffd}'
}

/// JSON in which nothing is left that a terminal would obey, or that reorders text: the same to
/// every reader of JSON. What is below a blank its writer has escaped.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c >= '\u{7f}' && is_harmful(c);
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe += &format!("\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// A cell of a table in CSV (RFC 4180). A spreadsheet evaluates cells that begin like a formula,
/// and names are untrusted.
pub fn csv_cell(cell: &str) -> Cow<'_, str> {
    let cell = match cell.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => Cow::Owned(format!("'{cell}")),
        _ => Cow::Borrowed(cell),
    };
    if cell.contains([',', '"', '\n', '\r']) {
        return Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")));
    }
    cell
}

/// As [`printable`], and without what separates frames and counts in a line of folded stacks.
///
/// A semicolon becomes a colon, as in `stackcollapse`. A blank before digits becomes `_`, because
/// readers take a number after a blank for a count.
pub fn folded(name: &str) -> String {
    let name = printable(name.trim());
    if name.is_empty() {
        return "[unknown]".into();
    }
    let mut safe = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        safe.push(match c {
            ';' => ':',
            _ if c.is_whitespace() => {
                if chars.peek().is_some_and(|&next| next.is_ascii_digit() || next == '.') {
                    '_'
                } else {
                    ' '
                }
            }
            _ => c,
        });
    }
    if safe.starts_with('#') {
        safe.insert(0, '_');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        for (name, safe) in [
            ("pipe_write", "pipe_write"),
            ("größe<T>::λ", "größe<T>::λ"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{202e}txt", "\\u{202e}txt"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{e001}", "\\u{e001}"),
            ("\u{fffd}", "\u{fffd}"),
            ("\u{ffff}", "\\u{ffff}"),
        ] {
            assert_eq!(printable(name), safe);
        }
    }

    #[test]
    fn json_says_the_same_without_what_a_terminal_obeys() {
        let name = "a\u{7f}\u{9b}2J\u{202e}\u{e0001}ß\u{1b}";
        let text = serde_json::to_string(name).unwrap();
        let safe = json(&text);
        assert_eq!(safe, "\"a\\u007f\\u009b2J\\u202e\\udb40\\udc01ß\\u001b\"");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), name);
    }

    #[test]
    fn a_cell_is_no_formula_and_one_cell() {
        for (cell, safe) in [
            ("write", "write"),
            ("=1+1", "'=1+1"),
            ("-c", "'-c"),
            ("\t=1", "'\t=1"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("@a\nb", "\"'@a\nb\""),
        ] {
            assert_eq!(csv_cell(cell), safe);
        }
    }

    #[test]
    fn folded_names_hold_no_separator() {
        for (name, safe) in [
            ("[u8; 8]::len", "[u8:_8]::len"),
            ("a b", "a b"),
            ("operator() 12", "operator()_12"),
            ("", "[unknown]"),
            ("  ", "[unknown]"),
            ("# x", "_# x"),
        ] {
            assert_eq!(folded(name), safe);
        }
    }
}
