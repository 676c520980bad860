//! A fill for every role: light enough for black text, and apart in lightness where roles meet.

use crate::roles::Role;

/// The frames that have no role: the root and the labels of towers.
pub(super) const NEUTRAL: &str = "#eceff1";

/// The fill of a role.
pub(super) fn fill(role: Role) -> &'static str {
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
