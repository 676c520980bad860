//! The call tree at one function: what it called, as `perf report -g --symbol-filter=FUNC` draws
//! it, or who called it.

use std::fmt::Write as _;
use std::io::Write;

use pipeprof_profiler::profile::{FrameId, FrameKind, MemberProfile, Profile};
use rustc_hash::FxHashMap;

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

#[derive(Default)]
struct Node<'a> {
    weight: u64,
    children: FxHashMap<&'a str, Node<'a>>,
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

    let mut text = String::new();
    for (_, member) in members(run, view) {
        if !limits.only.is_empty() && !limits.only.contains(&member.pid) {
            continue;
        }
        let mut roots: Vec<(&str, Node<'_>, u64)> = Vec::new();
        for weight in member.on_cpu.iter().filter(|w| w.weight > 0) {
            let stack = profile.stack(weight.stack);
            // Recursion is counted once: below the call nearest the root, or above that nearest the
            // leaf.
            let is_it = |frame: &FrameId| is_it[frame.index()];
            let found = match limits.callers {
                false => stack.iter().rposition(is_it),
                true => stack.iter().position(is_it),
            };
            let Some(at) = found else { continue };
            let name = &*profile.frame(stack[at]).name;
            let index = roots.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
                roots.push((name, Node::default(), 0));
                roots.len() - 1
            });
            let (_, root, itself) = &mut roots[index];
            root.weight += weight.weight;
            if at == 0 {
                *itself += weight.weight;
            }
            let mut node = root;
            let mut inward = stack[..at].iter().rev();
            let mut outward = stack[at + 1..].iter();
            let path: &mut dyn Iterator<Item = &FrameId> =
                if limits.callers { &mut outward } else { &mut inward };
            for frame in path {
                node = node.children.entry(&*profile.frame(*frame).name).or_default();
                node.weight += weight.weight;
            }
        }
        roots.sort_by(|a, b| b.1.weight.cmp(&a.1.weight).then_with(|| a.0.cmp(b.0)));
        for (name, root, itself) in &roots {
            write_root(&mut text, member, highlights, profile, (name, root, *itself), &limits);
        }
    }
    if text.is_empty() {
        return Err(Error::NoSuchFunction { name: function.into(), near: near(profile, function) });
    }
    let what = if limits.callers { "Symbol, and who called it" } else { "Symbol" };
    writeln!(out, "  Children     Self  Member  {what}")?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn write_root(
    text: &mut String,
    member: &MemberProfile,
    highlights: &Highlights,
    profile: &Profile,
    (name, root, itself): (&str, &Node<'_>, u64),
    limits: &Limits,
) {
    let whole = member.weight();
    let frame = profile.frames().iter().find(|frame| *frame.name == *name);
    let known_as = frame
        .and_then(|frame| highlights.list().iter().find(|h| h.matches(frame)))
        .map(|highlight| highlight.classic.as_str())
        .filter(|classic| *classic != name);
    let shown = printable(name);
    let _ = write!(
        text,
        "{} {:>8} {:>8}  {}  {shown}",
        if root.children.is_empty() { ' ' } else { '-' },
        share(root.weight, whole),
        share(itself, whole),
        member_label(member),
    );
    if let Some(classic) = known_as {
        let _ = write!(text, " ({})", printable(classic));
    }
    text.push('\n');
    let sign = if root.children.is_empty() { ' ' } else { '-' };
    let _ = writeln!(text, "   {sign} {} {shown}", share(root.weight, whole));
    write_children(text, root, 6, whole, limits);
}

fn write_children(text: &mut String, node: &Node<'_>, indent: usize, whole: u64, limits: &Limits) {
    let least = limits.percent / 100.0 * whole as f64;
    let mut children: Vec<(&&str, &Node<'_>)> =
        node.children.iter().filter(|(_, child)| child.weight as f64 >= least).collect();
    children.sort_by(|a, b| b.1.weight.cmp(&a.1.weight).then_with(|| a.0.cmp(b.0)));
    for (name, child) in children {
        let name = printable(name);
        let goes_on = child.children.values().any(|grand| grand.weight as f64 >= least);
        if child.weight == node.weight {
            let _ = writeln!(text, "{:indent$}  {name}", "", indent = indent - 3);
            write_children(text, child, indent, whole, limits);
            continue;
        }
        let sign = if goes_on { '-' } else { ' ' };
        let _ = writeln!(text, "{:indent$}{sign} {} {name}", "", share(child.weight, whole));
        write_children(text, child, indent + 3, whole, limits);
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
