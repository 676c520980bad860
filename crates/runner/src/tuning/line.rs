//! Other versions of a shell line: a member with another number of threads, or a buffer in a gap that
//! the user marked.
//!
//! The line is split into words as a shell does, as far as it takes to tell the first word of each
//! command from arguments, and what is quoted from what is not. Where that is not certain (a here
//! document), there is no other version.

use std::ops::Range;

/// A command line like another one but for one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What is different, in a few words: `zstd -T2`.
    pub what: String,
    /// The whole line.
    pub line: String,
}

/// The mark of a gap: a command of its own between two pipes, `A | @ | B`. No shell knows a command
/// of this name, so that a marked line never runs unnoticed.
pub const MARK: &str = "@";

/// A program that takes a number of threads, and how.
struct Threaded {
    names: &'static [&'static str],
    /// The flag before the number.
    flag: &'static str,
    /// Other ways to say it, which would win over ours.
    also: &'static [&'static str],
    /// With one of these options it uses one thread in any case.
    single: &'static [&'static str],
}

/// zstd(1), xz(1), pigz(1), pbzip2(1) and sort(1) of coreutils.
const THREADED: [Threaded; 5] = [
    Threaded {
        names: &["zstd", "zstdmt"],
        flag: "-T",
        also: &["--threads=", "--single-thread"],
        single: &["-d", "-dc", "-cd", "--decompress", "-t", "--test", "--single-thread"],
    },
    Threaded {
        names: &["xz"],
        flag: "-T",
        also: &["--threads="],
        single: &["-d", "-dc", "-cd", "--decompress", "-t", "--test"],
    },
    Threaded {
        names: &["pigz"],
        flag: "-p",
        also: &["--processes"],
        single: &["-d", "-dc", "-cd", "--decompress", "-t", "--test"],
    },
    Threaded { names: &["pbzip2"], flag: "-p", also: &[], single: &[] },
    Threaded { names: &["sort"], flag: "--parallel=", also: &[], single: &[] },
];

/// The line with other numbers of threads, 1 and as many as there are CPUs, for each member that is
/// known to take one.
pub fn with_other_threads(line: &str, cpus: usize) -> Vec<Variant> {
    let Some(commands) = commands(line) else { return Vec::new() };
    let mut variants = Vec::new();
    for command in &commands {
        let Some((program, arguments)) = command.split_first() else { continue };
        let name = program.text.rsplit('/').next().unwrap_or_default();
        let Some(threaded) = THREADED.iter().find(|known| known.names.contains(&name)) else {
            continue;
        };
        if arguments.iter().any(|word| threaded.single.contains(&word.text.as_str())) {
            continue;
        }
        let said = arguments.iter().position(|word| {
            word.text.starts_with(threaded.flag)
                || threaded.also.iter().any(|also| word.text.starts_with(also))
        });
        // A number in a word of its own, or a flag of several letters: better left alone.
        let is_plain = |word: &Word| {
            let rest = word.text.strip_prefix(threaded.flag);
            rest.is_some_and(|rest| rest.parse::<usize>().is_ok())
        };
        if said.is_some_and(|at| !is_plain(&arguments[at])) {
            continue;
        }
        let mut counts = vec![1, cpus];
        counts.dedup();
        for count in counts {
            let flag = format!("{}{count}", threaded.flag);
            let mut other = line.to_owned();
            match said.map(|at| &arguments[at]) {
                Some(word) if word.text == flag => continue,
                Some(word) => other.replace_range(word.at.clone(), &flag),
                None => other.insert_str(program.at.end, &format!(" {flag}")),
            }
            variants.push(Variant { what: format!("{name} {flag}"), line: other });
        }
    }
    variants
}

