//! Attaches `perf_event` sampling and counters to the members of a pipeline, and turns the records
//! into a [`Profile`](profile::Profile).

pub mod counters;
pub mod environment;
pub mod profile;
