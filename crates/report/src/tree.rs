//! The call tree at one function: its callees, as `perf report -g --symbol-filter=FUNC` draws them,
//! or its callers.

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::{FrameId, FrameKind, MemberProfile, Profile};
use rustc_hash::FxHashMap;

use crate::calltree::{Frame, Key, Names, Tree, Weight, by_name};
use crate::error::Error;
use crate::escape::printable;
use crate::flamegraph::{View, member_label, members};
use crate::highlight::Highlights;
use crate::roles::source_name;
use crate::run::Run;
use crate::words::units::share;

/// Which part of the tree to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Branches with less than this share of the member's weight are left out; perf's default.
    pub percent: f64,
    /// Who called the function, rather than what it called.
    pub callers: bool,
    /// Pids of the members to show; empty for all.
    pub only: Vec<i32>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { percent: 0.5, callers: false, only: Vec::new() }
    }
}

/// Draws, for every member that called it, what the function called, or who called it.
///
/// The function goes by its exact name, its source name, or the name that the article knows it by.
/// Percentages are of the member's weight. A call that is all of its caller stands below it without
/// one, as in perf.
///
/// # Errors
///
/// [`Error::NoSuchFunction`] where no stack in view holds it, [`Error::Write`] where `out` fails.
pub fn render(
    run: &Run,
    highlights: &Highlights,
    function: &str,
    limits: Limits,
    view: View,
    mut out: impl Write,
) -> Result<(), Error> {
    let profile = &run.profile;
    let known = highlights.list().iter().find(|highlight| highlight.classic == function);
    let is_it: Vec<bool> = profile
        .frames()
        .iter()
        .map(|frame| {
            *frame.name == *function
                || (frame.kind != FrameKind::Unresolved && source_name(&frame.name) == function)
                || known.is_some_and(|highlight| highlight.matches(frame))
        })
        .collect();

    let mut names = Names::default();
    let of_frame: Vec<Key> = profile
        .frames()
        .iter()
        .map(|frame| {
            let (name, mode) = (names.intern(&frame.name), frame.mode);
            Key::Frame(Frame { name, mode, role: None, highlight: None })
        })
        .collect();
    let mut text = String::new();
    for (_, member) in members(run, view) {
        if !limits.only.is_empty() && !limits.only.contains(&member.pid) {
            continue;
        }
        let mut tree: Tree<Calls> = Tree::default();
        for weight in member.on_cpu.iter().filter(|w| w.weight > 0) {
            let stack = profile.stack(weight.stack);
            // Recursion is counted once: below the call nearest the root, or above that nearest the
            // leaf.
            let is_it = |frame: &FrameId| is_it[frame.index()];
            let found = match limits.callers {
                false => stack.iter().rposition(is_it),
                true => stack.iter().position(is_it),
            };
            let Some(found) = found else { continue };
            let mut at = tree.child(Tree::<Calls>::ROOT, of_frame[stack[found].index()]);
            if found == 0 {
                tree.nodes[at].own.itself += weight.weight;
            }
            let mut inward = stack[..found].iter().rev();
            let mut outward = stack[found + 1..].iter();
            let path: &mut dyn Iterator<Item = &FrameId> =
                if limits.callers { &mut outward } else { &mut inward };
            for frame in path {
                at = tree.child(at, of_frame[frame.index()]);
            }
            tree.nodes[at].own.weight += weight.weight;
        }
        tree.add_up();
        let by_name = by_name(&names);
        tree.sort(|x, y| y.total.weight.cmp(&x.total.weight).then_with(|| by_name(x, y)));
        let mut drawing =
            Drawing { names: &names, tree: &tree, whole: member.weight(), limits: &limits, text };
        for &root in &tree.nodes[Tree::<Calls>::ROOT].children {
            drawing.root(root, member, highlights, profile);
        }
        text = drawing.text;
    }
    if text.is_empty() {
        return Err(Error::NoSuchFunction { name: function.into(), near: near(profile, function) });
    }
    let what = if limits.callers { "Symbol, and who called it" } else { "Symbol" };
    writeln!(out, "  Children     Self  Member  {what}")?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// What a function was sampled with.
#[derive(Clone, Copy, Default)]
struct Calls {
    weight: u64,
    /// Of the function that was asked for, without what it called.
    itself: u64,
}

impl Weight for Calls {
    fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.itself += other.itself;
    }
}

