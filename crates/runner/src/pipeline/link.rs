//! What carries the bytes from a writer to a reader.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What carries the bytes from a writer to a reader. A connection between two sockets carries bytes
/// both ways: each direction that does is a link of its own, known by the socket that receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Link {
    /// An anonymous pipe.
    #[default]
    Pipe,
    /// A named FIFO.
    Fifo,
    /// A pair of Unix sockets.
    Unix {
        /// Inode of the socket that sends.
        sender: u64,
    },
    /// A TCP connection with both ends on this machine.
    Tcp {
        /// Inode of the socket that sends.
        sender: u64,
        /// Address of the socket that sends.
        from: SocketAddr,
        /// Address of the socket that receives.
        to: SocketAddr,
    },
}

impl Link {
    /// `pipe`, `fifo`, `unix` or `tcp`.
    pub fn kind(&self) -> &'static str {
        match self {
            Link::Pipe => "pipe",
            Link::Fifo => "fifo",
            Link::Unix { .. } => "unix",
            Link::Tcp { .. } => "tcp",
        }
    }

    /// It is a connection of two sockets.
    pub fn is_socket(&self) -> bool {
        self.sender().is_some()
    }

    /// `pipe:[88121]`, as `/proc/PID/fd` has it; `unix:[88121]` and `tcp:[88121]` of sockets.
    pub fn named(&self, inode: u64) -> String {
        let kind = if self.is_socket() { self.kind() } else { "pipe" };
        format!("{kind}:[{inode}]")
    }

    /// Inode of the socket that sends; `None` of a pipe.
    pub fn sender(&self) -> Option<u64> {
        match *self {
            Link::Pipe | Link::Fifo => None,
            Link::Unix { sender } | Link::Tcp { sender, .. } => Some(sender),
        }
    }
}
