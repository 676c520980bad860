//! A pipeline as a picture in text.
//!
//! A chain that fits is one line. A longer one goes down the page, one member per line with its
//! pipe below. A pipeline that branches lists the pipes that each member writes.

use std::fmt::Write;

use pipeprof_runner::discover::Level;
use pipeprof_runner::pipeline::{Member, MemberId, Pipe, Pipeline};

use crate::escape::printable;
use crate::words::layout::cut_with;
use crate::words::units::{bytes, share};

/// A chain longer than this goes down the page, however wide the page is.
const LINE_COLUMNS: usize = 110;

/// A picture keeps this much of a command line on the narrowest terminal.
const LEAST_COMMAND_COLUMNS: usize = 16;

/// What the reader's terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Columns; `None` where it is no terminal, so that nothing needs to be cut.
    pub columns: Option<usize>,
    /// Its locale is UTF-8; else the picture is drawn in ASCII.
    pub unicode: bool,
}

/// Draws a pipeline. `levels` has an entry for each pipe, in their order; a missing one is unknown.
///
/// Every line ends in a newline. Names and command lines are quoted as a shell would take them, with
/// control characters escaped.
pub fn picture(pipeline: &Pipeline, levels: &[Option<Level>], page: Page) -> String {
    let drawing =
        Drawing { pipeline, levels, page, glyphs: if page.unicode { &LINES } else { &ASCII } };
    if !drawing.is_chain() {
        return drawing.fitted(&drawing.branches());
    }
    let line = drawing.line();
    let fits = page.columns.unwrap_or(LINE_COLUMNS).min(LINE_COLUMNS);
    if line.chars().count() <= fits { line + "\n" } else { drawing.fitted(&drawing.down()) }
}

/// One process: its command line, cut to fit, and its pid.
pub fn label(member: &Member, page: Page) -> String {
    let pid = format!(" ({})", member.pid);
    let room = page
        .columns
        .map_or(usize::MAX, |columns| columns.saturating_sub(pid.len()).max(LEAST_COMMAND_COLUMNS));
    let glyphs = if page.unicode { &LINES } else { &ASCII };
    cut_with(&command(member), room, glyphs.cut) + &pid
}

/// A sentence for each member with connections that carry data and are not followed.
pub fn left_out(pipeline: &Pipeline, counts: &[(MemberId, u32)]) -> Vec<String> {
    let sentence = |&(id, count): &(MemberId, u32)| {
        let member = pipeline.member(id)?;
        let what = if count == 1 {
            "a connection with data that is not followed: one end also serves other clients"
        } else {
            "connections with data that are not followed: one end of each also serves other clients"
        };
        Some(format!("{} ({}) has {what}", member.comm, member.pid))
    };
    counts.iter().filter_map(sentence).collect()
}

struct Glyphs {
    dash: &'static str,
    arrow: &'static str,
    bar: &'static str,
    down: &'static str,
    branch: &'static str,
    last: &'static str,
    cut: &'static str,
}

const LINES: Glyphs =
    Glyphs {
        dash: "──", arrow: "──▶", bar: "│", down: "▼", branch: "├─", last: "└─", cut: "…"
    };

const ASCII: Glyphs =
    Glyphs { dash: "--", arrow: "-->", bar: "|", down: "v", branch: "|-", last: "`-", cut: "..." };

struct Drawing<'a> {
    pipeline: &'a Pipeline,
    levels: &'a [Option<Level>],
    page: Page,
    glyphs: &'static Glyphs,
}

