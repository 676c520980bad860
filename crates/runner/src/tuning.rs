//! Reversible changes to a running pipeline: the capacity of a pipe, the CPUs and the nice value of
//! a member.
//!
//! Every [`Change`] holds the state before it. A [`Guardian`], a process of its own, hears of each
//! change before it is made, and undoes it when this process has ended, whatever the cause.

mod change;
mod guardian;
pub mod line;
mod machine;
mod sys;

pub use change::{Change, ChangeError, Restored};
pub use guardian::{Guardian, HoldId, guard};
pub use machine::{
    CpuPlace, PipeLimits, allowed_cpus, cpus_of, cpus_text, may_renice, pipe_limits, pipes_of_user,
};
