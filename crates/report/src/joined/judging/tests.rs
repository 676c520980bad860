use pipeprof_profiler::states::Connection;

use super::*;
use crate::facts::fixture::{self, SPAN_NS};
use crate::verdict::{Confidence, Finding, Verdict};
use crate::words;

/// What TCP says of a connection that held nothing back.
fn connection(window_percent: u64) -> Shared {
    let [here, there] = ["10.0.0.1:40000", "10.0.0.2:5000"].map(|text| text.parse().unwrap());
    let sender = Connection {
        local: here,
        remote: there,
        watched_ns: 1_000_000_000,
        sent_bytes: 1 << 30,
        received_bytes: 0,
        busy_ns: 900_000_000,
        window_limited_ns: 10_000_000 * window_percent,
        buffer_limited_ns: 0,
        retransmitted: 0,
        segments: 1_000,
        round_trip_ns: 40_000_000,
    };
    let (sent_bytes, received_bytes) = (0, 1 << 30);
    let receiver =
        Connection { local: there, remote: here, sent_bytes, received_bytes, ..sender.clone() };
    Shared { sender, receiver, first_sends: true }
}

/// Two chains of members, as [`fixture::chain`] has them; the last of the first sends to the first
/// of the second, `n` where it waits for the network. Each word is 20 ms. The clock of the second
/// is ahead by so many of them.
fn over_both(words: [&[&str]; 2], ahead: u64, window_percent: u64) -> (Judgement, Verdict) {
    let seen = connection(window_percent);
    let pipelines = words.map(|words| fixture::pipeline(words[0].len()));
    let half = |at: usize, host: &str| {
        let mut history = fixture::chain(words[at], 1.0, 0.0);
        let members = words[at][0].len();
        let (holder, of_holder) = match at {
            0 => (members - 1, &seen.sender),
            _ => (0, &seen.receiver),
        };
        history.actors[holder].connections.push(of_holder.clone());
        if at == 1 {
            history.spans.iter_mut().for_each(|span| {
                span.from_ns += ahead * SPAN_NS;
                span.until_ns += ahead * SPAN_NS;
            });
        }
        let evidence = fixture::evidence(members, history.elapsed_ns());
        Half { history, evidence, pipeline: &pipelines[at], host: host.to_owned(), cpus: 2 }
    };
    let (sender, receiver) = (half(0, "web1"), half(1, "backup"));
    let judgement = judge(&sender, &receiver, &seen, (ahead * SPAN_NS) as i64).unwrap();
    let verdict = words::verdict::verdict(&judgement.evidence, &judgement.judged);
    (judgement, verdict)
}

/// The same states for two seconds on both hosts.
fn steady(here: &str, there: &str) -> (Judgement, Verdict) {
    over_both([&[here; 100], &[there; 100]], 0, 0)
}

#[test]
fn waits_are_followed_over_the_connection_to_the_host_that_limits() {
    // By who limits: the states on both hosts, the place of the member, and its name.
    let cases = [
        ("a writer at the far end", ["sn", "so"], 3, "m1 (pid 101 on backup)"),
        ("a busy reader at the far end", ["sn", "sB"], 3, "m1 (pid 101 on backup)"),
        ("the process that receives", ["sn", "Bd"], 2, "m0 (pid 100 on backup)"),
        ("a producer here", ["od", "nd"], 0, "m0 (pid 100 on web1)"),
        ("a busy producer here", ["Bd", "nd"], 0, "m0 (pid 100 on web1)"),
        ("the process that sends", ["sB", "nd"], 1, "m1 (pid 101 on web1)"),
    ];
    for (case, [here, there], place, name) in cases {
        let (Judgement { judged, .. }, verdict) = steady(here, there);
        assert_eq!(judged.members, [place], "{case}: {}", verdict.headline);
        assert!(verdict.headline.contains(name), "{case}: {}", verdict.headline);
        assert_eq!(judged.confidence, Some(Confidence::High), "{case}: {:?}", verdict.doubt);
    }
}

#[test]
fn the_network_limits_where_both_of_its_ends_wait() {
    let (Judgement { judged, .. }, verdict) = steady("sn", "nd");
    assert_eq!((judged.finding, judged.members.len()), (Finding::Network, 0));
    insta::assert_snapshot!(verdict.headline, @"bottleneck: the network from web1 to backup, 100 % of the time: data is in transit while the programs at both ends wait; round trip 40.0 ms, 0 % of the segments retransmitted");
    assert_eq!(verdict.limits[0].kind, "network");
    let (_, small) = over_both([&["sn"; 100], &["nd"; 100]], 0, 80);
    insta::assert_snapshot!(small.headline, @"bottleneck: the network from web1 to backup, 100 % of the time: the receive buffer is too small for the round trip (the window was closed 80 % of the time) while the programs at both ends wait; round trip 40.0 ms, 0 % of the segments retransmitted");
    assert!(small.remedies[0].what.contains("tcp_rmem"), "{:?}", small.remedies);
}

#[test]
fn of_two_busy_members_on_both_hosts_the_one_that_waits_less_limits() {
    let here = ["sB", "sB", "sB", "sn"].repeat(30);
    let there = ["Bd", "Bd", "nd", "nd"].repeat(30);
    let (Judgement { judged, .. }, verdict) = over_both([&here, &there], 0, 0);
    assert_eq!(judged.members, [1], "{}", verdict.headline);
    // Neither waits: none of the two limits alone.
    let (Judgement { judged, .. }, verdict) = steady("sB", "Bd");
    assert_eq!((judged.finding, &judged.members[..]), (Finding::Balanced, &[1, 2][..]));
    let names = "m1 (pid 101 on web1) and m0 (pid 100 on backup) alike";
    assert!(verdict.headline.contains(names), "{}", verdict.headline);
}

#[test]
fn states_are_compared_at_the_same_moment_whatever_the_clocks_say() {
    // For a second the far end limits, then this one.
    let here = [["sn"; 50], ["sB"; 50]].concat();
    let there = [["sB"; 50], ["nd"; 50]].concat();
    for ahead in [0, 7, 5_000_000] {
        let (Judgement { history, judged, .. }, verdict) = over_both([&here, &there], ahead, 0);
        assert_eq!(history.elapsed_ns(), 100 * SPAN_NS);
        let shares: Vec<f64> = verdict.limits.iter().map(|limit| limit.percent).collect();
        assert!(shares[..2].iter().all(|share| (share - 50.0).abs() < 2.0), "{shares:?}");
        assert_eq!(judged.phases.len(), 2, "{:?}", judged.phases);
    }
}

#[test]
fn only_the_time_in_common_counts() {
    let (here, there) = (["od"; 100], ["nd"; 40]);
    let (Judgement { history, evidence, judged }, _) = over_both([&here, &there], 0, 0);
    assert_eq!((history.elapsed_ns(), evidence.elapsed_ns), (40 * SPAN_NS, 40 * SPAN_NS));
    assert_eq!(judged.members, [0]);
    let whole: f64 = history.spans.iter().flat_map(|span| &span.moments).map(|one| one.ns).sum();
    assert!((whole - (40 * SPAN_NS) as f64).abs() < 1.0, "{whole}");
}
