//! Fills: one for every role, and shades for higher or lower cost. All are light enough
//! for black text. In dark mode only the background is dark.

use std::fmt::Write as _;

use crate::markup::Markup;
use crate::roles::Role;

/// Boxes that have no role: the root and the labels of towers.
pub(crate) const NEUTRAL: &str = "#eceff1";

/// The fill of a role.
///
/// What a writer does is warm and what a reader does is cold; pages are green, other kernel work is
/// pale. Work for a socket has a duller shade of what the like of it has for a pipe.
pub(crate) fn fill(role: Role) -> &'static str {
    match role {
        Role::User => "#f3e9bf",
        Role::Syscall => "#c3cbe0",
        Role::PipeWrite => "#f7a94b",
        Role::PipeRead => "#5fc6d3",
        Role::CopyIn => "#f28470",
        Role::CopyOut => "#76b3f2",
        Role::PageAlloc => "#93cf6b",
        Role::PageFree => "#cfe8a9",
        Role::PagePin => "#bf8fdc",
        Role::Splice => "#ead6f7",
        Role::PipeLock => "#f07fb2",
        Role::WaitSpace => "#ffd84f",
        Role::WaitData => "#bfeaf0",
        Role::Wakeup => "#a7a0f2",
        Role::WakeupOrWait => "#c9c2fb",
        Role::Poll => "#7fd6ac",
        Role::SocketSend => "#ed9b6a",
        Role::SocketReceive => "#55a6c9",
        Role::SocketCopy => "#d98c94",
        Role::SocketBuffer => "#aabf6f",
        Role::SocketLock => "#efabdd",
        Role::SocketWakeup => "#a497cd",
        Role::NetworkStack => "#69bfac",
        Role::WaitSocketSpace => "#f4ef88",
        Role::WaitSocketData => "#95f9f6",
        Role::Preempted => "#b9b3ad",
        Role::PageFault => "#d3a874",
        Role::Interrupt => "#a3b1ba",
        Role::WaitDisk => "#9db0d8",
        Role::WaitNetwork => "#9ccfc0",
        Role::WaitChild => "#d9c8c8",
        Role::WaitSleep => "#e1ebc8",
        Role::WaitFutex => "#f4c6d6",
        Role::WaitFileLock => "#dcc6b2",
        Role::Scheduler => "#c9b79c",
        Role::Profiling => "#8fb0a0",
        Role::NonPipe => "#dfe4e2",
        Role::Other => "#f7f7f7",
    }
}

/// The class of a box that was on a CPU in a role, and of its key.
pub(crate) fn class(role: Role) -> String {
    format!("r{}", role.index())
}

/// The class of a box that slept in a role.
pub(crate) fn blocked_class(role: Role) -> String {
    format!("b{}", role.index())
}

/// Shades of a difference, from the cheapest to the dearest; the middle one is no change.
pub(crate) const SHADES: [&str; 9] = [
    "#6aa5ea", "#8bb8ec", "#aecbec", "#cddcec", "#ededed", "#f4d5c9", "#f5b7a5", "#f49780",
    "#f2765e",
];

/// The position in [`SHADES`] of a strength from −1 (much cheaper) to 1 (much dearer).
pub(crate) fn shade(strength: f64) -> usize {
    let most = (SHADES.len() / 2) as f64;
    // Something is never drawn as nothing.
    let steps = (strength.abs() * most).ceil().min(most);
    (most + steps.copysign(strength)) as usize
}

