//! TCP statistics of the connections of members: sums that the kernel keeps for each, read a few
//! times a second.

use std::net::SocketAddr;
use std::time::Duration;

use pipeprof_runner::sock_diag::{Family, SockDiag, Socket, TcpInfo};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// The pause from one look to the next, at the least: clocks of two hosts are aligned by what went
/// through in between, and as exactly.
const PAUSE_NS: u64 = 25_000_000;

/// All TCP sockets of a machine are asked for at once, some 2 µs each: the pause is so many times as
/// long as that takes.
const PAUSES_A_LOOK: u32 = 250;

/// The pause where none of the members' sockets is a connection yet: even an empty answer takes the
/// kernel a tenth of a millisecond, as it walks through all buckets of its table.
const PAUSE_WITHOUT_NS: u64 = 400_000_000;

/// After a longer answer it is unknown when the bytes were counted.
const LONGEST_ANSWER_NS: u64 = 10_000_000;

/// Connections of which the bytes over time are kept; with this many, more are left out.
pub(super) const MOST_TRAFFIC: usize = 16;

/// With more points than this, every other one is left out.
const MOST_POINTS: usize = 512;

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

/// How far a connection had come at a moment. The sums are those since the connection began, so
/// that both of its sides count the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `CLOCK_MONOTONIC` ns.
    pub at_ns: u64,
    /// Bytes sent, each once; 0 where the kernel does not count them (before 4.19).
    pub sent: u64,
    /// Bytes that the other side acknowledged.
    pub acknowledged: u64,
    /// Bytes that arrived.
    pub received: u64,
}

/// What went through a connection, over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Its address on this side.
    pub local: SocketAddr,
    /// Its address on the other side.
    pub remote: SocketAddr,
    /// In the order of time.
    pub over_time: Vec<Progress>,
    /// Of so many looks one is kept.
    #[serde(skip)]
    every: u32,
    /// Looks since the last that was kept.
    #[serde(skip)]
    passed: u32,
}

impl Traffic {
    /// Nothing is known of it yet.
    pub fn of(local: SocketAddr, remote: SocketAddr) -> Traffic {
        Traffic { local, remote, over_time: Vec::new(), every: 1, passed: 0 }
    }

    /// Adds a point, where it is one of those that are kept.
    pub(super) fn add(&mut self, point: Progress) {
        self.passed += 1;
        if self.passed < self.every && !self.over_time.is_empty() {
            return;
        }
        self.passed = 0;
        self.over_time.push(point);
        if self.over_time.len() >= MOST_POINTS {
            let mut at = 0;
            self.over_time.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            // The last of them is left out, and this long ago.
            self.passed = self.every;
            self.every = self.every.saturating_mul(2);
        }
    }
}

/// Reads the sums.
#[derive(Debug, Default)]
pub(super) struct Connections {
    asks: Option<SockDiag>,
    looked_ns: u64,
    /// For so long the machine's sockets are not asked for again.
    pause_ns: u64,
    /// The last look found a connection.
    has_any: bool,
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
        let least = if self.has_any { PAUSE_NS } else { PAUSE_WITHOUT_NS };
        now_ns.saturating_sub(self.looked_ns) >= self.pause_ns.max(least)
    }

    /// The last look took so long.
    pub(super) fn took(&mut self, time: Duration) {
        self.pause_ns = (time * PAUSES_A_LOOK).as_nanos() as u64;
    }

    /// The statistics of these sockets since the first look at each, without those that are not TCP
    /// sockets, and how far each has come; `None` where the answer took so long that it is unknown
    /// when that was.
    pub(super) fn look(
        &mut self,
        sockets: &FxHashSet<u64>,
        now_ns: u64,
    ) -> FxHashMap<u64, (Connection, Option<Progress>)> {
        self.looked_ns = now_ns;
        if sockets.is_empty() {
            return FxHashMap::default();
        }
        if self.asks.is_none() {
            self.asks = SockDiag::open().ok();
        }
        let asked_ns = crate::accounts::now_ns();
        let all = self.asks.as_mut().and_then(|asks| asks.tcp().ok()).unwrap_or_default();
        let told_ns = crate::accounts::now_ns();
        let is_exact = told_ns.saturating_sub(asked_ns) <= LONGEST_ANSWER_NS;
        let at_ns = asked_ns.midpoint(told_ns);
        let known = all.into_iter().filter(|socket| sockets.contains(&socket.inode));
        let found: FxHashMap<_, _> = known
            .filter_map(|socket| {
                let (connection, progress) = self.since(&socket, at_ns)?;
                Some((socket.inode, (connection, is_exact.then_some(progress))))
            })
            .collect();
        self.has_any = !found.is_empty();
        found
    }

    fn since(&mut self, socket: &Socket, now_ns: u64) -> Option<(Connection, Progress)> {
        let Family::Tcp { local, remote } = socket.family else { return None };
        let now = Sums { received_bytes: socket.received_bytes?, tcp: socket.tcp? };
        let (first_ns, first) = *self.first.entry(socket.inode).or_insert((now_ns, now));
        let grown = |of: fn(&TcpInfo) -> u64| of(&now.tcp).saturating_sub(of(&first.tcp));
        let progress = Progress {
            at_ns: now_ns,
            sent: now.tcp.sent_bytes,
            acknowledged: now.tcp.acknowledged_bytes,
            received: now.received_bytes,
        };
        let connection = Connection {
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
        };
        Some((connection, progress))
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
        let (first, _) = connections.since(&socket(1000, 50, 9), 5).unwrap();
        assert_eq!((first.watched_ns, first.received_bytes, first.busy_ns), (0, 0, 0));
        let (last, progress) = connections.since(&socket(1500, 80, 7), 1_000_005).unwrap();
        assert_eq!((progress.at_ns, progress.received), (1_000_005, 1500));
        assert_eq!((last.watched_ns, last.received_bytes), (1_000_000, 500));
        assert_eq!((last.busy_ns, last.round_trip_ns), (30_000, 7_000));
    }
    #[test]
    fn a_long_watch_keeps_fewer_points_and_the_first() {
        let any = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut traffic = Traffic::of(any, any);
        for at in 0..100_000 {
            traffic.add(Progress { at_ns: 1_000 * at, sent: at, ..Progress::default() });
        }
        let points = &traffic.over_time;
        assert!((MOST_POINTS / 2 - 1..MOST_POINTS).contains(&points.len()), "{}", points.len());
        assert_eq!(points[0].at_ns, 0);
        let pauses: Vec<u64> =
            points.windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns).collect();
        assert!(pauses.iter().all(|pause| *pause == pauses[0]), "{pauses:?}");
    }
}
