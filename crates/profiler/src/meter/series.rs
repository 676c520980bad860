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
}

impl Default for Series {
    fn default() -> Self {
        Series { points: Vec::new(), stride: 1, seen: 0 }
    }
}

impl Series {
    /// The most points that are kept.
    pub const MOST: usize = 1024;

    /// Adds a look.
    pub fn add(&mut self, point: Point) {
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

    /// What was kept.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
