//! Shapes of the ladder's pictures: text, and a fill for each role that stays distinct in a grey
//! print.

use crate::markup::Markup;
use crate::picture::palette;
use crate::roles::Role;

/// Width of both pictures: what a window of 1280 pixels shows without scrolling.
pub(super) const WIDTH: f64 = 1240.0;

/// Pixels of a character at size 1, at most: digits and capitals are the widest that occur often.
const CHARACTER: f64 = 0.53;

pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * CHARACTER * size
}

/// How large a picture is shown.
#[derive(Clone, Copy)]
pub(super) enum Size {
    /// As it was made.
    Own,
    /// As wide as the page that it is in.
    Page,
}

/// The start of a document, with its description for screen readers.
pub(super) fn head(height: f64, size: Size, title: &str, description: &str) -> Markup {
    let mut svg = Markup::new();
    svg.raw("<svg xmlns=\"http://www.w3.org/2000/svg\"")
        .attribute("viewBox", format_args!("0 0 {WIDTH} {height:.0}"));
    if matches!(size, Size::Own) {
        svg.attribute("width", WIDTH).attribute("height", format_args!("{height:.0}"));
    }
    svg.raw(" role=\"img\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\"")
        .raw(" fill=\"#1b1f23\">")
        .element("title", title)
        .element("desc", description)
        .raw("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    svg
}

/// Where a text stands in relation to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text, its baseline at `y`.
pub(super) fn text(svg: &mut Markup, x: f64, y: f64, size: f64, anchor: Anchor, words: &str) {
    styled(svg, x, y, size, anchor, "", words);
}

/// The same, with attributes.
pub(super) fn styled(
    svg: &mut Markup,
    x: f64,
    y: f64,
    size: f64,
    anchor: Anchor,
    style: &'static str,
    words: &str,
) {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    svg.raw("<text").attribute("x", format_args!("{x:.1}"));
    svg.attribute("y", format_args!("{y:.1}")).attribute("font-size", size);
    svg.attribute("text-anchor", anchor).raw(style).raw(">").text(words).raw("</text>");
}

pub(super) const BOLD: &str = " font-weight=\"bold\"";
pub(super) const FAINT: &str = " fill=\"#57606a\"";
/// On a pattern.
const HALO: &str = " stroke=\"#ffffff\" stroke-width=\"3\" stroke-opacity=\"0.75\" \
     stroke-linejoin=\"round\" paint-order=\"stroke\"";

pub(super) fn on_pattern(svg: &mut Markup, x: f64, y: f64, size: f64, words: &str) {
    styled(svg, x, y, size, Anchor::Middle, HALO, words);
}

pub(super) fn line(svg: &mut Markup, from: (f64, f64), to: (f64, f64), style: &'static str) {
    svg.raw("<line");
    for (name, value) in [("x1", from.0), ("y1", from.1), ("x2", to.0), ("y2", to.1)] {
        svg.attribute(name, format_args!("{value:.1}"));
    }
    svg.raw(" ").raw(style).raw("/>");
}

/// A rectangle that is left open for more attributes.
pub(super) fn rect(svg: &mut Markup, place: [f64; 4], fill: &str) {
    svg.raw("<rect");
    for (name, value) in ["x", "y", "width", "height"].into_iter().zip(place) {
        svg.attribute(name, format_args!("{value:.2}"));
    }
    svg.attribute("fill", fill);
}

/// A part of a bar, with what it is as its hover text.
pub(super) fn part(svg: &mut Markup, place: [f64; 4], role: Role, title: &str) {
    svg.raw("<g>").element("title", title);
    rect(svg, place, &format!("url(#role-{})", role.index()));
    svg.raw(" stroke=\"#1b1f23\" stroke-width=\"0.5\"/></g>");
}

/// The fills of these roles.
pub(super) fn patterns(roles: &[Role]) -> Markup {
    let mut svg = Markup::new();
    svg.raw("<defs>");
    for role in roles {
        svg.raw("<pattern").attribute("id", format_args!("role-{}", role.index()));
        svg.raw(" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">")
            .raw("<rect width=\"8\" height=\"8\"")
            .attribute("fill", palette::fill(*role))
            .raw("/>")
            .raw(strokes(*role))
            .raw("</pattern>");
    }
    svg.raw("</defs>");
    svg
}

/// Roles that stand on each other in a bar have different strokes.
fn strokes(role: Role) -> &'static str {
    const RISING: &str = "<path d=\"M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4\" stroke=\"#000\" \
         stroke-opacity=\"0.3\" stroke-width=\"1.2\"/>";
    const FALLING: &str = "<path d=\"M-2,6 l4,4 M0,0 l8,8 M6,-2 l4,4\" stroke=\"#000\" \
         stroke-opacity=\"0.3\" stroke-width=\"1.2\"/>";
    const LEVEL: &str =
        "<path d=\"M0,2 h8 M0,6 h8\" stroke=\"#000\" stroke-opacity=\"0.25\" stroke-width=\"1\"/>";
    const UPRIGHT: &str =
        "<path d=\"M2,0 v8 M6,0 v8\" stroke=\"#000\" stroke-opacity=\"0.25\" stroke-width=\"1\"/>";
    const DOTS: &str = "<circle cx=\"2\" cy=\"2\" r=\"1\" fill-opacity=\"0.4\"/>\
         <circle cx=\"6\" cy=\"6\" r=\"1\" fill-opacity=\"0.4\"/>";
    const GRID: &str =
        "<path d=\"M0,4 h8 M4,0 v8\" stroke=\"#000\" stroke-opacity=\"0.3\" stroke-width=\"1\"/>";
    const NET: &str = "<path d=\"M0,0 l8,8 M0,8 l8,-8\" stroke=\"#000\" stroke-opacity=\"0.25\" \
         stroke-width=\"1\"/>";
    match role {
        Role::CopyIn | Role::CopyOut => RISING,
        Role::PageAlloc | Role::Interrupt => DOTS,
        Role::PageFree | Role::Preempted => UPRIGHT,
        Role::PagePin | Role::PageFault => GRID,
        Role::PipeLock | Role::Scheduler => NET,
        Role::WaitSpace | Role::WaitData => LEVEL,
        Role::Wakeup | Role::WakeupOrWait | Role::Poll => FALLING,
        _ => "",
    }
}

/// What fits into a bar, where the label of a legend doesn't.
pub(super) fn short(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Syscall => "syscall",
        Role::PageAlloc => "allocation",
        Role::PageFree => "release",
        Role::PagePin => "pinning",
        Role::PipeLock => "lock",
        Role::WaitSpace => "wait space",
        Role::WaitData => "wait data",
        Role::Scheduler => "switch",
        Role::PageFault => "fault",
        Role::NonPipe => "not pipe",
        Role::Other => "other",
        role => role.label(),
    }
}
