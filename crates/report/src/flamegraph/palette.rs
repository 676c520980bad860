//! A fill for every role: light enough for black text, and apart in lightness where roles meet.

use std::fmt::Write;

use super::{Time, View};
use crate::roles::Role;

/// The frames that have no role: the root and the labels of towers.
pub(crate) const NEUTRAL: &str = "#eceff1";

/// The fill of a role.
pub(crate) fn fill(role: Role) -> &'static str {
    match role {
        Role::User => "#dfe3e6",
        Role::Syscall => "#cfd6db",
        Role::PipeWrite | Role::PipeRead => "#f7b955",
        Role::CopyIn | Role::CopyOut => "#f28e76",
        Role::PageAlloc => "#9fd07a",
        Role::PageFree => "#cfe8a9",
        Role::PagePin => "#7db8e8",
        Role::Splice => "#c4dcf5",
        Role::PipeLock => "#e88bb4",
        Role::WaitSpace => "#ffe066",
        Role::WaitData => "#fff1a6",
        Role::Wakeup => "#c3a6e8",
        Role::Poll => "#86d3c6",
        Role::Preempted => "#b9b3ad",
        Role::PageFault => "#d9b68c",
        Role::Interrupt => "#b4bcc2",
        Role::WaitDisk => "#a9b8d6",
        Role::WaitNetwork => "#a5d0dd",
        Role::WaitChild => "#e3d3ee",
        Role::WaitSleep => "#e5ead0",
        Role::WaitFutex => "#f0c9d6",
        Role::WaitFileLock => "#e0d0c0",
        Role::Scheduler => "#cbbfae",
        Role::NonPipe => "#e8dccf",
        Role::Other => "#f4f4f4",
    }
}

/// Patterns for what is no time on a CPU: hatched where a thread slept, dotted where it waited for a
/// CPU, so that a print in grey tells them apart too.
pub(crate) fn patterns(view: View) -> String {
    if view.time == Time::Cpu {
        return String::new();
    }
    let mut svg = String::from("<defs>");
    let labels = Role::ALL.iter().map(|role| (role.index().to_string(), fill(*role)));
    for (id, colour) in labels.chain([("label".to_owned(), NEUTRAL)]) {
        let _ = write!(
            svg,
            "<pattern id=\"hatch-{id}\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"7\" height=\"7\" fill=\"{colour}\"/>\
             <rect width=\"1.6\" height=\"7\" fill=\"#000000\" fill-opacity=\"0.22\"/></pattern>",
        );
    }
    let _ = write!(
        svg,
        "<pattern id=\"dots\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
         <rect width=\"6\" height=\"6\" fill=\"#ffffff\"/>\
         <circle cx=\"3\" cy=\"3\" r=\"0.9\" fill=\"#888888\"/></pattern></defs>",
    );
    svg
}
