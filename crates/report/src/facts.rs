//! What follows from a run, as data without a word of text: who was in which state when, who
//! limited the pipeline, and in which phases.

pub mod averages;
pub mod blame;
#[cfg(test)]
mod fixture;
pub mod lanes;
pub(crate) mod over_time;
pub mod phases;
pub mod states;
pub mod verdict;
mod window;
