//! What `pipeprof watch` makes of intervals: when a trigger fires, and the metrics of a fleet.

pub mod firing;
pub mod metrics;
pub mod trigger;

pub use crate::words::watch::{moment, too_short};