/// Patterns for what is no time on a CPU: hatched where a thread slept, dotted where it waited for a
/// CPU, so that a print in grey tells them apart too. [`style`] refers to them.
pub(crate) fn patterns() -> Markup {
    let mut svg = Markup::new();
    svg.raw("<defs>");
    let fills = Role::ALL.iter().map(|role| (role.index().to_string(), fill(*role)));
    for (id, colour) in fills.chain([("label".to_owned(), NEUTRAL)]) {
        svg.raw("<pattern").attribute("id", format_args!("hatch-{id}"));
        svg.raw(" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\"")
            .raw(" patternTransform=\"rotate(45)\"><rect width=\"7\" height=\"7\"")
            .attribute("fill", colour)
            .raw("/><rect width=\"1.6\" height=\"7\" fill=\"#000000\" fill-opacity=\"0.22\"/>")
            .raw("</pattern>");
    }
    svg.raw("<pattern id=\"dots\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">")
        .raw("<rect width=\"6\" height=\"6\" fill=\"#ffffff\"/>")
        .raw("<circle cx=\"3\" cy=\"3\" r=\"0.9\" fill=\"#888888\"/></pattern></defs>");
    svg
}

/// Rules that hatch the boxes of blocked time.
pub(crate) fn style() -> String {
    let mut css = String::new();
    for role in Role::ALL {
        let (class, index) = (blocked_class(role), role.index());
        let _ = writeln!(css, ".{class} > rect {{ fill: url(#hatch-{index}); }}");
    }
    css.push_str(
        ".blocked > rect { fill: url(#hatch-label); }\n.runnable > rect { fill: url(#dots); }\n",
    );
    css
}

/// A small box with a fill, in a page.
pub(crate) fn swatch(class: &str, fill: &str) -> Markup {
    let mut html = Markup::new();
    html.raw("<svg").attribute("class", format_args!("swatch {class}"));
    html.raw(" width=\"13\" height=\"13\" aria-hidden=\"true\"><rect width=\"13\" height=\"13\"");
    html.attribute("fill", fill).raw("/></svg>");
    html
}

#[cfg(test)]
mod tests {
    use super::super::THEME;
    use super::*;

    /// WCAG 2.2, "relative luminance".
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// CIE 1976 colour difference.
    fn difference(a: &str, b: &str) -> f64 {
        let lab = |colour: &str| {
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            let (r, g, b) = (part(1), part(3), part(5));
            let f = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
            let x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
            let y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
            let z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
            [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
        };
        let (a, b) = (lab(a), lab(b));
        (0..3).map(|at| (a[at] - b[at]).powi(2)).sum::<f64>().sqrt()
    }

    /// The colours of one scheme: `--name: #rrggbb;`, a rule each.
    fn themes() -> Vec<Vec<(&'static str, &'static str)>> {
        let rules = THEME.split(":root {").skip(1).map(|rule| rule.split('}').next().unwrap());
        rules
            .map(|rule| {
                let of = |line: &'static str| {
                    let (name, value) = line.trim().strip_prefix("--")?.split_once(": ")?;
                    value.starts_with('#').then_some((name, value))
                };
                rule.split(';').filter_map(of).collect()
            })
            .collect()
    }

    #[test]
    fn all_text_can_be_read_on_what_it_stands_on() {
        for fill in Role::ALL.iter().map(|role| fill(*role)).chain(SHADES).chain([NEUTRAL]) {
            // The stripe of a hatch covers a quarter of it, in a fifth of black.
            let stripe: String = [1, 3, 5]
                .map(|at| f64::from(u8::from_str_radix(&fill[at..at + 2], 16).unwrap()) * 0.78)
                .iter()
                .map(|part| format!("{:02x}", *part as u8))
                .collect();
            assert!(contrast("#000000", &format!("#{stripe}")) >= 4.5, "{fill}");
        }
        let themes = themes();
        assert_eq!(themes.len(), 3, "light, dark, print");
        for theme in themes {
            let of = |name: &str| theme.iter().find(|(known, _)| *known == name).unwrap().1;
            for text in ["text", "quiet", "accent", "warn"] {
                for paper in ["page", "panel"] {
                    let ratio = contrast(of(text), of(paper));
                    assert!(ratio >= 4.5, "{text} on {paper}: {ratio:.2} in {theme:?}");
                }
            }
            // What shows where a field begins.
            assert!(contrast(of("edge"), of("page")) >= 3.0, "{theme:?}");
        }
    }

    #[test]
    fn what_meets_in_a_picture_differs_in_more_than_a_shade() {
        for (a, b) in [
            (Role::CopyIn, Role::CopyOut),
            (Role::PipeWrite, Role::PipeRead),
            (Role::User, Role::Syscall),
            (Role::WaitSpace, Role::WaitData),
            (Role::PipeWrite, Role::CopyIn),
            (Role::PipeRead, Role::CopyOut),
            (Role::PageAlloc, Role::PageFree),
            (Role::PagePin, Role::Splice),
            (Role::SocketSend, Role::SocketReceive),
            (Role::SocketCopy, Role::SocketBuffer),
            (Role::WaitSocketSpace, Role::WaitSocketData),
        ] {
            let difference = difference(fill(a), fill(b));
            assert!(difference >= 25.0, "{a:?} and {b:?}: {difference:.1}");
        }
        for (at, a) in Role::ALL.iter().enumerate() {
            for b in &Role::ALL[at + 1..] {
                let difference = difference(fill(*a), fill(*b));
                assert!(difference >= 7.0, "{a:?} and {b:?}: {difference:.1}");
            }
        }
    }

    #[test]
    fn a_change_is_never_shown_as_none() {
        assert_eq!([-1.0, -0.01, 0.0, 0.01, 1.0, 2.0].map(shade), [0, 3, 4, 5, 8, 8]);
    }
}