impl Drawing<'_> {
    /// Each member writes only to the next one.
    fn is_chain(&self) -> bool {
        let Pipeline { members, pipes } = self.pipeline;
        pipes.len() + 1 == members.len()
            && pipes.iter().enumerate().all(|(at, pipe)| {
                pipe.writers == [members[at].id()] && pipe.readers == [members[at + 1].id()]
            })
    }

    fn fitted(&self, text: &str) -> String {
        let columns = self.page.columns.unwrap_or(usize::MAX);
        text.lines().map(|line| cut_with(line, columns, self.glyphs.cut) + "\n").collect()
    }

    fn line(&self) -> String {
        let members: Vec<String> = self
            .pipeline
            .members
            .iter()
            .map(|member| format!("{} ({})", command(member), member.pid))
            .collect();
        line(&members, &self.pipes(), self.glyphs)
    }

    fn down(&self) -> String {
        let members: Vec<String> =
            self.pipeline.members.iter().map(|member| label(member, self.page)).collect();
        down(&members, &self.pipes(), self.glyphs)
    }

    fn pipes(&self) -> Vec<String> {
        (0..self.pipeline.pipes.len()).map(|at| self.pipe(at)).collect()
    }

    fn branches(&self) -> String {
        let Pipeline { members, pipes } = self.pipeline;
        let mut text = String::new();
        for member in members {
            let _ = writeln!(text, "{}", label(member, self.page));
            let written: Vec<usize> =
                (0..pipes.len()).filter(|&at| pipes[at].writers.contains(&member.id())).collect();
            for (place, &at) in written.iter().enumerate() {
                let last = place + 1 == written.len();
                let branch = if last { self.glyphs.last } else { self.glyphs.branch };
                let readers: Vec<String> = pipes[at]
                    .readers
                    .iter()
                    .filter_map(|&reader| self.pipeline.member(reader))
                    .map(|reader| format!("{} ({})", printable(&reader.comm), reader.pid))
                    .collect();
                let pipe = self.pipe(at);
                let _ = writeln!(
                    text,
                    "  {branch} {pipe} {} {}",
                    self.glyphs.arrow,
                    readers.join(", ")
                );
            }
        }
        text
    }

    fn pipe(&self, at: usize) -> String {
        let name = name(&self.pipeline.pipes[at]);
        match self.levels.get(at).copied().flatten() {
            Some(of) => format!("{name} {}", level(of)),
            None => name,
        }
    }
}

fn line(members: &[String], pipes: &[String], glyphs: &Glyphs) -> String {
    let mut line = String::new();
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            let _ = write!(line, " {}{}{} ", glyphs.dash, pipes[at - 1], glyphs.arrow);
        }
        line.push_str(member);
    }
    line
}

fn down(members: &[String], pipes: &[String], glyphs: &Glyphs) -> String {
    let mut text = String::new();
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            let _ = writeln!(text, "  {} {}\n  {}", glyphs.bar, pipes[at - 1], glyphs.down);
        }
        let _ = writeln!(text, "{member}");
    }
    text
}

fn name(pipe: &Pipe) -> String {
    match &pipe.path {
        Some(path) => quote(&path.to_string_lossy()),
        None => pipe.name(),
    }
}

fn command(member: &Member) -> String {
    if member.command_line.is_empty() {
        // As ps shows what has no command line.
        return format!("[{}]", printable(&member.comm));
    }
    let quoted: Vec<String> = member.command_line.iter().map(|argument| quote(argument)).collect();
    quoted.join(" ")
}

/// An argument as it could be typed, but for what would move the cursor.
fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./,:=+@%^[]{}~".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return printable(argument).into_owned();
    }
    format!("'{}'", printable(&argument.replace('\'', r"'\''")))
}

/// `64 KiB, 93 % filled`: a level at one moment, not a share of time.
fn level(level: Level) -> String {
    let Level { capacity_bytes, fill_bytes } = level;
    format!("{}, {} filled", bytes(capacity_bytes as f64), share(fill_bytes, capacity_bytes))
}

#[cfg(test)]
mod tests {
    use pipeprof_runner::pipeline::Link;

    use super::*;

    const WIDE: Page = Page { columns: Some(200), unicode: true };

    fn member(pid: i32, command_line: &[&str]) -> Member {
        Member {
            pid,
            start_time_ticks: Some(1),
            comm: command_line[0].to_owned(),
            command_line: command_line.iter().map(|&argument| argument.to_owned()).collect(),
            end: None,
        }
    }

    /// Writers and readers by their places in the pictures below, where pids count up from 4121.
    fn pipe(inode: u64, writers: &[usize], readers: &[usize]) -> Pipe {
        let id = |place: usize| member(4121 + place as i32, &["x"]).id();
        Pipe {
            link: Link::Pipe,
            inode,
            device: 13,
            path: None,
            writers: writers.iter().copied().map(id).collect(),
            readers: readers.iter().copied().map(id).collect(),
            capacity_bytes: None,
        }
    }

    fn level(fill_bytes: u64) -> Option<Level> {
        Some(Level { capacity_bytes: 65536, fill_bytes })
    }

