//! What follows from a run, as data without text: which member was in which state when, what
//! limited the pipeline, and in which phases.

pub mod averages;
pub mod blame;
#[cfg(test)]
pub(crate) mod fixture;
pub mod lanes;
pub(crate) mod over_time;
pub mod phases;
pub mod states;
pub mod verdict;
mod window;
