//! Sentences about two hosts whose recordings are joined.

use pipeprof_profiler::states::Connection;

use super::network;
use super::units::{duration, percent, throughput};
use crate::joined::clocks::{Basis, Clocks};

/// The most connections that a sentence names.
const MOST_NAMED: usize = 4;

/// `here has 10.0.0.1:4000 -> 10.0.0.2:22`.
pub(crate) fn connections(recording: &str, connections: &[Connection]) -> String {
    let mut names: Vec<String> =
        connections.iter().map(|of| format!("{} -> {}", of.local, of.remote)).collect();
    names.sort();
    names.dedup();
    if names.len() > MOST_NAMED {
        let more = names.len() - MOST_NAMED;
        names.truncate(MOST_NAMED);
        names.push(format!("{more} more"));
    }
    match &names[..] {
        [] => format!("{recording} has none"),
        names => format!("{recording} has {}", names.join(", ")),
    }
}

/// What the connection did, for its line in the picture.
pub(crate) fn path(seen: &Connection, bytes_per_second: f64) -> String {
    let of_time = |ns: u64| percent(100.0 * ns as f64 / seen.watched_ns.max(1) as f64);
    format!(
        "{}, receive window closed {}, send buffer full {}, {}",
        throughput(bytes_per_second),
        of_time(seen.window_limited_ns),
        of_time(seen.buffer_limited_ns),
        network::path(seen),
    )
}

/// How well it is known what both hosts did at the same time.
pub(crate) fn clocks(clocks: &Clocks) -> String {
    match (clocks.by, clocks.error_ns) {
        (Basis::Traffic, Some(error)) => {
            format!("clocks aligned within {}", duration(error as f64))
        }
        (Basis::Traffic, None) => "clocks aligned by the traffic".to_owned(),
        (Basis::WallClock, _) => "clocks aligned by the date alone".to_owned(),
    }
}