    fn chain() -> Pipeline {
        Pipeline {
            members: vec![
                member(4121, &["zcat", "big.gz"]),
                member(4122, &["sort"]),
                member(4123, &["uniq", "-c"]),
            ],
            pipes: vec![pipe(88121, &[0], &[1]), pipe(88124, &[1], &[2])],
        }
    }

    #[test]
    fn a_short_chain_is_one_line() {
        insta::assert_snapshot!(picture(&chain(), &[level(61000), None], WIDE), @"zcat big.gz (4121) ──pipe:[88121] 64 KiB, 93 % filled──▶ sort (4122) ──pipe:[88124]──▶ uniq -c (4123)");
    }

    #[test]
    fn a_long_chain_goes_down_the_page() {
        let page = Page { columns: Some(80), unicode: true };
        insta::assert_snapshot!(picture(&chain(), &[level(65536), level(0)], page), @r"
        zcat big.gz (4121)
          │ pipe:[88121] 64 KiB, 100 % filled
          ▼
        sort (4122)
          │ pipe:[88124] 64 KiB, 0 % filled
          ▼
        uniq -c (4123)
        ");
    }

    #[test]
    fn ascii_where_the_locale_has_nothing_else() {
        let page = Page { columns: Some(36), unicode: false };
        let mut pipeline = chain();
        pipeline.members[0] = member(4121, &["zcat", "a-file-with-a-long-name.gz"]);
        let text = picture(&pipeline, &[level(60000), level(6554)], page);
        insta::assert_snapshot!(text, @r"
        zcat a-file-with-a-long-na... (4121)
          | pipe:[88121] 64 KiB, 92 % filled
          v
        sort (4122)
          | pipe:[88124] 64 KiB, 10 % filled
          v
        uniq -c (4123)
        ");
        assert!(text.is_ascii());
    }

    #[test]
    fn branches_are_listed_under_who_writes_them() {
        let mut pipeline = chain();
        pipeline.members.push(member(4124, &["gzip"]));
        pipeline.members[1] = member(4122, &["tee", "/dev/fd/63"]);
        pipeline.pipes.push(pipe(88130, &[1, 2], &[3]));
        pipeline.pipes[2].path = Some("/tmp/a fifo".into());
        insta::assert_snapshot!(picture(&pipeline, &[level(0), level(4096), None], WIDE), @r"
        zcat big.gz (4121)
          └─ pipe:[88121] 64 KiB, 0 % filled ──▶ tee (4122)
        tee /dev/fd/63 (4122)
          ├─ pipe:[88124] 64 KiB, 6.2 % filled ──▶ uniq (4123)
          └─ '/tmp/a fifo' ──▶ gzip (4124)
        uniq -c (4123)
          └─ '/tmp/a fifo' ──▶ gzip (4124)
        gzip (4124)
        ");
    }

    #[test]
    fn sockets_are_links_with_a_name_of_their_own() {
        let mut pipeline = chain();
        pipeline.pipes[0].link = Link::Unix { sender: 9 };
        pipeline.pipes[1].link = Link::Tcp {
            sender: 9,
            from: ([127, 0, 0, 1], 4000).into(),
            to: ([127, 0, 0, 1], 5000).into(),
        };
        insta::assert_snapshot!(picture(&pipeline, &[None, None], WIDE), @"zcat big.gz (4121) ──unix:[88121]──▶ sort (4122) ──tcp:[88124]──▶ uniq -c (4123)");
        let counts = [(pipeline.members[1].id(), 2)];
        insta::assert_snapshot!(left_out(&pipeline, &counts)[0], @"sort (4122) has connections with data that are not followed: one end of each also serves other clients");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let mut pipeline = chain();
        pipeline.members[0] = member(4121, &["x\u{1b}[2J", "it's\n", "", "\u{202e}evil"]);
        pipeline.members[1].comm = "y\u{7}".to_owned();
        pipeline.members[1].command_line.clear();
        let text = picture(&pipeline, &[None, None], WIDE);
        insta::assert_snapshot!(text, @r"
        'x\u{1b}[2J' 'it'\''s\n' '' '\u{202e}evil' (4121)
          │ pipe:[88121]
          ▼
        [y\u{7}] (4122)
          │ pipe:[88124]
          ▼
        uniq -c (4123)
        ");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_pipeline_of_one() {
        let pipeline = Pipeline { members: vec![member(7, &["cc"])], pipes: Vec::new() };
        assert_eq!(picture(&pipeline, &[], WIDE), "cc (7)\n");
    }
}