/// The line without its mark, and with `command` in the place of it. `None` where it has none.
///
/// # Errors
/// It has more than one, or one that is not between two pipes.
pub fn with_buffer(line: &str, command: &str) -> Result<Option<(String, String)>, &'static str> {
    let Some(commands) = commands(line) else { return Ok(None) };
    let marks: Vec<&Word> = commands
        .iter()
        .filter_map(|command| command.first().filter(|word| word.raw == MARK && command.len() == 1))
        .collect();
    let mark = match marks[..] {
        [] => return Ok(None),
        [mark] => mark.at.clone(),
        _ => return Err("the line has more than one gap: mark one with @"),
    };
    let (before, after) = (line[..mark.start].trim_end(), line[mark.end..].trim_start());
    // `||` and `|&` are no pipe, or not only one.
    let opens = before.ends_with('|') && !before.ends_with("||");
    let closes = after.starts_with('|') && !after.starts_with("||") && !after.starts_with("|&");
    if !opens || !closes {
        return Err("a gap stands between two pipes: A | @ | B");
    }
    let without = format!("{}{after}", &before[..before.len() - 1]);
    let with = format!("{}{command}{}", &line[..mark.start], &line[mark.end..]);
    Ok(Some((without, with)))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    at: Range<usize>,
    /// As it stands.
    raw: String,
    /// Without its quotes.
    text: String,
}

/// Words before which a command may begin.
const BEFORE_COMMAND: [&str; 12] =
    ["!", "{", "if", "then", "else", "elif", "do", "while", "until", "time", "exec", "nohup"];

/// The words of each command, its own first. `None` where the line is better left alone.
fn commands(line: &str) -> Option<Vec<Vec<Word>>> {
    let mut found: Vec<Vec<Word>> = Vec::new();
    let mut is_first = true;
    let mut is_target = false;
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        match c {
            '\n' | ';' | '&' | '|' | '(' => {
                (is_first, is_target) = (true, false);
                at += 1;
            }
            ')' => {
                is_first = false;
                at += 1;
            }
            c if c.is_whitespace() => at += c.len_utf8(),
            '#' => at += line[at..].find('\n').unwrap_or(line.len() - at),
            '<' | '>' => {
                let rest = &line[at..];
                if rest.starts_with("<<") {
                    return None;
                }
                at += 1;
                if line[at..].starts_with('(') {
                    continue;
                }
                at += line[at..].len() - line[at..].trim_start_matches(['>', '&', '|']).len();
                is_target = true;
            }
            _ => {
                let word = word(line, at)?;
                at = word.at.end;
                let is_number = word.raw.bytes().all(|byte| byte.is_ascii_digit());
                if is_number && line[at..].starts_with(['<', '>']) {
                    continue;
                }
                if std::mem::take(&mut is_target) {
                    continue;
                }
                let is_assignment = word.raw.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                });
                if is_first && (is_assignment || BEFORE_COMMAND.contains(&word.raw.as_str())) {
                    continue;
                }
                match found.last_mut() {
                    Some(command) if !is_first => command.push(word),
                    _ => found.push(vec![word]),
                }
                is_first = false;
            }
        }
    }
    Some(found)
}

/// The word that begins here. `None` where a quote does not end.
fn word(line: &str, start: usize) -> Option<Word> {
    let mut text = String::new();
    let mut at = start;
    while let Some(c) = line[at..].chars().next() {
        let rest = &line[at + c.len_utf8()..];
        match c {
            c if c.is_whitespace() || ";&|()<>".contains(c) => break,
            '\'' => {
                let length = rest.find('\'')?;
                text += &rest[..length];
                at += length + 2;
            }
            '"' => {
                let length = quoted(rest)?;
                text += &rest[..length];
                at += length + 2;
            }
            '\\' => {
                let escaped = rest.chars().next()?;
                text.push(escaped);
                at += 1 + escaped.len_utf8();
            }
            '`' => {
                let length = rest.find('`')?;
                text += &line[at..at + length + 2];
                at += length + 2;
            }
            '$' if rest.starts_with(['(', '{']) => {
                let length = balanced(rest)?;
                text += &line[at..=at + length];
                at += 1 + length;
            }
            c => {
                text.push(c);
                at += c.len_utf8();
            }
        }
    }
    Some(Word { at: start..at, raw: line[start..at].to_owned(), text })
}

