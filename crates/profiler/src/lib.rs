//! Attaches `perf_event` sampling and counters to the members of a pipeline, and turns the records
//! into a [`Profile`](profile::Profile).
//!
//! ```text
//! Pipeline --Session::attach--> Session --finish--> Recording --analyse--> Profile
//! ```

pub mod accounts;
mod address_space;
pub mod analyse;
pub mod attr;
pub mod build_id;
mod capture_config;
pub mod counter_trial;
pub mod counters;
mod depths;
mod drain;
pub mod effect;
pub mod environment;
pub mod error;
pub mod event;
mod frequency;
mod grouping;
mod kallsyms;
pub mod kernel_code;
pub mod live;
mod losses;
mod members;
mod members_only;
pub mod meter;
pub mod object_file;
mod opening;
mod order;
mod paging;
pub mod perfdata;
mod process;
pub mod profile;
mod raw_stacks;
pub mod recording;
mod regular_file;
mod resolve;
pub mod ring;
pub mod segments;
pub mod session;
mod sleep;
pub mod sleepers;
pub mod states;
pub mod stop;
mod switching;
pub mod symbolize;
mod synth;
pub mod sys;
pub mod tasks;
mod thread_time;
mod time_order;
pub mod timeline;
pub mod tracepoints;
mod unwind;
pub mod wakeups;
pub mod watcher;
pub mod windows;

pub use error::Error;
