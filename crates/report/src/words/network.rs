//! Sentences about a TCP connection that leads out of the pipeline: which side of it holds it back.
//!
//! The kernel counts for how long there was data to send, and for how much of that the other side's
//! receive window or this side's send buffer stood in the way (`tcp_get_info_chrono_stats`,
//! net/ipv4/tcp.c, v6.18). For the rest of that time the data was in transit.

use pipeprof_profiler::states::Connection;

use super::units::{duration, percent};

/// What takes at least this share of the time held the connection back.
const MOSTLY: f64 = 0.5;

/// What holds a connection back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holds {
    /// The program on the other side does not read, for this share of the time.
    Receiver(f64),
    /// This side's send buffer.
    Buffer(f64),
    /// Data is in transit.
    Network(f64),
    /// It receives; whether the sender or the network is slow is unknown.
    Sender,
    /// There was nothing to send or in transit for this share of the time: the program on the other
    /// side is to answer, or to allow more, as ssh has it do.
    Answer(f64),
    /// It was not looked at for long enough.
    Unknown,
}

/// What limits a connection.
pub(crate) fn holds(connection: &Connection) -> Holds {
    let share = |ns: u64| ns as f64 / connection.watched_ns.max(1) as f64;
    let window = share(connection.window_limited_ns);
    let buffer = share(connection.buffer_limited_ns);
    let network = share(connection.busy_ns) - window - buffer;
    match connection {
        Connection { watched_ns: 0, .. } => Holds::Unknown,
        _ if window >= MOSTLY => Holds::Receiver(window),
        _ if buffer >= MOSTLY => Holds::Buffer(buffer),
        _ if network >= MOSTLY => Holds::Network(network),
        of if of.received_bytes > of.sent_bytes => Holds::Sender,
        of => Holds::Answer(1.0 - share(of.busy_ns).min(1.0)),
    }
}

/// What its member does, as a predicate. `None` where all that is known is that it waits for the
/// network.
pub(crate) fn waits(connection: &Connection) -> Option<String> {
    let far = connection.remote;
    let of_time = |share: f64| percent(100.0 * share.min(1.0));
    match holds(connection) {
        Holds::Receiver(share) => Some(format!(
            "waits for the program at {far} to read: its receive window was closed {} of the time",
            of_time(share)
        )),
        Holds::Buffer(share) => Some(format!(
            "waits for its own send buffer: it was too small for the connection to {far} {} of the \
             time",
            of_time(share)
        )),
        Holds::Network(share) => Some(format!(
            "waits for the network to {far}: data was in transit {} of the time; {}",
            of_time(share),
            path(connection)
        )),
        Holds::Sender => {
            Some(format!("waits for data from {far}: the program there or the network is slow"))
        }
        Holds::Answer(share) => Some(format!(
            "waits for the program at {far} to answer or to allow more: nothing was in transit {} of \
             the time",
            of_time(share)
        )),
        Holds::Unknown => None,
    }
}

/// Why a connection between two hosts limits.
pub(crate) fn in_between(connection: &Connection) -> String {
    let of_time = |share: f64| percent(100.0 * share.min(1.0));
    let cause = match holds(connection) {
        Holds::Receiver(share) => format!(
            "the receive buffer is too small for the round trip (the window was closed {} of the \
             time)",
            of_time(share)
        ),
        Holds::Buffer(share) => {
            format!("the send buffer is too small (it was full {} of the time)", of_time(share))
        }
        Holds::Network(_) | Holds::Sender | Holds::Answer(_) | Holds::Unknown => {
            "data is in transit".to_owned()
        }
    };
    format!("{cause} while the programs at both ends wait; {}", path(connection))
}

/// Round trip and losses.
pub(crate) fn path(connection: &Connection) -> String {
    let again = connection.retransmitted as f64 / connection.segments.max(1) as f64;
    format!(
        "round trip {}, {} of the segments retransmitted",
        duration(connection.round_trip_ns as f64),
        percent(100.0 * again)
    )
}

/// What helps a connection between two hosts that limits.
pub(crate) fn advice_in_between(connection: &Connection) -> &'static str {
    match holds(connection) {
        Holds::Receiver(_) => "a larger receive buffer there (sysctl net.ipv4.tcp_rmem)",
        Holds::Buffer(_) => BUFFER,
        Holds::Network(_) | Holds::Sender | Holds::Answer(_) | Holds::Unknown => NETWORK,
    }
}

const BUFFER: &str = "a larger send buffer (SO_SNDBUF, sysctl net.ipv4.tcp_wmem)";

const NETWORK: &str =
    "fewer bytes (compression before the connection), fewer losses, or several connections";

/// What helps.
pub(crate) fn advice(connection: &Connection) -> Option<&'static str> {
    match holds(connection) {
        Holds::Receiver(_) | Holds::Answer(_) => {
            Some("a faster program at the other end, or a buffer there (mbuffer)")
        }
        Holds::Buffer(_) => Some(BUFFER),
        Holds::Network(_) => Some(NETWORK),
        Holds::Sender | Holds::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn connection(window_ms: u64, buffer_ms: u64, busy_ms: u64) -> Connection {
        Connection {
            local: SocketAddr::from(([10, 0, 0, 1], 40000)),
            remote: SocketAddr::from(([10, 0, 0, 2], 5000)),
            watched_ns: 1_000_000_000,
            sent_bytes: 1 << 20,
            received_bytes: 0,
            busy_ns: busy_ms * 1_000_000,
            window_limited_ns: window_ms * 1_000_000,
            buffer_limited_ns: buffer_ms * 1_000_000,
            retransmitted: 12,
            segments: 1000,
            round_trip_ns: 40_000_000,
        }
    }

    #[test]
    fn each_cause_has_its_sentence() {
        let sentence = |window, buffer, busy| waits(&connection(window, buffer, busy)).unwrap();
        insta::assert_snapshot!(sentence(830, 0, 990), @"waits for the program at 10.0.0.2:5000 to read: its receive window was closed 83 % of the time");
        insta::assert_snapshot!(sentence(0, 700, 990), @"waits for its own send buffer: it was too small for the connection to 10.0.0.2:5000 70 % of the time");
        insta::assert_snapshot!(sentence(10, 0, 970), @"waits for the network to 10.0.0.2:5000: data was in transit 96 % of the time; round trip 40.0 ms, 1.2 % of the segments retransmitted");
    }

    #[test]
    fn who_has_nothing_to_send_is_not_held_back_by_the_network() {
        assert_eq!(holds(&connection(0, 0, 100)), Holds::Answer(0.9));
        insta::assert_snapshot!(waits(&connection(0, 0, 100)).unwrap(), @"waits for the program at 10.0.0.2:5000 to answer or to allow more: nothing was in transit 90 % of the time");
        let receives = Connection { received_bytes: 1 << 30, ..connection(0, 0, 10) };
        assert_eq!(holds(&receives), Holds::Sender);
        let unseen = Connection { watched_ns: 0, ..connection(900, 0, 900) };
        assert_eq!(holds(&unseen), Holds::Unknown);
        assert_eq!(waits(&unseen), None);
    }
}
