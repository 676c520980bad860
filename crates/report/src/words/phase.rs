//! The title of a phase.

use super::units::duration;
use crate::part::Part;

/// `phase 2 of 3 (3.20 s to 6.10 s)`.
pub(crate) fn title(part: &Part) -> String {
    let (from, until) = (duration(part.from_ns as f64), duration(part.until_ns as f64));
    format!("phase {} of {} ({from} to {until})", part.number, part.of)
}
