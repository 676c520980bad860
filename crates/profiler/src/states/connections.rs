//! TCP statistics of the connections that members wait for: sums that the kernel keeps for each,
//! read a few times a second.

use std::net::SocketAddr;

use pipeprof_runner::sock_diag::{Family, SockDiag, Socket, TcpInfo};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// All TCP sockets of a machine are asked for at once, some 2 µs each.
pub(super) const PAUSE_NS: u64 = 400_000_000;

/// A TCP connection of a process over the time it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its address on this side.
    pub local: SocketAddr,
    /// Its address on the other side.
    pub remote: SocketAddr,
    /// From the first look at it to the last.
    pub watched_ns: u64,
    /// Bytes that the other side acknowledged meanwhile.
    pub sent_bytes: u64,
    /// Bytes that arrived meanwhile.
    pub received_bytes: u64,
    /// For so long there was data to send.
    pub busy_ns: u64,
    /// Of that the receive window of the other side held it back.
    pub window_limited_ns: u64,
    /// Of that this side's send buffer held it back.
    pub buffer_limited_ns: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Segments with data that were sent.
    pub segments: u64,
    /// Smoothed round-trip time at the last look.
    pub round_trip_ns: u64,
}

/// Reads the sums.
#[derive(Debug, Default)]
pub(super) struct Connections {
    asks: Option<SockDiag>,
    looked_ns: u64,
    /// By inode: when it was first looked at, and what the sums were then.
    first: FxHashMap<u64, (u64, Sums)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    received_bytes: u64,
    tcp: TcpInfo,
}

impl Connections {
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.looked_ns) >= PAUSE_NS
    }

    /// The statistics of these sockets since the first look at each, without those that are not TCP
    /// sockets.
    pub(super) fn look(
        &mut self,
        sockets: &FxHashSet<u64>,
        now_ns: u64,
    ) -> FxHashMap<u64, Connection> {
        self.looked_ns = now_ns;
        if sockets.is_empty() {
            return FxHashMap::default();
        }
        if self.asks.is_none() {
            self.asks = SockDiag::open().ok();
        }
        let all = self.asks.as_mut().and_then(|asks| asks.tcp().ok()).unwrap_or_default();
        let known = all.into_iter().filter(|socket| sockets.contains(&socket.inode));
        known.filter_map(|socket| Some((socket.inode, self.since(&socket, now_ns)?))).collect()
    }

    fn since(&mut self, socket: &Socket, now_ns: u64) -> Option<Connection> {
        let Family::Tcp { local, remote } = socket.family else { return None };
        let now = Sums { received_bytes: socket.received_bytes?, tcp: socket.tcp? };
        let (first_ns, first) = *self.first.entry(socket.inode).or_insert((now_ns, now));
        let grown = |of: fn(&TcpInfo) -> u64| of(&now.tcp).saturating_sub(of(&first.tcp));
        Some(Connection {
            local,
            remote,
            watched_ns: now_ns.saturating_sub(first_ns),
            sent_bytes: grown(|tcp| tcp.acknowledged_bytes),
            received_bytes: now.received_bytes.saturating_sub(first.received_bytes),
            busy_ns: 1_000 * grown(|tcp| tcp.busy_us),
            window_limited_ns: 1_000 * grown(|tcp| tcp.window_limited_us),
            buffer_limited_ns: 1_000 * grown(|tcp| tcp.buffer_limited_us),
            retransmitted: grown(|tcp| tcp.retransmitted),
            segments: grown(|tcp| tcp.segments),
            round_trip_ns: 1_000 * now.tcp.round_trip_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use pipeprof_runner::sock_diag::Memory;

    use super::*;

    #[test]
    fn what_counts_is_what_was_added_since_the_first_look() {
        let socket = |received, busy_us, round_trip_us| Socket {
            inode: 7,
            listens: false,
            backlog: 0,
            family: Family::Tcp {
                local: SocketAddr::from(([10, 0, 0, 1], 1)),
                remote: SocketAddr::from(([10, 0, 0, 2], 2)),
            },
            unread_bytes: 0,
            memory: Memory::default(),
            received_bytes: Some(received),
            tcp: Some(TcpInfo { busy_us, round_trip_us, ..TcpInfo::default() }),
        };
        let mut connections = Connections::default();
        let first = connections.since(&socket(1000, 50, 9), 5).unwrap();
        assert_eq!((first.watched_ns, first.received_bytes, first.busy_ns), (0, 0, 0));
        let last = connections.since(&socket(1500, 80, 7), 1_000_005).unwrap();
        assert_eq!((last.watched_ns, last.received_bytes), (1_000_000, 500));
        assert_eq!((last.busy_ns, last.round_trip_ns), (30_000, 7_000));
    }
}
