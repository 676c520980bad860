//! Which nodes of a tree a picture shows, and which ones it folds into one row.
//!
//! Nodes too narrow to be seen are left out. A run of user frames that each call only the next one
//! (the start of a program in Rust, Python or Java) is one row, which the viewer can open.

use pipeprof_profiler::profile::Mode;

use super::{Frame, Key, Node, Tree, Weight};

/// A shorter run is drawn as it is.
const SHORTEST_CHAIN: usize = 3;
/// A frame of a chain has at least this share of its first.
const AS_WIDE: f64 = 0.95;

/// What to show of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    /// The least share of the whole that is still drawn.
    pub(crate) least: f64,
    /// Chains are folded.
    pub(crate) collapse: bool,
    /// Towers are lifted so that the frames at which they begin to branch are at one height.
    pub(crate) level: bool,
}

/// One box of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The nodes that it stands for, the caller first: one, but for a chain. None lifts what stands
    /// on it.
    pub(crate) nodes: Vec<usize>,
    /// Position of the row that it stands on; smaller than its own.
    pub(crate) parent: Option<usize>,
    /// As wide as this.
    pub(crate) weight: u64,
    /// Of which by itself, or too narrow to be drawn.
    pub(crate) own: u64,
}

impl<W: Weight> Tree<W> {
    /// The rows of a picture, parents before what stands on them, from left to right.
    pub(crate) fn rows(&self, shown: Shown, weight: impl Fn(&W) -> u64) -> Vec<Row> {
        let whole = weight(&self.nodes[Self::ROOT].total);
        let least = ((shown.least * whole as f64).ceil() as u64).max(1);
        let laying = Laying { tree: self, shown, least, weight: &weight };
        let lift = laying.lifts();
        let mut rows: Vec<Row> = Vec::new();
        let mut left = vec![(Self::ROOT, None)];
        while let Some((at, parent)) = left.pop() {
            let nodes = laying.chain(at);
            let top = nodes.last().copied().unwrap_or(at);
            let weight = laying.weight(at);
            let children = laying.children(top);
            let above: u64 = children.iter().map(|&child| laying.weight(child)).sum();
            rows.push(Row { nodes, parent, weight, own: weight.saturating_sub(above) });
            let lifted = lift.iter().find(|(tower, _)| *tower == at && above > 0);
            for _ in 0..lifted.map_or(0, |(_, by)| *by) {
                let on = Some(rows.len() - 1);
                rows.push(Row { nodes: Vec::new(), parent: on, weight: above, own: 0 });
            }
            let on = rows.len() - 1;
            left.extend(children.into_iter().rev().map(|child| (child, Some(on))));
        }
        rows
    }
}

struct Laying<'a, W, F> {
    tree: &'a Tree<W>,
    shown: Shown,
    least: u64,
    weight: &'a F,
}

impl<W: Weight, F: Fn(&W) -> u64> Laying<'_, W, F> {
    fn weight(&self, at: usize) -> u64 {
        (self.weight)(&self.tree.nodes[at].total)
    }

    /// The children that are drawn.
    fn children(&self, at: usize) -> Vec<usize> {
        let children = &self.tree.nodes[at].children;
        children.iter().copied().filter(|&child| self.weight(child) >= self.least).collect()
    }

    /// The node, and those of its chain above it.
    fn chain(&self, at: usize) -> Vec<usize> {
        let mut nodes = vec![at];
        if self.shown.collapse && is_plain(&self.tree.nodes[at]) {
            let mut top = at;
            while let [child] = self.children(top)[..] {
                // The viewer draws all frames of a chain as wide as its first.
                let is_as_wide = self.weight(child) as f64 >= AS_WIDE * self.weight(at) as f64;
                if !is_plain(&self.tree.nodes[child]) || !is_as_wide {
                    break;
                }
                nodes.push(child);
                top = child;
            }
            if nodes.len() < SHORTEST_CHAIN {
                nodes.truncate(1);
            }
        }
        nodes
    }

    /// By how many rows each tower is lifted.
    fn lifts(&self) -> Vec<(usize, usize)> {
        if !self.shown.level {
            return Vec::new();
        }
        let runs: Vec<(usize, usize)> =
            self.children(Tree::<W>::ROOT).iter().map(|&tower| (tower, self.run(tower))).collect();
        let longest = runs.iter().map(|(_, run)| *run).max().unwrap_or(0);
        runs.into_iter().map(|(tower, run)| (tower, longest - run)).collect()
    }

    /// Rows of user code that stand on a tower before it branches or enters the kernel.
    fn run(&self, tower: usize) -> usize {
        let mut rows = 0;
        let mut at = tower;
        loop {
            // Few samples of a program's start or end are no branch.
            let widest = self.children(at).into_iter().max_by_key(|&child| self.weight(child));
            let Some(child) = widest.filter(|&child| {
                is_plain(&self.tree.nodes[child]) && self.weight(child) * 2 > self.weight(tower)
            }) else {
                return rows;
            };
            rows += 1;
            at = self.chain(child).last().copied().unwrap_or(child);
        }
    }
}