/// How long what stands before the closing `"` is.
fn quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at),
            '$' if text[at + 1..].starts_with(['(', '{']) => {
                at += 1 + balanced(&text[at + 1..])?;
                continue;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    None
}

/// How long a text in parentheses or braces is, with both.
fn balanced(text: &str) -> Option<usize> {
    let mut depth = 0_i32;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at + c.len_utf8()..];
        match c {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            '\\' => at += rest.chars().next()?.len_utf8(),
            '\'' => at += rest.find('\'')? + 1,
            '"' => at += quoted(rest)? + 1,
            _ => {}
        }
        at += c.len_utf8();
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(line: &str) -> Vec<String> {
        commands(line).unwrap().into_iter().map(|command| command[0].text.clone()).collect()
    }

    #[test]
    fn the_first_word_of_each_command_is_told_from_arguments() {
        for (line, expected) in [
            ("a | b -x c|d", vec!["a", "b", "d"]),
            ("X=1 a 'b | c' \"d | e\" f\\|g | h", vec!["a", "h"]),
            ("for i in 1; do zstd < in >out 2>&1; done", vec!["for", "zstd", "done"]),
            ("a > zstd | b", vec!["a", "b"]),
            ("(a; b && c) | d # | e", vec!["a", "b", "c", "d"]),
            ("a $(x | y) \"$(z \"w | v\")\" | b", vec!["a", "b"]),
            ("a <(b | c) >(d)", vec!["a", "b", "c", "d"]),
            ("! time /usr/bin/zstd -3\nb", vec!["/usr/bin/zstd", "b"]),
            ("ä 'ö' | ü", vec!["ä", "ü"]),
        ] {
            assert_eq!(firsts(line), expected, "{line}");
        }
        for line in ["cat <<END | b\nx | y\nEND", "a 'b", "a \"b", "a $(b", "a `b", "a \\"] {
            assert_eq!(commands(line), None, "{line}");
        }
    }

    #[test]
    fn threads_are_asked_for_where_a_member_takes_a_number_of_them() {
        let lines = |line: &str| -> Vec<String> {
            with_other_threads(line, 4).into_iter().map(|variant| variant.line).collect()
        };
        assert_eq!(lines("a | zstd -3 | b"), ["a | zstd -T1 -3 | b", "a | zstd -T4 -3 | b"]);
        assert_eq!(lines("xz -T1 x"), ["xz -T4 x"]);
        assert_eq!(
            lines("a|'/bin/sort' -u"),
            ["a|'/bin/sort' --parallel=1 -u", "a|'/bin/sort' --parallel=4 -u"]
        );
        // Decompression takes one thread; a word in quotes or behind another command is none.
        for line in [
            "zstd -dc x | a",
            "echo zstd | a",
            "a '| zstd'",
            "grep sort x",
            "pigz -p 3 x",
            "zstd --threads=2 x",
        ] {
            assert_eq!(lines(line), Vec::<String>::new(), "{line}");
        }
        assert_eq!(with_other_threads("zstd", 1).len(), 1);
        assert_eq!(with_other_threads("zstd", 2)[1].what, "zstd -T2");
    }

    #[test]
    fn a_gap_is_marked_by_a_command_of_its_own() {
        let of = |line| with_buffer(line, "BUF");
        let both = |a: &str, b: &str| Ok(Some((a.to_owned(), b.to_owned())));
        assert_eq!(of("a | @ | b"), both("a | b", "a | BUF | b"));
        assert_eq!(of("a|@|b | c"), both("a|b | c", "a|BUF|b | c"));
        for line in ["a | b", "a '@' | b", "a @ | b", "a | '@' | b", "a | @x | b", "a | @ x | b"] {
            assert_eq!(of(line), Ok(None), "{line}");
        }
        for line in ["@ | b", "a | @", "a || @ | b", "a | @ || b", "a | @ | @ | b", "a; @ | b"] {
            assert!(of(line).is_err(), "{line}");
        }
    }
}
