//! How far the clocks of two hosts are apart, by what went through a connection between them.
//!
//! Both sides count the same bytes, and a byte is acknowledged half a round trip after it arrived. So
//! the curve of what the receiver received is that of what the sender saw acknowledged, earlier by
//! that much, and the offset of the clocks is where both fit best. It is bounded by what is true of
//! any traffic: what had not arrived was not yet acknowledged, and what had arrived was sent before.

use pipeprof_profiler::states::Progress;
use serde::Serialize;

/// What the offset follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The bytes that both sides counted.
    Traffic,
    /// The date when each recording began.
    WallClock,
}

/// The clock of the host that receives, by that of the host that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Clocks {
    /// What it follows from.
    pub by: Basis,
    /// So far it is ahead.
    pub ahead_ns: i64,
    /// At most so far off; `None` where nothing tells.
    pub error_ns: Option<u64>,
}

/// The ends of a connection count a byte more, or fewer.
const SLACK_BYTES: u64 = 2;

/// By the bytes at both sides, each in the order of time; `None` if the two have no bytes in common.
pub(crate) fn by_traffic(
    sender: &[Progress],
    receiver: &[Progress],
    round_trip_ns: u64,
) -> Option<Clocks> {
    let bounds = (earliest(sender, receiver), latest(sender, receiver));
    let fits = fits(sender, receiver, round_trip_ns);
    let fit = fits.get(fits.len() / 2).copied();
    let ahead = match (fit, bounds) {
        // Over a long time clocks drift, and no offset is within all bounds.
        (Some(fit), (Some(least), Some(most))) if least <= most => fit.clamp(least, most),
        (Some(fit), _) => fit,
        (None, (Some(least), Some(most))) => least.midpoint(most),
        (None, _) => return None,
    };
    let (least, most) = bounds;
    let bounded = least.zip(most).map(|(least, most)| (ahead - least).max(most - ahead));
    // From the fourth part of the fits to the last but that.
    let spread = fits.get(fits.len() * 3 / 4).zip(fits.get(fits.len() / 4)).map(|(a, b)| a - b);
    let error = spread.map(|spread| spread + signed(round_trip_ns / 2));
    let error = [error, bounded].into_iter().flatten().map(i64::unsigned_abs).min();
    Some(Clocks { by: Basis::Traffic, ahead_ns: ahead, error_ns: error })
}

/// By when both began, by their own clocks and by the calendar.
pub(crate) fn by_date(sender: (u64, u64), receiver: (u64, u64)) -> Clocks {
    let ahead = |(clock_ns, unix_ns): (u64, u64)| signed(clock_ns).saturating_sub(signed(unix_ns));
    let ahead_ns = ahead(receiver).saturating_sub(ahead(sender));
    Clocks { by: Basis::WallClock, ahead_ns, error_ns: None }
}

/// The least offset: what was acknowledged had arrived.
fn earliest(sender: &[Progress], receiver: &[Progress]) -> Option<i64> {
    let mut least = None;
    let mut at = 0;
    for sent in sender {
        // The last look before that much had arrived.
        while receiver.get(at).is_some_and(|of| of.received + SLACK_BYTES < sent.acknowledged) {
            at += 1;
        }
        let before = at.checked_sub(1).and_then(|before| receiver.get(before));
        least = least.max(before.map(|before| apart(before, sent)));
    }
    least
}

/// The largest offset: what had arrived was sent before.
fn latest(sender: &[Progress], receiver: &[Progress]) -> Option<i64> {
    let mut most: Option<i64> = None;
    let mut at = 0;
    for sent in sender.iter().filter(|sent| sent.sent >= sent.acknowledged) {
        // The first look after more had arrived.
        while receiver.get(at).is_some_and(|of| of.received <= sent.sent + SLACK_BYTES) {
            at += 1;
        }
        let Some(after) = receiver.get(at) else { break };
        let bound = apart(after, sent);
        most = Some(most.map_or(bound, |most| most.min(bound)));
    }
    most
}

/// For each look the offset at which the other side's curve passes through it, ascending. Where
/// nothing went through for a while, the looks of one side are found too late by half of that, and
/// those of the other too early, so that they balance.
fn fits(sender: &[Progress], receiver: &[Progress], round_trip_ns: u64) -> Vec<i64> {
    let back = signed(round_trip_ns / 2);
    let received = |of: &Progress| {
        Some(signed(of.at_ns) - crossing(sender, of.received, |sent| sent.acknowledged)? + back)
    };
    let acknowledged = |sent: &Progress| {
        Some(crossing(receiver, sent.acknowledged, |of| of.received)? - signed(sent.at_ns) + back)
    };
    let fits = receiver.iter().filter_map(received);
    let mut fits: Vec<i64> = fits.chain(sender.iter().filter_map(acknowledged)).collect();
    fits.sort_unstable();
    fits
}

/// When a count reached so many bytes, as if it had grown evenly between two looks.
fn crossing(points: &[Progress], bytes: u64, count: fn(&Progress) -> u64) -> Option<i64> {
    let bytes = bytes.saturating_sub(SLACK_BYTES);
    let after = points.partition_point(|point| count(point) < bytes);
    let (before, after) = (points.get(after.checked_sub(1)?)?, points.get(after)?);
    let grown = count(after).saturating_sub(count(before)).max(1) as f64;
    let share = bytes.saturating_sub(count(before)) as f64 / grown;
    Some(signed(before.at_ns) + (share * after.at_ns.saturating_sub(before.at_ns) as f64) as i64)
}

