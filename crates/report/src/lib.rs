//! Turns a profile into roles, a verdict, folded stacks, flame graphs and tables.
//!
//! Nothing here reads a file or prints: everything is rendered from a
//! [`Profile`](pipeprof_profiler::profile::Profile) into a writer.
#![forbid(unsafe_code)]

mod calltree;
pub mod control_group;
pub mod counters;
pub mod diff;
pub mod error;
pub mod escape;
pub mod export;
pub mod facts;
pub mod flamegraph;
pub mod flat;
pub mod folded;
pub mod highlight;
mod holding;
pub mod html;
pub mod index;
pub mod joined;
pub mod ladder;
pub mod ledger;
pub mod lessons;
pub mod live;
pub mod markup;
pub mod moved;
mod ordered;
pub mod part;
pub mod payload;
pub mod phase;
pub mod picture;
pub mod roles;
pub mod run;
mod start_up;
pub mod statistics;
pub mod summary;
pub mod text;
pub mod topology;
pub mod tour;
pub mod tree;
pub mod tuning;
pub mod verdict;
pub mod watch;
mod words;
