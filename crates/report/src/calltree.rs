//! The one call tree: stacks merged by what their frames are, weighed and ordered.
//!
//! Flame graphs, `--tree` and `diff` build it, each with weights of its own, and draw or print it.
//! `rows.rs` says which of its nodes a picture shows.

mod rows;

use std::cmp::Ordering;
use std::sync::Arc;

use pipeprof_profiler::profile::Mode;
use rustc_hash::FxHashMap;

use crate::ordered::OrderedSet;
use crate::roles::Role;

pub(crate) use rows::{Row, Shown};

/// What a node weighs.
pub(crate) trait Weight: Clone + Default {
    /// Adds another node's.
    fn add(&mut self, other: &Self);
}

impl Weight for u64 {
    fn add(&mut self, other: &Self) {
        *self += other;
    }
}

/// A function's name, interned in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(u32);

/// The names that the nodes of a tree refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(OrderedSet<Arc<str>>);

impl Names {
    pub(crate) fn intern(&mut self, name: &Arc<str>) -> Name {
        Name(self.0.insert_full(Arc::clone(name)).0 as u32)
    }

    pub(crate) fn get(&self, name: Name) -> &str {
        self.0.get_index(name.0 as usize).map_or("", |name| name)
    }
}

/// What a node stands for: nodes below one parent are merged where this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// All of the tree.
    Root,
    /// A member, or one side of it, by position.
    Tower(usize),
    /// A part of a tower, by position.
    Part(usize),
    /// A function, called in one place.
    Frame(Frame),
}

/// A function as a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frame {
    pub(crate) name: Name,
    pub(crate) mode: Mode,
    /// `None` where functions are merged whatever they do.
    pub(crate) role: Option<Role>,
    /// Position in the list of highlights.
    pub(crate) highlight: Option<u8>,
}

/// A node of a tree.
#[derive(Clone, Debug)]
pub(crate) struct Node<W> {
    pub(crate) key: Key,
    /// `None` of the root.
    pub(crate) parent: Option<usize>,
    pub(crate) children: Vec<usize>,
    /// By itself.
    pub(crate) own: W,
    /// With all that it calls; set by [`Tree::add_up`].
    pub(crate) total: W,
}

/// A call tree. Node 0 is the root, and parents come before their children.
#[derive(Clone, Debug)]
pub(crate) struct Tree<W> {
    pub(crate) nodes: Vec<Node<W>>,
    places: FxHashMap<(usize, Key), usize>,
}

impl<W: Weight> Default for Tree<W> {
    fn default() -> Self {
        Tree { nodes: vec![Node::new(Key::Root, None)], places: FxHashMap::default() }
    }
}

impl<W: Weight> Node<W> {
    fn new(key: Key, parent: Option<usize>) -> Self {
        Node { key, parent, children: Vec::new(), own: W::default(), total: W::default() }
    }
}

impl<W: Weight> Tree<W> {
    pub(crate) const ROOT: usize = 0;

    /// The child of a node that stands for this, new where there was none.
    pub(crate) fn child(&mut self, parent: usize, key: Key) -> usize {
        let next = self.nodes.len();
        let at = *self.places.entry((parent, key)).or_insert(next);
        if at == next {
            self.nodes.push(Node::new(key, Some(parent)));
            self.nodes[parent].children.push(at);
        }
        at
    }

    /// Sets the totals.
    pub(crate) fn add_up(&mut self) {
        for node in &mut self.nodes {
            node.total = node.own.clone();
        }
        // Children come after their parents, so from the end all of a node's are in its total.
        for at in (1..self.nodes.len()).rev() {
            let Some(parent) = self.nodes[at].parent else { continue };
            let (before, after) = self.nodes.split_at_mut(at);
            before[parent].total.add(&after[0].total);
        }
    }

    /// Orders the children of every node.
    pub(crate) fn sort(&mut self, by: impl Fn(&Node<W>, &Node<W>) -> Ordering) {
        for at in 0..self.nodes.len() {
            let mut children = std::mem::take(&mut self.nodes[at].children);
            children.sort_by(|&x, &y| by(&self.nodes[x], &self.nodes[y]));
            self.nodes[at].children = children;
        }
    }
}

/// The order of a flame graph: towers and parts by position, functions by name.
pub(crate) fn by_name<W>(names: &Names) -> impl Fn(&Node<W>, &Node<W>) -> Ordering {
    |x, y| match (x.key, y.key) {
        (Key::Frame(x), Key::Frame(y)) => names
            .get(x.name)
            .cmp(names.get(y.name))
            .then_with(|| (x.mode, x.role, x.highlight).cmp(&(y.mode, y.role, y.highlight))),
        (Key::Tower(x), Key::Tower(y)) | (Key::Part(x), Key::Part(y)) => x.cmp(&y),
        // What no stack accounts for has no key of its own: only one kind stands below a node.
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_with_a_common_beginning_share_its_nodes_and_their_weights_add_up() {
        let mut names = Names::default();
        let mut tree: Tree<u64> = Tree::default();
        for (stack, weight) in [("main;read", 3), ("main;write;copy", 4), ("main", 1)] {
            let mut at = Tree::<u64>::ROOT;
            for name in stack.split(';') {
                let name = names.intern(&Arc::from(name));
                let frame = Frame { name, mode: Mode::User, role: None, highlight: None };
                at = tree.child(at, Key::Frame(frame));
            }
            tree.nodes[at].own += weight;
        }
        tree.add_up();
        tree.sort(|x, y| y.total.cmp(&x.total));
        let [main] = tree.nodes[Tree::<u64>::ROOT].children[..] else { panic!("{tree:?}") };
        assert_eq!((tree.nodes[main].own, tree.nodes[main].total), (1, 8));
        let totals: Vec<u64> =
            tree.nodes[main].children.iter().map(|&child| tree.nodes[child].total).collect();
        assert_eq!(totals, [4, 3]);
    }
}