/// The tree of a member, being written.
struct Drawing<'a> {
    names: &'a Names,
    tree: &'a Tree<Calls>,
    whole: u64,
    limits: &'a Limits,
    text: String,
}

impl Drawing<'_> {
    fn name(&self, at: usize) -> &str {
        match self.tree.nodes[at].key {
            Key::Frame(frame) => self.names.get(frame.name),
            _ => "",
        }
    }

    fn root(
        &mut self,
        root: usize,
        member: &MemberProfile,
        highlights: &Highlights,
        profile: &Profile,
    ) {
        let name = self.name(root).to_owned();
        let frame = profile.frames().iter().find(|frame| *frame.name == *name);
        let known_as = frame
            .and_then(|frame| highlights.list().iter().find(|h| h.matches(frame)))
            .map(|highlight| highlight.classic.as_str())
            .filter(|classic| *classic != name);
        let shown = printable(&name);
        let node = &self.tree.nodes[root];
        let sign = if node.children.is_empty() { ' ' } else { '-' };
        let of_all = share(node.total.weight, self.whole);
        let itself = share(node.own.itself, self.whole);
        let who = member_label(member);
        let _ = write!(self.text, "{sign} {of_all:>8} {itself:>8}  {who}  {shown}");
        if let Some(classic) = known_as {
            let _ = write!(self.text, " ({})", printable(classic));
        }
        let _ = write!(self.text, "\n   {sign} {of_all} {shown}\n");
        self.children(root, 6);
    }

    /// The children of a node that are worth a line.
    fn shown(&self, at: usize) -> Vec<usize> {
        let least = self.limits.percent / 100.0 * self.whole as f64;
        let is_shown = |&child: &usize| self.tree.nodes[child].total.weight as f64 >= least;
        self.tree.nodes[at].children.iter().copied().filter(is_shown).collect()
    }

    fn children(&mut self, at: usize, indent: usize) {
        for child in self.shown(at) {
            let weight = self.tree.nodes[child].total.weight;
            let name = printable(self.name(child)).into_owned();
            if weight == self.tree.nodes[at].total.weight {
                let _ = writeln!(self.text, "{:indent$}  {name}", "", indent = indent - 3);
                self.children(child, indent);
                continue;
            }
            let sign = if self.shown(child).is_empty() { ' ' } else { '-' };
            let of_all = share(weight, self.whole);
            let _ = writeln!(self.text, "{:indent$}{sign} {of_all} {name}", "");
            self.children(child, indent + 3);
        }
    }
}

/// Sampled functions whose name holds what was asked for, or the other way round.
fn near(profile: &Profile, function: &str) -> Vec<String> {
    let wanted = function.trim_matches('_');
    let stem = wanted.rsplit('_').next().filter(|stem| stem.len() > 3).unwrap_or(wanted);
    let mut weights: FxHashMap<&str, u64> = FxHashMap::default();
    for member in &profile.members {
        for weight in &member.on_cpu {
            for frame in profile.stack_frames(weight.stack) {
                if !wanted.is_empty() && (frame.name.contains(wanted) || frame.name.contains(stem))
                {
                    *weights.entry(&*frame.name).or_default() += weight.weight;
                }
            }
        }
    }
    let mut names: Vec<(&str, u64)> = weights.into_iter().collect();
    names.sort_by(|a, b| {
        (b.0.contains(wanted), b.1).cmp(&(a.0.contains(wanted), a.1)).then(a.0.cmp(b.0))
    });
    names.into_iter().take(5).map(|(name, _)| printable(name).into_owned()).collect()
}
