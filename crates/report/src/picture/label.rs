//! Labels: the part of a name that fits into a box.

use std::borrow::Cow;

/// Width of a character, in pixels: DejaVu Sans Mono and its like are 0.602 em wide.
pub(super) const LETTER: f64 = 12.0 * 0.602;
/// In boxes too narrow for that.
const SMALL_LETTER: f64 = 10.0 * 0.602;
/// Left and right of it.
const PADDING: f64 = 4.0;

/// What stands in a box, and whether in small letters.
///
/// A narrow box is better off with the beginning of a name than with dots: `sched` tells more than
/// `sc..`. What is not the name itself goes first. The viewer does the same after a zoom.
pub(super) fn fit(label: &str, pixels: f64) -> (Cow<'_, str>, bool) {
    let room = |letter: f64| ((pixels - PADDING) / letter).max(0.0) as usize;
    if label.chars().count() <= room(LETTER) {
        return (Cow::Borrowed(label), false);
    }
    let bare = bare(label);
    let length = bare.chars().count();
    if length <= room(LETTER) {
        return (bare, false);
    }
    let room = room(SMALL_LETTER);
    if length <= room {
        return (bare, true);
    }
    let short: String = match room {
        0 | 1 => String::new(),
        2..=6 => bare.chars().take(room).collect(),
        _ => bare.chars().take(room - 1).chain(['…']).collect(),
    };
    (Cow::Owned(short), true)
}

/// A label without its role, its other name, and what all system calls begin
/// with.
fn bare(label: &str) -> Cow<'_, str> {
    let name = label.split(" · ").next().unwrap_or(label);
    let name = name.split(" [").next().unwrap_or(name);
    let (mark, name) = match name.split_once(' ') {
        Some((mark, name)) if mark.starts_with(MARKS) => (mark, name),
        _ => ("", name),
    };
    let short = name.trim_start_matches('_');
    let short = ["x64_sys_", "arm64_sys_", "do_sys_", "GI___"]
        .iter()
        .find_map(|prefix| short.strip_prefix(prefix))
        .unwrap_or(short);
    let name = if short.is_empty() { name } else { short };
    if mark.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{mark}{name}")) }
}

/// What a label can begin with: a highlight, a change, a folded chain.
const MARKS: [char; 4] = ['◆', '▲', '▼', '▸'];

/// A sentence broken at blanks into lines of so many characters.
pub(super) fn lines(sentence: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in sentence.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > most {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_box_shows_the_beginning_of_the_name() {
        let label = "◆2 iov_iter_get_pages2 [iov_iter_get_pages] · page pinning";
        for (pixels, text, small) in [
            (500.0, label, false),
            (200.0, "◆2iov_iter_get_pages2", false),
            (140.0, "◆2iov_iter_get_pages2", true),
            (100.0, "◆2iov_iter_get…", true),
            (30.0, "◆2io", true),
            (17.0, "◆2", true),
            (9.0, "", true),
        ] {
            assert_eq!(fit(label, pixels), (Cow::Borrowed(text), small), "{pixels}");
        }
        assert_eq!(fit("__x64_sys_vmsplice", 72.0), (Cow::Borrowed("vmsplice"), false));
        assert_eq!(fit("__GI___libc_write", 80.0), (Cow::Borrowed("libc_write"), false));
        assert_eq!(fit("__schedule", 40.0), (Cow::Borrowed("sched"), true));
        assert_eq!(fit("___", 30.0).0, "___");
    }

    #[test]
    fn a_sentence_is_broken_at_blanks() {
        assert_eq!(lines("one two three", 7), ["one two", "three"]);
        assert_eq!(lines("incomprehensibly long", 7), ["incomprehensibly", "long"]);
        assert_eq!(lines("", 7), [""]);
    }
}
