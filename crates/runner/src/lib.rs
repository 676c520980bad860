//! Gets you a [`Pipeline`](pipeline::Pipeline): launches the pipe pair, or finds the pipeline that
//! a process belongs to.

pub mod command;
pub mod discover;
pub mod pipeline;
