//! Provides a [`Pipeline`](pipeline::Pipeline): launches the pipe pair, or finds the pipeline that
//! a process belongs to.

pub mod access;
pub mod bandwidth;
pub mod buffer;
mod capacity;
pub mod cgroup;
pub mod command;
pub mod cost;
pub mod cpus;
pub mod discover;
pub mod duration;
pub mod ends;
pub mod error;
pub mod inherited;
pub mod machine;
mod netlink;
pub mod open_files;
pub mod outcome;
pub mod pair;
pub mod pipeline;
pub mod plan;
pub mod proc_file;
pub mod signals;
pub mod size;
pub mod sock_diag;
pub mod stage;
pub mod stat_line;
mod sys;
pub mod taskstats;
pub mod tuning;
