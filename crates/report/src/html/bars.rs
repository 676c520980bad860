//! A bar for each member: its lifetime or its samples, split up.

use crate::escape::printable;
use crate::markup::Markup;
use crate::ordered::OrderedMap;
use crate::picture::palette;
use crate::roles::{Reason, Role};
use crate::summary::{MemberSummary, Summary};
use crate::words::units::{self, duration, thousands};

/// Narrower than this a part of a bar has no words in it: they would not fit.
const LETTER_PERCENT: f64 = 1.0;

/// One part of a bar.
struct Piece {
    percent: f64,
    fill: String,
    label: &'static str,
    meaning: String,
}

/// The bars of these members, one below the other, with what their fills mean.
pub(super) fn bars(summary: &Summary, members: &[&MemberSummary]) -> Markup {
    let all: Vec<Vec<Piece>> = members.iter().map(|member| pieces(member)).collect();
    let mut html = Markup::new();
    let has_life = members.iter().any(|member| member.life.is_some());
    let event = printable(&summary.quality.recorded.event);
    html.raw("<p class=\"sub\">");
    if has_life {
        html.text("Each bar is the life of a member: on a CPU by role, blocked (hatched) by reason, waiting for a CPU (dotted).");
    } else {
        html.text(format_args!("Each bar is the samples of a member ({event}), by role."));
    }
    html.raw("</p><table class=\"bars\">");
    for (member, pieces) in members.iter().zip(&all) {
        html.raw("<tr><th scope=\"row\">").text(name(member)).raw("</th><td>");
        html.append(&bar(pieces, 24)).raw("</td></tr>");
    }
    html.raw("</table><ul class=\"keys\">");
    let mut by_fill: OrderedMap<&str, (&Piece, f64)> = OrderedMap::default();
    for piece in all.iter().flatten() {
        by_fill.entry(&piece.fill).or_insert((piece, 0.0)).1 += piece.percent;
    }
    by_fill.sort_by(|_, a, _, b| b.1.total_cmp(&a.1));
    for (piece, _) in by_fill.into_values() {
        html.raw("<li><span")
            .attribute("title", &piece.meaning)
            .raw(">")
            .append(&palette::swatch("", &piece.fill))
            .text(if piece.fill.starts_with("url(#hatch") { "blocked: " } else { "" })
            .text(piece.label)
            .raw("</span></li>");
    }
    html.raw("</ul>");
    html
}

/// The life of one member alone, for a box in the picture of the pipeline.
pub(super) fn small(member: &MemberSummary) -> Option<Markup> {
    member.life_as_one()?;
    Some(bar(&pieces(member), 12))
}

/// `gzip (4121)`, `writer pp-write (4121)`.
pub(super) fn name(member: &MemberSummary) -> String {
    match member.end {
        _ if member.processes > 1 => {
            format!("{} ×{}", member.comm, thousands(member.processes as u64))
        }
        Some(end) => format!("{} {} ({})", end.as_str(), member.comm, member.pid),
        None => format!("{} ({})", member.comm, member.pid),
    }
}

fn pieces(member: &MemberSummary) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let life = member.life_as_one();
    let on_cpu = life.map_or(100.0, |life| life.on_cpu_percent);
    for share in &member.roles {
        let role = share.role;
        pieces.push(Piece {
            percent: share.percent * on_cpu / 100.0,
            fill: palette::fill(role).to_owned(),
            label: role.label(),
            meaning: format!("{}: {}", role.label(), role.description()),
        });
    }
    let Some(life) = life else { return pieces };
    if member.roles.is_empty() && on_cpu > 0.0 {
        pieces.push(Piece {
            percent: on_cpu,
            fill: palette::NEUTRAL.to_owned(),
            label: "not sampled",
            meaning: "on a CPU, but never when a sample was taken".to_owned(),
        });
    }
    let by_reason: f64 = member.blocked.iter().map(|share| share.percent).sum();
    for share in &member.blocked {
        pieces.push(Piece {
            percent: share.percent * life.blocked_percent / by_reason,
            fill: hatch(share.reason),
            label: share.reason.label(),
            meaning: format!("blocked: {}", share.reason.label()),
        });
    }
    pieces.push(Piece {
        percent: life.runnable_percent,
        fill: "url(#dots)".to_owned(),
        label: "runnable",
        meaning: "ready to run, and waiting for a CPU".to_owned(),
    });
    pieces.retain(|piece| piece.percent > 0.0);
    pieces
}

fn bar(pieces: &[Piece], height: u32) -> Markup {
    let mut html = Markup::new();
    html.raw("<svg class=\"bar\" width=\"100%\"").attribute("height", height).raw(" role=\"img\"");
    let words: Vec<String> = pieces
        .iter()
        .map(|piece| format!("{} {}", piece.label, units::percent(piece.percent)))
        .collect();
    html.attribute("aria-label", words.join(", ")).raw(">");
    let mut x = 0.0;
    for piece in pieces {
        let Piece { percent, fill, label, meaning } = piece;
        html.raw("<svg")
            .attribute("x", format_args!("{x:.3}%"))
            .attribute("width", format_args!("{percent:.3}%"))
            .attribute("height", height)
            .raw("><title>")
            .text(format_args!("{meaning}: {}", units::percent(*percent)))
            .raw("</title><rect width=\"100%\" height=\"100%\"")
            .attribute("fill", fill)
            .raw("/>");
        if height >= 20 && *percent > label.len() as f64 * LETTER_PERCENT {
            html.raw("<text x=\"5\" y=\"16.5\">").text(label).raw("</text>");
        }
        html.raw("</svg>");
        x += percent;
    }
    html.raw("</svg>");
    html
}

/// The hatch pattern of a reason, as in the flame graphs.
fn hatch(reason: Reason) -> String {
    let role = match reason {
        Reason::WaitSpace => Role::WaitSpace,
        Reason::WaitData => Role::WaitData,
        Reason::PipeLock => Role::PipeLock,
        Reason::SocketSpace => Role::WaitSocketSpace,
        Reason::SocketData => Role::WaitSocketData,
        Reason::Poll => Role::Poll,
        Reason::Disk => Role::WaitDisk,
        Reason::Network => Role::WaitNetwork,
        Reason::Child => Role::WaitChild,
        Reason::Sleep => Role::WaitSleep,
        Reason::Futex => Role::WaitFutex,
        Reason::FileLock => Role::WaitFileLock,
        Reason::Other => Role::Scheduler,
        Reason::Unknown => return "url(#hatch-label)".to_owned(),
    };
    format!("url(#hatch-{})", role.index())
}

/// `on CPU 78 %, blocked 5 %, runnable 17 % of 4.01 s`.
pub(super) fn life_words(member: &MemberSummary) -> Option<String> {
    let life = member.life_as_one()?;
    Some(format!(
        "on CPU {}, blocked {}, runnable {} of {}",
        units::percent(life.on_cpu_percent),
        units::percent(life.blocked_percent),
        units::percent(life.runnable_percent),
        duration(life.split.lifetime_ns as f64)
    ))
}
