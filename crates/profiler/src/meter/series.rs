//! What was found at each look, over time, in bounded memory.

use serde::{Deserialize, Serialize};

/// One look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Since the watch began.
    pub at_ns: u64,
    /// Counted so far; of a level, what was there.
    pub bytes: u64,
}

/// Points in the order of time. Beyond [`Series::MOST`] every second one is dropped, and so on, so
/// that a long watch gets coarser instead of larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    points: Vec<Point>,
    stride: u64,
    seen: u64,
    /// Only of the last while.
    last_ns: Option<u64>,
}

impl Default for Series {
    fn default() -> Self {
        Series { points: Vec::new(), stride: 1, seen: 0, last_ns: None }
    }
}

impl Series {
    /// The most points that are kept.
    pub const MOST: usize = 1024;

    /// Only what was counted in the last so many nanoseconds, and up to as long before.
    pub fn of_last(ns: u64) -> Self {
        Series { last_ns: Some(ns), ..Series::default() }
    }

    /// Adds a look.
    pub fn add(&mut self, point: Point) {
        if let Some(last_ns) = self.last_ns {
            return self.add_to_last(point, last_ns);
        }
        if self.seen.is_multiple_of(self.stride) {
            if self.points.len() == Self::MOST {
                let mut index = 0;
                self.points.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.points.push(point);
            }
        }
        self.seen += 1;
    }

    fn add_to_last(&mut self, point: Point, last_ns: u64) {
        let apart = 2 * last_ns / Self::MOST as u64;
        match &mut self.points[..] {
            // The latest look is there always, or the end would be missing.
            [.., before, latest] if latest.at_ns < before.at_ns + apart => *latest = point,
            _ => self.points.push(point),
        }
        if self.points.len() > Self::MOST {
            let since = point.at_ns.saturating_sub(last_ns);
            let old = self.points.partition_point(|point| point.at_ns < since);
            self.points.drain(..old.saturating_sub(1));
        }
    }

    /// What was kept.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}

/// The count at a time between two looks; `None` before the first and after the last.
pub(crate) fn count_at(points: &[Point], at_ns: u64) -> Option<u64> {
    let after = points.partition_point(|point| point.at_ns <= at_ns);
    let before = points.get(after.checked_sub(1)?)?;
    if before.at_ns == at_ns {
        return Some(before.bytes);
    }
    let next = points.get(after)?;
    let grown = u128::from(next.bytes.saturating_sub(before.bytes));
    let (part, whole) = (at_ns - before.at_ns, next.at_ns - before.at_ns);
    Some(before.bytes + (grown * u128::from(part) / u128::from(whole)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_while_is_there_at_full_resolution_and_no_more_than_twice_that() {
        let mut series = Series::of_last(10_000);
        for at_ns in 0..100_000 {
            series.add(Point { at_ns, bytes: 3 * at_ns });
        }
        let points = series.points();
        assert!(points.len() <= Series::MOST, "{}", points.len());
        assert!(points[0].at_ns <= 90_000 && points[0].at_ns >= 79_900, "{:?}", points[0]);
        assert_eq!(points.last().unwrap().at_ns, 99_999);
        assert_eq!(count_at(points, 90_000).unwrap(), 270_000);
        assert_eq!((count_at(points, 5), count_at(points, 100_000)), (None, None));
    }

    #[test]
    fn a_long_series_gets_coarser_not_larger() {
        let mut series = Series::default();
        for at_ns in 0..100_000 {
            series.add(Point { at_ns, bytes: at_ns });
        }
        let points = series.points();
        assert!((Series::MOST / 2..=Series::MOST).contains(&points.len()), "{}", points.len());
        let step = points[1].at_ns - points[0].at_ns;
        assert!(points.windows(2).all(|pair| pair[1].at_ns - pair[0].at_ns == step));
        assert_eq!(points[0].at_ns, 0);
    }
}
