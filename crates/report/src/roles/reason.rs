//! Why a thread sleeps: the categories of blocked time.

use serde::Serialize;

use super::Role;

/// Why a thread slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The pipe that it writes to was full.
    WaitSpace,
    /// The pipe that it reads from was empty.
    WaitData,
    /// Another member held the pipe's lock.
    PipeLock,
    /// The peer of its socket did not read.
    SocketSpace,
    /// The peer of its socket sent nothing.
    SocketData,
    /// In poll, select or epoll. For which descriptor, and whether that is a pipe, no stack says.
    Poll,
    /// A disk, or a network file system.
    Disk,
    /// A connection, or a file server.
    Network,
    /// A child process.
    Child,
    /// A time.
    Sleep,
    /// Another thread of the program.
    Futex,
    /// A lock on a file.
    FileLock,
    /// Something else: the stack is known, what it waits for isn't.
    Other,
    /// No stack was sampled.
    Unknown,
}

impl Reason {
    /// Every reason, in the order in which tables break ties.
    pub const ALL: [Reason; 14] = [
        Reason::WaitSpace,
        Reason::WaitData,
        Reason::PipeLock,
        Reason::SocketSpace,
        Reason::SocketData,
        Reason::Poll,
        Reason::Disk,
        Reason::Network,
        Reason::Child,
        Reason::Sleep,
        Reason::Futex,
        Reason::FileLock,
        Reason::Other,
        Reason::Unknown,
    ];

    /// What a role means for a thread that sleeps.
    pub fn of(role: Role) -> Reason {
        match role {
            Role::WaitSpace => Reason::WaitSpace,
            Role::WaitData => Reason::WaitData,
            Role::PipeLock => Reason::PipeLock,
            Role::WaitSocketSpace => Reason::SocketSpace,
            Role::WaitSocketData => Reason::SocketData,
            Role::Poll => Reason::Poll,
            Role::WaitDisk => Reason::Disk,
            Role::WaitNetwork => Reason::Network,
            Role::WaitChild => Reason::Child,
            Role::WaitSleep => Reason::Sleep,
            Role::WaitFutex => Reason::Futex,
            Role::WaitFileLock => Reason::FileLock,
            _ => Reason::Other,
        }
    }

    /// A few words for tables.
    pub fn label(self) -> &'static str {
        match self {
            Reason::WaitSpace => "wait for space",
            Reason::WaitData => "wait for data",
            Reason::PipeLock => "pipe lock",
            Reason::SocketSpace => "wait for socket space",
            Reason::SocketData => "wait for socket data",
            Reason::Poll => "poll",
            Reason::Disk => "disk",
            Reason::Network => "network",
            Reason::Child => "child",
            Reason::Sleep => "sleep",
            Reason::Futex => "other thread",
            Reason::FileLock => "file lock",
            Reason::Other => "other",
            Reason::Unknown => "unknown",
        }
    }
}
