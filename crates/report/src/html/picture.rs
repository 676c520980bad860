//! The pipeline as a picture: a box for each member, an arrow for each pipe.

use pipeprof_runner::pipeline::PipeKey;
use pipeprof_runner::pipeline::order::steps_downstream;
use rustc_hash::FxHashMap;

use super::bars;
use crate::ledger::PipeSummary;
use crate::markup::Markup;
use crate::summary::{MemberSummary, Summary};
use crate::verdict::Finding;
use crate::words::units::{bytes, percent, throughput};
use crate::words::{member, pipe};

const BOX_WIDTH: i32 = 176;
const BOX_HEIGHT: i32 = 92;
/// Between boxes, where an arrow and its words stand.
const ACROSS: i32 = 106;
const DOWN: i32 = 96;
const BETWEEN_ROWS: i32 = 26;
const MARGIN: i32 = 6;
/// So many boxes fit beside each other at the size of the text around them.
const MOST_ACROSS: usize = 5;

/// A member with its place.
struct Node<'a> {
    member: &'a MemberSummary,
    rank: usize,
    row: usize,
}

/// A pipe from one box to another.
struct Edge<'a> {
    pipe: &'a PipeSummary,
    from: usize,
    to: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Across,
    Down,
}

/// The most arrows in a picture. Larger pipelines have only the tables.
const MOST_EDGES: usize = 500;

/// The picture, or `None` where no pipe joins two members, or there are too many arrows to follow.
/// A chain is drawn twice, across for a wide page and down for a narrow one; the style shows one of
/// them.
pub(super) fn picture(summary: &Summary) -> Option<Markup> {
    let members: Vec<&MemberSummary> =
        summary.members.iter().filter(|member| member.uses_pipes()).collect();
    let edges = edges(summary, &members)?;
    if edges.is_empty() {
        return None;
    }
    let nodes = nodes(&members, &edges);
    let ranks = nodes.iter().map(|node| node.rank + 1).max().unwrap_or(1);
    let is_chain = nodes.iter().all(|node| node.row == 0);
    let mut html = Markup::new();
    if ranks <= MOST_ACROSS || !is_chain {
        let class = if is_chain { "scroll wide" } else { "scroll" };
        html.raw("<div").attribute("class", class).raw(">");
        html.append(&draw(summary, &nodes, &edges, Direction::Across)).raw("</div>");
    }
    if is_chain {
        let class = if ranks <= MOST_ACROSS { "narrow" } else { "" };
        html.raw("<div").attribute("class", class).raw(">");
        html.append(&draw(summary, &nodes, &edges, Direction::Down)).raw("</div>");
    }
    Some(html)
}

/// Each member one step after the members that write to it.
fn nodes<'a>(members: &[&'a MemberSummary], edges: &[Edge<'_>]) -> Vec<Node<'a>> {
    let joined = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let ranks = steps_downstream(members.len(), &joined);
    let mut rows: FxHashMap<usize, usize> = FxHashMap::default();
    let node = |(&member, rank): (&&'a MemberSummary, usize)| {
        let next = rows.entry(rank).or_default();
        let row = *next;
        *next += 1;
        Node { member, rank, row }
    };
    members.iter().zip(ranks).map(node).collect()
}

/// Who writes to whom, as positions among these members; `None` where there are too many to follow.
fn edges<'a>(summary: &'a Summary, members: &[&MemberSummary]) -> Option<Vec<Edge<'a>>> {
    let mut writers: FxHashMap<PipeKey, Vec<usize>> = FxHashMap::default();
    let mut readers: FxHashMap<PipeKey, Vec<usize>> = FxHashMap::default();
    for (at, member) in members.iter().enumerate() {
        for (of, keys) in [(&mut writers, &member.writes_to), (&mut readers, &member.reads_from)] {
            keys.iter().for_each(|key| of.entry(*key).or_default().push(at));
        }
    }
    let mut edges = Vec::new();
    for pipe in &summary.pipes {
        for &from in writers.get(&pipe.key()).into_iter().flatten() {
            for &to in readers.get(&pipe.key()).into_iter().flatten().filter(|&&to| to != from) {
                if edges.len() == MOST_EDGES {
                    return None;
                }
                edges.push(Edge { pipe, from, to });
            }
        }
    }
    Some(edges)
}