fn apart(receiver: &Progress, sender: &Progress) -> i64 {
    signed(receiver.at_ns) - signed(sender.at_ns)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Numbers that look like chance.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, most: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % most
        }
    }

    /// Ten seconds of looks at both sides of a connection with this one-way delay: `rate` is bytes a
    /// millisecond, by the millisecond. The receiver's clock is ahead by so much.
    fn looks(
        rate: impl Fn(u64) -> u64,
        delay_ms: u64,
        pause_ms: u64,
        ahead_ms: i64,
        chance: &mut Chance,
    ) -> (Vec<Progress>, Vec<Progress>) {
        let mut sums = vec![0u64];
        (0..10_000).for_each(|at| sums.push(sums[at as usize] + rate(at)));
        let by = |ms: u64| sums[ms.min(10_000) as usize];
        let (mut sender, mut receiver) = (Vec::new(), Vec::new());
        let mut at = 100 + chance.below(pause_ms);
        while at < 10_000 {
            sender.push(Progress {
                at_ns: (1_000_000 + at) * MS,
                sent: by(at),
                acknowledged: by(at.saturating_sub(2 * delay_ms)),
                received: 0,
            });
            at += pause_ms + chance.below(8);
        }
        let mut at = 100 + chance.below(pause_ms);
        while at < 10_000 {
            let at_ms = (1_000_000 + at) as i64 + ahead_ms;
            let received = by(at.saturating_sub(delay_ms));
            receiver.push(Progress { at_ns: at_ms as u64 * MS, received, ..Progress::default() });
            at += pause_ms + chance.below(8);
        }
        (sender, receiver)
    }

    #[track_caller]
    fn is_found(rate: impl Fn(u64) -> u64, delay_ms: u64, pause_ms: u64) {
        let mut chance = Chance(17);
        for ahead_ms in [0, 3, -250_000, 86_400_000] {
            let (sender, receiver) = looks(&rate, delay_ms, pause_ms, ahead_ms, &mut chance);
            let found = by_traffic(&sender, &receiver, 2 * delay_ms * MS).unwrap();
            let off = (found.ahead_ns - ahead_ms * MS as i64).unsigned_abs();
            assert!(off <= 20 * MS, "{} ms off of {ahead_ms}: {found:?}", off / MS);
            assert!(off <= found.error_ns.unwrap() + MS, "{off} {found:?}");
        }
    }

    #[test]
    fn the_offset_of_a_steady_stream_is_found_within_20_ms() {
        is_found(|_| 10_000, 0, 100);
        is_found(|_| 10_000, 40, 100);
        is_found(|_| 100, 1, 400);
    }

    #[test]
    fn the_offset_of_noisy_and_bursty_streams_is_found_within_20_ms() {
        let noise = |at: u64| Chance(at * 7_919).below(20_000);
        is_found(noise, 20, 100);
        is_found(|at| if at / 700 % 2 == 0 { 5_000 } else { 0 }, 5, 100);
        is_found(|at| if at % 50 == 0 { 65_536 } else { 0 }, 1, 100);
        // A receiver that lets through 400 KB every 300 ms.
        is_found(|at| if at % 300 < 4 { 100_000 } else { 0 }, 0, 100);
        is_found(|at| if Chance(at / 90).below(3) == 0 { noise(at) } else { 3 }, 15, 100);
    }

    #[test]
    fn counts_that_differ_by_a_byte_do_not_mislead() {
        let (sender, mut receiver) = looks(|_| 1_000, 1, 100, 0, &mut Chance(3));
        receiver.iter_mut().for_each(|look| look.received += 1);
        let idle = Progress { at_ns: 1_020_000 * MS, ..*receiver.last().unwrap() };
        receiver.push(idle);
        let found = by_traffic(&sender, &receiver, 2 * MS).unwrap();
        assert!(found.ahead_ns.unsigned_abs() < 20 * MS, "{found:?}");
    }

    #[test]
    fn nothing_is_found_where_no_bytes_are_common() {
        let point =
            |at_ns, bytes| Progress { at_ns, sent: bytes, acknowledged: bytes, received: bytes };
        assert_eq!(by_traffic(&[], &[], 0), None);
        let (early, late) = ([point(1, 10), point(2, 20)], [point(1, 500), point(2, 600)]);
        assert_eq!(by_traffic(&early, &late, 0), None);
        assert_eq!(by_traffic(&late, &early, 0), None);
    }

    #[test]
    fn the_offset_is_found_though_the_kernel_does_not_count_what_was_sent() {
        let (mut sender, receiver) = looks(|_| 1_000, 10, 100, 50, &mut Chance(3));
        sender.iter_mut().for_each(|look| look.sent = 0);
        let found = by_traffic(&sender, &receiver, 20 * MS).unwrap();
        assert!(found.ahead_ns.abs_diff(50 * MS as i64) < 20 * MS, "{found:?}");
    }

    #[test]
    fn a_long_queue_on_the_way_there_does_not_move_the_offset() {
        let (mut sender, receiver) = looks(|_| 2_000, 5, 100, -700, &mut Chance(3));
        sender.iter_mut().for_each(|look| look.sent += 4_000_000);
        let found = by_traffic(&sender, &receiver, 10 * MS).unwrap();
        assert!(found.ahead_ns.abs_diff(-700 * MS as i64) < 20 * MS, "{found:?}");
        assert!(found.error_ns.unwrap() < 50 * MS, "{found:?}");
    }

    #[test]
    fn dates_tell_what_traffic_does_not() {
        let clocks = by_date((5_000, 1_000_000), (90_000, 1_000_500));
        assert_eq!((clocks.ahead_ns, clocks.error_ns), (84_500, None));
    }
}
