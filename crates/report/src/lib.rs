//! Turns a profile into roles, folded stacks, flamegraphs and tables.
#![forbid(unsafe_code)]

pub mod topology;