fn draw(summary: &Summary, nodes: &[Node<'_>], edges: &[Edge<'_>], direction: Direction) -> Markup {
    let most = |of: fn(&Node<'_>) -> usize| nodes.iter().map(of).max().unwrap_or(0) as i32;
    let (ranks, rows) = (most(|node| node.rank), most(|node| node.row));
    let (width, height) = match direction {
        Direction::Across => (
            ranks * (BOX_WIDTH + ACROSS) + BOX_WIDTH,
            rows * (BOX_HEIGHT + BETWEEN_ROWS) + BOX_HEIGHT,
        ),
        // Words stand beside the arrow, which leaves in the middle of a box.
        Direction::Down => (BOX_WIDTH * 3 / 2, ranks * (BOX_HEIGHT + DOWN) + BOX_HEIGHT),
    };
    let (width, height) = (width + 2 * MARGIN, height + 2 * MARGIN);
    let mut svg = Markup::new();
    svg.raw("<svg class=\"pipeline\" role=\"img\"")
        .attribute("width", width)
        .attribute("height", height)
        .attribute("viewBox", format_args!("0 0 {width} {height}"))
        .attribute("aria-label", words(summary, nodes, edges))
        .raw(">");
    for edge in edges {
        svg.append(&arrow(edge, nodes, edges, direction, is_blamed(summary, edge.pipe)));
    }
    for node in nodes {
        svg.append(&member(node, direction, holds_back(summary, node.member)));
    }
    svg.raw("</svg>");
    svg
}

/// The verdict is that this member holds the others back; not that a pipe or the CPUs do.
fn holds_back(summary: &Summary, member: &MemberSummary) -> bool {
    let Some(verdict) = &summary.verdict else { return false };
    let is_a_members =
        matches!(verdict.finding, Finding::CpuBound | Finding::Outside(_) | Finding::Balanced);
    is_a_members && verdict.members.contains(&member.pid)
}

/// The verdict is about this pipe.
fn is_blamed(summary: &Summary, pipe: &PipeSummary) -> bool {
    summary.verdict.as_ref().is_some_and(|verdict| verdict.pipe == Some(pipe.inode))
}

fn place(node: &Node<'_>, direction: Direction) -> (i32, i32) {
    let (rank, row) = (node.rank as i32, node.row as i32);
    match direction {
        Direction::Across => {
            (MARGIN + rank * (BOX_WIDTH + ACROSS), MARGIN + row * (BOX_HEIGHT + BETWEEN_ROWS))
        }
        Direction::Down => (MARGIN, MARGIN + rank * (BOX_HEIGHT + DOWN)),
    }
}

fn member(node: &Node<'_>, direction: Direction, is_blamed: bool) -> Markup {
    let (x, y) = place(node, direction);
    let mut svg = Markup::new();
    svg.raw("<svg")
        .attribute("class", if is_blamed { "member blamed" } else { "member" })
        .attribute("x", x - 2)
        .attribute("y", y - 2)
        .attribute("width", BOX_WIDTH + 4)
        .attribute("height", BOX_HEIGHT + 4)
        .raw("><title>")
        .text(bars::name(node.member))
        .text(bars::life_words(node.member).map(|words| format!(": {words}")).unwrap_or_default())
        .raw("</title><rect class=\"box\" x=\"2\" y=\"2\" rx=\"5\"")
        .attribute("width", BOX_WIDTH)
        .attribute("height", BOX_HEIGHT)
        .raw("/><text x=\"12\" y=\"23\" class=\"strong\">")
        .text(&node.member.comm)
        .raw("</text><text x=\"12\" y=\"40\" class=\"small\">");
    match node.member.end {
        Some(end) => svg.text(format_args!("{}, pid {}", end.as_str(), node.member.pid)),
        None => svg.text(format_args!("pid {}", node.member.pid)),
    };
    svg.raw("</text>");
    if let Some(bar) = bars::small(node.member) {
        svg.raw("<svg x=\"12\" y=\"50\" height=\"12\"")
            .attribute("width", BOX_WIDTH - 20)
            .raw(">")
            .append(&bar)
            .raw("</svg>");
    }
    svg.raw("<text x=\"12\" y=\"82\" class=\"small\">");
    let several = node.member.cpus.and_then(member::several_cpus);
    match (node.member.life_as_one(), several) {
        (Some(_), Some(cpus)) => svg.text(format_args!("on {cpus}")),
        (Some(life), None) => svg.text(format_args!("on CPU {}", percent(life.on_cpu_percent))),
        (None, _) => svg.text(format_args!("{} samples", node.member.samples)),
    };
    if is_blamed {
        svg.raw(", <tspan class=\"bold\">bottleneck</tspan>");
    }
    svg.raw("</text></svg>");
    svg
}

fn arrow(
    edge: &Edge<'_>,
    nodes: &[Node<'_>],
    edges: &[Edge<'_>],
    direction: Direction,
    is_blamed: bool,
) -> Markup {
    let (from, to) = (place(&nodes[edge.from], direction), place(&nodes[edge.to], direction));
    let mut svg = Markup::new();
    svg.raw("<g")
        .attribute("class", if is_blamed { "pipe blamed" } else { "pipe" })
        .raw("><title>");
    svg.text(pipe_words(edge.pipe)).raw("</title><path class=\"line\"");
    // Words start here; across, they are in the middle.
    let (x, y) = match direction {
        Direction::Across => {
            let (x1, y1) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
            let (x2, y2) = (to.0 - 8, to.1 + BOX_HEIGHT / 2);
            // Where arrows part, each goes across at the end that it has for itself, and so do its
            // words: no line runs through them.
            let parts = edges.iter().filter(|other| other.from == edge.from).count() > 1;
            let turn = if parts { x1 + 5 } else { x2 - 4 };
            svg.attribute("d", format_args!("M{x1} {y1}H{turn}V{y2}H{x2}"));
            svg.raw("/><path class=\"head\"")
                .attribute("d", format_args!("M{} {y2}l-10 -5v10z", x2 + 7));
            (x1 + (x2 - x1) / 2 + if parts { 5 } else { 0 }, if parts { y2 } else { y1 })
        }
        Direction::Down => {
            let x = from.0 + BOX_WIDTH / 4;
            let (y1, y2) = (from.1 + BOX_HEIGHT, to.1 - 8);
            svg.attribute("d", format_args!("M{x} {y1}V{y2}"));
            svg.raw("/><path class=\"head\"")
                .attribute("d", format_args!("M{x} {}l-5 -10h10z", y2 + 7));
            (x + 16, y1 + DOWN / 2 - 6)
        }
    };
    svg.raw("/>");
    let anchor = if direction == Direction::Across { "middle" } else { "start" };
    let mut line = |dy: i32, class: &'static str, words: String| {
        svg.raw("<text")
            .attribute("x", x)
            .attribute("y", y + dy)
            .attribute("class", class)
            .attribute("text-anchor", anchor)
            .raw(">")
            .text(words)
            .raw("</text>");
    };
    let rate = edge.pipe.bytes_per_second.map_or_else(|| "rate unknown".to_owned(), throughput);
    let across = direction == Direction::Across;
    line(if across { -10 } else { -14 }, "strong", rate);
    let holds = edge.pipe.capacity_bytes.map(|capacity| bytes(capacity as f64));
    let fill = pipe::fill(edge.pipe);
    let mut dy = if across { 30 } else { 18 };
    if let Some(fill) = fill {
        line(dy, "small", fill);
        dy += 15;
    }
    if let Some(holds) = holds {
        line(if edge.pipe.fill.is_some() { dy } else { dy - 12 }, "small", holds);
    }
    if let Some((fill, capacity)) = edge.pipe.fill.as_ref().zip(edge.pipe.capacity_bytes) {
        let width = 56;
        let x = if across { x - width / 2 } else { x };
        let y = if across { y + 9 } else { y - 5 };
        let filled = (fill.mean_bytes / capacity.max(1) as f64).clamp(0.0, 1.0);
        for (class, width) in [("gauge", f64::from(width)), ("filled", filled * f64::from(width))] {
            svg.raw("<rect")
                .attribute("class", class)
                .attribute("x", x)
                .attribute("y", y)
                .attribute("width", format_args!("{width:.1}"))
                .raw(" height=\"8\"/>");
        }
    }
    svg.raw("</g>");
    svg
}

fn pipe_words(pipe: &PipeSummary) -> String {
    let mut words = pipe::name(pipe);
    match pipe.bytes_per_second {
        Some(bytes) => words.push_str(&format!(", {}", throughput(bytes))),
        None => {
            let why = pipe.bytes_unknown.as_deref().unwrap_or("not measured");
            words.push_str(&format!(", bytes unknown: {why}"));
        }
    }
    match &pipe.fill {
        Some(fill) => words.push_str(&format!(
            ", full {} and empty {} of the time",
            percent(fill.full_percent),
            percent(fill.empty_percent)
        )),
        None => words
            .push_str(&format!(", fill unknown: {}", pipe.fill_unknown.unwrap_or("not measured"))),
    }
    words
}

/// The picture in words, for screen readers.
fn words(summary: &Summary, nodes: &[Node<'_>], edges: &[Edge<'_>]) -> String {
    let mut words: Vec<String> = edges
        .iter()
        .map(|edge| {
            let name = |at: usize| bars::name(nodes[at].member);
            format!("{} writes to {}: {}", name(edge.from), name(edge.to), pipe_words(edge.pipe))
        })
        .collect();
    if let Some(verdict) = &summary.verdict {
        words.push(verdict.headline.clone());
    }
    words.join("; ")
}
