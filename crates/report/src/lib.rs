//! Turns a profile into roles, folded stacks, flamegraphs and tables.
#![forbid(unsafe_code)]

pub mod caption;
pub mod error;
pub mod escape;
pub mod flamegraph;
pub mod highlight;
pub mod roles;
