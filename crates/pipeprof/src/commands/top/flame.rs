//! A flame graph in the terminal: what `pipeprof flame --folded -` prints, as rows of boxes, the
//! outermost caller at the top.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use pipeprof_report::escape::printable;

use super::look::Look;

/// Profiles for five seconds, then draws.
pub(super) fn show(mut program: Command, pid: i32, look: Look) -> io::Result<()> {
    let arguments = ["flame", "--duration", "5s", "--folded", "-", "-o", "/dev/null", "--pid"];
    let output = program
        .args(arguments)
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let (width, height) = ratatui::crossterm::terminal::size().unwrap_or((80, 24));
    let folded = String::from_utf8_lossy(&output.stdout);
    let rows = rows(&folded, usize::from(width), usize::from(height.saturating_sub(4)));
    let mut out = io::stdout().lock();
    for row in rows {
        writeln!(out, "{}", row_text(&row, look))?;
    }
    out.flush()
}

/// A function, or several of one name, and how wide.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    from: usize,
    columns: usize,
    name: String,
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    weight: u64,
    callees: Vec<Node>,
}

impl Node {
    fn add(&mut self, mut frames: std::str::Split<char>, weight: u64) {
        self.weight += weight;
        let Some(name) = frames.next() else { return };
        let at = self.callees.iter().position(|callee| callee.name == name);
        let at = at.unwrap_or_else(|| {
            self.callees.push(Node { name: name.to_owned(), ..Node::default() });
            self.callees.len() - 1
        });
        self.callees[at].add(frames, weight);
    }
}

fn rows(folded: &str, width: usize, most: usize) -> Vec<Vec<Cell>> {
    let mut root = Node::default();
    for line in folded.lines() {
        let Some((stack, weight)) = line.rsplit_once(' ') else { continue };
        let Ok(weight) = weight.parse() else { continue };
        root.add(stack.split(';'), weight);
    }
    let mut rows = Vec::new();
    let mut level = vec![(&root, 0.0)];
    while rows.len() < most {
        let mut next = Vec::new();
        let mut row = Vec::new();
        for (node, from) in level {
            let mut at = from;
            let mut callees: Vec<&Node> = node.callees.iter().collect();
            callees.sort_by_key(|callee| std::cmp::Reverse(callee.weight));
            for callee in callees {
                let share = callee.weight as f64 / root.weight.max(1) as f64 * width as f64;
                let (first, last) = (at as usize, (at + share) as usize);
                if last > first {
                    let name = callee.name.clone();
                    row.push(Cell { from: first, columns: last - first, name });
                    next.push((callee, at));
                }
                at += share;
            }
        }
        if row.is_empty() {
            break;
        }
        rows.push(row);
        level = next;
    }
    rows
}

fn row_text(row: &[Cell], look: Look) -> String {
    let mut text = String::new();
    let mut at = 0;
    for cell in row {
        text += &" ".repeat(cell.from.saturating_sub(at));
        let name: String =
            printable(&cell.name).chars().take(cell.columns.saturating_sub(1)).collect();
        let boxed = format!("{name:<width$}", width = cell.columns.saturating_sub(1));
        match look.colour {
            true => text += &format!("\u{1b}[7m{boxed}\u{1b}[0m "),
            false => text += &format!("{boxed}|"),
        }
        at = cell.from + cell.columns;
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_stand_below_their_callers() {
        let rows = rows("m;a;b 30\nm;a 10\nm;c 40\nnoise\n", 8, 10);
        let cell = |from, columns, name: &str| Cell { from, columns, name: name.into() };
        assert_eq!(
            rows,
            [vec![cell(0, 8, "m")], vec![cell(0, 4, "a"), cell(4, 4, "c")], vec![cell(0, 3, "b")]]
        );
        let look = Look { colour: false, unicode: true };
        assert_eq!(row_text(&rows[1], look), "a  |c  |");
        assert_eq!(row_text(&rows[2], look), "b |");
    }

    #[test]
    fn nothing_sampled_is_nothing_drawn() {
        assert_eq!(rows("", 80, 20), Vec::<Vec<Cell>>::new());
    }
}
