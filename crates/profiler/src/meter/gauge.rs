//! How full a pipe was, in total and over time.

use pipeprof_runner::discover::Level;
use serde::{Deserialize, Serialize};

use super::series::{Point, Series};

/// How full a pipe was at the looks that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// How many looks.
    pub looks: u64,
    /// Found without a byte.
    pub empty: u64,
    /// Found without room for another page.
    pub full: u64,
    /// Sum of what was found, for the mean.
    pub sum_bytes: u64,
    /// Looks by tenth of the capacity, the last one full.
    pub tenths: [u64; 10],
}

impl Fill {
    /// What these looks found.
    pub(crate) fn of(levels: impl Iterator<Item = Level>) -> Fill {
        let mut fill = Fill::default();
        levels.for_each(|level| fill.add(level));
        fill
    }

    fn add(&mut self, level: Level) {
        let page = crate::ring::page_bytes() as u64;
        let capacity = level.capacity_bytes.max(1);
        self.looks += 1;
        self.empty += u64::from(level.fill_bytes == 0);
        self.full += u64::from(level.fill_bytes + page > level.capacity_bytes);
        self.sum_bytes += level.fill_bytes;
        let tenth = (u128::from(level.fill_bytes) * 10 / u128::from(capacity)).min(9);
        self.tenths[tenth as usize] += 1;
    }

    /// Share of the looks, 0 to 1; `None` without a look.
    pub fn full_share(&self) -> Option<f64> {
        (self.looks > 0).then(|| self.full as f64 / self.looks as f64)
    }

    /// Share of the looks, 0 to 1; `None` without a look.
    pub fn empty_share(&self) -> Option<f64> {
        (self.looks > 0).then(|| self.empty as f64 / self.looks as f64)
    }
}

/// Adds up looks into a pipe.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    fill: Option<Fill>,
    levels: Series,
}

impl Gauge {
    /// Adds a look, `at_ns` after the watch began.
    pub fn add(&mut self, at_ns: u64, level: Level) {
        self.fill.get_or_insert_default().add(level);
        self.levels.add(Point { at_ns, bytes: level.fill_bytes });
    }

    /// In sum; `None` without a look.
    pub fn fill(&self) -> Option<Fill> {
        self.fill
    }

    /// Over time.
    pub fn points(&self) -> &[Point] {
        self.levels.points()
    }
}
