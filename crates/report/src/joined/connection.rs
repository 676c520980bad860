//! Which TCP connection two hosts have in common, by its addresses.

use std::net::SocketAddr;

use pipeprof_profiler::states::Connection;
use rustc_hash::FxHashMap;

/// A connection as both of its sides saw it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shared {
    /// The side that sends the bulk of the data.
    pub(super) sender: Connection,
    /// The other.
    pub(super) receiver: Connection,
    /// That is the first of the two hosts.
    pub(super) first_sends: bool,
}

impl Shared {
    fn of(first: &Connection, second: &Connection) -> Shared {
        let there = first.sent_bytes.max(second.received_bytes);
        let back = second.sent_bytes.max(first.received_bytes);
        let first_sends = there >= back;
        let (sender, receiver) = if first_sends { (first, second) } else { (second, first) };
        Shared { sender: sender.clone(), receiver: receiver.clone(), first_sends }
    }

    fn carried(&self) -> u64 {
        self.sender.sent_bytes.max(self.receiver.received_bytes)
    }
}

/// Of those that both have, the one that carried most: what is local to one is remote to the other.
pub(super) fn shared(first: &[Connection], second: &[Connection]) -> Option<Shared> {
    // By address and port: flow labels and scopes are those of one side.
    let of = |address: SocketAddr| (address.ip(), address.port());
    let by_ends: FxHashMap<_, &Connection> =
        second.iter().map(|other| ((of(other.remote), of(other.local)), other)).collect();
    let pairs = first.iter().filter_map(|one| {
        let other = by_ends.get(&(of(one.local), of(one.remote)))?;
        Some(Shared::of(one, other))
    });
    pairs.max_by_key(Shared::carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, remote: &str, sent: u64, received: u64) -> Connection {
        Connection {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            watched_ns: 1,
            sent_bytes: sent,
            received_bytes: received,
            busy_ns: 0,
            window_limited_ns: 0,
            buffer_limited_ns: 0,
            retransmitted: 0,
            segments: 0,
            round_trip_ns: 0,
        }
    }

    #[test]
    fn the_one_that_carried_most_is_taken_in_its_direction() {
        let (here, there) = ("10.0.0.1:4000", "10.0.0.2:22");
        let (second, data) = ("10.0.0.1:4001", "10.0.0.2:5000");
        let first = [
            connection(here, there, 10, 9),
            connection(second, data, 4, 7_000),
            connection(here, "10.0.0.3:22", 1 << 40, 0),
        ];
        let other = [connection(there, here, 9, 10), connection(data, second, 7_100, 4)];
        let found = shared(&first, &other).unwrap();
        assert_eq!((found.sender.local.to_string().as_str(), found.first_sends), (data, false));
        let turned = shared(&other, &first).unwrap();
        assert_eq!(turned, Shared { first_sends: true, ..found });
    }

    #[test]
    fn the_same_addresses_the_same_way_round_are_another_connection() {
        let one = connection("10.0.0.1:4000", "10.0.0.2:22", 1, 1);
        let alone = [one];
        assert_eq!(shared(&alone, &alone), None);
        let ports = connection("10.0.0.2:23", "10.0.0.1:4000", 1, 1);
        assert_eq!(shared(&[connection("10.0.0.1:4000", "10.0.0.2:22", 1, 1)], &[ports]), None);
    }
}