/// User code that is not highlighted.
fn is_plain<W>(node: &Node<W>) -> bool {
    matches!(node.key, Key::Frame(Frame { mode: Mode::User, highlight: None, .. }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Names;
    use super::*;

    /// From folded stacks; names in capitals are kernel code, `a!` is highlighted.
    fn tree(names: &mut Names, stacks: &[(usize, &str, u64)]) -> Tree<u64> {
        let mut tree = Tree::default();
        for (tower, stack, weight) in stacks {
            let mut at = tree.child(Tree::<u64>::ROOT, Key::Tower(*tower));
            for name in stack.split(';') {
                let is_kernel = name.starts_with(|c: char| c.is_uppercase());
                let frame = Frame {
                    name: names.intern(&Arc::from(name)),
                    mode: if is_kernel { Mode::Kernel } else { Mode::User },
                    role: None,
                    highlight: name.ends_with('!').then_some(0),
                };
                at = tree.child(at, Key::Frame(frame));
            }
            tree.nodes[at].own += weight;
        }
        tree.add_up();
        tree
    }

    /// `depth:names=weight`, a word a row.
    fn shown(stacks: &[(usize, &str, u64)], shown: Shown) -> String {
        let mut names = Names::default();
        let tree = tree(&mut names, stacks);
        let rows = tree.rows(shown, |weight| *weight);
        let mut depths: Vec<usize> = Vec::new();
        let mut words = Vec::new();
        for row in &rows {
            depths.push(row.parent.map_or(0, |parent| depths[parent] + 1));
            let of = |&node: &usize| match tree.nodes[node].key {
                Key::Frame(frame) => names.get(frame.name).to_owned(),
                Key::Tower(tower) => format!("#{tower}"),
                _ => "all".to_owned(),
            };
            let nodes: Vec<String> = row.nodes.iter().map(of).collect();
            words.push(format!("{}:{}={}", depths[depths.len() - 1], nodes.join("+"), row.weight));
        }
        // Widths are what stands above and what is the row's own.
        for (at, row) in rows.iter().enumerate() {
            let above = rows.iter().filter(|other| other.parent == Some(at));
            assert_eq!(above.map(|row| row.weight).sum::<u64>() + row.own, row.weight, "{rows:?}");
        }
        words.join(" ")
    }

    const ALL: Shown = Shown { least: 0.0, collapse: false, level: false };
    const FOLDED: Shown = Shown { least: 0.01, collapse: true, level: false };

    #[test]
    fn a_run_of_user_frames_is_one_row_and_what_branches_is_not() {
        let stacks = [(0, "start;main;run;WRITE;COPY", 60), (0, "start;main;run;READ", 40)];
        assert_eq!(
            shown(&stacks, FOLDED),
            "0:all=100 1:#0=100 2:start+main+run=100 3:WRITE=60 4:COPY=60 3:READ=40"
        );
        assert_eq!(
            shown(&stacks, ALL),
            "0:all=100 1:#0=100 2:start=100 3:main=100 4:run=100 5:WRITE=60 6:COPY=60 5:READ=40"
        );
        let short = [(0, "start;main;WRITE", 10)];
        assert_eq!(shown(&short, FOLDED), "0:all=10 1:#0=10 2:start=10 3:main=10 4:WRITE=10");
        let marked = [(0, "start;main;run!;loop;WRITE", 10)];
        assert_eq!(
            shown(&marked, FOLDED),
            "0:all=10 1:#0=10 2:start=10 3:main=10 4:run!=10 5:loop=10 6:WRITE=10"
        );
    }

    #[test]
    fn time_of_its_own_ends_a_chain() {
        let stacks = [(0, "a;b", 20), (0, "a;b;c;d;e", 80)];
        assert_eq!(shown(&stacks, FOLDED), "0:all=100 1:#0=100 2:a=100 3:b=100 4:c+d+e=80");
    }

    #[test]
    fn what_is_too_narrow_is_left_out_of_the_rows_and_stays_in_the_widths() {
        let stacks = [(0, "a;b", 996), (0, "c", 4)];
        assert_eq!(shown(&stacks, FOLDED), "0:all=1000 1:#0=1000 2:a=996 3:b=996");
    }

    #[test]
    fn two_towers_reach_the_kernel_at_one_height() {
        let stacks = [(0, "start;main;WRITE", 50), (1, "start;main;run;loop;READ", 50)];
        let level = Shown { level: true, ..ALL };
        assert_eq!(
            shown(&stacks, level),
            "0:all=100 1:#0=50 2:=50 3:=50 4:start=50 5:main=50 6:WRITE=50 1:#1=50 2:start=50 \
             3:main=50 4:run=50 5:loop=50 6:READ=50"
        );
        let level = Shown { level: true, ..FOLDED };
        assert!(shown(&stacks, level).contains("1:#0=50 2:start=50 3:main=50 4:WRITE=50"));
        assert!(shown(&stacks, level).contains("1:#1=50 2:=50 3:start+main+run+loop=50 4:READ=50"));
    }
}
